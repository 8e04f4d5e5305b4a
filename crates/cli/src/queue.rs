//! `tidepost push` and `tidepost pull`: items into a queue, and out of it.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use tidepost::{Consumer, Event, Item, Producer, PushError, Untyped};

use crate::format::Format;
use crate::incoming::{Incoming, Limits, Source};
use crate::notices::{tell, tell_refused, there_were};
use crate::publish::OverflowChoice;
use crate::{Failure, Place, lines, text};

/// What a consumer that cannot be connected does.
const REFUSED: &str = "a consumer turned this queue down";
/// How often a wait looks who has been turned away.
const LOOK: Duration = Duration::from_millis(100);
/// How often at first a wait looks whether all has been acknowledged.
const LOOK_FIRST: Duration = Duration::from_millis(1);

/// Options of `tidepost push`.
#[derive(Debug, clap::Args)]
pub struct PushArguments {
    /// The queue. Each line of standard input, without its end, is an item, and goes to one consumer. This command ends when
    /// consumers have acknowledged all of them.
    queue: String,
    /// What to do when as many items as `--depth` says wait for a consumer.
    #[arg(long, value_enum, default_value_t = OverflowChoice::Block)]
    overflow: OverflowChoice,
    /// How many items may wait for a consumer; with 0, each is handed to one that is waiting for it.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// End when all items have been pushed. Those that no consumer has been given are lost.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Wait no longer than so many seconds for the acknowledgements, after the last line.
    #[arg(long, value_name = "S", value_parser = text::parse_seconds)]
    timeout: Option<Duration>,
}

/// Runs `push`.
pub fn push(arguments: &PushArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-push")?;
    let mut queue = node.queue::<[u8]>(&arguments.queue);
    if let Some(items) = arguments.depth {
        queue = queue.depth(items);
    }
    let mut producer = queue.producer(arguments.overflow.into())?;
    lines::each(|line| push_line(&mut producer, line, arguments).map(|()| true))?;
    match producer.counts().dropped {
        0 => {}
        dropped => tell(&format!("{} dropped to make room", there_were(dropped, "item"))),
    }
    finish(producer, arguments)
}

/// Pushes one item, and tells meanwhile who turned the queue down.
fn push_line(producer: &mut Producer<[u8]>, line: &[u8], arguments: &PushArguments) -> Result<(), Failure> {
    loop {
        let pushed = match arguments.overflow {
            OverflowChoice::Block => producer.push_timeout(line, LOOK),
            _ => producer.push(line),
        };
        tell_refusals(producer);
        match pushed {
            Err(PushError::Timeout { .. }) => {}
            pushed => return Ok(pushed?),
        }
    }
}

fn tell_refusals(producer: &mut Producer<[u8]>) {
    tell_refused(REFUSED, std::iter::from_fn(|| producer.try_event()));
}

fn finish(mut producer: Producer<[u8]>, arguments: &PushArguments) -> Result<(), Failure> {
    if !arguments.no_wait {
        return wait_for_acknowledgements(producer, arguments.timeout.unwrap_or(Duration::MAX));
    }
    tell_refusals(&mut producer);
    match producer.counts().backlog {
        0 => {}
        lost => tell(&format!("{} given to nobody, and lost", there_were(lost, "item"))),
    }
    Ok(())
}

fn wait_for_acknowledgements(mut producer: Producer<[u8]>, timeout: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    let mut look = LOOK_FIRST;
    loop {
        let counts = producer.counts();
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() || counts.backlog + counts.unacknowledged == 0 {
            tell_refusals(&mut producer);
            return Ok(producer.close(left)?);
        }
        // An acknowledgement is no event, so it does not end this.
        tell_refused(REFUSED, producer.event_timeout(left.min(look))?);
        look = LOOK.min(2 * look);
    }
}

/// Options of `tidepost pull`.
#[derive(Debug, clap::Args)]
pub struct PullArguments {
    /// The queue. Items of bytes are printed as lines of text, others field by field, whatever their type. Each is acknowledged
    /// when it has been written: one that is killed before leaves it to another.
    queue: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    limits: Limits,
    /// Stop once a producer has been there and the last one has left.
    #[arg(long)]
    until_end: bool,
    /// How many items of one producer this command may have before it has acknowledged the first; what it has, others do not
    /// get while it is stopped.
    #[arg(long, value_name = "N")]
    credit: Option<u32>,
}

/// Runs `pull`.
pub fn pull(arguments: &PullArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-pull")?;
    let mut queue = node.queue_dyn(&arguments.queue);
    if let Some(items) = arguments.credit {
        queue = queue.credit(items);
    }
    let output = BufWriter::new(std::io::stdout().lock());
    let items = Items { consumer: queue.consumer()?, format: &arguments.format, output };
    let mut incoming = Incoming::new(items);
    incoming.ends_with_senders = arguments.until_end;
    let outcome = incoming.take_all(&arguments.limits, &format!("nothing came on `{}`", arguments.queue));
    match incoming.source.consumer.lost() {
        0 => {}
        lost => tell(&format!("{} lost with their producers", there_were(lost, "item"))),
    }
    outcome
}

/// A consumer whose items are written.
struct Items<'a, W> {
    consumer: Consumer<Untyped>,
    format: &'a Format,
    output: W,
}

impl<W: Write> Source for Items<'_, W> {
    const SENDER: &'static str = "producer";

    fn take(&mut self, wait: Duration) -> Result<bool, Failure> {
        match self.consumer.recv_timeout(wait)? {
            Some(item) => write(self.format, item, &mut self.output).map(|()| true),
            None => Ok(false),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.consumer.try_event()
    }

    fn senders(&self) -> usize {
        self.consumer.producers()
    }
}

fn write(format: &Format, item: Item<'_, Untyped>, output: &mut impl Write) -> Result<(), Failure> {
    format.write(output, (item.item_type(), &item), |object| {
        object.insert("producer".to_owned(), item.producer().to_string().into());
        object.insert("redelivered".to_owned(), item.is_redelivered().into());
    })?;
    output.flush()?;
    // It has been seen here, whoever gets it again.
    if let Err(error) = item.ack() {
        tell(&error.to_string());
    }
    Ok(())
}
