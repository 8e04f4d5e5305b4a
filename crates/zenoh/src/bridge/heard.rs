//! Of whom something has come under a name, for those who ask: who sends, and doubts that it arrives, or that all of it does.
//!
//! Under one key there are two questions, told apart by their lengths: whether anything of a domain has come (its id, as text), and
//! whether messages have ([`question`]).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidepost::Pattern;

use super::context::Context;
use crate::envelope::{DomainId, Envelope};
use crate::link::{Frame, Kept, LinkError, Question};

/// What begins the key under which a domain says whether something of another has come under a name.
pub(super) const GOT: &str = "@got";
/// What it says.
pub(super) const HAS_COME: &[u8] = b"1";
pub(super) const HAS_NOT_COME: &[u8] = b"0";
/// It may be among what waits.
const MAY_HAVE_COME: &[u8] = b"?";
/// Envelopes of one question that are looked at.
const ENVELOPES_MAX: usize = 64;
/// Domains that are remembered for that.
const DOMAINS_MAX: usize = 4096;

/// The domains of which something has come.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<HashSet<DomainId>>);

impl Heard {
    fn domains(&self) -> MutexGuard<'_, HashSet<DomainId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a domain has come.
    pub(super) fn add(&self, domain: DomainId) {
        let mut heard = self.domains();
        if heard.len() >= DOMAINS_MAX
            && let Some(some) = heard.iter().next().copied()
        {
            // It is heard of again.
            heard.remove(&some);
        }
        heard.insert(domain);
    }

    fn has_heard(&self, domain: &DomainId) -> bool {
        self.domains().contains(domain)
    }

    /// What a domain is told that asks whether anything of it has come.
    fn answer(&self, asking: &DomainId, desk: &impl Desk) -> &'static [u8] {
        if self.has_heard(asking) {
            HAS_COME
        } else if desk.all_is_taken() && !self.has_heard(asking) {
            HAS_NOT_COME
        } else {
            MAY_HAVE_COME
        }
    }

    /// Tells whoever asks, as long as what is returned is kept.
    pub(super) fn serve(
        self: Arc<Self>,
        context: &Context,
        (pattern, name): (Pattern, &str),
        desk: impl Desk,
    ) -> Result<Kept, LinkError> {
        let key = context.key_at(GOT, &context.domain.to_string(), pattern, name)?;
        let on_question = move |question: Box<dyn Question>| {
            let frame = question.frame();
            let answer = if let Some((envelopes, age)) = asked(&frame.payload) {
                match desk.lacks(&envelopes, age) {
                    Some(false) => HAS_COME,
                    Some(true) => HAS_NOT_COME,
                    None => MAY_HAVE_COME,
                }
            } else if let Some(asking) = domain_of(&frame.payload) {
                self.answer(&asking, &desk)
            } else {
                return;
            };
            question.answer(Frame { payload: answer.to_vec(), ..Frame::default() });
        };
        context.link.serve(&key, Box::new(on_question))
    }
}

/// Where frames lie that have come.
pub(super) trait Desk: Send + Sync + 'static {
    /// Whether nothing waits to be looked at.
    fn all_is_taken(&self) -> bool;
    /// Whether any of what has these envelopes, the first of them sent so long ago, is due here and has not come. `None` if that is not
    /// known: something waits, or cannot be taken yet.
    fn lacks(&self, envelopes: &[Envelope], age: Duration) -> Option<bool>;
}

fn domain_of(payload: &[u8]) -> Option<DomainId> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// The question whether what has these envelopes, the first of them sent so long ago, has come.
pub(super) fn question(envelopes: &[Envelope], age: Duration) -> Vec<u8> {
    let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    let envelopes = envelopes.iter().flat_map(|envelope| envelope.to_bytes());
    age_ns.to_le_bytes().into_iter().chain(envelopes).collect()
}

fn asked(payload: &[u8]) -> Option<(Vec<Envelope>, Duration)> {
    let (age_ns, envelopes) = payload.split_first_chunk()?;
    let envelopes = envelopes.chunks(Envelope::BYTES).map(|bytes| Envelope::from_bytes(bytes).ok());
    let envelopes = envelopes.take(ENVELOPES_MAX).collect::<Option<Vec<_>>>()?;
    Some((envelopes, Duration::from_nanos(u64::from_le_bytes(*age_ns))))
}

#[cfg(test)]
mod tests {
    use tidepost::Overflow;

    use super::*;
    use crate::envelope::Sender;

    #[test]
    fn the_questions_are_told_apart() {
        let domain = DomainId([b'7'; 16]);
        let sender = Sender { node: [2; 16], number: 3 };
        let (overflow, history, is_again) = (Overflow::Block, 0, false);
        let envelope = Envelope { overflow, history, is_again, domain, sender, sequence: 9, passed_on_ns: 4 };
        let both = [envelope, Envelope { sequence: 10, ..envelope }];
        let message = question(&both, Duration::from_millis(5));
        assert_eq!(asked(&message), Some((both.to_vec(), Duration::from_millis(5))));
        assert_eq!(domain_of(&message), None);
        let any = domain.to_string();
        assert_eq!((asked(any.as_bytes()), domain_of(any.as_bytes())), (None, Some(domain)));
        assert_eq!((asked(b""), domain_of(b"")), (None, None));
    }
}
