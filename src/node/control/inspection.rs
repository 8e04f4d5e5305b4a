//! Looking at what every node of the domain is doing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Control;
use crate::node::endpoint::{Hub, Peer};
use crate::node::error::EndpointError;
use crate::node::identity::NodeId;
use crate::node::report::{InletReport, NodeReport, OutletReport, ReportItem};
use crate::node::wire::Frame;

/// Entries that are sent in one frame, if they fit.
const ITEMS_PER_FRAME: usize = 64;

/// What has come in so far.
#[derive(Default)]
pub(super) struct Inspection {
    reports: HashMap<NodeId, NodeReport>,
    waiting: HashSet<NodeId>,
}

impl Control {
    /// Asks every node of the domain, and answers for ourselves.
    pub(in crate::node) fn inspect(&mut self) -> Result<(), EndpointError> {
        let failed = |source| EndpointError::of_directory("list the nodes of the domain".to_owned(), source);
        let notes = self.membership.domain().nodes().map_err(failed)?;
        let mut inspection = Inspection::default();
        for (node, name, pid) in notes {
            inspection.waiting.insert(node);
            inspection.reports.insert(node, NodeReport::silent(node, &name, pid));
        }
        let nodes: Vec<NodeId> = inspection.waiting.iter().copied().collect();
        self.inspection = Some(inspection);
        let own = self.own.clone();
        let items = self.items();
        self.reported(&own, true, items);
        for node in nodes.into_iter().filter(|node| *node != own.node) {
            match self.reach(node)? {
                Some(number) => self.send(number, &Frame::Inspect),
                None => self.answered(node),
            }
        }
        Ok(())
    }

    fn answered(&mut self, node: NodeId) {
        if let Some(inspection) = &mut self.inspection {
            inspection.waiting.remove(&node);
        }
    }

    /// Whether everybody has answered.
    pub(in crate::node) fn is_inspected(&self) -> bool {
        self.inspection.as_ref().is_none_or(|inspection| inspection.waiting.is_empty())
    }

    /// What has come in, sorted by name.
    pub(in crate::node) fn take_inspection(&mut self) -> Vec<NodeReport> {
        let inspection = self.inspection.take().unwrap_or_default();
        let mut reports: Vec<NodeReport> = inspection.reports.into_values().collect();
        reports.sort_by(|left, right| (&left.name, left.id).cmp(&(&right.name, right.id)));
        reports
    }

    /// A part of somebody's report. What nobody asked for is passed over.
    pub(super) fn reported(&mut self, peer: &Peer, is_last: bool, items: Vec<ReportItem>) {
        let Some(inspection) = &mut self.inspection else { return };
        if !inspection.waiting.contains(&peer.node) {
            return;
        }
        if let Some(report) = inspection.reports.get_mut(&peer.node) {
            items.into_iter().for_each(|item| report.add(item));
            report.has_answered = is_last;
        }
        if is_last {
            self.answered(peer.node);
        }
    }

    /// A node that is gone does not answer any more.
    pub(super) fn inspect_no_more(&mut self, node: NodeId) {
        if let Some(inspection) = &mut self.inspection
            && inspection.waiting.remove(&node)
        {
            inspection.reports.remove(&node);
        }
    }

    fn items(&self) -> Vec<ReportItem> {
        let hub_report = |(number, hub): (&u64, &Arc<dyn Hub>)| {
            let past = self.past_sent.get(number).copied().unwrap_or_default();
            let report = hub.report();
            (*number, OutletReport { sent: report.sent + past, ..report })
        };
        let mut hubs: BTreeMap<u64, OutletReport> = self.hubs.iter().map(hub_report).collect();
        let mut outlets = Vec::new();
        for record in self.outlets.values().filter(|record| !record.is_closed) {
            let report = record.outlet.report();
            match record.lane {
                None => outlets.push(report),
                Some(lane) => {
                    if let Some(hub) = hubs.get_mut(&lane.hub) {
                        hub.add_lane(report);
                    }
                }
            }
        }
        let inlets = self.inlets.iter().map(|(number, inlet)| {
            let report = inlet.report();
            let role = self.hubs.get(number).map_or(report.role, |hub| hub.role().into());
            ReportItem::Inlet(InletReport { role, ..report })
        });
        outlets
            .into_iter()
            .chain(hubs.into_values())
            .flat_map(OutletReport::into_items)
            .chain(inlets)
            .collect()
    }

    /// Answers a peer that asked.
    pub(super) fn report_to(&mut self, number: u64) {
        let items = self.items();
        for chunk in items.chunks(ITEMS_PER_FRAME) {
            self.send_items(number, chunk.to_vec());
        }
        self.send(number, &Frame::Report { is_last: true, items: Vec::new() });
    }

    /// Sends these entries in as many frames as they need.
    fn send_items(&mut self, number: u64, mut items: Vec<ReportItem>) {
        let frame = Frame::Report { is_last: false, items: items.clone() };
        if frame.encode().is_some() {
            return self.send(number, &frame);
        }
        let second = items.split_off(items.len() / 2);
        if items.is_empty() {
            // One type that fills a frame by itself goes without its fields.
            return self.send_items(number, second.into_iter().map(without_fields).collect());
        }
        self.send_items(number, items);
        self.send_items(number, second);
    }
}

fn without_fields(mut item: ReportItem) -> ReportItem {
    match &mut item {
        ReportItem::Outlet(OutletReport { message_type: Some(message_type), .. })
        | ReportItem::Inlet(InletReport { message_type: Some(message_type), .. }) => {
            message_type.fields.clear();
        }
        _ => {}
    }
    item
}
