//! The census for people: tables.

use tidepost::{EndpointId, EndpointRole, OutletReport, Pattern, TypeDescriptor};

use super::census::{Census, Channel, Owner, PATTERNS, Party, command_line};
use super::words;
use crate::table::Side::{self, Left, Right};
use crate::table::Table;
use crate::text;

/// What stands where something is not known.
const UNKNOWN: &str = "?";

pub fn text_of(census: &Census<'_>) -> String {
    if census.nodes.is_empty() {
        return "nobody is here\n".to_owned();
    }
    let mut text = nodes(census).to_string();
    for pattern in PATTERNS {
        for (name, channel) in census.of_pattern(pattern) {
            let title = format!("{} {}", words::pattern(pattern), text::printable(name));
            text.push_str(&format!("\n{title}\n{}", endpoints(census, pattern, channel)));
        }
    }
    text
}

fn nodes(census: &Census<'_>) -> Table {
    let mut table =
        Table::new(0, &[("NODE", Left), ("PID", Right), ("ID", Left), ("STATE", Left), ("COMMAND", Left)]);
    for node in census.nodes {
        table.row([
            text::printable(&node.name),
            node.pid.to_string(),
            text::short_node(node.id),
            if node.has_answered { "" } else { "no answer" }.to_owned(),
            text::printable(&command_line(node.pid).unwrap_or_default()),
        ]);
    }
    table
}

/// An endpoint, as its row shows it.
struct Row<'r> {
    census: &'r Census<'r>,
    id: EndpointId,
    owner: Owner,
    /// What it is.
    word: &'static str,
    party: &'r Party<'r>,
}

/// A column: its title, the side on which its texts stand, and what it says of an endpoint.
struct Column(&'static str, Side, fn(&Row<'_>) -> String);

const WORD: Column = Column("", Left, |row| row.word.to_owned());
const NODE: Column = Column("NODE", Left, |row| row.owner.name.clone());
const PID: Column = Column("PID", Right, |row| pid(&row.owner));
const ENDPOINT: Column = Column("ENDPOINT", Left, |row| text::short_endpoint(row.id));
const TYPE: Column = Column("TYPE", Left, |row| if row.is_sender() { row.gives() } else { row.takes() });
const TAKES: Column = Column("TAKES", Left, |row| row.takes());
const GIVES: Column = Column("GIVES", Left, |row| row.gives());
const IDS: Column = Column("IDS", Right, |row| row.ids());
const POLICY: Column = Column("POLICY", Left, |row| row.policy());
const STANDING: Column = Column("POLICY", Left, |row| match row.is_sender() {
    true => row.policy(),
    false => row.party.standing().unwrap_or_default().to_owned(),
});
const SENT: Column = Column("SENT", Right, |row| row.sent());
const WAITING: Column = Column("WAITING", Right, |row| row.of_outlet(|outlet| outlet.waiting));
const RECEIVED: Column = Column("RECEIVED", Right, |row| row.received());
const SETTLED: Column = Column("SETTLED", Right, |row| row.received());
const LOST: Column = Column("LOST", Right, |row| match row.is_sender() {
    true => String::new(),
    false => row.party.lost().to_string(),
});
const LAG: Column = Column("LAG", Right, |row| row.lag());
const HELD: Column =
    Column("HELD", Right, |row| row.party.held().map(|held| held.to_string()).unwrap_or_default());
const STATE: Column = Column("STATE", Left, |row| row.state());

fn columns(pattern: Pattern) -> &'static [Column] {
    match pattern {
        Pattern::Service => &[WORD, NODE, PID, ENDPOINT, TAKES, GIVES, SENT, RECEIVED, LAG, STATE],
        Pattern::Queue => {
            &[WORD, NODE, PID, ENDPOINT, TYPE, POLICY, SENT, WAITING, SETTLED, HELD, LOST, STATE]
        }
        Pattern::State | Pattern::Table => &[WORD, NODE, PID, ENDPOINT, TYPE, SENT, RECEIVED, STATE],
        Pattern::Region => &[WORD, NODE, PID, ENDPOINT, TYPE],
        Pattern::Signal => &[WORD, NODE, PID, ENDPOINT, IDS, SENT, RECEIVED, STATE],
        _ => &[WORD, NODE, PID, ENDPOINT, TYPE, STANDING, SENT, RECEIVED, LOST, LAG, STATE],
    }
}

