//! What every link has to do, whatever engine is behind it: another engine would have to pass this.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tidepost_zenoh::{
    Answer, Arrived, Frame, Link, LinkError, Quality, Sent, Settings, Source, Waited, Whom, Zenoh,
};

use crate::shim::Shim;
use crate::stage::{PATIENCE, listening, until};

const ROOM: usize = 1 << 20;
const RELIABLE: Quality = Quality::Reliable { cache: 100 };

/// Two ends that see each other.
fn ends() -> [Zenoh; 2] {
    let first = Zenoh::open(&listening()).expect("loopback has free ports");
    let settings = Settings { connect: first.addresses(), ..Settings::default() };
    let second = Zenoh::open(&settings).expect("it is an address");
    until("they are connected", || first.connections() == 1 && second.connections() == 1);
    [first, second]
}

fn frame(payload: &[u8]) -> Frame {
    Frame {
        payload: payload.to_vec(),
        encoding: "a/b;c=d".into(),
        attachment: vec![1, 2, 3],
        is_farewell: false,
    }
}

fn received(source: &dyn Source) -> Frame {
    assert_eq!(source.wait(PATIENCE), Waited::Ready);
    source.take().expect("there is one")
}

/// What comes to this end, in whatever order it is asked for.
fn source(link: &dyn Link, expression: &str, quality: Quality, room: usize) -> Arc<dyn Source> {
    link.source(expression, quality, room, Box::new(|_| false)).expect("it may")
}

fn check_frames([one, other]: [&dyn Link; 2]) {
    for quality in [RELIABLE, Quality::Lossy] {
        let sink = one.sink("realm/x/y", quality, ROOM).expect("it may");
        let own = source(one, "realm/x/**", quality, ROOM);
        if quality == Quality::Lossy {
            assert_eq!((sink.try_send(frame(b"")), sink.has_receivers()), (Sent::NotConnected, false));
        }
        let source = source(other, "realm/x/*", quality, ROOM);
        until("it is received there", || sink.has_receivers());
        // What may be dropped is, where many come at once.
        let at_once = if quality == Quality::Lossy { 1 } else { 100 };
        for first in (0..100_u8).step_by(at_once) {
            let numbers = first..first + at_once as u8;
            for number in numbers.clone() {
                assert_eq!(sink.try_send(frame(&[number; 1000])), Sent::Sent);
            }
            for number in numbers {
                assert_eq!(received(&*source), frame(&[number; 1000]));
            }
        }
        let farewell = Frame { attachment: vec![9], is_farewell: true, ..Frame::default() };
        assert_eq!(sink.try_send(farewell.clone()), Sent::Sent);
        let got = received(&*source);
        assert_eq!((got.is_farewell, got.attachment), (true, vec![9]));
        assert_eq!(own.wait(Duration::from_millis(100)), Waited::Nothing, "nobody hears himself");
        drop(source);
        until("nobody receives any more", || !sink.has_receivers());
    }
}

fn check_bounds([one, other]: [&dyn Link; 2]) {
    let sink = one.sink("realm/full", RELIABLE, 10_000).expect("it may");
    let source = source(other, "realm/full", RELIABLE, 10_000);
    until("it is received there", || sink.has_receivers());
    // Whoever does not receive holds nobody up, and it is known how many were dropped.
    let mut sent = 0;
    for number in 0..2000_u32 {
        match sink.try_send(frame(&number.to_le_bytes().repeat(250))) {
            Sent::Sent => sent += 1,
            Sent::Full => {}
            other => panic!("{other:?}"),
        }
    }
    let (mut got, mut dropped, mut last) = (0, 0, None);
    until("all are received or dropped", || {
        source.wait(Duration::from_millis(50));
        if let Some(frame) = source.take() {
            let number = u32::from_le_bytes(*frame.payload.first_chunk().expect("four bytes and more"));
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
            got += 1;
        }
        dropped += source.take_dropped();
        got + dropped == sent
    });
}

/// What is given back waits, and with it whatever comes behind it, in order.
fn check_at_once([one, other]: [&dyn Link; 2]) {
    let sink = one.sink("realm/at-once", RELIABLE, ROOM).expect("it may");
    let (taken, took) = mpsc::channel();
    let on_frame = move |arrived: &Arrived<'_>| {
        if *arrived.payload == [[3]] {
            return false;
        }
        taken.send(arrived.payload[0][0]).expect("it is waited for");
        true
    };
    let source = other.source("realm/at-once", RELIABLE, ROOM, Box::new(on_frame)).expect("it may");
    until("it is received there", || sink.has_receivers());
    for number in 0..4 {
        assert_eq!(sink.try_send(frame(&[number])), Sent::Sent);
    }
    assert_eq!([(); 3].map(|()| took.recv_timeout(PATIENCE).expect("it is taken")), [0, 1, 2]);
    assert_eq!(source.wait(PATIENCE), Waited::Ready);
    for number in 4..6 {
        assert_eq!(sink.try_send(frame(&[number])), Sent::Sent);
    }
    // The fourth waits, and by now the others do behind it.
    assert!(took.recv_timeout(Duration::from_millis(300)).is_err(), "nothing overtakes what waits");
    assert_eq!([(); 3].map(|()| received(&*source).payload[0]), [3, 4, 5]);
    assert_eq!(sink.try_send(frame(&[6])), Sent::Sent);
    assert_eq!(took.recv_timeout(PATIENCE), Ok(6), "nothing waits before it");
}

