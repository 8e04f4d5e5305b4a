//! The fear: an item that is neither with a consumer nor lost, because somebody died between two instructions: its producer
//! while it pushed, or while its node's thread assigned, or its consumer while it acknowledged. Each is stepped, one
//! instruction after the other, and killed after chosen ones.

use tidepost::{Consumer, HeldItem, Node, Overflow, Producer};

use crate::parts::{Words, say, wait, words};
use crate::ptrace::{STEPS_MAX, Stepped, between_signals};
use crate::stage::{Actor, PATIENCE, Stage, until};

/// Ways to acknowledge: the one item that is there, by the cursor, or the second of two, by a note.
const IN_TURN: u64 = 0;
const OUT_OF_TURN: u64 = 1;
/// What a producer has pushed before its node's thread is stepped, and what its consumer takes at a time.
const PUSHED: u64 = 10;
const CREDIT: u64 = 4;

/// One that waits for nothing: while it does, it has millions of instructions.
fn producer(node: &Node) -> Producer<Words> {
    node.queue("words").depth(100).producer(Overflow::Fail).expect("the queue is ours")
}

fn consumer(node: &Node, credit: u32) -> Consumer<Words> {
    node.queue("words").credit(credit).consumer().expect("the types agree")
}

/// Pushes one item, and then another between two signals.
pub fn give_stepped(node: &Node) {
    let mut producer = producer(node);
    producer.wait_for_consumers(1, PATIENCE).expect("the test takes");
    producer.push(&words(0)).expect("there is room");
    between_signals(|| producer.push(&words(1)).expect("there is room"));
    say("pushed");
    wait();
}

/// Acknowledges one item, and then another between two signals, in turn or not.
pub fn take_stepped(node: &Node, way: u64) {
    let mut consumer = consumer(node, 4);
    let mut next = || -> HeldItem<Words> { consumer.recv().expect("receiving succeeds").hold() };
    next().ack().expect("the producer lives");
    let earlier = (way == OUT_OF_TURN).then(&mut next);
    let item = consumer.recv().expect("receiving succeeds");
    between_signals(|| item.ack().expect("the producer lives"));
    say("acknowledged");
    wait();
    drop(earlier);
}

/// The number of the next item, which is whole and new; acknowledged.
fn take_one(consumer: &mut Consumer<Words>) -> Option<u64> {
    let item = consumer.try_recv().expect("receiving succeeds")?;
    let number = (0..100).find(|number| *item == words(*number)).expect("it is whole");
    assert!(!item.is_redelivered());
    item.ack().expect("the producer lives, or nobody else has it");
    Some(number)
}

/// Kills a process of which a thread is stepped.
fn kill(mut actor: Actor, stepped: Stepped) {
    actor.signal_kill();
    stepped.bury();
    actor.kill();
}

/// Steps so often, or until the work is over.
fn step(stepped: &Stepped, steps: u64) {
    let _ = (0..steps).take_while(|_| stepped.step()).count();
}

/// Places in a sequence of about so many steps, with the neighbours of one that matters, from the first to the end.
fn places(steps: u64, turn: u64) -> impl Iterator<Item = u64> {
    (0..8).map(move |part| part * steps / 8).chain([turn.saturating_sub(1), turn, turn + 1, STEPS_MAX])
}

/// A producer right before its second push, and a consumer that has credit for that, or not.
struct Push {
    consumer: Consumer<Words>,
    held: Option<HeldItem<Words>>,
    // Dropped before its process, which does not end while it is traced.
    stepped: Stepped,
    actor: Actor,
    _node: Node,
    _stage: Stage,
}

impl Push {
    fn new(has_credit: bool) -> Self {
        let stage = Stage::new();
        let node = stage.node();
        let mut consumer = consumer(&node, if has_credit { 4 } else { 1 });
        let mut actor = stage.start("stepped-giver", "");
        let stepped = Stepped::new(&mut actor);
        let first = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
        assert_eq!(*first, words(0));
        let held = if has_credit {
            first.ack().expect("the producer lives");
            None
        } else {
            Some(first.hold())
        };
        Self { consumer, held, actor, stepped, _node: node, _stage: stage }
    }

    /// How many instructions the push has, and after which its item is with the consumer, if that has credit.
    fn go_to_the_end(has_credit: bool) -> (u64, u64) {
        let mut push = Self::new(has_credit);
        let (mut steps, mut there_after) = (0, None);
        while push.stepped.step() {
            steps += 1;
            assert!(steps < STEPS_MAX, "a push of more than {STEPS_MAX} instructions");
            if take_one(&mut push.consumer).is_some() {
                assert!(there_after.replace(steps).is_none(), "the item is there once");
            }
        }
        push.stepped.let_go();
        push.actor.expect("pushed");
        assert_eq!(there_after.is_some(), has_credit);
        (steps, there_after.unwrap_or(steps))
    }

