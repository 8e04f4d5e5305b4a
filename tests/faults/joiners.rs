//! The fear: who joins in the middle of the traffic misses something, or gets it twice, torn, or from somebody else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::ledger::{self, Account, Ledger, Random};
use crate::parts::{say, wait};
use crate::stage::{PATIENCE, Stage};

/// In the slot, and through the pool.
const LENGTHS: [usize; 2] = [56, 50_000];
/// Messages that are kept for joiners.
const HISTORY: u64 = 16;
/// Messages that a joiner receives before it leaves.
const STAY: u64 = 300;
/// Messages in the life of a publisher that does not wait for anybody: fewer than its ring has slots.
const LIFE: u64 = 60;
const SENDER: u64 = 5;

/// Joins when it is told to, and receives a while; says where it began.
pub fn join(node: &Node, is_observer: bool) {
    wait();
    let topic = node.topic::<[u8]>("history");
    let topic = if is_observer { topic.observer() } else { topic };
    let mut subscriber = topic.subscriber().expect("the types agree");
    let sample = subscriber.recv().expect("receiving succeeds");
    let mut ledger = Ledger::new(false);
    // Where it was let in; what it was too slow for since is counted.
    say(ledger.enter(&sample).first - sample.lost());
    for _ in 1..STAY {
        ledger.enter(&subscriber.recv().expect("receiving succeeds"));
    }
    assert_eq!(node.violations(), (0, None));
    let lost: u64 = ledger.accounts().map(|account| account.lost).sum();
    say(lost);
}

fn historian(node: &Node, overflow: Overflow) -> Publisher<[u8]> {
    let topic = node.topic("history").depth(64).history(HISTORY as usize);
    topic.publisher(overflow).expect("the topic is ours")
}

#[test]
fn who_joins_a_quiet_topic_gets_exactly_what_is_kept() {
    for (length, sent) in LENGTHS.into_iter().flat_map(|length| [(length, 3), (length, 16), (length, 1_000)])
    {
        let stage = Stage::new();
        let node = stage.node();
        let mut publisher = historian(&node, Overflow::Block);
        let mut send = |number| {
            publisher.send(&ledger::letter(length, SENDER, number)).expect("a blocking send succeeds");
        };
        (0..sent).for_each(&mut send);
        let mut joiner = stage.start("joiner", "");
        joiner.go();
        joiner.expect(&u64::saturating_sub(sent, HISTORY).to_string());
        (sent..sent + STAY).for_each(&mut send);
        joiner.expect("0");
        joiner.ends();
    }
}

/// The publisher never rests; how many it had sent before and after bounds where a joiner may begin.
#[test]
fn who_joins_under_full_load_gets_the_last_messages_and_every_one_after() {
    let policies = [
        (Overflow::Block, false),
        (Overflow::Block, true),
        (Overflow::DropOldest, false),
        (Overflow::Latest, false),
    ];
    for (length, (overflow, is_observer)) in
        LENGTHS.into_iter().flat_map(|length| policies.map(|policy| (length, policy)))
    {
        let stage = Stage::new();
        let node = stage.node();
        let mut publisher = historian(&node, overflow);
        let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    let letter = ledger::letter(length, SENDER, number);
                    publisher.send(&letter).expect("there is room, or somebody is waited for");
                    sent.store(number + 1, Ordering::SeqCst);
                }
            });
            let _end = EndOnDrop(&is_over);
            let may_lose = is_observer || overflow != Overflow::Block;
            (0..2).for_each(|_| join_three(&stage, &sent, is_observer, may_lose));
        });
    }
}

/// Ends the load, whatever happens to the test.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three join at once, and leave.
fn join_three(stage: &Stage, sent: &AtomicU64, is_observer: bool, may_lose: bool) {
    let mut joiners: Vec<_> =
        (0..3).map(|_| stage.start("joiner", &u64::from(is_observer).to_string())).collect();
    let start = std::time::Instant::now();
    while sent.load(Ordering::SeqCst) <= HISTORY {
        assert!(start.elapsed() < PATIENCE, "the publisher sends");
        std::thread::yield_now();
    }
    let before = sent.load(Ordering::SeqCst);
    joiners.iter_mut().for_each(|joiner| joiner.go());
    for joiner in &mut joiners {
        let first: u64 = joiner.hear().parse().expect("it is a number");
        // One more may have been sent and not been counted.
        let after = sent.load(Ordering::SeqCst) + 1;
        assert!((before - HISTORY..=after - HISTORY).contains(&first), "{first} of {before} to {after}");
    }
    for joiner in &mut joiners {
        let lost: u64 = joiner.hear().parse().expect("it is a number");
        assert!(may_lose || lost == 0, "{lost} lost");
        joiner.ends();
    }
}

/// A life of a publisher: everything that it has to say, without waiting for anybody to read it.
pub fn live(node: &Node, seed: u64) {
    let mut random = Random::new(seed);
    let sender = random.next();
    let mut publisher: Publisher<[u8]> =
        node.topic("lives").depth(64).publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    for number in 0..LIFE {
        let length = LENGTHS[(number % 2) as usize] + random.below(1_000) as usize;
        publisher.send(&ledger::letter(length, sender, number)).expect("a blocking send succeeds");
    }
    say(sender);
    wait();
}

/// Publishers that restart, or are killed and started again, while nobody reads: each one's messages are all there, under
/// its own identity, from 0.
#[test]
fn a_publisher_that_is_started_again_is_another_one() {
    let stage = Stage::new();
    let node = stage.node();
    let mut subscriber: Subscriber<[u8]> = node.topic("lives").subscriber().expect("the types agree");
    let mut senders = Vec::new();
    for seed in 0..6 {
        let mut publisher = stage.start("short-life", &seed.to_string());
        senders.push(publisher.hear().parse().expect("it is a number"));
        if seed % 2 == 0 {
            publisher.kill();
        } else {
            publisher.go();
            publisher.ends();
        }
    }
    let mut ledger = Ledger::new(true);
    for _ in 0..LIFE * senders.len() as u64 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
        ledger.enter(&sample.expect("it was sent"));
    }
    let mut accounts: Vec<Account> = ledger.accounts().copied().collect();
    accounts.sort_by_key(|account| senders.iter().position(|sender| *sender == account.sender));
    let whole = |sender: &u64| Account { sender: *sender, first: 0, last: LIFE - 1, received: LIFE, lost: 0 };
    assert_eq!(accounts, senders.iter().map(whole).collect::<Vec<_>>());
    let start = std::time::Instant::now();
    while subscriber.publishers() > 0 {
        assert!(start.elapsed() < PATIENCE, "they have all gone");
        std::thread::yield_now();
    }
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
    assert_eq!(node.violations(), (0, None));
}
