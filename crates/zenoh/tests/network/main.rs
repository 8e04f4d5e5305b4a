//! Two domains and the network between them, on loopback.

mod conformance;
mod exemptions;
mod faults;
mod program;
mod shim;
mod stage;
mod strangers;
mod tls;
