//! What a reader has told its program of a table's changes, from writer to writer.

use std::collections::HashSet;

use super::view::TableView;
use crate::node::EndpointId;
use crate::sync::board::{Change, Following, ReadFault};

/// What has been told of one writer's entries, and of those before it.
pub(super) struct Told {
    writer: EndpointId,
    following: Following,
}

impl Told {
    /// That of this board; one begins anew with another writer's, of which some keys of the one before may not be.
    pub(super) fn of<'a>(told: &'a mut Option<Self>, view: &TableView) -> &'a mut Self {
        let before = told.take_if(|told| told.writer != view.writer);
        let believed = before.map_or_else(HashSet::new, |told| told.following.into_believed());
        told.get_or_insert_with(|| Self {
            writer: view.writer,
            following: Following::new(&view.reader, believed),
        })
    }

    /// Tells what has changed.
    pub(super) fn follow(&mut self, view: &TableView, tell: impl FnMut(Change<'_>)) -> Result<(), ReadFault> {
        self.following.changes(&view.reader, tell)
    }
}
