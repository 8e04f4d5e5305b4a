//! `tidepost signal` and `tidepost wait`: wake-ups without payload.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use tidepost::{Event, Waiter};

use crate::incoming::{Incoming, Source};
use crate::notices::tell_refused;
use crate::{Failure, Place, text};

/// Options of `tidepost signal`.
#[derive(Debug, clap::Args)]
pub struct SignalArguments {
    /// The signal. Everybody who waits for it now is told; nobody need be there.
    signal: String,
    /// The id under which they are told, from 0.
    #[arg(default_value_t = 0)]
    id: u32,
    /// How many ids there are. Both sides say the same.
    #[arg(long, value_name = "N", default_value_t = 1)]
    ids: u32,
    /// Notify so often.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// Start once so many are waiting. Those who come later are not told.
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_waiters: usize,
    /// How long to wait for them, in seconds.
    #[arg(long, value_name = "S", default_value = "60", value_parser = text::parse_seconds)]
    wait_timeout: Duration,
}

/// Runs `signal`.
pub fn notify(arguments: &SignalArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-signal")?;
    let mut notifier = node.signal(&arguments.signal).ids(arguments.ids).notifier()?;
    notifier.wait_for_waiters(arguments.wait_waiters, arguments.wait_timeout)?;
    notifier.notify_many(arguments.id, arguments.count)?;
    tell_refused("a waiter turned this signal down", std::iter::from_fn(|| notifier.try_event()));
    Ok(())
}

/// Options of `tidepost wait`.
#[derive(Debug, clap::Args)]
pub struct WaitArguments {
    /// The signal. Each id that has been notified is printed, with how often that was.
    signal: String,
    /// How many ids there are. Both sides say the same.
    #[arg(long, value_name = "N", default_value_t = 1)]
    ids: u32,
    /// Stop after so many notifications, whatever their ids.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// Stop, with an error, when nothing comes for so many seconds.
    #[arg(long, value_name = "S", value_parser = text::parse_seconds)]
    timeout: Option<Duration>,
    /// Write each id as a JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `wait`.
pub fn wait(arguments: &WaitArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-wait")?;
    let waiter = node.signal(&arguments.signal).ids(arguments.ids).waiter()?;
    let notices = Notices { waiter, arguments, left: arguments.count, output: std::io::stdout().lock() };
    let mut incoming = Incoming::new(notices);
    let nothing = format!("nothing came on `{}`", arguments.signal);
    while incoming.source.left > 0 {
        incoming.next(arguments.timeout, &nothing)?;
    }
    Ok(())
}

/// A waiter whose notices are written.
struct Notices<'a, W> {
    waiter: Waiter,
    arguments: &'a WaitArguments,
    /// Notifications to come.
    left: u64,
    output: W,
}

impl<W: Write> Source for Notices<'_, W> {
    const SENDER: &'static str = "notifier";

    fn take(&mut self, wait: Duration) -> Result<bool, Failure> {
        let Some(notices) = self.waiter.wait_timeout(wait)? else { return Ok(false) };
        for notice in notices {
            match self.arguments.json {
                true => writeln!(self.output, "{}", json!({ "id": notice.id, "count": notice.count }))?,
                false => writeln!(self.output, "id={} count={}", notice.id, notice.count)?,
            }
        }
        self.output.flush()?;
        self.left = self.left.saturating_sub(notices.total());
        Ok(true)
    }

    fn next_event(&mut self) -> Option<Event> {
        self.waiter.try_event()
    }

    fn senders(&self) -> usize {
        self.waiter.notifiers()
    }
}
