//! The tool as its users meet it: separate processes, their output, their errors.

mod basics;
mod looking;
mod observers;
mod patterns;
mod queues;
mod readme;
mod regions;
mod services;
mod signals;
mod stage;
mod states;
mod types;
