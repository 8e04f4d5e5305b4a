//! `tidepost gateway`: the program beside this one that carries a domain to other machines.
//!
//! It is a program of its own, as what it takes to build it is more than all the rest.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, Place};

const PROGRAM: &str = "tidepost-gateway";

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What the gateway is told: see `tidepost gateway --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(PROGRAM)).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| PathBuf::from(PROGRAM));
    let mut command = Command::new(program);
    command.args(&arguments.arguments);
    if let Some(directory) = &place.dir {
        command.env("TIDEPOST_DIR", directory);
    }
    if let Some(domain) = &place.domain {
        command.env_remove("TIDEPOST_DIR").env("TIDEPOST_DOMAIN", domain);
    }
    // It takes this process's place, so that whoever started this one ends that one.
    let error = command.exec();
    let remedy = "build it with `cargo build --release --package tidepost-zenoh`, or `cargo install --path crates/zenoh`";
    if error.kind() == std::io::ErrorKind::NotFound {
        return Err(format!("`{PROGRAM}` is neither beside this program nor in $PATH: {remedy}").into());
    }
    Err(format!("`{PROGRAM}` cannot be started: {error}").into())
}
