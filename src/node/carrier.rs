//! Messages that whoever sends them carries on, in place of a thread that reads them.

use std::fmt;

use super::descriptor::TypeDescriptor;
use super::identity::EndpointId;

/// Carries what is published in the node that hosts it to somewhere else, each message on the thread that publishes it, so that no other
/// has to be woken for that. For gateways that live in the program whose messages they pass on; see
/// [`Topic::carried_by`](crate::Topic::carried_by).
pub trait Carrier: fmt::Debug + Send + Sync {
    /// A publisher of the host's has let the subscriber in, which receives its messages from number `next` on. Returns at once.
    fn begin(&self, publisher: EndpointId, message_type: &TypeDescriptor, next: u64) -> Box<dyn Carrying>;
}

/// Carries what one publisher sends. It is asked on the publisher's thread, before and after each message is published.
pub trait Carrying: Send {
    /// This message is about to be published, with this number. Returns soon, with what is to be carried copied: subscribers in this
    /// domain have not got it yet.
    fn load(&mut self, number: u64, message: &[u8]) -> Load;
    /// The message that was loaded has been published, and who sleeps has been woken: it is carried now, which may take its time.
    fn carry(&mut self);
}

/// What becomes of a message that was shown to who carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It is carried. The subscriber receives it nevertheless, later: it has to know that it is settled.
    Taken,
    /// It is left to the subscriber: one before it is on its way there.
    Left,
    /// Nothing is carried any more.
    Over,
}
