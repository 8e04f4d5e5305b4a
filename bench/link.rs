//! What every engine can do, and the loops that measure it: the same for all, compiled for each.

use crate::limit::memory::{tick_ns, ticks};

/// An end that sends messages whose 64-bit words are a value and its successors.
pub trait Outgoing {
    /// Sends one message; waits while there is no room.
    fn send(&mut self, value: u64);
    /// Sends `count` messages with the values from `first` on, at once if the engine can.
    fn send_many(&mut self, first: u64, count: u64) {
        (first..first + count).for_each(|value| self.send(value));
    }
}

/// An end that receives messages, reading every word.
pub trait Incoming {
    /// Receives one message and returns the sum of its words; waits for it.
    fn receive(&mut self) -> u64;
    /// Receives up to `most` messages and returns their number and the sum of their words.
    fn receive_many(&mut self, _most: u64) -> (u64, u64) {
        (1, self.receive())
    }
}

/// The sum of the words of the message `value`.
pub fn expected_sum(value: u64, words: u64) -> u64 {
    value.wrapping_mul(words).wrapping_add(words * (words - 1) / 2)
}

/// The nanoseconds that each `exchange` takes, there and back, in ascending order: it sends a value, and returns the sum of
/// the words that come back.
#[inline]
pub fn round_trips(mut exchange: impl FnMut(u64) -> u64, words: u64, rounds: u64) -> Vec<f64> {
    let warm_up = warm_up(rounds);
    let mut samples = Vec::with_capacity(rounds as usize);
    for round in 0..warm_up + rounds {
        let start = ticks();
        let sum = exchange(round);
        let elapsed = ticks() - start;
        assert_eq!(sum, expected_sum(round, words), "the answer to round {round} is damaged");
        if round >= warm_up {
            samples.push(elapsed);
        }
    }
    in_order(samples.iter().map(|ticks| *ticks as f64))
}

/// Round trips that come before those that count.
pub fn warm_up(rounds: u64) -> u64 {
    rounds / 10 + 10
}

/// Round trips of a topic in each direction, or whatever else sends and receives.
pub fn ping(out: &mut impl Outgoing, back: &mut impl Incoming, words: u64, rounds: u64) -> Vec<f64> {
    let exchange = |value| {
        out.send(value);
        back.receive()
    };
    round_trips(exchange, words, rounds)
}

/// Answers what [`ping`] sends.
pub fn pong(incoming: &mut impl Incoming, back: &mut impl Outgoing, words: u64, rounds: u64) {
    for round in 0..rounds + warm_up(rounds) {
        assert_eq!(incoming.receive(), expected_sum(round, words), "round {round} is damaged");
        back.send(round);
    }
}

/// Sends `count` messages, `batch` at a time.
pub fn pour(out: &mut impl Outgoing, count: u64, batch: u64) {
    if batch <= 1 {
        return (0..count).for_each(|value| out.send(value));
    }
    for first in (0..count).step_by(batch as usize) {
        out.send_many(first, batch.min(count - first));
    }
}

/// Receives what so many senders [`pour`], each of them `count` messages, and returns the messages each second, after the
/// first tenth of them: what is made once, such as a pool, has been made by then.
pub fn drain(incoming: &mut impl Incoming, words: u64, senders: u64, count: u64, batch: u64) -> f64 {
    let (mut received, mut sum) = (0, 0u64);
    let mut receive_until = |end: u64| {
        while received < end {
            let (more, sum_of_more) =
                if batch > 1 { incoming.receive_many(batch) } else { (1, incoming.receive()) };
            received += more;
            sum = sum.wrapping_add(sum_of_more);
        }
        received
    };
    let total = senders * count;
    let warm = receive_until(total / 10 + 1);
    let start = std::time::Instant::now();
    let all = receive_until(total);
    let elapsed = start.elapsed();
    let expected = (0..count).fold(0u64, |sum, value| sum.wrapping_add(expected_sum(value, words)));
    assert_eq!((received, sum), (total, expected.wrapping_mul(senders)), "the stream is damaged");
    (all - warm) as f64 / elapsed.as_secs_f64()
}

/// Messages that one sample of [`publish`] spans: reading the clock around each would cost as much as the message.
const PUBLISH_SAMPLE: u64 = 1000;

fn publish_samples(count: u64) -> (u64, u64) {
    let samples = count / PUBLISH_SAMPLE + 1;
    (samples / 10 + 1, samples)
}

/// How many messages [`publish`] sends.
pub fn published(count: u64) -> u64 {
    let (warm_up, samples) = publish_samples(count);
    (warm_up + samples) * PUBLISH_SAMPLE
}

/// Sends messages that nobody takes: the nanoseconds of one, in ascending order, after the first tenth of them.
pub fn publish(out: &mut impl Outgoing, count: u64) -> Vec<f64> {
    let (warm_up, samples) = publish_samples(count);
    let ticks: Vec<u64> = (0..warm_up + samples)
        .map(|sample| {
            let (first, start) = (sample * PUBLISH_SAMPLE, ticks());
            (first..first + PUBLISH_SAMPLE).for_each(|value| out.send(value));
            ticks() - start
        })
        .collect();
    in_order(ticks[warm_up as usize..].iter().map(|ticks| *ticks as f64 / PUBLISH_SAMPLE as f64))
}

/// Sends time stamps a millisecond apart, so that the receiver is asleep each time.
pub fn drip(mut send: impl FnMut(u64), count: u64) {
    for _ in 0..count {
        let pause = std::time::Instant::now();
        while pause.elapsed().as_micros() < 1000 {
            std::hint::spin_loop();
        }
        send(ticks());
    }
}

/// Receives what [`drip`] sends: one-way nanoseconds in ascending order, and this thread's context switches for
/// each message.
pub fn catch(mut receive: impl FnMut() -> u64, count: u64) -> (Vec<f64>, f64) {
    let before = context_switches();
    let samples: Vec<u64> =
        (0..count).map(|_| receive()).map(|stamp| ticks().saturating_sub(stamp)).collect();
    let switches = (context_switches() - before) as f64 / count as f64;
    (in_order(samples.iter().map(|ticks| *ticks as f64)), switches)
}

/// Voluntary context switches of this thread so far.
pub fn context_switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Ticks as nanoseconds, in ascending order.
pub fn in_order(ticks: impl Iterator<Item = f64>) -> Vec<f64> {
    let tick_ns = tick_ns();
    let mut samples: Vec<f64> = ticks.map(|ticks| ticks * tick_ns).collect();
    samples.sort_by(f64::total_cmp);
    samples
}
