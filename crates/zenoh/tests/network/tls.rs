//! Who is let in, and who is denied: certificates and access control.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tidepost::{CallError, Message, Overflow, TypeDescriptor, Untyped};
use tidepost_zenoh::{Settings, Tls, check};

use crate::shim::Overtaking;
use crate::stage::{Domain, PATIENCE, until};

/// All that ask for certificates, and are built in.
const PROTOCOLS: &[&str] = &[
    "tls",
    #[cfg(feature = "quic")]
    "quic",
];

/// At the same time, as who is not let in is waited for.
fn with_each_protocol(test: fn(&str)) {
    std::thread::scope(|scope| PROTOCOLS.iter().for_each(|protocol| drop(scope.spawn(|| test(protocol)))));
}

/// An authority, and what it has signed, in files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    fn new(domain: &Domain, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are right");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can be signed");
        let directory = domain.path().join(name);
        fs::create_dir(&directory).expect("the domain is ours");
        fs::write(directory.join("authority.pem"), issuer.pem()).expect("it can be written");
        Self { issuer, directory }
    }

    /// A certificate for this machine, good until the beginning of that year.
    fn signed(&self, name: &str, until: i32) -> Tls {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("they are names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let write = |kind: &str, pem: String| {
            let path = self.directory.join(format!("{name}.{kind}.pem"));
            fs::write(&path, pem).expect("it can be written");
            Some(path)
        };
        let (certificate, key) = (write("certificate", certificate.pem()), write("key", key.serialize_pem()));
        Tls { authority: Some(self.directory.join("authority.pem")), certificate, key, is_mutual: true }
    }
}

fn listening(protocol: &str, tls: &Tls) -> Settings {
    Settings { listen: vec![format!("{protocol}/127.0.0.1:0")], tls: tls.clone(), ..Settings::default() }
}

fn connecting(to: &[String], tls: &Tls) -> Settings {
    Settings { connect: to.to_vec(), tls: tls.clone(), ..Settings::default() }
}

#[test]
fn who_has_the_right_certificate_is_let_in() {
    with_each_protocol(lets_in);
}

fn lets_in(protocol: &str) {
    let domains = ["east", "west"].map(Domain::new);
    let authority = Authority::new(&domains[0], "ours");
    let east = domains[0].gateway(&listening(protocol, &authority.signed("east", 4000)));
    assert!(east.addresses()[0].starts_with(&format!("{protocol}/")), "{:?}", east.addresses());
    let west = domains[1].gateway(&connecting(&east.addresses(), &authority.signed("west", 4000)));
    until("both see each other", || west.status().machines == ["east"] && east.status().machines == ["west"]);
    let nodes = domains.each_ref().map(Domain::node);
    let mut subscriber = nodes[1].topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = nodes[0].topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(&7).expect("there is room");
    let got = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").map(|sample| *sample);
    assert_eq!(got, Some(7), "{protocol}: {:?}, {:?}", east.status(), west.status());
}

/// The fear: what is said on one stream of a connection overtakes what was said before it on another, and a message comes before its
/// type does.
#[cfg(feature = "quic")]
#[test]
fn nothing_overtakes_what_was_said_before_it() {
    let domains = ["east", "west"].map(Domain::new);
    let authority = Authority::new(&domains[0], "ours");
    let east = domains[0].gateway(&listening("quic", &authority.signed("east", 4000)));
    let address = east.addresses().swap_remove(0);
    let address = address.trim_start_matches("quic/").split('?').next().unwrap_or_default();
    let wire = Overtaking::to(address, Duration::from_millis(100));
    let through = [format!("quic/{}", wire.address())];
    let west = domains[1].gateway(&connecting(&through, &authority.signed("west", 4000)));
    until("both see each other", || west.status().machines == ["east"] && east.status().machines == ["west"]);
    let nodes = domains.each_ref().map(Domain::node);
    for number in 0..12_u64 {
        let topic = format!("t{number}");
        let message_type = TypeDescriptor { name: format!("T{number}").into(), ..u64::descriptor() };
        let mut subscriber = nodes[1].topic_dyn(&topic).subscriber().expect("any type will do");
        let topic = nodes[0].topic_dyn(&topic).message_type(message_type);
        let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher.send(Untyped::new(&number.to_ne_bytes())).expect("there is room");
        let got = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
        let got = got.map(|sample| sample.to_vec());
        assert_eq!(got, Some(number.to_ne_bytes().to_vec()), "{:?}, {:?}", east.status(), west.status());
    }
}

