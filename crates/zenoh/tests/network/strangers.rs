//! Clients of the engine that know nothing of us, and those that mean no good.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tidepost::{Message, Overflow, Pattern, Text};
use tidepost_zenoh::{Gateway, Settings, Zenoh, key_of};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::Queryable;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait};

use crate::stage::{Domain, PATIENCE, connecting, listening, skip, until};

/// A domain whose gateway listens, and a client of the engine that is connected to it.
struct Meeting {
    client: Zenoh,
    gateway: Gateway,
    domain: Domain,
}

impl Meeting {
    fn new() -> Self {
        let domain = Domain::new("east");
        let gateway = domain.gateway(&listening());
        let client = Zenoh::open(&connecting(&gateway)).expect("the gateway listens");
        Self { client, gateway, domain }
    }
}

fn key(pattern: Pattern, name: &str) -> String {
    key_of("tidepost", pattern, name).expect("it crosses")
}

/// Says what a `u64` is to gateways that ask.
fn tell_what_a_u64_is(session: &Session) -> Queryable<()> {
    let told = r#"{"name":"u64","size":8,"align":8,"is_slice":false,"fields":[]}"#;
    let type_key = format!("tidepost/@type/{:016x}", u64::descriptor().hash64());
    let telling = session.declare_queryable(type_key).callback(move |query| {
        query.reply(query.key_expr().clone(), told).wait().expect("whoever asks is there");
    });
    telling.wait().expect("it may")
}

#[test]
fn a_client_publishes_subscribes_and_is_seen() {
    let Meeting { client, gateway, domain } = Meeting::new();
    let session = client.session();
    let node = domain.node();
    // It is seen as present, and sees who is.
    let live =
        session.liveliness().declare_subscriber("tidepost/@live/**").history(true).wait().expect("it may");
    let token = live.recv_timeout(PATIENCE).expect("the session is open").expect("the gateway is there");
    assert!(token.key_expr().as_str().ends_with("/east"), "{}", token.key_expr());
    let shown = session.liveliness().declare_token("tidepost/@live/00/stranger").wait().expect("it may");
    until("it is seen", || gateway.status().machines == ["stranger"]);
    drop(shown);
    until("it is missed", || gateway.status().machines.is_empty());
    // It publishes, and a program receives.
    let mut subscriber = node.topic::<[u8]>("in").subscriber().expect("the types agree");
    let publisher = session.declare_publisher(key(Pattern::Topic, "in")).wait().expect("it may");
    until("the gateway subscribes", || publisher.matching_status().wait().expect("it is open").matching());
    publisher.put("hello").wait().expect("it is open");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert_eq!((&*sample, sample.publisher_node()), (&b"hello"[..], "network/zenoh"));
    // A program publishes, and it receives.
    let received = session.declare_subscriber(key(Pattern::Topic, "out")).wait().expect("it may");
    let mut publisher = node.topic::<u32>("out").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(&258).expect("there is room");
    let sample = received.recv_timeout(PATIENCE).expect("the session is open").expect("it was sent");
    assert_eq!((&*sample.payload().to_bytes(), sample.kind()), (&[2, 1, 0, 0][..], SampleKind::Put));
    let encoding =
        format!("application/x-tidepost;schema=u32@{:016x};order=little", u32::descriptor().hash64());
    assert_eq!(sample.encoding().to_string(), encoding);
    drop((received, live));
}

