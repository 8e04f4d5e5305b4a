//! What a client or a server shares with its node's control plane: lanes to those on the other side, as they come and go.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LaneOptions;
use super::error::AnswerError;
use super::head::Reply;
use crate::message::error::Refused;
use crate::message::inlet::SubscriberShared;
use crate::message::overflow::Overflow;
use crate::message::payload::extent_of;
use crate::message::prefix::Prefix;
use crate::message::refusals::{Refusals, refused};
use crate::message::sender::{Sender, SenderOptions};
use crate::node::{
    Channel, EndpointId, Hub, Inlet, Lane, Node, NodeId, Outlet, OutletReport, Refusal, Role, Shape,
    TypeDescriptor, policy_name,
};
use crate::sync::bell::Line;
use crate::sync::geometry::Geometry;

/// The part of a client or server that its control plane also touches.
pub(super) struct ServiceHub {
    node: Node,
    role: Role,
    /// Where what comes back comes in.
    inlet: Arc<SubscriberShared>,
    /// Where the endpoint sleeps, whatever for.
    line: Arc<Line>,
    /// What goes out; `None` if that is whatever the other end takes.
    sends: Option<TypeDescriptor>,
    failure: Option<TypeDescriptor>,
    /// What the other end is told to send.
    accepts: Option<TypeDescriptor>,
    options: LaneOptions,
    has_news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashSet<EndpointId>,
    news: Vec<News>,
    refusals: Refusals,
}

/// Something that has happened to a lane.
pub(super) enum News {
    /// It has been made, for this one on the other side.
    Made(EndpointId, Box<Sender>),
    /// The lane to this one is over.
    Parted(EndpointId),
}

/// The types of a service, as one of its ends sees them.
pub(super) struct Types {
    pub(super) sends: Option<TypeDescriptor>,
    pub(super) failure: Option<TypeDescriptor>,
    pub(super) accepts: Option<TypeDescriptor>,
}

impl ServiceHub {
    pub(super) fn new(
        node: &Node,
        role: Role,
        (inlet, line): (Arc<SubscriberShared>, Arc<Line>),
        types: Types,
        options: LaneOptions,
    ) -> Self {
        let Types { sends, failure, accepts } = types;
        let (has_news, state) = (AtomicBool::new(false), Mutex::default());
        Self { node: node.clone(), role, inlet, line, sends, failure, accepts, options, has_news, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something has happened to lanes.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// What has happened to lanes since it was asked last, in order.
    pub(super) fn take_news(&self) -> Vec<News> {
        self.has_news.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.state().news)
    }

    /// Whether this one's lane is over, as far as it was not asked for yet.
    pub(super) fn is_parted(&self, other: EndpointId) -> bool {
        self.state().news.iter().any(|news| matches!(news, News::Parted(id) if *id == other))
    }

    /// Whether what a server answers is as long as the type that it declared.
    pub(super) fn check_length(&self, reply: Reply, given: usize) -> Result<(), AnswerError> {
        let declared = match reply {
            Reply::Answer | Reply::Part => self.sends.as_ref(),
            Reply::Failure => self.failure.as_ref(),
            Reply::End | Reply::Nothing | Reply::Unreachable => None,
        };
        match declared.filter(|declared| !extent_of(declared).fits(given as u64)) {
            None => Ok(()),
            Some(declared) => {
                let (service, message_type) = (self.channel().shared(), declared.to_string());
                Err(AnswerError::Length { service, given, message_type })
            }
        }
    }

    fn tell(&self) {
        self.has_news.store(true, Ordering::Release);
        self.inlet.wake();
    }

    /// Those on the other side that turned us down, or were turned down.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        let mut refusals = self.state().refusals.list();
        refusals.extend(self.inlet.refusals());
        refusals
    }

    fn make(&self, inlet: EndpointId, sends: TypeDescriptor) -> Result<Sender, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let align = sends.align.max(self.failure.as_ref().map_or(1, |failure| failure.align));
        if !align.is_power_of_two() || align > TypeDescriptor::ALIGN_MAX {
            return Err(unusable(format!("a type aligned to {align} B cannot be sent")));
        }
        let prefix = Prefix::of_call(align as usize);
        let payload_bytes = match sends.shape {
            Shape::One => usize::try_from(sends.size).unwrap_or(usize::MAX),
            Shape::Slice => self.options.slot_bytes,
        };
        let payload_bytes = payload_bytes.saturating_add(prefix.bytes());
        let options = SenderOptions {
            geometry: Geometry::for_payload(payload_bytes, align as usize, Some(self.options.depth)),
            overflow: Overflow::Fail,
            pool_limit: self.options.pool_limit,
            history: 0,
            prefix,
            is_stamped: false,
            is_relayed: false,
            header: self.failure.clone(),
            base: 0,
        };
        let sleepers = self
            .node
            .shared()
            .bell()
            .line()
            .map_err(|_| unusable("there is no bell line left".to_owned()))?;
        let lane = Lane { to: inlet, from: self.id(), accepts: self.accepts.clone() };
        let lines = (Arc::clone(&self.line), sleepers);
        let made = Sender::create(&self.node, self.channel().clone(), sends, options, lines, Some(lane));
        made.map_err(|error| unusable(error.to_string()))
    }
}

impl Hub for ServiceHub {
    fn id(&self) -> EndpointId {
        self.inlet.id()
    }

    fn channel(&self) -> &Channel {
        &self.inlet.channel
    }

    fn role(&self) -> Role {
        self.role
    }

    fn lane(
        &self,
        inlet: EndpointId,
        accepts: Option<&TypeDescriptor>,
    ) -> Result<Option<Arc<dyn Outlet>>, Refusal> {
        let sends = self.sends.as_ref().or(accepts).cloned();
        let mut state = self.state();
        if state.open.contains(&inlet) {
            return Ok(None);
        }
        let untyped = || Refusal::Unusable { reason: "it does not say what it takes".to_owned() };
        let sender = self.make(inlet, sends.ok_or_else(untyped)?)?;
        let outlet = Arc::clone(sender.shared()) as Arc<dyn Outlet>;
        state.open.insert(inlet);
        state.news.push(News::Made(inlet, Box::new(sender)));
        drop(state);
        self.tell();
        Ok(Some(outlet))
    }

    fn parted(&self, inlet: EndpointId) {
        let mut state = self.state();
        if state.open.remove(&inlet) {
            state.news.push(News::Parted(inlet));
        }
        drop(state);
        self.tell();
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        self.state().refusals.remember(refused(node, node_name, refusal));
        self.tell();
    }

    fn joined(&self) {
        self.tell();
    }

    fn progressed(&self) {}

    fn report(&self) -> OutletReport {
        OutletReport {
            id: Hub::id(self),
            pattern: self.channel().pattern(),
            name: self.channel().name().to_owned(),
            role: self.role.into(),
            message_type: self.sends.clone(),
            policy: policy_name(Overflow::Block.code()),
            sent: 0,
            waiting: 0,
            is_blocked: false,
            history: 0,
            readers: Vec::new(),
        }
    }
}

impl fmt::Debug for ServiceHub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServiceHub").field("role", &self.role).finish_non_exhaustive()
    }
}
