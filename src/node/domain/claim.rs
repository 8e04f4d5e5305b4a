//! Claims: at most one endpoint of the whole domain holds a channel's claim, and each holder learns how many there were.
//!
//! A claim is the lock on a file of the channel's, which stays between holders: it has the *epoch*, which every holder
//! raises, and who that is, for people. The lock goes with its holder's process, however that ends. A forked child does
//! not keep it, unless a bare system call made the child; then it lasts until the child runs another program or ends.
//!
//! The file is removed, by who holds the lock, when nobody has an entry in the channel any more: by the holder that
//! leaves, or by the next who opens the domain. So as long as anybody lives who may have seen an epoch, the next is higher.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::{self, Errno};

use super::{Channel, Domain, Role};
use crate::os::fork::Process;
use crate::os::process;
use crate::os::unshared::Unshared;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 1024;
/// How often a claimant opens the file again because it was removed meanwhile.
const ATTEMPTS_MAX: usize = 100;
/// How long a claimant waits for the lock of a channel in which nobody sends: the holder is leaving, or is one who cleans up.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(1);
/// The last epoch: versions have so many bits for it.
pub(crate) const EPOCH_MAX: u64 = (1 << 22) - 1;

/// Why a channel could not be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Somebody else holds it.
    #[error("it is claimed by {}", .by.as_deref().unwrap_or("somebody who has not said who it is"))]
    Held {
        /// Process and node, as they say themselves.
        by: Option<String>,
    },
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System { action: String, source: Errno },
}

/// A channel that is held, until this is dropped or its process ends.
pub(crate) struct Claim {
    domain: Arc<Domain>,
    file_name: String,
    node_name: String,
    lock: Unshared,
    epoch: u64,
    /// A forked child has the parent's memory, and must not let go of what the parent holds.
    process: Process,
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Note {
    epoch: u64,
    holder: Option<String>,
}

impl Note {
    fn read(file: impl AsFd) -> io::Result<Self> {
        let mut bytes = [0; FILE_BYTES_MAX];
        let count = io::pread(file, &mut bytes, 0)?;
        Ok(Self::parse(&bytes[..count]))
    }

