//! A gateway: a link, and the bridge over it.

use std::sync::Arc;
use std::time::Duration;

use tidepost::{Host, Joined};

use crate::bridge::{Bridge, BridgeError, BridgeOptions, Status};
use crate::engine::Zenoh;
use crate::link::{Link, LinkError, SharedLink};
use crate::rules::Rules;
use crate::settings::Settings;

/// How long closing may take: what has not been sent by then is not.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Why a gateway does not work.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The network cannot be had.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The bridge cannot be had.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

/// A gateway at work. Dropping it ends it, within two seconds.
#[derive(Debug)]
pub struct Gateway {
    // Before the link: it uses that.
    bridge: Option<Bridge>,
    link: Arc<Zenoh>,
}

impl Gateway {
    /// Opens the network, and begins to carry.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn start(settings: &Settings, options: BridgeOptions) -> Result<Self, GatewayError> {
        let link = Arc::new(Zenoh::open(settings)?);
        let shared: SharedLink = Arc::clone(&link) as SharedLink;
        let bridge = Bridge::start(shared, options);
        match bridge {
            Ok(bridge) => Ok(Self { bridge: Some(bridge), link }),
            Err(error) => {
                // It is for the first error that this ends.
                let _ = link.close(CLOSE_TIMEOUT);
                Err(error.into())
            }
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<String> {
        self.link.addresses()
    }

    /// What it does at this moment.
    pub fn status(&self) -> Status {
        self.bridge.as_ref().map(Bridge::status).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.bridge.take());
        // A link that does not close in time is left to itself.
        let _ = self.link.close(CLOSE_TIMEOUT);
    }
}

/// The network, for a node that is to carry it itself.
///
/// ```no_run
/// use tidepost::Node;
/// use tidepost_zenoh::{Network, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings { connect: vec!["tcp/robot:7447".to_owned()], ..Settings::default() };
/// let node = Node::builder().name("camera").network(Network::new(settings)).open()?;
/// # drop(node);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    settings: Settings,
    rules: Rules,
    realm: String,
    machine: Option<String>,
    is_inline: bool,
}

impl Network {
    /// A network with these settings; everything crosses.
    pub fn new(settings: Settings) -> Self {
        let (rules, realm) = (Rules::everything(), BridgeOptions::REALM.to_owned());
        Self { settings, rules, realm, machine: None, is_inline: false }
    }

    /// What crosses.
    pub fn rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The realm; `tidepost` unless chosen.
    pub fn realm(self, realm: impl Into<String>) -> Self {
        Self { realm: realm.into(), ..self }
    }

    /// What this machine is called on others; the host's name unless chosen.
    pub fn machine(self, machine: impl Into<String>) -> Self {
        Self { machine: Some(machine.into()), ..self }
    }

    /// Whether the node's own `Block` publishers hand their messages to the network themselves, each on its own thread, as it is with the
    /// engine alone; they do not unless chosen. No other thread has to be woken for that, so messages are there sooner. But a link that is
    /// full holds up who sends, and one that is dead and full does once, for half of the lease, local subscribers' messages included:
    /// neither the time-out of a sending call nor `cancel` ends that.
    /// Publishers with a history, times or headers go the usual way, and so do those of other policies and of other programs.
    pub fn inline(self, is_inline: bool) -> Self {
        Self { is_inline, ..self }
    }
}

impl tidepost::Network for Network {
    fn join(&self, host: &Host) -> Result<Joined, Box<dyn std::error::Error + Send + Sync>> {
        let mut options = BridgeOptions::new(host.directory());
        options.inline = self.is_inline.then(|| host.clone());
        options.rules = self.rules.clone();
        options.realm = self.realm.clone();
        if let Some(machine) = &self.machine {
            options.machine = machine.clone();
        }
        Ok(Box::new(Gateway::start(&self.settings, options)?))
    }
}
