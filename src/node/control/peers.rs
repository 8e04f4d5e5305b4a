//! Peers: connecting, greeting, and losing them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::{self, Errno};

use super::orphans::Survivor;
use super::{Control, LISTENER, pidfd_token, socket_token};
use crate::node::connection::{Connection, Stage};
use crate::node::domain::{ConnectError, is_our_user};
use crate::node::endpoint::{Peer, Refusal, Violation};
use crate::node::error::EndpointError;
use crate::node::identity::NodeId;
use crate::node::wire::{Frame, Hello, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Stranger};
use crate::os::epoll::Interest;
use crate::sync::bell::PeerBell;

/// How long callers wait when there are no descriptors left for them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that may be open without our knowing from whom.
const STRANGERS_MAX: usize = 64;

impl Control {
    /// The connection to `node`, made now if there is none; `None` if the node is gone, or nobody we would talk to.
    pub(super) fn reach(&mut self, node: NodeId) -> Result<Option<u64>, EndpointError> {
        if let Some(&number) = self.by_node.get(&node) {
            return Ok(Some(number));
        }
        let failed = |source| EndpointError::System { action: format!("connect to node {node}"), source };
        let channel = match self.membership.domain().connect(node) {
            Ok(channel) => channel,
            Err(ConnectError::Resource(errno)) => return Err(failed(errno)),
            Err(ConnectError::Gone) => {
                self.inspect_no_more(node);
                return Ok(None);
            }
            Err(error) => {
                self.note_violation(&format!("node {node}: {error}"));
                return Ok(None);
            }
        };
        let number = self.watch(Connection::new(channel, Stage::Called(node))).map_err(failed)?;
        self.by_node.insert(node, number);
        let hello = self.hello();
        self.send(number, &hello);
        Ok(self.connections.contains_key(&number).then_some(number))
    }

    fn watch(&mut self, connection: Connection) -> io::Result<u64> {
        let number = self.next_connection;
        self.next_connection += 1;
        self.epoll.add(connection.channel(), socket_token(number), Interest::Read)?;
        self.connections.insert(number, connection);
        self.set_timer();
        Ok(number)
    }

