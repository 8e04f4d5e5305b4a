//! The fear: a program that waits for many things waits for one of them in vain, or hears of one all the time and never of
//! another; or what it has set up for that outlives it.

use std::collections::HashMap;
use std::future::Future;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tidepost::{
    Event, Interest, Key, Node, Overflow, Publisher, Ready, ReceiveError, Subscriber, Timer, WaitSet,
    WaitSetError,
};

use crate::topics::stage::{Domain, PATIENCE, PAUSE, Words, Work, start, until, words};

/// A time that is over at once.
const SHORT: Duration = Duration::from_millis(1);
/// Messages of each topic in a stream.
const MESSAGES: u64 = 300;

type Endpoint = Key<Subscriber<Words>>;

fn publisher(node: &Node, topic: &str) -> Publisher<Words> {
    node.topic(topic).depth(8).publisher(Overflow::Block).expect("the topic is ours")
}

fn subscriber(node: &Node, topic: &str) -> Subscriber<Words> {
    node.topic(topic).subscriber().expect("the types agree")
}

fn send(publisher: &mut Publisher<Words>, numbers: Range<u64>) {
    numbers.for_each(|number| publisher.send(&words(number)).expect("a blocking send succeeds"));
}

fn new_set() -> WaitSet {
    WaitSet::new().expect("descriptors are left")
}

/// Adds a subscriber of each topic.
fn add_all(set: &mut WaitSet, node: &Node, topics: &[&str]) -> Vec<Endpoint> {
    topics.iter().map(|topic| set.add(subscriber(node, topic)).expect("descriptors are left")).collect()
}

/// What is ready in time.
fn wait(set: &mut WaitSet) -> Ready {
    let start = Instant::now();
    let ready = set.wait_timeout(PATIENCE).expect("waiting succeeds").expect("something becomes ready");
    // What the last look before the end of the time found has been missed.
    assert!(start.elapsed() < PATIENCE, "nobody woke the set");
    ready
}

/// Receives the message with this number from a member that is ready.
fn receive(set: &mut WaitSet, key: Endpoint, number: u64) {
    let sample = set[key].recv().expect("receiving succeeds");
    assert_eq!((sample.sequence(), *sample), (number, words(number)));
}

fn is_quiet(set: &mut WaitSet) -> bool {
    set.try_wait().expect("looking succeeds").is_none()
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().expect("descriptors are left")
}

fn byte(reader: &mut PipeReader) -> u8 {
    let mut byte = [0];
    reader.read_exact(&mut byte).expect("a byte is there");
    byte[0]
}

/// Waits until each of these subscribers has its publisher.
fn expect_publishers(set: &WaitSet, keys: &[Endpoint]) {
    until("they are let in", || keys.iter().all(|key| set[*key].publishers() == 1));
}

/// A set with subscribers of these topics, and their publishers, in a node each.
fn stage(domain: &Domain, topics: &[&str]) -> (WaitSet, Vec<Endpoint>, Vec<Publisher<Words>>) {
    let mut set = new_set();
    let keys = add_all(&mut set, &domain.node("receiver"), topics);
    let sender = domain.node("sender");
    let publishers = topics.iter().map(|topic| publisher(&sender, topic)).collect();
    expect_publishers(&set, &keys);
    (set, keys, publishers)
}

#[test]
fn what_is_ready_is_said_and_nothing_else() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second", "third"]);
    for round in 0..20 {
        for index in [1, 0, 2] {
            assert!(is_quiet(&mut set));
            send(&mut publishers[index], round..round + 1);
            let ready = wait(&mut set);
            assert_eq!(keys.iter().position(|key| *key == ready), Some(index));
            assert!(!ready.is_closed());
            assert!(keys.iter().filter(|key| ready == **key).count() == 1);
            assert_eq!(set.key::<Subscriber<Words>>(ready), Some(keys[index]));
            assert_eq!(set.key::<Timer>(ready), None);
            receive(&mut set, keys[index], round);
        }
    }
}

