//! The census for programs.

use serde_json::{Map, Value, json};
use tidepost::{EndpointId, EndpointRole, NodeReport, OutletReport, Pattern, TypeDescriptor};

use super::census::{Census, Channel, PATTERNS, Party, command_line};
use super::words;
use crate::text;

pub fn of(census: &Census<'_>) -> Value {
    let mut object = Map::new();
    object.insert("nodes".to_owned(), census.nodes.iter().map(node).collect());
    for pattern in PATTERNS {
        let channels = census.of_pattern(pattern);
        let channels = channels.map(|(name, channel)| channel_of(census, pattern, name, channel));
        object.insert(format!("{}s", words::pattern(pattern)), channels.collect());
    }
    object.into()
}

fn node(node: &NodeReport) -> Value {
    json!({
        "id": node.id.to_string(),
        "name": &*node.name,
        "pid": node.pid,
        "command": command_line(node.pid),
        "answered": node.has_answered,
    })
}

fn channel_of(census: &Census<'_>, pattern: Pattern, name: &str, channel: &Channel<'_>) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), name.into());
    for (role, _, plural) in words::roles(pattern) {
        let parties = census.in_role(channel, *role);
        let parties = parties.into_iter().map(|(id, party)| match (role, party.outlet) {
            (EndpointRole::Client | EndpointRole::Server, _) => caller(census, id, party),
            (EndpointRole::Receiver, _) => receiver(census, id, party),
            (_, Some(outlet)) => sender(census, outlet),
            (_, None) => Value::Null,
        });
        object.insert((*plural).to_owned(), parties.collect());
    }
    object.into()
}

/// Also that of who passes on what a writer has left.
fn sender(census: &Census<'_>, outlet: &OutletReport) -> Value {
    let owner = census.owner(outlet.id);
    let readers = outlet.readers.iter().map(|reader| {
        let owner = census.owner(reader.id);
        json!({
            "id": reader.id.to_string(),
            "node": owner.name,
            "pid": owner.pid,
            "reliable": reader.is_reliable,
            "lag": reader.lag,
            "lost": reader.lost,
            "blocking": reader.is_blocking,
        })
    });
    json!({
        "id": outlet.id.to_string(),
        "node": owner.name,
        "pid": owner.pid,
        "type": type_name(outlet.message_type.as_ref()),
        "policy": outlet.policy,
        "sent": outlet.sent,
        "waiting": outlet.waiting,
        "blocked": outlet.is_blocked,
        "readers": readers.collect::<Vec<_>>(),
    })
}

/// What only the receiver itself knows is `null` if its node did not answer.
fn receiver(census: &Census<'_>, id: EndpointId, party: &Party<'_>) -> Value {
    let (owner, own) = (census.owner(id), party.inlet);
    json!({
        "id": id.to_string(),
        "node": owner.name,
        "pid": owner.pid,
        "answered": own.is_some(),
        "type": own.and_then(|own| type_name(own.message_type.as_ref())),
        "standing": party.standing(),
        "publishers": own.map(|own| own.publishers),
        "received": own.map(|own| own.received),
        "lost": party.lost(),
        "lag": party.lag(),
        "blocking": party.is_blocking(),
    })
}

/// A client or a server.
fn caller(census: &Census<'_>, id: EndpointId, party: &Party<'_>) -> Value {
    let (owner, inlet, outlet) = (census.owner(id), party.inlet, party.outlet);
    json!({
        "id": id.to_string(),
        "node": owner.name,
        "pid": owner.pid,
        "answered": inlet.is_some(),
        "takes": inlet.and_then(|inlet| type_name(inlet.message_type.as_ref())),
        "gives": outlet.and_then(|outlet| type_name(outlet.message_type.as_ref())),
        "connected": inlet.map(|inlet| inlet.publishers),
        "received": inlet.map(|inlet| inlet.received),
        "sent": outlet.map(|outlet| outlet.sent),
        "lag": party.lag(),
    })
}

fn type_name(message_type: Option<&TypeDescriptor>) -> Option<String> {
    message_type.map(text::type_name)
}
