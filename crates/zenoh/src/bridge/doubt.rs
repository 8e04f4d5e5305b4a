//! Whether what is sent arrives at all.
//!
//! The engine's access control drops what it denies, and tells nobody. So those who receive something are asked, once it has been
//! sent, whether anything has come from here. The question goes the way of the messages, behind them: if all who answer have got
//! nothing, and nothing of what was sent after that either, messages are denied, or held back as if they were. (Who has come to receive it
//! only after the first has got nothing, and gets the next.)

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use super::context::Context;
use super::heard::{GOT, HAS_COME};
use super::port::PortError;
use crate::link::{Answer, Frame, Whom};

/// How long after something was sent it is asked for, and again if it has not come.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// How long whoever is asked may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all have to say that nothing has come.
const DENIALS: u32 = 2;
/// How long nothing is sent then, before it is tried again.
const PAUSE: Duration = Duration::from_secs(30);

/// What those who were asked have said.
#[derive(Debug, Default)]
struct Said {
    some_have_got: bool,
    some_have_not: bool,
    is_over: bool,
}

/// What is known of what goes out under a name.
#[derive(Debug)]
enum Known {
    /// Nothing has been sent since so many messages had been; what was sent before had not come so often.
    Nothing { sent: u64, denials: u32 },
    /// Something was sent.
    Sent { at: Instant, denials: u32 },
    /// Those who receive it have been asked.
    Asked { said: Arc<Mutex<Said>>, denials: u32 },
    /// It arrives, as far as can be known.
    Arrives,
    /// It does not.
    Denied { since: Instant },
}

/// Doubts whether what goes out arrives, until that is known.
#[derive(Debug)]
pub(super) struct Doubt {
    pattern: Pattern,
    known: Known,
}

impl Doubt {
    pub(super) fn of(pattern: Pattern) -> Self {
        Self { pattern, known: Known::Nothing { sent: 0, denials: 0 } }
    }

    /// Whether it is denied at this moment.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.known, Known::Denied { .. })
    }

    /// Goes on asking; so much has been sent by now.
    pub(super) fn move_on(&mut self, context: &Context, name: &str, sent: u64) -> Result<(), PortError> {
        let what = (self.pattern, name);
        self.known = match std::mem::replace(&mut self.known, Known::Arrives) {
            Known::Nothing { sent: before, denials } if before < sent => {
                Known::Sent { at: Instant::now(), denials }
            }
            // The latest value is there for whoever has come only after it.
            Known::Nothing { sent: 1.., denials: denials @ 1.. } if self.pattern == Pattern::State => {
                Known::Sent { at: Instant::now(), denials }
            }
            Known::Sent { at, denials } if at.elapsed() > ASK_AFTER => {
                Known::Asked { said: ask(context, what)?, denials }
            }
            Known::Asked { said, denials } => judge(context, what, said, (sent, denials)),
            Known::Denied { since } if since.elapsed() > PAUSE => Known::Nothing { sent, denials: 0 },
            known => known,
        };
        Ok(())
    }
}

fn ask(context: &Context, (pattern, name): (Pattern, &str)) -> Result<Arc<Mutex<Said>>, PortError> {
    let said = Arc::<Mutex<Said>>::default();
    let answered = Arc::clone(&said);
    let on_answer = Box::new(move |answer| {
        let mut said = answered.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Answer::Frame(frame) if frame.payload == HAS_COME => said.some_have_got = true,
            Answer::Frame(_) => said.some_have_not = true,
            Answer::Failure(_) => {}
            Answer::End => said.is_over = true,
        }
    });
    let key = context.key_at(GOT, "*", pattern, name)?;
    let frame = Frame { payload: context.domain.to_string().into_bytes(), ..Frame::default() };
    context.link.ask(Whom::All, &key, frame, ANSWER_TIMEOUT, on_answer)?;
    Ok(said)
}

fn judge(
    context: &Context,
    (pattern, name): (Pattern, &str),
    said: Arc<Mutex<Said>>,
    (sent, denials): (u64, u32),
) -> Known {
    let Said { some_have_got, some_have_not, is_over } = *said.lock().unwrap_or_else(PoisonError::into_inner);
    if some_have_got {
        return Known::Arrives;
    }
    match (is_over, some_have_not) {
        (false, _) => Known::Asked { said, denials },
        // Clients of the engine have no word for it.
        (true, false) => Known::Arrives,
        (true, true) if denials + 1 < DENIALS => Known::Nothing { sent, denials: denials + 1 },
        (true, true) => {
            context.note(format!(
                "{pattern} `{name}`: nothing of what is sent arrives; does access control deny it, here or on the way? \
                 It is tried again in {PAUSE:?}"
            ));
            Known::Denied { since: Instant::now() }
        }
    }
}
