//! Faults, between separately executed programs: this very test binary, started again with a part to play.

mod hostile;
mod idle;
mod kills;
mod lives;
mod mismatch;
mod order;
mod parts;
mod ptrace;
mod seccomp;
mod stage;

/// Not a test of its own: the process that another test started plays its part in here.
#[test]
fn part() {
    parts::play();
}
