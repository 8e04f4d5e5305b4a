//! What things are called, pattern by pattern.

use tidepost::{EndpointRole, Pattern};

/// What a thing of this pattern is.
pub fn pattern(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Topic => "topic",
        Pattern::Service => "service",
        Pattern::Queue => "queue",
        Pattern::State => "state",
        Pattern::Table => "table",
        Pattern::Signal => "signal",
        Pattern::Region => "region",
        _ => "?",
    }
}

/// The roles that there are in a pattern, senders first, and what endpoints in them are: one in the list for people, and all of
/// them.
pub fn roles(pattern: Pattern) -> &'static [(EndpointRole, &'static str, &'static str)] {
    use EndpointRole::{Client, Keeper, Receiver, Sender, Server};
    match pattern {
        Pattern::Service => &[(Server, "server", "servers"), (Client, "client", "clients")],
        Pattern::Queue => &[(Sender, "producer", "producers"), (Receiver, "consumer", "consumers")],
        Pattern::State | Pattern::Table => {
            &[(Sender, "writer", "writers"), (Keeper, "keeper", "keepers"), (Receiver, "reader", "readers")]
        }
        Pattern::Region => &[(Keeper, "holder", "holders"), (Receiver, "seeker", "seekers")],
        Pattern::Signal => &[(Sender, "notifier", "notifiers"), (Receiver, "waiter", "waiters")],
        _ => &[(Sender, "pub", "publishers"), (Receiver, "sub", "subscribers")],
    }
}
