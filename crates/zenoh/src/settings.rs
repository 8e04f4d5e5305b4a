//! How the engine is set up.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use zenoh::Config;

use crate::link::LinkError;

/// The certificates and keys of TLS and QUIC, in PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whom to believe: the authority that signed the other ends' certificates.
    pub authority: Option<PathBuf>,
    /// This end's certificate.
    pub certificate: Option<PathBuf>,
    /// And its key.
    pub key: Option<PathBuf>,
    /// Whether those who connect have to show a certificate too.
    pub is_mutual: bool,
}

/// Where to listen, whom to connect to, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on, such as `tcp/0.0.0.0:7447`.
    pub listen: Vec<String>,
    /// Addresses to connect to.
    pub connect: Vec<String>,
    /// Whether the engine looks for others by multicast, and connects to whoever it finds.
    pub discovers: bool,
    /// Certificates and keys.
    pub tls: Tls,
    /// After how long a silent link is taken to be dead.
    pub lease: Duration,
    /// The longest message that is taken in, in bytes.
    pub message_bytes_max: usize,
    /// Further settings of the engine: path, and value in JSON. For its access control, for instance.
    pub engine: Vec<(String, Value)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            connect: Vec::new(),
            discovers: false,
            tls: Tls::default(),
            lease: Duration::from_secs(2),
            message_bytes_max: 64 << 20,
            engine: Vec::new(),
        }
    }
}

/// Where whoever is to be found listens.
const ANYWHERE: &str = "tcp/0.0.0.0:0";
/// Of an address of QUIC: all priorities on one stream.
const ONE_STREAM: &str = "multistream=0";
/// Within which a link has to be opened.
const OPEN_MS: u64 = 5_000;
/// How soon, and how late, another attempt is made to connect.
const RETRY_MS: (u64, u64) = (100, 2_000);

impl Settings {
    /// Whether anybody beyond this machine can connect to us.
    pub fn is_exposed(&self) -> bool {
        self.discovers || self.listen.iter().any(|address| !is_loopback(address))
    }

    /// Whether those who connect have to show who they are.
    pub fn has_authentication(&self) -> bool {
        let is_mutual = |address: &String| {
            self.tls.is_mutual && (address.starts_with("tls/") || address.starts_with("quic/"))
        };
        let is_given = |(path, _): &(String, Value)| path.starts_with("transport/auth/");
        !self.discovers && self.listen.iter().filter(|address| !is_loopback(address)).all(is_mutual)
            || self.engine.iter().any(is_given)
    }

