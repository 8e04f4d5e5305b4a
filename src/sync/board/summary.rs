//! Where something is new: one word for all, one for each group of members.

use std::ops::Range;

use super::{BoardViolation, BoardWords, rise};
use crate::layout::board::BOARD_GROUP;
use crate::sync::door::{AtomicU64, Ordering};

/// Groups that have a word of their own.
pub(super) fn groups(members: usize) -> usize {
    if members > BOARD_GROUP { members.div_ceil(BOARD_GROUP) } else { 0 }
}

/// The writer has changed a member; `by` says how often.
#[inline]
pub(super) fn raise(words: &impl BoardWords, member: usize, by: u64) {
    // Each word has one writer, which is us: what we load is what we stored.
    let raise = |word: &AtomicU64| {
        word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
    };
    if words.members() > BOARD_GROUP {
        raise(words.group(member / BOARD_GROUP));
    }
    raise(words.whole());
}

/// What a reader has seen of that.
#[derive(Debug)]
pub(super) struct Seen {
    whole: u64,
    groups: Vec<u64>,
}

impl Seen {
    /// Of a board on which everything is news.
    pub(super) fn nothing(words: &impl BoardWords) -> Self {
        Self { whole: 0, groups: vec![0; groups(words.members())] }
    }

    /// As the board is now: only what comes later is news. The caller then reads the members.
    pub(super) fn start(&mut self, words: &impl BoardWords) {
        self.whole = words.whole().load(Ordering::Acquire);
        for (index, seen) in self.groups.iter_mut().enumerate() {
            *seen = words.group(index).load(Ordering::Acquire);
        }
    }

    /// Whether something is new. One load.
    #[inline]
    pub(super) fn has_news(&self, words: &impl BoardWords) -> bool {
        // Acquire: pairs with the writer's Release, so that everything up to here is visible.
        words.whole().load(Ordering::Acquire) != self.whole
    }

    /// Has the groups looked at in which something is new. What a look fails at is news again next time.
    pub(super) fn follow<E: From<BoardViolation>>(
        &mut self,
        words: &impl BoardWords,
        mut look: impl FnMut(Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Before the groups, and those before their members: whatever comes later changes these words again.
        let whole = words.whole().load(Ordering::Acquire);
        if whole == self.whole {
            return Ok(());
        }
        rise("the board's word", self.whole, whole)?;
        let members = words.members();
        if self.groups.is_empty() {
            look(0..members)?;
        }
        for (index, seen) in self.groups.iter_mut().enumerate() {
            let group = words.group(index).load(Ordering::Acquire);
            if group != *seen {
                rise("the word of a group", *seen, group)?;
                let start = index * BOARD_GROUP;
                look(start..members.min(start + BOARD_GROUP))?;
                *seen = group;
            }
        }
        self.whole = whole;
        Ok(())
    }
}