#[test]
fn a_member_stays_ready_until_a_call_finds_nothing() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["topic"]);
    send(&mut publishers[0], 0..3);
    for number in 0..3 {
        for _ in 0..5 {
            assert!(wait(&mut set) == keys[0], "nothing is taken by the wait");
        }
        receive(&mut set, keys[0], number);
    }
    assert!(is_quiet(&mut set));
    assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
    assert!(set[keys[0]].try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn messages_that_were_there_before_are_found() {
    let domain = Domain::new();
    let node = domain.node("both");
    let (early, mut publisher) = (subscriber(&node, "topic"), publisher(&node, "topic"));
    send(&mut publisher, 0..1);
    // As a receiver that has already waited in another way.
    assert!(early.as_fd().is_ok());
    let mut set = new_set();
    let key = set.add(early).expect("descriptors are left");
    assert!(wait(&mut set) == key);
    receive(&mut set, key, 0);
}

#[test]
fn each_of_those_that_are_ready_has_its_turn() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second", "third"]);
    for key in &keys {
        // A publisher is counted a moment before the set is rung for it.
        let event = set[*key].event_timeout(PATIENCE).expect("waiting succeeds");
        assert!(matches!(event, Some(Event::Joined(_))), "{event:?}");
        assert!(set[*key].try_recv().expect("receiving succeeds").is_none());
    }
    publishers.iter_mut().for_each(|publisher| send(publisher, 0..8));
    let order: Vec<usize> = (0..24)
        .map(|turn| {
            let ready = wait(&mut set);
            let index = keys.iter().position(|key| ready == *key).expect("it is a member");
            receive(&mut set, keys[index], turn / 3);
            index
        })
        .collect();
    assert!(order.chunks(3).all(|round| round == &order[..3]), "{order:?}");
    assert!(is_quiet(&mut set));
}

#[test]
fn nobody_starves_while_others_are_always_ready() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["busy", "idle"]);
    send(&mut publishers[0], 0..1);
    let (reader, mut writer) = pipe();
    let readable = set.add_fd(reader, Interest::Read).expect("it can be watched");
    let writable = set.add_fd(pipe().1, Interest::Write).expect("it can be watched");
    let tick = set.every(Duration::from_nanos(1)).expect("it is ours");
    writer.write_all(b"x").expect("the pipe is open");
    // Nothing is taken, so these four are ready for ever.
    let mut counts = [0; 4];
    let mut is_late_seen = false;
    for turn in 0..4000 {
        if turn == 2000 {
            send(&mut publishers[1], 0..1);
        }
        let ready = wait(&mut set);
        let always = [ready == keys[0], ready == readable, ready == writable, ready == tick];
        match always.iter().position(|is_it| *is_it) {
            Some(index) => counts[index] += 1,
            None => is_late_seen |= ready == keys[1],
        }
    }
    assert!(is_late_seen, "an endpoint that was idle comes in between");
    assert!(counts.iter().all(|count| *count >= 300), "{counts:?}");
}

#[test]
fn timers_are_due_in_time_and_count_what_nobody_saw() {
    let mut set = new_set();
    assert!(set.is_empty());
    let tick = set.every(SHORT).expect("it is ours");
    let later = set.after(SHORT * 20).expect("it is ours");
    let never = set.after(Duration::MAX).expect("it is ours");
    assert_eq!(set.len(), 3);
    let before = Instant::now();
    let mut ticks = 0;
    while wait(&mut set) != later {
        ticks += 1;
        assert!(set[tick].count() >= ticks);
    }
    assert!(before.elapsed() >= SHORT * 20 && ticks > 0);
    assert!(set.get(later).is_none() && set.remove(later).is_none(), "it is over");
    std::thread::sleep(SHORT * 5);
    let (seen, passed) = (set[tick].count(), before.elapsed().as_millis() as u64);
    assert!(wait(&mut set) == tick && set[tick].count() >= seen + 4 && set[tick].count() + 1 >= passed);
    assert!(set.remove(tick).is_some());
    assert!(set.wait_timeout(SHORT * 3).expect("waiting succeeds").is_none());
    assert_eq!((set.len(), set[never].count()), (1, 0));
}

#[test]
fn a_timer_is_found_without_a_wait() {
    let domain = Domain::new();
    let (mut set, _keys, _publishers) = stage(&domain, &["idle"]);
    let soon = set.after(SHORT).expect("it is ours");
    std::thread::sleep(SHORT * 2);
    assert!(set.try_wait().expect("looking succeeds").is_some_and(|ready| ready == soon));
    assert!(is_quiet(&mut set));
}

