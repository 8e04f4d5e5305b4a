//! Which names cross, and in which direction.
//!
//! A rule is a key expression: `topic/arm/**` allows every topic below `arm`. What no rule allows does not cross; what some rule denies
//! does not either.

use std::fmt;
use std::str::FromStr;

use tidepost::Pattern;
use zenoh::key_expr::{OwnedKeyExpr, keyexpr};

use crate::names;

/// Whether something goes out of the domain or comes into it. A service goes out if its servers are here, a queue if its producers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From here to others.
    Out,
    /// From others to here.
    In,
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Out => "out",
            Self::In => "in",
        })
    }
}

/// A pattern of names: `topic/arm/*`, `*/public/**`, `**`. `*` stands for one part of a name between slashes, `**` for any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(OwnedKeyExpr);

/// Why a text is no [`NamePattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no pattern of names: {reason}; write for instance `topic/arm/*`, `service/**` or `**`, with %2a for a star in a name"
)]
pub struct NamePatternError {
    text: String,
    reason: String,
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let wrong = |reason: String| NamePatternError { text: text.to_owned(), reason };
        let pattern = OwnedKeyExpr::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let first = text.split('/').next().unwrap_or_default();
        let is_known = Pattern::ALL.iter().any(|pattern| pattern.name() == first);
        if is_known || matches!(first, "*" | "**") {
            Ok(Self(pattern))
        } else {
            Err(wrong(format!("it begins with `{first}`, which is no pattern")))
        }
    }
}

impl NamePattern {
    fn matches(&self, key: &keyexpr) -> bool {
        self.0.includes(key)
    }
}

/// What crosses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may go out.
    pub allow_out: Vec<NamePattern>,
    /// What may come in.
    pub allow_in: Vec<NamePattern>,
    /// What does not go out, whatever is allowed.
    pub deny_out: Vec<NamePattern>,
    /// What does not come in, whatever is allowed.
    pub deny_in: Vec<NamePattern>,
}

impl Rules {
    /// Everything crosses.
    pub fn everything() -> Self {
        let all = || vec![NamePattern(OwnedKeyExpr::from_str("**").expect("it is one"))];
        Self { allow_out: all(), allow_in: all(), ..Self::default() }
    }

    /// Whether the name crosses.
    pub fn allow(&self, direction: Direction, pattern: Pattern, name: &str) -> bool {
        let (allowed, denied) = match direction {
            Direction::Out => (&self.allow_out, &self.deny_out),
            Direction::In => (&self.allow_in, &self.deny_in),
        };
        let key = format!("{}/{}", pattern.name(), names::escape(name));
        let Ok(key) = keyexpr::new(&key) else { return false };
        let is_in = |rules: &[NamePattern]| rules.iter().any(|rule| rule.matches(key));
        is_in(allowed) && !is_in(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<NamePattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    #[test]
    fn nothing_crosses_that_is_not_allowed() {
        assert!(!Rules::default().allow(Direction::Out, Pattern::Topic, "a"));
        let rules = Rules { allow_out: patterns(&["topic/arm/*", "*/public/**"]), ..Rules::default() };
        let out = |pattern, name| rules.allow(Direction::Out, pattern, name);
        assert!(
            out(Pattern::Topic, "arm/left")
                && out(Pattern::State, "public/a/b")
                && out(Pattern::Queue, "public")
        );
        assert!(
            !out(Pattern::Topic, "arm/left/pose")
                && !out(Pattern::Service, "arm/left")
                && !out(Pattern::Topic, "arm")
        );
        assert!(!rules.allow(Direction::In, Pattern::Topic, "arm/left"));
    }

    #[test]
    fn what_is_denied_does_not_cross() {
        let rules = Rules { deny_in: patterns(&["**/secret"]), ..Rules::everything() };
        assert!(
            rules.allow(Direction::In, Pattern::Topic, "a")
                && rules.allow(Direction::Out, Pattern::Topic, "a/secret")
        );
        assert!(!rules.allow(Direction::In, Pattern::Topic, "a/secret"));
    }

    #[test]
    fn awkward_names_are_matched_as_they_are() {
        let rules = Rules { deny_out: patterns(&["topic/%2a", "topic/%40home/**"]), ..Rules::everything() };
        let out = |name| rules.allow(Direction::Out, Pattern::Topic, name);
        assert!(!out("*") && !out("@home/x") && out("b") && out("a//b") && out("@work"));
    }

    #[test]
    fn what_is_no_pattern_says_so() {
        for text in ["", "a//b", "topics/a", "topic/", "/topic", "topic/a*b*"] {
            let error = text.parse::<NamePattern>().expect_err(text);
            assert!(error.to_string().contains("pattern of names"), "{error}");
        }
    }
}
