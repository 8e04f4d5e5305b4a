//! `tidepost serve`: a service that is a command.

use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use tidepost::{Request, Text, Ticket};

use crate::job::{self, Outcome};
use crate::notices::tell;
use crate::{Failure, Place, text};

/// Options of `tidepost serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service. Requests, and answers, are bytes. It is served until this command is interrupted.
    service: String,
    /// How many requests are answered at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// The longest answer, in bytes, such as 64k or 1m. A command that says more is killed, and the caller told.
    #[arg(long, value_name = "N", default_value = "16m", value_parser = text::parse_bytes)]
    max_answer: usize,
    /// What is run for each request: it gets the request on its standard input, and what it writes to its standard output is the
    /// answer. If its exit status is not 0, the answer is an error, with that status and the end of its standard error. When it
    /// is over, nobody wants the answer any more, or this command ends, it is killed with all that it has started, sessions of
    /// their own included; only if the keeper that runs it is killed first, what has left its process group lives on.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-serve")?;
    let mut server = node.service::<[u8], [u8]>(&arguments.service).server()?;
    // A request is handed over when a worker is free; until then those behind it stay where they are.
    let (sender, tickets) = sync_channel::<Ticket<[u8], [u8]>>(0);
    let tickets = Mutex::new(tickets);
    std::thread::scope(|scope| -> Result<(), Failure> {
        for _ in 0..arguments.jobs {
            scope.spawn(|| work(arguments, &tickets));
        }
        let sender = sender;
        loop {
            // One that cannot be put off is for parts, which a command has none of; its client is told that there is no answer.
            match server.recv().map(Request::defer)? {
                Ok(ticket) => sender.send(ticket)?,
                Err(error) => tell(&error.to_string()),
            }
        }
    })
}

fn work(arguments: &Arguments, tickets: &Mutex<Receiver<Ticket<[u8], [u8]>>>) {
    // Whoever has the lock waits for the next ticket; the others wait for the lock.
    let next = || tickets.lock().ok().and_then(|tickets| tickets.recv().ok());
    while let Some(ticket) = next() {
        let is_over = || ticket.is_cancelled();
        match job::run(&arguments.command, &ticket, arguments.max_answer, is_over) {
            Outcome::Answer(answer) => ticket.answer(&answer),
            Outcome::Failure(failure) => ticket.fail(Text::new(&failure)),
            Outcome::Unwanted => drop(ticket),
        }
    }
}