    /// Accepts every connection that waits, from our own user. A caller that has greeted by now is served at once, so
    /// only those who keep silent count as strangers; when there are too many, the one who has been silent longest
    /// goes, and newcomers are still heard.
    pub(super) fn accept_all(&mut self) {
        loop {
            let channel = match self.membership.listener().accept() {
                Ok(channel) => channel,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    return self.pause_accepting();
                }
                Err(Errno::CONNABORTED) => continue,
                Err(_) => return,
            };
            if !channel.peer_uid().is_ok_and(is_our_user) {
                self.note_violation("another user called");
            } else if let Ok(number) = self.watch(Connection::new(channel, Stage::Answered)) {
                self.serve(number);
                self.dismiss_strangers();
            }
        }
    }

    /// Callers wait until there are descriptors for them: the listener would be reported ready all the while.
    fn pause_accepting(&mut self) {
        if self.accepts_again.is_none() {
            self.note_violation("no descriptors are left for those who call; raise the limit on open files");
            let _ = self.membership.listener().descriptor().map(|listener| self.epoll.remove(listener));
        }
        self.accepts_again = Some(Instant::now() + ACCEPT_PAUSE);
        self.set_timer();
    }

    /// Looks whether callers can be accepted again.
    pub(super) fn accept_again(&mut self) {
        if self.accepts_again.is_some_and(|again| again <= Instant::now()) {
            self.accepts_again = None;
            let listener = self.membership.listener().descriptor();
            let watched = listener.and_then(|listener| self.epoll.add(listener, LISTENER, Interest::Read));
            if watched.is_err() {
                return self.pause_accepting();
            }
            self.accept_all();
        }
    }

    fn strangers(&self) -> Vec<u64> {
        let strangers = self.connections.iter().filter(|(_, connection)| connection.node().is_none());
        strangers.map(|(number, _)| *number).collect()
    }

    fn serve_strangers(&mut self) {
        self.strangers().into_iter().for_each(|number| self.serve(number));
    }

    fn dismiss_strangers(&mut self) {
        let strangers = self.strangers();
        if strangers.len() > STRANGERS_MAX
            && let Some(&first) = strangers.iter().min()
        {
            self.expel(first, &Violation("too many callers do not say who they are".to_owned()));
        }
    }

    /// Somebody said who it is, in a version that we do not understand.
    pub(super) fn dismiss(&mut self, number: u64, stranger: &Stranger) -> Result<(), Violation> {
        let versions = Frame::Versions { version_min: PROTOCOL_VERSION_MIN, version: PROTOCOL_VERSION };
        self.send(number, &versions);
        if self.by_node.get(&stranger.node).is_some_and(|known| *known != number) {
            let reason = "it speaks another version, and claims to be a node that we know";
            return Err(Violation(reason.to_owned()));
        }
        self.mismatch(stranger.node, &stranger.name, stranger.version_min, stranger.version)
    }

    /// A peer said who it is.
    pub(super) fn greet(&mut self, number: u64, hello: Hello) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let is_answer = match &connection.stage {
            Stage::Open(_) => return Err(Violation("it greeted twice".to_owned())),
            Stage::Called(node) if *node == hello.node => true,
            Stage::Called(_) => return Err(Violation("another node answered".to_owned())),
            Stage::Answered => false,
        };
        if hello.node == self.own.node {
            return Err(Violation("it claims to be us".to_owned()));
        }
        let bell = match PeerBell::receive(&hello.bell, hello.eventfd) {
            Ok(bell) => bell,
            Err(error) if error.is_shortage() => return self.lack_peer(hello.node, &hello.name, &error),
            Err(error) => return Err(Violation(error.to_string())),
        };
        let watched = self.epoll.add(&hello.pidfd, pidfd_token(number), Interest::Read);
        watched.map_err(|error| Violation(format!("its pidfd cannot be watched: {error}")))?;
        // Only now that it has shown itself sound may it take the place of a connection that we made.
        if !is_answer && !self.settle_crossing(number, hello.node) {
            self.epoll.remove(&hello.pidfd);
            return Ok(());
        }
        let (node, name, pid) = (hello.node, hello.name.into(), hello.pid);
        let peer = Peer { node, name, pid, is_gateway: hello.is_gateway, bell: Arc::new(bell) };
        self.by_node.insert(peer.node, number);
        let reply = (!is_answer).then(|| self.hello());
        let bells = self.introduction.bell.memories().into_iter().zip(0..).skip(1);
        let bells: Vec<_> = bells.map(|(memory, index)| Frame::Bell { index, memory }).collect();
        if let Some(connection) = self.connections.get_mut(&number) {
            if let Some(reply) = reply {
                connection.put(&reply, None);
            }
            // What was held back may be about lines in them.
            connection.put_first(&bells);
            connection.open(peer, hello.pidfd);
        }
        self.flush(number);
        Ok(())
    }

    /// Of two connections that crossed, that which the lower node id made survives. Whether this one, which
    /// `node` made, does.
    fn settle_crossing(&mut self, number: u64, node: NodeId) -> bool {
        let Some(&ours) = self.by_node.get(&node) else { return true };
        let is_established =
            self.connections.get(&ours).is_some_and(|connection| connection.peer().is_some());
        if is_established || self.own.node < node {
            self.remove(number);
            return false;
        }
        if let Some(mut other) = self.remove(ours)
            && let Some(connection) = self.connections.get_mut(&number)
        {
            connection.take_over_from(&mut other);
        }
        true
    }

    /// The peer speaks no version that we understand: everybody who waits for it is told.
    pub(super) fn mismatch(
        &mut self,
        node: NodeId,
        name: &str,
        least: u16,
        most: u16,
    ) -> Result<(), Violation> {
        let reason = format!(
            "it speaks protocol {least} to {most}, we speak {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}; \
             build both from one version"
        );
        self.refuse_all(node, name, &Refusal::Unusable { reason: reason.clone() });
        Err(Violation(reason))
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        connection.forget(&self.epoll);
        Some(connection)
    }

    /// The peer hung up, or its process ended.
    pub(super) fn lose(&mut self, number: u64) {
        let Some(mut lost) = self.remove(number) else { return };
        let Some(node) = lost.node() else { return };
        if self.by_node.get(&node) != Some(&number) {
            return;
        }
        self.by_node.remove(&node);
        if lost.peer().is_none() {
            // It may have hung up on us because it called us first: then that call is waiting to be answered.
            self.accept_all();
            self.serve_strangers();
            if let Some(&survivor) = self.by_node.get(&node)
                && let Some(connection) = self.connections.get_mut(&survivor)
            {
                connection.take_over_from(&mut lost);
                return self.flush(survivor);
            }
        }
        let survivor = Survivor::of(number, lost.pidfd.take());
        // Its receipts first: who waits for them is woken by what follows.
        drop(lost);
        self.forget_node(node, survivor);
    }

    /// A peer broke the rules: it is dropped, and that is counted.
    pub(super) fn expel(&mut self, number: u64, violation: &Violation) {
        let Some(mut expelled) = self.remove(number) else { return };
        let name =
            expelled.peer().map_or_else(|| "a caller".to_owned(), |peer| format!("node `{}`", peer.name));
        self.note_violation(&format!("{name}: {violation}"));
        let (node, survivor) = (expelled.node(), Survivor::of(number, expelled.pidfd.take()));
        drop(expelled);
        if let Some(node) = node
            && self.by_node.get(&node) == Some(&number)
        {
            self.by_node.remove(&node);
            self.forget_node(node, survivor);
        }
    }

    /// Drops the connection to a node whose shared memory broke the rules.
    pub(in crate::node) fn accuse(&mut self, node: NodeId, violation: &Violation) {
        match self.by_node.get(&node) {
            Some(&number) => self.expel(number, violation),
            None => self.note_violation(&violation.0),
        }
    }

    pub(in crate::node) fn note_violation(&mut self, what: &str) {
        self.violations += 1;
        self.last_violation = Some(what.to_owned());
    }
}
