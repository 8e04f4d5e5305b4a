//! The link over Eclipse Zenoh.
//!
//! What is decided here, and nowhere else:
//! - **Nothing is left to the engine's defaults** that listen everywhere, connect to whoever is found, or wait for ever: see
//!   [`Settings::to_config`].
//! - **No callback blocks.** A subscriber's callback hands on what is taken at once, and puts the rest into a bounded [`Room`]; whatever may
//!   have to wait for a link is sent by threads of ours, and what they cannot get rid of stays in their rooms.
//! - **The engine is opened and closed on threads of our own**: opening panics on some threads, and closing a dead link takes ten
//!   seconds, which nobody has to wait for.
//! - **Reliable** means the engine's advanced publisher and subscriber: a plain one loses silently when a link is closed under it.
//! - **Messages do not wait for a link one behind the other**, which congestion control `Block` has them do: when a link dies that several
//!   threads wait for, the thread that sends over all links waits until each of them has waited as long as it may. With `Drop` one waits,
//!   and what comes meanwhile is dropped for this link, and asked for again by whoever is behind it. Questions and answers, which nobody
//!   asks for again, are not dropped, and have a queue of their own, which is seldom full.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::time::{Duration, Instant};

use zenoh::bytes::{Encoding, ZBytes};
use zenoh::matching::MatchingStatus;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{ConsolidationMode, Querier, Query, QueryTarget, Reply};
use zenoh::sample::{Locality, Sample, SampleKind};
use zenoh::{Session, Wait};
use zenoh_ext::{
    AdvancedPublisher, AdvancedPublisherBuilderExt, AdvancedSubscriber, AdvancedSubscriberBuilderExt,
    CacheConfig, HistoryConfig, MissDetectionConfig, RecoveryConfig,
};

use crate::link::{
    Answer, Arrived, Asking, Frame, Kept, Last, Link, LinkError, OnAnswer, OnFrame, OnQuestion, OnToken,
    Quality, Question, Sent, Sink, Source, Waited, Whom,
};
use crate::room::{Room, Taken, Weighed};
use crate::settings::Settings;

/// How often a sender of states says which value was its last, so that whoever missed it asks for it. Again and again, as that may be missed
/// too.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long the engine may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a sink's thread waits for frames before it looks whether it is to end.
const SINK_WAIT: Duration = Duration::from_secs(3600);

/// A message and farewells that are remembered as what was sent last.
const LAST_MAX: usize = 16;
/// Frames that are kept besides those that are to be: what is sent again displaces none at first.
const AGAIN: usize = 2;
/// Bytes of questions that wait for the thread that takes them.
const QUESTION_BYTES: usize = 16 << 20;

/// A session of the engine.
pub struct Zenoh {
    session: Session,
    questions: Arc<Room<Asked>>,
}

/// A question, and who takes it.
struct Asked {
    question: Box<dyn Question>,
    taker: Arc<OnQuestion>,
}

impl Weighed for Asked {
    fn bytes(&self) -> usize {
        self.question.frame().bytes()
    }
}

impl Drop for Zenoh {
    fn drop(&mut self) {
        self.questions.close();
    }
}

impl fmt::Debug for Zenoh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Zenoh").field("id", &self.session.zid()).finish_non_exhaustive()
    }
}

fn refused(action: impl Into<String>) -> impl FnOnce(zenoh::Error) -> LinkError {
    let action = action.into();
    move |error| LinkError::Engine { action, reason: error.to_string() }
}

/// The engine calls from several threads.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that nobody waits for.
fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), LinkError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    let failed = |error: std::io::Error| LinkError::Engine {
        action: "to start a thread".to_owned(),
        reason: error.to_string(),
    };
    started.map(drop).map_err(failed)
}

/// Does `work` on a thread of its own, and waits for it no longer than `timeout`.
fn aside<T: Send + 'static>(
    action: &str,
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    let (done, waiting) = mpsc::sync_channel(1);
    start_thread("tidepost-link", move || {
        // Nobody waits any more if this fails.
        let _ = done.send(work());
    })?;
    match waiting.recv_timeout(timeout) {
        Ok(done) => Ok(done),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(LinkError::Timeout { action: action.to_owned(), waited: timeout })
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(LinkError::Engine { action: action.to_owned(), reason: "it panicked".to_owned() })
        }
    }
}

