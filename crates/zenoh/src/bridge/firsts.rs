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

    /// The first message of a publisher, if it was passed on no longer ago than `age`.
    fn within(&self, sender: Sender, age: Duration) -> Option<u64> {
        let (number, at) = *lock(&self.firsts).get(&sender)?;
        (at.elapsed() <= age).then_some(number)
    }

    /// Tells whoever asks, as long as what is returned is kept.
    pub(super) fn serve(self: &Arc<Self>, context: &Context) -> Result<Kept, LinkError> {
        let firsts = Arc::clone(self);
        let on_question = move |question: &Frame| {
            let (sender, age) = asked(&question.payload)?;
            firsts.within(sender, age)
        };
        context.link.serve(
            &key(context, context.domain),
            Box::new(move |question| {
                let first = on_question(question.frame());
                let payload = first.map(|number| number.to_le_bytes().to_vec()).unwrap_or_default();
                question.answer(Frame { payload, ..Frame::default() });
            }),
        )
    }
}

fn key(context: &Context, domain: DomainId) -> String {
    format!("{}/@first/{domain}", context.options.realm)
}

/// A question: the sender's node and its number there, and for how long whoever asks has been there, in nanoseconds.
fn question(Sender { node, number }: Sender, age: Duration) -> Vec<u8> {
    let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    [&node[..], &number.to_le_bytes(), &age_ns.to_le_bytes()].concat()
}

fn asked(payload: &[u8]) -> Option<(Sender, Duration)> {
    let (node, rest) = payload.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let age_ns = u64::from_le_bytes(*rest.first_chunk()?);
    let sender = Sender { node: *node, number: u64::from_le_bytes(*number) };
    Some((sender, Duration::from_nanos(age_ns)))
}

/// The first message of this one's sender that was due here, where what it is sent under has been received for `age`: at most its
/// own number, which it is if nobody says otherwise.
pub(super) fn ask(context: &Context, envelope: Envelope, age: Duration) -> u64 {
    let Envelope { domain, sender, sequence, .. } = envelope;
    // Of a machine that came later, what it had sent before was not for us.
    let age = age.min(context.remotes.known_for(domain));
    let frame = Frame { payload: question(sender, age), ..Frame::default() };
    let silent = &context.firsts.silent;
    if lock(silent).get(&domain).is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
        return sequence;
    }
    let told = ask_one(&*context.link, &key(context, domain), frame, TIMEOUT).ok().flatten();
    lock(silent).remove(&domain);
    if told.is_none() {
        remember(&mut lock(silent), domain, Instant::now());
    }
    let first = told.and_then(|told| told.payload.first_chunk().copied()).map(u64::from_le_bytes);
    first.map_or(sequence, |first| first.min(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_due_to_who_was_there_when_the_first_was_passed_on() {
        let firsts = Firsts::default();
        let sender = |number| Sender { node: [3; 16], number };
        assert_eq!(firsts.within(sender(1), Duration::MAX), None);
        firsts.note(sender(1), 7);
        firsts.note(sender(1), 9);
        assert_eq!(firsts.within(sender(1), Duration::from_secs(3600)), Some(7));
        assert_eq!(firsts.within(sender(2), Duration::from_secs(3600)), None);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(firsts.within(sender(1), Duration::ZERO), None, "it came later");
        firsts.forget(sender(1));
        assert_eq!(firsts.within(sender(1), Duration::MAX), None);
    }

    #[test]
    fn a_question_comes_back_from_its_bytes() {
        let (sender, age) = (Sender { node: [5; 16], number: 258 }, Duration::from_millis(3));
        let bytes = question(sender, age);
        assert_eq!(asked(&bytes), Some((sender, age)));
        assert_eq!(asked(&bytes[..31]), None);
        assert_eq!(asked(&question(sender, Duration::MAX)), Some((sender, Duration::from_nanos(u64::MAX))));
    }
}
