//! What the user is told beside the output: on standard error, and never in place of going on.

use std::io::Write;

use tidepost::Event;

use crate::text;

/// Tells the user something. Nobody may be listening there, which is no reason to stop.
pub fn tell(notice: &str) {
    let _ = writeln!(std::io::stderr(), "tidepost: {}", text::printable(notice));
}

/// Tells of those who could not be connected, of all that these events say.
pub fn tell_refused(whom: &str, events: impl IntoIterator<Item = Event>) {
    for event in events {
        if let Event::Refused(refused) = event {
            tell(&format!("{whom}: {refused}"));
        }
    }
}

/// So many messages, or items, with the verb that follows: `1 item was`.
pub fn there_were(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what} was") } else { format!("{count} {what}s were") }
}
