//! The fear: threads of one process that pay for a way which only processes need. From before the first endpoint on, every
//! system call on a socket kills the process.

use std::time::Duration;

use tidepost::{
    Client, Consumer, Node, Notifier, Overflow, Producer, Publisher, Server, StateReader, StateWriter,
    Subscriber, TableReader, TableWriter, Waiter,
};

use crate::parts::say;
use crate::stage::{PATIENCE, Stage};

const ROUNDS: u64 = 300;
/// Rounds after which the one that gives rests, so that the other falls asleep.
const ROUNDS_TO_REST: u64 = 20;

const SOCKET_CALLS: [libc::c_long; 13] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
];

/// From here on, this comes of these system calls, by this thread and those that it starts.
pub fn forbid(calls: &[libc::c_long], outcome: u32) {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let count = calls.len();
    // The number of the call is the first word of what the filter sees.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    filter.extend(calls.iter().enumerate().map(|(place, number)| {
        let to_outcome = (count - place) as u8;
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_outcome, 0, *number as u32)
    }));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, outcome));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its statements are live local variables.
    let outcome = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Descriptors of this process that are sockets.
fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// The ends of one thread …
struct Giving {
    topic: Publisher<u64>,
    queue: Producer<u64>,
    state: StateWriter<u64>,
    table: TableWriter<u64, u64>,
    signal: Notifier,
    client: Client<u64, u64>,
}

/// … and those of the other.
struct Taking {
    topic: Subscriber<u64>,
    queue: Consumer<u64>,
    state: StateReader<u64>,
    table: TableReader<u64, u64>,
    signal: Waiter,
    server: Server<u64, u64>,
}

impl Giving {
    fn new(node: &Node) -> Self {
        Self {
            topic: node.topic("t").publisher(Overflow::Block).expect("the topic is ours"),
            queue: node.queue("q").producer(Overflow::Block).expect("the queue is ours"),
            state: node.state("s").writer().expect("the state is ours"),
            table: node.table("m").writer().expect("the table is ours"),
            signal: node.signal("n").ids(4).notifier().expect("the signal is ours"),
            client: node.service("d").client().expect("the types agree"),
        }
    }

    fn give(&mut self, round: u64) {
        self.topic.send(&round).expect("a blocking send succeeds");
        self.queue.push(&round).expect("a blocking push succeeds");
        self.state.set(&round).expect("there is memory");
        self.table.set(&1, &round).expect("there is room");
        self.signal.notify(3).expect("there is such an id");
        let answer = *self.client.call(&round, PATIENCE).expect("it answers");
        assert_eq!(answer, 2 * round);
    }
}

impl Taking {
    fn new(node: &Node) -> Self {
        Self {
            topic: node.topic("t").subscriber().expect("the types agree"),
            queue: node.queue("q").credit(4).consumer().expect("the types agree"),
            state: node.state("s").reader().expect("the types agree"),
            table: node.table("m").reader().expect("the types agree"),
            signal: node.signal("n").ids(4).waiter().expect("the ids agree"),
            server: node.service("d").server().expect("the service is ours"),
        }
    }

    fn take(&mut self, round: u64) {
        let sample = self.topic.recv_timeout(PATIENCE).expect("receiving succeeds");
        assert_eq!(sample.as_deref(), Some(&round));
        let item = self.queue.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
        assert_eq!(*item, round);
        item.ack().expect("the producer lives");
        let value = self.state.changed(PATIENCE).expect("reading succeeds");
        assert_eq!(value.as_deref(), Some(&round));
        assert!(self.table.changed(PATIENCE).expect("looking succeeds"));
        assert_eq!(self.table.get(&1).expect("reading succeeds"), Some(round));
        let notices = self.signal.wait_timeout(PATIENCE).expect("waiting succeeds");
        assert_eq!(notices.map(|notices| notices.count_of(3)), Some(1));
        let request = self.server.recv_timeout(PATIENCE).expect("receiving succeeds");
        let request = request.expect("a request comes");
        let answer = 2 * *request;
        request.answer(&answer).expect("the client is there");
    }
}

/// Two threads of this process exchange something by every pattern. Their node has no thread, and nobody dispatches it.
pub fn exchange(stage: &Stage) {
    let node = Node::builder().name("threads").directory(stage.directory()).control_thread(false);
    let node = node.open().expect("the domain is ours");
    let sockets_before = sockets();
    forbid(&SOCKET_CALLS, libc::SECCOMP_RET_KILL_PROCESS);
    let (mut taking, mut giving) = (Taking::new(&node), Giving::new(&node));
    let taker = std::thread::spawn(move || {
        (1..=ROUNDS).for_each(|round| taking.take(round));
        taking
    });
    for round in 1..=ROUNDS {
        if round.is_multiple_of(ROUNDS_TO_REST) {
            std::thread::sleep(Duration::from_millis(1));
        }
        giving.give(round);
    }
    let taking = taker.join().expect("it does not panic");
    assert!(node.peers().is_empty(), "{:?}", node.peers());
    assert_eq!(sockets(), sockets_before);
    say("exchanged");
    // A node that closes says so to whoever is connected, and closes its own socket; neither is what this is about.
    std::mem::forget((node, taking, giving));
    std::process::exit(0);
}

#[test]
fn threads_of_one_node_exchange_by_every_pattern_without_a_socket() {
    let stage = Stage::new();
    let mut actor = stage.start("all-in-one", "");
    actor.expect("exchanged");
    actor.ends();
}