/// What is sent on the caller's thread and what is queued arrive in the order in which they were settled, each of which is said once.
fn check_in_turn([one, other]: [&dyn Link; 2]) {
    let sink = one.sink("realm/in-turn", RELIABLE, ROOM).expect("it may");
    let source = source(other, "realm/in-turn", RELIABLE, ROOM);
    until("it is received there", || sink.has_receivers());
    for number in (0..200_u8).step_by(2) {
        let mut settled = 0;
        assert_eq!(sink.send(frame(&[number]), &mut || settled += 1), Sent::Sent);
        assert_eq!(settled, 1);
        assert_eq!(sink.try_send(frame(&[number + 1])), Sent::Sent);
    }
    for number in 0..200_u8 {
        assert_eq!(received(&*source).payload, [number]);
    }
}

/// What was sent last is known as long as nothing may be lost: to be sent again if somebody lacks it.
fn check_last([one, _]: [&dyn Link; 2]) {
    let sink = one.sink("realm/last", RELIABLE, ROOM).expect("it may");
    assert_eq!(sink.last().map(|last| last.frames), Some(Vec::new()));
    let farewell = Frame { attachment: vec![9], is_farewell: true, ..Frame::default() };
    let sent = [frame(b"before"), frame(b"last"), farewell];
    for frame in &sent {
        assert_eq!(sink.try_send(frame.clone()), Sent::Sent);
    }
    let parts = |frame: &Frame| (frame.payload.clone(), frame.attachment.clone(), frame.is_farewell);
    let due: Vec<_> = sent[1..].iter().map(parts).collect();
    until("it has been sent", || {
        sink.last().is_some_and(|last| last.frames.iter().map(parts).collect::<Vec<_>>() == due)
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(sink.last().is_some_and(|last| last.age >= Duration::from_millis(20)));
    let lossy = one.sink("realm/last", Quality::Lossy, ROOM).expect("it may");
    lossy.try_send(frame(b"x"));
    assert_eq!(lossy.last().map(|last| last.frames), Some(Vec::new()));
}

/// What a sink gives back when it retires has not been sent, and what it does not give back has.
fn check_retirement([one, other]: [&dyn Link; 2]) {
    let sink = one.sink("realm/retires", RELIABLE, ROOM).expect("it may");
    let source = source(other, "realm/retires", RELIABLE, ROOM);
    until("it is received there", || sink.has_receivers());
    for number in 0..=255_u8 {
        assert_eq!(sink.try_send(frame(&[number; 100])), Sent::Sent);
    }
    let given_back = sink.retire();
    assert_eq!(sink.try_send(frame(&[0])), Sent::Closed);
    let next = one.sink("realm/retires", RELIABLE, ROOM).expect("it may");
    until("it is received there, too", || next.has_receivers());
    given_back.into_iter().for_each(|frame| assert_eq!(next.try_send(frame), Sent::Sent));
    (0..=255_u8).for_each(|number| assert_eq!(received(&*source), frame(&[number; 100])));
    assert_eq!(source.wait(Duration::from_millis(100)), Waited::Nothing);
}

fn check_newest([one, other]: [&dyn Link; 2]) {
    let sink = one.sink("realm/newest", Quality::Newest, ROOM).expect("it may");
    for number in 0..10 {
        assert_eq!(sink.try_send(frame(&[number])), Sent::Sent);
    }
    let source = source(other, "realm/newest", Quality::Newest, ROOM);
    until("who comes later has it", || received(&*source).payload == [9]);
    assert_eq!(sink.try_send(frame(&[10])), Sent::Sent);
    until("and what comes then", || received(&*source).payload == [10]);
}

/// Asks, and waits for all that comes back.
fn ask(link: &dyn Link, whom: Whom, key: &str, asked: &[u8]) -> Vec<Answer> {
    let (answered, answers) = mpsc::channel();
    let on_answer = Box::new(move |answer| answered.send(answer).expect("it is waited for"));
    link.ask(whom, key, frame(asked), PATIENCE, on_answer).expect("it may");
    let mut all = Vec::new();
    while all.last() != Some(&Answer::End) {
        all.push(answers.recv_timeout(PATIENCE).expect("there is an end"));
    }
    all
}

fn check_questions([one, other]: [&dyn Link; 2]) {
    let start = Instant::now();
    assert_eq!(ask(other, Whom::One, "realm/s", b"x"), [Answer::End]);
    assert!(start.elapsed() < PATIENCE / 2, "that nobody is there is known, and not waited for");
    let asked = Arc::new(AtomicU32::new(0));
    let serve = |link: &dyn Link, count: &Arc<AtomicU32>| {
        let count = Arc::clone(count);
        let kept = link.serve(
            "realm/s",
            Box::new(move |question| {
                count.fetch_add(1, Ordering::Relaxed);
                let whole = question.frame().clone();
                for part in whole.payload.chunks(2) {
                    question.answer(Frame { payload: part.to_vec(), ..whole.clone() });
                }
                if whole.payload.is_empty() {
                    question.fail(Frame { attachment: Vec::new(), ..whole });
                }
            }),
        );
        kept.expect("it may")
    };
    let kept = serve(one, &asked);
    let asking = other.asking("realm/s").expect("it may");
    until("somebody answers", || asking.is_answered());
    let part = |payload: &[u8]| Answer::Frame(frame(payload));
    assert_eq!(ask(other, Whom::One, "realm/s", b"abc"), [part(b"ab"), part(b"c"), Answer::End]);
    let failure = Answer::Failure(Frame { attachment: Vec::new(), ..frame(b"") });
    assert_eq!(ask(other, Whom::One, "realm/s", b""), [failure, Answer::End]);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "each question comes once");
    drop(kept);
    until("nobody answers", || !asking.is_answered());
}

fn check_tokens([one, other]: [&dyn Link; 2]) {
    let before = one.token("realm/@live/before").expect("it may");
    let (told, tokens) = mpsc::channel();
    let watched = other.watch(
        "realm/@live/*",
        Box::new(move |key, is_there| told.send((key.to_owned(), is_there)).expect("it is waited for")),
    );
    let hear = || tokens.recv_timeout(PATIENCE).expect("it is told");
    assert_eq!(hear(), ("realm/@live/before".to_owned(), true));
    let after = one.token("realm/@live/after").expect("it may");
    assert_eq!(hear(), ("realm/@live/after".to_owned(), true));
    drop(before);
    assert_eq!(hear(), ("realm/@live/before".to_owned(), false));
    drop((after, watched));
}

#[test]
fn the_link_does_what_every_link_does() {
    let [one, other] = ends();
    for ends in [[&one as &dyn Link, &other], [&other, &one]] {
        check_frames(ends);
        check_bounds(ends);
        check_at_once(ends);
        check_in_turn(ends);
        check_last(ends);
        check_retirement(ends);
        check_newest(ends);
        check_questions(ends);
        check_tokens(ends);
    }
}

#[test]
fn all_who_answer_are_asked_if_all_are_to_be() {
    let [one, other] = ends();
    let third = Zenoh::open(&Settings { connect: one.addresses(), ..Settings::default() });
    let third = third.expect("it is an address");
    let serve = |link: &Zenoh, name: &'static [u8]| {
        link.serve("realm/all", Box::new(move |question| question.answer(frame(name)))).expect("it may")
    };
    let kept = (serve(&other, b"other"), serve(&third, b"third"));
    for whom in [Whom::All, Whom::AllBehind] {
        until("both answer", || {
            let answers = ask(&one, whom, "realm/all", b"");
            let mut names: Vec<_> = answers
                .into_iter()
                .filter_map(
                    |answer| if let Answer::Frame(frame) = answer { Some(frame.payload) } else { None },
                )
                .collect();
            names.sort();
            names == [b"other", b"third"]
        });
    }
    assert_eq!(ask(&one, Whom::One, "realm/all", b"").len(), 2, "one answer, and the end");
    drop(kept);
}

