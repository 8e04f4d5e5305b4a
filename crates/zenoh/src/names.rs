//! Names as key expressions, and back.
//!
//! A name stays as readable as the engine allows, so that its access control, its storages and its clients in any language work with
//! names: `arm/left/pose` is the key `tidepost/t/arm/left/pose`. What means something in a key expression is written as `%` and two
//! hexadecimal digits: `%`, `*`, `$`, `?` and `#`, and an `@` at the beginning of a chunk, which wildcards would pass over. A chunk of no
//! characters, which keys do not have, is `%` alone.

use std::fmt::Write;

use tidepost::Pattern;

/// The chunk after the realm under which a pattern's names lie.
const fn chunk_of(pattern: Pattern) -> Option<&'static str> {
    Some(match pattern {
        Pattern::Topic => "t",
        Pattern::Service => "s",
        Pattern::Queue => "q",
        Pattern::State => "v",
        Pattern::Signal => "n",
        _ => return None,
    })
}

/// The key of a name: what a client of the engine publishes, subscribes to or asks under.
///
/// ```
/// use tidepost::Pattern;
///
/// let key = tidepost_zenoh::key_of("tidepost", Pattern::Topic, "arm/left/100%");
/// assert_eq!(key.as_deref(), Some("tidepost/t/arm/left/100%25"));
/// assert_eq!(tidepost_zenoh::name_of("tidepost", &key.unwrap()), Some((Pattern::Topic, "arm/left/100%".to_owned())));
/// ```
///
/// `None` if the pattern does not cross.
pub fn key_of(realm: &str, pattern: Pattern, name: &str) -> Option<String> {
    Some(format!("{realm}/{}/{}", chunk_of(pattern)?, escape(name)))
}

/// The pattern and the name of a key; `None` if it is the key of none.
pub fn name_of(realm: &str, key: &str) -> Option<(Pattern, String)> {
    let (chunk, name) = key.strip_prefix(realm)?.strip_prefix('/')?.split_once('/')?;
    let pattern = Pattern::ALL.into_iter().find(|pattern| chunk_of(*pattern) == Some(chunk))?;
    Some((pattern, unescape(name)?))
}

/// A name as the end of a key.
pub(crate) fn escape(name: &str) -> String {
    let chunks: Vec<String> = name.split('/').map(escape_chunk).collect();
    chunks.join("/")
}

fn escape_chunk(chunk: &str) -> String {
    if chunk.is_empty() {
        return "%".to_owned();
    }
    let mut escaped = String::with_capacity(chunk.len());
    for (index, character) in chunk.char_indices() {
        match character {
            '%' | '*' | '$' | '?' | '#' => escape_character(character, &mut escaped),
            '@' if index == 0 => escape_character(character, &mut escaped),
            plain => escaped.push(plain),
        }
    }
    escaped
}

fn escape_character(character: char, escaped: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(escaped, "%{:02x}", u32::from(character));
}

/// The name that is written so, if there is one.
fn unescape(key: &str) -> Option<String> {
    let chunks: Option<Vec<String>> = key.split('/').map(unescape_chunk).collect();
    let name = chunks?.join("/");
    // Each name has one way to be written: whatever comes from elsewhere would otherwise be a second one.
    (escape(&name) == key).then_some(name)
}

fn unescape_chunk(chunk: &str) -> Option<String> {
    if chunk == "%" {
        return Some(String::new());
    }
    let mut parts = chunk.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        plain.push(char::from(code));
        plain.push_str(&part[2..]);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use zenoh::key_expr::KeyExpr;

    use super::*;

    #[test]
    fn names_stay_readable() {
        for (name, key) in [
            ("arm/left/pose", "arm/left/pose"),
            ("100%", "100%25"),
            ("/absolute//twice/", "%/absolute/%/twice/%"),
            ("@home/a@b", "%40home/a@b"),
            ("what?*$#", "what%3f%2a%24%23"),
            ("größe", "größe"),
        ] {
            assert_eq!(escape(name), key);
            assert_eq!(unescape(key).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_no_name_is_written_as_is_none() {
        for key in ["", "a//b", "%zz", "%4", "%61", "%ff", "a/%25%", "@x", "%2A"] {
            assert_eq!(unescape(key), None, "{key}");
        }
    }

    /// Every text of up to five of these characters.
    fn texts(characters: &str) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut begin = 0;
        for _ in 0..5 {
            let end = texts.len();
            for index in begin..end {
                let longer: Vec<String> =
                    characters.chars().map(|last| format!("{}{last}", texts[index])).collect();
                texts.extend(longer);
            }
            begin = end;
        }
        texts
    }

    #[test]
    fn every_name_is_a_key_and_comes_back() {
        for name in texts("/%@*$?#a").into_iter().filter(|name| !name.is_empty()) {
            let key = format!("realm/t/{}", escape(&name));
            assert!(KeyExpr::try_from(key.as_str()).is_ok_and(|key| !key.is_wild()), "{key}");
            assert_eq!(unescape(&escape(&name)), Some(name));
        }
    }

    #[test]
    fn no_key_of_others_is_taken_for_two_names() {
        for key in texts("a%/@*24") {
            if let Some(name) = unescape(&key) {
                assert_eq!(escape(&name), key);
            }
        }
    }
}
