//! What the publishers of a topic keep for those who join later, for those who do so beyond.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidepost::{EndpointId, Pattern};

use super::context::Context;
use super::jobs::{Crew, Job};
use super::port::PortError;
use super::worker::Stop;
use crate::link::{Frame, Kept, Question};
use crate::room::Weighed;

/// Those who are told at once: an answer may be long, and wait for its link.
const TOLD_MAX: usize = 2;

/// What is kept, and what tells of it.
#[derive(Debug)]
pub(super) struct History {
    store: Arc<Store>,
    crew: Crew,
    served: Option<Kept>,
}

/// The frames of each publisher, as many as it keeps itself, and no more bytes than may wait for the network.
#[derive(Debug)]
pub(super) struct Store {
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

impl Store {
    fn new(bytes_max: usize) -> Arc<Self> {
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

    /// Only those keep anything that are here.
    fn retain(&self, is_here: impl Fn(EndpointId) -> bool) {
        let mut state = self.state();
        let State { senders, bytes } = &mut *state;
        for (_, gone) in senders.extract_if(|sender, _| !is_here(*sender)) {
            *bytes -= gone.iter().map(Weighed::bytes).sum::<usize>();
        }
    }

    fn answer(&self, question: &dyn Question, stop: &Stop) {
        let frames: Vec<Frame> = self.state().senders.values().flatten().cloned().collect();
        frames.into_iter().take_while(|_| !stop.is_set()).for_each(|frame| question.answer(frame));
    }
}

impl History {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { store: Store::new(bytes_max), crew: Crew::new(TOLD_MAX, bytes_max), served: None }
    }

    /// Where frames are kept.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Only those keep anything that are here.
    pub(super) fn retain(&self, is_here: impl Fn(EndpointId) -> bool) {
        self.store.retain(is_here);
    }

    /// Nothing is kept any more.
    pub(super) fn clear(&self) {
        *self.store.state() = State::default();
    }

    /// Tells whoever asks under the topic's key, from now on.
    pub(super) fn serve(&mut self, context: &Context, topic: &str) -> Result<(), PortError> {
        if self.served.is_none() {
            let key = context.key(Pattern::Topic, topic)?;
            self.served = Some(context.link.serve(&key, self.crew.taker())?);
        }
        Ok(())
    }

    /// Sees to it that there is somebody to tell.
    pub(super) fn tend(&mut self) -> Result<(), PortError> {
        if self.served.is_none() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let begin = move || {
            let store = Arc::clone(&store);
            move |job: Job, stop: &Stop| store.answer(&*job.question, stop)
        };
        self.crew.grow(begin, || ())
    }

    /// Tells nobody any more.
    pub(super) fn stop(&self) {
        self.crew.stop();
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

    fn lengths(history: &Store, sender: EndpointId) -> Vec<usize> {
        history.state().senders.get(&sender).into_iter().flatten().map(|frame| frame.payload.len()).collect()
    }

    #[test]
    fn as_many_are_kept_as_the_publisher_keeps_and_fit() {
        let [one, other] = senders();
        let history = Store::new(10_000);
        for length in 1..=5 {
            history.keep(one, 3, &frame(length));
            history.keep(other, 1, &frame(length));
        }
        assert_eq!((lengths(&history, one), lengths(&history, other)), (vec![3, 4, 5], vec![5]));
        history.keep(one, 100, &frame(9_500));
        assert_eq!((lengths(&history, one), lengths(&history, other)), (vec![5, 9_500], vec![5]));
        history.keep(one, 100, &frame(20_000));
        assert_eq!(lengths(&history, one), Vec::<usize>::new(), "what does not fit at all is not kept");
        history.retain(|sender| sender != other);
        assert_eq!(lengths(&history, other), Vec::<usize>::new());
        assert_eq!(history.state().bytes, 0);
        history.keep(one, 1, &frame(1));
        assert_ne!(history.state().bytes, 0);
    }
}