/// The engine's own setting gives names priorities, and names are keys.
#[test]
fn names_have_the_priorities_that_are_chosen_for_them() {
    let domain = Domain::new("east");
    let chosen = r#"[{"key_exprs": ["tidepost/t/arm/**"], "config": {"priority": "real_time"}}]"#;
    let chosen = serde_json::from_str(chosen).expect("it is JSON");
    let engine = vec![("qos/publication".to_owned(), chosen)];
    let gateway = domain.gateway(&Settings { engine, ..listening() });
    // Whoever may relay has another priority for what came with the usual one.
    let engine = vec![("qos/network".to_owned(), serde_json::Value::Array(Vec::new()))];
    let client = Zenoh::open(&Settings { engine, ..connecting(&gateway) }).expect("the gateway listens");
    let received = client.session().declare_subscriber("tidepost/t/**").wait().expect("it may");
    for (name, priority) in [("arm/stop", Priority::RealTime), ("log", Priority::Data)] {
        let topic = domain.node();
        let mut publisher = topic.topic::<[u8]>(name).publisher(Overflow::Block).expect("it is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher.send(b"x").expect("there is room");
        let sample = received.recv_timeout(PATIENCE).expect("the session is open").expect("it was sent");
        assert_eq!((sample.key_expr().as_str(), sample.priority()), (&*key(Pattern::Topic, name), priority));
    }
}

#[test]
fn a_client_asks_and_answers() {
    let Meeting { client, gateway: _gateway, domain } = Meeting::new();
    let session = client.session();
    let node = domain.node();
    // It asks, and a program answers.
    let mut server = node.service::<[u8], [u8]>("upper").server().expect("it is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || {
        server.serve(
            |asked: &[u8]| if asked.is_empty() { Err("nothing") } else { Ok(asked.to_ascii_uppercase()) },
        )
    });
    let ask = |what: &str| {
        let replies = session.get(key(Pattern::Service, "upper")).payload(what).wait().expect("it may");
        // Without a server there is an end, and no answer before it.
        replies.recv_timeout(PATIENCE).ok().flatten()
    };
    until("it is served", || ask("x").is_some());
    let answer = ask("abc").expect("it is served").into_result().expect("it succeeds");
    assert_eq!(&*answer.payload().to_bytes(), b"ABC");
    let failure = ask("").expect("it is served").into_result().expect_err("it fails");
    assert_eq!(&*failure.payload().to_bytes(), b"nothing");
    handle.cancel();
    serving.join().expect("it does not panic").expect("it served");
    // It answers, and a program asks.
    let queryable = session.declare_queryable(key(Pattern::Service, "lower"));
    let answering = queryable.callback(|query| {
        let asked =
            query.payload().map(|payload| payload.to_bytes().to_ascii_lowercase()).unwrap_or_default();
        query.reply(query.key_expr(), asked).wait().expect("the gateway is there");
    });
    let answering = answering.wait().expect("it may");
    let mut client = node.service::<[u8], [u8]>("lower").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    assert_eq!(&*client.call(b"ABC", PATIENCE).expect("it answers"), b"abc");
    // It asks for the latest value.
    let mut writer = node.state::<[u8]>("mode").writer().expect("nobody else writes it");
    writer.set(b"idle").expect("there is room");
    until("the value is known", || {
        let replies = session.get(key(Pattern::State, "mode")).wait().expect("it may");
        let reply = replies.recv_timeout(PATIENCE).ok().flatten();
        reply.is_some_and(|reply| reply.result().is_ok_and(|value| &*value.payload().to_bytes() == b"idle"))
    });
    drop(answering);
}

/// The fear: numbers of a machine that writes them the other way round are taken for ours. What is encoded means the same everywhere.
#[test]
fn numbers_of_another_byte_order_are_refused_and_what_is_encoded_is_not() {
    let Meeting { client, gateway, domain } = Meeting::new();
    let session = client.session();
    let node = domain.node();
    let mut numbers = node.topic::<u64>("numbers").subscriber().expect("the types agree");
    let mut text = node.topic::<[u8]>("text").subscriber().expect("the types agree");
    let [to_numbers, to_text] = ["numbers", "text"]
        .map(|name| session.declare_publisher(key(Pattern::Topic, name)).wait().expect("it may"));
    for publisher in [&to_numbers, &to_text] {
        until("the gateway subscribes", || {
            publisher.matching_status().wait().expect("it is open").matching()
        });
    }
    let [ours, theirs] = if cfg!(target_endian = "little") { ["little", "big"] } else { ["big", "little"] };
    let _telling = tell_what_a_u64_is(session);
    let hash = u64::descriptor().hash64();
    let encoding = |order| format!("application/x-tidepost;schema=u64@{hash:016x};order={order}");
    let put = |order, number: u64| {
        let put = to_numbers.put(number.to_ne_bytes().to_vec()).encoding(encoding(order));
        put.wait().expect("it is open");
    };
    put(theirs, 1);
    until("it is told", || {
        let troubles = gateway.status().troubles;
        troubles.iter().any(|trouble| {
            trouble.contains("topic `numbers`") && trouble.contains(&format!("{theirs}-endian"))
        })
    });
    until("it is counted", || gateway.status().crossings.iter().any(|one| one.counts.refused == 1));
    put(ours, 2);
    let sample = numbers.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert_eq!(*sample, 2);
    to_text.put("words").encoding("text/plain").wait().expect("it is open");
    let sample = text.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert_eq!(&*sample, b"words");
}

