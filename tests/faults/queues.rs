//! The fear: an item that is lost with its consumer, or held up by one that is stopped, or that nobody misses when its producer
//! dies. What consumers do they write into a file before they acknowledge it, and the test believes nothing else.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{AckError, Consumer, EndpointError, Node, Overflow, Producer, PushError, ReceiveError};

use crate::ledger::{self, LETTER_BYTES_LEAST, Random};
use crate::parts::{Words, say, wait, words};
use crate::records::{RecordFile, Records};
use crate::stage::{Actor, PATIENCE, Stage};
use crate::threads::forbid;

/// In the slot, behind a header, and in the pool.
const LENGTHS: [u64; 3] = [LETTER_BYTES_LEAST as u64, 600, 30_000];

/// Takes letters for ever, writes each down, and acknowledges it. The name is that of its file.
pub fn take(node: &Node, name: u64) {
    let mut file = RecordFile::of_part(name);
    let mut consumer = node.queue::<[u8]>("letters").credit(16).consumer().expect("the types agree");
    say("taking");
    loop {
        let item = consumer.recv().expect("receiving succeeds");
        file.note(ledger::read(&item), item.is_redelivered());
        // The producer may go before it hears of this.
        let _ = item.ack();
    }
}

/// Takes items and holds them, saying their numbers; then it acknowledges them, saying what comes of it.
pub fn hoard(node: &Node, items: u64) {
    let mut consumer = node.queue::<Words>("words").credit(items as u32).consumer().expect("the types agree");
    say("taking");
    let mut held = Vec::new();
    for _ in 0..items {
        let item = consumer.recv().expect("receiving succeeds");
        say(number_of(&item));
        held.push(item.hold());
    }
    wait();
    for item in held {
        say(match item.ack() {
            Ok(()) => "in time",
            Err(AckError::Late { .. }) => "late",
            Err(_) => "wrong",
        });
    }
    wait();
}

/// Pushes so many items into a deep queue, and then one more each time it is told to.
pub fn give(node: &Node, items: u64) {
    let mut producer = words_producer(node, 10_000);
    producer.wait_for_consumers(1, PATIENCE).expect("a consumer comes");
    (0..items).for_each(|number| producer.push(&words(number)).expect("there is room"));
    for number in items.. {
        say("pushed");
        wait();
        producer.push(&words(number)).expect("there is room");
    }
}

fn words_producer(node: &Node, depth: usize) -> Producer<Words> {
    node.queue("words").depth(depth).producer(Overflow::Block).expect("the queue is ours")
}

fn words_consumer(node: &Node, credit: u32) -> Consumer<Words> {
    node.queue("words").credit(credit).consumer().expect("the types agree")
}

/// The number of an item, which is whole.
fn number_of(item: &Words) -> u64 {
    let number = item[0] / words(1)[0];
    assert_eq!(*item, words(number), "item {number} is damaged");
    number
}

