//! `tidepost sub`: what is published on a topic, on standard output.

use std::io::{BufWriter, StdoutLock, Write};
use std::time::{Duration, Instant};

use tidepost::Subscriber;

use crate::{Failure, Place, text};

/// How often a wait looks whether the last publisher has gone.
const LOOK: Duration = Duration::from_millis(100);

/// Options of `tidepost sub`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topic; its messages are bytes. Without an option that says otherwise it is printed until it is interrupted,
    /// from the moment of subscribing on.
    topic: String,
    /// Write the bytes of the messages one after the other, and nothing else.
    #[arg(long, group = "format")]
    raw: bool,
    /// Write each message as hexadecimal digits.
    #[arg(long, group = "format")]
    hex: bool,
    /// Write each message as a JSON object with its sequence number, length and text or bytes.
    #[arg(long, group = "format")]
    json: bool,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop, with an error, when nothing comes for so many seconds.
    #[arg(long, value_name = "S", value_parser = text::parse_seconds)]
    timeout: Option<Duration>,
    /// Stop once a publisher has been there and the last one has left.
    #[arg(long)]
    until_end: bool,
    /// Be a reader that the publisher waits for, so that nothing is lost. Every reader is one at present.
    #[arg(long)]
    reliable: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-sub")?;
    let subscriber = node.topic::<[u8]>(&arguments.topic).subscriber()?;
    let mut incoming = Incoming { subscriber, has_been_served: false, refusals: 0 };
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for _ in 0..arguments.count.unwrap_or(u64::MAX) {
        if !receive(arguments, &mut incoming, &mut output)? {
            break;
        }
    }
    output.flush()?;
    Ok(())
}

/// A subscriber, and what has been noticed of its publishers.
struct Incoming {
    subscriber: Subscriber<[u8]>,
    /// Whether there has been a publisher.
    has_been_served: bool,
    /// Refusals that have been shown.
    refusals: usize,
}

impl Incoming {
    /// Publishers that are there.
    fn publishers(&mut self) -> usize {
        let count = self.subscriber.publishers();
        self.has_been_served |= count > 0;
        count
    }

    /// Tells the user of publishers that could not be joined.
    fn show_refusals(&mut self) {
        let refusals = self.subscriber.refusals();
        for refused in refusals.iter().skip(self.refusals) {
            eprintln!("tidepost: a publisher is not heard: {refused}");
        }
        self.refusals = refusals.len();
    }
}

/// Receives one message and writes it; `false` at the end.
fn receive(
    arguments: &Arguments,
    incoming: &mut Incoming,
    output: &mut BufWriter<StdoutLock<'_>>,
) -> Result<bool, Failure> {
    if let Some(sample) = incoming.subscriber.try_recv()? {
        // Its publisher may have left by now.
        incoming.has_been_served = true;
        return write(arguments, sample.sequence(), &sample, output).map(|()| true);
    }
    output.flush()?;
    let start = Instant::now();
    loop {
        // Looked at before the wait: what the last publisher sent is there before it counts as gone.
        let publishers = incoming.publishers();
        let has_ended = arguments.until_end && incoming.has_been_served && publishers == 0;
        let left = arguments.timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        let wait = if has_ended { Duration::ZERO } else { left.unwrap_or(LOOK).min(LOOK) };
        if let Some(sample) = incoming.subscriber.recv_timeout(wait)? {
            incoming.has_been_served = true;
            return write(arguments, sample.sequence(), &sample, output).map(|()| true);
        }
        incoming.show_refusals();
        if has_ended {
            return Ok(false);
        }
        if left.is_some_and(|left| left.is_zero()) {
            let seconds = arguments.timeout.unwrap_or_default().as_secs_f64();
            return Err(format!("nothing came on `{}` for {seconds} s", arguments.topic).into());
        }
    }
}

fn write(
    arguments: &Arguments,
    sequence: u64,
    message: &[u8],
    output: &mut impl Write,
) -> Result<(), Failure> {
    if arguments.raw {
        output.write_all(message)?;
    } else if arguments.hex {
        message.iter().try_for_each(|byte| write!(output, "{byte:02x}"))?;
        writeln!(output)?;
    } else if arguments.json {
        writeln!(output, "{}", to_json(sequence, message))?;
    } else {
        output.write_all(message)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

fn to_json(sequence: u64, message: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(message) {
        Ok(text) => serde_json::json!({ "sequence": sequence, "length": message.len(), "text": text }),
        Err(_) => serde_json::json!({ "sequence": sequence, "length": message.len(), "bytes": message }),
    }
}
