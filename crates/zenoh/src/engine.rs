//! The link over Eclipse Zenoh.
//!
//! What is decided here, and nowhere else:
//! - **Nothing is left to the engine's defaults** that listen everywhere, connect to whoever is found, or wait for ever: see
//!   [`Settings::to_config`].
//! - **No callback blocks.** A subscriber's callback puts into a bounded [`Room`]; a publisher's thread is ours, and what it cannot
//!   get rid of stays in its room.
//! - **The engine is opened and closed on threads of our own**: opening panics on some threads, and closing a dead link takes ten
//!   seconds, which nobody has to wait for.
//! - **Reliable** means the engine's advanced publisher and subscriber: a plain one loses silently when a link is closed under it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use zenoh::bytes::{Encoding, ZBytes};
use zenoh::handlers::Callback;
use zenoh::liveliness::LivelinessToken;
use zenoh::matching::MatchingStatus;
use zenoh::pubsub::Subscriber;
use zenoh::qos::CongestionControl;
use zenoh::query::{ConsolidationMode, Querier, Query, QueryTarget, Queryable, Reply};
use zenoh::sample::{Locality, Sample, SampleKind};
use zenoh::{Session, Wait};
use zenoh_ext::{
    AdvancedPublisher, AdvancedPublisherBuilderExt, AdvancedSubscriber, AdvancedSubscriberBuilderExt,
    CacheConfig, HistoryConfig, MissDetectionConfig, RecoveryConfig,
};

use crate::link::{
    Answer, Asking, Frame, Kept, Link, LinkError, OnAnswer, OnQuestion, OnToken, Quality, Question, Received,
    Sent, Sink, Source,
};
use crate::room::{Room, Taken, Weighed};
use crate::settings::Settings;

/// How often a sender of states says which value was its last, so that whoever missed it asks for it.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How often a receiver asks each sender that it has heard of whether there is more. A sender's own word would do with less, but whoever hears
/// that word before a message asks for all that is kept, and gets what was sent before it came, or what another gateway has had.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the engine may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a sink's thread waits for frames before it looks whether it is to end.
const SINK_WAIT: Duration = Duration::from_secs(3600);

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

/// Does `work` on a thread of its own, and waits for it no longer than `timeout`.
fn aside<T: Send + 'static>(
    action: &str,
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    let (done, waiting) = mpsc::sync_channel(1);
    let failed = |reason: String| LinkError::Engine { action: action.to_owned(), reason };
    std::thread::Builder::new()
        .name("tidepost-link".to_owned())
        .spawn(move || {
            // Nobody waits any more if this fails.
            let _ = done.send(work());
        })
        .map_err(|error| failed(error.to_string()))?;
    match waiting.recv_timeout(timeout) {
        Ok(done) => Ok(done),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(LinkError::Timeout { action: action.to_owned(), waited: timeout })
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(failed("it panicked".to_owned())),
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
        let thread = std::thread::Builder::new().name("tidepost-ask".to_owned()).spawn(move || {
            loop {
                match taken.take(SINK_WAIT) {
                    Taken::One(Asked { question, taker }) => taker(question),
                    Taken::Nothing => {}
                    Taken::Closed => return,
                }
            }
        });
        thread.map_err(|error| LinkError::Engine {
            action: "to start a thread".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { session, questions })
    }

    /// The session itself, for what the link has no word for.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

fn frame_of(sample: &Sample) -> Frame {
    Frame {
        payload: sample.payload().to_bytes().into_owned(),
        encoding: sample.encoding().to_string(),
        attachment: bytes_of(sample.attachment()),
        is_farewell: sample.kind() == SampleKind::Delete,
    }
}

fn bytes_of(bytes: Option<&ZBytes>) -> Vec<u8> {
    bytes.map(|bytes| bytes.to_bytes().into_owned()).unwrap_or_default()
}

/// The sending side: a room, and a thread that empties it.
struct ZenohSink {
    room: Arc<Room<Frame>>,
    is_matched: Arc<AtomicBool>,
    /// Whether a frame is kept although nobody receives it: for those who come later, or come back.
    keeps: bool,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for ZenohSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohSink").finish_non_exhaustive()
    }
}

