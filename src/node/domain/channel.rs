//! What endpoints meet under: a name, and the pattern that they pass messages in.

use std::fmt;
use std::sync::Arc;

use super::name::{Name, NameError};

/// A pattern of message passing, or memory. Names of one are no names of another: a topic and a queue may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// Publishers and subscribers: every message to everybody.
    Topic,
    /// Clients and servers: requests, and their answers.
    Service,
    /// Producers and consumers: each item to one consumer.
    Queue,
    /// A writer and its readers: the latest value.
    State,
    /// A writer and its readers: the latest value of each key.
    Table,
    /// Notifiers and waiters: wake-ups without payload.
    Signal,
    /// Memory, and those who have attached it.
    Region,
}

impl Pattern {
    /// All of them, in the order of their codes from 0.
    pub const ALL: [Self; 7] =
        [Self::Topic, Self::Service, Self::Queue, Self::State, Self::Table, Self::Signal, Self::Region];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Service => "service",
            Self::Queue => "queue",
            Self::State => "state",
            Self::Table => "table",
            Self::Signal => "signal",
            Self::Region => "region",
        }
    }

    /// The code that stands for it in frames.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The pattern with this code.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name under which endpoints of one pattern meet: a topic, a queue, a state … Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    pattern: Pattern,
    name: Name,
}

impl Channel {
    /// The channel of this pattern and name, if it is one.
    pub(crate) fn new(pattern: Pattern, name: &str) -> Result<Self, NameError> {
        Ok(Self { pattern, name: Name::new(name)? })
    }

    /// The pattern.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// The name, without the pattern.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The name alone, shared.
    pub(crate) fn shared(&self) -> Arc<str> {
        self.name.shared()
    }

    /// Pattern and name as one component of a path.
    pub(crate) fn file_name(&self) -> String {
        format!("{}:{}", self.pattern, self.name.file_name())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} `{}`", self.pattern, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_for_patterns() {
        for pattern in Pattern::ALL {
            assert_eq!(Pattern::of_code(pattern.code()), Some(pattern));
        }
        assert_eq!(Pattern::of_code(Pattern::ALL.len() as u8), None);
    }

    #[test]
    fn patterns_do_not_share_files() {
        let files: std::collections::BTreeSet<String> = Pattern::ALL
            .iter()
            .map(|pattern| Channel::new(*pattern, "a/b").expect("a name").file_name())
            .collect();
        assert_eq!(files.len(), Pattern::ALL.len());
        assert!(files.contains("topic:a%2fb"));
    }
}
