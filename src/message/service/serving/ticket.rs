//! A request that is answered later, by any thread: the server's own sends the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Due, note_of};
use crate::message::inlet::SubscriberShared;
use crate::message::sample::HeldBytes;
use crate::message::service::head::{self, Reply};
use crate::sync::ring::CursorMemory;

/// Answers of other threads, which the server's own sends.
#[derive(Default)]
pub(super) struct Posted {
    pub(super) has_some: AtomicBool,
    pub(super) answers: Mutex<Vec<PostedAnswer>>,
}

/// One of them.
pub(super) struct PostedAnswer {
    pub(super) due: Due,
    pub(super) reply: Reply,
    pub(super) bytes: Box<[u8]>,
}

/// A request that is answered later.
pub(in crate::message::service) struct Ticket {
    /// Until it is answered.
    pub(super) due: Option<Due>,
    pub(super) request: HeldBytes,
    pub(super) notes: Option<CursorMemory>,
    pub(super) is_gone: Arc<AtomicBool>,
    pub(super) posted: Arc<Posted>,
    pub(super) shared: Arc<SubscriberShared>,
}

impl Ticket {
    pub(in crate::message::service) fn request(&self) -> &[u8] {
        self.request.as_slice()
    }

    pub(in crate::message::service) fn due(&self) -> &Due {
        self.due.as_ref().expect("an answer consumes its ticket")
    }

    pub(in crate::message::service) fn is_cancelled(&self) -> bool {
        let due = self.due();
        let is_given_up = |notes: &CursorMemory| head::is_given_up(note_of(notes, due.head.note), due.number);
        due.wants_answer()
            && (self.is_gone.load(Ordering::Acquire)
                || head::has_passed(due.head.deadline_ms)
                || self.notes.as_ref().is_some_and(is_given_up))
    }

    /// Answers: the server's own thread sends it.
    pub(in crate::message::service) fn post(mut self, reply: Reply, bytes: &[u8]) {
        self.put(reply, bytes);
    }

    fn put(&mut self, reply: Reply, bytes: &[u8]) {
        let node = self.shared.node.shared();
        if let Some(due) = self.due.take().filter(|_| !node.is_inherited()) {
            let mut answers = self.posted.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push(PostedAnswer { due, reply, bytes: bytes.into() });
            drop(answers);
            // If it was set before, the server has been woken, and has not taken them yet.
            if !self.posted.has_some.swap(true, Ordering::AcqRel) {
                self.shared.wake();
                if !node.has_thread() {
                    node.nudge();
                }
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.put(Reply::Nothing, &[]);
    }
}
