//! The sending end of a topic.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::error::{CloseError, Refused, SendError, TopicError, WaitError};
use super::event::{Counterpart, Event};
use super::loan::Loan;
use super::outlet::PublisherShared;
use super::payload::{Message, Payload, Untyped, extent_of};
use super::prefix::{HeaderType, Said};
use super::relayed::Relayed;
use super::sender::{Sender, length_of};
use crate::node::{EndpointId, Outlet};
use crate::os::clock::Deadline;

/// Publishes messages of type `T` on a topic, made by [`Topic::publisher`](super::Topic::publisher).
///
/// One thread sends; `&mut self` says so. On the way of a message there are only loads, stores and at most one fence:
/// no system call unless a subscriber sleeps, no lock, no allocation. Several threads each have a publisher of their own,
/// which [`Publisher::try_clone`] makes: they share nothing that is written, so that none slows another down.
///
/// With no subscriber a message is published and read by nobody. A subscriber that dies holds nobody back.
pub struct Publisher<T: ?Sized> {
    sender: Sender,
    header: Option<HeaderType>,
    messages: PhantomData<fn(&T)>,
}

impl<T: Payload + ?Sized> Publisher<T> {
    pub(super) fn new(sender: Sender, header: Option<HeaderType>) -> Self {
        Self { sender, header, messages: PhantomData }
    }

