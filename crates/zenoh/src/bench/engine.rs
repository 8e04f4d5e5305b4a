//! The engine alone, as a program would use it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tidepost_zenoh::BridgeOptions;
use zenoh::qos::CongestionControl;
use zenoh::{Session, Wait};
use zenoh_ext::{
    AdvancedPublisher, AdvancedPublisherBuilderExt, AdvancedSubscriberBuilderExt, CacheConfig,
    MissDetectionConfig, RecoveryConfig,
};

use crate::Failure;

/// How the engine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As fast as it is: nothing is kept, and messages are taken on its own thread.
    Bare,
    /// As the link uses it: what is lost is sent again; and messages are received by a thread, as programs do.
    Reliable,
}

/// Sends under one key.
pub struct Sender {
    session: Session,
    which: Which,
    key: &'static str,
    /// One for messages of each length, as the link has, which keeps fewer of the longer ones.
    publishers: HashMap<usize, Publishing>,
}

enum Publishing {
    Bare(zenoh::pubsub::Publisher<'static>),
    Reliable(AdvancedPublisher<'static>),
}

fn failed(error: zenoh::Error) -> Failure {
    error.to_string().into()
}

impl Sender {
    pub fn new(session: &Session, which: Which, key: &'static str) -> Self {
        Self { session: session.clone(), which, key, publishers: HashMap::new() }
    }

    fn publisher(&mut self, size: usize) -> Result<&Publishing, Failure> {
        let vacant = match self.publishers.entry(size) {
            Entry::Occupied(there) => return Ok(there.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let declared = self.session.declare_publisher(self.key).congestion_control(CongestionControl::Block);
        Ok(vacant.insert(match self.which {
            Which::Bare => Publishing::Bare(declared.wait().map_err(failed)?),
            Which::Reliable => {
                let kept = BridgeOptions::new("").kept(size);
                let declared = declared.advanced().cache(CacheConfig::default().max_samples(kept));
                let declared = declared.sample_miss_detection(MissDetectionConfig::default());
                Publishing::Reliable(declared.wait().map_err(failed)?)
            }
        }))
    }

    pub fn send(&mut self, message: Vec<u8>) -> Result<(), Failure> {
        match self.publisher(message.len())? {
            Publishing::Bare(publisher) => publisher.put(message).wait(),
            Publishing::Reliable(publisher) => publisher.put(message).wait(),
        }
        .map_err(failed)
    }

    /// Whether somebody receives, however long messages are.
    pub fn is_matched(&mut self) -> Result<bool, Failure> {
        let status = match self.publisher(0)? {
            Publishing::Bare(publisher) => publisher.matching_status().wait(),
            Publishing::Reliable(publisher) => publisher.matching_status().wait(),
        };
        Ok(status.is_ok_and(|status| status.matching()))
    }
}

/// What receives, as long as it is kept.
pub type Receiving = Box<dyn std::any::Any>;

/// Hands each message under a key to `take`.
pub fn receive(
    session: &Session,
    which: Which,
    key: &'static str,
    mut take: impl FnMut(&[u8]) + Send + 'static,
) -> Result<Receiving, Failure> {
    let declared = session.declare_subscriber(key);
    if which == Which::Bare {
        let take = std::sync::Mutex::new(take);
        let declared = declared.callback(move |sample| {
            let mut take = take.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            take(&sample.payload().to_bytes());
        });
        return Ok(Box::new(declared.wait().map_err(failed)?));
    }
    let recovery = RecoveryConfig::<true>::default();
    let subscriber = declared.advanced().recovery(recovery).wait().map_err(failed)?;
    let received = subscriber.handler().clone();
    std::thread::spawn(move || {
        // It ends with the subscriber.
        while let Ok(sample) = received.recv() {
            take(&sample.payload().to_bytes());
        }
    });
    Ok(Box::new(subscriber))
}