#[test]
fn what_is_garbled_is_refused_counted_and_harms_nobody() {
    let Meeting { client, gateway, domain } = Meeting::new();
    let session = client.session();
    let node = domain.node();
    let mut subscriber = node.topic::<u64>("t").subscriber().expect("the types agree");
    let mut bytes = node.topic::<[u8]>("u").subscriber().expect("the types agree");
    let mut reader = node.state::<u64>("v").reader().expect("the types agree");
    let mut waiter = node.signal("n").ids(2).waiter().expect("the numbers agree");
    let mut consumer = node.queue::<u64>("q").consumer().expect("the types agree");
    let names = [(Pattern::Topic, "t"), (Pattern::Topic, "u"), (Pattern::State, "v"), (Pattern::Signal, "n")];
    let publishers =
        names.map(|(pattern, name)| session.declare_publisher(key(pattern, name)).wait().expect("it may"));
    for publisher in &publishers {
        until("the gateway subscribes", || {
            publisher.matching_status().wait().expect("it is open").matching()
        });
    }
    let known = format!("application/x-tidepost;schema=u64@{:016x};order=little", u64::descriptor().hash64());
    let encodings = [
        "",
        "zenoh/bytes",
        "application/x-tidepost",
        "application/x-tidepost;schema=x@0000000000000000;order=little",
        "application/x-tidepost;schema=u64@0000000000000000;order=big",
        &known,
    ];
    for publisher in &publishers {
        for encoding in encodings {
            for attachment in [vec![], vec![1], vec![0; 64], vec![1; 64], vec![255; 200]] {
                for payload in [vec![], vec![7; 3], vec![255; 12]] {
                    publisher
                        .put(payload)
                        .encoding(encoding)
                        .attachment(attachment.clone())
                        .wait()
                        .expect("it is open");
                }
            }
        }
        publisher.delete().wait().expect("it is open");
    }
    for payload in [vec![], vec![7; 3]] {
        let replies = session
            .get(key(Pattern::Queue, "q"))
            .payload(payload)
            .attachment(vec![9; 70])
            .wait()
            .expect("it may");
        if let Some(reply) = replies.recv_timeout(PATIENCE).ok().flatten() {
            assert!(reply.result().is_err(), "{reply:?}");
        }
    }
    until("most is refused", || {
        gateway.status().crossings.iter().map(|one| one.counts.refused).sum::<u64>() > 100
    });
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none(), "no u64 was among it");
    // What is right still comes, after it.
    publishers[1].put("right").wait().expect("it is open");
    until("what is right comes", || {
        let sample = bytes.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
        &*sample == b"right"
    });
    assert!(reader.read().expect("it is no error").is_none());
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
    drop(waiter.try_wait());
    assert_eq!(node.violations(), (0, None));
}

