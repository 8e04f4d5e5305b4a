//! The fear: who dies while it waits takes the wake-up along that was for another, or what it had just been given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidepost::{
    Barrier, Condvar, EventFlag, LockError, Mutex, MutexGuard, Node, Region, RwLock, Semaphore, Shared,
};

use crate::parts::{say, wait};
use crate::ptrace::{STEPS_MAX, Stepped, between_signals};
use crate::stage::{Actor, PATIENCE, Stage};

/// Instructions within which a waiter has looked, and slept a few times.
const WAITING: u64 = 2_000;

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mutex,
    Reading,
    Writing,
    Semaphore,
    Condvar,
    Barrier,
    Event,
}

const LOCKS: [Kind; 3] = [Kind::Mutex, Kind::Reading, Kind::Writing];
const MEETINGS: [Kind; 4] = [Kind::Semaphore, Kind::Condvar, Kind::Barrier, Kind::Event];

fn kind_of(number: u64) -> Kind {
    let mut all = LOCKS.into_iter().chain(MEETINGS);
    all.find(|kind| *kind as u64 == number).expect("it is the number of a kind")
}

/// One of everything.
#[derive(Shared)]
#[repr(C)]
pub struct Lobby {
    mutex: Mutex<u64>,
    shelf: RwLock<u64>,
    permits: Semaphore,
    changed: Condvar,
    barrier: Barrier,
    event: EventFlag,
    padding: [u32; 3],
    passed: AtomicU64,
}

fn lobby(node: &Node) -> Region<Lobby> {
    let builder = node.region::<Lobby>("lobby").patience(PATIENCE);
    builder.open_with(|lobby| lobby.barrier.set_participants(3)).expect("it is there or can be made")
}

/// The guard, whoever died with it.
fn had<G>(locked: Result<G, LockError<G>>) -> G {
    match locked {
        Ok(guard) | Err(LockError::OwnerDied(guard) | LockError::Poisoned(guard)) => guard,
        Err(error) => panic!("{error}"),
    }
}

/// So that the lazy parts of the program are bound, too.
fn take_a_seat(lobby: &Lobby) {
    lobby.mutex.owner().expect("there are seats");
}

fn wait_for(lobby: &Lobby, kind: Kind) {
    match kind {
        Kind::Mutex => drop(had(lobby.mutex.lock())),
        Kind::Reading => drop(had(lobby.shelf.read())),
        Kind::Writing => drop(had(lobby.shelf.write())),
        Kind::Semaphore => lobby.permits.acquire(),
        Kind::Condvar => {
            let mut guard: MutexGuard<'_, u64> = had(lobby.mutex.lock());
            while *guard == 0 {
                guard = had(lobby.changed.wait(guard));
            }
        }
        Kind::Barrier => drop(lobby.barrier.wait()),
        Kind::Event => lobby.event.wait(),
    }
    lobby.passed.fetch_add(1, Ordering::Relaxed);
}

/// Waits, instruction by instruction.
pub fn wait_stepped(node: &Node, number: u64) {
    let kind = kind_of(number);
    let lobby = lobby(node);
    take_a_seat(&lobby);
    between_signals(|| wait_for(&lobby, kind));
    wait();
}

/// Waits as any program does.
pub fn wait_beside(node: &Node, number: u64) {
    let kind = kind_of(number);
    let lobby = lobby(node);
    take_a_seat(&lobby);
    say("waits");
    wait_for(&lobby, kind);
    say("passed");
    wait();
}

/// Keeps others waiting until what this returns is called, which lets one pass; unless it cannot, as a waiter is stopped with
/// a lock.
fn hold<'a>(lobby: &'a Lobby, kind: Kind) -> Box<dyn FnMut() -> bool + 'a> {
    fn give_back<'a, G: 'a>(guard: G) -> Box<dyn FnMut() -> bool + 'a> {
        let mut guard = Some(guard);
        Box::new(move || guard.take().is_some())
    }
    match kind {
        Kind::Mutex => give_back(had(lobby.mutex.lock())),
        Kind::Reading => give_back(had(lobby.shelf.write())),
        Kind::Writing => give_back(had(lobby.shelf.read())),
        Kind::Semaphore => Box::new(|| lobby.permits.release(2)),
        Kind::Condvar => Box::new(|| {
            let locked = lobby.mutex.lock_timeout(Duration::from_millis(50));
            if let Err(LockError::Owned { .. }) = locked {
                return false;
            }
            *had(locked) = 1;
            lobby.changed.notify_one();
            true
        }),
        // Passes with two that have arrived; if they have not, this one has not either.
        Kind::Barrier => {
            Box::new(|| lobby.barrier.waiting() == 2 && lobby.barrier.wait_timeout(Duration::ZERO).is_some())
        }
        Kind::Event => Box::new(|| {
            lobby.event.set();
            true
        }),
    }
}

