//! The nodes' reports, turned round: channel by channel, whatever its pattern.
//!
//! The fear: who holds the others up is stopped, and says nothing. So an endpoint is listed too of which only its counterparts
//! tell.

use std::collections::{BTreeMap, HashMap};

use tidepost::{
    EndpointId, EndpointRole, InletReport, NodeId, NodeReport, OutletReport, Pattern, ReaderReport,
};

use crate::text;

/// Everything that was found.
pub struct Census<'a> {
    pub nodes: &'a [NodeReport],
    /// By what they are, in the order in which they are shown, then by name.
    pub channels: BTreeMap<(usize, &'a str), Channel<'a>>,
    by_id: HashMap<NodeId, &'a NodeReport>,
}

/// The patterns, in the order in which they are shown.
pub const PATTERNS: [Pattern; 7] = [
    Pattern::Topic,
    Pattern::Service,
    Pattern::Queue,
    Pattern::State,
    Pattern::Table,
    Pattern::Signal,
    Pattern::Region,
];

/// The endpoints of a topic, a service and so on.
#[derive(Default)]
pub struct Channel<'a> {
    pub parties: BTreeMap<EndpointId, Party<'a>>,
}

/// What is known of an endpoint.
pub struct Party<'a> {
    pub role: EndpointRole,
    /// What it says itself of what it sends, and of what it receives; neither if its node did not answer.
    pub outlet: Option<&'a OutletReport>,
    pub inlet: Option<&'a InletReport>,
    /// What those say that it receives from.
    pub seen: Vec<&'a ReaderReport>,
}

/// Whose an endpoint is.
pub struct Owner {
    pub name: String,
    pub pid: Option<u32>,
    pub has_answered: bool,
}

impl<'a> Census<'a> {
    pub fn new(nodes: &'a [NodeReport]) -> Self {
        let by_id = nodes.iter().map(|node| (node.id, node)).collect();
        let mut census = Self { nodes, channels: BTreeMap::new(), by_id };
        for outlet in nodes.iter().flat_map(|node| &node.publishers) {
            let channel = census.channel(outlet.pattern, &outlet.name);
            channel.party(outlet.id, outlet.role).outlet = Some(outlet);
            for reader in &outlet.readers {
                channel.party(reader.id, counterpart(outlet.role)).seen.push(reader);
            }
        }
        for inlet in nodes.iter().flat_map(|node| &node.subscribers) {
            census.channel(inlet.pattern, &inlet.name).party(inlet.id, inlet.role).inlet = Some(inlet);
        }
        census
    }

    fn channel(&mut self, pattern: Pattern, name: &'a str) -> &mut Channel<'a> {
        let place = PATTERNS.iter().position(|of| *of == pattern).unwrap_or(PATTERNS.len());
        self.channels.entry((place, name)).or_default()
    }

    /// Those of one pattern, by name.
    pub fn of_pattern(&self, pattern: Pattern) -> impl Iterator<Item = (&'a str, &Channel<'a>)> {
        let channels = self.channels.iter();
        let of_pattern = channels.filter(move |((place, _), _)| PATTERNS.get(*place) == Some(&pattern));
        of_pattern.map(|((_, name), channel)| (*name, channel))
    }

    /// The endpoints of a channel in this role, by the names of their nodes.
    pub fn in_role<'c>(
        &self,
        channel: &'c Channel<'a>,
        role: EndpointRole,
    ) -> Vec<(EndpointId, &'c Party<'a>)> {
        let parties = channel.parties.iter().filter(|(_, party)| party.role == role);
        let mut parties: Vec<_> = parties.map(|(id, party)| (*id, party)).collect();
        parties.sort_by_key(|(id, _)| (self.owner(*id).name, *id));
        parties
    }

    /// Whose an endpoint is. Of a node that came while the others were asked, nothing more is known.
    pub fn owner(&self, endpoint: EndpointId) -> Owner {
        match self.by_id.get(&endpoint.node()) {
            Some(node) => {
                let name = text::printable(&node.name);
                Owner { name, pid: Some(node.pid), has_answered: node.has_answered }
            }
            None => Owner { name: "?".to_owned(), pid: None, has_answered: false },
        }
    }
}

/// Who receives from an endpoint in this role.
fn counterpart(role: EndpointRole) -> EndpointRole {
    match role {
        EndpointRole::Server => EndpointRole::Client,
        EndpointRole::Client => EndpointRole::Server,
        _ => EndpointRole::Receiver,
    }
}

impl<'a> Channel<'a> {
    fn party(&mut self, id: EndpointId, role: EndpointRole) -> &mut Party<'a> {
        self.parties.entry(id).or_insert(Party { role, outlet: None, inlet: None, seen: Vec::new() })
    }
}

impl Party<'_> {
    /// `reliable` if publishers wait for it, `lossy` if they do not by their choice, `observer` if they do not by its own.
    pub fn standing(&self) -> Option<&'static str> {
        if self.inlet.is_some_and(|own| own.is_observer) {
            return Some("observer");
        }
        match (self.seen.is_empty(), self.seen.iter().any(|reader| reader.is_reliable)) {
            (true, _) => None,
            (false, true) => Some("reliable"),
            (false, false) => Some("lossy"),
        }
    }

    /// Messages lost: what it says itself, or else what its publishers say.
    pub fn lost(&self) -> u64 {
        self.inlet.map_or_else(|| self.seen.iter().map(|reader| reader.lost).sum(), |own| own.lost)
    }

    /// How far it is behind the publisher that it is furthest behind.
    pub fn lag(&self) -> Option<u64> {
        self.seen.iter().map(|reader| reader.lag).max()
    }

    /// What it has of all its producers and has not settled.
    pub fn held(&self) -> Option<u64> {
        let held = |sum: u64, reader: &&ReaderReport| sum.saturating_add(reader.lag);
        (!self.seen.is_empty()).then(|| self.seen.iter().fold(0, held))
    }

    /// Whether a publisher is waiting for it.
    pub fn is_blocking(&self) -> bool {
        self.seen.iter().any(|reader| reader.is_blocking)
    }
}

/// The command line of a process, if we may read it and it is not over. A process in another PID namespace has another
/// number there.
pub fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let line = words.join(" ").trim_end().to_owned();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_words() {
        let own = command_line(std::process::id()).expect("this process runs");
        assert!(own.starts_with(&std::env::args().next().unwrap_or_default()), "{own}");
        assert_eq!(command_line(u32::MAX), None);
    }
}
