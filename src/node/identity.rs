//! Who a node and an endpoint are: random and counted, never derived from a PID or a name.

use std::fmt;
use std::str::FromStr;

use rustix::io;

use crate::os::process;

/// A node's identity: 128 random bits, new each time a node is opened, so that a restart is another node.
///
/// Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u128);

/// An endpoint's identity: its node, and a number from 1 that the node never uses again, so that a publisher that is
/// made again is another one.
///
/// Shown as the node's identity and the number, with a dot between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

impl EndpointId {
    /// The node that the endpoint belongs to.
    pub fn node(self) -> NodeId {
        self.node
    }

    /// The endpoint's number among those of its node.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl NodeId {
    /// Digits of the shown form.
    pub(crate) const DIGITS: usize = 32;

    /// An identity that nobody has.
    pub(crate) fn random() -> io::Result<Self> {
        Ok(Self(u128::from_le_bytes(process::random()?)))
    }

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The identity as a number.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The text is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 32 lower-case hexadecimal digits, an endpoint's id the same with a dot and a number")]
#[non_exhaustive]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != Self::DIGITS || !text.bytes().all(is_digit) {
            return Err(ParseNodeIdError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ParseNodeIdError)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.node, self.number)
    }
}

impl FromStr for EndpointId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        let (node, number) = text.split_once('.').ok_or(ParseNodeIdError)?;
        let parsed: u64 = number.parse().map_err(|_| ParseNodeIdError)?;
        let is_canonical = parsed > 0 && parsed.to_string() == number;
        let node = node.parse()?;
        is_canonical.then_some(Self { node, number: parsed }).ok_or(ParseNodeIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text() {
        let node = NodeId::random().expect("random bits are available");
        assert_eq!(node.to_string().parse(), Ok(node));
        let endpoint = EndpointId { node, number: 17 };
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }

    #[test]
    fn other_texts_are_no_ids() {
        let digits = "0".repeat(32);
        for text in ["", "12", &"G".repeat(32), &"A".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert_eq!(text.parse::<NodeId>(), Err(ParseNodeIdError), "{text}");
        }
        for number in ["", "0", "01", "+1", "-1", "1.lock"] {
            assert!(format!("{digits}.{number}").parse::<EndpointId>().is_err(), "{number}");
        }
    }

    #[test]
    fn two_nodes_differ() {
        assert_ne!(NodeId::random(), NodeId::random());
    }
}
