//! The fear: a notification is lost, told twice, or told under another id; or two ends that mean different things by a
//! signal take each other for the same.

use std::time::Duration;

use tidepost::{Event, Notifier, NotifyError, ReceiveError, SignalError, WaitError, Waiter};

use crate::stage::{Domain, PATIENCE, start, turned_down, until};

/// What is there now, as pairs.
fn taken(waiter: &mut Waiter) -> Vec<(u32, u64)> {
    let notices = waiter.try_wait().expect("waiting succeeds");
    notices.map_or(Vec::new(), |notices| notices.iter().map(|notice| (notice.id, notice.count)).collect())
}

/// Waits until so many of each have let each other in.
fn connect(notifiers: &[&Notifier], waiters: &[&Waiter]) {
    until("they let each other in", || {
        notifiers.iter().all(|notifier| notifier.waiters() == waiters.len())
            && waiters.iter().all(|waiter| waiter.notifiers() == notifiers.len())
    });
}

#[test]
fn notifications_are_counted_by_id_and_told_once() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    for ids in [1, 2, 15, 16, 64, 65, 1000, 65_536] {
        let mut notifier = here.signal("s").ids(ids).notifier().expect("the signal is ours");
        let mut waiter = there.signal("s").ids(ids).waiter().expect("the numbers agree");
        connect(&[&notifier], &[&waiter]);
        assert_eq!(taken(&mut waiter), []);
        let last = ids - 1;
        notifier.notify(last).expect("there is such an id");
        notifier.notify_many(last, 4).expect("there is such an id");
        notifier.notify_many(0, 0).expect("there is such an id");
        assert_eq!(taken(&mut waiter), [(last, 5)], "{ids} ids");
        assert_eq!(taken(&mut waiter), []);
        for id in 0..ids {
            notifier.notify_many(id, id + 1).expect("there is such an id");
        }
        let expected: Vec<_> = (0..ids).map(|id| (id, u64::from(id) + 1)).collect();
        assert_eq!(taken(&mut waiter), expected);
    }
}

#[test]
fn what_came_before_a_waiter_is_not_told() {
    let domain = Domain::new();
    let node = domain.node("all");
    let mut notifier = node.signal("s").ids(3).notifier().expect("the signal is ours");
    notifier.notify(1).expect("nobody is needed");
    let mut waiter = node.signal("s").ids(3).waiter().expect("the numbers agree");
    assert_eq!(taken(&mut waiter), []);
    notifier.notify(2).expect("there is such an id");
    let notices = waiter.wait().expect("something came");
    assert_eq!((notices.total(), notices.count_of(2), notices.count_of(1)), (1, 1, 0));
}

#[test]
fn all_notifiers_are_told_together_and_every_waiter_is_told() {
    let domain = Domain::new();
    let nodes = ["first", "second"].map(|name| domain.node(name));
    let mut notifiers: Vec<Notifier> = nodes
        .iter()
        .chain([&nodes[0]])
        .map(|node| node.signal("s").ids(70).notifier().expect("the signal is ours"))
        .collect();
    notifiers.push(notifiers[0].try_clone().expect("the signal is ours"));
    let mut waiters: Vec<Waiter> = nodes
        .iter()
        .chain([&nodes[1]])
        .map(|node| node.signal("s").ids(70).waiter().expect("the numbers agree"))
        .collect();
    connect(&notifiers.iter().collect::<Vec<_>>(), &waiters.iter().collect::<Vec<_>>());
    for (index, notifier) in notifiers.iter_mut().enumerate() {
        notifier.notify(69).expect("there is such an id");
        notifier.notify_many(index as u32, 2).expect("there is such an id");
    }
    for waiter in &mut waiters {
        assert_eq!(taken(waiter), [(0, 2), (1, 2), (2, 2), (3, 2), (69, 4)]);
    }
}

#[test]
fn nothing_is_lost_while_all_are_busy() {
    const COUNT: u64 = 100_000;
    let domain = Domain::new();
    let nodes = ["first", "second", "third"].map(|name| domain.node(name));
    let waiters: Vec<Waiter> =
        nodes.iter().map(|node| node.signal("s").ids(100).waiter().expect("the numbers agree")).collect();
    let notifying: Vec<_> = nodes[..2]
        .iter()
        .map(|node| {
            let mut notifier = node.signal("s").ids(100).notifier().expect("the signal is ours");
            start(move || {
                notifier.wait_for_waiters(3, PATIENCE).expect("they come");
                (0..COUNT).for_each(|number| {
                    notifier.notify((number % 100) as u32).expect("there is such an id");
                });
                notifier
            })
        })
        .collect();
    let waiting: Vec<_> = waiters.into_iter().map(|waiter| start(move || collect(waiter))).collect();
    for counts in waiting {
        assert_eq!(counts.finish(), [2 * COUNT / 100; 100]);
    }
    notifying.into_iter().for_each(|work| drop(work.finish()));

    fn collect(mut waiter: Waiter) -> [u64; 100] {
        let mut counts = [0; 100];
        while counts.iter().sum::<u64>() < 2 * COUNT {
            let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("more come");
            notices.iter().for_each(|notice| counts[notice.id as usize] += notice.count);
        }
        counts
    }
}

#[test]
fn what_a_notifier_said_before_it_left_is_told() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut waiter = there.signal("s").ids(2).waiter().expect("the numbers agree");
    for round in 1..20 {
        let mut notifier = here.signal("s").ids(2).notifier().expect("the signal is ours");
        notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
        notifier.notify_many(1, round).expect("there is such an id");
        drop(notifier);
        let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it was said");
        assert_eq!((notices.len(), notices.count_of(1)), (1, u64::from(round)));
        until("it has left", || waiter.notifiers() == 0);
        assert_eq!(taken(&mut waiter), []);
    }
}

