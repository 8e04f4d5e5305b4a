//! Two domains and the network between them, on loopback.

mod faults;
mod patterns;
mod program;
mod shim;
mod stage;
mod strangers;