    /// Kills the producer after so many instructions: items that were given, and items that were lost.
    fn die_after(has_credit: bool, steps: u64) -> (u64, u64) {
        let mut push = Self::new(has_credit);
        step(&push.stepped, steps);
        kill(push.actor, push.stepped);
        let consumer = &mut push.consumer;
        until("the death is known", || consumer.producers() == 0);
        if let Some(held) = push.held {
            held.ack().expect("nobody else has it");
        }
        let given =
            std::iter::from_fn(|| take_one(consumer)).inspect(|number| assert_eq!(*number, 1)).count();
        (given as u64, consumer.lost())
    }
}

#[test]
fn a_push_that_its_producers_death_interrupts_is_given_whole_or_not_at_all() {
    let (steps, there_after) = Push::go_to_the_end(true);
    println!("a push has {steps} instructions, and its item is there after {there_after}");
    let outcomes: Vec<u64> = places(steps, there_after)
        .map(|after| {
            let (given, lost) = Push::die_after(true, after);
            assert!(given <= 1 && lost == 0, "{given} given and {lost} lost after {after} instructions");
            given
        })
        .collect();
    assert!(outcomes.contains(&0) && outcomes.contains(&1), "{outcomes:?}");
}

#[test]
fn an_item_without_credit_that_dies_with_its_producer_is_counted_or_was_never_pushed() {
    let (steps, _) = Push::go_to_the_end(false);
    println!("a push without credit has {steps} instructions");
    let outcomes: Vec<u64> = places(steps, steps / 2)
        .map(|after| {
            let (given, lost) = Push::die_after(false, after);
            assert!(given == 0 && lost <= 1, "{given} given and {lost} lost after {after} instructions");
            lost
        })
        .collect();
    assert_eq!((outcomes.first(), outcomes.last()), (Some(&0), Some(&1)), "{outcomes:?}");
}

/// A producer whose items are with the consumer, as far as that has credit, and behind.
struct Assignment {
    consumer: Consumer<Words>,
    held: Vec<HeldItem<Words>>,
    actor: Actor,
    _node: Node,
    _stage: Stage,
}

impl Assignment {
    fn new() -> Self {
        let stage = Stage::new();
        let node = stage.node();
        let consumer = consumer(&node, CREDIT as u32);
        let mut actor = stage.start("queue-giver", &PUSHED.to_string());
        actor.expect("pushed");
        let mut scene = Self { consumer, held: Vec::new(), actor, _node: node, _stage: stage };
        until("what there is credit for has come", || {
            scene.take();
            scene.held.len() as u64 == CREDIT
        });
        scene
    }

    /// Holds what has come.
    fn take(&mut self) {
        while let Some(item) = self.consumer.try_recv().expect("receiving succeeds") {
            self.held.push(item.hold());
        }
    }

    /// Acknowledges the items that it holds, which are whole, new and in order from this number on; the next number.
    fn acknowledge(&mut self, first: u64) -> u64 {
        let numbered = self.held.drain(..).zip(first..).map(|(item, number)| {
            assert_eq!((*item, item.is_redelivered()), (words(number), false), "item {number}");
            item.ack().expect("nobody else has it");
        });
        first + numbered.count() as u64
    }

    /// The thread that serves the producer's node.
    fn control_thread(&self) -> i32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.actor.pid())).expect("it lives");
        let is_control = |path: &std::path::Path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("tidepost-contr"))
        };
        let mut paths = tasks.map(|task| task.expect("it lives").path());
        let path = paths.find(|path| is_control(path)).expect("its node has a thread");
        path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("threads have numbers")
    }

    /// Its producer has been killed: the items that it gave, and those that were lost.
    fn outcome(&mut self) -> (u64, u64) {
        until("the death is known", || self.consumer.producers() == 0);
        self.take();
        (self.acknowledge(CREDIT), self.consumer.lost())
    }
}

#[test]
fn what_a_producer_that_is_stopped_could_not_assign_is_lost_with_it() {
    let mut scene = Assignment::new();
    scene.actor.stop();
    // There is credit now, and nobody who makes use of it.
    assert_eq!(scene.acknowledge(0), CREDIT);
    scene.actor.signal_kill();
    assert_eq!(scene.outcome(), (CREDIT, PUSHED - CREDIT));
}

/// Makes room while the thread that assigns is stopped, and has that go on for so many instructions at most, and until everything
/// is assigned for which there is room; then it is killed. The instructions, and what [`Assignment::outcome`] says.
fn assign(steps_max: u64) -> (u64, u64, u64) {
    let mut scene = Assignment::new();
    let stepped = Stepped::seize(scene.control_thread());
    assert_eq!(scene.acknowledge(0), CREDIT);
    let mut count = 0;
    // After that it would sleep.
    while count < steps_max && (scene.held.len() as u64) < CREDIT {
        assert!(stepped.step(), "it raises no signal");
        count += 1;
        scene.take();
    }
    scene.actor.signal_kill();
    stepped.bury();
    let (given, lost) = scene.outcome();
    (count, given, lost)
}