impl Zenoh {
    /// Opens a session with these settings.
    ///
    /// # Errors
    /// [`LinkError`] if a setting is none, an address cannot be listened on, or it takes more than 15 seconds.
    pub fn open(settings: &Settings) -> Result<Self, LinkError> {
        let config = settings.to_config()?;
        let session = aside("open a session", OPEN_TIMEOUT, move || zenoh::open(config).wait())?;
        let session = session.map_err(refused(format!("to open a session ({})", settings.summary())))?;
        let questions = Room::<Asked>::new(QUESTION_BYTES);
        let taken = Arc::clone(&questions);
        // An answer may have to wait for a link that is full, which the engine's own threads must not.
        start_thread("tidepost-ask", move || {
            loop {
                match taken.take(SINK_WAIT) {
                    Taken::One(Asked { question, taker }) => taker(question),
                    Taken::Nothing => {}
                    Taken::Closed => return,
                }
            }
        })?;
        Ok(Self { session, questions })
    }

    /// The session itself, for what the link has no word for.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

fn frame_of(sample: &Sample, encodings: &Encodings) -> Frame {
    Frame {
        payload: sample.payload().to_bytes().into_owned(),
        encoding: encodings.text_of(sample.encoding()),
        attachment: bytes_of(sample.attachment()),
        is_farewell: sample.kind() == SampleKind::Delete,
    }
}

/// Hands bytes on in the pieces in which the engine has them: one, unless a message was too long for one packet.
fn in_pieces<R>(bytes: &ZBytes, take: impl FnOnce(&[&[u8]]) -> R) -> R {
    let mut pieces = bytes.slices();
    let first = pieces.next().unwrap_or_default();
    match pieces.next() {
        None => take(&[first]),
        Some(second) => take(&[first, second].into_iter().chain(pieces).collect::<Vec<_>>()),
    }
}

fn bytes_of(bytes: Option<&ZBytes>) -> Vec<u8> {
    bytes.map(|bytes| bytes.to_bytes().into_owned()).unwrap_or_default()
}

/// The encoding that came last, in both forms: mostly it is the next one's, too.
#[derive(Default)]
struct Encodings(Mutex<(Encoding, Arc<str>)>);

impl Encodings {
    fn text_of(&self, encoding: &Encoding) -> Arc<str> {
        let mut last = lock(&self.0);
        if last.1.is_empty() || last.0 != *encoding {
            *last = (encoding.clone(), encoding.to_string().into());
        }
        Arc::clone(&last.1)
    }

    fn of_text(&self, text: &Arc<str>) -> Encoding {
        let mut last = lock(&self.0);
        if last.1 != *text {
            *last = (Encoding::from(&**text), Arc::clone(text));
        }
        last.0.clone()
    }
}

/// A frame as the engine has it, which shares its bytes with whoever else has it.
#[derive(Clone)]
struct Parcel {
    payload: ZBytes,
    encoding: Encoding,
    attachment: ZBytes,
    is_farewell: bool,
}

impl Parcel {
    fn frame(&self) -> Frame {
        Frame {
            payload: self.payload.to_bytes().into_owned(),
            encoding: self.encoding.to_string().into(),
            attachment: self.attachment.to_bytes().into_owned(),
            is_farewell: self.is_farewell,
        }
    }
}

/// The message that was sent last, and the farewells after it.
#[derive(Default)]
struct LastSent {
    parcels: Vec<Parcel>,
    at: Option<Instant>,
}

impl LastSent {
    fn note(&mut self, parcel: Parcel) {
        if !parcel.is_farewell {
            self.parcels.clear();
            self.at = Some(Instant::now());
        }
        // A farewell is one behind a message.
        if self.at.is_some() && self.parcels.len() < LAST_MAX {
            self.parcels.push(parcel);
        }
    }
}

/// A publisher of the engine's, and the encoding of what it sent last.
struct Sending {
    publisher: AdvancedPublisher<'static>,
    encodings: Encodings,
}

impl Sending {
    fn parcel(&self, frame: Frame) -> Parcel {
        let encoding = self.encodings.of_text(&frame.encoding);
        let (payload, attachment) = (frame.payload.into(), frame.attachment.into());
        Parcel { payload, encoding, attachment, is_farewell: frame.is_farewell }
    }