#[test]
fn a_link_that_is_closed_says_so() {
    let [one, other] = ends();
    let sink = one.sink("realm/x", RELIABLE, ROOM).expect("it may");
    let source = source(&other, "realm/x", RELIABLE, ROOM);
    until("it is received there", || sink.has_receivers());
    one.close(PATIENCE).expect("it closes");
    // The first that is sent finds it closed, and whoever comes after it is told.
    until("it is told", || sink.try_send(frame(b"x")) == Sent::Closed);
    source.close();
    assert_eq!((source.wait(PATIENCE), source.take()), (Waited::Closed, None));
    assert!(one.token("realm/@live/x").is_err());
    // Whoever waits for answers waits for their end alone.
    let (answered, answers) = mpsc::channel();
    let on_answer = Box::new(move |answer| answered.send(answer).expect("it is waited for"));
    assert!(one.ask(Whom::All, "realm/s", frame(b""), PATIENCE, on_answer).is_err());
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(Answer::End));
    until("the other end knows", || other.connections() == 0);
}

/// The fear: closing waits for a link that is dead, which takes the engine ten seconds and more.
#[test]
fn closing_a_dead_link_ends_in_time() {
    let first = Zenoh::open(&listening()).expect("loopback has free ports");
    let shim = Shim::to(&first.addresses()[0]);
    let settings = Settings { connect: vec![shim.address().to_owned()], ..Settings::default() };
    let second = Zenoh::open(&settings).expect("it is an address");
    until("they are connected", || second.connections() == 1);
    shim.cut();
    let timeout = Duration::from_millis(1);
    let error = second.close(timeout).expect_err("nobody says good-bye so soon");
    assert_eq!(error, LinkError::Timeout { action: "close".to_owned(), waited: timeout });
}