    /// Copies `message` into shared memory and publishes it. Under [`Overflow::Block`](super::Overflow::Block)
    /// it waits for room as long as it takes.
    ///
    /// # Errors
    /// [`SendError::Full`] where the policy is not to wait, and everything is held or read too slowly, or where waiting is of
    /// no use, because messages of other sizes have taken what the pool may have;
    /// [`SendError::Segment`] if a large message finds no memory; [`SendError::Closed`].
    #[inline(always)]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.check_length(message)?;
        self.sender.send(message.as_bytes())
    }

    /// As [`Publisher::send`], waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::send`], and [`SendError::Timeout`].
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.check_length(message)?;
        self.sender.send_until(None, &[message.as_bytes()], || Deadline::after(timeout))
    }

    /// As [`Publisher::send`], with a header, for a publisher that was made with
    /// [`header`](super::Topic::header). Other ways of sending leave the header zero.
    ///
    /// # Errors
    /// As [`Publisher::send`], and [`SendError::Header`].
    pub fn send_with<H: Message>(&mut self, header: &H, message: &T) -> Result<(), SendError> {
        self.check_header::<H>()?;
        self.check_length(message)?;
        self.sender
            .send_until(Some(Said::Header(header.as_bytes())), &[message.as_bytes()], || Deadline::NEVER)
    }

    /// As [`Publisher::send_with`], waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::send_with`], and [`SendError::Timeout`].
    pub fn send_with_timeout<H: Message>(
        &mut self,
        header: &H,
        message: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.check_header::<H>()?;
        self.check_length(message)?;
        self.sender.send_until(Some(Said::Header(header.as_bytes())), &[message.as_bytes()], || {
            Deadline::after(timeout)
        })
    }

    /// As [`Publisher::send`], for a message that is passed on for who sent it first, by a publisher that was made with
    /// [`relaying`](super::Topic::relaying).
    ///
    /// # Errors
    /// As [`Publisher::send`]; [`SendError::NotRelaying`]; [`SendError::Header`] if the header has not the length of its type.
    pub fn relay(&mut self, relayed: &Relayed<'_>, message: &T) -> Result<(), SendError> {
        self.check_relayed(relayed)?;
        self.check_length(message)?;
        self.sender.send_until(Some(Said::Relayed(relayed)), &[message.as_bytes()], || Deadline::NEVER)
    }

    /// Publishes many messages, and looks for sleeping subscribers once. What was published before it has to
    /// wait for room, or fails, is on its way.
    ///
    /// # Errors
    /// As [`Publisher::send`]; the error says how many of this call were sent.
    #[inline]
    pub fn send_many<'m>(&mut self, messages: impl IntoIterator<Item = &'m T>) -> Result<(), SendError> {
        let length = self.length_checker();
        let mut burst = self.sender.burst();
        let mut sent = 0;
        messages.into_iter().try_for_each(|message| {
            length(message)?;
            burst.put(message.as_bytes()).map(|()| sent += 1).map_err(|error| error.after(sent))
        })
    }

    fn check_header<H: Message>(&self) -> Result<(), SendError> {
        if self.header.as_ref().is_some_and(HeaderType::is::<H>) {
            Ok(())
        } else {
            Err(SendError::Header { channel: self.sender.shared().channel.clone() })
        }
    }

    fn check_relayed(&self, relayed: &Relayed<'_>) -> Result<(), SendError> {
        let channel = || self.sender.shared().channel.clone();
        if self.sender.prefix().relayed_at().is_none() {
            return Err(SendError::NotRelaying { channel: channel() });
        }
        let due = self.header.as_ref().map_or(0, |header| header.descriptor.size);
        match relayed.header {
            Some(header) if header.len() as u64 != due => Err(SendError::Header { channel: channel() }),
            _ => Ok(()),
        }
    }

    /// Types that are known when the program is built need no check, and this is nothing.
    #[inline(always)]
    fn check_length(&self, message: &T) -> Result<(), SendError> {
        if T::IS_TYPED { Ok(()) } else { check_untyped(self.sender.shared(), message.as_bytes().len()) }
    }

    fn length_checker(&self) -> impl Fn(&T) -> Result<(), SendError> + use<T> {
        let shared = (!T::IS_TYPED).then(|| Arc::clone(self.sender.shared()));
        move |message| {
            shared.as_ref().map_or(Ok(()), |shared| check_untyped(shared, message.as_bytes().len()))
        }
    }

    /// Another publisher of the same topic with the same options, for another thread. Subscribers see it as a publisher of
    /// its own, with its own order and numbers. Returns once the subscribers that are there have let it in.
    ///
    /// # Errors
    /// As [`Topic::publisher`](super::Topic::publisher).
    pub fn try_clone(&self) -> Result<Self, TopicError> {
        Ok(Self::new(self.sender.another()?, self.header.clone()))
    }

    /// How many messages it has sent.
    #[inline(always)]
    pub(super) fn sent(&self) -> u64 {
        self.sender.tail()
    }

    /// Its identity, which samples name as theirs.
    pub fn id(&self) -> EndpointId {
        self.sender.shared().id()
    }

    /// Waits until `count` subscribers have been let in, no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], which also names those that turned this publisher down; [`WaitError::Closed`].
    pub fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.sender.wait_for_readers(count, timeout)
    }

    /// How many subscribers read from this publisher.
    pub fn subscribers(&self) -> usize {
        self.sender.readers()
    }

    /// Who turned this publisher down so far, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.sender.refusals()
    }

    /// The next event that has not been asked for: subscribers that join, leave or cannot be connected, and waits for those
    /// that are too slow. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.sender.shared().events.take()
    }

    /// As [`Publisher::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.sender.wait_for_event(timeout)
    }

    /// A handle for other threads, to see who blocks this publisher and to end its waits.
    pub fn handle(&self) -> PublisherHandle {
        PublisherHandle { shared: Arc::clone(self.sender.shared()) }
    }

    /// Waits until every subscriber that this publisher waits for has read everything, no longer than `timeout`, and drops
    /// the publisher. A subscriber that reads one message and asks for no further one has not said that it has read it.
    ///
    /// Dropping a publisher loses nothing either: what it has published stays readable as long as its subscribers live.
    ///
    /// # Errors
    /// [`CloseError::Timeout`], which names those who have not read everything.
    pub fn close(mut self, timeout: Duration) -> Result<(), CloseError> {
        self.sender.drain(timeout)
    }
}

#[cold]
fn check_untyped(shared: &PublisherShared, given: usize) -> Result<(), SendError> {
    if extent_of(shared.descriptor()).fits(given as u64) {
        return Ok(());
    }
    let message_type = shared.descriptor().to_string();
    Err(SendError::Length { channel: shared.channel.clone(), given, message_type })
}