    /// Whether the session is still open: nothing else makes it fail.
    fn send(&self, parcel: Parcel) -> bool {
        let attachment = Some(parcel.attachment).filter(|attachment| !attachment.is_empty());
        let sent = if parcel.is_farewell {
            self.publisher.delete().attachment(attachment).wait()
        } else {
            let put = self.publisher.put(parcel.payload).encoding(parcel.encoding);
            put.attachment(attachment).wait()
        };
        sent.is_ok()
    }
}

/// Frames that a link may hold up, and a thread of ours that sends them.
struct Waiting {
    sending: Sending,
    room: Arc<Room<Frame>>,
    /// Whoever has it sends; what comes meanwhile goes into the room.
    turn: Mutex<LastSent>,
    /// Whoever waits for the turn is about to take what is left.
    is_retiring: AtomicBool,
}

impl Waiting {
    /// Sends what is put into the room, until that is closed.
    fn send_all(&self) {
        while self.room.wait(SINK_WAIT) != Waited::Closed {
            let mut turn = lock(&self.turn);
            while !self.is_retiring.load(Ordering::Relaxed)
                && let Some(frame) = self.room.try_take()
            {
                if !self.send_now(frame, &mut turn) {
                    return self.room.close();
                }
            }
        }
    }

    fn send_now(&self, frame: Frame, turn: &mut LastSent) -> bool {
        let parcel = self.sending.parcel(frame);
        turn.note(parcel.clone());
        self.sending.send(parcel)
    }

    /// The turn, unless somebody has it.
    fn take_turn(&self) -> Option<MutexGuard<'_, LastSent>> {
        match self.turn.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Ok(turn) => Some(turn),
        }
    }

    /// What was sent last, unless something is being sent, or waits for that.
    fn last(&self) -> Option<Last> {
        let turn = self.take_turn().filter(|_| self.room.is_empty())?;
        let (parcels, at) = (turn.parcels.clone(), turn.at);
        drop(turn);
        let age = at.map(|at| at.elapsed()).unwrap_or_default();
        Some(Last { frames: parcels.iter().map(Parcel::frame).collect(), age })
    }

    /// Ends that, and takes what is left in the room.
    fn retire(&self) -> Vec<Frame> {
        self.is_retiring.store(true, Ordering::Relaxed);
        let _turn = lock(&self.turn);
        let left = std::iter::from_fn(|| self.room.try_take()).collect();
        self.room.close();
        left
    }

    /// Puts a frame into the room. What nobody receives yet is kept: for those who come later, or come back.
    fn put(&self, frame: Frame) -> Sent {
        match self.room.put(frame) {
            Some(true) => Sent::Sent,
            Some(false) => Sent::Full,
            None => Sent::Closed,
        }
    }

    /// Sends a frame on this thread, if it is its turn.
    fn send(&self, frame: Frame, settled: &mut dyn FnMut()) -> Sent {
        let turn = self.take_turn();
        let Some(mut turn) = turn.filter(|_| self.room.is_open_and_empty()) else {
            let sent = self.put(frame);
            settled();
            return sent;
        };
        settled();
        if self.send_now(frame, &mut turn) {
            Sent::Sent
        } else {
            self.room.close();
            Sent::Closed
        }
    }
}

/// How frames are sent.
enum Way {
    /// At once: a publisher that drops what finds no room waits for a part of the lease, if at all.
    Direct(Box<Sending>),
    /// In turn, as whoever sends may have to wait.
    InTurn(Arc<Waiting>),
}

/// The sending side.
struct ZenohSink {
    way: Way,
    is_matched: Arc<AtomicBool>,
}

impl fmt::Debug for ZenohSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohSink").finish_non_exhaustive()
    }
}

