//! Names that people give to nodes, topics and domains, and the file names that they become.

use std::fmt;
use std::sync::Arc;

/// A validated name: 1 to 200 bytes of text on one line. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Arc<str>);

/// Why a text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing in it.
    #[error("a name is empty; give at least one character")]
    Empty,
    /// It does not fit.
    #[error("the name {name:?} takes {bytes} B, and {limit} is the limit; shorten it")]
    TooLong {
        /// The beginning of the name.
        name: String,
        /// Its length in bytes; each awkward character such as `/` takes three in a file name.
        bytes: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// It holds a character that would garble a list of names.
    #[error("the name {name:?} holds a control character or line break; leave it out")]
    Control {
        /// The name.
        name: String,
    },
    /// It means a directory to the file system.
    #[error("the name {name:?} means a directory; choose another")]
    Reserved {
        /// The name.
        name: String,
    },
}

impl Name {
    /// The longest name, in bytes.
    pub(crate) const BYTES_MAX: usize = 200;
    /// The longest file name that a file system takes, in bytes, less what a channel puts before it.
    const FILE_BYTES_MAX: usize = 255 - "service:".len();

    /// The text as a name, if it is one.
    pub(crate) fn new(text: &str) -> Result<Self, NameError> {
        let too_long =
            |bytes, limit| NameError::TooLong { name: text.chars().take(40).collect(), bytes, limit };
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(too_long(text.len(), Self::BYTES_MAX));
        }
        if text.chars().any(is_line_breaking) {
            return Err(NameError::Control { name: text.to_owned() });
        }
        if text == "." || text == ".." {
            return Err(NameError::Reserved { name: text.to_owned() });
        }
        let name = Self(text.into());
        let file_bytes = name.file_name().len();
        if file_bytes > Self::FILE_BYTES_MAX {
            return Err(too_long(file_bytes, Self::FILE_BYTES_MAX));
        }
        Ok(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name itself, shared.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The name as one component of a path: `/`, `%` and `\` are `%` and two hexadecimal digits.
    pub(crate) fn file_name(&self) -> String {
        let mut escaped = String::with_capacity(self.0.len());
        for character in self.0.chars() {
            match character {
                '/' => escaped.push_str("%2f"),
                '%' => escaped.push_str("%25"),
                '\\' => escaped.push_str("%5c"),
                plain => escaped.push(plain),
            }
        }
        escaped
    }

    /// The name whose file name this is; none if no name has it.
    #[cfg(test)]
    pub(crate) fn from_file_name(file_name: &str) -> Option<Self> {
        let text = file_name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%");
        Self::new(&text).ok().filter(|name| name.file_name() == file_name)
    }
}

fn is_line_breaking(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn awkward_texts_are_refused() {
        for text in ["", ".", "..", "a\nb", "a\0", "\u{7f}", "\u{2028}", &"x".repeat(201), &"/".repeat(100)] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_path_becomes_one_component() {
        let name = Name::new("arm/left/100%").expect("it is a name");
        assert_eq!(name.file_name(), "arm%2fleft%2f100%25");
    }

    proptest! {
        #[test]
        fn file_names_are_reversible_and_single_components(text in "\\PC{1,60}|[/%\\\\.2f5c]{1,30}") {
            if let Ok(name) = Name::new(&text) {
                let file_name = name.file_name();
                prop_assert!(!file_name.contains('/') && file_name != "." && file_name != "..");
                prop_assert_eq!(Name::from_file_name(&file_name), Some(name));
            }
        }
    }
}
