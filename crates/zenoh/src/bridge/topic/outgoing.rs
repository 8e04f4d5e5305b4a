//! A topic that goes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tidepost::{Overflow, Pattern};

use super::LINGER;
use super::passing::{self, Manner, Manners};
use super::tail::Tail;
use crate::bridge::census::{Endpoint, Local};
use crate::bridge::context::{Context, sender_of};
use crate::bridge::doubt::Doubt;
use crate::bridge::kept::History;
use crate::bridge::outlet::Outlet;
use crate::bridge::port::{Counters, Port, PortError};
use crate::bridge::worker::OnDemand;
use crate::envelope::Sender;

/// Publishers that are remembered although they have gone.
const GONE_MAX: usize = 256;

/// The policy of this name, as reports have it.
fn overflow_of(policy: &str) -> Overflow {
    match policy {
        "fail" => Overflow::Fail,
        "drop-oldest" => Overflow::DropOldest,
        "latest" => Overflow::Latest,
        _ => Overflow::Block,
    }
}

fn manner_of(sender: &Endpoint) -> Manner {
    let history = u16::try_from(sender.history).unwrap_or(u16::MAX);
    Manner { overflow: overflow_of(sender.policy), history }
}

/// Whether nothing of these publishers need arrive.
fn may_all_lose(senders: &[Endpoint]) -> bool {
    let may_lose =
        |sender: &Endpoint| matches!(overflow_of(sender.policy), Overflow::DropOldest | Overflow::Latest);
    senders.iter().all(may_lose)
}

/// A topic that goes out, as long as somebody receives it there.
#[derive(Debug)]
pub(in crate::bridge) struct TopicOut {
    context: Arc<Context>,
    name: String,
    outlet: Arc<Outlet>,
    reading: OnDemand,
    counters: Arc<Counters>,
    manners: Arc<Manners>,
    doubt: Doubt,
    tail: Tail,
    history: History,
    /// Publishers that were there at the last look, and those that were gone at it.
    here: Vec<Endpoint>,
    leaving: Vec<Endpoint>,
    /// Those who have gone, as long as what they sent last may be sent again; farewells that have been said; and since when nobody is
    /// there.
    gone: VecDeque<Sender>,
    farewells: u64,
    left_at: Option<Instant>,
}

impl TopicOut {
    pub(in crate::bridge) fn open(
        context: &Arc<Context>,
        name: &str,
        local: &Local,
    ) -> Result<Self, PortError> {
        let key = context.key(Pattern::Topic, name)?;
        let outlet = Arc::new(Outlet::open(context, key, may_all_lose(&local.senders))?);
        let (counters, manners, here, leaving, gone) = Default::default();
        let mut port = Self {
            context: Arc::clone(context),
            name: name.to_owned(),
            outlet,
            reading: OnDemand::new(LINGER),
            counters,
            manners,
            doubt: Doubt::of(Pattern::Topic),
            tail: Tail::new(),
            history: History::new(context.options.room_bytes),
            here,
            leaving,
            gone,
            farewells: 0,
            left_at: None,
        };
        port.move_on(local)?;
        Ok(port)
    }

    /// Tells the other side which publishers have gone, a look after they went: what they sent last has been passed on by then.
    fn say_farewell(&mut self, local: &Local) -> Result<(), PortError> {
        let is_gone = |endpoint: &Endpoint| local.senders.iter().all(|sender| sender.id != endpoint.id);
        for gone in std::mem::take(&mut self.leaving) {
            let sender = sender_of(gone.id);
            self.gone.push_back(sender);
            if self.gone.len() > GONE_MAX {
                self.gone.pop_front().into_iter().for_each(|sender| self.context.firsts.forget(sender));
            }
            let envelope = self.context.envelope(sender, overflow_of(gone.policy), 0);
            self.outlet.try_send(envelope.into_farewell())?;
            self.farewells += 1;
        }
        self.leaving = self.here.extract_if(.., |endpoint| is_gone(endpoint)).collect();
        self.here.clone_from(&local.senders);
        // Whoever has gone keeps nothing.
        let is_here = |id| self.here.iter().chain(&self.leaving).any(|endpoint| endpoint.id == id);
        self.history.retain(is_here);
        Ok(())
    }
}

impl Port for TopicOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        self.say_farewell(local)?;
        self.left_at = local.senders.is_empty().then(|| self.left_at.unwrap_or_else(Instant::now));
        if local.senders.iter().any(|sender| sender.history > 0) {
            self.history.serve(&self.context, &self.name)?;
        }
        if !may_all_lose(&local.senders) {
            self.outlet.be_reliable()?;
        }
        // From now on messages of those are sent that had to be known first.
        self.manners.learn(local.senders.iter().map(|sender| (sender.id, manner_of(sender))));
        let Self { context, name, outlet, counters, manners, history, .. } = self;
        let sent = counters.counts().crossed;
        if self.doubt.is_denied() || !may_all_lose(&local.senders) {
            self.doubt.move_on(context, name, outlet.has_receivers(), sent)?;
        }
        if outlet.is_reliable() && sent > 0 {
            self.tail.move_on(context, name, outlet, sent + self.farewells)?;
        }
        if self.tail.is_settled() {
            // What they sent last may have come again, of which it is asked which was the first.
            self.gone.drain(..).for_each(|sender| context.firsts.forget(sender));
        }
        if self.doubt.is_denied() {
            // What is denied is not there, which its publishers see.
            self.reading.end();
            self.history.clear();
            return Ok(());
        }
        self.reading.tend(outlet.has_receivers(), || {
            passing::start(context, name, (outlet, history.store()), counters, manners)
        })?;
        if !self.reading.is_running() {
            // When it is read again, what its publishers keep comes first.
            self.history.clear();
        }
        self.history.tend()
    }

    fn is_busy(&self) -> bool {
        !self.tail.is_settled() && self.left_at.is_none_or(|at| at.elapsed() < LINGER)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.reading.stop();
        self.history.stop();
    }
}
