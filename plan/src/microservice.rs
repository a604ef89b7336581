//! A Microservice: its validated form, the objects that it needs and what its
//! sidecar is told.

mod claim;
mod config;
mod database;
mod deployment;
mod neighbours;
mod network;
mod others;
mod pod;
mod sidecar;
mod talks;
mod validate;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use murmur_mesh::config as bus;
use murmur_mesh::config::SidecarConfig;
use std::collections::BTreeMap;

pub(crate) use claim::of as claim_of;
pub use config::config;
pub use neighbours::{Neighbours, Offer, concerns};
pub use talks::Call;
pub(crate) use validate::resources;
pub use validate::{Storage, ValidMicroservice, validate};

use crate::invalid::Invalid;
use crate::labels;
use crate::object::Object;
use crate::settings::Settings;
use crate::subscription::ValidSubscription;
use crate::upgrade::Release;

/// The name of the service's container.
pub const SERVICE_CONTAINER: &str = "service";
/// The name of the sidecar's container.
pub const SIDECAR_CONTAINER: &str = "murmur-sidecar";

/// What the sidecar's Secret holds. The operator makes it and keeps it: planning
/// is pure and makes no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BusSecrets {
    /// The user's JWT.
    pub user_jwt: String,
    /// The user's nkey seed.
    pub user_seed: String,
    /// The key for message ids, in hexadecimal.
    pub message_id_key: String,
    /// The token that deliveries carry.
    pub token: String,
}

impl std::fmt::Debug for BusSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BusSecrets(…)")
    }
}

/// What the objects of a service are planned from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The operator's settings.
    pub settings: &'a Settings,
    /// The service.
    pub service: &'a ValidMicroservice,
    /// The subscriptions that name it.
    pub subscriptions: &'a [ValidSubscription],
    /// What its Secret holds.
    pub secrets: &'a BusSecrets,
    /// The sidecar.
    pub sidecar: &'a Release,
    /// Its image before, while it is being upgraded.
    pub upgraded_from: Option<&'a str>,
    /// What its ConfigMap holds, as [`config`] made it.
    pub config: &'a SidecarConfig,
    /// What is known of its database server, if it has one.
    pub database: Option<crate::database::Known<'a>>,
}

/// The objects of a service, in the order in which they should be applied: the
/// Deployment comes last, so that its pods find all that they mount.
///
/// # Errors
/// When podOverrides do not fit.
pub fn plan(input: &Input<'_>) -> Result<Vec<Object>, Invalid> {
    let service = input.service;
    let deployment = deployment::deployment(input)?;
    let mut objects = vec![
        object(&service_account(service)),
        object(&secret(service, input.secrets)),
        object(&config_map(service, input.config)),
        object(&network::service(service)),
        object(&network::pods_service(service)),
        object(&network::policy(service)),
        object(&deployment::disruption_budget(service)),
    ];
    objects.extend(claim::claim(service).as_ref().map(object));
    let mut objects: Vec<Object> = objects.into_iter().collect::<Result<_, _>>()?;
    if let Some((server, known)) = service.database.as_ref().zip(input.database) {
        objects.extend(crate::database::objects(service, server, input.settings, known)?);
    }
    objects.push(deployment);
    Ok(objects)
}

pub(crate) fn object<K>(object: &K) -> Result<Object, Invalid>
where
    K: kube::Resource<DynamicType = ()> + serde::Serialize,
{
    Object::new(object).map_err(|error| Invalid::InvalidPodOverrides(error.to_string()))
}

fn service_account(service: &ValidMicroservice) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(service, service.name.to_string()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

fn secret(service: &ValidMicroservice, secrets: &BusSecrets) -> Secret {
    let entries = [
        (bus::JWT_FILE, &secrets.user_jwt),
        (bus::SEED_FILE, &secrets.user_seed),
        (bus::MESSAGE_ID_KEY_FILE, &secrets.message_id_key),
        (bus::TOKEN_FILE, &secrets.token),
    ];
    let data =
        entries.map(|(name, text)| (name.to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec())));
    Secret {
        metadata: metadata(service, labels::sidecar_object(&service.name)),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    }
}

fn config_map(service: &ValidMicroservice, config: &SidecarConfig) -> ConfigMap {
    ConfigMap {
        metadata: metadata(service, labels::sidecar_object(&service.name)),
        data: Some(BTreeMap::from([(bus::CONFIG_FILE.to_owned(), config::text(config))])),
        ..ConfigMap::default()
    }
}

/// The metadata of an object that goes when its Microservice goes.
pub(crate) fn metadata(service: &ValidMicroservice, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(service.mesh.to_string()),
        labels: Some(labels::of(&service.name)),
        owner_references: Some(vec![owner(service)]),
        ..ObjectMeta::default()
    }
}

fn owner(service: &ValidMicroservice) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", murmur_crds::GROUP, murmur_crds::VERSION),
        kind: "Microservice".to_owned(),
        name: service.name.to_string(),
        uid: service.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[cfg(test)]
mod tests;
