//! `tidepost get`, `tidepost set` and `tidepost watch`: the value of a state.

use std::io::Write;
use std::time::Duration;

use tidepost::{Event, Node, StateError, StateReader, StateWriter, Untyped, Value};

use crate::format::Format;
use crate::incoming::{Incoming, Limits, Source};
use crate::notices::tell_refused;
use crate::{Failure, Place, lines, text};

/// What a reader that cannot be connected does.
const REFUSED: &str = "a reader turned this state down";

/// Options of `tidepost get`.
#[derive(Debug, clap::Args)]
pub struct GetArguments {
    /// The state. A value of bytes is printed as a line of text, another field by field, whatever its type.
    state: String,
    #[command(flatten)]
    format: Format,
    /// Wait no longer than so many seconds for a value if there is none yet.
    #[arg(long, value_name = "S", default_value = "0", value_parser = text::parse_seconds)]
    timeout: Duration,
}

/// Runs `get`.
pub fn get(arguments: &GetArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-get")?;
    let mut reader = read(&node, &arguments.state)?;
    match reader.wait(arguments.timeout)? {
        Some(value) => return write(&arguments.format, &value, &mut std::io::stdout().lock()),
        None => tell_refused("a writer is not heard", std::iter::from_fn(|| reader.try_event())),
    }
    Err(format!("state `{}` has no value", arguments.state).into())
}

/// Options of `tidepost set`.
#[derive(Debug, clap::Args)]
pub struct SetArguments {
    /// The state. Its values are bytes. There can be one writer at a time.
    state: String,
    /// The value; otherwise each line of standard input is one. It stays until this command ends, or longer if somebody reads
    /// the state.
    value: Option<String>,
    /// With a value: do not end before being interrupted, so that it stays.
    #[arg(long, requires = "value")]
    stay: bool,
    /// Start once so many readers are there.
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_readers: usize,
    /// How long to wait for them, in seconds.
    #[arg(long, value_name = "S", default_value = "60", value_parser = text::parse_seconds)]
    wait_timeout: Duration,
    /// Wait so many seconds for another writer to leave.
    #[arg(long, value_name = "S", default_value = "0", value_parser = text::parse_seconds)]
    timeout: Duration,
}

/// Runs `set`.
pub fn set(arguments: &SetArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-set")?;
    let mut writer = node.state::<[u8]>(&arguments.state).writer_timeout(arguments.timeout)?;
    writer.wait_for_readers(arguments.wait_readers, arguments.wait_timeout)?;
    match &arguments.value {
        Some(value) => writer.set(value.as_bytes())?,
        None => lines::each(|line| {
            writer.set(line)?;
            tell_refusals(&mut writer);
            Ok(true)
        })?,
    }
    tell_refusals(&mut writer);
    if !arguments.stay {
        return Ok(());
    }
    loop {
        tell_refused(REFUSED, writer.event_timeout(Duration::MAX)?);
    }
}

fn tell_refusals(writer: &mut StateWriter<[u8]>) {
    tell_refused(REFUSED, std::iter::from_fn(|| writer.try_event()));
}

/// Options of `tidepost watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArguments {
    /// The state. Each value is printed that is there when this command looks, the newest; those in between are passed over.
    /// Meanwhile the last value is kept when its writer goes.
    state: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    limits: Limits,
}

/// Runs `watch`.
pub fn watch(arguments: &WatchArguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-watch")?;
    let values = Values {
        reader: read(&node, &arguments.state)?,
        format: &arguments.format,
        output: std::io::stdout().lock(),
    };
    Incoming::new(values).take_all(&arguments.limits, &format!("nothing new on `{}`", arguments.state))
}

/// A reader whose values are written as they change.
struct Values<'a, W> {
    reader: StateReader<Untyped>,
    format: &'a Format,
    output: W,
}

impl<W: Write> Source for Values<'_, W> {
    const SENDER: &'static str = "writer";

    fn take(&mut self, wait: Duration) -> Result<bool, Failure> {
        match self.reader.changed(wait)? {
            Some(value) => write(self.format, &value, &mut self.output).map(|()| true),
            None => Ok(false),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.reader.try_event()
    }

    fn senders(&self) -> usize {
        self.reader.has_writer().into()
    }
}

fn read(node: &Node, state: &str) -> Result<StateReader<Untyped>, StateError> {
    node.state_dyn(state).reader()
}

fn write(format: &Format, value: &Value<'_, Untyped>, output: &mut impl Write) -> Result<(), Failure> {
    let value_type = value.value_type().ok_or("the value says nothing of its type")?;
    format.write(output, (value_type, value), |object| {
        object.insert("version".to_owned(), value.version().into());
    })?;
    output.flush()?;
    Ok(())
}
