//! What a bridge says of itself.

use serde_json::{Value, json};
use tidepost::Pattern;

use super::port::Counts;
use crate::rules::Direction;

/// One name that crosses in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossing {
    /// Its pattern.
    pub pattern: Pattern,
    /// The name.
    pub name: String,
    /// Whither.
    pub direction: Direction,
    /// What has crossed.
    pub counts: Counts,
}

/// A bridge at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether it carries; otherwise another bridge of the domain does.
    pub is_active: bool,
    /// What this machine is called on others.
    pub machine: String,
    /// The realm.
    pub realm: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Ends of the network that this one is connected to.
    pub connections: usize,
    /// Machines whose bridges are there.
    pub machines: Vec<String>,
    /// What crosses.
    pub crossings: Vec<Crossing>,
    /// The last troubles, the newest last.
    pub troubles: Vec<String>,
}

impl Status {
    /// The status in JSON: what the state `network/<realm>` holds.
    pub fn to_json(&self) -> String {
        let crossing = |crossing: &Crossing| {
            json!({
                "pattern": crossing.pattern.name(),
                "name": crossing.name,
                "direction": crossing.direction.to_string(),
                "crossed": crossing.counts.crossed,
                "inline": crossing.counts.inline,
                "lost": crossing.counts.lost,
                "refused": crossing.counts.refused,
            })
        };
        let crossings: Vec<Value> = self.crossings.iter().map(crossing).collect();
        json!({
            "active": self.is_active,
            "machine": self.machine,
            "realm": self.realm,
            "addresses": self.addresses,
            "connections": self.connections,
            "machines": self.machines,
            "crossings": crossings,
            "troubles": self.troubles,
        })
        .to_string()
    }
}
