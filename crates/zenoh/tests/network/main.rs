//! Two domains and the network between them, on loopback.

mod patterns;
mod stage;
