//! Opening a node with options.

use std::path::PathBuf;
use std::sync::Arc;

use super::Node;
use super::domain::{Domain, Location, Name};
use super::error::OpenError;
use super::network::Network;
use super::shared::Life;

/// Options of a node; [`Node::builder`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct NodeBuilder {
    name: String,
    location: Location,
    has_control_thread: bool,
    waits_busily: bool,
    network: Option<Arc<dyn Network>>,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            location: Location::default(),
            has_control_thread: true,
            waits_busily: true,
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
    pub fn control_thread(self, has_control_thread: bool) -> Self {
        Self { has_control_thread, ..self }
    }

    /// Whether calls that wait for a message poll for some 20 µs before they sleep; they do unless chosen. Where they do not, a message is
    /// later by what it takes to wake a thread, some 5 to 50 µs, and the processor is left to others: with few processors and
    /// many who wait, that may be who sends it. Wait sets and [`select`](crate::select) poll all the same.
    pub fn busy_wait(self, waits_busily: bool) -> Self {
        Self { waits_busily, ..self }
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
        let node = Node { life: Life::begin(name, domain, (self.has_control_thread, self.waits_busily))? };
        if let Some(network) = self.network {
            let joined = network.join(node.directory(), node.name());
            node.life.keep(joined.map_err(|error| OpenError::Network { reason: error.to_string() })?);
        }
        Ok(node)
    }
}