/// The fear: clocks that are hours apart. An envelope as docs/network.md has it, passed on at the beginning of time, and at its end.
#[test]
fn when_it_was_sent_decides_nothing() {
    let Meeting { client, gateway: _gateway, domain } = Meeting::new();
    let mut subscriber = domain.node().topic::<[u8]>("t").subscriber().expect("the types agree");
    let publisher = client.session().declare_publisher(key(Pattern::Topic, "t")).wait().expect("it may");
    until("the gateway subscribes", || publisher.matching_status().wait().expect("it is open").matching());
    for (number, passed_on_ns) in [0, u64::MAX, 1, u64::MAX / 2].into_iter().enumerate() {
        let mut envelope = vec![1, 0, 0, 0, 0, 0, 0, 0];
        envelope.extend([7; 40]);
        envelope.extend((number as u64).to_le_bytes());
        envelope.extend(passed_on_ns.to_le_bytes());
        publisher.put(vec![number as u8]).attachment(envelope).wait().expect("it is open");
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
        assert_eq!((&*sample, sample.lost()), (&[number as u8][..], 0));
    }
}

/// The fear: a header that is too short is read beyond its end, or one of another type is taken for ours.
#[test]
fn headers_of_strangers_are_checked() {
    let Meeting { client, gateway, domain } = Meeting::new();
    let session = client.session();
    let mut subscriber = domain.node().topic::<[u8]>("t").header::<u64>().subscriber().expect("it may");
    let publisher = session.declare_publisher(key(Pattern::Topic, "t")).wait().expect("it may");
    until("the gateway subscribes", || publisher.matching_status().wait().expect("it is open").matching());
    let hash = u64::descriptor().hash64();
    let _telling = tell_what_a_u64_is(session);
    let encoding = format!("zenoh/bytes;header=u64@{hash:016x};order=little");
    let put_of = |sender: u8,
                  number: u64,
                  says_bytes: u8,
                  is_stamped: bool,
                  behind: &[u8],
                  encoding: &str| {
        let mut envelope = vec![1, 0, 0, 0, says_bytes, 0, u8::from(is_stamped), 0];
        envelope.extend([sender; 40]);
        envelope.extend(number.to_le_bytes());
        envelope.extend([0; 8]);
        envelope.extend(behind);
        publisher.put(vec![number as u8]).encoding(encoding).attachment(envelope).wait().expect("it is open");
    };
    let put = |number, says_bytes, is_stamped, behind: &[u8], encoding: &str| {
        put_of(7, number, says_bytes, is_stamped, behind, encoding);
    };
    put(0, 8, false, &70_u64.to_le_bytes(), &encoding);
    // Shorter than it says, shorter than its type, longer than it; none; and only a time, as long as a header.
    put(1, 8, false, &[1; 7], &encoding);
    put(2, 7, false, &[1; 7], &encoding);
    put(3, 9, false, &[1; 9], &encoding);
    put(4, 0, false, &[], &encoding);
    put(5, 0, true, &[1; 8], &encoding);
    put(6, 8, true, &[1; 12], &encoding);
    put(7, 8, true, &[2; 16], &encoding);
    for (number, header, lost) in [(0, 70, 0), (7, u64::from_ne_bytes([2; 8]), 6)] {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
        assert_eq!((sample.header::<u64>(), &*sample, sample.lost()), (Some(&header), &[number][..], lost));
    }
    // They are told ten times a second.
    until("the others are refused", || {
        gateway.status().crossings.iter().map(|one| one.counts.refused).sum::<u64>() == 6
    });
    // Whose first message is garbled is not refused for that, and it is missing.
    put_of(9, 3, 8, false, &[1; 7], &encoding);
    put_of(9, 4, 8, false, &[2; 8], &encoding);
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert_eq!((&*sample, sample.lost()), (&[4][..], 1));
    // Whoever says nothing of a header sends none, and the subscriber turns that publisher down.
    put(8, 8, false, &[1; 8], "zenoh/bytes");
    until("it is turned down", || gateway.status().troubles.iter().any(|trouble| trouble.contains("header")));
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn garbage_on_the_port_harms_nobody() {
    let Meeting { client, gateway, domain } = Meeting::new();
    let address = gateway.addresses()[0].trim_start_matches("tcp/").to_owned();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[255; 70_000], b"\x02\x00"] {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_write_timeout(Some(Duration::from_secs(1))).expect("it is a socket");
        // It may hang up in the middle.
        let _ = stream.write_all(garbage);
    }
    let node = domain.node();
    let received = client.session().declare_subscriber(key(Pattern::Topic, "t")).wait().expect("it may");
    let mut publisher = node.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(b"on").expect("there is room");
    let sample = received.recv_timeout(PATIENCE).expect("the session is open").expect("it was sent");
    assert_eq!(&*sample.payload().to_bytes(), b"on");
}

