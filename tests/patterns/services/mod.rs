//! Services: what each option and call promises.

mod answers;
mod asleep;
mod calls;
mod giving_up;
mod limits;
mod loans;
mod parts;
mod servers;
mod stage;
mod tools;
mod types;
