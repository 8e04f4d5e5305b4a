//! Which optional kernel features may be used.
//!
//! Newer features are probed where they are called; `TIDEPOST_WITHOUT=a,b` forces the fallback of each one it
//! names, so that a test on a new kernel walks the path of an old one.

use std::sync::OnceLock;

/// An optional feature of the kernel, with a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// `MFD_NOEXEC_SEAL`, Linux 6.3.
    NoexecSeal,
    /// `membarrier(GLOBAL_EXPEDITED)`, Linux 4.16; a sandbox may forbid it.
    Membarrier,
    /// `MADV_POPULATE_*`, through `MAP_POPULATE`; a sandbox may forbid it.
    Populate,
}

impl Feature {
    const fn name(self) -> &'static str {
        match self {
            Self::NoexecSeal => "noexec-seal",
            Self::Membarrier => "membarrier",
            Self::Populate => "populate",
        }
    }

    /// Whether the environment forbids this feature.
    pub(crate) fn is_forbidden(self) -> bool {
        static WITHOUT: OnceLock<String> = OnceLock::new();
        let without = WITHOUT.get_or_init(|| std::env::var("TIDEPOST_WITHOUT").unwrap_or_default());
        without.split(',').any(|name| name.trim() == self.name())
    }
}