    /// Where it listens and whom it connects to, in a line.
    pub fn summary(&self) -> String {
        let list = |what: &str, addresses: &[String]| {
            (!addresses.is_empty()).then(|| format!("{what} {}", addresses.join(", ")))
        };
        let parts = [
            list("listening on", &self.listen),
            list("connecting to", &self.connect),
            self.discovers.then(|| "looking for others by multicast".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            "listening nowhere and connecting to nobody".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// Where it listens: who is to be found has to, and says where when it is.
    fn listens(&self) -> Vec<String> {
        if self.discovers && self.listen.is_empty() {
            return vec![ANYWHERE.to_owned()];
        }
        in_order(&self.listen)
    }

    /// A router connects to any number of others, goes on trying in the background, and relays what they say to each other; a
    /// client does none of that, and a peer does not relay.
    fn mode(&self) -> &'static str {
        if self.discovers { "peer" } else { "router" }
    }

    /// The engine's own configuration, with nothing left to its defaults that matters.
    ///
    /// # Errors
    /// [`LinkError::Engine`] if the engine knows no such setting, or does not take the value.
    pub fn to_config(&self) -> Result<Config, LinkError> {
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let retry =
            json!({"period_init_ms": RETRY_MS.0, "period_max_ms": RETRY_MS.1, "period_increase_factor": 2.0});
        // Parts of the lease, together less than that: whoever waits for a link may be whoever reads from others, or keep from its work
        // whoever sends over them, which would be taken for gone. The first that finds no room waits, so that whoever sends is held back by
        // a link that is slower, and those behind it do not until there has been some.
        let part_us = |part: u128| u64::try_from(self.lease.as_micros() / part).unwrap_or(u64::MAX);
        // Messages for others are handed on where all links are read from, in a queue of their own, as whoever waits for room in one keeps
        // everybody from it; so are questions, which would otherwise wait behind all messages, and which are not dropped. (Answers go as
        // their questions came.) What has a priority that somebody has chosen keeps it.
        let moved = [
            overwritten(
                &["put", "delete"],
                "ingress",
                json!({"congestion_control": "drop", "priority": "data_low"}),
            ),
            overwritten(&["query"], "egress", json!({"priority": "data_high"})),
        ];
        let mut settings = vec![
            ("mode", json!(self.mode())),
            ("listen/endpoints", json!(self.listens())),
            ("listen/exit_on_failure", json!(true)),
            ("connect/endpoints", json!(in_order(&self.connect))),
            ("connect/exit_on_failure", json!(false)),
            ("connect/timeout_ms", json!(-1)),
            ("connect/retry", retry),
            ("scouting/multicast/enabled", json!(self.discovers)),
            ("scouting/gossip/enabled", json!(self.discovers)),
            ("timestamping/enabled", json!(false)),
            ("transport/unicast/open_timeout", json!(OPEN_MS)),
            ("transport/unicast/accept_timeout", json!(OPEN_MS)),
            ("transport/link/protocols", json!(["tcp", "tls", "quic"])),
            ("transport/link/tx/lease", json!(lease_ms)),
            ("transport/link/tx/keep_alive", json!(4)),
            ("transport/link/tx/queue/congestion_control/block/wait_before_close", json!(part_us(2))),
            ("transport/link/tx/queue/congestion_control/drop/wait_before_drop", json!(part_us(2))),
            (
                "transport/link/tx/queue/congestion_control/drop/max_wait_before_drop_fragments",
                json!(part_us(4)),
            ),
            ("qos/network", json!(moved)),
            ("transport/link/rx/max_message_size", json!(self.message_bytes_max.saturating_add(1 << 16))),
            ("transport/shared_memory/enabled", json!(false)),
        ];
        let Tls { authority, certificate, key, is_mutual } = &self.tls;
        let files = [
            ("transport/link/tls/root_ca_certificate", authority),
            ("transport/link/tls/listen_certificate", certificate),
            ("transport/link/tls/listen_private_key", key),
            ("transport/link/tls/connect_certificate", certificate),
            ("transport/link/tls/connect_private_key", key),
        ];
        settings.extend(files.into_iter().filter_map(|(path, file)| Some((path, json!(file.as_ref()?)))));
        settings.push(("transport/link/tls/enable_mtls", json!(is_mutual)));
        settings.push(("transport/link/tls/close_link_on_expiration", json!(true)));
        let own = settings.into_iter().map(|(path, value)| (path.to_owned(), value));
        let mut config = Config::default();
        for (path, value) in own.chain(self.engine.iter().cloned()) {
            let failed = |error: zenoh::Error| LinkError::Engine {
                action: format!("the setting `{path}` = {value}"),
                reason: error.to_string(),
            };
            config.insert_json5(&path, &value.to_string()).map_err(failed)?;
        }
        Ok(config)
    }
}

/// What of the usual priority is sent, or taken in, with others of the engine's qualities than it came with.
fn overwritten(messages: &[&str], flow: &str, qualities: Value) -> Value {
    json!({"flows": [flow], "messages": messages, "qos": {"priority": "data"}, "overwrite": qualities})
}

/// Addresses, with QUIC's streams for each priority turned off: what is said on one overtakes what was said before it on another, so that
/// a message would come before its type does. Who asks for them gets them.
fn in_order(addresses: &[String]) -> Vec<String> {
    let in_order = |address: &String| {
        let (place, rest) = address.split_at(address.find('#').unwrap_or(address.len()));
        match place.split_once('?') {
            _ if !place.starts_with("quic/") => address.clone(),
            None => format!("{place}?{ONE_STREAM}{rest}"),
            Some((_, given)) if given.contains("multistream=") => address.clone(),
            Some(_) => format!("{place};{ONE_STREAM}{rest}"),
        }
    };
    addresses.iter().map(in_order).collect()
}

fn is_loopback(address: &str) -> bool {
    let host = address.split_once('/').map_or(address, |(_, host)| host);
    let host = host.split(['?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str) -> Settings {
        Settings { listen: vec![address.to_owned()], ..Settings::default() }
    }

    #[test]
    fn nothing_is_exposed_unless_it_was_asked_for() {
        assert!(!Settings::default().is_exposed());
        for address in
            ["tcp/127.0.0.1:0", "tls/[::1]:7447", "quic/localhost:1", "tcp/127.0.0.1:7447?rel=1#iface=lo"]
        {
            assert!(!listening(address).is_exposed(), "{address}");
        }
        for address in ["tcp/0.0.0.0:7447", "tcp/[::]:0", "tcp/robot:7447", "tcp/10.0.0.1:1"] {
            assert!(listening(address).is_exposed(), "{address}");
        }
        assert!(Settings { discovers: true, ..Settings::default() }.is_exposed());
    }

    #[test]
    fn only_certificates_and_passwords_authenticate() {
        let tls = Tls { is_mutual: true, ..Tls::default() };
        assert!(!listening("tcp/0.0.0.0:1").has_authentication());
        assert!(!listening("tls/0.0.0.0:1").has_authentication());
        assert!(Settings { tls: tls.clone(), ..listening("tls/0.0.0.0:1") }.has_authentication());
        assert!(!Settings { tls, ..listening("tcp/0.0.0.0:1") }.has_authentication());
        let engine = vec![("transport/auth/usrpwd/user".to_owned(), json!("x"))];
        assert!(Settings { engine, ..listening("tcp/0.0.0.0:1") }.has_authentication());
    }

    #[test]
    fn every_setting_is_one_of_the_engine() {
        let tls = Tls {
            authority: Some("/a".into()),
            certificate: Some("/b".into()),
            key: Some("/c".into()),
            is_mutual: true,
        };
        for settings in
            [Settings::default(), listening("tcp/127.0.0.1:0"), Settings { tls, ..listening("tls/[::1]:0") }]
        {
            let config = settings.to_config().expect("the engine knows them");
            assert_eq!(config.get_json("scouting/multicast/enabled").expect("it is there"), "false");
            assert_eq!(config.get_json("transport/link/tx/lease").expect("it is there"), "2000");
            for (wait, due) in [
                ("block/wait_before_close", "1000000"),
                ("drop/wait_before_drop", "1000000"),
                ("drop/max_wait_before_drop_fragments", "500000"),
            ] {
                let path = format!("transport/link/tx/queue/congestion_control/{wait}");
                assert_eq!(config.get_json(&path).expect("it is there"), due, "a part of the lease: {wait}");
            }
            let moved = config.get_json("qos/network").expect("it is there");
            assert!(moved.contains("data_low") && moved.contains("data_high"), "{moved}");
        }
    }

    #[test]
    fn quic_keeps_the_order_unless_told_otherwise() {
        let given = [
            "quic/a:1",
            "quic/a:1#iface=lo",
            "quic/a:1?rel=1#iface=lo",
            "quic/a:1?multistream=1",
            "tls/a:1",
            "tcp/a:1?rel=1",
        ];
        let due = [
            "quic/a:1?multistream=0",
            "quic/a:1?multistream=0#iface=lo",
            "quic/a:1?rel=1;multistream=0#iface=lo",
            "quic/a:1?multistream=1",
            "tls/a:1",
            "tcp/a:1?rel=1",
        ];
        assert_eq!(in_order(&given.map(str::to_owned)), due);
    }

    #[test]
    fn a_setting_that_is_none_is_named() {
        for (path, value) in
            [("no/such", json!(1)), ("mode", json!("captain")), ("listen/endpoints", json!(["nonsense"]))]
        {
            let settings = Settings { engine: vec![(path.to_owned(), value)], ..Settings::default() };
            let error = settings.to_config().expect_err(path).to_string();
            assert!(error.contains(path), "{error}");
        }
    }
}
