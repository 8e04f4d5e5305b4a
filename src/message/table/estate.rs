//! What writers of a table leave when they go: a reader keeps the memory of the last one for those readers that come later.
//! Nothing is copied: the memory is sealed against everybody but its writer, who is no more, and is passed on as it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::view::TableView;
use crate::message::board::{BoardInlet, BoardShared, Keeper, Origin};
use crate::message::state::Base;
use crate::node::{EndpointId, Heir, Inlet, Offer, Outlet};

/// Relays that a newcomer joins, in case one of them goes at once.
const RELAYS_MAX: usize = 2;

/// What a reader knows of those that it reads from, and of what they have left.
#[derive(Default)]
pub(super) struct Estate {
    /// Whether there is anything to be let go of.
    is_held: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of outlets that are joining or joined.
    boards: HashMap<EndpointId, Board>,
    left: Option<Left>,
    /// With the version of what it passes on.
    relay: Option<(u64, Arc<BoardShared>)>,
}

/// A table's memory, and how it was offered.
#[derive(Clone)]
struct Board {
    offer: Offer,
    view: TableView,
}

impl Board {
    fn is_relay(&self) -> bool {
        Base::from_bits(self.offer.base).is_relay()
    }
}

/// A table without its writer.
struct Left {
    version: u64,
    board: Board,
}

impl State {
    /// The version of the newest that there is.
    fn newest(&self) -> u64 {
        let left = self.left.as_ref().map_or(0, |left| left.version);
        self.boards.values().map(|board| board.view.version()).fold(left, u64::max)
    }
}

impl Estate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inherit(&self, state: &mut State, board: Board) {
        let version = board.view.version();
        if version > state.left.as_ref().map_or(0, |left| left.version) {
            state.left = Some(Left { version, board });
            self.is_held.store(true, Ordering::Relaxed);
        }
    }

    /// The version of the newest that there is; 0 if nothing was ever written.
    pub(super) fn newest(&self) -> u64 {
        self.state().newest()
    }

    /// How many tables' memories it has.
    #[cfg(test)]
    pub(super) fn boards(&self) -> usize {
        let state = self.state();
        state.boards.len() + usize::from(state.left.is_some())
    }

    /// Whether anything is kept of a writer that is no more.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// A writer that lives has written this version: whether what had been left before is let go of now.
    #[inline]
    pub(super) fn is_superseded(&self, version: u64) -> bool {
        self.is_held() && self.let_go(version)
    }

    #[cold]
    fn let_go(&self, version: u64) -> bool {
        let mut state = self.state();
        let is_old = state.left.as_ref().is_some_and(|left| left.version < version);
        if is_old {
            self.is_held.store(false, Ordering::Relaxed);
            state.left = None;
        }
        is_old
    }
}

impl Keeper<TableView> for Estate {
    fn wants(&self, offer: &Offer) -> bool {
        let base = Base::from_bits(offer.base);
        if !base.is_relay() {
            return true;
        }
        let state = self.state();
        let relays = state.boards.values().filter(|board| board.is_relay()).count();
        relays < RELAYS_MAX && base.version(0) > state.newest()
    }

    fn is_of_writer(&self, offer: &Offer) -> bool {
        !Base::from_bits(offer.base).is_relay()
    }

    fn joined(&self, offer: &Offer, view: &TableView) {
        let board = Board { offer: offer.clone(), view: view.clone() };
        self.state().boards.insert(offer.outlet, board);
    }

    fn admitted(&self, outlet: EndpointId) {
        let mut state = self.state();
        // What is passed on to us never changes: we can pass it on in turn.
        if let Some(board) = state.boards.get(&outlet).filter(|board| board.is_relay()).cloned() {
            self.inherit(&mut state, board);
        }
    }

    fn closed(&self, outlet: EndpointId) {
        let mut state = self.state();
        if let Some(board) = state.boards.remove(&outlet) {
            self.inherit(&mut state, board);
        }
    }

    fn disowned(&self, outlet: EndpointId) {
        let mut state = self.state();
        state.boards.remove(&outlet);
        state.left.take_if(|left| left.board.offer.outlet == outlet);
    }

    fn left(&self, outlet: EndpointId) {
        self.state().boards.remove(&outlet);
    }

    fn heir(inlet: &BoardInlet<TableView>) -> Option<&dyn Heir> {
        Some(inlet)
    }
}

impl Heir for BoardInlet<TableView> {
    fn lacks_value(&self, offer: Option<&Offer>) -> bool {
        let follows_others = |offer: &Offer| Base::from_bits(offer.base).follows_others();
        self.keeper.state().newest() == 0 && offer.is_none_or(follows_others)
    }

    fn version_left(&self) -> u64 {
        self.keeper.state().left.as_ref().map_or(0, |left| left.version)
    }

    fn relay(&self) -> Option<Arc<dyn Outlet>> {
        let mut state = self.keeper.state();
        if let Some((_, relay)) = &state.relay {
            return Some(Arc::clone(relay) as Arc<dyn Outlet>);
        }
        let Left { version, board: Board { offer, .. } } = state.left.as_ref()?;
        let (version, node) = (*version, self.berth.node.shared());
        let origin = Origin {
            descriptor: offer.descriptor.clone(),
            members: offer.slots,
            stride: offer.stride,
            line_offset: offer.payload_offset,
            base: Base::of_relay(version),
            memory: Arc::clone(&offer.ring),
            // Whoever inspects the domain is told of one writer's work once.
            figures: Box::new(|| 0),
        };
        let lines = (node.bell().line().ok()?, node.bell().line().ok()?);
        let relay = Arc::new(BoardShared::new(node, self.channel().clone(), origin, lines));
        state.relay = Some((version, Arc::clone(&relay)));
        Some(relay)
    }

    fn retire(&self, leaves: bool) -> Option<EndpointId> {
        let mut state = self.keeper.state();
        if leaves {
            state.left = None;
        }
        let left = state.left.as_ref().map_or(0, |left| left.version);
        let (_, outdated) = state.relay.take_if(|(version, _)| *version != left)?;
        Some(outdated.id())
    }
}
