//! Claiming a channel for the only one who writes there.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Channel, Claim, ClaimError, EndpointError, Node};
use crate::os::clock::Deadline;

/// How long a claimant waits between two looks at the claim.
const SLICE: Duration = Duration::from_millis(5);

/// Why a channel was not claimed.
pub(crate) enum Unclaimed {
    /// Somebody else writes there, who says of itself that it is this.
    Held { by: Option<String> },
    /// The operating system refused something.
    System { action: String, source: Errno },
    /// The node cannot be used, or was shut down.
    Endpoint(EndpointError),
}

/// Claims a channel, waiting no longer than `timeout` for whoever holds it.
pub(crate) fn claim(node: &Node, channel: &Channel, timeout: Duration) -> Result<Claim, Unclaimed> {
    let deadline = Deadline::after(timeout);
    let shared = node.shared();
    loop {
        let round = shared.round();
        let domain = shared.domain().map_err(Unclaimed::Endpoint)?;
        let is_over = deadline.has_passed();
        // The last look also waits for those who only clean up.
        let claimed =
            if is_over { domain.claim(channel, node.name()) } else { domain.try_claim(channel, node.name()) };
        match claimed {
            Ok(claim) => return Ok(claim),
            Err(ClaimError::Held { by }) if is_over => return Err(Unclaimed::Held { by }),
            Err(ClaimError::Held { .. }) => {}
            Err(ClaimError::System { action, source }) => return Err(Unclaimed::System { action, source }),
        }
        let slice_end = Instant::now() + SLICE;
        let until = deadline.instant().map_or(slice_end, |end| end.min(slice_end));
        if shared.has_thread() {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        } else {
            shared.wait(round, Some(until)).map_err(Unclaimed::Endpoint)?;
        }
    }
}

/// What to do about a claim that the operating system refused, or that cannot be counted any more.
pub(crate) fn remedy(source: Errno) -> &'static str {
    match source {
        Errno::OVERFLOW => {
            "it has had as many writers as can be counted while anybody uses it; have all of them leave it once, or choose \
             another name"
        }
        _ => "check that the domain's directory still exists and has room",
    }
}