#[test]
fn a_descriptor_is_ready_as_long_as_it_is() {
    let mut set = new_set();
    let (reader, mut writer) = pipe();
    let key = set.add_fd(reader, Interest::Read).expect("it can be watched");
    assert!(is_quiet(&mut set));
    assert!(set.wait_timeout(Duration::ZERO).expect("waiting succeeds").is_none());
    writer.write_all(b"abc").expect("the pipe is open");
    for expected in *b"abc" {
        assert!(set.wait_timeout(Duration::ZERO).expect("waiting succeeds").is_some());
        assert!(wait(&mut set) == key && wait(&mut set) == key);
        assert_eq!(byte(&mut set[key]), expected);
    }
    assert!(is_quiet(&mut set));
    let writing = start(move || {
        std::thread::sleep(PAUSE * 10);
        writer.write_all(b"d").expect("the pipe is open");
    });
    assert!(wait(&mut set) == key && byte(&mut set[key]) == b'd');
    writing.finish();
    assert!(wait(&mut set) == key, "the other end hung up");
    let mut reader = set.remove(key).expect("it is in the set");
    assert_eq!(reader.read(&mut [0]).expect("an end is no error"), 0);
    assert!(is_quiet(&mut set));
}

#[test]
fn more_descriptors_than_one_look_names_all_have_their_turns() {
    let mut set = new_set();
    let ends: Vec<_> = (0..100).map(|_| pipe()).collect();
    let (readers, mut writers): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    let add = |reader| set.add_fd(reader, Interest::Read).expect("it can be watched");
    let keys: Vec<Key<PipeReader>> = readers.into_iter().map(add).collect();
    writers.iter_mut().for_each(|writer| writer.write_all(b"x").expect("the pipe is open"));
    let mut seen: HashMap<Key<PipeReader>, u32> = HashMap::new();
    for _ in 0..100 * 10 {
        let ready = wait(&mut set);
        *seen.entry(set.key(ready).expect("it is a reader")).or_default() += 1;
    }
    assert_eq!(seen.len(), keys.len());
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
}

#[test]
fn what_cannot_be_watched_is_refused_with_a_remedy() {
    let mut set = new_set();
    let file = std::fs::File::open(std::env::current_exe().expect("it exists")).expect("it is readable");
    let error = set.add_fd(file, Interest::Read).expect_err("a file is always ready");
    assert!(matches!(error, WaitSetError::System { source: Errno::PERM, .. }), "{error}");
    assert!(error.to_string().contains("no regular file"), "{error}");
    let shared = std::sync::Arc::new(pipe().0);
    set.add_fd(std::sync::Arc::clone(&shared), Interest::Read).expect("it can be watched");
    let error = set.add_fd(shared, Interest::Read).expect_err("it is there already");
    assert!(error.to_string().contains("add each descriptor once"), "{error}");
    assert_eq!(set.len(), 1);
}

#[test]
fn what_is_removed_is_not_said_and_its_key_names_nothing() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second"]);
    publishers.iter_mut().for_each(|publisher| send(publisher, 0..2));
    let mut first = set.remove(keys[0]).expect("it is in the set");
    assert!(set.remove(keys[0]).is_none() && set.get(keys[0]).is_none() && set.get_mut(keys[0]).is_none());
    for number in 0..2 {
        assert!(wait(&mut set) == keys[1]);
        receive(&mut set, keys[1], number);
    }
    assert!(is_quiet(&mut set));
    assert_eq!(*first.recv().expect("receiving succeeds"), words(0));
    // The place is used again, the key is not.
    let back = set.add(first).expect("descriptors are left");
    assert!(back != keys[0] && set.get(keys[0]).is_none());
    assert!(wait(&mut set) == back);
    let other = new_set();
    assert!(other.get(back).is_none());
}

#[test]
fn an_endpoint_may_be_put_in_the_place_of_another() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second", "third"]);
    assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
    let spare = subscriber(&domain.node("spare"), "first");
    let first = std::mem::replace(&mut set[keys[0]], spare);
    let second = std::mem::replace(&mut set[keys[1]], first);
    let spare = std::mem::replace(&mut set[keys[0]], second);
    drop(spare);
    assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
    for (publisher, key) in [(0, keys[1]), (1, keys[0]), (2, keys[2])] {
        let sending = send_later(publishers.remove(0), 0..1);
        assert!(wait(&mut set) == key, "publisher {publisher}");
        receive(&mut set, key, 0);
        drop(sending.finish());
        quieten(&mut set);
    }
    // The same for a descriptor: the old one is closed, and the new one may have any number.
    let (reader, mut writer) = pipe();
    let key = set.add_fd(pipe().0, Interest::Read).expect("it can be watched");
    assert!(wait(&mut set) == key, "nobody writes there any more");
    set[key] = reader;
    assert!(is_quiet(&mut set));
    writer.write_all(b"x").expect("the pipe is open");
    assert!(wait(&mut set) == key);
}

