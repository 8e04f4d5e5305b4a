//! Queues: what each option, call and policy promises.

mod again;
mod basics;
mod meeting;
mod policies;
mod stage;
mod ways;
