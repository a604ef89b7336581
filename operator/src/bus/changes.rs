//! News from the bus that concern an object in the cluster.

use tokio::sync::broadcast;

/// The most news that wait for a controller; one that lags behind looks at
/// all its objects instead.
const LIMIT: usize = 4_096;

/// What changed on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The state of a mesh: all objects of this namespace.
    Mesh(String),
    /// What the pods of a service report: it and its subscriptions.
    Service {
        /// The mesh.
        mesh: String,
        /// The service.
        service: String,
    },
    /// How far a subscription is, or its durables.
    Subscription {
        /// The mesh.
        mesh: String,
        /// The subscription.
        subscription: String,
    },
}

/// Where news are sent to and heard.
#[derive(Debug, Clone)]
pub struct Changes(broadcast::Sender<Changed>);

impl Changes {
    /// A new channel.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(LIMIT))
    }

    /// Sends news; without a listener they are dropped.
    pub fn send(&self, changed: Changed) {
        // An error means that nobody listens, as before the controllers run.
        let _ = self.0.send(changed);
    }

    /// Hears all news from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.0.subscribe()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}
