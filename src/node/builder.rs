//! Opening a node with options.

use std::path::PathBuf;
use std::sync::Arc;

use super::Node;
use super::domain::{Domain, Location, Name};
use super::error::OpenError;
use super::network::{Host, Network};
use super::shared::{Kind, Life};

/// Options of a node; [`Node::builder`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct NodeBuilder {
    name: String,
    location: Location,
    kind: Kind,
    network: Option<Arc<dyn Network>>,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            location: Location::default(),
            kind: Kind { has_thread: true, waits_busily: true, is_gateway: false },
            network: None,
        }
    }
}

impl NodeBuilder {
    /// The node's name, for people: in errors, and for those who look into the domain. `node` unless chosen.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The domain's directory itself, before any environment variable. Created with mode 0700 if it is missing.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.location.directory = Some(path.into());
        self
    }

    /// The name of the domain under the user's usual directory, before any environment variable.
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.location.domain = Some(name.into());
        self
    }

    /// Whether a thread of its own serves the node. Without one, the program calls [`Node::dispatch`] whenever the
    /// node's descriptor is readable; calls that block do it meanwhile.
    pub fn control_thread(mut self, has_control_thread: bool) -> Self {
        self.kind.has_thread = has_control_thread;
        self
    }

    /// Whether calls that wait for a message poll for some 20 µs before they sleep; they do unless chosen, and seldom where messages have come much
    /// later than that eight times in a row. Where they do not, a message is
    /// later by what it takes to wake a thread, some 5 to 50 µs, and the processor is left to others: with few processors and
    /// many who wait, that may be who sends it. Wait sets and [`select`](crate::select) poll all the same.
    pub fn busy_wait(mut self, waits_busily: bool) -> Self {
        self.kind.waits_busily = waits_busily;
        self
    }

    /// Whether the node passes on what it receives, to or from somewhere else; it does not unless chosen. Endpoints of such nodes do not
    /// meet each other: what one has brought in is not carried out by another, and back, and so on for ever.
    pub fn gateway(mut self, is_gateway: bool) -> Self {
        self.kind.is_gateway = is_gateway;
        self
    }

    /// The network that carries the node's domain beyond this machine, as long as the node lives. One at a time does that for a
    /// domain: if another program or a gateway already does, this one stands by.
    pub fn network(self, network: impl Network + 'static) -> Self {
        Self { network: Some(Arc::new(network)), ..self }
    }

    /// Opens the node.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn open(self) -> Result<Node, OpenError> {
        let name = Name::new(&self.name)?;
        let domain = Domain::open(&self.location)?;
        let node = Node { life: Life::begin(name, domain, self.kind)? };
        if let Some(network) = self.network {
            let joined = network.join(&Host::new(node.life.shared()));
            node.life.keep(joined.map_err(|error| OpenError::Network { reason: error.to_string() })?);
        }
        Ok(node)
    }
}