/// Sends when the receiver has had time to fall asleep.
fn send_later(mut publisher: Publisher<Words>, numbers: Range<u64>) -> Work<Publisher<Words>> {
    start(move || {
        std::thread::sleep(PAUSE * 10);
        send(&mut publisher, numbers);
        publisher
    })
}

/// Sends with pauses, in which receivers fall asleep.
fn send_with_pauses(mut publisher: Publisher<Words>, every: u64) -> Work<Publisher<Words>> {
    start(move || {
        // A node without thread lets it in when somebody waits there.
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
        for number in 0..MESSAGES {
            send(&mut publisher, number..number + 1);
            if number % every == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        publisher
    })
}

/// What a set expects, and has received so far: by key.
struct Accounts {
    next: HashMap<Endpoint, u64>,
}

impl Accounts {
    fn new(keys: &[Endpoint]) -> Self {
        Self { next: keys.iter().map(|key| (*key, 0)).collect() }
    }

    fn are_complete(&self) -> bool {
        self.next.values().all(|next| *next == MESSAGES)
    }

    /// Takes what is there of a member that is ready, if it is one of these.
    fn take(&mut self, set: &mut WaitSet, ready: Ready) {
        let Some(key) = set.key::<Subscriber<Words>>(ready) else { return };
        let next = self.next.get_mut(&key).expect("it is a member");
        let before = *next;
        while let Some(sample) = set[key].try_recv().expect("receiving succeeds") {
            assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
            *next += 1;
        }
        assert!(*next > before, "it was ready");
    }
}

const TOPICS: [&str; 3] = ["first", "second", "third"];

/// A set in a stream of messages of three topics, with so many other endpoints in it.
fn set_in_a_stream(
    domain: &Domain,
    node: &Node,
    others: usize,
) -> (WaitSet, Accounts, Vec<Work<Publisher<Words>>>) {
    let mut set = new_set();
    for _ in 0..others {
        set.add(subscriber(node, "nothing")).expect("descriptors are left");
    }
    let keys = add_all(&mut set, node, &TOPICS);
    let sender = domain.node("sender");
    let publishers = TOPICS.map(|topic| publisher(&sender, topic));
    let sending = [1, 7, 50].into_iter().zip(publishers);
    let sending = sending.map(|(every, publisher)| send_with_pauses(publisher, every)).collect();
    (set, Accounts::new(&keys), sending)
}

fn receive_all(mut set: WaitSet, mut accounts: Accounts, sending: Vec<Work<Publisher<Words>>>) {
    while !accounts.are_complete() {
        let ready = wait(&mut set);
        accounts.take(&mut set, ready);
    }
    sending.into_iter().for_each(|work| drop(work.finish()));
    until("nothing is ready any more", || is_quiet(&mut set));
}

#[test]
fn a_small_set_misses_nothing() {
    let domain = Domain::new();
    let (set, accounts, sending) = set_in_a_stream(&domain, &domain.node("receiver"), 0);
    receive_all(set, accounts, sending);
}

#[test]
fn a_set_with_a_descriptor_misses_nothing() {
    let domain = Domain::new();
    let (mut set, accounts, sending) = set_in_a_stream(&domain, &domain.node("receiver"), 0);
    let (reader, _writer) = pipe();
    set.add_fd(reader, Interest::Read).expect("it can be watched");
    receive_all(set, accounts, sending);
}

#[test]
fn a_large_set_misses_nothing() {
    let domain = Domain::new();
    let (set, accounts, sending) = set_in_a_stream(&domain, &domain.node("receiver"), 40);
    receive_all(set, accounts, sending);
}

#[test]
fn a_set_serves_nodes_without_thread() {
    let domain = Domain::new();
    // The publishers come when the subscribers are there, and somebody has to let them in.
    let (set, accounts, sending) = set_in_a_stream(&domain, &domain.node_without_thread("receiver"), 0);
    receive_all(set, accounts, sending);
}

#[test]
fn a_set_that_grows_and_shrinks_misses_nothing() {
    let domain = Domain::new();
    let node = domain.node("receiver");
    let (mut set, mut accounts, sending) = set_in_a_stream(&domain, &node, 0);
    let mut others = Vec::new();
    while !accounts.are_complete() {
        if others.len() == 30 {
            others.drain(..).for_each(|key: Endpoint| assert!(set.remove(key).is_some()));
        }
        others.push(set.add(subscriber(&node, "nothing")).expect("descriptors are left"));
        let ready = wait(&mut set);
        accounts.take(&mut set, ready);
    }
    sending.into_iter().for_each(|work| drop(work.finish()));
}

#[test]
fn one_of_many_is_found() {
    let domain = Domain::new();
    let node = domain.node("both");
    let topics: Vec<String> = (0..300).map(|number| format!("topic-{number}")).collect();
    let mut set = new_set();
    let add = |topic: &String| set.add(subscriber(&node, topic)).expect("descriptors are left");
    let keys: Vec<Endpoint> = topics.iter().map(add).collect();
    for (topic, key) in topics.iter().zip(&keys).step_by(7) {
        let mut publisher = publisher(&node, topic);
        assert!(is_quiet(&mut set));
        send(&mut publisher, 0..1);
        assert!(wait(&mut set) == *key);
        receive(&mut set, *key, 0);
        let sending = send_later(publisher, 1..2);
        assert!(wait(&mut set) == *key, "the set slept");
        receive(&mut set, *key, 1);
        drop(sending.finish());
    }
}

/// Whether the set's descriptor is readable within the timeout.
fn is_readable(set: &WaitSet, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).expect("it is short");
    let descriptor = set.as_fd().expect("the set is ours");
    match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&timeout)) {
        Ok(count) => count > 0,
        Err(error) => panic!("{error}"),
    }
}

