//! Unix sockets that keep frames apart and carry descriptors.
//!
//! `SOCK_SEQPACKET` in the file system: a frame arrives whole or not at all, and a hang-up is noticed. A frame
//! for whose descriptors this process has no room arrives without them, and says so.

use std::ffi::{c_int, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::{self, Errno};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::retry;
use super::unshared::Unshared;

/// The most descriptors that one frame carries.
pub(crate) const FRAME_DESCRIPTORS_MAX: usize = 4;

const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(FRAME_DESCRIPTORS_MAX));
/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;
/// How often a receive that fails with a reset is repeated: the kernel reports it once, before the frames that
/// had arrived.
const RESETS_MAX: usize = 4;

/// A socket that accepts connections, in this process alone: no forked child keeps it open.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Unshared,
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

/// What a receive found.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame of this many bytes, and the descriptors that came with it.
    Frame(usize, Vec<OwnedFd>),
    /// A frame of this many bytes that came with more descriptors than this process has room for, or than any frame has: so
    /// many did arrive, and have been closed.
    Bereft(usize, usize),
    /// No frame has arrived yet.
    Nothing,
    /// The other end is closed, and all that it sent has been received.
    HungUp,
}

/// Why a frame could not be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The frame is larger than any that is allowed.
    #[error("a frame is longer than {0} B, the largest that is allowed")]
    TooLong(usize),
    /// The kernel refused.
    #[error("cannot receive: {0}")]
    System(Errno),
}

impl Listener {
    /// A socket bound to `address`, open to the owner alone, that listens.
    pub(crate) fn bind(address: &SocketAddrUnix) -> io::Result<Self> {
        let listener = Self { socket: Unshared::new(socket)? };
        let socket = listener.descriptor()?;
        rustix::fs::fchmod(socket, Mode::RUSR | Mode::WUSR)?;
        net::bind(socket, address)?;
        net::listen(socket, BACKLOG)?;
        Ok(listener)
    }

    /// Its descriptor; `Errno::BADF` in a forked child.
    pub(crate) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.get().ok_or(Errno::BADF)
    }

    /// The next connection; `Errno::AGAIN` if none is waiting.
    pub(crate) fn accept(&self) -> io::Result<Channel> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = retry(|| net::accept_with(self.descriptor()?, flags))?;
        Ok(Channel { socket })
    }
}

impl Channel {
    /// Connects to a listener. Does not block: a listener whose queue is full is `Errno::AGAIN`.
    pub(crate) fn connect(address: &SocketAddrUnix) -> io::Result<Self> {
        let socket = socket()?;
        retry(|| net::connect(&socket, address))?;
        Ok(Self { socket })
    }

    /// Two ends of one connection.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (left, right) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    /// Sends a whole frame, or nothing: `Errno::AGAIN` if there is no room.
    pub(crate) fn send<Fd: AsFd>(&self, frame: &[u8], descriptors: &[Fd]) -> io::Result<()> {
        assert!(descriptors.len() <= FRAME_DESCRIPTORS_MAX, "frames of ours carry few descriptors");
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        retry(|| {
            let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                let fits = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
                assert!(fits, "the space was made for as many descriptors");
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            net::sendmsg(&self.socket, &[IoSlice::new(frame)], &mut ancillary, flags)
        })?;
        Ok(())
    }

    /// Receives the next frame into `buffer`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        for _ in 0..RESETS_MAX {
            match self.receive_once(buffer) {
                Err(ReceiveError::System(Errno::CONNRESET | Errno::INTR)) => {}
                Err(ReceiveError::System(Errno::AGAIN)) => return Ok(Received::Nothing),
                settled => return settled,
            }
        }
        Ok(Received::HungUp)
    }

    fn receive_once(&self, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
        let buffer_bytes = buffer.len();
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = net::recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)
            .map_err(ReceiveError::System)?;
        let descriptors = take_descriptors(&mut ancillary);
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::TooLong(buffer_bytes));
        }
        match message.bytes {
            0 => Ok(Received::HungUp),
            bytes if message.flags.contains(ReturnFlags::CTRUNC) => {
                Ok(Received::Bereft(bytes, descriptors.len()))
            }
            bytes => Ok(Received::Frame(bytes, descriptors)),
        }
    }

    /// The user at the other end when it connected or listened, as the kernel knows it.
    pub(crate) fn peer_uid(&self) -> io::Result<u32> {
        peer_credentials(&self.socket).map(|credentials| credentials.uid)
    }
}

fn take_descriptors(ancillary: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect()
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// `struct ucred`. Not rustix's, whose process id cannot be zero: the kernel says zero for a peer in a PID
/// namespace that is not visible from ours.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Credentials {
    pid: i32,
    uid: u32,
    gid: u32,
}

const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;

unsafe extern "C" {
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut c_void, bytes: *mut u32) -> c_int;
}

fn peer_credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    let mut credentials = Credentials::default();
    let mut bytes = size_of::<Credentials>() as u32;
    let value = (&raw mut credentials).cast();
    // SAFETY: the descriptor is open, both pointers are to live local variables, and `bytes` says how much may be
    // written to the first; any bytes make a `Credentials`.
    let failed =
        unsafe { getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_PEERCRED, value, &raw mut bytes) } != 0;
    if failed {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    if bytes as usize != size_of::<Credentials>() {
        return Err(Errno::INVAL);
    }
    Ok(credentials)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [OwnedFd; 0] = [];

    fn frame(channel: &Channel, buffer: &mut [u8]) -> (Vec<u8>, Vec<OwnedFd>) {
        match channel.receive(buffer) {
            Ok(Received::Frame(bytes, descriptors)) => (buffer[..bytes].to_vec(), descriptors),
            other => panic!("a frame was due, not {other:?}"),
        }
    }

    #[test]
    fn frames_keep_apart_and_carry_descriptors() {
        let (left, right) = Channel::pair().expect("sockets are available");
        let (reader, writer) = rustix::pipe::pipe().expect("pipes are available");
        left.send(b"one", &[&writer]).expect("there is room");
        left.send(b"two", &NONE).expect("there is room");
        drop(writer);
        let (bytes, descriptors) = frame(&right, &mut [0; 16]);
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"one"[..], 1));
        assert_eq!(frame(&right, &mut [0; 16]).0, b"two");
        rustix::io::write(&descriptors[0], b"x").expect("it is the pipe");
        assert_eq!(rustix::io::read(&reader, &mut [0; 4]), Ok(1));
        assert!(matches!(right.receive(&mut [0; 16]), Ok(Received::Nothing)));
    }

    #[test]
    fn frames_are_received_before_the_hang_up_even_after_a_reset() {
        let (left, right) = Channel::pair().expect("sockets are available");
        right.send(b"unread, so that closing resets", &NONE).expect("there is room");
        left.send(b"last words", &NONE).expect("there is room");
        drop(left);
        assert_eq!(frame(&right, &mut [0; 16]).0, b"last words");
        assert!(matches!(right.receive(&mut [0; 16]), Ok(Received::HungUp)));
    }

    #[test]
    fn a_frame_longer_than_the_buffer_is_an_error() {
        let (left, right) = Channel::pair().expect("sockets are available");
        left.send(&[1; 17], &NONE).expect("there is room");
        assert_eq!(right.receive(&mut [0; 16]).expect_err("it is too long"), ReceiveError::TooLong(16));
    }

    #[test]
    fn the_peer_of_our_own_process_is_our_user() {
        let (left, _right) = Channel::pair().expect("sockets are available");
        assert_eq!(left.peer_uid(), Ok(crate::os::process::euid()));
    }
}
