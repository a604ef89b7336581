//! What a subscription does when the connection comes or goes, or another server leads: which of what it holds is still
//! its own.

use murmur_mesh::subject;
use tokio::time::Instant;

use super::Subscription;
use crate::deliver::fence::Moment;

impl Subscription {
    /// The connection came or went.
    pub(super) fn relink(&mut self) {
        let link = self.runner.bus.link();
        for pull in &mut self.pulls {
            pull.said.unsure();
        }
        if link.connected && link.connects != self.connects {
            self.connects = link.connects;
            let now = Instant::now();
            for index in 0..self.pulls.len() {
                self.pulls[index].restart(now);
                self.shut_unsure(index, now);
            }
            self.next_marks = now;
        }
    }

    /// Hears of each new leader of its durables.
    pub(super) async fn watch_elections(&mut self) {
        for pull in &self.pulls {
            match self.runner.bus.client().subscribe(subject::leader_elected(&pull.durable)).await {
                Ok(elections) => self.elections.push(elections),
                Err(error) => tracing::error!(durable = %pull.durable, %error, "cannot hear who leads"),
            }
        }
    }

    /// What was on its way to the leader before may be lost.
    pub(super) fn is_led_anew(&mut self, told_on: &str) {
        let now = Instant::now();
        for pull in self.pulls.iter_mut().filter(|pull| subject::leader_elected(&pull.durable) == told_on) {
            tracing::debug!(durable = %pull.durable, "has a new leader");
            pull.is_led_anew(now);
        }
    }

    /// Whether all that is held is still ours.
    pub(super) fn fenced(&self) -> bool {
        if self.lanes.len() == 0 {
            return true;
        }
        let moment = Moment::now();
        self.pulls.iter().all(|pull| pull.held == 0 || pull.fence.holds(moment))
    }

    /// The broker was not heard for too long: what is held and what is in the
    /// inbox may be another's by now. Drops it and pulls anew, into a new inbox.
    pub(super) async fn start_anew(&mut self) {
        let moment = Moment::now();
        let connected = self.runner.bus.link().connected;
        for index in 0..self.pulls.len() {
            if self.pulls[index].fence.holds(moment) {
                continue;
            }
            self.drop_durable(index, "the bus was not heard for too long");
            // While it is away, its first word after it is back comes here again.
            if connected {
                self.pulls[index].fence.heard(moment);
                self.replace_inbox(index).await;
                self.shut_unsure(index, Instant::now());
            }
        }
    }

    pub(super) async fn replace_inbox(&mut self, index: usize) {
        if let Err(error) = self.inboxes.replace(index).await {
            tracing::error!(%error, "cannot receive");
        }
        self.pulls[index].restart(Instant::now());
    }

    /// Lets go of what is held of a durable, but for what is out.
    pub(super) fn drop_durable(&mut self, index: usize, why: &'static str) {
        let dropped = self.lanes.drop_durable(index).len();
        self.pulls[index].lacks();
        self.pulls[index].said.forget();
        self.recount();
        if dropped > 0 {
            tracing::info!(
                durable = %self.pulls[index].durable, events = dropped, why,
                "let go of what was not delivered yet"
            );
        }
    }
}