    /// What a file that may be cut short, or anything at all, still says. A number that is no epoch was never one.
    fn parse(bytes: &[u8]) -> Self {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let epoch = text(&bytes[..digits]).and_then(|digits| digits.parse().ok());
        let holder = text(&bytes[digits..]).and_then(|rest| rest.strip_prefix('\n')?.split_once('\n'));
        let holder =
            holder.and_then(|(pid, rest)| Some((pid.parse::<u32>().ok()?, rest.split_once('\n')?.0)));
        Self {
            epoch: epoch.filter(|epoch| *epoch <= EPOCH_MAX).unwrap_or(0),
            holder: holder.map(|(pid, node)| format!("node `{node}` (process {pid})")),
        }
    }
}

impl Claim {
    /// The highest epoch that is the holder's: at first one more than the last of whoever held the channel before.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes further epochs along, up to this one: the next holder's comes after them.
    pub(crate) fn raise_to(&mut self, epoch: u64) -> io::Result<()> {
        if epoch > self.epoch
            && !self.process.is_parent()
            && let Some(file) = self.lock.get()
        {
            write(file, epoch, &self.node_name)?;
            self.epoch = epoch;
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.process.is_parent() {
            self.domain.remove_claim_if_unused(&self.file_name);
            // The descriptor may live on in a child that a bare system call made.
            let _ = self.lock.get().map(process::unlock);
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Claim");
        fields.field("file_name", &self.file_name).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Domain {
    /// Claims a channel, for a node with this name. Does not wait for its holder to end, but for a tenth of a second at
    /// most if nobody sends in the channel, as the lock is then about to be free.
    pub(crate) fn claim(self: &Arc<Self>, channel: &Channel, node_name: &str) -> Result<Claim, ClaimError> {
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            let outcome = self.try_claim(channel, node_name);
            let is_held = matches!(outcome, Err(ClaimError::Held { .. }));
            if !is_held || self.has_sender(channel) || Instant::now() >= patience_ends {
                return outcome;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// As [`Domain::claim`], without any wait.
    pub(crate) fn try_claim(
        self: &Arc<Self>,
        channel: &Channel,
        node_name: &str,
    ) -> Result<Claim, ClaimError> {
        let failed = |source| {
            let action = format!("claim {channel} in the domain directory {}", self.path().display());
            ClaimError::System { action, source }
        };
        let file_name = channel.file_name();
        for _ in 0..ATTEMPTS_MAX {
            let lock = Unshared::new(|| self.open_claim(&file_name, OFlags::CREATE)).map_err(failed)?;
            let file = lock.get().ok_or(Errno::BADF).map_err(failed)?;
            if !process::try_lock(file).map_err(failed)? {
                let by = Note::read(file).map_err(failed)?.holder;
                return Err(ClaimError::Held { by });
            }
            if self.is_still_claim(&file_name, file) {
                let epoch = Note::read(file).map_err(failed)?.epoch + 1;
                write(file, epoch, node_name).map_err(failed)?;
                let (domain, process) = (Arc::clone(self), Process::current());
                return Ok(Claim {
                    domain,
                    file_name,
                    node_name: node_name.to_owned(),
                    lock,
                    epoch,
                    process,
                });
            }
        }
        Err(failed(Errno::BUSY))
    }

    /// Whether a channel may ever have been claimed by anybody whom those who use it may remember.
    pub(crate) fn was_claimed(&self, channel: &Channel) -> bool {
        fs::statat(&self.claims, channel.file_name(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether anybody has an entry in the channel that sends.
    fn has_sender(&self, channel: &Channel) -> bool {
        self.entries(Role::Outlet, channel).is_ok_and(|senders| !senders.is_empty())
    }

    fn open_claim(&self, file_name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        fs::openat(&self.claims, file_name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Whether the name still means the file that we opened: it may have been removed since.
    fn is_still_claim(&self, file_name: &str, opened: impl AsFd) -> bool {
        super::is_still(&self.claims, file_name, opened)
    }

    /// Removes the file of a claim that we hold, unless anybody uses the channel. Who comes later finds nobody either who
    /// could have seen an epoch: an entry is written before its endpoint looks for others.
    fn remove_claim_if_unused(&self, file_name: &str) {
        if self.files_of_name(file_name).is_ok_and(|files| files.is_empty()) {
            // What cannot be removed now is removed by the next open.
            let _ = fs::unlinkat(&self.claims, file_name, AtFlags::empty());
        }
    }

    /// Removes the claims that nobody holds, of channels that nobody uses.
    pub(super) fn reap_claims(&self) -> io::Result<()> {
        for file_name in self.claims.names()? {
            // Most of those that are held are told apart without their lock, which a claimant could miss for that time.
            if !self.files_of_name(&file_name)?.is_empty() {
                continue;
            }
            // A child that is forked at this moment is not to keep the lock.
            let opened = Unshared::new(|| self.open_claim(&file_name, OFlags::empty()));
            let Ok(opened) = opened else { continue };
            let Some(file) = opened.get() else { continue };
            if process::try_lock(file).unwrap_or(false) && self.is_still_claim(&file_name, file) {
                self.remove_claim_if_unused(&file_name);
            }
            // Nor is one that a bare system call makes.
            let _ = process::unlock(file);
        }
        Ok(())
    }
}

/// Writes an epoch into a file that we have locked, and who we are.
fn write(file: impl AsFd, epoch: u64, node_name: &str) -> io::Result<()> {
    if epoch > EPOCH_MAX {
        return Err(Errno::OVERFLOW);
    }
    let text = format!("{epoch}\n{}\n{node_name}\n", process::pid());
    // Shorter than a page, and the epoch at its start: it is there as a whole, or not at all.
    if io::pwrite(&file, text.as_bytes(), 0)? != text.len() {
        return Err(Errno::NOSPC);
    }
    // What a longer text before may leave behind it concerns nobody.
    let _ = fs::ftruncate(&file, text.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::tests::Scratch;
    use crate::node::domain::{Channel, Membership, Name, Pattern};
    use crate::node::identity::NodeId;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn domain(scratch: &Scratch) -> Arc<Domain> {
        Arc::new(scratch.domain())
    }

    fn claimed(domain: &Arc<Domain>) -> Claim {
        domain.claim(&channel(), "a node").expect("nobody holds it")
    }

    fn member(scratch: &Scratch) -> Membership {
        let id = NodeId::random().expect("random bits are available");
        let membership = Membership::new(scratch.domain(), id, &Name::new("n").expect("it is a name"));
        membership.expect("it can join")
    }

    fn channel() -> Channel {
        Channel::new(Pattern::State, "t").expect("it is a name")
    }

    fn file(scratch: &Scratch) -> std::path::PathBuf {
        scratch.path().join("domain/claims/state:t")
    }

    #[test]
    fn one_holds_a_name_and_the_others_learn_who() {
        let scratch = Scratch::new();
        let (first, second) = (domain(&scratch), domain(&scratch));
        let claim = claimed(&first);
        let by = Some(format!("node `a node` (process {})", process::pid()));
        for other in [&first, &second] {
            assert_eq!(
                other.claim(&channel(), "b").expect_err("it is held"),
                ClaimError::Held { by: by.clone() }
            );
        }
        let other = Channel::new(Pattern::Table, "t").expect("it is a name");
        assert!(second.claim(&other, "b").is_ok(), "another channel is another claim");
        drop(claim);
        assert!(second.claim(&channel(), "b").is_ok());
    }

    #[test]
    fn the_epoch_rises_as_long_as_anybody_uses_the_name() {
        let scratch = Scratch::new();
        let (domain, reader) = (domain(&scratch), member(&scratch));
        assert_eq!(claimed(&domain).epoch(), 1);
        assert_eq!(claimed(&domain).epoch(), 1, "nobody has seen the first");
        reader.enter(Role::Inlet, &channel(), 1).expect("it can be written");
        for epoch in 1..=20 {
            assert_eq!(claimed(&domain).epoch(), epoch);
        }
        drop(scratch.domain());
        assert_eq!(claimed(&domain).epoch(), 21, "cleaning up leaves it to those who live");
        drop(reader);
        drop(scratch.domain());
        assert!(!file(&scratch).exists(), "and takes it from those who have left");
    }

    #[test]
    fn what_is_garbled_counts_as_far_as_it_can_be_read() {
        let texts: [(&[u8], u64); 8] = [
            (b"", 0),
            (b"\n", 0),
            (b"garbage\n12\n", 0),
            (b"41", 41),
            (b"41\xff\xfe", 41),
            (b"0041\n1\nn\n", 41),
            (b"99999999\n1\nn\n", 0),
            (b"99999999999999999999999", 0),
        ];
        let scratch = Scratch::new();
        let (domain, reader) = (domain(&scratch), member(&scratch));
        reader.enter(Role::Inlet, &channel(), 1).expect("it can be written");
        for (text, epoch) in texts {
            std::fs::write(file(&scratch), text).expect("it is ours");
            assert_eq!(claimed(&domain).epoch(), epoch + 1, "{text:?}");
        }
        std::fs::write(file(&scratch), vec![b'7'; 5000]).expect("it is ours");
        assert_eq!(claimed(&domain).epoch(), 1);
    }

    #[test]
    fn the_last_epoch_is_followed_by_none() {
        let scratch = Scratch::new();
        let domain = domain(&scratch);
        std::fs::write(file(&scratch), format!("{EPOCH_MAX}\n")).expect("it is ours");
        let error = domain.claim(&channel(), "n").expect_err("there are no more");
        assert!(matches!(error, ClaimError::System { source: Errno::OVERFLOW, .. }), "{error}");
    }

    #[test]
    fn a_holder_takes_further_epochs_along() {
        let scratch = Scratch::new();
        let (domain, reader) = (domain(&scratch), member(&scratch));
        reader.enter(Role::Inlet, &channel(), 1).expect("it can be written");
        let mut claim = claimed(&domain);
        for (epoch, reached) in [(9, 9), (3, 9), (10, 10)] {
            claim.raise_to(epoch).expect("the file can be written");
            assert_eq!(claim.epoch(), reached);
        }
        assert_eq!(claim.raise_to(EPOCH_MAX + 1), Err(Errno::OVERFLOW));
        drop(claim);
        assert_eq!(claimed(&domain).epoch(), 11);
    }

    #[test]
    fn a_holder_that_does_not_say_who_it_is_holds_all_the_same() {
        let scratch = Scratch::new();
        let domain = domain(&scratch);
        let claim = claimed(&domain);
        for text in ["", "12", "12\n7", "12\n7\nn", "12\nx\nn\n"] {
            std::fs::write(file(&scratch), text).expect("it is ours");
            let error = domain.try_claim(&channel(), "b").expect_err("it is held");
            assert_eq!(error, ClaimError::Held { by: None }, "{text:?}");
        }
        drop(claim);
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let scratch = Scratch::new();
        let domain = domain(&scratch);
        std::os::unix::fs::symlink("/dev/null", file(&scratch)).expect("links can be made");
        let error = domain.claim(&channel(), "n").expect_err("it is no file");
        assert!(matches!(error, ClaimError::System { source: Errno::LOOP, .. }), "{error}");
    }

    #[test]
    fn one_at_a_time_however_many_claim_and_clean_up() {
        let scratch = Scratch::new();
        let (holders, last) = (AtomicU64::new(0), AtomicU64::new(0));
        let reader = member(&scratch);
        reader.enter(Role::Inlet, &channel(), 1).expect("it can be written");
        let claim_often = || {
            let domain = domain(&scratch);
            let claims = std::iter::repeat_with(|| domain.try_claim(&channel(), "n")).filter_map(Result::ok);
            claims.take(100).for_each(|claim| {
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "there is one holder");
                assert!(last.swap(claim.epoch(), Ordering::SeqCst) < claim.epoch(), "epochs rise");
                holders.fetch_sub(1, Ordering::SeqCst);
            });
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(claim_often);
            }
            scope.spawn(|| (0..300).for_each(|_| drop(scratch.domain())));
        });
        assert_eq!(last.into_inner(), 300);
    }

    #[test]
    fn files_come_and_go_without_two_holders() {
        let scratch = Scratch::new();
        let holders = AtomicU64::new(0);
        let claim_often = || {
            let domain = domain(&scratch);
            for _ in 0..300 {
                // Nobody uses the name: each holder removes the file, and so does each who cleans up.
                let Ok(_claim) = domain.try_claim(&channel(), "n") else { continue };
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "there is one holder");
                holders.fetch_sub(1, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(claim_often);
            }
            scope.spawn(|| (0..300).for_each(|_| drop(scratch.domain())));
        });
        drop(scratch.domain());
        assert!(!file(&scratch).exists());
    }

    #[test]
    fn who_cleans_up_does_not_keep_claimants_away() {
        let scratch = Scratch::new();
        let domain = domain(&scratch);
        std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| (0..300).for_each(|_| drop(scratch.domain())));
            while !cleaner.is_finished() {
                drop(domain.claim(&channel(), "n").expect("nobody else claims it"));
            }
        });
    }
}
