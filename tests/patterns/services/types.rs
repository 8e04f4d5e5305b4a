//! Types of requests, answers and failures, which both ends have to agree about.

use tidepost::{CallError, Client, Message, Server, ServiceError, Text, Untyped};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::services::stage::{Domain, Doubler, PATIENCE, meet, next, start, until};

/// What a server says when it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Trouble {
    code: u32,
    place: [u16; 2],
}

#[test]
fn failures_may_be_structs_or_slices() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let trouble = Trouble { code: 7, place: [1, 2] };
    let mut server: Server<u64, u64, Trouble> =
        there.service("struct").failure().server().expect("the service is ours");
    let serving = start(move || {
        for _ in 0..2 {
            let request = next(&mut server);
            if *request == 0 { request.fail(&trouble) } else { request.answer(&1) }.expect("it is there");
        }
        next(&mut server).defer().expect("one answer is wanted").fail(&trouble);
        assert!(server.try_recv().expect("receiving succeeds").is_none());
        server
    });
    let mut client: Client<u64, u64, Trouble> =
        here.service("struct").failure().client().expect("they agree");
    meet(&mut client);
    assert_eq!(*client.call(&1, PATIENCE).expect("it answers"), 1);
    for _ in 0..2 {
        let error = client.call(&0, PATIENCE).expect_err("it fails");
        let CallError::Failed { failure, .. } = &error else { panic!("{error}") };
        assert_eq!(**failure, trouble);
        assert!(error.to_string().contains("Trouble { code: 7"), "{error}");
    }
    drop(serving.finish());
    let mut server: Server<u64, u64, [u32]> =
        there.service("slice").failure().server().expect("the service is ours");
    let mut client: Client<u64, u64, [u32]> = here.service("slice").failure().client().expect("they agree");
    meet(&mut client);
    for length in [0, 3, 50_000] {
        let call = client.send(&1, PATIENCE).expect("there is room");
        next(&mut server).fail(&vec![length; length as usize]).expect("the client is there");
        let error = client.wait(call, PATIENCE).expect_err("it fails");
        let CallError::Failed { failure, .. } = error else { panic!("{error}") };
        assert!(*failure == *vec![length; length as usize]);
    }
}

#[test]
fn texts_are_asked_and_answered() {
    let domain = Domain::new();
    let mut server: Server<Text, Text> = domain.node("there").service("text").server().expect("ours");
    let handle = server.handle();
    let serving = start(move || {
        server.serve(|request| match request.to_text().as_ref() {
            "" => Err("say something".to_owned()),
            text => Ok(TextOf(text.to_uppercase())),
        })
    });
    let mut client: Client<Text, Text> = domain.node("here").service("text").client().expect("they agree");
    meet(&mut client);
    assert_eq!(client.call(Text::new("grüezi"), PATIENCE).expect("it answers").to_text(), "GRÜEZI");
    let error = client.call(Text::new(""), PATIENCE).expect_err("it fails");
    assert_eq!(error.to_string(), "service `text` failed: \"say something\"");
    handle.cancel();
    serving.finish().expect("it was cancelled");
}

/// A text that is owned.
struct TextOf(String);

impl std::borrow::Borrow<Text> for TextOf {
    fn borrow(&self) -> &Text {
        Text::new(&self.0)
    }
}

/// What the client is told when it comes to a server, and what it is told, and the server, when the server comes later.
fn differs<Req, Resp, E>(domain: &Domain, what: &str)
where
    Req: tidepost::Payload + ?Sized + 'static,
    Resp: tidepost::Payload + ?Sized + 'static,
    E: tidepost::Payload + std::fmt::Debug + ?Sized + 'static,
{
    let name = format!("differs-{}", what.replace(' ', "-"));
    let (here, there) = (domain.node("here"), domain.node("there"));
    let server = there.service::<u64, u64>(&name).server().expect("the service is ours");
    let refused = match here.service::<Req, Resp>(&name).failure::<E>().client() {
        Err(ServiceError::TypeMismatch { refused, .. }) => refused.to_string(),
        Err(error) => panic!("{error}"),
        // On a busy machine it may be made before it hears of the server.
        Ok(client) => {
            until("the client knows", || !client.refusals().is_empty());
            client.refusals()[0].to_string()
        }
    };
    assert!(refused.contains(what), "{what}: {refused}");
    until("the server knows", || server.refusals().iter().any(|refused| refused.to_string().contains(what)));
    drop(server);
    let mut client = here.service::<Req, Resp>(&name).failure::<E>().client().expect("nobody is there");
    let server = there.service::<u64, u64>(&name).server().expect("the service is ours");
    until("the client knows", || client.refusals().iter().any(|refused| refused.to_string().contains(what)));
    until("the server knows", || server.refusals().iter().any(|refused| refused.to_string().contains(what)));
    assert_eq!(client.servers(), 0);
    let request = vec![0; Req::EXACT_BYTES.unwrap_or(1)];
    let request = Req::ref_from_bytes(&request).ok();
    if let Some(request) = request {
        let error = client.call(request, PATIENCE).map(drop).expect_err("nobody is there");
        assert!(error.to_string().contains("refused by"), "{error}");
    }
}

#[test]
fn a_type_that_is_another_is_named_at_both_ends() {
    let domain = Domain::new();
    differs::<u8, u64, Text>(&domain, "the other direction");
    differs::<u64, [u8; 8], Text>(&domain, "name differs");
    differs::<u64, u64, Trouble>(&domain, "failure");
    differs::<u64, [u64], Text>(&domain, "differs");
}

#[test]
fn a_client_without_types_takes_whatever_the_server_has() {
    let domain = Domain::new();
    let _server = Doubler::start(&domain.node("there"), "double");
    let node = domain.node("here");
    let mut client: Client<Untyped, Untyped, Untyped> =
        node.service_dyn("double").client().expect("there is a server");
    meet(&mut client);
    let answer = client.call(Untyped::new(&21u64.to_ne_bytes()), PATIENCE).expect("it answers");
    assert_eq!(answer.as_bytes(), 42u64.to_ne_bytes());
    drop(answer);
    let error = client.call(Untyped::new(&u64::MAX.to_ne_bytes()), PATIENCE).expect_err("it is too large");
    let CallError::Failed { failure, .. } = &error else { panic!("{error}") };
    assert_eq!(failure.as_bytes(), b"too large");
    for wrong in [0, 7, 9, 1000] {
        let error = client.call(Untyped::new(&vec![0; wrong]), PATIENCE).expect_err("it has another length");
        assert!(matches!(error, CallError::Send { .. }), "{wrong} B: {error}");
    }
    let answer = client.call(Untyped::new(&4u64.to_ne_bytes()), PATIENCE).expect("it is still there");
    assert_eq!(answer.as_bytes(), 8u64.to_ne_bytes());
}
