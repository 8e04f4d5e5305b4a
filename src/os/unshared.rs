//! Descriptors that forked children do not keep.
//!
//! A child shares its parent's open files, and with them the locks on them: one that lives on would hold a lock for a
//! parent that has died. So each of these descriptors is on a list, and what `fork` runs in the child closes them there.
//! A child made by a bare system call is not told, and keeps them until it runs another program.

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::{self, Errno};

/// What a place holds that has no descriptor.
const NONE: RawFd = -1;
/// How often a descriptor is opened anew because of a fork at the same time.
const ATTEMPTS_MAX: usize = 1_000;
/// How long a fork may take until it is looked at again.
const FORK_PAUSE: Duration = Duration::from_millis(1);

/// Where a descriptor is listed. Places are never freed, but used again.
#[derive(Debug)]
struct Place {
    fd: AtomicI32,
    is_taken: AtomicBool,
    next: *const Self,
}

static PLACES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
/// Forks that have begun in this process, and those of them that are over.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static OVER: AtomicU64 = AtomicU64::new(0);

/// A descriptor of this process alone, closed when it is dropped, or in a forked child.
#[derive(Debug)]
pub(crate) struct Unshared {
    place: &'static Place,
}

// SAFETY: a place is touched through atomics, but for `next`, which is written once, before the place is seen by anybody.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Unshared {
    /// Keeps what `open` opens; it is called again if the process forks meanwhile, and what it opened before is closed.
    pub(crate) fn new(mut open: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<Self> {
        watch_forks()?;
        let unshared = Self { place: Place::take() };
        for _ in 0..ATTEMPTS_MAX {
            let over = OVER.load(Ordering::SeqCst);
            if BEGUN.load(Ordering::SeqCst) == over {
                unshared.place.fd.store(open()?.into_raw_fd(), Ordering::SeqCst);
                // A fork that has begun later finds the descriptor on the list.
                if BEGUN.load(Ordering::SeqCst) == over {
                    return Ok(unshared);
                }
                unshared.place.close();
            }
            std::thread::sleep(FORK_PAUSE);
        }
        Err(Errno::AGAIN)
    }

    /// The descriptor; none in a forked child.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.place.fd.load(Ordering::SeqCst);
        // SAFETY: ours, and open until it is taken out, which needs `self` by value, or is done in a child that has only
        // the thread that forked.
        (fd != NONE).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        self.place.close();
        self.place.is_taken.store(false, Ordering::Release);
    }
}

impl Place {
    /// A place that nobody has.
    fn take() -> &'static Self {
        for place in places() {
            if !place.is_taken.swap(true, Ordering::Acquire) {
                return place;
            }
        }
        let place = Box::leak(Box::new(Self {
            fd: AtomicI32::new(NONE),
            is_taken: AtomicBool::new(true),
            next: ptr::null(),
        }));
        let mut first = PLACES.load(Ordering::Acquire);
        loop {
            place.next = first;
            match PLACES.compare_exchange(first, place, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return place,
                Err(current) => first = current,
            }
        }
    }

    /// Closes the descriptor, if there is one.
    fn close(&self) {
        let fd = self.fd.swap(NONE, Ordering::SeqCst);
        if fd != NONE {
            // SAFETY: it was ours, and whoever swaps it out is the only one to have it.
            unsafe { io::close(fd) };
        }
    }
}

fn places() -> impl Iterator<Item = &'static Place> {
    // SAFETY: null, or a leaked place, which was complete when it was published with `Release`.
    let place_at = |place: *const Place| unsafe { place.as_ref::<'static>() };
    std::iter::successors(place_at(PLACES.load(Ordering::Acquire)), move |place| place_at(place.next))
}

unsafe extern "C" {
    /// Has `fork` call these: before it, and after it in the parent and in the child.
    fn pthread_atfork(
        before: Option<unsafe extern "C" fn()>,
        in_parent: Option<unsafe extern "C" fn()>,
        in_child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// From now on forked children close what is on the list.
fn watch_forks() -> io::Result<()> {
    static REFUSED: OnceLock<c_int> = OnceLock::new();
    // SAFETY: the three are functions of this library, for as long as it is loaded, and only touch atomics and close
    // descriptors, which may be done between a fork and whatever follows.
    let register = || unsafe { pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    match *REFUSED.get_or_init(register) {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

extern "C" fn before_fork() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    OVER.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_child() {
    places().for_each(Place::close);
    // Forks that other threads had begun are not going on here.
    OVER.store(BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process;
    use std::fs::File;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidepost-unshared-{name}-{}", process::pid()));
            std::fs::write(&path, "").expect("the temporary directory is writable");
            Self(path)
        }

        fn open(&self) -> OwnedFd {
            File::open(&self.0).expect("it is there").into()
        }

        fn locked(&self) -> Unshared {
            let unshared = Unshared::new(|| Ok(self.open())).expect("descriptors are left");
            assert_eq!(process::try_lock(unshared.get().expect("this is no child")), Ok(true));
            unshared
        }

        fn is_free(&self) -> bool {
            process::try_lock(self.open()).expect("locks work")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_place_is_used_again() {
        let scratch = Scratch::new("again");
        let before = places().count();
        for _ in 0..100 {
            drop(scratch.locked());
            assert!(scratch.is_free());
        }
        // Other tests may hold some at the same time.
        assert!(places().count() < before + 50);
    }
}
