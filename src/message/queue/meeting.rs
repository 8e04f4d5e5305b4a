//! Queues without depth: each item is offered to one consumer at a time, and withdrawn if it does not take it.

use std::time::{Duration, Instant};

use super::core::Core;
use super::lane::{Eagerness, Lane, Put, Unfit};
use crate::node::EndpointId;

/// Looks at an offer that is not taken, before it goes to a consumer that asks instead.
const LOOKS_BEFORE_MOVING: u32 = 3;
/// How long an offer stays with a consumer that sleeps while another wants it too: to wake up takes much less, unless it is
/// stopped.
const WAKING_MAX: Duration = Duration::from_millis(2);

/// An item that is offered to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It may take this item, at which we have looked so often. If others want it too, it goes to one of them then.
    To { consumer: EndpointId, item: u64, looks: u32, moves_at: Option<Instant> },
    /// It took it, and has gone since.
    Taken,
}

impl Core {
    /// Offers an item to the consumer that wants one most, or looks what has become of the offer: whether it has been taken.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> Result<bool, Unfit> {
        let Some(offered) = self.offered else {
            self.offer_anew(bytes)?;
            return Ok(false);
        };
        let Offered::To { consumer, item, looks, .. } = offered else {
            self.offered = None;
            return Ok(true);
        };
        let Some(place) = self.lanes.iter().position(|lane| lane.inlet == consumer) else {
            // It takes nothing any more, and has not taken this.
            self.offered = None;
            self.offer_anew(bytes)?;
            return Ok(false);
        };
        if self.lanes[place].has_taken(item) {
            self.offered = None;
            return Ok(true);
        }
        if !self.is_wanted_more_elsewhere(place, looks) {
            return Ok(false);
        }
        if self.lanes[place].eagerness() == Eagerness::Sleeps {
            self.lanes[place].pass_over();
        }
        self.offered = None;
        if !self.lanes[place].withdraw(item) {
            return Ok(true);
        }
        self.offer_anew(bytes)?;
        Ok(false)
    }

    /// Whether anybody would take an item now.
    pub(super) fn is_wanted(&self) -> bool {
        self.lanes.iter().any(|lane| lane.space() > 0 && lane.eagerness() > Eagerness::None)
    }

    /// When the producer, if it sleeps, has to look at its offer again, though nobody wakes it.
    pub(super) fn moves_at(&self) -> Option<Instant> {
        self.offered.and_then(|offered| match offered {
            Offered::To { moves_at, .. } => moves_at,
            Offered::Taken => None,
        })
    }

    fn is_wanted_more_elsewhere(&mut self, place: usize, looks: u32) -> bool {
        let (here, there) = (self.lanes[place].eagerness(), self.eagerness_but(place));
        let Some(Offered::To { looks: count, moves_at, .. }) = &mut self.offered else { return false };
        *count = looks.saturating_add(1);
        if there == Eagerness::None {
            *moves_at = None;
            return false;
        }
        let moves_at = *moves_at.get_or_insert_with(|| Instant::now() + WAKING_MAX);
        match here {
            Eagerness::Sleeps => Instant::now() >= moves_at,
            _ => there == Eagerness::Sleeps || looks >= LOOKS_BEFORE_MOVING,
        }
    }

    /// How much the others want an item that may have it.
    fn eagerness_but(&self, place: usize) -> Eagerness {
        let others = self.lanes.iter().enumerate();
        let others = others.filter(|(other, lane)| *other != place && lane.space() > 0);
        others.map(|(_, lane)| lane.eagerness()).max().unwrap_or(Eagerness::None)
    }

    fn offer_anew(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        if !self.is_clear() {
            return Ok(());
        }
        let count = self.lanes.len();
        let due = (0..count).map(|ahead| (self.current + ahead) % count);
        let places: Vec<usize> = due.filter(|place| self.lanes[*place].space() > 0).collect();
        let Some(best) = places.iter().map(|place| self.lanes[*place].eagerness()).max() else {
            return Ok(());
        };
        let Some(&place) = places.iter().find(|place| self.lanes[**place].eagerness() == best) else {
            return Ok(());
        };
        let item = self.lanes[place].tail();
        if self.lanes[place].put(bytes, false)? == Put::Done {
            let consumer = self.lanes[place].inlet;
            self.lanes.iter_mut().for_each(|lane| lane.note_asked());
            // Whoever asks from now on wakes us; who sleeps already does not.
            let is_contended = self.eagerness_but(place) > Eagerness::None;
            let moves_at = is_contended.then(|| Instant::now() + WAKING_MAX);
            self.offered = Some(Offered::To { consumer, item, looks: 0, moves_at });
            self.lanes[place].wake();
            self.current = place;
            self.turn();
        }
        Ok(())
    }

    /// Nobody is to take the item any more: whether nobody has.
    pub(super) fn withdraw_offer(&mut self) -> bool {
        match self.offered.take() {
            None => true,
            Some(Offered::Taken) => false,
            Some(Offered::To { consumer, item, .. }) => {
                let lane = self.lanes.iter_mut().find(|lane| lane.inlet == consumer);
                lane.is_none_or(|lane| lane.withdraw(item))
            }
        }
    }

    /// A consumer takes nothing any more: what it has been offered it has taken or will not get.
    pub(super) fn end_offer(&mut self, lane: &mut Lane) {
        if let Some(Offered::To { consumer, item, .. }) = self.offered
            && consumer == lane.inlet
        {
            self.offered = if lane.withdraw(item) { None } else { Some(Offered::Taken) };
        }
    }
}
