//! What others see of a subscription: its numbers, and why it holds.

use std::sync::atomic::Ordering::Relaxed;

use murmur_mesh::report::held;

use super::{Projecting, Subscription};
use crate::board::Held;

impl Subscription {
    /// Shows how much it holds.
    pub(super) fn show(&self) {
        let held = self.lanes.len();
        if self.entry.buffered.swap(held, Relaxed) != held {
            self.metrics.buffered.set(i64::try_from(held).unwrap_or(i64::MAX));
        }
        let pending: u64 = self.pulls.iter().map(|pull| pull.pending).sum();
        if self.entry.pending.swap(pending, Relaxed) != pending {
            self.metrics.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
        let in_flight = i64::try_from(self.entry.in_flight.load(Relaxed)).unwrap_or(i64::MAX);
        self.metrics.in_flight.set(in_flight);
    }

    /// Shows why its events wait, if they do.
    pub(super) fn show_hold(&self) {
        let because = |reason, cause: &str| Held { reason, cause: cause.to_owned() };
        let filter = self.filter.as_ref().err().map(|cause| because(held::INVALID_FILTER, cause));
        let trouble = || self.projecting.as_ref().and_then(Projecting::trouble);
        let hold = || self.hold.cause().map(|cause| because(held::SERVICE_UNAVAILABLE, cause));
        let held = filter.or_else(trouble).or_else(hold);
        if self.runner.board.hold(&self.entry, held.clone()) {
            self.metrics.held.set(i64::from(held.is_some()));
            match held {
                Some(Held { reason, cause }) => tracing::warn!(
                    subscription = %self.terms.subscription.name, reason, %cause, "holds: its events wait"
                ),
                None => {
                    tracing::info!(subscription = %self.terms.subscription.name, "goes on");
                }
            }
        }
    }
}
