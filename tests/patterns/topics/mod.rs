//! Topics: what each option, call and policy promises.

mod carried;
mod descriptors;
mod ending;
mod extras;
mod letting_go;
mod many;
mod policies;
mod relayed;
mod select;
mod stage;
mod untyped;
mod wait_set;
mod waiting;
