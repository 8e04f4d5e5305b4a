//! The fear: a lane stays when its reader has gone, goes because of somebody else, or keeps its hub's node open.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::node::descriptor::TypeDescriptor;
use crate::node::domain::{Pattern, Role};
use crate::node::endpoint::{Admission, Form, Join, Lane, Offer, Refusal};
use crate::node::report::{EndpointRole, OutletReport};
use crate::node::{Hub, Node};

/// A hub that makes lanes of nothing, and remembers who has gone.
struct Twig {
    id: EndpointId,
    channel: Channel,
    parted: Mutex<Vec<EndpointId>>,
    refused: Mutex<Vec<NodeId>>,
}

impl Twig {
    fn parted(&self) -> Vec<EndpointId> {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Hub for Twig {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn role(&self) -> Role {
        Role::Outlet
    }

    fn lane(
        &self,
        inlet: EndpointId,
        _: Option<&TypeDescriptor>,
    ) -> Result<Option<Arc<dyn Outlet>>, Refusal> {
        let id = EndpointId { number: 1000 + inlet.number, ..self.id };
        let lane = Lane { to: inlet, from: self.id, accepts: None };
        Ok(Some(Arc::new(Leaf { id, channel: self.channel.clone(), lane })))
    }

    fn parted(&self, inlet: EndpointId) {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner).push(inlet);
    }

    fn refused(&self, node: NodeId, _: &str, _: Refusal) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(node);
    }

    fn progressed(&self) {}

    fn report(&self) -> OutletReport {
        report(self.id)
    }
}

/// A lane of nothing.
struct Leaf {
    id: EndpointId,
    channel: Channel,
    lane: Lane,
}

fn null() -> Arc<OwnedFd> {
    Arc::new(std::fs::File::open("/dev/null").expect("it is everywhere").into())
}

impl Outlet for Leaf {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn offer(&self) -> Option<Offer> {
        Some(Offer {
            outlet: self.id,
            channel: self.channel.clone(),
            form: Form::Ring,
            lane: Some(self.lane.clone()),
            descriptor: TypeDescriptor::of_primitive::<u64>("u64"),
            overflow: 1,
            is_stamped: false,
            is_relayed: false,
            header: None,
            slots: 8,
            stride: 64,
            payload_offset: 8,
            sleeper_line: 1,
            generation: 0,
            base: 0,
            ring: null(),
        })
    }

    fn admit(&self, _: &Peer, Join { outlet, inlet, notes, .. }: Join) -> Result<Admission, Refusal> {
        if notes > 0 {
            return Err(Refusal::Unusable { reason: "it has notes".to_owned() });
        }
        let (sleepers_line, sleepers_bit, segments) = (1, 0, Vec::new());
        Ok(Admission { outlet, inlet, start: 0, sleepers_line, sleepers_bit, segments, ring: None })
    }

    fn part(&self, _: EndpointId) {}

    fn let_go(&self, _: EndpointId) {}

    fn listen(&self, _: EndpointId, _: Arc<OwnedFd>) {}

    fn report(&self) -> OutletReport {
        report(self.id)
    }

    fn refused(&self, _: NodeId, _: &str, _: Refusal) {}

    fn progressed(&self) {}
}

fn report(id: EndpointId) -> OutletReport {
    OutletReport {
        id,
        pattern: Pattern::Queue,
        name: "t".to_owned(),
        role: EndpointRole::Sender,
        message_type: None,
        policy: "block",
        sent: 0,
        waiting: 0,
        is_blocked: false,
        history: 0,
        readers: Vec::new(),
    }
}

/// A node with a hub, and peers that are not there: whatever is sent to them is not.
struct Tree {
    directory: PathBuf,
    node: Node,
    twig: Arc<Twig>,
}

