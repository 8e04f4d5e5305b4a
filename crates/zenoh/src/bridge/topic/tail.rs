//! Whether what was sent last has arrived.
//!
//! What is lost on the way is asked for by whoever is behind it, once something comes by whose number he sees that. What nothing follows
//! nobody misses. So once nothing more is sent for a while, those who receive are asked whether the last message has come, and the word that
//! publishers have gone behind it; if somebody lacks any of it, it is sent again, with a word that says so, and whoever has it, or came
//! after it, drops it. What is missing before it is asked for then, by whoever has had anything of the same sink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use crate::bridge::context::Context;
use crate::bridge::heard::{GOT, HAS_COME, HAS_NOT_COME, question};
use crate::bridge::outlet::Outlet;
use crate::bridge::port::PortError;
use crate::envelope::Envelope;
use crate::link::{Answer, Frame, Whom};

/// How long nothing is sent before those who receive are asked, and between two questions; twice as long each time that it has been sent again.
const QUIET: Duration = Duration::from_millis(1500);
/// How long they may take to answer: the question goes behind the messages, and links may be slow.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For how long it is asked for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often nobody says anything before that is taken for what clients of the engine say, who have no word for it.
const SILENCES: u32 = 3;

/// What those who were asked have said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    some_have: bool,
    some_lack: bool,
    some_know_not: bool,
    is_over: bool,
}

/// The message that was sent last and the farewells behind it, and when the message was sent first.
#[derive(Debug)]
struct LastSent {
    envelopes: Vec<Envelope>,
    at: Instant,
}

/// What is known of what was sent last.
#[derive(Debug)]
pub(super) struct Tail {
    /// Messages and farewells that had been sent by the last look, and machines that had come.
    sent: u64,
    arrivals: u64,
    since: Instant,
    /// Whether `last` is it.
    is_known: bool,
    last: Option<LastSent>,
    asked_at: Instant,
    pause: Duration,
    said: Option<Arc<Mutex<Said>>>,
    silences: u32,
    /// Whether there is nothing more to ask.
    is_settled: bool,
}

impl Tail {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            sent: 0,
            arrivals: 0,
            since: now,
            is_known: false,
            last: None,
            asked_at: now,
            pause: QUIET,
            said: None,
            silences: 0,
            is_settled: true,
        }
    }

    /// Whether there is nothing more to ask.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Goes on asking; so many messages and farewells have been sent by now.
    pub(super) fn move_on(
        &mut self,
        context: &Arc<Context>,
        name: &str,
        outlet: &Outlet,
        sent: u64,
    ) -> Result<(), PortError> {
        let arrivals = context.remotes.arrivals();
        if self.sent != sent || self.arrivals != arrivals {
            // Whoever has come back may have been away when it was sent.
            let (is_known, last) = (self.is_known && self.sent == sent, self.last.take());
            *self = Self { sent, arrivals, is_known, last, is_settled: sent == 0, ..Self::new() };
        }
        if self.is_settled {
            return Ok(());
        }
        // Whoever is cut off keeps nobody waiting who lacks it.
        let said = self.said.as_ref().map(|said| *lock(said)).filter(|said| said.is_over || said.some_lack);
        if let Some(said) = said {
            self.said = None;
            self.asked_at = Instant::now();
            self.hear(said);
            if said.some_lack {
                self.pause *= 2;
                send_again(outlet)?;
            }
        } else if self.since.elapsed() > PATIENCE {
            self.is_settled = true;
        } else if self.said.is_none() && self.asked_at.elapsed() > self.pause && outlet.has_receivers() {
            self.asked_at = Instant::now();
            self.learn(outlet);
            if let Some(LastSent { envelopes, at }) = self.last.as_ref().filter(|_| self.is_known) {
                self.said = Some(ask(context, name, question(envelopes, at.elapsed()))?);
            }
        }
        Ok(())
    }

    fn hear(&mut self, said: Said) {
        let Said { some_have, some_lack, some_know_not, .. } = said;
        self.silences = if some_have || some_lack || some_know_not { 0 } else { self.silences + 1 };
        self.is_settled = !some_lack && !some_know_not && (some_have || self.silences >= SILENCES);
    }

    /// Finds out what was sent last, unless it is known, or is being sent.
    fn learn(&mut self, outlet: &Outlet) {
        if self.is_known {
            return;
        }
        let Some(sent) = outlet.last() else {
            // It is asked for from when it has been.
            self.since = Instant::now();
            return;
        };
        let envelope = |frame: &Frame| Envelope::of(&frame.attachment).ok().flatten();
        let envelopes: Vec<_> = sent.frames.iter().filter_map(envelope).collect();
        let Some(at) = Instant::now().checked_sub(sent.age).filter(|_| !envelopes.is_empty()) else {
            self.is_settled = true;
            return;
        };
        let number = |last: &[Envelope]| last.first().map(|first| (first.sender, first.sequence));
        // What is sent again is not sent later.
        let before = self.last.take().filter(|last| number(&last.envelopes) == number(&envelopes));
        self.last = Some(LastSent { envelopes, at: before.map_or(at, |before| before.at) });
        self.is_known = true;
    }
}

fn send_again(outlet: &Outlet) -> Result<(), PortError> {
    for mut frame in outlet.last().map(|last| last.frames).unwrap_or_default() {
        Envelope::mark_again(&mut frame.attachment);
        outlet.try_send(frame)?;
    }
    Ok(())
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks those who receive it.
fn ask(context: &Arc<Context>, name: &str, question: Vec<u8>) -> Result<Arc<Mutex<Said>>, PortError> {
    let said = Arc::<Mutex<Said>>::default();
    let answered = Arc::clone(&said);
    let on_answer = Box::new(move |answer| {
        let mut said = lock(&answered);
        match answer {
            Answer::Frame(frame) if frame.payload == HAS_COME => said.some_have = true,
            Answer::Frame(frame) if frame.payload == HAS_NOT_COME => said.some_lack = true,
            Answer::Frame(_) | Answer::Failure(_) => said.some_know_not = true,
            Answer::End => said.is_over = true,
        }
    });
    let key = context.key_at(GOT, "*", Pattern::Topic, name)?;
    let frame = Frame { payload: question, ..Frame::default() };
    context.ask_aside(Whom::AllBehind, key, frame, TIMEOUT, on_answer)?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_settled_when_all_have_it_or_nobody_has_a_word_for_it() {
        let mut tail = Tail { is_settled: false, ..Tail::new() };
        let mut hears = |some_have, some_lack, some_know_not| {
            tail.hear(Said { some_have, some_lack, some_know_not, is_over: true });
            tail.is_settled()
        };
        assert!(!hears(true, true, false) && !hears(true, false, true) && !hears(false, false, true));
        assert!(hears(true, false, false));
        assert!(!hears(false, false, false) && !hears(false, false, false));
        assert!(hears(false, false, false), "clients of the engine say nothing");
    }
}
