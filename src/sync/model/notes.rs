//! Notes: words that an inlet writes for its outlet, which may be asleep until one changes.

use super::*;

/// How many parts a client has taken, by its note.
struct Note(AtomicU64);

/// A server that sleeps until the client has taken both parts, as `Receiver::wait_beside` does, and a client that stores its
/// notes as `Attachment::note` does.
fn wait_for_notes(fence_of_server: fn(), must_ring: fn(&Arc<Ring>, &mut u64) -> bool) {
    let (ring, line, note) = (Ring::new(), Line::new(), Arc::new(Note(AtomicU64::new(0))));
    let payload = Arc::new(UnsafeCell::new(0));
    let taking = {
        let (ring, line, note, payload) =
            (Arc::clone(&ring), Arc::clone(&line), Arc::clone(&note), Arc::clone(&payload));
        thread::spawn(move || {
            let (mut rung, mut woken) = (0, 0);
            for taken in 1..=2 {
                // SAFETY: the protocol under test says that the server looks at it after the second note.
                payload.with_mut(|payload| unsafe { *payload = taken });
                note.0.store(taken, Ordering::Release);
                if must_ring(&ring, &mut rung) {
                    line.ring(&mut woken);
                }
            }
        })
    };
    let writer = Writer::new(Arc::clone(&ring), geometry());
    let mut epoch = 0;
    while note.0.load(Ordering::Acquire) < 2 {
        let seen = note.0.load(Ordering::Acquire);
        epoch += 1;
        let ticket = line.words().arm(Mode::Futex);
        writer.mark_blocked(epoch);
        fence_of_server();
        if seen < 2 && note.0.load(Ordering::Acquire) == seen {
            line.wait(ticket);
        }
        writer.mark_blocked(0);
        line.words().disarm();
    }
    // SAFETY: as above.
    assert_eq!(payload.with(|payload| unsafe { *payload }), 2);
    taking.join().unwrap();
}

#[test]
fn model_no_note_is_slept_through() {
    check(|| wait_for_notes(|| fence(Ordering::SeqCst), must_ring));
}

/// That the checker would notice: without the server's fence …
#[test]
#[should_panic(expected = "deadlock")]
fn model_without_the_servers_fence_a_note_is_slept_through() {
    check(|| wait_for_notes(|| (), must_ring));
}

/// … or the client's.
#[test]
#[should_panic(expected = "deadlock")]
fn model_without_the_clients_fence_a_note_is_slept_through() {
    let rings_without_fence = |ring: &Arc<Ring>, rung: &mut u64| {
        let epoch = ring.blocked().load(Ordering::Acquire);
        let must = epoch != 0 && epoch != *rung;
        *rung = if must { epoch } else { *rung };
        must
    };
    check(move || wait_for_notes(|| fence(Ordering::SeqCst), rings_without_fence));
}