impl Sink for ZenohSink {
    fn try_send(&self, frame: Frame) -> Sent {
        match &self.way {
            Way::Direct(_) if !self.has_receivers() => Sent::NotConnected,
            Way::Direct(sending) => {
                if sending.send(sending.parcel(frame)) {
                    Sent::Sent
                } else {
                    Sent::Closed
                }
            }
            Way::InTurn(waiting) => waiting.put(frame),
        }
    }

    fn send(&self, frame: Frame, settled: &mut dyn FnMut()) -> Sent {
        match &self.way {
            Way::Direct(_) => {
                let sent = self.try_send(frame);
                settled();
                sent
            }
            Way::InTurn(waiting) => waiting.send(frame, settled),
        }
    }

    fn retire(&self) -> Vec<Frame> {
        match &self.way {
            Way::Direct(_) => Vec::new(),
            Way::InTurn(waiting) => waiting.retire(),
        }
    }

    fn last(&self) -> Option<Last> {
        match &self.way {
            Way::Direct(_) => Some(Last::default()),
            Way::InTurn(waiting) => waiting.last(),
        }
    }

    fn has_receivers(&self) -> bool {
        self.is_matched.load(Ordering::Relaxed)
    }
}

impl Drop for ZenohSink {
    fn drop(&mut self) {
        if let Way::InTurn(waiting) = &self.way {
            // Its thread may be waiting for a link that is dead: the engine ends that wait, and the thread with it.
            waiting.room.close();
        }
    }
}

/// The receiving side.
struct ZenohSource {
    room: Arc<Room<Frame>>,
    _subscriber: AdvancedSubscriber<()>,
}

impl fmt::Debug for ZenohSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohSource").finish_non_exhaustive()
    }
}

impl Source for ZenohSource {
    fn wait(&self, timeout: Duration) -> Waited {
        self.room.wait(timeout)
    }

    fn take(&self) -> Option<Frame> {
        self.room.try_take()
    }

    fn take_dropped(&self) -> u64 {
        self.room.take_dropped()
    }

    fn close(&self) {
        self.room.close();
    }
}

impl Drop for ZenohSource {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// A question of the engine's.
struct ZenohQuestion {
    query: Query,
    frame: Frame,
}

impl fmt::Debug for ZenohQuestion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohQuestion").field("key", self.query.key_expr()).finish_non_exhaustive()
    }
}

impl Question for ZenohQuestion {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn answer(&self, frame: Frame) {
        let reply =
            self.query.reply(self.query.key_expr(), frame.payload).encoding(Encoding::from(&*frame.encoding));
        // Who asked may have gone, which nobody here can help.
        let _ = reply.attachment(Some(frame.attachment)).wait();
    }

    fn fail(&self, frame: Frame) {
        let _ = self.query.reply_err(frame.payload).encoding(Encoding::from(&*frame.encoding)).wait();
    }
}

fn question_of(query: Query) -> Box<dyn Question> {
    let frame = Frame {
        payload: bytes_of(query.payload()),
        encoding: query.encoding().map(Encoding::to_string).unwrap_or_default().into(),
        attachment: bytes_of(query.attachment()),
        is_farewell: false,
    };
    Box::new(ZenohQuestion { query, frame })
}

/// Something of the engine's that is declared as long as it is kept.
struct Declared<T> {
    what: &'static str,
    _kept: T,
}

impl<T> fmt::Debug for Declared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.what)
    }
}

fn kept<T: Send + Sync + 'static>(what: &'static str, kept: T) -> Kept {
    Box::new(Declared { what, _kept: kept })
}

/// Whether somebody answers.
struct ZenohAsking {
    is_matched: Arc<AtomicBool>,
    _querier: Querier<'static>,
}

impl fmt::Debug for ZenohAsking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohAsking").finish_non_exhaustive()
    }
}

impl Asking for ZenohAsking {
    fn is_answered(&self) -> bool {
        self.is_matched.load(Ordering::Relaxed)
    }
}

/// Follows whether there is anybody at the other end.
fn follow(is_matched: &Arc<AtomicBool>) -> impl Fn(MatchingStatus) + Send + Sync + 'static {
    let is_matched = Arc::clone(is_matched);
    move |status: MatchingStatus| is_matched.store(status.matching(), Ordering::Relaxed)
}

