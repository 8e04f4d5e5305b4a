//! A look at the network: who is reached, how long that takes, and how far apart clocks are.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Zenoh;
use crate::envelope::now_ns;
use crate::link::{Frame, Link, LinkError, ask_one};
use crate::settings::Settings;

/// How long others may take to show themselves.
const SHOW: Duration = Duration::from_secs(3);
/// How long one may take to say what time it is.
const ANSWER: Duration = Duration::from_secs(2);
/// How often that is asked: the fastest answer says most.
const QUESTIONS: usize = 5;
/// Clocks that are farther apart are said to be.
const APART: Duration = Duration::from_millis(500);
/// How long closing may take.
const CLOSE: Duration = Duration::from_millis(1_500);

/// A gateway that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayReport {
    /// What its machine is called.
    pub machine: String,
    /// The shortest time from question to answer, if it answered.
    pub round_trip: Option<Duration>,
    /// How many nanoseconds its clock is before ours, give or take half of that time.
    pub clock_ahead_ns: Option<i64>,
}

/// What a look at the network found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Where was looked.
    pub settings: String,
    /// Ends of the network that were reached.
    pub connections: usize,
    /// Gateways of the realm.
    pub gateways: Vec<GatewayReport>,
}

/// Where a gateway says what time it is.
pub(crate) fn time_key(realm: &str, domain: &str) -> String {
    format!("{realm}/@time/{domain}")
}

/// Looks at the network with these settings.
///
/// # Errors
/// [`LinkError`] if no session can be opened: certificates that cannot be read, an address in use.
pub fn check(settings: &Settings, realm: &str) -> Result<CheckReport, LinkError> {
    let link = Zenoh::open(settings)?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let showing = Arc::clone(&seen);
    let live = format!("{realm}/@live/");
    let begin = live.len();
    let watched = link.watch(
        &format!("{live}*/*"),
        Box::new(move |key, is_there| {
            if let Some((domain, machine)) = key.get(begin..).and_then(|rest| rest.split_once('/')) {
                let mut seen = showing.lock().unwrap_or_else(PoisonError::into_inner);
                let one = (domain.to_owned(), machine.to_owned());
                seen.retain(|other| *other != one);
                if is_there {
                    seen.push(one);
                }
            }
        }),
    )?;
    let start = Instant::now();
    let list = || seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    while list().is_empty() && start.elapsed() < SHOW {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Those that are there show themselves together.
    std::thread::sleep(Duration::from_millis(200));
    let mut gateways: Vec<GatewayReport> =
        list().into_iter().map(|(domain, machine)| ask_time(&link, realm, &domain, machine)).collect();
    gateways.sort_by(|left, right| left.machine.cmp(&right.machine));
    let connections = link.connections();
    drop(watched);
    // What was to be found out has been.
    let _ = link.close(CLOSE);
    Ok(CheckReport { settings: settings.summary(), connections, gateways })
}

fn ask_time(link: &Zenoh, realm: &str, domain: &str, machine: String) -> GatewayReport {
    let asked = (0..QUESTIONS).filter_map(|_| {
        let (start, start_ns) = (Instant::now(), now_ns());
        let frame = ask_one(link, &time_key(realm, domain), Frame::default(), ANSWER).ok()??;
        let (took, their_ns) = (start.elapsed(), u64::from_le_bytes(frame.payload.try_into().ok()?));
        let half_ns = u64::try_from(took.as_nanos() / 2).unwrap_or(u64::MAX);
        Some((took, their_ns.wrapping_sub(start_ns.wrapping_add(half_ns)).cast_signed()))
    });
    let fastest = asked.min_by_key(|(took, _)| *took);
    GatewayReport {
        machine,
        round_trip: fastest.map(|(took, _)| took),
        clock_ahead_ns: fastest.map(|(_, ahead_ns)| ahead_ns),
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {} connected", self.settings, self.connections)?;
        if self.connections == 0 {
            let remedy = "is it the right address, does somebody listen there, and do both ends trust the same authority?";
            return writeln!(formatter, "nobody is reached: {remedy}");
        }
        if self.gateways.is_empty() {
            return writeln!(
                formatter,
                "no gateway of this realm is there: is one running, and is its realm the same?"
            );
        }
        for GatewayReport { machine, round_trip, clock_ahead_ns } in &self.gateways {
            let (Some(round_trip), Some(ahead_ns)) = (round_trip, clock_ahead_ns) else {
                writeln!(formatter, "machine `{machine}`: it shows itself, and does not answer")?;
                continue;
            };
            let apart = Duration::from_nanos(ahead_ns.unsigned_abs());
            let which = if *ahead_ns >= 0 { "ahead" } else { "behind" };
            write!(
                formatter,
                "machine `{machine}`: {round_trip:.0?} to and fro, its clock {apart:.1?} {which}"
            )?;
            let remark =
                if apart > APART { ": times of messages will not compare; set both by NTP" } else { "" };
            writeln!(formatter, "{remark}")?;
        }
        Ok(())
    }
}
