//! Whether what was sent last has arrived.
//!
//! What is lost on the way is asked for by whoever is behind it, once something comes by whose number he sees that. What nothing follows
//! nobody misses. So once nothing more is sent for a while, those who receive are asked whether the last message has come; if somebody lacks
//! it, it is sent again, with a word that says so, and whoever has it, or came after it, drops it. What is missing before it is asked for
//! then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use crate::bridge::context::Context;
use crate::bridge::heard::{GOT, HAS_COME, HAS_NOT_COME, question};
use crate::bridge::outlet::Outlet;
use crate::bridge::port::PortError;
use crate::envelope::Envelope;
use crate::link::{Answer, Frame, Whom};

/// How long nothing is sent before those who receive are asked, and between two questions at least.
const QUIET: Duration = Duration::from_millis(1500);
/// How long they may take to answer: the question goes behind the messages, and links may be slow.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For how long it is asked for.
const PATIENCE: Duration = Duration::from_secs(120);

/// What those who were asked have said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    some_have: bool,
    some_lack: bool,
    some_know_not: bool,
    is_over: bool,
}

/// What was sent last.
enum Known {
    /// This, and when it was sent first.
    Message(Envelope, Instant),
    /// Nothing of which it would be known whether it has come.
    Nothing,
    /// Something is being sent.
    NotYet,
}

/// What is known of the message that was sent last.
#[derive(Debug)]
pub(super) struct Tail {
    /// Messages that had been sent by the last look, and machines that had come.
    sent: u64,
    arrivals: u64,
    since: Instant,
    /// The last message, and when it was sent, once it has been asked for.
    last: Option<(Envelope, Instant)>,
    asked_at: Instant,
    said: Option<Arc<Mutex<Said>>>,
    /// Whether there is nothing more to ask.
    is_settled: bool,
}

impl Tail {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { sent: 0, arrivals: 0, since: now, last: None, asked_at: now, said: None, is_settled: true }
    }

    /// Whether there is nothing more to ask.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Goes on asking; so much has been sent by now.
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
            let last = self.last.filter(|_| self.sent == sent);
            *self = Self { sent, arrivals, last, is_settled: sent == 0, ..Self::new() };
        }
        if self.is_settled {
            return Ok(());
        }
        // Whoever is cut off keeps nobody waiting who lacks it.
        let said = self.said.as_ref().map(|said| *lock(said)).filter(|said| said.is_over || said.some_lack);
        if let Some(said) = said {
            self.said = None;
            self.asked_at = Instant::now();
            self.is_settled = said.some_have && !said.some_lack && !said.some_know_not;
            if said.some_lack {
                self.send_again(outlet)?;
            }
        } else if self.since.elapsed() > PATIENCE {
            self.is_settled = true;
        } else if self.said.is_none() && self.asked_at.elapsed() > QUIET && outlet.has_receivers() {
            self.asked_at = Instant::now();
            match self.last_of(outlet) {
                Known::Message(envelope, at) => {
                    self.said = Some(ask(context, name, question(envelope, at.elapsed()))?);
                }
                Known::Nothing => self.is_settled = true,
                Known::NotYet => self.since = Instant::now(),
            }
        }
        Ok(())
    }

    /// The last message.
    fn last_of(&mut self, outlet: &Outlet) -> Known {
        if let Some((envelope, at)) = self.last {
            return Known::Message(envelope, at);
        }
        let Some(last) = outlet.last() else { return Known::NotYet };
        let envelope = last.frames.first().and_then(|frame| Envelope::of(&frame.attachment).ok().flatten());
        let Some((envelope, at)) = envelope.zip(Instant::now().checked_sub(last.age)) else {
            return Known::Nothing;
        };
        self.last = Some((envelope, at));
        Known::Message(envelope, at)
    }

    fn send_again(&self, outlet: &Outlet) -> Result<(), PortError> {
        let frames = outlet.last().map(|last| last.frames).unwrap_or_default();
        for mut frame in frames {
            Envelope::mark_again(&mut frame.attachment);
            outlet.try_send(frame)?;
        }
        Ok(())
    }
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