/// Looks until nothing is ready and the descriptor says so.
fn quieten(set: &mut WaitSet) {
    until("the descriptor is quiet", || {
        assert!(is_quiet(set));
        !is_readable(set, Duration::ZERO)
    });
}

#[test]
fn the_descriptor_is_readable_when_anything_is_ready() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second"]);
    let (reader, mut writer) = pipe();
    let key = set.add_fd(reader, Interest::Read).expect("it can be watched");
    assert!(is_readable(&set, Duration::ZERO), "nobody has looked yet");
    for number in 0..50 {
        quieten(&mut set);
        let index = number as usize % 2;
        send(&mut publishers[index], number / 2..number / 2 + 1);
        assert!(is_readable(&set, PATIENCE));
        assert!(wait(&mut set) == keys[index]);
        receive(&mut set, keys[index], number / 2);
    }
    quieten(&mut set);
    writer.write_all(b"x").expect("the pipe is open");
    assert!(is_readable(&set, PATIENCE) && wait(&mut set) == key);
    byte(&mut set[key]);
    let soon = set.after(SHORT).expect("it is ours");
    quieten_after(&mut set, soon);
    set.handle().cancel();
    for _ in 0..3 {
        assert!(is_readable(&set, Duration::ZERO), "for good");
        assert_eq!(set.try_wait(), Err(WaitSetError::Cancelled));
    }
}

/// Waits for a timer on the descriptor alone, unless it has been said already.
fn quieten_after(set: &mut WaitSet, timer: Key<Timer>) {
    loop {
        while let Some(ready) = set.try_wait().expect("looking succeeds") {
            assert!(ready == timer);
        }
        if set.get(timer).is_none() {
            return quieten(set);
        }
        assert!(is_readable(set, PATIENCE), "nobody tells of the timer");
    }
}

/// Receives what a set's descriptor tells of.
fn receive_over_the_descriptor(
    mut set: WaitSet,
    mut accounts: Accounts,
    sending: Vec<Work<Publisher<Words>>>,
) {
    while !accounts.are_complete() {
        assert!(is_readable(&set, PATIENCE), "nobody made it readable");
        while let Some(ready) = set.try_wait().expect("looking succeeds") {
            accounts.take(&mut set, ready);
        }
    }
    sending.into_iter().for_each(|work| drop(work.finish()));
    quieten(&mut set);
}

#[test]
fn a_loop_over_the_descriptor_misses_nothing() {
    let domain = Domain::new();
    for others in [0, 20] {
        let (set, accounts, sending) = set_in_a_stream(&domain, &domain.node("receiver"), others);
        receive_over_the_descriptor(set, accounts, sending);
    }
    let (set, accounts, sending) = set_in_a_stream(&domain, &domain.node_without_thread("receiver"), 0);
    receive_over_the_descriptor(set, accounts, sending);
}

