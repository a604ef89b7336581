//! What may go to the service at all, and how much of it at a time.

use murmur_filter::{Filter, Outcome};
use murmur_mesh::config::Ordering;
use murmur_mesh::event::attribute;
use tokio::time::Instant;

use super::Subscription;
use crate::deliver::lanes::Position;
use crate::deliver::request;
use crate::metrics::PassedOver;

impl Subscription {
    /// Compiles the filter of the terms.
    pub(super) fn compile(&mut self) {
        let filter = self.terms.subscription.filter.as_deref().map(Filter::compile).transpose();
        self.filter = filter.map_err(|error| error.to_string());
        self.show_hold();
    }

    /// Why an event is not for the service, if it is not.
    pub(super) fn passes_over(&mut self, position: Position) -> Option<PassedOver> {
        let held = self.lanes.get_mut(position)?;
        // The replay delivers the original.
        let replayed = self.target.replay.as_ref().is_some_and(|replay| position.sequence <= replay.boundary);
        if replayed && request::is_redriven(&held.message) {
            return Some(PassedOver::Redriven);
        }
        let Ok(Some(filter)) = &self.filter else { return None };
        let attributes: Vec<_> = request::attributes(&held.message).collect();
        let decoded = attributes.iter().map(|(name, value)| (*name, attribute::decoded(value)));
        let decoded: Vec<_> = decoded.collect();
        let borrowed = decoded.iter().map(|(name, value)| (*name, value.as_ref()));
        match filter.decide(borrowed, &held.message.payload) {
            Outcome::Passes => None,
            Outcome::Filtered => Some(PassedOver::Filtered),
            Outcome::Failed(cause) => {
                tracing::debug!(
                    subscription = %self.terms.subscription.name, sequence = position.sequence, %cause,
                    "the filter has no value for an event, which is passed over"
                );
                Some(PassedOver::FilterFailed)
            }
        }
    }

    /// How many events may be sent now, as far as the rate goes.
    pub(super) fn within_rate(&mut self, now: Instant) -> usize {
        self.next_token = None;
        let Some(limit) = self.terms.max_per_second() else { return usize::MAX };
        let per_second = f64::from(limit) * self.share();
        match self.rate.may_send(per_second, now) {
            Ok(events) => events,
            Err(next) => {
                self.next_token = Some(next);
                0
            }
        }
    }

    /// This pod's share of what the service receives.
    fn share(&self) -> f64 {
        match self.terms.subscription.ordering {
            Ordering::Key { shards } => {
                let held = self.pulls.iter().filter(|pull| pull.has_pin()).count();
                // What is left of a shard that another has by now goes out with that one's share.
                held.max(1) as f64 / f64::from(shards)
            }
            Ordering::None | Ordering::Strict => 1.0 / self.peers.number() as f64,
        }
    }
}
