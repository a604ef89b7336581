//! A service's place on the bus.

use std::sync::Arc;

use murmur_mesh::ServiceName;
use murmur_mesh::config::{SidecarConfig, StreamIdentity};
use murmur_plan::subscription::{Place, ValidSubscription};

use crate::bus::{Mesh, Published, publish_config, read_config};
use crate::context::Context;
use crate::error::Error;

/// What the bus shows.
pub(super) struct Bus {
    /// Which event store there is; `None` while it is not known.
    pub(super) event_store: Option<StreamIdentity>,
    /// What it holds for the service, or why it cannot be asked.
    pub(super) published: Result<Published, Error>,
}

/// Asks the bus what it holds for a service.
pub(super) async fn look(mesh: &Arc<Mesh>, service: &ServiceName) -> Bus {
    match mesh.settled().await {
        Err(error) => Bus { event_store: None, published: Err(error.into()) },
        Ok(ready) => Bus {
            event_store: Some(ready.event_store),
            published: read_config(&ready.client, service).await.map_err(Error::Bus),
        },
    }
}

/// The subscriptions, each with its place on the bus; while that has not been
/// seen, the one that their sidecars were told.
pub(super) fn placed(
    mesh: &Mesh,
    subscriptions: &[ValidSubscription],
    told: Option<&SidecarConfig>,
) -> Vec<ValidSubscription> {
    let placed = subscriptions.iter().cloned().map(|mut subscription| {
        let told = || {
            let mut told = told.iter().flat_map(|config| &config.subscriptions);
            Place::told(told.find(|told| told.name == subscription.name)?.replay.clone()).into()
        };
        let seen = mesh.runs(&subscription).map(|runs| runs.place());
        subscription.place = seen.or_else(told).unwrap_or_default();
        subscription
    });
    placed.collect()
}

/// Publishes a configuration; it is stored when this returns.
pub(super) async fn publish(
    context: &Context,
    mesh: &Arc<Mesh>,
    config: &SidecarConfig,
) -> Result<(), Error> {
    publish_config(&mesh.ready()?.client, config).await?;
    context.metrics.configurations.inc();
    tracing::info!(
        mesh = mesh.name,
        service = config.service.as_str(),
        generation = config.generation,
        "published a configuration"
    );
    Ok(())
}
