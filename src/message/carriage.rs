//! Those who carry what a publisher sends, as that sees them.

use crate::node::{Carrying, EndpointId, Load};

/// Messages after which the subscriber is woken, to let go of what has been carried, or fewer if that is half of the ring; and how many
/// bytes they may have.
const UNREAD_MAX: usize = 256;
const UNREAD_BYTES_MAX: usize = 256 << 10;

/// Who carries for one subscriber.
struct Line {
    subscriber: EndpointId,
    carrying: Box<dyn Carrying>,
    /// Whether it carries the message that is being published.
    is_loaded: bool,
}

/// Those who carry what one publisher sends.
#[derive(Default)]
pub(super) struct Carriage {
    carriers: Vec<Line>,
    /// Those whose subscribers need not be woken.
    settled: Vec<EndpointId>,
    unread: usize,
    unread_bytes: usize,
}

impl Carriage {
    /// Some carriers come, and those of these subscribers go; whether there is any.
    pub(super) fn change(&mut self, new: Vec<(EndpointId, Box<dyn Carrying>)>, gone: &[EndpointId]) -> bool {
        self.carriers.retain(|line| !gone.contains(&line.subscriber));
        let line = |(subscriber, carrying)| Line { subscriber, carrying, is_loaded: false };
        self.carriers.extend(new.into_iter().map(line));
        !self.carriers.is_empty()
    }

    /// A message is about to be published, in a ring of so many slots.
    pub(super) fn load(&mut self, number: u64, message: &[u8], slots: usize) {
        self.carriers.retain_mut(|line| {
            let load = line.carrying.load(number, message);
            line.is_loaded = load == Load::Taken;
            load != Load::Over
        });
        let loaded = self.carriers.iter().filter(|line| line.is_loaded).map(|line| line.subscriber);
        self.settled.clear();
        self.settled.extend(loaded);
        self.unread += 1;
        self.unread_bytes = self.unread_bytes.saturating_add(message.len());
        if self.unread >= UNREAD_MAX.min(slots / 2) || self.unread_bytes >= UNREAD_BYTES_MAX {
            self.wake_all();
        }
    }

    /// The subscribers whose messages so far are settled, and who sleep on.
    pub(super) fn settled(&self) -> &[EndpointId] {
        &self.settled
    }

    /// All are to be woken: somebody waits for them to have read what is settled, too.
    pub(super) fn wake_all(&mut self) {
        self.settled.clear();
        (self.unread, self.unread_bytes) = (0, 0);
    }

    /// The message has been published.
    pub(super) fn carry(&mut self) {
        self.carriers.iter_mut().filter(|line| line.is_loaded).for_each(|line| line.carrying.carry());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::node::NodeId;

    const SLOTS: usize = 64;

    struct Told {
        says: Load,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Carrying for Told {
        fn load(&mut self, number: u64, message: &[u8]) -> Load {
            self.told.lock().expect("nobody panics").push(format!("load {number} {}", message.len()));
            self.says
        }
        fn carry(&mut self) {
            self.told.lock().expect("nobody panics").push("carry".to_owned());
        }
    }

    #[test]
    fn what_is_taken_is_carried_and_wakes_its_subscriber_seldom() {
        let node = NodeId::random().expect("there are random bits");
        let told = Arc::<Mutex<Vec<String>>>::default();
        let subscriber = |number| EndpointId { node, number };
        let carrying = |number, says| {
            (subscriber(number), Box::new(Told { says, told: Arc::clone(&told) }) as Box<dyn Carrying>)
        };
        let mut carriage = Carriage::default();
        assert!(!carriage.change(Vec::new(), &[]));
        let new = vec![carrying(1, Load::Over), carrying(2, Load::Taken), carrying(3, Load::Left)];
        assert!(carriage.change(new, &[]));
        carriage.load(7, b"four", SLOTS);
        assert_eq!(carriage.settled(), [subscriber(2)]);
        carriage.carry();
        assert_eq!(*told.lock().expect("nobody panics"), ["load 7 4", "load 7 4", "load 7 4", "carry"]);
        (1..SLOTS / 2 - 1).for_each(|_| carriage.load(8, b"", SLOTS));
        assert_eq!(carriage.settled(), [subscriber(2)]);
        carriage.load(9, b"", SLOTS);
        assert!(carriage.settled().is_empty(), "it is to let go of them");
        carriage.load(10, &[0; UNREAD_BYTES_MAX], SLOTS);
        assert!(carriage.settled().is_empty(), "it keeps much");
        carriage.load(11, b"", SLOTS);
        assert_eq!(carriage.settled(), [subscriber(2)]);
        assert_eq!(carriage.carriers.len(), 2, "one has ended");
        assert!(carriage.change(Vec::new(), &[subscriber(2)]));
        assert!(!carriage.change(Vec::new(), &[subscriber(3)]));
    }
}
