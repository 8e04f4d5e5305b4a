//! States: what each option and call promises.

mod claiming;
mod inheriting;
mod reading;
mod stage;
mod waiting;
