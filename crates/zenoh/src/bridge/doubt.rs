//! Whether what is sent arrives at all.
//!
//! The engine's access control drops what it denies, and tells nobody. So those who receive something are asked, once it has been
//! sent, whether anything has come from here. The question goes the way of the messages, behind them: if all who answer have got
//! nothing, and nothing of what was sent after that either, messages are denied, or held back as if they were. (Who has come to receive it
//! only after the first has got nothing, and gets the next; of a state he has the latest value all the same.) Whatever is known is
//! forgotten when nobody receives it any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use super::context::Context;
use super::heard::{GOT, HAS_COME, HAS_NOT_COME};
use super::port::PortError;
use crate::link::{Answer, Frame, Whom};

/// How long after something was sent it is asked for, and again if nobody knows.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// How long whoever is asked may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all have to say that nothing has come.
const DENIALS: u32 = 2;
/// How often nobody says anything before that is taken for what clients of the engine say, who have no word for it.
const SILENCES: u32 = 3;
/// How long nothing is sent then, before it is tried again.
const PAUSE: Duration = Duration::from_secs(30);

/// What those who were asked have said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    some_have_got: bool,
    some_have_not: bool,
    some_know_not: bool,
    is_over: bool,
}

/// How often in a row nothing had come, and nothing was said.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    denials: u32,
    silences: u32,
}

/// What is known of what goes out under a name.
#[derive(Debug)]
enum Known {
    /// Nothing has been sent since so much had been; what was sent before had not come.
    Nothing { sent: u64, tally: Tally },
    /// Something was sent.
    Sent { at: Instant, tally: Tally },
    /// Those who receive it are being asked.
    Asked { said: Arc<Mutex<Said>>, tally: Tally },
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
        Self { pattern, known: Known::Nothing { sent: 0, tally: Tally::default() } }
    }

    /// Whether it is denied at this moment.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.known, Known::Denied { .. })
    }

    /// Goes on asking; so much has been sent by now.
    pub(super) fn move_on(
        &mut self,
        context: &Arc<Context>,
        name: &str,
        has_receivers: bool,
        sent: u64,
    ) -> Result<(), PortError> {
        let was_denied = self.is_denied();
        let is_kept = self.pattern == Pattern::State;
        let afresh = Known::Nothing { sent: if is_kept { 0 } else { sent }, tally: Tally::default() };
        self.known = match std::mem::replace(&mut self.known, Known::Arrives) {
            Known::Denied { since } if since.elapsed() > PAUSE => afresh,
            Known::Denied { since } => Known::Denied { since },
            _ if !has_receivers => afresh,
            Known::Nothing { sent: before, tally } if before < sent => {
                Known::Sent { at: Instant::now(), tally }
            }
            Known::Sent { at, tally } if at.elapsed() > ASK_AFTER => {
                Known::Asked { said: ask(context, self.pattern, name)?, tally }
            }
            Known::Asked { said, tally } => {
                let heard = *said.lock().unwrap_or_else(PoisonError::into_inner);
                let denied = if is_kept { 0 } else { sent };
                judge(heard, tally, denied).unwrap_or(Known::Asked { said, tally })
            }
            known => known,
        };
        if self.is_denied() && !was_denied {
            context.note(format!(
                "{} `{name}`: nothing of what is sent arrives; does access control deny it, here or on the way? \
                 It is tried again in {PAUSE:?}",
                self.pattern
            ));
        }
        Ok(())
    }
}

/// Asks those who receive it.
fn ask(context: &Arc<Context>, pattern: Pattern, name: &str) -> Result<Arc<Mutex<Said>>, PortError> {
    let said = Arc::<Mutex<Said>>::default();
    let answered = Arc::clone(&said);
    let lock = |said: &Mutex<Said>, change: fn(&mut Said)| {
        change(&mut said.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let on_answer = Box::new(move |answer| match answer {
        Answer::Frame(frame) if frame.payload == HAS_COME => {
            lock(&answered, |said| said.some_have_got = true)
        }
        Answer::Frame(frame) if frame.payload == HAS_NOT_COME => {
            lock(&answered, |said| said.some_have_not = true);
        }
        // Whoever did not answer in time may have got it.
        Answer::Frame(_) | Answer::Failure(_) => lock(&answered, |said| said.some_know_not = true),
        Answer::End => lock(&answered, |said| said.is_over = true),
    });
    let key = context.key_at(GOT, "*", pattern, name)?;
    let frame = Frame { payload: context.domain.to_string().into_bytes(), ..Frame::default() };
    context.ask_aside(Whom::AllBehind, key, frame, ANSWER_TIMEOUT, on_answer)?;
    Ok(said)
}

/// What is known by what was said; nothing yet if that is not all. What is sent after so much is waited for if nothing had come.
fn judge(said: Said, tally: Tally, sent: u64) -> Option<Known> {
    let Said { some_have_got, some_have_not, some_know_not, is_over } = said;
    if some_have_got {
        return Some(Known::Arrives);
    }
    if !is_over {
        return None;
    }
    let again = |tally| Some(Known::Sent { at: Instant::now(), tally });
    match (some_know_not, some_have_not) {
        (true, _) => again(tally),
        (false, true) if tally.denials + 1 < DENIALS => {
            Some(Known::Nothing { sent, tally: Tally { denials: tally.denials + 1, silences: 0 } })
        }
        (false, true) => Some(Known::Denied { since: Instant::now() }),
        (false, false) if tally.silences + 1 < SILENCES => {
            again(Tally { silences: tally.silences + 1, ..tally })
        }
        (false, false) => Some(Known::Arrives),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Said =
        Said { some_have_got: false, some_have_not: false, some_know_not: false, is_over: true };
    const NOTHING: Said = Said { some_have_not: true, ..SILENCE };

    #[test]
    fn what_nobody_has_got_twice_is_denied() {
        let Some(Known::Nothing { sent: 7, tally }) = judge(NOTHING, Tally::default(), 7) else {
            panic!("once is not enough");
        };
        assert!(matches!(judge(NOTHING, tally, 8), Some(Known::Denied { .. })));
        let one_has = Said { some_have_got: true, ..NOTHING };
        assert!(matches!(judge(one_has, tally, 8), Some(Known::Arrives)));
        assert!(judge(Said { is_over: false, ..NOTHING }, tally, 8).is_none());
    }

    /// The fear: whoever is too busy to look, or was cut off, is taken for one who has got it.
    #[test]
    fn who_does_not_know_is_asked_again() {
        let unsure = Said { some_know_not: true, ..NOTHING };
        let tally = Tally { denials: 1, silences: 2 };
        let Some(Known::Sent { tally: same, .. }) = judge(unsure, tally, 7) else {
            panic!("it is not known")
        };
        assert_eq!((same.denials, same.silences), (1, 2));
        let mut tally = Tally::default();
        for _ in 1..SILENCES {
            let Some(Known::Sent { tally: next, .. }) = judge(SILENCE, tally, 7) else {
                panic!("they may have been cut off");
            };
            tally = next;
        }
        assert!(matches!(judge(SILENCE, tally, 7), Some(Known::Arrives)));
    }
}