/// Receives as a task, and beside that waits for a timer and a pipe.
async fn receive_as_task(mut set: WaitSet, mut accounts: Accounts) {
    let (reader, mut writer) = pipe();
    let readable = set.add_fd(reader, Interest::Read).expect("it can be watched");
    let tick = set.every(SHORT).expect("it is ours");
    let mut bytes = 0;
    while !accounts.are_complete() || set[tick].count() < 3 || bytes == 0 {
        let ready = set.wait_async().await.expect("waiting succeeds");
        if ready == tick {
            writer.write_all(b"x").expect("the pipe is open");
        } else if ready == readable {
            byte(&mut set[readable]);
            bytes += 1;
        } else {
            accounts.take(&mut set, ready);
        }
    }
}

fn run_as_task(
    block_on: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) + Copy + Send + 'static,
) {
    let domain = Domain::new();
    for node in [domain.node("receiver"), domain.node_without_thread("receiver")] {
        let (set, accounts, sending) = set_in_a_stream(&domain, &node, 0);
        start(move || block_on(Box::pin(receive_as_task(set, accounts)))).finish();
        sending.into_iter().for_each(|work| drop(work.finish()));
    }
}

#[test]
fn a_task_is_woken_without_any_reactor() {
    run_as_task(futures_lite::future::block_on);
}

#[test]
fn a_task_is_woken_on_tokio() {
    run_as_task(|task| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime can be made").block_on(task);
    });
}

#[test]
fn a_task_is_woken_on_many_threads_of_tokio() {
    run_as_task(|task| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(runtime.spawn(task)).expect("the task does not panic");
    });
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let domain = Domain::new();
    let (mut set, mut accounts, sending) = set_in_a_stream(&domain, &domain.node("receiver"), 0);
    let task = async move {
        let mut given_up = 0;
        while !accounts.are_complete() {
            tokio::select! {
                ready = set.wait_async() => accounts.take(&mut set, ready.expect("waiting succeeds")),
                () = tokio::time::sleep(Duration::from_micros(100)) => given_up += 1,
            }
        }
        given_up
    };
    let given_up = start(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime can be made").block_on(task)
    });
    assert!(given_up.finish() > 0, "there were pauses");
    sending.into_iter().for_each(|work| drop(work.finish()));
}

/// In how many ways a set is waited for.
const WAYS: usize = 4;

/// Waits in one of the ways.
fn wait_somehow(set: &mut WaitSet, way: usize) -> Result<Ready, WaitSetError> {
    match way {
        0 => set.wait(),
        1 => set.wait_timeout(PATIENCE).map(|ready| ready.expect("something becomes ready")),
        2 => futures_lite::future::block_on(set.wait_async()),
        _ => loop {
            if let Some(ready) = set.try_wait()? {
                return Ok(ready);
            }
            assert!(is_readable(set, PATIENCE));
        },
    }
}

#[test]
fn a_shutdown_or_a_cancel_makes_its_endpoints_ready_for_good() {
    for (way, is_cancel) in (0..WAYS).flat_map(|way| [(way, true), (way, false)]) {
        let domain = Domain::new();
        let nodes = ["ending", "staying"].map(|name| domain.node(name));
        let mut set = new_set();
        let [ending, staying] =
            nodes.each_ref().map(|node| set.add(subscriber(node, "topic")).expect("descriptors are left"));
        let mut publisher = publisher(&nodes[1], "topic");
        expect_publishers(&set, &[ending, staying]);
        let handle = set[ending].handle();
        let waiting = start(move || {
            let outcome = wait_somehow(&mut set, way);
            (set, outcome)
        });
        std::thread::sleep(PAUSE * 10);
        if is_cancel {
            handle.cancel()
        } else {
            nodes[0].shutdown()
        }
        let (mut set, outcome) = waiting.finish();
        let ready = outcome.expect("waiting succeeds");
        assert!(ready == ending && ready.is_closed());
        assert!(matches!(set[ending].recv(), Err(ReceiveError::Closed { .. })));
        send(&mut publisher, 0..1);
        let seen: Vec<Ready> = (0..4).map(|_| wait(&mut set)).collect();
        let of_ending = seen.iter().filter(|ready| **ready == ending);
        assert!(of_ending.clone().count() == 2, "{seen:?}");
        if is_cancel {
            // What had arrived is received first.
            assert_eq!(of_ending.filter(|ready| ready.is_closed()).count(), 0);
            receive(&mut set, ending, 0);
        }
        assert!(set.remove(ending).is_some());
        receive(&mut set, staying, 0);
        assert!(is_quiet(&mut set));
    }
}