/// Passes answers on, and says at the end that it was the end: the engine drops the callback then.
struct Answering {
    on_answer: OnAnswer,
    encodings: Encodings,
}

impl Answering {
    fn take(&mut self, reply: Reply) {
        (self.on_answer)(match reply.into_result() {
            Ok(sample) => Answer::Frame(frame_of(&sample, &self.encodings)),
            Err(error) => Answer::Failure(Frame {
                payload: error.payload().to_bytes().into_owned(),
                encoding: error.encoding().to_string().into(),
                ..Frame::default()
            }),
        });
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        (self.on_answer)(Answer::End);
    }
}

impl Link for Zenoh {
    fn sink(&self, key: &str, quality: Quality, room: usize) -> Result<Arc<dyn Sink>, LinkError> {
        let declared = self
            .session
            .declare_publisher(key.to_owned())
            .congestion_control(CongestionControl::Drop)
            .allowed_destination(Locality::Remote)
            .advanced();
        let declared = match quality {
            Quality::Reliable { cache } => declared
                .cache(CacheConfig::default().max_samples(cache + AGAIN))
                .sample_miss_detection(MissDetectionConfig::default()),
            Quality::Newest => declared
                .cache(CacheConfig::default().max_samples(1))
                .sample_miss_detection(MissDetectionConfig::default().heartbeat(HEARTBEAT))
                .publisher_detection(),
            Quality::Lossy => declared,
        };
        let publisher = declared.wait().map_err(refused(format!("to publish under `{key}`")))?;
        let is_matched = Arc::new(AtomicBool::new(false));
        let listening = publisher.matching_listener().callback(follow(&is_matched)).background().wait();
        listening.map_err(refused(format!("to watch for subscribers of `{key}`")))?;
        if publisher.matching_status().wait().is_ok_and(|status| status.matching()) {
            is_matched.store(true, Ordering::Relaxed);
        }
        let sending = Sending { publisher, encodings: Encodings::default() };
        let way = if quality == Quality::Lossy {
            Way::Direct(Box::new(sending))
        } else {
            let (turn, is_retiring) = (Mutex::default(), AtomicBool::new(false));
            let waiting = Arc::new(Waiting { sending, room: Room::new(room), turn, is_retiring });
            let emptied = Arc::clone(&waiting);
            start_thread("tidepost-send", move || emptied.send_all())?;
            Way::InTurn(waiting)
        };
        Ok(Arc::new(ZenohSink { way, is_matched }))
    }

    fn source(
        &self,
        expression: &str,
        quality: Quality,
        room: usize,
        on_frame: OnFrame,
    ) -> Result<Arc<dyn Source>, LinkError> {
        let room = Room::new(room);
        let (filled, encodings) = (Arc::clone(&room), Encodings::default());
        let on_sample = move |sample: Sample| {
            let encoding = encodings.text_of(sample.encoding());
            let attachment = sample.attachment().map(ZBytes::to_bytes).unwrap_or_default();
            let is_farewell = sample.kind() == SampleKind::Delete;
            let take = |payload: &[&[u8]]| {
                on_frame(&Arrived { payload, encoding: &encoding, attachment: &attachment, is_farewell })
            };
            // One call at a time comes here: nothing is put in between the look and what follows it.
            if !(filled.is_empty() && in_pieces(sample.payload(), take)) {
                let (payload, attachment) =
                    (sample.payload().to_bytes().into_owned(), attachment.into_owned());
                filled.push(Frame { payload, encoding, attachment, is_farewell });
            }
        };
        let declared = self
            .session
            .declare_subscriber(expression.to_owned())
            .allowed_origin(Locality::Remote)
            .callback(on_sample)
            .advanced();
        let declared = match quality {
            // Neither periodic questions nor heartbeats: who has nothing later to see a gap by is asked by who sends.
            Quality::Reliable { .. } => declared.recovery(RecoveryConfig::<true>::default()),
            Quality::Newest => declared
                .history(HistoryConfig::default().detect_late_publishers().max_samples(1))
                .recovery(RecoveryConfig::default().heartbeat()),
            Quality::Lossy => declared,
        };
        let subscriber = declared.wait().map_err(refused(format!("to subscribe to `{expression}`")))?;
        Ok(Arc::new(ZenohSource { room, _subscriber: subscriber }))
    }

