//! Faults, between separately executed programs: this very test binary, started again with a part to play.

mod apart;
mod chaos;
mod domains;
mod growth;
mod hostile;
mod idle;
mod interrupted;
mod joiners;
mod kills;
mod ledger;
mod lives;
mod lock_strict;
mod locks;
mod meeting;
mod mismatch;
mod namespaces;
mod order;
mod parts;
mod ptrace;
mod queue_chaos;
mod queue_kills;
mod queue_mismatch;
mod queues;
mod records;
mod region_ways;
mod regions;
mod seccomp;
mod service_chaos;
mod service_kills;
mod service_strict;
mod services;
mod shortage;
mod signals;
mod stage;
mod states;
mod stopped;
mod tables;
mod threads;
mod turns;
mod wait_set;
mod waiters;

/// Not a test of its own: the process that another test started plays its part in here.
#[test]
fn part() {
    parts::play();
}