impl Sink for ZenohSink {
    fn try_send(&self, frame: Frame) -> Sent {
        if !self.keeps && !self.has_receivers() {
            return Sent::NotConnected;
        }
        match self.room.put(frame) {
            Some(true) => Sent::Sent,
            Some(false) => Sent::Full,
            None => Sent::Closed,
        }
    }

    fn has_receivers(&self) -> bool {
        self.is_matched.load(Ordering::Relaxed)
    }
}

impl Drop for ZenohSink {
    fn drop(&mut self) {
        self.room.close();
        // It may be waiting for a link that is dead: the engine ends that wait, and the thread with it.
        drop(self.thread.take());
    }
}

fn send_all(room: &Room<Frame>, publisher: &AdvancedPublisher<'_>) {
    loop {
        let frame = match room.take(SINK_WAIT) {
            Taken::One(frame) => frame,
            Taken::Nothing => continue,
            Taken::Closed => return,
        };
        let attachment = Some(frame.attachment).filter(|attachment| !attachment.is_empty());
        let sent = if frame.is_farewell {
            publisher.delete().attachment(attachment).wait()
        } else {
            let put = publisher.put(frame.payload).encoding(Encoding::from(frame.encoding));
            put.attachment(attachment).wait()
        };
        if sent.is_err() {
            // The session is closed: nothing else makes it fail.
            return room.close();
        }
    }
}

/// The receiving side.
struct ZenohSource {
    room: Arc<Room<(String, Frame)>>,
    subscriber: Option<AdvancedSubscriber<()>>,
}

impl fmt::Debug for ZenohSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ZenohSource").finish_non_exhaustive()
    }
}

impl Source for ZenohSource {
    fn receive(&self, timeout: Duration) -> Received {
        match self.room.take(timeout) {
            Taken::One((key, frame)) => Received::Frame(key, frame),
            Taken::Nothing => Received::Nothing,
            Taken::Closed => Received::Closed,
        }
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
        drop(self.subscriber.take());
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
            self.query.reply(self.query.key_expr(), frame.payload).encoding(Encoding::from(frame.encoding));
        // Who asked may have gone, which nobody here can help.
        let _ = reply.attachment(Some(frame.attachment)).wait();
    }

    fn fail(&self, frame: Frame) {
        let _ = self.query.reply_err(frame.payload).encoding(Encoding::from(frame.encoding)).wait();
    }
}

fn question_of(query: Query) -> Box<dyn Question> {
    let frame = Frame {
        payload: bytes_of(query.payload()),
        encoding: query.encoding().map(Encoding::to_string).unwrap_or_default(),
        attachment: bytes_of(query.attachment()),
        is_farewell: false,
    };
    Box::new(ZenohQuestion { query, frame })
}

/// Declared as long as it is kept.
enum Declared {
    Token { _token: LivelinessToken },
    Watch { _subscriber: Subscriber<()> },
    Queryable { _queryable: Queryable<()> },
}

impl fmt::Debug for Declared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Token { .. } => "Token",
            Self::Watch { .. } => "Watch",
            Self::Queryable { .. } => "Queryable",
        })
    }
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
struct Answering(OnAnswer);

impl Answering {
    fn take(&mut self, reply: Reply) {
        (self.0)(match reply.into_result() {
            Ok(sample) => Answer::Frame(frame_of(&sample)),
            Err(error) => Answer::Failure(Frame {
                payload: error.payload().to_bytes().into_owned(),
                encoding: error.encoding().to_string(),
                ..Frame::default()
            }),
        });
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        (self.0)(Answer::End);
    }
}

impl Link for Zenoh {
    fn id(&self) -> String {
        self.session.zid().to_string()
    }

