//! Endpoints of every pattern in one wait set.

use std::time::{Duration, Instant};

use tidepost::{
    Call, Client, Consumer, Either, Key, Node, Notifier, Overflow, Producer, Publisher, Ready, Server,
    StateReader, StateWriter, Subscriber, TableReader, TableWriter, WaitSet, Waitable, Waiter,
    select_timeout,
};

use crate::stage::{Domain, PATIENCE, PAUSE};

/// The members of a set, one of each kind.
struct Members {
    set: WaitSet,
    topic: Key<Subscriber<u64>>,
    queue: Key<Consumer<u64>>,
    state: Key<StateReader<u64>>,
    table: Key<TableReader<u64, u64>>,
    signal: Key<Waiter>,
    server: Key<Server<u64, u64>>,
    client: Key<Client<u64, u64>>,
}

/// Those at the other ends.
struct Others {
    topic: Publisher<u64>,
    queue: Producer<u64>,
    state: StateWriter<u64>,
    table: TableWriter<u64, u64>,
    signal: Notifier,
    client: Client<u64, u64>,
    server: Server<u64, u64>,
}

fn add<E: Waitable>(set: &mut WaitSet, endpoint: E) -> Key<E> {
    set.add(endpoint).expect("descriptors are left")
}

impl Members {
    fn new(node: &Node) -> Self {
        let mut set = WaitSet::new().expect("descriptors are left");
        Self {
            topic: add(&mut set, node.topic("t").subscriber().expect("the types agree")),
            queue: add(&mut set, node.queue("q").consumer().expect("the types agree")),
            state: add(&mut set, node.state("s").reader().expect("the types agree")),
            table: add(&mut set, node.table("m").reader().expect("the types agree")),
            signal: add(&mut set, node.signal("n").ids(4).waiter().expect("the ids agree")),
            server: add(&mut set, node.service("d").server().expect("the types agree")),
            client: add(&mut set, node.service("e").client().expect("the types agree")),
            set,
        }
    }

    fn ask(&mut self) -> Call {
        self.set[self.client].wait_for_servers(1, PATIENCE).expect("it is there");
        self.set[self.client].send(&7, PATIENCE).expect("there is a server")
    }

    /// Takes what is ready, if there is something: from whom.
    fn take(&mut self, ready: Ready, call: Call) -> Option<&'static str> {
        let set = &mut self.set;
        if ready == self.topic {
            let sample = set[self.topic].try_recv().expect("receiving succeeds")?;
            assert_eq!(*sample, 1);
            return Some("topic");
        }
        if ready == self.queue {
            let item = set[self.queue].try_recv().expect("receiving succeeds")?;
            assert_eq!(*item, 2);
            item.ack().expect("the producer lives");
            return Some("queue");
        }
        if ready == self.state {
            let value = set[self.state].changed(Duration::ZERO).expect("reading succeeds")?;
            assert_eq!(*value, 3);
            return Some("state");
        }
        if ready == self.table {
            assert_eq!(set[self.table].get(&4).expect("reading succeeds"), Some(5));
            return set[self.table].try_changed().expect("looking succeeds").then_some("table");
        }
        if ready == self.signal {
            let notices = set[self.signal].try_wait().expect("looking succeeds")?;
            assert_eq!((notices.count_of(3), notices.total()), (1, 1));
            return Some("signal");
        }
        if ready == self.server {
            let request = set[self.server].try_recv().expect("receiving succeeds")?;
            let answer = 2 * *request;
            request.answer(&answer).expect("the client is there");
            return Some("server");
        }
        assert!(ready == self.client);
        let answer = set[self.client].try_take(call).expect("it answers")?;
        assert_eq!(*answer, 8);
        Some("client")
    }
}

impl Others {
    fn new(node: &Node) -> Self {
        let mut others = Self {
            topic: node.topic("t").publisher(Overflow::Block).expect("the topic is ours"),
            queue: node.queue("q").producer(Overflow::Block).expect("the queue is ours"),
            state: node.state("s").writer().expect("the state is ours"),
            table: node.table("m").writer().expect("the table is ours"),
            signal: node.signal("n").ids(4).notifier().expect("the signal is ours"),
            client: node.service("d").client().expect("the types agree"),
            server: node.service("e").server().expect("the service is ours"),
        };
        others.topic.wait_for_subscribers(1, PATIENCE).expect("it is there");
        others.queue.wait_for_consumers(1, PATIENCE).expect("it is there");
        others.state.wait_for_readers(1, PATIENCE).expect("it is there");
        others.table.wait_for_readers(1, PATIENCE).expect("it is there");
        others.signal.wait_for_waiters(1, PATIENCE).expect("it is there");
        others.client.wait_for_servers(1, PATIENCE).expect("it is there");
        others
    }

    /// Gives each member something, with a pause before it.
    fn act(mut self, pause: Duration) -> Self {
        let rest = || std::thread::sleep(pause);
        rest();
        self.topic.send(&1).expect("a blocking send succeeds");
        rest();
        self.queue.push(&2).expect("there is room");
        rest();
        self.state.set(&3).expect("there is memory");
        rest();
        self.table.set(&4, &5).expect("there is room");
        rest();
        self.signal.notify(3).expect("there is such an id");
        rest();
        let asked = self.client.send(&21, PATIENCE).expect("there is a server");
        let request = self.server.recv().expect("a request comes");
        let answer = *request + 1;
        request.answer(&answer).expect("the client is there");
        assert_eq!(*self.client.wait(asked, PATIENCE).expect("it answers"), 42);
        self
    }
}

