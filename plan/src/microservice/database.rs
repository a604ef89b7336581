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

/// What the service finds in its environment.
pub(super) fn variables(service: &ValidMicroservice) -> Vec<EnvVar> {
    if service.database.is_none() {
        return Vec::new();
    }
    let from = |name: &str, key: &str| secret_variable(name, labels::database(&service.name), key);
    vec![
        from("DATABASE_URL", "url"),
        from("DATABASE_HOST", "host"),
        from("DATABASE_PORT", "port"),
        from("DATABASE_NAME", "database"),
        from("DATABASE_USER", "username"),
        from("DATABASE_PASSWORD", "password"),
        variable("DATABASE_CA_FILE", format!("{FOLDER}/{CA_FILE}")),
    ]
}

/// What the sidecar finds in its environment.
pub(super) fn sidecar_variable(service: &ValidMicroservice) -> Option<EnvVar> {
    has_sidecar_way(service).then(|| variable("MURMUR_DATABASE", FOLDER.to_owned()))
}

/// What is mounted into the service's container.
pub(super) fn service_mount(service: &ValidMicroservice) -> Option<VolumeMount> {
    service.database.as_ref().map(|_| mount(SERVICE_VOLUME, FOLDER, true))
}

/// What is mounted into the sidecar's container alone.
pub(super) fn sidecar_mount(service: &ValidMicroservice) -> Option<VolumeMount> {
    has_sidecar_way(service).then(|| mount(SIDECAR_VOLUME, FOLDER, true))
}

/// The volumes of both.
pub(super) fn volumes(service: &ValidMicroservice) -> Vec<Volume> {
    let mut all = Vec::new();
    if service.database.is_some() {
        all.push(volume(service, SERVICE_VOLUME, &[CA_FILE]));
    }
    if has_sidecar_way(service) {
        all.push(volume(service, SIDECAR_VOLUME, &SIDECAR_FILES));
    }
    all
}

/// Whether projections and an outbox are possible.
fn has_sidecar_way(service: &ValidMicroservice) -> bool {
    service.database.as_ref().is_some_and(|server| server.engine == Engine::Postgres)
}

fn volume(service: &ValidMicroservice, name: &str, keys: &[&str]) -> Volume {
    let items =
        keys.iter().map(|key| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None });
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(labels::database(&service.name)),
            default_mode: Some(0o440),
            items: Some(items.collect()),
            optional: None,
        }),
        ..Volume::default()
    }
}
