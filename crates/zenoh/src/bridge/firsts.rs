//! From which of a publisher's messages on all are due to a machine that hears of it.
//!
//! Numbers say what is missing after the first message that arrives. What was lost before it is known only to who passed it on: so
//! that one is asked, once for each publisher. Whoever was there when the first was passed on was to get all; whoever came later gets what
//! is passed on from then on, and no number says when that was.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::context::{ASK_AGAIN, Context};
use crate::envelope::{DomainId, Envelope, Sender};
use crate::link::{Frame, Kept, LinkError, ask_one};

/// How long whoever is asked may take, twice which is waited for at most. Messages of the same topic wait meanwhile; who has not answered is
/// not asked again for a while.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Publishers and domains that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// The first message of each publisher here that was passed on, and when.
#[derive(Debug, Default)]
pub(super) struct Firsts {
    firsts: Mutex<HashMap<Sender, (u64, Instant)>>,
    /// Those who have not answered, and when they were asked.
    silent: Mutex<HashMap<DomainId, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts something into a map that does not grow for ever: what was in it is of no great use.
fn remember<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() >= REMEMBERED_MAX && !map.contains_key(&key) {
        map.clear();
    }
    map.entry(key).or_insert(value);
}

impl Firsts {
    /// A message is about to be passed on: the first of its publisher, or of those since the bridge was asked for it anew.
    pub(super) fn note(&self, sender: Sender, number: u64) {
        remember(&mut lock(&self.firsts), sender, (number, Instant::now()));
    }

    /// This publisher has gone.
    pub(super) fn forget(&self, sender: Sender) {
        lock(&self.firsts).remove(&sender);
    }

    /// The first message of a publisher, and how long ago it was passed on.
    fn of(&self, sender: Sender) -> Option<(u64, Duration)> {
        lock(&self.firsts).get(&sender).map(|(number, at)| (*number, at.elapsed()))
    }

    /// Tells whoever asks, as long as what is returned is kept.
    pub(super) fn serve(self: &Arc<Self>, context: &Context) -> Result<Kept, LinkError> {
        let firsts = Arc::clone(self);
        context.link.serve(
            &key(context, context.domain),
            Box::new(move |question| {
                let first = asked(&question.frame().payload).and_then(|sender| firsts.of(sender));
                let payload = first.map(answer).unwrap_or_default();
                question.answer(Frame { payload, ..Frame::default() });
            }),
        )
    }
}

fn key(context: &Context, domain: DomainId) -> String {
    format!("{}/@first/{domain}", context.options.realm)
}

/// A question: the sender's node and its number there.
fn question(Sender { node, number }: Sender) -> Vec<u8> {
    [&node[..], &number.to_le_bytes()].concat()
}

fn asked(payload: &[u8]) -> Option<Sender> {
    let (node, number) = payload.split_first_chunk()?;
    Some(Sender { node: *node, number: u64::from_le_bytes(*number.first_chunk()?) })
}

/// An answer: the number of the first message, and how long ago it was passed on, in nanoseconds.
fn answer((number, ago): (u64, Duration)) -> Vec<u8> {
    let ago_ns = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    [number.to_le_bytes(), ago_ns.to_le_bytes()].concat()
}

fn answered(payload: &[u8]) -> Option<(u64, Duration)> {
    let (number, ago_ns) = payload.split_first_chunk()?;
    let ago = Duration::from_nanos(u64::from_le_bytes(*ago_ns.first_chunk()?));
    Some((u64::from_le_bytes(*number), ago))
}

/// The first message of this one's sender that was due here, where what it is sent under has been received for `age`: at most its
/// own number, which it is if nobody says otherwise.
pub(super) fn ask(context: &Context, envelope: Envelope, age: Duration) -> u64 {
    let Envelope { domain, sender, sequence, .. } = envelope;
    // Of a machine that came later, what it had sent before was not for us.
    let age = age.min(context.remotes.known_for(domain));
    let frame = Frame { payload: question(sender), ..Frame::default() };
    let silent = &context.firsts.silent;
    if lock(silent).get(&domain).is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
        return sequence;
    }
    let start = Instant::now();
    let told = ask_one(&*context.link, &key(context, domain), frame, TIMEOUT).ok().flatten();
    // It is answered half-way, as far as can be known.
    let age = age.saturating_add(start.elapsed() / 2);
    lock(silent).remove(&domain);
    if told.is_none() {
        remember(&mut lock(silent), domain, Instant::now());
    }
    let first = told.and_then(|told| answered(&told.payload)).filter(|(_, ago)| *ago <= age);
    first.map_or(sequence, |(first, _)| first.min(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_one_that_was_noted_first() {
        let firsts = Firsts::default();
        let sender = |number| Sender { node: [3; 16], number };
        let number_of = |number| firsts.of(sender(number)).map(|(first, _)| first);
        assert_eq!(number_of(1), None);
        firsts.note(sender(1), 7);
        firsts.note(sender(1), 9);
        assert_eq!((number_of(1), number_of(2)), (Some(7), None));
        std::thread::sleep(Duration::from_millis(1));
        assert!(firsts.of(sender(1)).is_some_and(|(_, ago)| ago >= Duration::from_millis(1)));
        firsts.forget(sender(1));
        assert_eq!(number_of(1), None);
    }

    #[test]
    fn questions_and_answers_come_back_from_their_bytes() {
        let sender = Sender { node: [5; 16], number: 258 };
        assert_eq!(asked(&question(sender)), Some(sender));
        assert_eq!(asked(&question(sender)[..23]), None);
        let first = (9, Duration::from_millis(3));
        assert_eq!(answered(&answer(first)), Some(first));
        assert_eq!(answered(&answer(first)[..15]), None);
        assert_eq!(answered(&answer((9, Duration::MAX))), Some((9, Duration::from_nanos(u64::MAX))));
    }
}
