//! A wire that can be cut: passes bytes on between those who connect to it and somebody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    is_over: AtomicBool,
    delay_us: AtomicU64,
}

/// The wire; it ends when it is dropped.
pub struct Shim {
    address: String,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Shim {
    /// A wire to this address, such as `tcp/127.0.0.1:1234`.
    pub fn to(target: &str) -> Self {
        let target = target.trim_start_matches("tcp/").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = format!("tcp/{}", listener.local_addr().expect("it is bound"));
        listener.set_nonblocking(true).expect("it is a socket");
        let state = Arc::<State>::default();
        let seen = Arc::clone(&state);
        let accepting = std::thread::spawn(move || {
            let mut carrying = Vec::new();
            while !seen.is_over.load(Ordering::Relaxed) {
                let is_cut = seen.is_cut.load(Ordering::Relaxed);
                match listener.accept() {
                    Ok((near, _)) if !is_cut => carrying.extend(join(near, &target, &seen)),
                    // Whoever comes to a wire that is cut hears nothing.
                    Ok((near, _)) => carrying.push(hold(near, &seen)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            carrying.into_iter().for_each(|thread: JoinHandle<()>| drop(thread.join()));
        });
        Self { address, state, accepting: Some(accepting) }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Nothing passes any more, and nobody is told.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Relaxed);
    }

    /// What was held back goes on.
    pub fn heal(&self) {
        self.state.is_cut.store(false, Ordering::Relaxed);
    }

    /// Each piece takes as much longer.
    pub fn delay(&self, delay: Duration) {
        self.state.delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        drop(self.accepting.take().map(JoinHandle::join));
    }
}

fn hold(near: TcpStream, state: &Arc<State>) -> JoinHandle<()> {
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        while state.is_cut.load(Ordering::Relaxed) && !state.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(near);
    })
}

fn join(near: TcpStream, target: &str, state: &Arc<State>) -> Vec<JoinHandle<()>> {
    let Ok(far) = TcpStream::connect(target) else { return Vec::new() };
    // Accepted from a listener that does not block.
    near.set_nonblocking(false).expect("it is a socket");
    let ways = [(&near, &far), (&far, &near)];
    let ways =
        ways.map(|(from, to)| (from.try_clone().expect("it is open"), to.try_clone().expect("it is open")));
    let carried = ways.into_iter().map(|(from, to)| {
        let state = Arc::clone(state);
        std::thread::spawn(move || carry(from, to, &state))
    });
    carried.collect()
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut piece = vec![0; 1 << 16];
    let is_over = || state.is_over.load(Ordering::Relaxed);
    from.set_read_timeout(Some(Duration::from_millis(50))).expect("it is a socket");
    to.set_write_timeout(Some(Duration::from_millis(50))).expect("it is a socket");
    while !is_over() {
        while state.is_cut.load(Ordering::Relaxed) && !is_over() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let length = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if is_wait(&error) => continue,
            Err(_) => break,
        };
        std::thread::sleep(Duration::from_micros(state.delay_us.load(Ordering::Relaxed)));
        let mut rest = &piece[..length];
        while !rest.is_empty() && !is_over() {
            match to.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if is_wait(&error) => {}
                Err(_) => return,
            }
        }
    }
    // The other end learns that this one has gone.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn is_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// A wire for datagrams, on which every third stays behind for a while and is overtaken by the others.
pub struct Overtaking {
    address: SocketAddr,
    state: Arc<State>,
    carrying: Option<JoinHandle<()>>,
}

impl Overtaking {
    /// A wire to this address, for one who connects to it.
    pub fn to(target: &str, behind: Duration) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = near.local_addr().expect("it is bound");
        let far = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        far.connect(target).expect("it is an address of loopback");
        let state = Arc::<State>::default();
        let seen = Arc::clone(&state);
        let carrying = std::thread::spawn(move || carry_datagrams([near, far], behind, &seen));
        Self { address, state, carrying: Some(carrying) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Overtaking {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        drop(self.carrying.take().map(JoinHandle::join));
    }
}

fn carry_datagrams([near, far]: [UdpSocket; 2], behind: Duration, state: &State) {
    let sockets = [near, far];
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("it is a socket"));
    let (mut whom, mut count) = (None, 0_u64);
    let mut held = std::collections::VecDeque::<(Instant, usize, Vec<u8>)>::new();
    let mut datagram = vec![0; 1 << 16];
    while !state.is_over.load(Ordering::Relaxed) {
        let mut is_idle = true;
        let pass = |to: usize, bytes: &[u8], whom: Option<SocketAddr>| {
            // What cannot be sent is lost, as datagrams are.
            match whom.filter(|_| to == 0) {
                Some(whom) => drop(sockets[0].send_to(bytes, whom)),
                None => drop(sockets[1].send(bytes)),
            }
        };
        for from in [0, 1] {
            let Ok((length, who)) = sockets[from].recv_from(&mut datagram) else { continue };
            (is_idle, count) = (false, count + 1);
            if from == 0 {
                whom = Some(who);
            }
            if count.is_multiple_of(3) {
                held.push_back((Instant::now() + behind, 1 - from, datagram[..length].to_vec()));
            } else {
                pass(1 - from, &datagram[..length], whom);
            }
        }
        while held.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            held.pop_front().into_iter().for_each(|(_, to, bytes)| pass(to, &bytes, whom));
        }
        if is_idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