/// The next item's number, and whether it comes again; acknowledged.
fn next(consumer: &mut Consumer<Words>) -> (u64, bool) {
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    let outcome = (number_of(&item), item.is_redelivered());
    item.ack().expect("the producer lives");
    outcome
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_consumers_items_are_done_by_others() {
    const ITEMS: u64 = 6_000;
    let stage = Stage::new();
    let node = stage.node();
    let mut takers: Vec<Actor> = (0..3).map(|name| stage.start("queue-taker", &name.to_string())).collect();
    takers.iter_mut().for_each(|taker| taker.expect("taking"));
    let mut producer =
        node.queue::<[u8]>("letters").depth(64).producer(Overflow::Block).expect("the queue is ours");
    producer.wait_for_consumers(3, PATIENCE).expect("they come");
    let mut random = Random::new(1);
    for number in 0..ITEMS {
        let length = LENGTHS[random.below(3) as usize] + random.below(50);
        producer.push(&ledger::letter(length as usize, 7, number)).expect("a blocking push succeeds");
        // At an instant that its neighbours do not know; with items on their way to it, and in its hands.
        if number == ITEMS / 3 || number == ITEMS / 2 {
            takers.pop().expect("one is left").signal_kill();
        }
    }
    let mut counts = producer.counts();
    until("all is acknowledged", || {
        counts = producer.counts();
        counts.acknowledged == ITEMS
    });
    assert_eq!((counts.backlog, counts.unacknowledged, counts.dropped), (0, 0, 0));
    assert_eq!(counts.assigned, ITEMS + counts.redelivered);
    producer.close(PATIENCE).expect("everything is acknowledged");
    drop(takers);
    let twice = Records::collect(&stage, 0..3).check(7, ITEMS);
    assert!(twice <= counts.redelivered, "{twice} were done twice, and {} delivered", counts.redelivered);
}

#[test]
fn what_a_killed_producer_had_given_to_nobody_is_counted() {
    const ITEMS: u64 = 100;
    const CREDIT: u64 = 5;
    let stage = Stage::new();
    let node = stage.node();
    let mut consumer = words_consumer(&node, CREDIT as u32);
    let mut giver = stage.start("queue-giver", &ITEMS.to_string());
    giver.expect("pushed");
    let held = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes").hold();
    giver.kill();
    until("the death is known", || consumer.producers() == 0);
    for number in 1..CREDIT {
        assert_eq!(next(&mut consumer), (number, false));
    }
    assert!(consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds").is_none());
    assert_eq!(*held, words(0));
    held.ack().expect("nobody else has it");
    assert_eq!(consumer.lost(), ITEMS - CREDIT);
    // A restarted one is another.
    let mut giver = stage.start("queue-giver", "3");
    giver.expect("pushed");
    assert_eq!([0, 1, 2].map(|_| next(&mut consumer).0), [0, 1, 2]);
    assert_eq!(consumer.lost(), ITEMS - CREDIT);
}

#[test]
fn a_stopped_consumer_holds_up_its_own_items_only() {
    const HOARD: u64 = 4;
    let stage = Stage::new();
    let node = stage.node();
    let mut hoarder = stage.start("queue-hoarder", &HOARD.to_string());
    hoarder.expect("taking");
    let mut producer = words_producer(&node, 100);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..HOARD).for_each(|number| producer.push(&words(number)).expect("there is room"));
    (0..HOARD).for_each(|number| hoarder.expect(&number.to_string()));
    hoarder.stop();
    let stopped = producer.handle().connected();
    let mut consumer = words_consumer(&node, 2);
    producer.wait_for_consumers(2, PATIENCE).expect("it comes");
    (HOARD..50).for_each(|number| producer.push(&words(number)).expect("there is room"));
    (HOARD..50).for_each(|number| assert_eq!(next(&mut consumer), (number, false)));
    assert_eq!(producer.counts().unacknowledged, HOARD);
    // Until somebody lets go of it.
    assert!(producer.handle().detach(stopped[0].id));
    (0..HOARD).for_each(|number| assert_eq!(next(&mut consumer), (number, true)));
    hoarder.signal(libc::SIGCONT);
    hoarder.go();
    (0..HOARD).for_each(|_| hoarder.expect("late"));
    until("all is acknowledged", || producer.counts().acknowledged == 50);
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn a_consumer_that_goes_on_acknowledges_in_time() {
    let stage = Stage::new();
    let node = stage.node();
    let mut hoarder = stage.start("queue-hoarder", "2");
    hoarder.expect("taking");
    let mut producer = words_producer(&node, 100);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..5).for_each(|number| producer.push(&words(number)).expect("there is room"));
    (0..2).for_each(|number| hoarder.expect(&number.to_string()));
    hoarder.stop();
    let error = producer.push_timeout(&[0; 7], Duration::from_millis(5));
    assert_eq!(error, Ok(()), "the backlog has room");
    assert_eq!(producer.pending(), 4);
    hoarder.signal(libc::SIGCONT);
    hoarder.go();
    (0..2).for_each(|_| hoarder.expect("in time"));
    until("the next two are with it", || producer.pending() == 2);
    hoarder.kill();
    until("its end is known", || producer.consumers() == 0);
    let mut consumer = words_consumer(&node, 8);
    assert_eq!([0, 1, 2].map(|_| next(&mut consumer)), [(2, true), (3, true), (4, false)]);
}

#[test]
fn a_stopped_producer_is_waited_for_and_nothing_else() {
    let stage = Stage::new();
    let node = stage.node();
    let mut consumer = words_consumer(&node, 4);
    let mut giver = stage.start("queue-giver", "10");
    giver.expect("pushed");
    giver.stop();
    // What had been given is here; the rest needs somebody who is awake.
    (0..4).for_each(|number| assert_eq!(next(&mut consumer), (number, false)));
    assert!(consumer.recv_timeout(Duration::from_millis(50)).expect("receiving succeeds").is_none());
    let mut ours = words_producer(&node, 10);
    ours.push(&words(77)).expect("there is room");
    assert_eq!(next(&mut consumer), (77, false));
    giver.signal(libc::SIGCONT);
    (4..10).for_each(|number| assert_eq!(next(&mut consumer), (number, false)));
    giver.go();
    assert_eq!(next(&mut consumer), (10, false));
}

/// Pushes one item into a queue without depth, and says what comes of it.
pub fn meet(node: &Node, _: u64) {
    let mut producer: Producer<Words> =
        node.queue("words").depth(0).producer(Overflow::Block).expect("the queue is ours");
    producer.wait_for_consumers(1, PATIENCE).expect("a consumer comes");
    for number in 0.. {
        say("pushing");
        match producer.push_timeout(&words(number), PATIENCE) {
            Ok(()) => say("taken"),
            Err(error) => say(error),
        }
        wait();
    }
}

#[test]
fn a_rendezvous_outlives_stops_and_deaths() {
    let stage = Stage::new();
    let node = stage.node();
    let mut consumer = words_consumer(&node, 4);
    let mut giver = stage.start("queue-meeter", "");
    giver.expect("pushing");
    until("an item is offered", || node.peers().len() == 1);
    giver.stop();
    // It may have offered its item before it was stopped, or not.
    let early = consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds");
    let was_early = early.is_some();
    early.into_iter().for_each(|item| item.ack().expect("the producer lives"));
    giver.signal(libc::SIGCONT);
    if !was_early {
        assert_eq!(next(&mut consumer), (0, false));
    }
    giver.expect("taken");
    giver.go();
    giver.expect("pushing");
    giver.kill();
    until("the death is known", || consumer.producers() == 0);
    // What it had offered when it died is still there to be taken, if it was.
    let last = consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds");
    last.into_iter().for_each(|item| {
        assert_eq!(*item, words(1));
        item.ack().expect("nobody else has it");
    });
    assert_eq!(consumer.lost(), 0);
}

/// Pushes an item, is refused the kernel's barriers from then on, and says when its node has nothing more to do, and when the
/// item has come back.
pub fn give_unfenced(stage: &Stage) {
    let node = Node::builder().name("unfenced").directory(stage.directory()).control_thread(false).open();
    let node = node.expect("the domain is ours");
    let mut producer = words_producer(&node, 10);
    producer.wait_for_consumers(1, PATIENCE).expect("a consumer comes");
    producer.push(&words(0)).expect("there is room");
    forbid(&[libc::SYS_membarrier], libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    say("pushed");
    wait();
    until("the node rests", || {
        node.dispatch().expect("the system says what is ready");
        let mut ready = [PollFd::new(&node, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::default())).expect("polling succeeds") == 0
    });
    say("resting");
    until("it comes back", || producer.counts().redelivered == 1);
    until("it is acknowledged", || {
        node.dispatch().expect("the system says what is ready");
        producer.counts().acknowledged == 1
    });
    say("acknowledged");
    wait();
}

/// Nobody can enter the producer's core then until its own thread has; who serves the node must not try all the time.
#[test]
fn a_producer_that_is_refused_barriers_costs_no_processor() {
    let stage = Stage::new();
    let node = stage.node();
    let mut consumer = words_consumer(&node, 4);
    let mut giver = stage.start("unfenced-giver", "");
    giver.expect("pushed");
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    item.give_back();
    giver.go();
    giver.expect("resting");
    assert_eq!(next(&mut consumer), (0, true));
    giver.expect("acknowledged");
}

/// One that is stopped in its sleep looks as eager as one that sleeps.
#[test]
fn a_stopped_sleeper_keeps_no_rendezvous_from_another() {
    const ITEMS: u64 = 6;
    let stage = Stage::new();
    let node = stage.node();
    let mut hoarders = ["1", "1"].map(|items| stage.start("queue-hoarder", items));
    hoarders.iter_mut().for_each(|hoarder| hoarder.expect("taking"));
    let mut consumer = words_consumer(&node, 2);
    let mut producer: Producer<Words> =
        node.queue("words").depth(0).producer(Overflow::Block).expect("the queue is ours");
    producer.wait_for_consumers(3, PATIENCE).expect("they come");
    // Time to fall asleep; whoever has not is passed over all the sooner.
    std::thread::sleep(Duration::from_millis(50));
    hoarders.iter().for_each(Actor::stop);
    let taking = std::thread::spawn(move || {
        (0..ITEMS).for_each(|number| assert_eq!(next(&mut consumer), (number, false)));
        consumer
    });
    for number in 0..ITEMS {
        std::thread::sleep(Duration::from_millis(5));
        producer.push_timeout(&words(number), PATIENCE).expect("one of them takes it");
    }
    drop(taking.join().expect("all come"));
    hoarders.iter().for_each(|hoarder| hoarder.signal(libc::SIGCONT));
    for (hoarder, number) in hoarders.iter_mut().zip(ITEMS..) {
        producer.push_timeout(&words(number), PATIENCE).expect("one of them takes it");
        hoarder.go();
    }
    until("all is acknowledged", || producer.counts().unacknowledged == 0);
}

/// Takes and gives until a fork, and says what its child found.
pub fn fork(node: &Node) {
    let mut consumer = words_consumer(node, 4);
    let mut producer = words_producer(node, 10);
    producer.wait_for_consumers(1, PATIENCE).expect("it is ours");
    (0..3).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let held = consumer.recv().expect("receiving succeeds").hold();
    let lent = consumer.recv().expect("receiving succeeds");
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_forked =
            |outcome| matches!(outcome, Err(PushError::Endpoint { source: EndpointError::Forked, .. }));
        let cannot_ack =
            |outcome| matches!(outcome, Err(AckError::Endpoint { source: EndpointError::Forked, .. }));
        let are_told = [cannot_ack(held.ack()), cannot_ack(lent.ack())];
        let is_told = are_told == [true; 2]
            && is_forked(producer.push(&words(9)))
            && is_forked(producer.loan().map(drop))
            && producer.try_clone().is_err()
            && producer.wait_for_consumers(1, PATIENCE).is_err()
            && matches!(
                consumer.try_recv(),
                Err(ReceiveError::Endpoint { source: EndpointError::Forked, .. })
            );
        drop((producer, consumer));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    held.ack().expect("the producer lives");
    lent.ack().expect("the producer lives");
    assert_eq!(next(&mut consumer), (2, false));
    assert_eq!(producer.counts().redelivered, 0);
    producer.close(PATIENCE).expect("everything is acknowledged");
    say("closed");
}

#[test]
fn a_forked_child_leaves_its_parents_items_alone() {
    let stage = Stage::new();
    let mut forker = stage.start("queue-forker", "");
    forker.expect("the child said 7");
    forker.expect("closed");
}
