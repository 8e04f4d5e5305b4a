//! Sizes, durations and rates, as people write and read them.

use std::time::Duration;

use tidepost::{EndpointId, NodeId, Shape, TypeDescriptor};

/// Digits of an identity that are shown.
const SHORT_DIGITS: usize = 8;

/// Reads a number of bytes: `4096`, `4k`, `64KiB`, `1M`.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        other => return Err(format!("`{other}` is no unit; use k, m or g")),
    };
    let number: usize = digits.parse().map_err(|_| format!("`{text}` is no number of bytes"))?;
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is more than any memory"))
}

/// Reads seconds: `2`, `0.5`.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}` seconds: {error}"))
}

/// A size in the unit that suits it: `56 B`, `4 KiB`, `1 MiB`.
pub fn bytes(count: u64) -> String {
    match count {
        0..=1023 => format!("{count} B"),
        1024..=1_048_575 => format!("{} KiB", trimmed(count as f64 / 1024.0)),
        _ => format!("{} MiB", trimmed(count as f64 / 1_048_576.0)),
    }
}

/// A time in the unit that suits it: `55 ns`, `2.3 µs`, `1.1 ms`.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1000.0 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Messages each second in the unit that suits it: `4.1 M/s`, `870 k/s`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.1} M/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.0} k/s", rate / 1e3),
        rate if rate >= 10.0 => format!("{rate:.0} /s"),
        rate => format!("{} /s", trimmed(rate)),
    }
}

/// Somebody else's text for a terminal: characters that would steer it are replaced.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// A node's identity in few characters, enough to tell the nodes of a list apart.
pub fn short_node(node: NodeId) -> String {
    node.to_string().chars().take(SHORT_DIGITS).collect()
}

/// An endpoint's identity in few characters.
pub fn short_endpoint(endpoint: EndpointId) -> String {
    format!("{}.{}", short_node(endpoint.node()), endpoint.number())
}

/// A message type as Rust writes it: `Pose`, `[u8]`.
pub fn type_name(descriptor: &TypeDescriptor) -> String {
    let name = printable(&descriptor.name);
    match descriptor.shape {
        Shape::One => name,
        Shape::Slice => format!("[{name}]"),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_any_unit() {
        assert_eq!(parse_bytes("56"), Ok(56));
        assert_eq!(parse_bytes("64k"), Ok(65536));
        assert_eq!(parse_bytes("1MiB"), Ok(1 << 20));
        assert!(
            parse_bytes("4x").is_err() && parse_bytes("k").is_err() && parse_bytes("99999999999g").is_err()
        );
    }

    #[test]
    fn figures_are_shown_in_the_unit_that_suits_them() {
        assert_eq!((bytes(56), bytes(4096), bytes(1 << 20)), ("56 B".into(), "4 KiB".into(), "1 MiB".into()));
        assert_eq!((nanoseconds(55.2), nanoseconds(2300.0)), ("55 ns".into(), "2.3 µs".into()));
        let rates = [4.12e6, 870e3, 12.3, 0.5, 0.0].map(rate);
        assert_eq!(rates, ["4.1 M/s", "870 k/s", "12 /s", "0.5 /s", "0 /s"]);
    }

    #[test]
    fn identities_are_cut_and_texts_cannot_steer_a_terminal() {
        let endpoint: EndpointId = "0123456789abcdef0123456789abcdef.7".parse().expect("it is an identity");
        assert_eq!(short_endpoint(endpoint), "01234567.7");
        assert_eq!(printable("a\x1b[2Jb\u{9b}c é"), "a?[2Jb?c é");
        let bytes = TypeDescriptor::of_primitive::<u8>("u8");
        assert_eq!((type_name(&bytes), type_name(&bytes.into_slice())), ("u8".into(), "[u8]".into()));
    }

    #[test]
    fn seconds_may_be_parts() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("-1").is_err() && parse_seconds("x").is_err());
    }
}