    fn sink(&self, key: &str, quality: Quality, room: usize) -> Result<Arc<dyn Sink>, LinkError> {
        let congestion = match quality {
            Quality::Reliable { .. } | Quality::Newest => CongestionControl::Block,
            Quality::Lossy => CongestionControl::Drop,
        };
        let declared = self
            .session
            .declare_publisher(key.to_owned())
            .congestion_control(congestion)
            .allowed_destination(Locality::Remote)
            .advanced();
        let declared = match quality {
            Quality::Reliable { cache } => declared
                .cache(CacheConfig::default().max_samples(cache))
                .sample_miss_detection(MissDetectionConfig::default()),
            Quality::Newest => declared
                .cache(CacheConfig::default().max_samples(1))
                .sample_miss_detection(MissDetectionConfig::default().sporadic_heartbeat(HEARTBEAT))
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
        let room = Room::new(room);
        let emptied = Arc::clone(&room);
        let thread = std::thread::Builder::new()
            .name("tidepost-send".to_owned())
            .spawn(move || send_all(&emptied, &publisher))
            .map_err(|error| LinkError::Engine {
                action: "to start a thread".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Arc::new(ZenohSink { room, is_matched, keeps: quality != Quality::Lossy, thread: Some(thread) }))
    }

    fn source(&self, expression: &str, quality: Quality, room: usize) -> Result<Arc<dyn Source>, LinkError> {
        let room = Room::new(room);
        let filled = Arc::clone(&room);
        let declared = self
            .session
            .declare_subscriber(expression.to_owned())
            .allowed_origin(Locality::Remote)
            .callback(move |sample: Sample| filled.push((sample.key_expr().to_string(), frame_of(&sample))))
            .advanced();
        let declared = match quality {
            Quality::Reliable { .. } => {
                declared.recovery(RecoveryConfig::default().periodic_queries(ASK_EVERY))
            }
            Quality::Newest => declared
                .history(HistoryConfig::default().detect_late_publishers().max_samples(1))
                .recovery(RecoveryConfig::default().heartbeat()),
            Quality::Lossy => declared,
        };
        let subscriber = declared.wait().map_err(refused(format!("to subscribe to `{expression}`")))?;
        Ok(Arc::new(ZenohSource { room, subscriber: Some(subscriber) }))
    }

    fn serve(&self, key: &str, on_question: OnQuestion) -> Result<Kept, LinkError> {
        let (questions, taker) = (Arc::clone(&self.questions), Arc::new(on_question));
        let queryable = self
            .session
            .declare_queryable(key.to_owned())
            // Of several complete ones the engine asks one, the nearest.
            .complete(true)
            .allowed_origin(Locality::Remote)
            .callback(move |query| {
                // What finds no room ends without an answer.
                let taker = Arc::clone(&taker);
                let _ = questions.put(Asked { question: question_of(query), taker });
            })
            .wait()
            .map_err(refused(format!("to answer under `{key}`")))?;
        Ok(Box::new(Declared::Queryable { _queryable: queryable }))
    }

    fn ask(&self, key: &str, frame: Frame, timeout: Duration, on_answer: OnAnswer) -> Result<(), LinkError> {
        let answering = Mutex::new(Answering(on_answer));
        self.session
            .get(key)
            .payload(frame.payload)
            .encoding(Encoding::from(frame.encoding))
            .attachment(Some(frame.attachment))
            .target(QueryTarget::BestMatching)
            .consolidation(ConsolidationMode::None)
            .congestion_control(CongestionControl::Block)
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
        Ok(Box::new(Declared::Token { _token: token.map_err(refused(format!("to show `{key}`")))? }))
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
        Ok(Box::new(Declared::Watch { _subscriber: subscriber }))
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

/// What the compiler is to check: callbacks of the engine go between its threads.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Callback<Sample>>();
    is_send::<ZenohSink>();
};
