//! Services across the network.
//!
//! A server is a queryable, a call a query. How long an answer is waited for goes along as a length of time, not as a time of day:
//! clocks of machines may be hours apart.

mod incoming;
mod outgoing;

use serde_json::{Value, json};
use tidepost::{Payload, ServiceTypes, Text, TypeDescriptor};

pub(super) use incoming::ServiceIn;
pub(super) use outgoing::ServiceOut;

use super::context::Context;
use super::port::PortError;
use crate::link::LinkError;
use crate::names;

/// Where a gateway says what the types of a service are.
fn types_key(context: &Context, name: &str) -> String {
    format!("{}/@s/{}", context.options.realm, names::escape(name))
}

/// Where calls are given up.
fn cancel_key(context: &Context, name: &str) -> String {
    format!("{}/@c/{}", context.options.realm, names::escape(name))
}

/// The types of a service, as a gateway says them: the encodings, each of which can be asked for.
fn encodings_of(context: &Context, types: &ServiceTypes) -> Result<String, LinkError> {
    let [request, answer, failure] = [&types.request, &types.answer, &types.failure];
    let told = json!({
        "request": &*context.tell_type(request)?,
        "answer": &*context.tell_type(answer)?,
        "failure": &*context.tell_type(failure)?,
    });
    Ok(told.to_string())
}

/// The types that a gateway says.
fn types_of(context: &Context, told: &[u8]) -> Result<ServiceTypes, PortError> {
    let told: Value = serde_json::from_slice(told)?;
    let read = |what: &str| -> Result<TypeDescriptor, PortError> {
        let encoding = told.get(what).and_then(Value::as_str);
        Ok(context
            .type_of(encoding.ok_or_else(|| format!("its gateway does not say the type of its {what}s"))?)?)
    };
    Ok(ServiceTypes::new(read("request")?, read("answer")?, read("failure")?))
}

/// What a service fails with if nobody says otherwise.
fn text() -> TypeDescriptor {
    Text::descriptor().expect("the type of texts is known when the program is built")
}
