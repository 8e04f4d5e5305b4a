//! What a wait set or a select needs of an endpoint: little, so that every kind of endpoint has it.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io;

use crate::node::Node;

/// What a look at an endpoint found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A receiving call would have to wait.
    Nothing,
    /// It would not.
    Ready,
    /// It would not, as the endpoint was cancelled or its node shut down, and nothing is left.
    Closed,
}

/// The part of [`Waitable`] that is nobody else's business.
pub trait Endpoint: Any + Send {
    /// What a receiving call would find now. Makes no system call, and leaves what is there. A call that would fail at once is
    /// ready.
    #[doc(hidden)]
    fn look(&mut self) -> Look;

    /// After a look that found nothing: has the eventfd become readable with the next news, and be unreadable until then.
    /// `false` if there may be news already; then everything has to be looked at again, and prepared again.
    #[doc(hidden)]
    fn prepare(&mut self) -> bool;

    /// Whether what was prepared stands: nobody has rung since, nor used the endpoint in another way. If it was prepared and
    /// looked at without finding news, there is none then.
    #[doc(hidden)]
    fn is_prepared(&self) -> bool;

    /// The endpoint's own eventfd, made by the first call; always the same. Cancelling the endpoint makes it readable, and so does
    /// the shutdown of its node.
    #[doc(hidden)]
    fn eventfd(&self) -> io::Result<&Arc<OwnedFd>>;

    /// Its node, which whoever waits has to serve if it has no thread.
    #[doc(hidden)]
    fn node(&self) -> &Node;
}

/// An endpoint that can be waited for together with others: in a [`WaitSet`](crate::WaitSet), or with
/// [`select`](crate::select). It cannot be implemented outside this crate.
pub trait Waitable: Endpoint {}

/// Makes an endpoint [`Waitable`] that looks with `$look` and sleeps as what is in this field does.
macro_rules! waitable {
    ([$($parameters:tt)*] $endpoint:ty, $field:ident, $look:expr) => {
        impl<$($parameters)*> $crate::message::wait_set::Endpoint for $endpoint {
            #[inline]
            fn look(&mut self) -> $crate::message::wait_set::Look {
                ($look)(self)
            }

            fn prepare(&mut self) -> bool {
                self.$field.prepare_eventfd()
            }

            #[inline]
            fn is_prepared(&self) -> bool {
                self.$field.is_prepared()
            }

            fn eventfd(&self) -> rustix::io::Result<&std::sync::Arc<std::os::fd::OwnedFd>> {
                self.$field.own_eventfd()
            }

            fn node(&self) -> &$crate::node::Node {
                self.$field.node()
            }
        }

        impl<$($parameters)*> $crate::message::wait_set::Waitable for $endpoint {}
    };
}

pub(in crate::message) use waitable;