#[test]
fn whenever_a_producer_dies_that_assigns_each_item_is_given_or_lost() {
    let (steps, given, _) = assign(STEPS_MAX);
    assert_eq!(given, 2 * CREDIT);
    println!("{CREDIT} items are assigned within {steps} instructions");
    // Most of them come before the first item has been assigned.
    let outcomes: Vec<u64> = places(steps, steps - 1)
        .chain((1..6).map(|part| steps - steps / 20 * part))
        .map(|after| {
            let (_, given, lost) = assign(after);
            // What it was assigning in that very moment may be counted as lost as well.
            assert!(given + lost >= PUSHED, "{given} given and {lost} lost after {after} instructions");
            assert!(lost == PUSHED - CREDIT || lost + given == PUSHED, "{given} given, {lost} lost");
            given
        })
        .collect();
    assert_eq!(outcomes.first(), Some(&CREDIT), "{outcomes:?}");
    println!("given: {outcomes:?}");
}

/// A consumer right before an acknowledgement.
struct Acknowledgement {
    producer: Producer<Words>,
    // Dropped before its process, which does not end while it is traced.
    stepped: Stepped,
    actor: Actor,
    node: Node,
    _stage: Stage,
}

impl Acknowledgement {
    fn new(way: u64) -> Self {
        let stage = Stage::new();
        let node = stage.node();
        let mut producer = producer(&node);
        let mut actor = stage.start("stepped-taker", &way.to_string());
        producer.wait_for_consumers(1, PATIENCE).expect("it comes");
        (0..2 + way).for_each(|number| producer.push(&words(number)).expect("there is room"));
        let stepped = Stepped::new(&mut actor);
        assert_eq!(producer.counts().acknowledged, 1);
        Self { producer, actor, stepped, node, _stage: stage }
    }

    /// How many instructions an acknowledgement has, and after which its producer knows of it, if it may.
    fn go_to_the_end(way: u64) -> (u64, u64) {
        let mut scene = Self::new(way);
        let (mut steps, mut known_after) = (0, None);
        while scene.stepped.step() {
            steps += 1;
            assert!(steps < STEPS_MAX, "an acknowledgement of more than {STEPS_MAX} instructions");
            match scene.producer.counts().acknowledged {
                1 => assert!(known_after.is_none(), "what is acknowledged stays so"),
                2 => _ = known_after.get_or_insert(steps),
                other => panic!("{other} are acknowledged"),
            }
        }
        scene.stepped.let_go();
        scene.actor.expect("acknowledged");
        // One out of turn is counted when what comes before it is settled.
        assert_eq!(known_after.is_some(), way == IN_TURN);
        (steps, known_after.unwrap_or(steps / 2))
    }

    /// Kills the consumer after so many instructions; whether its item was acknowledged. Another gets it if not.
    fn die_after(way: u64, steps: u64) -> bool {
        let Self { mut producer, actor, stepped, node, _stage } = Self::new(way);
        step(&stepped, steps);
        kill(actor, stepped);
        until("the death is known", || producer.consumers() == 0);
        let counts = producer.counts();
        let is_acknowledged = counts.acknowledged == 2;
        let left = if is_acknowledged { way } else { way + 1 };
        assert_eq!((counts.acknowledged + counts.backlog, counts.backlog), (2 + way, left), "after {steps}");
        let mut consumer = consumer(&node, 4);
        for number in (1..2 + way).filter(|number| !is_acknowledged || *number != 1 + way) {
            let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
            assert_eq!((*item, item.is_redelivered()), (words(number), true));
            item.ack().expect("the producer lives");
        }
        assert!(consumer.try_recv().expect("receiving succeeds").is_none());
        producer.close(PATIENCE).expect("everything is acknowledged");
        is_acknowledged
    }
}

fn acknowledged_or_delivered_again(way: u64) {
    let (steps, known_after) = Acknowledgement::go_to_the_end(way);
    println!("an acknowledgement has {steps} instructions, and is known after {known_after}");
    let outcomes: Vec<bool> =
        places(steps, known_after).map(|after| Acknowledgement::die_after(way, after)).collect();
    assert_eq!((outcomes.first(), outcomes.last()), (Some(&false), Some(&true)), "{outcomes:?}");
}

#[test]
fn whenever_a_consumer_dies_that_acknowledges_its_item_is_done_or_comes_again() {
    acknowledged_or_delivered_again(IN_TURN);
}

#[test]
fn whenever_a_consumer_dies_that_acknowledges_out_of_turn_its_item_is_done_or_comes_again() {
    acknowledged_or_delivered_again(OUT_OF_TURN);
}