impl<T: Message> Publisher<T> {
    /// Lends memory for one message, to be written in place and then sent. It holds the bytes of some earlier
    /// message, or zeros. Waits for room like [`Publisher::send`].
    ///
    /// # Errors
    /// As [`Publisher::send`].
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError> {
        Loan::new(&mut self.sender, None, size_of::<T>())
    }

    /// As [`Publisher::loan`], with a header.
    ///
    /// # Errors
    /// As [`Publisher::send_with`].
    pub fn loan_with<H: Message>(&mut self, header: &H) -> Result<Loan<'_, T>, SendError> {
        self.check_header::<H>()?;
        Loan::new(&mut self.sender, Some(Said::Header(header.as_bytes())), size_of::<T>())
    }
}

impl<T: Message> Publisher<[T]> {
    /// Lends memory for one message of `length` elements, to be written in place and then sent. It holds the
    /// bytes of some earlier message, or zeros. Waits for room like [`Publisher::send`].
    ///
    /// # Errors
    /// As [`Publisher::send`]; [`SendError::TooLarge`] if no address space holds as much.
    #[inline]
    pub fn loan(&mut self, length: usize) -> Result<Loan<'_, [T]>, SendError> {
        // A product that overflows is asked for as such, and refused as too large.
        let bytes = length.saturating_mul(size_of::<T>());
        Loan::new(&mut self.sender, None, bytes)
    }

    /// As [`Publisher::loan`], with a header.
    ///
    /// # Errors
    /// As [`Publisher::send_with`].
    pub fn loan_with<H: Message>(&mut self, header: &H, length: usize) -> Result<Loan<'_, [T]>, SendError> {
        self.check_header::<H>()?;
        let bytes = length.saturating_mul(size_of::<T>());
        Loan::new(&mut self.sender, Some(Said::Header(header.as_bytes())), bytes)
    }
}

impl Publisher<Untyped> {
    /// Lends memory for one message of `length` bytes, to be written in place and then sent.
    ///
    /// # Errors
    /// As [`Publisher::send`], and [`SendError::Length`].
    pub fn loan(&mut self, length: usize) -> Result<Loan<'_, Untyped>, SendError> {
        check_untyped(self.sender.shared(), length)?;
        Loan::new(&mut self.sender, None, length)
    }

    /// As [`Publisher::relay`], for a message in pieces, as a network has it, which are copied one behind the other. Waits for room no
    /// longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::relay`], [`SendError::Length`], and [`SendError::Timeout`].
    pub fn relay_pieces(
        &mut self,
        relayed: &Relayed<'_>,
        pieces: &[&[u8]],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.check_relayed(relayed)?;
        check_untyped(self.sender.shared(), length_of(pieces))?;
        self.sender.send_until(Some(Said::Relayed(relayed)), pieces, || Deadline::after(timeout))
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publisher").field("sender", &self.sender).finish()
    }
}

/// A publisher seen from other threads, made by [`Publisher::handle`]. It does not keep the publisher alive.
#[derive(Clone, Debug)]
pub struct PublisherHandle {
    shared: Arc<PublisherShared>,
}

impl PublisherHandle {
    /// Ends the publisher's waits with `Closed`, the one it may be in and any that it would begin. It sends no more.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many subscribers read from the publisher.
    pub fn subscribers(&self) -> usize {
        self.shared.readers()
    }

    /// Lets go of a subscriber, one that is stopped for instance and blocks the publisher: nobody waits for it any more. It
    /// still receives what was sent until then, and nothing after. `false` if there is no such subscriber. Done by the
    /// publisher, when it sends the next message or in the wait that it is in.
    pub fn detach(&self, subscriber: EndpointId) -> bool {
        self.shared.detach(subscriber)
    }

    /// The subscribers that the publisher is waiting for at this moment, because of what they have not read, or hold; none if
    /// it is not waiting.
    pub fn blocked_by(&self) -> Vec<Counterpart> {
        self.shared.blocked_by()
    }
}