/// Nobody is ready, once everybody has met.
fn expect_quiet(members: &mut Members) {
    let start = Instant::now();
    while let Some(ready) = members.set.wait_timeout(PAUSE).expect("waiting succeeds") {
        assert!(start.elapsed() < PATIENCE, "{ready:?}, though nothing has come");
        // Of the coming of others it may be said that there may be something.
        let set = &mut members.set;
        let is_quiet = set[members.topic].try_recv().expect("receiving succeeds").is_none()
            && set[members.queue].try_recv().expect("receiving succeeds").is_none()
            && set[members.state].changed(Duration::ZERO).expect("reading succeeds").is_none()
            && !set[members.table].try_changed().expect("looking succeeds")
            && set[members.signal].try_wait().expect("looking succeeds").is_none()
            && set[members.server].try_recv().expect("receiving succeeds").is_none();
        assert!(is_quiet, "nothing has come");
    }
}

/// Each is ready when something has come for it, and nobody else then, nor anybody before.
#[test]
fn a_pattern_is_ready_when_something_has_come_for_it_and_not_before() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut members = Members::new(&here);
    let mut others = Others::new(&there);
    let Members { topic, queue, state, table, signal, .. } = members;
    expect_quiet(&mut members);
    let only = |members: &mut Members, is_it: &dyn Fn(Ready) -> bool| {
        let ready = members.set.wait_timeout(PATIENCE).expect("waiting succeeds");
        assert!(ready.is_some_and(is_it), "{ready:?} instead");
    };
    others.topic.send(&1).expect("a blocking send succeeds");
    only(&mut members, &|ready| ready == topic);
    assert_eq!(*members.set[topic].try_recv().expect("receiving succeeds").expect("it is ready"), 1);
    expect_quiet(&mut members);
    others.queue.push(&2).expect("there is room");
    only(&mut members, &|ready| ready == queue);
    let item = members.set[queue].try_recv().expect("receiving succeeds");
    item.expect("it is ready").ack().expect("the producer lives");
    expect_quiet(&mut members);
    others.state.set(&3).expect("there is memory");
    only(&mut members, &|ready| ready == state);
    let value = members.set[state].changed(Duration::ZERO).expect("reading succeeds");
    assert_eq!(*value.expect("it is ready"), 3);
    expect_quiet(&mut members);
    others.table.set(&4, &5).expect("there is room");
    only(&mut members, &|ready| ready == table);
    assert_eq!(members.set[table].try_changed(), Ok(true));
    expect_quiet(&mut members);
    others.signal.notify(3).expect("there is such an id");
    only(&mut members, &|ready| ready == signal);
    let notices = members.set[signal].try_wait().expect("looking succeeds");
    assert_eq!(notices.expect("it is ready").count_of(3), 1);
    expect_quiet(&mut members);
}

/// Two endpoints of different patterns, each in the first place and in the second.
#[test]
fn any_two_patterns_can_be_selected_from() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node_without_thread("there"));
    let mut state = there.state::<u64>("s").reader().expect("the types agree");
    let mut waiter = there.signal("n").waiter().expect("the ids agree");
    let acting = std::thread::spawn(move || {
        let mut writer = here.state::<u64>("s").writer().expect("the state is ours");
        let mut notifier = here.signal("n").notifier().expect("the signal is ours");
        writer.wait_for_readers(1, PATIENCE).expect("it is there");
        notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
        for round in 1..=100 {
            std::thread::sleep(if round % 3 == 0 { PAUSE } else { Duration::ZERO });
            writer.set(&round).expect("there is memory");
            notifier.notify(0).expect("there is such an id");
        }
        (writer, notifier)
    });
    let (mut newest, mut notified) = (0, 0);
    let mut order = 0;
    while newest < 100 || notified < 100 {
        order += 1;
        let is_state = if order % 2 == 0 {
            select_timeout(&mut state, &mut waiter, PATIENCE)
                .map(|found| found.expect("more comes") == Either::First)
        } else {
            select_timeout(&mut waiter, &mut state, PATIENCE)
                .map(|found| found.expect("more comes") == Either::Second)
        };
        if is_state.expect("waiting succeeds") {
            if let Some(value) = state.changed(Duration::ZERO).expect("reading succeeds") {
                assert!(*value > newest);
                newest = *value;
            }
        } else if let Some(notices) = waiter.try_wait().expect("looking succeeds") {
            notified += notices.total();
        }
    }
    assert_eq!((newest, notified), (100, 100));
    drop(acting.join().expect("it does not panic"));
    assert_eq!(select_timeout(&mut state, &mut waiter, Duration::ZERO), Ok(None));
}

/// Every kind of endpoint can be waited for, whether the set was looking or asleep.
#[test]
fn every_pattern_can_be_waited_for() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut members = Members::new(&here);
    let mut others = Others::new(&there);
    // Once as long as the set is still looking, and then from its sleep.
    for pause in [Duration::ZERO, 30 * PAUSE] {
        let call = members.ask();
        let acting = std::thread::spawn(move || others.act(pause));
        let mut missing = vec!["topic", "queue", "state", "table", "signal", "server", "client"];
        while !missing.is_empty() {
            let ready = members.set.wait_timeout(PATIENCE).expect("waiting succeeds");
            let ready = ready.unwrap_or_else(|| panic!("{missing:?} do not come"));
            if let Some(come) = members.take(ready, call) {
                assert!(missing.contains(&come), "{come} comes once");
                missing.retain(|name| *name != come);
            }
        }
        others = acting.join().expect("it does not panic");
    }
}
