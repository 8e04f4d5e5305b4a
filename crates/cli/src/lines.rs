//! Standard input, line by line.

use std::io::BufRead;

use crate::Failure;

/// Gives each line of standard input, without its end, until `take` wants no more.
pub fn each(mut take: impl FnMut(&[u8]) -> Result<bool, Failure>) -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 || !take(line.strip_suffix(b"\n").unwrap_or(&line))? {
            return Ok(());
        }
    }
}