#[test]
fn who_has_none_or_a_wrong_or_an_old_one_is_not() {
    with_each_protocol(lets_nobody_else_in);
}

fn lets_nobody_else_in(protocol: &str) {
    let domain = Domain::new("east");
    let (ours, theirs) = (Authority::new(&domain, "ours"), Authority::new(&domain, "theirs"));
    let east = domain.gateway(&listening(protocol, &ours.signed("east", 4000)));
    until("it is active", || east.status().is_active);
    let right = ours.signed("right", 4000);
    let foreign = theirs.signed("foreign", 4000);
    let wrong = Tls { authority: right.authority.clone(), ..foreign.clone() };
    let none = Tls { certificate: None, key: None, is_mutual: false, ..right.clone() };
    for (what, tls) in [
        ("none", &none),
        ("one of another authority", &wrong),
        ("one that has expired", &ours.signed("old", 2021)),
        ("one that does not believe ours", &foreign),
    ] {
        let report = check(&connecting(&east.addresses(), tls), "tidepost").expect("the files can be read");
        assert!(report.connections == 0 && report.gateways.is_empty(), "{protocol}, {what}: {report}");
        assert!(report.to_string().contains("trust the same authority"), "{report}");
    }
    let report = check(&connecting(&east.addresses(), &right), "tidepost").expect("the files can be read");
    assert_eq!(report.gateways.len(), 1, "{report}");
    assert!(report.gateways[0].round_trip.is_some_and(|took| took < PATIENCE), "{report}");
}

#[test]
fn files_that_are_none_are_named() {
    let domain = Domain::new("east");
    let tls =
        Tls { certificate: Some("/no/such.pem".into()), key: Some("/no/such.key".into()), ..Tls::default() };
    let error = tidepost_zenoh::Gateway::start(&listening("tls", &tls), domain.options())
        .expect_err("there are none");
    assert!(error.to_string().contains("No such file"), "{error}");
}

/// Settings of a gateway that denies these messages under these keys.
fn denying(messages: &[&str], keys: &[&str]) -> Settings {
    let control = serde_json::json!({
        "enabled": true,
        "default_permission": "allow",
        "rules": [{
            "id": "secrets",
            "permission": "deny",
            "flows": ["ingress", "egress"],
            "messages": messages,
            "key_exprs": keys,
        }],
        "subjects": [{ "id": "everybody" }],
        "policies": [{ "rules": ["secrets"], "subjects": ["everybody"] }],
    });
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    Settings { listen, engine: vec![("access_control".to_owned(), control)], ..Settings::default() }
}

