//! Who is in the domain, and what they give and take.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tidepost::{EndpointError, EndpointId, EndpointRole, Node, NodeId, NodeReport, Pattern, TypeDescriptor};

use super::NODE_NAME;

/// What programs do under one name, bridges not counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    /// Those who send: publishers, producers, writers, notifiers.
    pub(crate) senders: Vec<Endpoint>,
    /// Those who receive.
    pub(crate) receivers: Vec<Endpoint>,
    pub(crate) servers: Vec<Endpoint>,
    pub(crate) clients: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// What it sends, or takes.
    pub(crate) message_type: Option<TypeDescriptor>,
    /// The same of the other direction, of a client.
    pub(crate) answer_type: Option<TypeDescriptor>,
    /// Its overflow policy, if it sends.
    pub(crate) policy: &'static str,
    /// Messages that it keeps for those who join later.
    pub(crate) history: u32,
}

/// Whether the domain gives something to others, or takes something from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) gives: bool,
    pub(super) takes: bool,
}

/// What each node said last.
pub(super) type Answers = HashMap<NodeId, NodeReport>;

/// The domain at one moment.
#[derive(Debug, Default)]
pub(super) struct Census {
    names: BTreeMap<(Pattern, String), Local>,
}

static NOBODY: Local =
    Local { senders: Vec::new(), receivers: Vec::new(), servers: Vec::new(), clients: Vec::new() };

impl Census {
    /// Asks every node of the domain. Of one that does not answer, being stopped for instance, `before` says what it had.
    pub(super) fn take(node: &Node, timeout: Duration, before: &mut Answers) -> Result<Self, EndpointError> {
        let mut census = Self::default();
        let mut reports = node.inspect(timeout)?;
        for report in &mut reports {
            if !report.has_answered
                && let Some(before) = before.get(&report.id)
            {
                report.clone_from(before);
            }
        }
        *before = reports.iter().map(|report| (report.id, report.clone())).collect();
        let programs = reports.into_iter().filter(|report| !is_bridge(&report.name));
        for report in programs {
            let mut answers: BTreeMap<EndpointId, Option<TypeDescriptor>> = BTreeMap::new();
            for inlet in report.subscribers {
                let of = Endpoint {
                    id: inlet.id,
                    message_type: inlet.message_type,
                    answer_type: None,
                    policy: "",
                    history: 0,
                };
                let local = census.names.entry((inlet.pattern, inlet.name)).or_default();
                match inlet.role {
                    EndpointRole::Receiver => local.receivers.push(of),
                    EndpointRole::Server => local.servers.push(of),
                    EndpointRole::Client => {
                        answers.insert(of.id, of.message_type);
                    }
                    _ => {}
                }
            }
            for outlet in report.publishers {
                let answer_type = answers.remove(&outlet.id).flatten();
                let of = Endpoint {
                    id: outlet.id,
                    message_type: outlet.message_type,
                    answer_type,
                    policy: outlet.policy,
                    history: outlet.history,
                };
                let local = census.names.entry((outlet.pattern, outlet.name)).or_default();
                match outlet.role {
                    EndpointRole::Sender => local.senders.push(of),
                    EndpointRole::Client => local.clients.push(of),
                    _ => {}
                }
            }
        }
        Ok(census)
    }

    /// What is done under one name.
    pub(super) fn of(&self, pattern: Pattern, name: &str) -> &Local {
        self.names.get(&(pattern, name.to_owned())).unwrap_or(&NOBODY)
    }

    /// What the domain gives and takes.
    pub(super) fn demands(&self) -> impl Iterator<Item = (Pattern, &str, Demand)> {
        self.names.iter().map(|((pattern, name), local)| {
            let demand = match pattern {
                Pattern::Service => Demand {
                    gives: !local.servers.is_empty(),
                    // Who has a server of his own needs none elsewhere.
                    takes: !local.clients.is_empty() && local.servers.is_empty(),
                },
                // What bridges say of themselves stays here.
                Pattern::State if is_bridge(name) => Demand { gives: false, takes: false },
                Pattern::State => Demand {
                    gives: !local.senders.is_empty(),
                    takes: !local.receivers.is_empty() && local.senders.is_empty(),
                },
                Pattern::Topic | Pattern::Signal | Pattern::Queue => {
                    Demand { gives: !local.senders.is_empty(), takes: !local.receivers.is_empty() }
                }
                _ => Demand { gives: false, takes: false },
            };
            (*pattern, name.as_str(), demand)
        })
    }
}

/// Whether a node of this name is a bridge's.
fn is_bridge(name: &str) -> bool {
    name.strip_prefix(NODE_NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
