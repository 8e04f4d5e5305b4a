//! Waiting for one of two endpoints, without a set.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::endpoint::{Endpoint, Look, Waitable};
use super::error::{WaitSetError, unable};
use crate::message::receiver::{EAGER_POLLS, PATIENT_POLLS};
use crate::os::clock::Deadline;
use crate::os::poll;

/// Which of two endpoints has something to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Either {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Blocks until one of two endpoints has something to be received, or was cancelled, or its node shut down: its receiving call
/// then does not wait. Takes nothing. If both have, each is named as often as the other. Makes no system call unless both are
/// empty for a while; from then on each of them has a descriptor. Serves their nodes if they have no control threads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-select-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// use tidepost::{Either, Overflow, select};
///
/// let mut orders = node.topic::<u64>("orders").subscriber()?;
/// let mut stops = node.topic::<u8>("stops").subscriber()?;
/// # let mut publisher = node.topic::<u8>("stops").publisher(Overflow::Block)?;
/// # publisher.send(&3)?;
/// match select(&mut orders, &mut stops)? {
///     Either::First => println!("order {}", *orders.recv()?),
///     Either::Second => println!("stop {}", *stops.recv()?),
/// }
/// # drop((orders, stops, publisher, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`WaitSetError::System`] if there is no descriptor left; [`WaitSetError::Node`] if a node without control thread cannot be
/// served. In a forked child an endpoint of its parent is ready, and its receiving call says what is wrong.
#[inline]
pub fn select<A: Waitable, B: Waitable>(first: &mut A, second: &mut B) -> Result<Either, WaitSetError> {
    loop {
        // A wait without deadline ends with an endpoint.
        if let Some(found) = select_until(first, second, || Deadline::NEVER)? {
            return Ok(found);
        }
    }
}

/// As [`select`], waiting no longer than `timeout`: `None` if nothing came.
///
/// # Errors
/// As [`select`].
#[inline]
pub fn select_timeout<A: Waitable, B: Waitable>(
    first: &mut A,
    second: &mut B,
    timeout: Duration,
) -> Result<Option<Either>, WaitSetError> {
    select_until(first, second, || Deadline::after(timeout))
}

#[inline]
fn select_until<A: Waitable, B: Waitable>(
    first: &mut A,
    second: &mut B,
    deadline: impl FnOnce() -> Deadline,
) -> Result<Option<Either>, WaitSetError> {
    match look(first, second, is_second_first()) {
        None => wait(first, second, deadline()),
        found => Ok(found),
    }
}

/// Whether the second is to be looked at before the first: by chance, as a rhythm could fall in with the caller's.
#[inline]
fn is_second_first() -> bool {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    }
    // George Marsaglia's xorshift, 2003.
    let mut state = STATE.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    state >> 63 == 1
}

#[inline]
fn look<A: Endpoint + ?Sized, B: Endpoint + ?Sized>(
    first: &mut A,
    second: &mut B,
    is_second_first: bool,
) -> Option<Either> {
    if is_second_first && second.look() != Look::Nothing {
        return Some(Either::Second);
    }
    if first.look() != Look::Nothing {
        return Some(Either::First);
    }
    let is_second = !is_second_first && second.look() != Look::Nothing;
    is_second.then_some(Either::Second)
}

/// Looks for a while, then sleeps on both eventfds.
#[cold]
#[inline(never)]
fn wait(
    first: &mut dyn Endpoint,
    second: &mut dyn Endpoint,
    deadline: Deadline,
) -> Result<Option<Either>, WaitSetError> {
    loop {
        for round in 0..EAGER_POLLS + PATIENT_POLLS {
            let found = look(first, second, round % 2 == 1);
            if found.is_some() {
                return Ok(found);
            }
            if round >= EAGER_POLLS {
                std::hint::spin_loop();
            }
        }
        if deadline.has_passed() {
            return Ok(None);
        }
        // The descriptors are there before anything is prepared for them.
        let endpoints = [&mut *first, &mut *second];
        for endpoint in &endpoints {
            endpoint.eventfd().map_err(unable("create an eventfd for the endpoint"))?;
        }
        let are_prepared = endpoints.map(|endpoint| endpoint.prepare()) == [true; 2];
        let until = if are_prepared { deadline } else { Deadline::after(Duration::ZERO) };
        sleep([&*first, &*second], until)?;
    }
}

/// Sleeps until either is rung, or the deadline, and serves their nodes if nobody else does.
fn sleep(endpoints: [&dyn Endpoint; 2], deadline: Deadline) -> Result<(), WaitSetError> {
    let served = endpoints.map(Endpoint::node).into_iter().filter(|node| !node.shared().has_thread());
    let mut sources: Vec<BorrowedFd<'_>> = served.clone().map(AsFd::as_fd).collect();
    for endpoint in endpoints {
        let eventfd = endpoint.eventfd().map_err(unable("create an eventfd for the endpoint"))?;
        sources.push(eventfd.as_fd());
    }
    poll::wait_readable(&sources, deadline).map_err(unable("wait for two endpoints"))?;
    for node in served {
        let failed = |source| WaitSetError::Node { node: node.name().to_owned(), source };
        node.dispatch().map_err(failed)?;
    }
    Ok(())
}
