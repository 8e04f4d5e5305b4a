//! What changes when something crosses: the one place where it stands. The table of `docs/network.md` is made of it.

/// What is otherwise across the network.
pub struct Exemption {
    pub what: &'static str,
    pub here: &'static str,
    pub across: &'static str,
    /// The case of the suite that does not hold there, by pattern and promise.
    pub case: Option<(&'static str, &'static str)>,
}

const fn changed(what: &'static str, here: &'static str, across: &'static str) -> Exemption {
    Exemption { what, here, across, case: None }
}

const fn exempt(
    what: &'static str,
    here: &'static str,
    across: &'static str,
    case: (&'static str, &'static str),
) -> Exemption {
    Exemption { what, here, across, case: Some(case) }
}

pub const EXEMPTIONS: &[Exemption] = &[
    changed(
        "a message that was sent",
        "is in memory that its subscribers read",
        "is queued in the gateway; whether it arrives is another matter",
    ),
    changed(
        "`Block`",
        "waits for the slowest subscriber",
        "waits for the gateway, which does not wait for others",
    ),
    changed(
        "loss",
        "as the policy says, counted",
        "also what found no room, or was not in the cache after a cut: counted in `Sample::lost`, `Subscriber::lost`, `Event::Gap` and `ls`, with the next message that arrives",
    ),
    changed("order", "of each publisher", "of each publisher"),
    changed("twice", "never", "never: by number; a queue's item may be, as always, and says so"),
    changed(
        "history of a topic",
        "for every subscriber that joins",
        "the same, as far as it fits into `room_bytes`; a gateway that has begun to read a topic knows what was kept then",
    ),
    changed(
        "a header of a topic",
        "as declared",
        "the same; between machines of other byte orders, messages that have one are refused",
    ),
    changed("a timestamp", "by the machine's clock", "the same, by the clock of the machine that sent it"),
    changed("a call's deadline", "ends it on both sides", "the same, as a length of time"),
    changed(
        "a server that is gone",
        "`CallError::ServerLost`, `NoServer`",
        "`CallError::Unreachable` if the machine, its gateway or the network has gone, after the lease at most",
    ),
    changed("parts", "as many clients at once as there are servers", "4 clients of a domain at once"),
    changed(
        "several servers",
        "the one with the fewest calls of the client",
        "those of the domain, if it has any; else those of other machines, each machine in turn",
    ),
    changed(
        "an item of a queue",
        "acknowledged by its consumer",
        "acknowledged when a consumer there has received it; if it or its gateway dies then, it is delivered again there, or here",
    ),
    changed(
        "a state's writer",
        "one by claim",
        "one in each domain; a domain without one hears the first that it heard of",
    ),
    exempt("tables, regions", "", "do not cross", ("table", "the latest value of each key")),
    changed("trust", "by user", "everything that comes in is checked and copied"),
    changed(
        "a gateway that is killed",
        "",
        "its publishers leave and those of the next come, which are events; what was on its way, out or in, is counted by the numbers of whoever sent it",
    ),
];