#[test]
fn what_is_longer_than_the_limit_does_not_come_in() {
    let domain = Domain::new("east");
    let settings = Settings { message_bytes_max: 100_000, ..listening() };
    let gateway = domain.gateway(&settings);
    let client = Zenoh::open(&connecting(&gateway)).expect("the gateway listens");
    let mut subscriber = domain.node().topic::<[u8]>("t").subscriber().expect("the types agree");
    let publisher = client.session().declare_publisher(key(Pattern::Topic, "t"));
    // Not dropped by the client, as it would be by default where the link is busy with the one before.
    let publisher = publisher.congestion_control(CongestionControl::Block).wait().expect("it may");
    until("the gateway subscribes", || publisher.matching_status().wait().expect("it is open").matching());
    publisher.put(vec![7; 1_000_000]).wait().expect("it is open");
    publisher.put(vec![8; 100_000]).wait().expect("it is open");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert!(sample.len() == 100_000 && sample[0] == 8);
}

#[test]
fn a_failure_of_a_type_is_one_in_the_program_too() {
    let Meeting { client, gateway: _gateway, domain } = Meeting::new();
    let queryable = client.session().declare_queryable(key(Pattern::Service, "never"));
    let answering = queryable.callback(|query| query.reply_err("no").wait().expect("the gateway is there"));
    let answering = answering.wait().expect("it may");
    let mut client = domain.node().service::<[u8], [u8]>("never").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    let error = client.call(b"x", PATIENCE).map(|answer| answer.to_vec()).expect_err("it fails").to_string();
    assert!(error.contains(&format!("{:?}", Text::new("no"))), "{error}");
    drop(answering);
}

/// Where a Python with the engine's client is: of the tests' own, or of the machine.
fn python() -> Option<std::path::PathBuf> {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin/python");
    [own, "python3".into()].into_iter().find(|python| {
        let mut command = std::process::Command::new(python);
        command.args(["-c", "import zenoh"]).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

#[test]
fn a_python_client_exchanges_in_both_directions() {
    let Some(python) = python() else {
        skip("no Python has `eclipse-zenoh`; .ci/run installs it");
        return;
    };
    let domain = Domain::new("east");
    let gateway = domain.gateway(&listening());
    let node = domain.node();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/strangers.py");
    let mut command = std::process::Command::new(python);
    command
        .arg(script)
        .arg(&gateway.addresses()[0])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("it is piped")));
    let mut server = node.service::<[u8], [u8]>("upper").server().expect("it is ours");
    let handle = server.handle();
    let serving =
        std::thread::spawn(move || server.serve(|asked: &[u8]| Ok::<_, &str>(asked.to_ascii_uppercase())));
    let mut subscriber = node.topic::<[u8]>("from-python").subscriber().expect("the types agree");
    let mut publisher =
        node.topic::<[u8]>("to-python").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(b"ahoy").expect("there is room");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was put");
    assert_eq!(&*sample, b"hello");
    let mut hear = || lines.next().expect("it goes on").expect("it is text");
    assert_eq!([hear(), hear(), hear()], ["received ahoy zenoh/bytes", "answered ABC", "present True"]);
    assert_eq!(gateway.status().machines, ["python"]);
    let mut client = node.service::<[u8], [u8]>("lower").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    assert_eq!(&*client.call(b"ABC", PATIENCE).expect("it answers"), b"abc");
    handle.cancel();
    serving.join().expect("it does not panic").expect("it served");
    // Its input ends, and it with that.
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}
