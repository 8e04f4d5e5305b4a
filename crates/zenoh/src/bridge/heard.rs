//! Of whom something has come under a name, for those who ask: who sends, and doubts that it arrives.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidepost::Pattern;

use super::context::Context;
use crate::envelope::DomainId;
use crate::link::{Frame, Kept, LinkError, Question};

/// What begins the key under which a domain says whether something of another has come under a name.
pub(super) const GOT: &str = "@got";
/// What it says.
pub(super) const HAS_COME: &[u8] = b"1";
pub(super) const HAS_NOT_COME: &[u8] = b"0";
/// It may be among what waits.
const MAY_HAVE_COME: &[u8] = b"?";
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

    /// Answers a domain that asks whether anything of it has come.
    fn answer(&self, question: &dyn Question, all_is_taken: impl FnOnce() -> bool) {
        let asking = std::str::from_utf8(&question.frame().payload).ok().and_then(|text| text.parse().ok());
        let Some(asking) = asking else { return };
        let payload = if self.has_heard(&asking) {
            HAS_COME
        } else if all_is_taken() && !self.has_heard(&asking) {
            HAS_NOT_COME
        } else {
            MAY_HAVE_COME
        };
        question.answer(Frame { payload: payload.to_vec(), ..Frame::default() });
    }

    /// Tells whoever asks, as long as what is returned is kept; `all_is_taken` says whether nothing waits to be looked at.
    pub(super) fn serve(
        self: Arc<Self>,
        context: &Context,
        (pattern, name): (Pattern, &str),
        all_is_taken: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Kept, LinkError> {
        let key = context.key_at(GOT, &context.domain.to_string(), pattern, name)?;
        context.link.serve(&key, Box::new(move |question| self.answer(&*question, &all_is_taken)))
    }
}
