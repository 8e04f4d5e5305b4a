//! The patterns as programs use them: what each option, call and policy promises. Nodes of one process stand for processes here,
//! as the messages take the same way; what only separate processes can show is in `tests/faults`.

mod boards;
mod gateways;
mod mixture;
mod queues;
mod services;
mod stage;
mod states;
mod topics;
