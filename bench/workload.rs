//! What is measured, as data.

use crate::engine::Engine;

/// How the messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Back and forth, one at a time; both sides poll.
    PingPong,
    /// As fast as they go, sent and received so many at a time.
    Stream {
        /// Messages that are sent, and received, at once.
        batch: u64,
    },
    /// A millisecond apart; the receiver sleeps.
    Drip,
    /// As fast as they go, and nobody takes them: what sending costs the sender.
    Publish,
    /// There and back, one at a time, measured as a whole; both sides poll.
    RoundTrip,
    /// They are there before they are waited for, and taken one by one: what taking costs the receiver.
    Waiting,
}

/// One measurement: which messages, how many, in which pattern, through what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// What moves them.
    pub engine: Engine,
    /// In which pattern.
    pub pattern: Pattern,
    /// Bytes of a message: 56, 4,096, 65,536 or 1,048,576.
    pub bytes: usize,
    /// How many.
    pub count: u64,
}

/// The sizes that are measured, in bytes.
pub const SIZES: [usize; 4] = [56, 4096, 65536, 1 << 20];

/// How much is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough to see that everything works.
    Quick,
    /// Enough to quote.
    Full,
}

impl Workload {
    /// How many messages of this size make a measurement.
    pub fn count_for(pattern: Pattern, bytes: usize, effort: Effort) -> u64 {
        let full = match pattern {
            Pattern::PingPong | Pattern::RoundTrip => {
                (400_000_000 / (bytes as u64 + 2000)).clamp(300, 100_000)
            }
            Pattern::Stream { .. } => (2_000_000_000 / (bytes as u64 + 100)).clamp(1000, 10_000_000),
            Pattern::Drip => 300,
            Pattern::Publish => (500_000_000 / (bytes as u64 + 44)).clamp(1000, 5_000_000),
            Pattern::Waiting => 300_000,
        };
        match effort {
            Effort::Quick => full / 10 + 50,
            Effort::Full => full,
        }
    }

    /// The arguments that tell a child its part.
    pub fn to_arguments(self) -> [String; 4] {
        let pattern = match self.pattern {
            Pattern::PingPong => "ping-pong".to_owned(),
            Pattern::Stream { batch } => format!("stream-{batch}"),
            Pattern::Drip => "drip".to_owned(),
            Pattern::Publish => "publish".to_owned(),
            Pattern::RoundTrip => "round-trip".to_owned(),
            Pattern::Waiting => "waiting".to_owned(),
        };
        [self.engine.name().into_owned(), pattern, self.bytes.to_string(), self.count.to_string()]
    }

    /// The workload that these arguments tell of.
    pub fn from_arguments(arguments: &[String]) -> Option<Self> {
        let [engine, pattern, bytes, count] = arguments else { return None };
        let pattern = match pattern.as_str() {
            "ping-pong" => Pattern::PingPong,
            "drip" => Pattern::Drip,
            "publish" => Pattern::Publish,
            "round-trip" => Pattern::RoundTrip,
            "waiting" => Pattern::Waiting,
            stream => Pattern::Stream { batch: stream.strip_prefix("stream-")?.parse().ok()? },
        };
        Some(Self {
            engine: Engine::named(engine)?,
            pattern,
            bytes: bytes.parse().ok()?,
            count: count.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidepost::Overflow;

    #[test]
    fn arguments_carry_a_workload() {
        for pattern in [
            Pattern::PingPong,
            Pattern::Stream { batch: 64 },
            Pattern::Drip,
            Pattern::Publish,
            Pattern::RoundTrip,
            Pattern::Waiting,
        ] {
            for engine in [
                Engine::Tidepost,
                Engine::Policy(Overflow::Latest),
                Engine::Subscribers(64),
                Engine::Publishers(4),
                Engine::Topic(Overflow::DropOldest),
                Engine::Call,
                Engine::Queue,
                Engine::State,
                Engine::Readers(8),
                Engine::Sleepers(8),
                Engine::Signal,
                Engine::Set(1000),
            ] {
                let workload = Workload { engine, pattern, bytes: 56, count: 7 };
                assert_eq!(Workload::from_arguments(&workload.to_arguments()), Some(workload));
            }
        }
        assert_eq!(Workload::from_arguments(&["nothing".to_owned()]), None);
    }
}