#[test]
fn another_number_of_ids_is_refused_and_named_on_both_ends() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut notifier = here.signal("s").ids(4).notifier().expect("the signal is ours");
    let error = turned_down(|| there.signal("s").ids(16).waiter());
    let SignalError::Mismatch { refused, .. } = &error else { panic!("another error: {error}") };
    let difference = refused.difference.clone().expect("it is told");
    assert_eq!(difference.what, "field `ids`");
    assert!(error.to_string().contains("ours ids: [u64; 16] at 0 of 128 B"), "{error}");
    until("the notifier is told", || !notifier.refusals().is_empty());
    let error = notifier.wait_for_waiters(1, Duration::ZERO).expect_err("it was turned down");
    assert!(matches!(error, WaitError::Timeout { connected: 0, wanted: 1, .. }));
    assert!(error.to_string().contains("theirs ids: [u64; 16]"), "{error}");
}

#[test]
fn options_out_of_range_and_wrong_ids_are_errors() {
    let domain = Domain::new();
    let node = domain.node("all");
    for ids in [0, 65_537] {
        let most = 65_536;
        let wrong = SignalError::Ids { signal: "s".into(), ids, most };
        assert_eq!(node.signal("s").ids(ids).notifier().expect_err("there are not as many"), wrong);
        assert_eq!(node.signal("s").ids(ids).waiter().expect_err("there are not as many"), wrong);
    }
    assert!(matches!(node.signal("").waiter(), Err(SignalError::Name(_))));
    let mut notifier = node.signal("s").ids(2).notifier().expect("the signal is ours");
    let error = notifier.notify(2).expect_err("there is no such id");
    assert_eq!(error, NotifyError::Id { signal: "s".into(), id: 2, ids: 2 });
}

#[test]
fn a_topic_and_a_signal_of_one_name_do_not_meet() {
    let domain = Domain::new();
    let node = domain.node("all");
    let publisher = node.topic::<u64>("s").publisher(tidepost::Overflow::Latest).expect("the topic is ours");
    let waiter = node.signal("s").waiter().expect("there is no other signal");
    assert_eq!((publisher.subscribers(), waiter.notifiers(), waiter.refusals().len()), (0, 0, 0));
}

#[test]
fn who_comes_and_goes_is_an_event() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut waiter = there.signal("s").waiter().expect("the numbers agree");
    let mut notifier = here.signal("s").notifier().expect("the signal is ours");
    let joined = |event: Option<Event>| matches!(event, Some(Event::Joined(_)));
    let left = |event: Option<Event>| matches!(event, Some(Event::Left(_)));
    assert!(joined(waiter.event_timeout(PATIENCE).expect("nobody cancels")));
    assert!(joined(notifier.event_timeout(PATIENCE).expect("nobody cancels")));
    drop(waiter);
    assert!(left(notifier.event_timeout(PATIENCE).expect("nobody cancels")));
    assert_eq!(notifier.event_timeout(Duration::ZERO).expect("nobody cancels"), None);
    let mut waiter = there.signal("s").waiter().expect("the numbers agree");
    assert!(joined(waiter.event_timeout(PATIENCE).expect("nobody cancels")));
    drop(notifier);
    assert!(left(waiter.event_timeout(PATIENCE).expect("nobody cancels")));
}

#[test]
fn a_cancelled_or_shut_down_end_says_so_and_keeps_what_has_come() {
    let domain = Domain::new();
    for by_node in [false, true] {
        let (here, there) = (domain.node("here"), domain.node("there"));
        let mut notifier = here.signal("s").notifier().expect("the signal is ours");
        let mut waiter = there.signal("s").waiter().expect("the numbers agree");
        connect(&[&notifier], &[&waiter]);
        notifier.notify(0).expect("there is such an id");
        if by_node {
            here.shutdown()
        } else {
            notifier.handle().cancel()
        }
        if by_node {
            there.shutdown()
        } else {
            waiter.handle().cancel()
        }
        assert_eq!(notifier.notify(0).expect_err("it is closed"), NotifyError::Closed { signal: "s".into() });
        assert_eq!(waiter.wait().expect("it had come").total(), 1);
        assert!(matches!(waiter.wait(), Err(ReceiveError::Closed { .. })));
        assert!(matches!(waiter.wait_timeout(PATIENCE), Err(ReceiveError::Closed { .. })));
        assert!(waiter.try_wait().expect("it need not wait").is_none());
        assert!(matches!(waiter.event_timeout(PATIENCE), Ok(Some(_))));
        assert!(matches!(notifier.wait_for_waiters(2, PATIENCE), Err(WaitError::Closed { .. })));
    }
}

#[test]
fn signals_are_listed() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut notifier = here.signal("gates").ids(3).notifier().expect("the signal is ours");
    let mut waiter = there.signal("gates").ids(3).waiter().expect("the numbers agree");
    connect(&[&notifier], &[&waiter]);
    notifier.notify_many(1, 5).expect("there is such an id");
    assert_eq!(waiter.wait().expect("it came").total(), 5);
    let reports = there.inspect(PATIENCE).expect("all answer");
    let report = |name: &str| reports.iter().find(|report| &*report.name == name).expect("it is listed");
    let outlet = &report("here").publishers[0];
    assert_eq!((outlet.pattern.name(), outlet.name.as_str(), outlet.sent), ("signal", "gates", 5));
    assert_eq!((outlet.readers.len(), outlet.readers[0].id), (1, waiter.id()));
    let inlet = &report("there").subscribers[0];
    assert_eq!((inlet.pattern.name(), inlet.publishers, inlet.received, inlet.lost), ("signal", 1, 5, 0));
}
