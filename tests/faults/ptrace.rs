//! The fear: a publisher that dies in the middle of a publish leaves half a message, or a stuck reader.
//!
//! A publisher is single-stepped through one publish. After every single instruction – each of which is one after
//! which it might die – a reader in another process, ours, looks: the message is there as a whole, or not at all.
//! Then publishers are really killed after chosen instructions, the one that publishes and its neighbours included.

use std::ffi::c_int;

use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

/// Bytes of a message that travels in its slot, and of one that travels in the pool.
const INLINE: usize = 40;
const POOLED: usize = 3000;
/// More instructions than any publish has; one that needs more is a failure.
pub const STEPS_MAX: u64 = 1_000_000;

/// Publishes one message of this many bytes between two signals.
pub fn publish(node: &Node, length: u64) {
    let mut publisher: Publisher<[u8]> =
        node.topic("stepped").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    let message = vec![0xa5; length as usize];
    // Warm: the pool has its segment, and the lazy parts of the program are bound.
    publisher.send(&message).expect("a blocking send succeeds");
    between_signals(|| publisher.send(&message).expect("a blocking send succeeds"));
    say("published");
    wait();
}

/// Says which thread this is, and does something between two signals as soon as the test traces it.
pub fn between_signals(work: impl FnOnce()) {
    // SAFETY: no pointers.
    say(unsafe { libc::syscall(libc::SYS_gettid) });
    wait();
    // SAFETY: no pointers; the test, which traces us, takes the signal.
    unsafe { libc::raise(libc::SIGURG) };
    work();
    // SAFETY: as above.
    unsafe { libc::raise(libc::SIGURG) };
}

/// A thread of another process, stopped after each instruction.
pub struct Stepped {
    thread: c_int,
}

impl Stepped {
    /// Stops the process right before its publish.
    pub fn new(actor: &mut Actor) -> Self {
        let thread = actor.hear().parse().expect("it says its thread");
        let stepped = Self { thread };
        stepped.request(libc::PTRACE_SEIZE);
        actor.go();
        assert_eq!(stepped.wait(), libc::SIGURG, "the mark before the publish");
        stepped
    }

    /// Stops a thread of a child of ours wherever it is.
    pub fn seize(thread: c_int) -> Self {
        let stepped = Self { thread };
        stepped.request(libc::PTRACE_SEIZE);
        stepped.request(libc::PTRACE_INTERRUPT);
        assert_eq!(stepped.wait(), libc::SIGTRAP, "the stop that was asked for");
        stepped
    }

    fn request(&self, request: libc::c_uint) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: a request without memory of ours, for a child of ours.
        let result = unsafe { libc::ptrace(request, self.thread, nothing, nothing) };
        assert!(result >= 0, "ptrace: {}", std::io::Error::last_os_error());
    }

    /// Waits until it stops, and says by which signal.
    fn wait(&self) -> c_int {
        let mut status = 0;
        // SAFETY: the status is a live local variable.
        let waited = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        assert_eq!(waited, self.thread, "waitpid: {}", std::io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "it ended: {status:#x}");
        libc::WSTOPSIG(status)
    }

    /// One instruction; `false` if the publish is over.
    pub fn step(&self) -> bool {
        self.request(libc::PTRACE_SINGLESTEP);
        match self.wait() {
            libc::SIGTRAP => true,
            libc::SIGURG => false,
            other => panic!("stopped by signal {other}"),
        }
    }

    /// Takes notice that it has been killed: until its tracer has, the process it belongs to has not ended.
    pub fn bury(self) {
        let mut status = 0;
        while !libc::WIFSIGNALED(status) {
            // SAFETY: the status is a live local variable.
            let waited = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
            assert_eq!(waited, self.thread, "waitpid: {}", std::io::Error::last_os_error());
        }
    }

    pub fn let_go(self) {
        drop(self);
    }
}

impl Drop for Stepped {
    /// Lets it go on. A thread that is traced to its end would keep its process from ending.
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: a request without memory of ours. It fails for one that has ended, which is as well.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, nothing, nothing) };
    }
}

fn listen(stage: &Stage) -> (Node, Subscriber<[u8]>) {
    let node = stage.node();
    let subscriber = node.topic("stepped").subscriber().expect("the types agree");
    (node, subscriber)
}

/// Whether a message is there; if so it is whole.
fn is_there(subscriber: &mut Subscriber<[u8]>, length: usize) -> bool {
    let sample = subscriber.try_recv().expect("receiving succeeds");
    sample.is_some_and(|sample| {
        assert!(sample.len() == length && sample.iter().all(|byte| *byte == 0xa5), "half a message");
        true
    })
}

fn take_the_warm_one(subscriber: &mut Subscriber<[u8]>, length: usize) {
    while !is_there(subscriber, length) {
        std::thread::yield_now();
    }
}

/// Steps through a whole publish; how many instructions it has, and after which the message was there.
fn step_through(length: usize) -> (u64, u64) {
    let stage = Stage::new();
    let (_node, mut subscriber) = listen(&stage);
    let mut actor = stage.start("stepped-publisher", &length.to_string());
    let stepped = Stepped::new(&mut actor);
    take_the_warm_one(&mut subscriber, length);
    let (mut steps, mut there_after) = (0, None);
    while stepped.step() {
        steps += 1;
        assert!(steps < STEPS_MAX, "a publish of more than {STEPS_MAX} instructions");
        if is_there(&mut subscriber, length) {
            assert!(there_after.replace(steps).is_none(), "the message is there once");
        }
    }
    stepped.let_go();
    actor.expect("published");
    (steps, there_after.expect("it is there after the last instruction"))
}

/// Kills a publisher after so many instructions of its publish; whether its message was there.
fn kill_after(length: usize, steps: u64) -> bool {
    let stage = Stage::new();
    let (node, mut subscriber) = listen(&stage);
    let mut actor = stage.start("stepped-publisher", &length.to_string());
    let stepped = Stepped::new(&mut actor);
    take_the_warm_one(&mut subscriber, length);
    for _ in 0..steps {
        assert!(stepped.step(), "a publish has as many instructions each time");
    }
    actor.signal_kill();
    stepped.bury();
    actor.kill();
    while subscriber.publishers() > 0 {
        std::thread::yield_now();
    }
    let was_there = is_there(&mut subscriber, length);
    assert!(!is_there(&mut subscriber, length), "it is there once");
    // The reader is not stuck: it takes the next publisher's messages.
    let mut next = node.topic::<[u8]>("stepped").publisher(Overflow::Block).expect("the topic is ours");
    next.send(&[0xa5; 5]).expect("a blocking send succeeds");
    take_the_warm_one(&mut subscriber, 5);
    was_there
}

fn whole_or_absent(length: usize) {
    let (steps, there_after) = step_through(length);
    println!("a publish of {length} B has {steps} instructions, and is there after {there_after}");
    let spread = (0..6).map(|part| 1 + part * (steps - 1) / 6);
    for after in spread.chain([there_after - 1, there_after, steps]) {
        // Hash seeds and addresses differ from process to process, and with them a few instructions.
        let was_there = kill_after(length, after);
        if after + 50 < there_after {
            assert!(!was_there, "there after {after} of {there_after} instructions");
        }
        if after > there_after + 50 {
            assert!(was_there, "not there after {after} of {there_after} instructions");
        }
    }
}

#[test]
fn an_inline_message_is_whole_or_absent_after_every_instruction() {
    whole_or_absent(INLINE);
}

#[test]
fn a_pooled_message_is_whole_or_absent_after_every_instruction() {
    whole_or_absent(POOLED);
}
