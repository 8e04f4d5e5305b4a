//! Of several machines that answer under one name, the one that is asked.
//!
//! The engine may ask all of them. So each has a key of its own besides, shown by a token, and whoever asks takes them in turn; a client of
//! the engine that answers has none, and is asked under the name alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidepost::Pattern;

use super::context::Context;
use crate::envelope::DomainId;
use crate::link::{Asking, Kept, LinkError, OnQuestion};

/// The key under which a domain answers for a name.
fn key_of(context: &Context, domain: &str, pattern: Pattern, name: &str) -> Result<String, LinkError> {
    context.key_at("@has", domain, pattern, name)
}

/// Answers for a name, under its key and under our own.
pub(super) fn serve(
    context: &Context,
    pattern: Pattern,
    name: &str,
    on_question: impl Fn() -> OnQuestion,
) -> Result<Vec<Kept>, LinkError> {
    let own = key_of(context, &context.domain.to_string(), pattern, name)?;
    Ok(vec![
        context.link.serve(&context.key(pattern, name)?, on_question())?,
        context.link.serve(&own, on_question())?,
        context.link.token(&own)?,
    ])
}

type Keys = Arc<Mutex<Vec<String>>>;

fn lock(keys: &Keys) -> MutexGuard<'_, Vec<String>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who answer for a name.
#[derive(Debug)]
pub(super) struct Ends {
    keys: Keys,
    turn: AtomicUsize,
    name_key: String,
    asking: Box<dyn Asking>,
    _watched: Kept,
}

impl Ends {
    /// Looks for those who answer for a name on other machines.
    pub(super) fn of(context: &Context, pattern: Pattern, name: &str) -> Result<Self, LinkError> {
        let (keys, name_key) = (Keys::default(), context.key(pattern, name)?);
        let seen = Arc::clone(&keys);
        let own = key_of(context, &context.domain.to_string(), pattern, name)?;
        let watched = context.link.watch(
            &key_of(context, "*", pattern, name)?,
            Box::new(move |key, is_there| {
                let mut seen = lock(&seen);
                seen.retain(|other| other != key);
                if is_there && key != own {
                    seen.push(key.to_owned());
                }
            }),
        )?;
        let asking = context.link.asking(&name_key)?;
        Ok(Self { keys, turn: AtomicUsize::new(0), name_key, asking, _watched: watched })
    }

    /// Whether anybody answers.
    pub(super) fn are_there(&self) -> bool {
        !lock(&self.keys).is_empty() || self.asking.is_answered()
    }

    /// The domain of one of them; none if it is only clients of the engine.
    pub(super) fn domain(&self) -> Option<DomainId> {
        // What is before the domain is the realm, which has no slash.
        let keys = lock(&self.keys);
        keys.first()?.split('/').nth(2)?.parse().ok()
    }

    /// The key under which to ask next.
    pub(super) fn next_key(&self) -> String {
        let keys = lock(&self.keys);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        keys.get(turn % keys.len().max(1)).unwrap_or(&self.name_key).clone()
    }
}