/// One that waits, and another that does so step by step.
fn start(stage: &Stage, kind: Kind) -> (Actor, Actor, Stepped) {
    let number = (kind as u64).to_string();
    let mut survivor = stage.start("waiter", &number);
    survivor.expect("waits");
    let mut actor = stage.start("stepped-waiter", &number);
    let stepped = Stepped::new(&mut actor);
    (survivor, actor, stepped)
}

/// A waiter that is killed after so many instructions, the last of them after it was let pass; another waits all the while.
fn kill_after(kind: Kind, before: u64, after: u64) {
    let stage = Stage::new();
    let node = stage.node();
    let lobby = lobby(&node);
    let mut let_pass = hold(&lobby, kind);
    let (mut survivor, actor, stepped) = start(&stage, kind);
    let mut is_within = (0..before).all(|_| stepped.step());
    let has_passed = after > 0 && let_pass();
    is_within = is_within && (0..after).all(|_| stepped.step());
    end(actor, stepped);
    assert!(has_passed || let_pass() || kind == Kind::Barrier, "the dead have no lock");
    // Only after having been let pass, and with a few instructions less than the one that was counted.
    assert!(is_within || after > 0, "it passed although nobody let it");
    if kind == Kind::Barrier {
        meet(&stage, &lobby, &mut survivor);
    } else {
        survivor.expect("passed");
    }
    is_as_good_as_new(&lobby, kind);
}

fn end(mut actor: Actor, stepped: Stepped) {
    actor.signal_kill();
    stepped.bury();
    actor.kill();
}

/// The dead one has arrived, or has not; the others meet all the same.
fn meet(stage: &Stage, lobby: &Lobby, survivor: &mut Actor) {
    let _third = stage.start("waiter", &(Kind::Barrier as u64).to_string());
    let start = Instant::now();
    loop {
        if let Some(line) = survivor.try_hear() {
            return assert_eq!(line, "passed");
        }
        assert!(start.elapsed() < PATIENCE, "it waits for ever");
        lobby.barrier.wait_timeout(Duration::from_millis(5));
    }
}

/// Nothing is held, and nobody is counted who is not there.
fn is_as_good_as_new(lobby: &Lobby, kind: Kind) {
    drop(had(lobby.mutex.lock_timeout(PATIENCE)));
    drop(had(lobby.shelf.write_timeout(PATIENCE)));
    drop(had(lobby.shelf.read_timeout(PATIENCE)));
    match kind {
        Kind::Semaphore => {
            let left = lobby.permits.permits();
            // A process that dies takes its permit along.
            assert!(left <= 1, "{left} permits of two are left, and one was taken");
            assert!((0..left).all(|_| lobby.permits.try_acquire()) && !lobby.permits.try_acquire());
        }
        // One that came to help, and found that the others had met.
        Kind::Barrier => assert!(lobby.barrier.waiting() <= 1),
        Kind::Event => assert!(lobby.event.wait_timeout(PATIENCE)),
        _ => {}
    }
}

/// How many instructions a waiter has until it has passed, once it is let.
fn step_through(kind: Kind) -> u64 {
    let stage = Stage::new();
    let node = stage.node();
    let lobby = lobby(&node);
    let mut let_pass = hold(&lobby, kind);
    let (mut survivor, _actor, stepped) = start(&stage, kind);
    assert!((0..WAITING).all(|_| stepped.step()), "it passes although nobody lets it");
    // It may just have a lock itself, and the other may not have come as far.
    while !let_pass() {
        assert!(stepped.step(), "it passes although nobody lets it");
    }
    let steps = (0..STEPS_MAX).find(|_| !stepped.step()).expect("it passes");
    stepped.let_go();
    survivor.expect("passed");
    assert_eq!(lobby.passed.load(Ordering::Relaxed), 2);
    steps
}

fn may_die_at_every_instruction(kinds: &[Kind]) {
    let is_long = std::env::var_os("TIDEPOST_LONG").is_some();
    for &kind in kinds {
        let passing = step_through(kind);
        println!("{kind:?}: {passing} instructions from being let pass to having passed");
        let stride = |steps: u64, parts: u64| if is_long { 1 } else { 1 + steps / parts };
        (1..WAITING).step_by(stride(WAITING, 4) as usize).for_each(|steps| kill_after(kind, steps, 0));
        (1..passing).step_by(stride(passing, 5) as usize).for_each(|steps| kill_after(kind, WAITING, steps));
    }
}

/// All instructions with `TIDEPOST_LONG`, as below.
#[test]
fn who_waits_for_a_lock_may_die_at_every_instruction() {
    may_die_at_every_instruction(&LOCKS);
}

#[test]
fn who_waits_for_others_may_die_at_every_instruction() {
    may_die_at_every_instruction(&MEETINGS);
}