#[test]
fn cancelling_a_set_ends_its_waits() {
    for way in 0..WAYS {
        let domain = Domain::new();
        let (mut set, keys, mut publishers) = stage(&domain, &["topic"]);
        let handle = set.handle();
        let waiting = start(move || {
            let outcome = wait_somehow(&mut set, way);
            (set, outcome)
        });
        std::thread::sleep(PAUSE * 10);
        handle.clone().cancel();
        let (mut set, outcome) = waiting.finish();
        assert_eq!(outcome, Err(WaitSetError::Cancelled));
        send(&mut publishers[0], 0..1);
        for way in 0..WAYS {
            assert_eq!(wait_somehow(&mut set, way), Err(WaitSetError::Cancelled), "although it is ready");
        }
        receive(&mut set, keys[0], 0);
    }
}

#[test]
fn a_set_and_a_loop_may_wait_for_the_same_endpoint() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["topic"]);
    let watched = set[keys[0]].as_fd().expect("descriptors are left").try_clone_to_owned();
    let watched = watched.expect("descriptors are left");
    let timeout = Timespec::try_from(PATIENCE).expect("it is short");
    for number in 0..50 {
        assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
        assert!(set[keys[0]].try_recv().expect("receiving succeeds").is_none());
        send(&mut publishers[0], number..number + 1);
        assert_eq!(poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&timeout)), Ok(1));
        assert!(wait(&mut set) == keys[0]);
        receive(&mut set, keys[0], number);
    }
}

/// Uses a member in ways that end what the set has prepared for it.
fn use_otherwise(set: &mut WaitSet, key: Endpoint, way: u64) {
    let subscriber = &mut set[key];
    match way % 4 {
        0 => assert!(subscriber.recv_timeout(SHORT).expect("receiving succeeds").is_none()),
        1 => while subscriber.event_timeout(SHORT).expect("waiting succeeds").is_some() {},
        2 => assert!(subscriber.try_recv().expect("receiving succeeds").is_none()),
        _ => {
            let mut receiving = std::pin::pin!(subscriber.recv_async());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(receiving.as_mut().poll(&mut context).is_pending());
        }
    }
}

fn use_members_in_between(with_descriptor: bool) {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["first", "second"]);
    let (reader, _writer) = pipe();
    if with_descriptor {
        set.add_fd(reader, Interest::Read).expect("it can be watched");
    }
    for number in 0..24 {
        assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
        use_otherwise(&mut set, keys[0], number);
        let index = (number % 3).min(1) as usize;
        let next = if index == 0 { number / 3 } else { number - number / 3 - 1 };
        let sending = send_later(publishers.remove(index), next..next + 1);
        assert!(wait(&mut set) == keys[index]);
        receive(&mut set, keys[index], next);
        publishers.insert(index, sending.finish());
    }
}

#[test]
fn what_a_member_is_used_for_in_between_does_no_harm() {
    use_members_in_between(false);
}

#[test]
fn what_a_member_that_the_kernel_watches_is_used_for_in_between_does_no_harm() {
    use_members_in_between(true);
}

#[test]
fn who_slept_in_a_large_set_is_heard_when_it_has_become_small() {
    let domain = Domain::new();
    let (mut set, keys, mut publishers) = stage(&domain, &["busy", "idle"]);
    let node = domain.node("others");
    let others: Vec<Endpoint> = (0..30).flat_map(|_| add_all(&mut set, &node, &["nothing"])).collect();
    assert!(set.wait_timeout(SHORT).expect("waiting succeeds").is_none());
    others.into_iter().for_each(|key| assert!(set.remove(key).is_some()));
    send(&mut publishers[0], 0..1);
    assert!(wait(&mut set) == keys[0]);
    send(&mut publishers[1], 0..1);
    // Nothing is taken, so that one of them is always ready, and the set never asks the kernel.
    let seen: Vec<Ready> = (0..4).map(|_| wait(&mut set)).collect();
    assert!(keys.iter().all(|key| seen.iter().filter(|ready| *ready == key).count() == 2), "{seen:?}");
}
