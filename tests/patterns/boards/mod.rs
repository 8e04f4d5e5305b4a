//! Signals and tables.

mod signals;
mod tables;
mod waiting;
