//! Plans the objects of a service.

use murmur_mesh::config::{SidecarConfig, StreamIdentity};
use murmur_plan::microservice::{self, BusSecrets, Input, Neighbours, ValidMicroservice};
use murmur_plan::subscription::ValidSubscription;
use murmur_plan::{Invalid, Object, Settings};

use super::database::Database;
use super::generation::{Settled, settle};
use super::upgrade::Sidecar;
use crate::bus::Published;

/// What should be in the cluster and on the bus.
pub(super) struct Plan {
    /// Objects, in the order in which they are applied.
    pub(super) objects: Vec<Object>,
    /// The generation of the sidecar's configuration.
    pub(super) generation: u64,
    /// The configuration to publish, when the bus lacks it.
    pub(super) publish: Option<SidecarConfig>,
}

/// What is known of the configurations that are there.
pub(super) struct Known<'a> {
    /// Which event store there is, if it is known.
    pub(super) event_store: Option<StreamIdentity>,
    /// What the ConfigMap holds.
    pub(super) told: Option<&'a SidecarConfig>,
    /// What the bus holds; `None` while it cannot be asked.
    pub(super) published: Option<&'a Published>,
}

/// Plans.
#[allow(clippy::too_many_arguments)] // It is all that there is to know.
pub(super) fn plan(
    settings: &Settings,
    service: &ValidMicroservice,
    subscriptions: &[ValidSubscription],
    neighbours: &Neighbours,
    secrets: &BusSecrets,
    sidecar: &Sidecar,
    database: Option<&Database>,
    known: Known<'_>,
) -> Result<Plan, Invalid> {
    let config = microservice::config(service, subscriptions, neighbours, known.event_store, known.told);
    let Settled { config, publish } = settle(&config, &secrets.user_jwt, known.told, known.published);
    let objects = microservice::plan(&Input {
        settings,
        service,
        subscriptions,
        secrets,
        sidecar: &sidecar.release,
        upgraded_from: sidecar.upgraded_from.as_deref(),
        config: &config,
        database: database.map(Database::known),
    })?;
    Ok(Plan { objects, generation: config.generation, publish })
}
