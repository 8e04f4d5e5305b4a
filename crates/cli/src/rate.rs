//! `tidepost hz`: how fast a topic is.
//!
//! The fear: looking changes what is looked at. So it is an observer, which holds nobody up, asks for no history, and counts
//! what it was too slow for.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use tidepost::{Sample, Subscriber, Untyped};

use crate::notices::tell_refused;
use crate::{Failure, Place, text};

/// Time from one line to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Messages in a row between two looks at the clock.
const BURST: usize = 256;

/// Options of `tidepost hz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topic, whatever the type of its messages. It says once a second how many come, and nobody waits for it.
    topic: String,
    /// Each line is about so many seconds, the last ones.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Stop after so many lines.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write each line as a JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-hz")?;
    let mut subscriber = node.topic_dyn(&arguments.topic).observer().history(0).subscriber()?;
    let mut window = VecDeque::new();
    let mut output = std::io::stdout().lock();
    for _ in 0..arguments.count.unwrap_or(u64::MAX) {
        if window.len() == arguments.window as usize {
            window.pop_front();
        }
        window.push_back(gather(&mut subscriber)?);
        let tally = window.iter().fold(Tally::default(), Tally::and);
        let line = if arguments.json { tally.to_json().to_string() } else { tally.to_string() };
        writeln!(output, "{line}")?;
        tell_refused("a publisher is not heard", std::iter::from_fn(|| subscriber.try_event()));
    }
    Ok(())
}

/// Counts what comes until it is time for the next line.
fn gather(subscriber: &mut Subscriber<Untyped>) -> Result<Tally, Failure> {
    let start = Instant::now();
    let mut tally = Tally::default();
    loop {
        tally.elapsed = start.elapsed();
        let left = INTERVAL.saturating_sub(tally.elapsed);
        if left.is_zero() {
            return Ok(tally);
        }
        if let Some(sample) = subscriber.recv_timeout(left)? {
            tally.add(&sample);
        }
        for _ in 0..BURST {
            let Some(sample) = subscriber.try_recv()? else { break };
            tally.add(&sample);
        }
    }
}

/// What came within some time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    elapsed: Duration,
    messages: u64,
    bytes: u64,
    lost: u64,
    latency: Option<Latency>,
}

/// Times from sending to receiving.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latency {
    count: u64,
    sum: Duration,
    least: Duration,
    most: Duration,
}

impl Tally {
    fn add(&mut self, sample: &Sample<'_, Untyped>) {
        self.messages += 1;
        self.bytes += sample.len() as u64;
        self.lost += sample.lost();
        if let Some(time) = sample.timestamp() {
            // A clock that was set back meanwhile gives no time at all.
            let latency = Latency::of(time.elapsed().unwrap_or_default());
            self.latency = Some(self.latency.map_or(latency, |sum| sum.and(latency)));
        }
    }

    fn and(self, other: &Self) -> Self {
        let latency = match (self.latency, other.latency) {
            (Some(one), Some(another)) => Some(one.and(another)),
            (one, another) => one.or(another),
        };
        Self {
            elapsed: self.elapsed + other.elapsed,
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            lost: self.lost + other.lost,
            latency,
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn to_json(&self) -> serde_json::Value {
        let ns = |duration: Duration| duration.as_nanos() as u64;
        let mut object = json!({
            "seconds": self.elapsed.as_secs_f64(),
            "messages": self.messages,
            "bytes": self.bytes,
            "lost": self.lost,
            "messages_per_second": self.per_second(self.messages),
            "bytes_per_second": self.per_second(self.bytes),
        });
        if let Some(latency) = self.latency {
            let (least, most) = (ns(latency.least), ns(latency.most));
            object["latency_ns"] = json!({ "mean": ns(latency.mean()), "least": least, "most": most });
        }
        object
    }
}

impl Latency {
    fn of(duration: Duration) -> Self {
        Self { count: 1, sum: duration, least: duration, most: duration }
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum.saturating_add(other.sum),
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }

    fn mean(self) -> Duration {
        Duration::from_secs_f64(self.sum.as_secs_f64() / self.count as f64)
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (messages, bytes) = (self.per_second(self.messages), self.per_second(self.bytes));
        let (rate, bandwidth) = (text::rate(messages), format!("{}/s", text::bytes(bytes as u64)));
        write!(formatter, "{rate:>9}  {bandwidth:>12}  lost {}", self.lost)?;
        let Some(latency) = self.latency else { return Ok(()) };
        let [mean, least, most] = [latency.mean(), latency.least, latency.most]
            .map(|duration| text::nanoseconds(duration.as_secs_f64() * 1e9));
        write!(formatter, "  latency {mean} ({least}–{most})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(messages: u64, latency_us: Option<u64>) -> Tally {
        let latency = latency_us.map(|us| Latency::of(Duration::from_micros(us)));
        Tally { elapsed: Duration::from_secs(1), messages, bytes: 1024 * messages, lost: 1, latency }
    }

    #[test]
    fn a_window_is_the_sum_of_its_seconds() {
        let sum = tally(10, Some(5)).and(&tally(30, None)).and(&tally(2, Some(15)));
        assert_eq!((sum.messages, sum.lost, sum.elapsed), (42, 3, Duration::from_secs(3)));
        assert_eq!(sum.per_second(sum.messages), 14.0);
        let json = sum.to_json();
        assert_eq!(json["latency_ns"], json!({ "mean": 10_000, "least": 5_000, "most": 15_000 }));
        assert_eq!(tally(1, None).to_json().get("latency_ns"), None);
    }

    #[test]
    fn a_line_has_units() {
        let line = tally(2000, Some(5)).to_string();
        assert_eq!(line, "    2 k/s       2 MiB/s  lost 1  latency 5.0 µs (5.0 µs–5.0 µs)");
        assert_eq!(Tally::default().to_string(), "     0 /s         0 B/s  lost 0");
    }
}