fn endpoints(census: &Census<'_>, pattern: Pattern, channel: &Channel<'_>) -> Table {
    let columns = columns(pattern);
    let titles: Vec<_> = columns.iter().map(|Column(title, side, _)| (*title, *side)).collect();
    let mut table = Table::new(2, &titles);
    for (role, word, _) in words::roles(pattern) {
        for (id, party) in census.in_role(channel, *role) {
            let row = Row { census, id, owner: census.owner(id), word, party };
            table.row(columns.iter().map(|Column(_, _, text)| text(&row)));
        }
    }
    table
}

impl Row<'_> {
    fn is_sender(&self) -> bool {
        matches!(self.party.role, EndpointRole::Sender | EndpointRole::Keeper)
    }

    /// Something that only a sending endpoint has.
    fn of_outlet(&self, figure: impl FnOnce(&OutletReport) -> u64) -> String {
        self.party.outlet.map(|outlet| figure(outlet).to_string()).unwrap_or_default()
    }

    fn gives(&self) -> String {
        let message_type = self.party.outlet.and_then(|outlet| outlet.message_type.as_ref());
        message_type.map_or_else(|| UNKNOWN.to_owned(), text::type_name)
    }

    fn takes(&self) -> String {
        let Some(inlet) = self.party.inlet else { return UNKNOWN.to_owned() };
        inlet.message_type.as_ref().map_or_else(|| "any".to_owned(), text::type_name)
    }

    /// A signal has a counter for each id.
    fn ids(&self) -> String {
        let of_outlet = self.party.outlet.and_then(|outlet| outlet.message_type.as_ref());
        let counters = of_outlet.or(self.party.inlet.and_then(|inlet| inlet.message_type.as_ref()));
        let count = |counters: &TypeDescriptor| (counters.size / size_of::<u64>() as u64).to_string();
        counters.map_or_else(|| UNKNOWN.to_owned(), count)
    }

    fn policy(&self) -> String {
        self.party.outlet.map(|outlet| outlet.policy.to_owned()).unwrap_or_default()
    }

    fn sent(&self) -> String {
        self.of_outlet(|outlet| outlet.sent)
    }

    fn received(&self) -> String {
        match self.party.inlet {
            Some(inlet) => inlet.received.to_string(),
            None if self.is_sender() => String::new(),
            None => UNKNOWN.to_owned(),
        }
    }

    fn lag(&self) -> String {
        self.party.lag().map(|lag| lag.to_string()).unwrap_or_default()
    }

    fn state(&self) -> String {
        let blocking = self.party.is_blocking().then(|| "blocking".to_owned());
        let silent = (!self.owner.has_answered).then(|| "no answer".to_owned());
        let blocked = self.party.outlet.and_then(|outlet| self.blocked(outlet));
        blocked.into_iter().chain(blocking).chain(silent).collect::<Vec<_>>().join(", ")
    }

    fn blocked(&self, outlet: &OutletReport) -> Option<String> {
        let blocking = outlet.readers.iter().filter(|reader| reader.is_blocking);
        let by: Vec<String> = blocking
            .map(|reader| {
                let owner = self.census.owner(reader.id);
                format!("{} (process {})", owner.name, pid(&owner))
            })
            .collect();
        match (by.is_empty(), outlet.is_blocked) {
            (false, _) => Some(format!("blocked by {}", by.join(", "))),
            // Whoever held it up has just gone on, or it waits for anybody.
            (true, true) => Some("waiting".to_owned()),
            (true, false) => None,
        }
    }
}

fn pid(owner: &Owner) -> String {
    owner.pid.map_or_else(|| UNKNOWN.to_owned(), |pid| pid.to_string())
}
