//! Clients and servers among others that are waited for.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io;

use super::{Client, Server};
use crate::message::payload::Payload;
use crate::message::wait_set::{Endpoint, Look, Waitable};
use crate::node::Node;

/// An endpoint whose core looks, and sleeps where its receiver does.
macro_rules! waitable {
    ($(#[$ready:meta])* $endpoint:ident where E: $($bounds:tt)+) => {
        impl<Req, Resp, E> Endpoint for $endpoint<Req, Resp, E>
        where
            Req: Payload + ?Sized,
            Resp: Payload + ?Sized,
            E: $($bounds)+,
        {
            fn look(&mut self) -> Look {
                self.core.look()
            }

            fn prepare(&mut self) -> bool {
                self.core.prepare()
            }

            fn is_prepared(&self) -> bool {
                self.core.receiver.is_prepared()
            }

            fn eventfd(&self) -> io::Result<&Arc<OwnedFd>> {
                self.core.receiver.own_eventfd()
            }

            fn node(&self) -> &Node {
                self.core.receiver.node()
            }
        }

        $(#[$ready])*
        impl<Req, Resp, E> Waitable for $endpoint<Req, Resp, E>
        where
            Req: Payload + ?Sized,
            Resp: Payload + ?Sized,
            E: $($bounds)+,
        {
        }
    };
}

waitable! {
    /// A server is ready when a request is there.
    Server where E: Payload + ?Sized
}
waitable! {
    /// A client is ready when something has come for one of its calls.
    Client where E: Payload + Debug + ?Sized
}
