//! What carries messages between machines, as far as the bridge knows of it: the seam behind which the engine lies.
//!
//! Keys, frames and tokens, and nothing of any engine. `conformance` has what every engine has to do; the bridge is written against
//! this alone.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is queued here. Whether it arrives is another matter.
    Sent,
    /// As much is queued as may be.
    Full,
    /// There is nobody to send it to, and it is not kept for anybody.
    NotConnected,
    /// The link was closed.
    Closed,
}

/// Why something cannot be had of a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The engine refused it.
    #[error("the network refused {action}: {reason}")]
    Engine {
        /// What was attempted.
        action: String,
        /// What it said.
        reason: String,
    },
    /// It did not do it in time.
    #[error("the network did not {action} within {waited:?}")]
    Timeout {
        /// What was attempted.
        action: String,
        /// How long.
        waited: Duration,
    },
    /// The link was closed.
    #[error("the link to the network was closed")]
    Closed,
}

/// What travels: bytes, what they are, and what goes along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The message.
    pub payload: Vec<u8>,
    /// What it is, in the engine's terms.
    pub encoding: Arc<str>,
    /// What goes along with it.
    pub attachment: Vec<u8>,
    /// Whether it says that its sender has gone.
    pub is_farewell: bool,
}

/// A frame that has arrived, where the engine has it; the parts are those of a [`Frame`], the payload in pieces.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are those of a frame")]
pub struct Arrived<'a> {
    pub payload: &'a [&'a [u8]],
    pub encoding: &'a Arc<str>,
    pub attachment: &'a [u8],
    pub is_farewell: bool,
}

/// What a link does with frames that have no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Nothing is lost as long as memory lasts: they are sent again after a loss.
    Reliable {
        /// How many frames are kept for that.
        cache: usize,
    },
    /// They are dropped on the way.
    Lossy,
    /// The newest alone matters: it is kept for those who come later.
    Newest,
}

/// What was sent last: a message, and the farewells that came after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// The message, and the farewells; none if no message has been.
    pub frames: Vec<Frame>,
    /// How long ago the message was sent.
    pub age: Duration,
}

/// Sends frames under one key.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Queues a frame. Waits for nobody; where frames may be lost, and a link is full, no longer than a part of its lease before this one
    /// is, and those behind it at once.
    fn try_send(&self, frame: Frame) -> Sent;
    /// Sends a frame on this thread if nothing waits before it, which may have to wait for the link for as long as that takes; queues
    /// it otherwise. `settled` is called when nothing that is sent later can come before it.
    fn send(&self, frame: Frame, settled: &mut dyn FnMut()) -> Sent;
    /// Sends nothing any more, once the frame that is being sent has been, for which it waits, and gives back what is queued. What has been
    /// sent is kept on, for who asks for it again.
    fn retire(&self) -> Vec<Frame>;
    /// What was sent last, where nothing may be lost; `None` while something is being sent, or waits for that.
    fn last(&self) -> Option<Last>;
    /// Whether anybody receives them.
    fn has_receivers(&self) -> bool;
}

/// What came of a wait for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is one.
    Ready,
    /// None came in time.
    Nothing,
    /// The link was closed, or the source.
    Closed,
}

/// Receives frames of one key expression.
pub trait Source: fmt::Debug + Send + Sync {
    /// Waits for a frame, no longer than `timeout`.
    fn wait(&self, timeout: Duration) -> Waited;
    /// The next frame, if there is one.
    fn take(&self) -> Option<Frame>;
    /// Frames that were dropped here since it was asked last, because they were not received fast enough.
    fn take_dropped(&self) -> u64;
    /// Ends the wait of whoever receives, and any that it would begin.
    fn close(&self);
}

/// One of the answers to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An answer.
    Frame(Frame),
    /// An error in place of one.
    Failure(Frame),
    /// There are no more.
    End,
}

/// A question, and the way back.
pub trait Question: fmt::Debug + Send {
    /// What is asked.
    fn frame(&self) -> &Frame;
    /// Answers. Never waits for who asked.
    fn answer(&self, frame: Frame);
    /// Answers with an error.
    fn fail(&self, frame: Frame);
}