/// The fear: only the messages are denied, and whoever sends them believes that they are received.
#[test]
fn who_may_not_send_sees_that_nobody_receives_it() {
    let domains = ["east", "west"].map(Domain::new);
    let east = domains[0].gateway(&denying(
        &["put", "query"],
        &["tidepost/t/secret", "tidepost/v/secret", "tidepost/v/secret/@adv/**", "tidepost/n/secret"],
    ));
    let west = domains[1].gateway(&Settings { connect: east.addresses(), ..Settings::default() });
    let nodes = domains.each_ref().map(Domain::node);
    let mut publishers = ["open", "secret"]
        .map(|topic| nodes[0].topic::<u64>(topic).publisher(Overflow::Block).expect("the topic is ours"));
    let subscribers =
        ["open", "secret"].map(|topic| nodes[1].topic::<u64>(topic).subscriber().expect("the types agree"));
    let mut value = nodes[0].state::<u64>("open").writer().expect("nobody else writes it");
    let mut read = nodes[1].state::<u64>("open").reader().expect("the types agree");
    value.set(&7).expect("there is room");
    assert_eq!(read.wait(PATIENCE).expect("waiting succeeds").map(|value| *value), Some(7));
    for publisher in &mut publishers {
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher.send(&7).expect("there is room");
    }
    let mut sign = nodes[0].signal("open").ids(2).notifier().expect("it is ours");
    let mut seen = nodes[1].signal("open").ids(2).waiter().expect("the numbers agree");
    sign.wait_for_waiters(1, PATIENCE).expect("the gateway waits");
    sign.notify(1).expect("it is one of two");
    assert!(seen.wait_timeout(PATIENCE).expect("waiting succeeds").is_some());
    until("its publisher sees it", || {
        publishers[1].send(&7).expect("there is room");
        std::thread::sleep(Duration::from_millis(50));
        publishers[1].subscribers() == 0
    });
    // And so for what has other names for them. A value need not be written again for that.
    let mut notifier = nodes[0].signal("secret").ids(2).notifier().expect("it is ours");
    let mut writer = nodes[0].state::<u64>("secret").writer().expect("nobody else writes it");
    let waiter = nodes[1].signal("secret").ids(2).waiter().expect("the numbers agree");
    let reader = nodes[1].state::<u64>("secret").reader().expect("the types agree");
    notifier.wait_for_waiters(1, PATIENCE).expect("the gateway waits");
    writer.wait_for_readers(1, PATIENCE).expect("the gateway reads");
    writer.set(&7).expect("there is room");
    until("its notifiers see it, and its writer does", || {
        notifier.notify(1).expect("it is one of two");
        std::thread::sleep(Duration::from_millis(50));
        notifier.waiters() == 0 && writer.readers() == 0
    });
    let troubles = east.status().troubles;
    for what in ["topic", "state", "signal"] {
        let due = format!("{what} `secret`: nothing");
        assert!(troubles.iter().any(|trouble| trouble.contains(&due)), "{troubles:?}");
    }
    // It is tried again, and found out again: that it ends is not taken for something that arrives.
    until("it is tried again", || writer.readers() == 1);
    until("it is denied again", || writer.readers() == 0);
    drop((waiter, reader));
    let received = (publishers[0].subscribers(), value.readers(), sign.waiters());
    assert_eq!(received, (1, 1, 1), "what is allowed is received");
    assert!(!troubles.iter().any(|trouble| trouble.contains("`open`")), "{troubles:?}");
    drop((subscribers, west));
}

/// The fear: the engine denies, and tells nobody.
#[test]
fn what_access_control_denies_is_not_there_for_whoever_asks() {
    let domains = ["east", "west"].map(Domain::new);
    let messages = ["put", "declare_subscriber", "query", "reply", "declare_queryable", "liveliness_token"];
    let east = domains[0].gateway(&denying(
        &messages,
        &["tidepost/t/secret", "tidepost/s/secret", "tidepost/@has/*/s/secret"],
    ));
    let west = domains[1].gateway(&Settings { connect: east.addresses(), ..Settings::default() });
    let nodes = domains.each_ref().map(Domain::node);
    let mut open = nodes[0].topic::<u64>("open").publisher(Overflow::Block).expect("the topic is ours");
    let secret = nodes[0].topic::<u64>("secret").publisher(Overflow::Block).expect("the topic is ours");
    let subscribers =
        ["open", "secret"].map(|topic| nodes[1].topic::<u64>(topic).subscriber().expect("the types agree"));
    let server = nodes[0].service::<u64, u64>("secret").server().expect("it is ours");
    let mut client = nodes[1].service::<u64, u64>("secret").client().expect("the types agree");
    open.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    until("both see each other", || west.status().machines.len() == 1 && east.status().machines.len() == 1);
    // What is allowed has been there for a while, and what is denied is not.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(secret.subscribers(), 0, "nobody receives it, which its publisher sees");
    let error = client.call(&1, PATIENCE).map(|answer| *answer).expect_err("nobody is reached");
    assert!(matches!(error, CallError::NoServer { .. } | CallError::Unreachable { .. }), "{error}");
    drop((subscribers, server));
}
