//! Two domains and the network between them, on loopback.

mod faults;
mod patterns;
mod shim;
mod stage;
