//! `tidepost call`: one request to a service, and its answer on standard output.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tidepost::{CallError, ServiceTypes, Untyped};

use crate::format::{self, Format};
use crate::{Failure, Place, fields, text};

/// How long `call` waits, unless told.
const TIMEOUT_DEFAULT: &str = "60";

/// Options of `tidepost call`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service. An answer of bytes is written as the text that it is, another field by field. If the server answers with an
    /// error of its own, that goes to standard error, and the exit status is 1.
    service: String,
    /// What the server is asked with; otherwise all of standard input, byte by byte. A server that takes no bytes but values of
    /// another type needs exactly the bytes of one.
    request: Option<String>,
    #[command(flatten)]
    format: Format,
    /// Give up after so many seconds. The server is told.
    #[arg(long, value_name = "S", default_value = TIMEOUT_DEFAULT, value_parser = text::parse_seconds)]
    timeout: Duration,
    /// Wait for a server if there is none yet, within the same time.
    #[arg(long)]
    wait: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let mut request = Vec::new();
    match &arguments.request {
        Some(text) => request.extend(text.as_bytes()),
        None => _ = std::io::stdin().lock().read_to_end(&mut request)?,
    }
    let start = Instant::now();
    let node = place.open("tidepost-call")?;
    let mut client = node.service_dyn(&arguments.service).sticky().client()?;
    if arguments.wait {
        client.wait_for_servers(1, arguments.timeout)?;
    }
    let types = client.server_types();
    let left = arguments.timeout.saturating_sub(start.elapsed());
    let answer = match client.call(Untyped::new(&request), left) {
        Ok(answer) => answer,
        Err(CallError::Failed { service, failure }) => {
            return Err(
                format!("service `{service}` failed: {}", failure_text(types.as_ref(), &failure)).into()
            );
        }
        Err(CallError::Timeout { service, .. }) => {
            return Err(CallError::<Untyped>::Timeout { service, waited: arguments.timeout }.into());
        }
        Err(error) => return Err(error.into()),
    };
    // A server that came meanwhile has been taken for another; then its answer is shown as bytes.
    let any = tidepost::TypeDescriptor::of_primitive::<u8>("u8").into_slice();
    let answer_type = types.as_ref().map_or(&any, |types| &types.answer);
    let mut output = std::io::stdout().lock();
    arguments.format.write_alone(&mut output, (answer_type, &answer), |_| {})?;
    output.flush()?;
    Ok(())
}

/// A server's own error, as people read it. Its lines stay lines.
fn failure_text(types: Option<&ServiceTypes>, failure: &[u8]) -> String {
    match types.map(|types| &types.failure).filter(|failure| !format::is_text(failure)) {
        Some(failure_type) => fields::read(failure_type, failure).to_string(),
        None => {
            let text = String::from_utf8_lossy(failure);
            text.lines().map(text::printable).collect::<Vec<_>>().join("\n")
        }
    }
}
