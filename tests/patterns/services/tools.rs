//! What is asked in place, and by those who know no types.

use std::time::Duration;

use tidepost::{CallError, Untyped};

use crate::services::stage::{Domain, Doubler, PATIENCE, client};

#[test]
fn a_request_is_written_where_it_is_read() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server = there.service::<[u32], u64>("sum").server().expect("the service is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || {
        server.serve(|numbers| Ok::<u64, &str>(numbers.iter().map(|number| u64::from(*number)).sum()))
    });
    let mut client = here.service::<[u32], u64>("sum").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    // In a slot, and in the pool.
    for count in [3, 100_000, 0, 7] {
        let mut loan = client.loan_slice(count, PATIENCE).expect("there is room");
        assert_eq!(loan.len(), count);
        (0..).zip(loan.iter_mut()).for_each(|(number, place)| *place = number);
        assert!(loan.iter().copied().eq(0..count as u32), "what was written is there");
        let sum = (count as u64 * (count as u64).saturating_sub(1)) / 2;
        assert_eq!(*loan.call(PATIENCE).expect("it answers"), sum);
        // One that is given up sends nothing, and the next call is another.
        drop(client.loan_slice(count, PATIENCE).expect("there is room"));
        assert_eq!(*client.call(&[1, 2], PATIENCE).expect("it answers"), 3);
    }
    let calls: Vec<_> = (1..=5)
        .map(|number| {
            let mut loan = client.loan_slice(1, PATIENCE).expect("there is room");
            loan[0] = number;
            loan.send(PATIENCE)
        })
        .collect();
    for (number, call) in (1..).zip(calls) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it answers"), number);
    }
    let error = client.loan_slice(usize::MAX, PATIENCE).expect_err("nobody has as much");
    assert!(matches!(error, CallError::Send { .. }), "{error}");
    handle.cancel();
    serving.join().expect("it does not panic").expect("serving ends with a cancel");
    drop(there);
}

#[test]
fn there_is_no_room_where_there_is_no_server() {
    let domain = Domain::new();
    let node = domain.node("alone");
    let error = client(&node, "nothing").loan(Duration::MAX).map(drop).expect_err("there is none");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
}

/// The fear: whoever knows no types sends what is none, and both lose their connection.
#[test]
fn those_who_know_no_types_are_told_them() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut client = here.service_dyn("double").sticky().client().expect("nobody is there yet");
    assert_eq!(client.server_types(), None);
    let _server = Doubler::start(&there, "double");
    client.wait_for_servers(1, PATIENCE).expect("it comes");
    let types = client.server_types().expect("there is a server");
    let names = [&types.request, &types.answer, &types.failure].map(|of| of.name.to_string());
    assert_eq!(names, ["u64", "u64", "text"]);
    for length in [0, 7, 9] {
        let error =
            client.call(Untyped::new(&vec![0; length]), PATIENCE).map(drop).expect_err("it is no u64");
        assert!(error.to_string().contains(&format!("{length} B are no message of type")), "{error}");
    }
    let answer = client.call(Untyped::new(&21u64.to_ne_bytes()), PATIENCE).expect("it answers");
    assert_eq!(**answer, 42u64.to_ne_bytes());
    drop(answer);
    let failed = client.call(Untyped::new(&u64::MAX.to_ne_bytes()), PATIENCE).map(drop);
    let Err(CallError::Failed { failure, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(&**failure, b"too large");
    assert_eq!((here.violations().0, there.violations().0), (0, 0));
}