    fn serve(&self, key: &str, on_question: OnQuestion) -> Result<Kept, LinkError> {
        let (questions, taker) = (Arc::clone(&self.questions), Arc::new(on_question));
        let queryable = self
            .session
            .declare_queryable(key.to_owned())
            // Of several complete ones the engine mostly asks one, the nearest.
            .complete(true)
            .allowed_origin(Locality::Remote)
            .callback(move |query| {
                // What finds no room ends without an answer.
                let taker = Arc::clone(&taker);
                let _ = questions.put(Asked { question: question_of(query), taker });
            })
            .wait()
            .map_err(refused(format!("to answer under `{key}`")))?;
        Ok(kept("Queryable", queryable))
    }

    fn ask(
        &self,
        whom: Whom,
        key: &str,
        frame: Frame,
        timeout: Duration,
        on_answer: OnAnswer,
    ) -> Result<(), LinkError> {
        let (target, priority) = match whom {
            Whom::One => (QueryTarget::BestMatching, Priority::DataHigh),
            Whom::All => (QueryTarget::All, Priority::DataHigh),
            // As what is relayed, which is the last.
            Whom::AllBehind => (QueryTarget::All, Priority::DataLow),
        };
        let answering = Mutex::new(Answering { on_answer, encodings: Encodings::default() });
        self.session
            .get(key)
            .payload(frame.payload)
            .encoding(Encoding::from(&*frame.encoding))
            .attachment(Some(frame.attachment))
            .target(target)
            .consolidation(ConsolidationMode::None)
            .congestion_control(CongestionControl::Block)
            .priority(priority)
            .allowed_destination(Locality::Remote)
            .timeout(timeout)
            .callback(move |reply| lock(&answering).take(reply))
            .wait()
            .map_err(refused(format!("to ask under `{key}`")))
    }

    fn asking(&self, key: &str) -> Result<Box<dyn Asking>, LinkError> {
        let wrong = || refused(format!("to watch for who answers under `{key}`"));
        let querier = self.session.declare_querier(key.to_owned()).allowed_destination(Locality::Remote);
        let querier = querier.wait().map_err(wrong())?;
        let is_matched = Arc::new(AtomicBool::new(false));
        querier.matching_listener().callback(follow(&is_matched)).background().wait().map_err(wrong())?;
        if querier.matching_status().wait().is_ok_and(|status| status.matching()) {
            is_matched.store(true, Ordering::Relaxed);
        }
        Ok(Box::new(ZenohAsking { is_matched, _querier: querier }))
    }

    fn token(&self, key: &str) -> Result<Kept, LinkError> {
        let token = self.session.liveliness().declare_token(key.to_owned()).wait();
        Ok(kept("Token", token.map_err(refused(format!("to show `{key}`")))?))
    }

    fn watch(&self, expression: &str, on_token: OnToken) -> Result<Kept, LinkError> {
        let on_token = Mutex::new(on_token);
        let subscriber = self
            .session
            .liveliness()
            .declare_subscriber(expression.to_owned())
            .history(true)
            .callback(move |sample: Sample| {
                lock(&on_token)(sample.key_expr().as_str(), sample.kind() == SampleKind::Put);
            })
            .wait()
            .map_err(refused(format!("to watch for tokens under `{expression}`")))?;
        Ok(kept("Watch", subscriber))
    }

    fn addresses(&self) -> Vec<String> {
        self.session.info().locators().wait().iter().map(ToString::to_string).collect()
    }

    fn connections(&self) -> usize {
        let info = self.session.info();
        info.routers_zid().wait().count() + info.peers_zid().wait().count()
    }

    fn close(&self, timeout: Duration) -> Result<(), LinkError> {
        let session = self.session.clone();
        aside("close", timeout, move || session.close().wait())?.map_err(refused("to close the session"))
    }
}
