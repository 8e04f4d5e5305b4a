//! Answers that are written in place.

use tidepost::{CallError, Client, Message, Server};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::services::stage::{Domain, PATIENCE, meet, next, pair, start};

#[test]
fn an_answer_is_made_from_its_request_in_place() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<[u64; 200], [u64; 200]>(&domain);
    let request: [u64; 200] = std::array::from_fn(|index| index as u64);
    let call = client.send(&request, PATIENCE).expect("there is room");
    let mut loan = next(&mut server).loan().expect("there is room");
    assert_eq!(*loan.request(), request);
    let (request_there, answer) = loan.both();
    answer.iter_mut().zip(request_there).for_each(|(answer, word)| *answer = word + 1);
    assert!(loan.iter().copied().eq(1..201));
    loan[0] = 1000;
    loan.send().expect("the client is there");
    let answer = client.wait(call, PATIENCE).expect("it was answered");
    assert!(answer[0] == 1000 && answer[1..].iter().copied().eq(2..201));
}

/// Whether the stream has room or not, and whether the answer lies in its slot or in the pool.
#[test]
fn loans_are_the_same_without_room() {
    let domain = Domain::new();
    let there = domain.node("there");
    let mut server: Server<[u32], [u32]> =
        there.service("service").depth(8).server().expect("the service is ours");
    let mut client: Client<[u32], [u32]> =
        domain.node("here").service("service").client().expect("the types agree");
    meet(&mut client);
    let length =
        |number: u32| (number * 7919 % 1000) as usize * if number.is_multiple_of(5) { 100 } else { 1 };
    let calls: Vec<_> = (0..60)
        .map(|number| {
            let call = client.send(&vec![number; length(number)], PATIENCE).expect("there is room");
            let request = next(&mut server);
            let count = request.len();
            let mut loan = request.loan_slice(count).expect("there is memory");
            assert_eq!(loan.len(), count);
            let (request, answer) = loan.both();
            answer.copy_from_slice(request);
            loan.iter_mut().for_each(|word| *word += 1);
            if number % 7 == 3 {
                drop(loan);
            } else {
                loan.send().expect("the client is there");
            }
            call
        })
        .collect();
    let serving = start(move || drop(next(&mut server)));
    for (call, number) in calls.into_iter().zip(0..) {
        match client.wait(call, PATIENCE) {
            Ok(answer) => assert!(*answer == *vec![number + 1; length(number)], "call {number}"),
            Err(CallError::Unanswered { .. }) => assert_eq!(number % 7, 3),
            Err(error) => panic!("call {number}: {error}"),
        }
    }
    client.notify(&[], PATIENCE).expect("there is room");
    serving.finish();
}

macro_rules! aligned {
    ($($name:ident $align:literal),*) => {
        $(
            #[derive(Clone, Copy, Debug, PartialEq, Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C, align($align))]
            struct $name([u8; 64]);
        )*
    };
}
aligned!(Of16 16, Of32 32, Of64 64);

/// Requests and answers of these types, as one message and as slices of several lengths.
fn exchange<A: Message + Copy + PartialEq, B: Message + Copy + PartialEq>(domain: &Domain, a: A, b: B) {
    let name = format!("{}-{}", align_of::<A>(), align_of::<B>());
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server: Server<A, B> = there.service(&name).server().expect("the service is ours");
    let mut client: Client<A, B> = here.service(&name).client().expect("the types agree");
    meet(&mut client);
    for in_place in [false, true, false] {
        let call = client.send(&a, PATIENCE).expect("there is room");
        let request = next(&mut server);
        assert!(*request == a && (&raw const *request).addr().is_multiple_of(align_of::<A>()));
        if in_place {
            let mut loan = request.loan().expect("there is room");
            assert!((&raw const *loan).addr().is_multiple_of(align_of::<B>()));
            *loan = b;
            loan.send().expect("the client is there");
        } else {
            request.answer(&b).expect("the client is there");
        }
        let answer = client.wait(call, PATIENCE).expect("it was answered");
        assert!(*answer == b && (&raw const *answer).addr().is_multiple_of(align_of::<B>()));
    }
    let slices = format!("slices-{name}");
    let mut server: Server<[A], [B]> = there.service(&slices).server().expect("the service is ours");
    let mut client: Client<[A], [B]> = here.service(&slices).client().expect("the types agree");
    meet(&mut client);
    for count in [0, 1, 3, 1000] {
        let call = client.send(&vec![a; count], PATIENCE).expect("there is room");
        let request = next(&mut server);
        assert!(*request == *vec![a; count] && request.as_ptr().addr().is_multiple_of(align_of::<A>()));
        request.answer(&vec![b; count]).expect("the client is there");
        let answer = client.wait(call, PATIENCE).expect("it was answered");
        assert!(*answer == *vec![b; count] && answer.as_ptr().addr().is_multiple_of(align_of::<B>()));
        assert_eq!(answer.len(), count);
    }
}

#[test]
fn messages_lie_as_their_types_ask() {
    let domain = Domain::new();
    let (a, b, c) = (Of16([1; 64]), Of32([2; 64]), Of64([3; 64]));
    exchange(&domain, a, c);
    exchange(&domain, c, b);
    exchange(&domain, b, a);
    exchange(&domain, 7u8, c);
    exchange(&domain, c, 7u8);
    exchange(&domain, [1u16; 28], [2u64; 6]);
}
