//! `tidepost sub`: what is published on a topic, on standard output.

use std::io::{BufWriter, StdoutLock, Write};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value as Json};
use tidepost::{Event, Sample, Subscriber, TopicError, Untyped};

use crate::format::Format;
use crate::incoming::{Incoming, Limits, Source};
use crate::notices::{tell, there_were};
use crate::{Failure, Place, text};

/// Options of `tidepost sub`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topic. Messages of bytes are printed as lines of text, others field by field, whatever their type; without an
    /// option that says otherwise until it is interrupted.
    topic: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    limits: Limits,
    /// Stop once a publisher has been there and the last one has left.
    #[arg(long)]
    until_end: bool,
    /// Be a reader that publishers under `block` and `fail` wait for, so that nothing of theirs is lost. Otherwise nobody is
    /// held up: what comes too fast is lost, and standard error tells how much.
    #[arg(long)]
    reliable: bool,
    /// Ask each publisher for so many of its earlier messages at most; otherwise for all that it keeps.
    #[arg(long, value_name = "N")]
    history: Option<usize>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-sub")?;
    let subscriber = subscribe(arguments, &node)?;
    let output = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let messages = Messages { subscriber, format: &arguments.format, output };
    let mut incoming = Incoming::new(messages);
    incoming.ends_with_senders = arguments.until_end;
    let outcome = incoming.take_all(&arguments.limits, &format!("nothing came on `{}`", arguments.topic));
    let flushed = incoming.source.output.flush();
    match incoming.source.subscriber.lost() {
        0 => {}
        lost => tell(&format!("{} lost in all", there_were(lost, "message"))),
    }
    outcome.and(flushed.map_err(Failure::from))
}

fn subscribe(arguments: &Arguments, node: &tidepost::Node) -> Result<Subscriber<Untyped>, TopicError> {
    let mut topic = node.topic_dyn(&arguments.topic);
    if let Some(messages) = arguments.history {
        topic = topic.history(messages);
    }
    if arguments.reliable { topic.subscriber() } else { topic.observer().subscriber() }
}

/// A subscriber whose messages are written.
struct Messages<'a> {
    subscriber: Subscriber<Untyped>,
    format: &'a Format,
    output: BufWriter<StdoutLock<'static>>,
}

impl Source for Messages<'_> {
    const SENDER: &'static str = "publisher";

    fn take(&mut self, wait: Duration) -> Result<bool, Failure> {
        if let Some(sample) = self.subscriber.try_recv()? {
            return write(self.format, &sample, &mut self.output).map(|()| true);
        }
        self.output.flush()?;
        match self.subscriber.recv_timeout(wait)? {
            Some(sample) => write(self.format, &sample, &mut self.output).map(|()| true),
            None => Ok(false),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.subscriber.try_event()
    }

    fn senders(&self) -> usize {
        self.subscriber.publishers()
    }
}

fn write(format: &Format, sample: &Sample<'_, Untyped>, output: &mut impl Write) -> Result<(), Failure> {
    if sample.lost() > 0 {
        tell_gap(sample);
    }
    let message: &[u8] = sample;
    Ok(format.write(output, (sample.message_type(), message), |object| tell_all(sample, object))?)
}

fn tell_gap(sample: &Sample<'_, Untyped>) {
    let (lost, publisher) = (there_were(sample.lost(), "message"), text::short_endpoint(sample.publisher()));
    let (sequence, node) = (sample.sequence(), sample.publisher_node());
    tell(&format!("{lost} lost before message {sequence} of {publisher} (`{node}`)"));
}

/// What is known of a message besides what it says.
fn tell_all(sample: &Sample<'_, Untyped>, object: &mut Map<String, Json>) {
    object.insert("sequence".to_owned(), sample.sequence().into());
    object.insert("publisher".to_owned(), sample.publisher().to_string().into());
    object.insert("lost".to_owned(), sample.lost().into());
    if let Some(time) = sample.timestamp() {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        object.insert("timestamp_ns".to_owned(), (since_epoch.as_nanos() as u64).into());
    }
}
