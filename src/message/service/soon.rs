//! Calls that are answered soon, while their client polls and has no other call to that server. They are on no list, and what is
//! known of them is copied nowhere: a copy of what has just been written piece by piece waits for the pieces.

use super::core::{ANY, ClientCore};
use super::head::{AnswerHead, Reply, RequestHead, Want};
use super::lane::{Call, Slot};
use crate::message::payload::extent_of;
use crate::message::sender::Sent;

/// Polls for what comes soon, before a wait that other things end too.
pub(super) const SOON_POLLS: u32 = 500;

impl ClientCore {
    /// Asks a server to which no other call of ours is on its way, if nothing stands against that: its place in the list. What
    /// was asked is no call until [`ClientCore::enlist`] makes one of it, unless it is answered soon.
    #[inline(always)]
    pub(super) fn ask(&mut self, deadline_ms: u64, bytes: &[u8]) -> Option<usize> {
        if self.is_untyped || self.hub.has_news() || self.receiver.has_changed() {
            return None;
        }
        let index = self.choose()?;
        let lane = self.lanes.get_mut(index)?;
        let note = lane.calls.next_alone()? as u16;
        // An error is found again by who can say it.
        let sent = lane.send(RequestHead { want: Want::Answer, note, deadline_ms }, false, bytes);
        matches!(sent, Ok(Sent::Headed | Sent::Bare)).then_some(index)
    }

    /// Polls a little for the answer to what was just asked: whether it is there to be taken.
    #[inline(always)]
    pub(super) fn is_answered_soon(&mut self, index: usize) -> bool {
        for _ in 0..SOON_POLLS {
            // An error is found again by who can say it.
            if matches!(self.receiver.poll_now(ANY), Ok(true)) {
                return self.is_answered(index);
            }
        }
        false
    }

    /// Whether the message that has been found is the answer to what was just asked, which is over then.
    #[inline(always)]
    fn is_answered(&mut self, index: usize) -> bool {
        let (Some(found), Some(lane)) = (self.receiver.found_headed(), self.lanes.get_mut(index)) else {
            return false;
        };
        let Some(number) = lane.calls.next_alone() else { return false };
        let answer = AnswerHead { reply: Reply::Answer, number };
        let is_it = match found.head {
            None => lane.next_answered == number,
            Some(bits) => bits == answer.bits(),
        };
        let extent = self.extents.0.unwrap_or_else(|| extent_of(&found.source.about.descriptor));
        if found.source.about.publisher.id != lane.server || !is_it || !extent.fits(found.bytes.len() as u64)
        {
            return false;
        }
        lane.note_answered(answer);
        lane.calls.pass_alone();
        true
    }

    /// Makes a call of what was just asked.
    pub(super) fn enlist(&mut self, index: usize) -> Option<Call> {
        let lane = self.lanes.get_mut(index)?;
        let number = lane.calls.next_alone()?;
        lane.calls.begin(Slot::Waiting, None);
        lane.waiting += 1;
        Some(Call { server: lane.server, number })
    }
}
