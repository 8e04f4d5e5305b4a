//! A gateway's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::bridge::BridgeOptions;
use crate::rules::{NamePattern, NamePatternError, Rules};
use crate::settings::{Settings, Tls};

/// Why a configuration file cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {reason}; give the path of a TOML file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// It is no TOML, or has a setting that is none.
    #[error("{}, line {line}: {reason}; `docs/network.md` has every setting", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule is none.
    #[error("{}, `{list}`: {source}", path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The list that it is in.
        list: &'static str,
        /// What is wrong with it.
        source: NamePatternError,
    },
}

/// What crosses, in either direction.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    out: Option<Vec<String>>,
    #[serde(rename = "in")]
    into: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFiles {
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    mutual: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    listen: Vec<String>,
    #[serde(default)]
    connect: Vec<String>,
    #[serde(default)]
    discover: bool,
    realm: Option<String>,
    machine: Option<String>,
    directory: Option<PathBuf>,
    lease_ms: Option<u64>,
    message_bytes_max: Option<usize>,
    room_bytes: Option<usize>,
    cache: Option<usize>,
    #[serde(default)]
    allow: Lists,
    #[serde(default)]
    deny: Lists,
    #[serde(default)]
    tls: TlsFiles,
    #[serde(default)]
    engine: BTreeMap<String, Value>,
}

/// What a configuration file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Configuration {
    /// How the engine is set up.
    pub settings: Settings,
    /// What crosses.
    pub rules: Rules,
    /// The domain's directory, if it is given.
    pub directory: Option<PathBuf>,
    /// The realm, if it is given.
    pub realm: Option<String>,
    /// What this machine is called, if it is given.
    pub machine: Option<String>,
    /// Bytes that wait for each name and direction, if they are given.
    pub room_bytes: Option<usize>,
    /// Messages that are kept of each topic, if that is given.
    pub cache: Option<usize>,
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`], which says in which line it is.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let read = std::fs::read_to_string(path);
        let text =
            read.map_err(|error| FileError::Read { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let wrong = |error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            FileError::Line { path: path.to_owned(), line, reason: error.message().trim().replace('\n', " ") }
        };
        let contents: Contents = toml::from_str(text).map_err(wrong)?;
        let (settings, rules) = (contents.settings(), contents.rules(path)?);
        let Contents { realm, machine, directory, room_bytes, cache, .. } = contents;
        Ok(Self { settings, rules, directory, realm, machine, room_bytes, cache })
    }

    /// The options of a bridge in the domain of `directory`.
    pub fn options(&self, directory: &Path) -> BridgeOptions {
        let usual = BridgeOptions::new(directory);
        BridgeOptions {
            directory: usual.directory,
            machine: self.machine.clone().unwrap_or(usual.machine),
            realm: self.realm.clone().unwrap_or(usual.realm),
            rules: self.rules.clone(),
            room_bytes: self.room_bytes.unwrap_or(usual.room_bytes),
            cache: self.cache.unwrap_or(usual.cache),
            inline: usual.inline,
        }
    }
}

impl Default for Configuration {
    /// What an empty file says.
    fn default() -> Self {
        Self::parse(Path::new(""), "").expect("nothing is wrong with nothing")
    }
}

impl Contents {
    fn settings(&self) -> Settings {
        let usual = Settings::default();
        let TlsFiles { authority, certificate, key, mutual } = &self.tls;
        Settings {
            listen: self.listen.clone(),
            connect: self.connect.clone(),
            discovers: self.discover,
            tls: Tls {
                authority: authority.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
                is_mutual: *mutual,
            },
            lease: self.lease_ms.map_or(usual.lease, Duration::from_millis),
            message_bytes_max: self.message_bytes_max.unwrap_or(usual.message_bytes_max),
            engine: self.engine.clone().into_iter().collect(),
        }
    }

    /// Without any list of what is allowed, everything is; with one, nothing else is.
    fn rules(&self, path: &Path) -> Result<Rules, FileError> {
        let read = |list: &'static str, texts: &Option<Vec<String>>| -> Result<Vec<NamePattern>, FileError> {
            let wrong = |source| FileError::Pattern { path: path.to_owned(), list, source };
            texts.iter().flatten().map(|text| text.parse().map_err(wrong)).collect()
        };
        let mut rules = Rules {
            allow_out: read("allow.out", &self.allow.out)?,
            allow_in: read("allow.in", &self.allow.into)?,
            deny_out: read("deny.out", &self.deny.out)?,
            deny_in: read("deny.in", &self.deny.into)?,
        };
        if self.allow.out.is_none() && self.allow.into.is_none() {
            let Rules { allow_out, allow_in, .. } = Rules::everything();
            rules = Rules { allow_out, allow_in, ..rules };
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use tidepost::Pattern;

    use super::*;
    use crate::rules::Direction;

    fn parse(text: &str) -> Result<Configuration, FileError> {
        Configuration::parse(Path::new("gateway.toml"), text)
    }

    #[test]
    fn every_setting_is_read() {
        let text = r#"
            listen = ["tls/0.0.0.0:7447"]
            connect = ["tcp/a:1"]
            realm = "plant"
            machine = "robot7"
            directory = "/run/domain"
            lease_ms = 500
            message_bytes_max = 1000
            room_bytes = 2000
            cache = 7
            [allow]
            out = ["topic/arm/**"]
            [deny]
            in = ["**"]
            [tls]
            authority = "ca.pem"
            mutual = true
            [engine]
            "transport/unicast/max_sessions" = 3
        "#;
        let read = parse(text).expect("it is right");
        let Settings { listen, connect, tls, lease, message_bytes_max, engine, .. } = &read.settings;
        assert_eq!((&listen[0][..], &connect[0][..]), ("tls/0.0.0.0:7447", "tcp/a:1"));
        assert_eq!((lease.as_millis(), *message_bytes_max, tls.is_mutual), (500, 1000, true));
        assert_eq!(engine[..], [("transport/unicast/max_sessions".to_owned(), Value::from(3))]);
        let options = read.options(Path::new("/d"));
        assert_eq!((&options.realm[..], &options.machine[..]), ("plant", "robot7"));
        assert_eq!((options.room_bytes, options.cache), (2000, 7));
        let allow = |direction, name| read.rules.allow(direction, Pattern::Topic, name);
        assert!(
            allow(Direction::Out, "arm/x") && !allow(Direction::Out, "leg") && !allow(Direction::In, "arm/x")
        );
    }

    #[test]
    fn an_empty_file_lets_everything_cross() {
        let read = Configuration::default();
        assert!(read.rules.allow(Direction::In, Pattern::Queue, "a") && !read.settings.is_exposed());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, part) in [
            ("\nlisten = [\n", 2, "array"),
            ("realm = \"a\"\nlisen = []", 2, "lisen"),
            ("lease_ms = \"long\"", 1, "u64"),
            ("[allow]\n\nouter = []", 3, "outer"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("gateway.toml, line {line}: ")) && error.contains(part),
                "{error}"
            );
        }
        let error = parse("[deny]\nin = [\"topics/a\"]").expect_err("there are no topics").to_string();
        assert!(error.contains("`deny.in`: `topics/a` is no pattern of names"), "{error}");
        let error = Configuration::read(Path::new("/no/such.toml")).expect_err("there is none").to_string();
        assert!(error.contains("/no/such.toml") && error.contains("TOML"), "{error}");
    }
}
