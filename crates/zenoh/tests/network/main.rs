//! Two domains and the network between them, on loopback.

mod apart;
mod circles;
mod conformance;
mod exemptions;
mod faults;
mod history;
mod hosts;
mod inline;
mod links;
mod machine;
mod program;
mod routers;
mod shim;
mod stage;
mod strangers;
mod tls;
mod within;
