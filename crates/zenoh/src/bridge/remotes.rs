//! The other machines, and the nodes that stand for them here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidepost::{Node, OpenError};

use super::{NODE_NAME, open_node};
use crate::envelope::DomainId;

/// What stands for clients of the engine that are no programs of ours.
const STRANGERS: &str = "zenoh";
/// Machines for which there are nodes at once; what comes from others has one node together.
const NODES_MAX: usize = 256;
/// Domains that are remembered; those that are there always are.
const KNOWN_MAX: usize = 4096;

/// The other domains that are there.
#[derive(Debug)]
pub(crate) struct Remotes {
    own: DomainId,
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    machines: HashMap<String, String>,
    /// Since when domains are known, those among them that have gone.
    known_since: HashMap<String, Instant>,
    nodes: HashMap<String, Node>,
    /// How often a machine has come, and has gone.
    arrivals: u64,
    departures: u64,
}

impl Remotes {
    pub(super) fn new(own: DomainId, directory: PathBuf) -> Self {
        Self { own, directory, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A domain has been seen, or is gone.
    pub(super) fn show(&self, domain: &str, machine: &str, is_there: bool) {
        if domain == self.own.to_string() {
            return;
        }
        let mut state = self.state();
        if is_there {
            if state.known_since.len() >= KNOWN_MAX {
                let State { machines, known_since, .. } = &mut *state;
                known_since.retain(|domain, _| machines.contains_key(domain));
            }
            state.known_since.entry(domain.to_owned()).or_insert_with(Instant::now);
            state.machines.insert(domain.to_owned(), machine.to_owned());
            state.arrivals += 1;
        } else if state.machines.remove(domain).is_some() {
            state.departures += 1;
            // It lives as long as somebody is there under its name.
            if !state.machines.values().any(|other| other == machine) {
                state.nodes.remove(&format!("{NODE_NAME}/{machine}"));
            }
        }
    }

    /// What the machines are called.
    pub(super) fn machines(&self) -> Vec<String> {
        let mut machines: Vec<String> = self.state().machines.values().cloned().collect();
        machines.sort();
        machines
    }

    /// Whether the domain is there; what has no domain always is.
    pub(crate) fn is_there(&self, domain: Option<DomainId>) -> bool {
        domain.is_none_or(|domain| self.state().machines.contains_key(&domain.to_string()))
    }

    /// For how long the domain has been known, whether it was there all the time or not.
    pub(crate) fn known_for(&self, domain: DomainId) -> Duration {
        self.state().known_since.get(&domain.to_string()).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// How often a domain has gone: if it is the same as before, all are still there.
    pub(crate) fn departures(&self) -> u64 {
        self.state().departures
    }

    /// How often a domain has come.
    pub(crate) fn arrivals(&self) -> u64 {
        self.state().arrivals
    }

    /// The node that stands for the machine of a domain, or for whoever has none.
    pub(crate) fn node(&self, domain: Option<DomainId>) -> Result<Node, OpenError> {
        let mut state = self.state();
        let machine = match domain {
            None => STRANGERS.to_owned(),
            Some(domain) => {
                let id = domain.to_string();
                state.machines.get(&id).cloned().unwrap_or_else(|| id[..8].to_owned())
            }
        };
        let name = format!("{NODE_NAME}/{machine}");
        let is_room = state.nodes.len() < NODES_MAX || state.nodes.contains_key(&name);
        let name = if is_room { name } else { format!("{NODE_NAME}/others") };
        if let Some(node) = state.nodes.get(&name) {
            return Ok(node.clone());
        }
        let node = open_node(&name, &self.directory)?;
        state.nodes.insert(name, node.clone());
        Ok(node)
    }
}
