//! `tidepost demo`.
use crate::Failure;
pub const PART_COMMAND: &str = "__demo";
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub fn run(_: &Arguments) -> Result<(), Failure> { Ok(()) }
pub fn play_part(_: &[String]) -> Result<(), Failure> { Ok(()) }