impl Tree {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidepost-lanes-{name}-{}", std::process::id()));
        let node = Node::builder().name("tree").directory(&directory).open().expect("the domain is ours");
        let channel = Channel::new(Pattern::Queue, "t").expect("it is a name");
        let twig = Arc::new(Twig {
            id: node.shared().next_endpoint(),
            channel,
            parted: Mutex::default(),
            refused: Mutex::default(),
        });
        let hub = Arc::clone(&twig) as Arc<dyn Hub>;
        node.shared().control().add_hub(&hub, None).expect("nobody is there");
        Self { directory, node, twig }
    }

    fn peer(&self, node: u128) -> Peer {
        Peer { node: NodeId::from_bits(node), ..self.node.shared().control().own.clone() }
    }

    /// A lane to this inlet, over a connection that is there or not.
    fn open_lane(&self, inlet: EndpointId) -> EndpointId {
        let hub = Arc::clone(&self.twig) as Arc<dyn Hub>;
        let mut control = self.node.shared().control();
        let made = control.make_lane(&hub, inlet, None).expect("lines are left").expect("it is fresh");
        made.id()
    }

    fn hear(&self, from: u128, frame: Frame) {
        let peer = self.peer(from);
        self.node.shared().control().hear_peer(NOBODY, &peer, frame).expect("it is no violation");
    }

    fn join(&self, outlet: EndpointId, inlet: EndpointId) {
        self.join_with(outlet, inlet, 0);
    }

    fn join_with(&self, outlet: EndpointId, inlet: EndpointId, notes: u32) {
        let (cursor, eventfd) = (Some(null()), None);
        let join = Join {
            outlet,
            inlet,
            cursor_offset: 128,
            hold_limit: 1,
            notes,
            sleeper_line: 1,
            is_observer: false,
            generation: 0,
            history: 1,
            fences_for_all: true,
            cursor,
            eventfd,
        };
        self.hear(THEIRS, Frame::Join(join));
    }

    fn has(&self, lane: EndpointId) -> bool {
        self.node.shared().control().outlets.contains_key(&lane.number)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The number of no connection.
const NOBODY: u64 = 999;
/// Whose inlet the lane is for, and another.
const THEIRS: u128 = 8;
const ANOTHERS: u128 = 9;

fn inlet_of(node: u128) -> EndpointId {
    EndpointId { node: NodeId::from_bits(node), number: 1 }
}

#[test]
fn a_hub_forgets_whoever_leaves_whichever_end_leaves_first() {
    let tree = Tree::new("leaving");
    let inlet = inlet_of(THEIRS);
    for count in 1..=3 {
        let lane = tree.open_lane(inlet);
        if count < 3 {
            tree.join(lane, inlet);
        }
        let remove = || tree.node.shared().control().remove_outlet(lane);
        let leave = || tree.hear(THEIRS, Frame::PairLeft { outlet: lane, inlet });
        match count {
            1 => (remove(), leave()),
            2 => (leave(), remove()),
            _ => (remove(), ()),
        };
        assert!(!tree.has(lane));
        assert_eq!(tree.twig.parted(), vec![inlet; count]);
    }
}

#[test]
fn a_lane_is_ended_by_nobody_else() {
    let tree = Tree::new("strangers");
    let (inlet, other) = (inlet_of(THEIRS), inlet_of(ANOTHERS));
    let lane = tree.open_lane(inlet);
    let refusal = || Refusal::Unusable { reason: "it is not liked".to_owned() };
    tree.hear(ANOTHERS, Frame::PairLeft { outlet: lane, inlet: other });
    tree.hear(ANOTHERS, Frame::Refuse { outlet: lane, inlet: other, refusal: refusal() });
    let namesake = EndpointId { node: NodeId::from_bits(ANOTHERS), ..lane };
    tree.hear(THEIRS, Frame::PairLeft { outlet: namesake, inlet });
    assert!(tree.has(lane) && tree.twig.parted().is_empty());
    tree.join(lane, inlet);
    tree.hear(THEIRS, Frame::PairLeft { outlet: namesake, inlet });
    tree.hear(ANOTHERS, Frame::PairLeft { outlet: lane, inlet: other });
    assert!(tree.has(lane) && tree.twig.parted().is_empty());
    tree.hear(THEIRS, Frame::PairLeft { outlet: lane, inlet });
    assert!(!tree.has(lane));
    assert_eq!(tree.twig.parted(), [inlet]);
    let lane = tree.open_lane(inlet);
    tree.hear(THEIRS, Frame::Refuse { outlet: lane, inlet, refusal: refusal() });
    assert!(!tree.has(lane));
}

#[test]
fn a_lane_over_a_connection_that_has_gone_is_dropped() {
    let tree = Tree::new("gone");
    let hub = Arc::clone(&tree.twig) as Arc<dyn Hub>;
    tree.node.shared().control().open_lane(&hub, inlet_of(THEIRS), None, (NOBODY, "gone"));
    let control = tree.node.shared().control();
    assert!(control.outlets.is_empty() && control.pending.is_empty());
    assert_eq!(tree.twig.parted(), [inlet_of(THEIRS)]);
}

#[test]
fn a_hub_hears_that_its_lane_lets_somebody_not_in() {
    let tree = Tree::new("refusals");
    let inlet = inlet_of(THEIRS);
    let lane = tree.open_lane(inlet);
    tree.join_with(lane, inlet, 1);
    assert!(!tree.has(lane));
    assert_eq!(*tree.twig.refused.lock().expect("nobody panics"), [inlet.node]);
    assert_eq!(tree.twig.parted(), [inlet]);
}

/// A peer that is stopped says nothing, and its lane stays.
#[test]
fn a_lane_whose_reader_is_silent_does_not_keep_its_hub() {
    let tree = Tree::new("silent");
    let inlet = inlet_of(THEIRS);
    let lane = tree.open_lane(inlet);
    tree.join(lane, inlet);
    tree.node.shared().control().remove_hub(tree.twig.id);
    tree.node.shared().control().remove_outlet(lane);
    assert!(tree.has(lane), "it may be reading");
    assert_eq!(Arc::strong_count(&tree.twig), 1, "nobody else has a share in the hub");
    tree.hear(THEIRS, Frame::PairLeft { outlet: lane, inlet });
    assert!(!tree.has(lane));
}