/// Takes a frame as it comes, on a thread of the engine's, when none waits before it: whether it has. What it has not taken waits in
/// the source. Never blocks.
pub type OnFrame = Box<dyn Fn(&Arrived<'_>) -> bool + Send + Sync>;
/// Is told of a token under its key, and whether it is there.
pub type OnToken = Box<dyn FnMut(&str, bool) + Send>;
/// Takes questions as they come.
pub type OnQuestion = Box<dyn Fn(Box<dyn Question>) + Send + Sync>;
/// Takes answers as they come, the last of them [`Answer::End`].
pub type OnAnswer = Box<dyn FnMut(Answer) + Send>;
/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One of those who answer, the nearest if that is known.
    One,
    /// All of them.
    All,
    /// All of them, behind the messages that have been sent.
    AllBehind,
}

/// Something that is declared as long as it is kept.
pub type Kept = Box<dyn fmt::Debug + Send + Sync>;

/// An engine that carries frames between machines.
///
/// No callback may block: an engine may call it on the thread that serves everything.
pub trait Link: fmt::Debug + Send + Sync {
    /// Sends under `key`. At most `room` bytes are queued.
    ///
    /// # Errors
    /// [`LinkError`]
    fn sink(&self, key: &str, quality: Quality, room: usize) -> Result<Arc<dyn Sink>, LinkError>;
    /// Receives what others send under keys that `expression` includes. At most `room` bytes wait; the oldest go.
    ///
    /// # Errors
    /// [`LinkError`]
    fn source(
        &self,
        expression: &str,
        quality: Quality,
        room: usize,
        on_frame: OnFrame,
    ) -> Result<Arc<dyn Source>, LinkError>;
    /// Answers what others ask under `key`, at most once at this end. Of several ends who do so, each may be
    /// asked: whoever wants one answers under a key of his own.
    ///
    /// # Errors
    /// [`LinkError`]
    fn serve(&self, key: &str, on_question: OnQuestion) -> Result<Kept, LinkError>;
    /// Asks one of those who answer under `key`, or all. Nobody there is [`Answer::End`] and nothing before it, at once; an error is
    /// an end, too.
    ///
    /// # Errors
    /// [`LinkError`]
    fn ask(
        &self,
        whom: Whom,
        key: &str,
        frame: Frame,
        timeout: Duration,
        on_answer: OnAnswer,
    ) -> Result<(), LinkError>;
    /// Whether anybody answers under `key`, as [`Asking::is_answered`] says from then on.
    ///
    /// # Errors
    /// [`LinkError`]
    fn asking(&self, key: &str) -> Result<Box<dyn Asking>, LinkError>;
    /// Shows `key` to all others as long as what is returned is kept, and this end is reached.
    ///
    /// # Errors
    /// [`LinkError`]
    fn token(&self, key: &str) -> Result<Kept, LinkError>;
    /// Tells of tokens of others under `expression`: those that are there, that come, and that go.
    ///
    /// # Errors
    /// [`LinkError`]
    fn watch(&self, expression: &str, on_token: OnToken) -> Result<Kept, LinkError>;
    /// Where this end listens.
    fn addresses(&self) -> Vec<String>;
    /// How many other ends this one is connected to.
    fn connections(&self) -> usize;
    /// Ends everything, within `timeout`.
    ///
    /// # Errors
    /// [`LinkError::Timeout`]
    fn close(&self, timeout: Duration) -> Result<(), LinkError>;
}

/// Somebody who may be asked.
pub trait Asking: fmt::Debug + Send + Sync {
    /// Whether somebody answers.
    fn is_answered(&self) -> bool;
}

/// Asks, and waits for the first answer: `None` if nobody gives one in time.
///
/// # Errors
/// [`LinkError`]
pub fn ask_one(
    link: &dyn Link,
    key: &str,
    frame: Frame,
    timeout: Duration,
) -> Result<Option<Frame>, LinkError> {
    let answers = ask(link, Whom::One, key, frame, timeout)?;
    // The engine ends what it cannot end in time a little later.
    Ok(match answers.recv_timeout(2 * timeout) {
        Ok(Answer::Frame(frame)) => Some(frame),
        _ => None,
    })
}

/// Asks; answers are taken where it suits whoever asks.
///
/// # Errors
/// [`LinkError`]
pub fn ask(
    link: &dyn Link,
    whom: Whom,
    key: &str,
    frame: Frame,
    timeout: Duration,
) -> Result<mpsc::Receiver<Answer>, LinkError> {
    let (answered, answers) = mpsc::channel();
    let on_answer = Box::new(move |answer| {
        // Whoever asked may have given up.
        let _ = answered.send(answer);
    });
    link.ask(whom, key, frame, timeout, on_answer)?;
    Ok(answers)
}

/// A link that several threads use.
pub type SharedLink = Arc<dyn Link>;
