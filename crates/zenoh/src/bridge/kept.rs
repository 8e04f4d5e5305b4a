//! What the publishers of a topic keep for those who join later, for those who do so beyond.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidepost::{EndpointId, Pattern};

use super::context::Context;
use crate::link::{Frame, Kept, LinkError, Question};
use crate::room::Weighed;

/// The frames of each publisher, as many as it keeps itself, and no more bytes than may wait for the network.
#[derive(Debug)]
pub(super) struct History {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    senders: HashMap<EndpointId, VecDeque<Frame>>,
    bytes: usize,
}

impl State {
    fn let_go(&mut self, sender: EndpointId) -> bool {
        let oldest = self.senders.get_mut(&sender).and_then(VecDeque::pop_front);
        self.bytes -= oldest.as_ref().map_or(0, Weighed::bytes);
        oldest.is_some()
    }
}

impl History {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), bytes_max })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a frame of a publisher that keeps so many.
    pub(super) fn keep(&self, sender: EndpointId, most: usize, frame: &Frame) {
        let mut state = self.state();
        state.bytes += frame.bytes();
        let kept = state.senders.entry(sender).or_default();
        kept.push_back(frame.clone());
        let mut surplus = kept.len().saturating_sub(most);
        while (surplus > 0 || state.bytes > self.bytes_max) && state.let_go(sender) {
            surplus = surplus.saturating_sub(1);
        }
    }

    /// A publisher has gone, and what it kept with it.
    pub(super) fn forget(&self, sender: EndpointId) {
        let mut state = self.state();
        while state.let_go(sender) {}
        state.senders.remove(&sender);
    }

    /// Nothing is kept any more.
    pub(super) fn clear(&self) {
        *self.state() = State::default();
    }

    fn answer(&self, question: &dyn Question) {
        let frames: Vec<Frame> = self.state().senders.values().flatten().cloned().collect();
        frames.into_iter().for_each(|frame| question.answer(frame));
    }

    /// Tells whoever asks under the topic's key.
    pub(super) fn serve(self: &Arc<Self>, context: &Context, topic: &str) -> Result<Kept, LinkError> {
        let asked = Arc::clone(self);
        let key = context.key(Pattern::Topic, topic)?;
        context.link.serve(&key, Box::new(move |question| asked.answer(&*question)))
    }
}

#[cfg(test)]
mod tests {
    use tidepost::{Node, Overflow};

    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame { payload: vec![7; bytes], ..Frame::default() }
    }

    /// Two publishers' names.
    fn senders() -> [EndpointId; 2] {
        let directory = std::env::temp_dir().join(format!("tidepost-history-{}", std::process::id()));
        let node = Node::builder().directory(&directory).open().expect("the directory is ours");
        let publisher = || node.topic::<u8>("t").publisher(Overflow::Block).expect("the topic is ours").id();
        let senders = [publisher(), publisher()];
        drop(node);
        std::fs::remove_dir_all(directory).expect("it is ours");
        senders
    }

    fn lengths(history: &History, sender: EndpointId) -> Vec<usize> {
        history.state().senders.get(&sender).into_iter().flatten().map(|frame| frame.payload.len()).collect()
    }

    #[test]
    fn as_many_are_kept_as_the_publisher_keeps_and_fit() {
        let [one, other] = senders();
        let history = History::new(10_000);
        for length in 1..=5 {
            history.keep(one, 3, &frame(length));
            history.keep(other, 1, &frame(length));
        }
        assert_eq!((lengths(&history, one), lengths(&history, other)), (vec![3, 4, 5], vec![5]));
        history.keep(one, 100, &frame(9_500));
        assert_eq!((lengths(&history, one), lengths(&history, other)), (vec![5, 9_500], vec![5]));
        history.keep(one, 100, &frame(20_000));
        assert_eq!(lengths(&history, one), Vec::<usize>::new(), "what does not fit at all is not kept");
        history.forget(other);
        assert_eq!(lengths(&history, other), Vec::<usize>::new());
        assert_eq!(history.state().bytes, 0);
        history.keep(one, 1, &frame(1));
        history.clear();
        assert_eq!(history.state().bytes, 0);
    }
}
