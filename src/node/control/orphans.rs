//! Subscribers whose connection is over and whose process is not known to be: they may be reading at this moment, and hold
//! what they have held. Nothing of that is used again before their process has ended.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Control, pidfd_token};
use crate::node::endpoint::Outlet;
use crate::node::identity::EndpointId;
use crate::os::epoll::Interest;
use crate::os::process;

/// How long publishers wait for the end of a process that has hung up, which mostly follows at once, before they let go of
/// its subscribers.
const GRACE: Duration = Duration::from_secs(1);

/// A process that may outlive its connection, which had this number.
pub(super) struct Survivor {
    number: u64,
    pidfd: Arc<OwnedFd>,
}

/// What a survivor's subscribers read from.
pub(super) struct Orphans {
    survivor: Survivor,
    pairs: Vec<(Arc<dyn Outlet>, EndpointId)>,
    /// When they are let go of, if they have not been.
    let_go_at: Option<Instant>,
}

impl Survivor {
    /// The process behind a connection that is over, unless it has ended as well.
    pub(super) fn of(number: u64, pidfd: Option<Arc<OwnedFd>>) -> Option<Self> {
        let pidfd = pidfd.filter(|pidfd| !process::has_ended(pidfd))?;
        Some(Self { number, pidfd })
    }
}

impl Control {
    /// Keeps what these pairs of outlets of ours and a survivor's inlets share.
    pub(super) fn orphan(&mut self, survivor: Survivor, gone: &[(EndpointId, EndpointId)]) {
        let mut pairs = Vec::new();
        for (outlet, inlet) in gone {
            let Some(record) = self.outlets.get_mut(&outlet.number) else { continue };
            record.readers.remove(inlet);
            pairs.push((Arc::clone(&record.outlet), *inlet));
            if record.is_closed && record.readers.is_empty() {
                self.forget_outlet(outlet.number);
            }
        }
        if pairs.is_empty() {
            return;
        }
        let number = survivor.number;
        let watched = self.epoll.add(&survivor.pidfd, pidfd_token(number), Interest::Read);
        let let_go_at = Some(Instant::now() + GRACE);
        self.orphans.insert(number, Orphans { survivor, pairs, let_go_at });
        self.set_timer();
        // One that cannot be watched is kept for as long as we are here: better too long than not long enough.
        if watched.is_ok() && self.orphans.get(&number).is_some_and(Orphans::have_ended) {
            self.bury(number);
        }
    }

    /// A survivor's inlet has said, on another connection, that it is done with an outlet, or joins it anew, which it does
    /// only when it is.
    pub(super) fn reclaim(&mut self, outlet: EndpointId, inlet: EndpointId) {
        let mut reclaimed = Vec::new();
        for orphans in self.orphans.values_mut() {
            let pairs = &mut orphans.pairs;
            reclaimed.extend(pairs.extract_if(.., |(of, id)| of.id() == outlet && *id == inlet));
        }
        reclaimed.into_iter().for_each(|(outlet, inlet)| outlet.part(inlet));
    }

    /// The process has ended: nobody reads any more.
    pub(super) fn bury(&mut self, number: u64) {
        if let Some(orphans) = self.orphans.remove(&number) {
            self.epoll.remove(orphans.survivor.pidfd.as_fd());
            orphans.pairs.into_iter().for_each(|(outlet, inlet)| outlet.part(inlet));
        }
    }

    /// When the next survivor's subscribers are to be let go of.
    pub(super) fn next_orphans(&self) -> Option<Instant> {
        self.orphans.values().filter_map(|orphans| orphans.let_go_at).min()
    }

    /// Lets go of the subscribers of those who have survived for long enough: nobody waits for them any more.
    pub(super) fn let_go(&mut self) {
        let now = Instant::now();
        for orphans in
            self.orphans.values_mut().filter(|orphans| orphans.let_go_at.is_some_and(|at| at <= now))
        {
            orphans.let_go_at = None;
            orphans.pairs.iter().for_each(|(outlet, inlet)| outlet.let_go(*inlet));
        }
    }
}

impl Orphans {
    fn have_ended(&self) -> bool {
        process::has_ended(&self.survivor.pidfd)
    }
}
