//! What a service's pod needs of its database server: the way in.

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::ValidMicroservice;
use super::pod::{mount, secret_variable, variable};
use crate::database::{CA_FILE, Engine, FOLDER};
use crate::labels;

/// The volume with the authority's certificate, for the service.
const SERVICE_VOLUME: &str = "database";
/// The volume with Murmur's own way in, for the sidecar.
const SIDECAR_VOLUME: &str = "murmur-database";
/// What the sidecar finds there.
const SIDECAR_FILES: [&str; 6] = ["host", "port", "database", "username", "murmur-password", CA_FILE];

/// The Secret with the way in.
fn secret(service: &ValidMicroservice) -> Option<String> {
    match (&service.database, &service.external) {
        (Some(_), _) => Some(labels::database(&service.name)),
        (None, elsewhere) => elsewhere.clone(),
    }
}

/// What the service finds in its environment. What a Secret of the user's own lacks is not set.
pub(super) fn variables(service: &ValidMicroservice) -> Vec<EnvVar> {
    let Some(secret) = secret(service) else { return Vec::new() };
    let optional = service.external.is_some().then_some(true);
    let names = ["URL", "HOST", "PORT", "NAME", "USER", "PASSWORD"];
    let keys = ["url", "host", "port", "database", "username", "password"];
    let from = |(name, key): (&str, &str)| {
        let mut variable = secret_variable(&format!("DATABASE_{name}"), secret.clone(), key);
        if let Some(selector) = variable.value_from.as_mut().and_then(|from| from.secret_key_ref.as_mut()) {
            selector.optional = optional;
        }
        variable
    };
    let mut all: Vec<EnvVar> = names.into_iter().zip(keys).map(from).collect();
    all.push(variable("DATABASE_CA_FILE", format!("{FOLDER}/{CA_FILE}")));
    all
}

/// What the sidecar finds in its environment.
pub(super) fn sidecar_variable(service: &ValidMicroservice) -> Option<EnvVar> {
    has_sidecar_way(service).then(|| variable("MURMUR_DATABASE", FOLDER.to_owned()))
}

/// What is mounted into the service's container.
pub(super) fn service_mount(service: &ValidMicroservice) -> Option<VolumeMount> {
    secret(service).map(|_| mount(SERVICE_VOLUME, FOLDER, true))
}

/// What is mounted into the sidecar's container alone.
pub(super) fn sidecar_mount(service: &ValidMicroservice) -> Option<VolumeMount> {
    has_sidecar_way(service).then(|| mount(SIDECAR_VOLUME, FOLDER, true))
}

/// The volumes of both.
pub(super) fn volumes(service: &ValidMicroservice) -> Vec<Volume> {
    let mut all = Vec::new();
    if let Some(secret) = secret(service) {
        all.push(volume(secret, SERVICE_VOLUME, &[CA_FILE], service.external.is_some()));
    }
    if has_sidecar_way(service) {
        all.push(volume(labels::database(&service.name), SIDECAR_VOLUME, &SIDECAR_FILES, false));
    }
    all
}

/// Whether projections and an outbox are possible.
fn has_sidecar_way(service: &ValidMicroservice) -> bool {
    service.database.as_ref().is_some_and(|server| server.engine == Engine::Postgres)
}

fn volume(secret: String, name: &str, keys: &[&str], optional: bool) -> Volume {
    let items =
        keys.iter().map(|key| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None });
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            items: Some(items.collect()),
            optional: optional.then_some(true),
        }),
        ..Volume::default()
    }
}
