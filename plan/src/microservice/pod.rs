//! The pod: the service's container, and what both containers share.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecretKeySelector, SecretVolumeSource, SecurityContext, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use murmur_mesh::config::{ADMIN_PORT, LOCAL_PORT, TOKEN_FILE};

use super::{Input, SERVICE_CONTAINER, ValidMicroservice, database, sidecar};
use crate::labels;
use crate::subscription::ValidSubscription;

/// Where a service's data is mounted.
pub(super) const DATA: &str = "/data";
/// Where a SQLite database is.
pub(super) const DATABASE: &str = "/data/service.db";
/// The names of the pod's volumes.
pub(super) const BUS_VOLUME: &str = "murmur-bus";
pub(super) const CONFIG_VOLUME: &str = "murmur-config";
pub(super) const DATA_VOLUME: &str = "data";
const TEMPORARY_VOLUME: &str = "tmp";
/// How much a service may keep in /tmp before its pod is evicted.
const TEMPORARY_BYTES: &str = "1Gi";

/// The delivery timeout that a grace period always has room for. As it is the
/// default, a subscription that comes or goes seldom rolls the pods.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// What is added to the longest delivery timeout: 5 s for endpoints to settle,
/// the rest for both containers to end.
const GRACE: Duration = Duration::from_secs(20);

/// The template of the service's pods.
pub(super) fn template(input: &Input<'_>) -> PodTemplateSpec {
    let service = input.service;
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels::of(&service.name)), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            service_account_name: Some(service.name.to_string()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(grace_period(service, input.subscriptions)),
            security_context: Some(pod_security(service)),
            image_pull_secrets: some(
                service
                    .image_pull_secrets
                    .iter()
                    .map(|name| LocalObjectReference { name: name.clone() })
                    .collect(),
            ),
            init_containers: Some(vec![sidecar::container(input)]),
            containers: vec![container(service)],
            volumes: Some(volumes(service)),
            ..PodSpec::default()
        }),
    }
}

/// The grace period in seconds, a fraction rounded up.
fn grace_period(service: &ValidMicroservice, subscriptions: &[ValidSubscription]) -> i64 {
    let longest = subscriptions
        .iter()
        .filter(|subscription| subscription.service == service.name)
        .filter_map(|subscription| Some(subscription.deliver()?.timeout))
        .fold(USUAL_TIMEOUT, Duration::max);
    let milliseconds = (longest + GRACE).as_millis().div_ceil(1000);
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

/// The service's own container.
fn container(service: &ValidMicroservice) -> Container {
    let mut mounts = vec![mount(TEMPORARY_VOLUME, "/tmp", false)];
    if service.storage.is_some() {
        mounts.push(mount(DATA_VOLUME, DATA, false));
    }
    mounts.extend(database::service_mount(service));
    Container {
        name: SERVICE_CONTAINER.to_owned(),
        image: Some(service.image.clone()),
        image_pull_policy: service.image_pull_policy.clone(),
        command: some(service.command.clone()),
        args: some(service.args.clone()),
        env: Some(environment(service)),
        env_from: some(service.env_from.clone()),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(service.port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: service.resources.clone(),
        readiness_probe: Some(Probe {
            period_seconds: Some(5),
            timeout_seconds: Some(3),
            failure_threshold: Some(3),
            ..match &service.readiness {
                Some(path) => http_probe(path, service.port),
                None => Probe {
                    tcp_socket: Some(TCPSocketAction { port: int(service.port), host: None }),
                    ..Probe::default()
                },
            }
        }),
        liveness_probe: service.liveness.as_ref().map(|path| Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..http_probe(path, service.port)
        }),
        // Until endpoints have settled and the deliveries in progress have ended.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                http_get: Some(http_get("/drained", ADMIN_PORT)),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(container_security()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// What the service finds in its environment: the user's own variables first,
/// so that they can be used in none of ours.
fn environment(service: &ValidMicroservice) -> Vec<EnvVar> {
    let mut all = service.env.clone();
    all.push(variable("MURMUR_URL", format!("http://127.0.0.1:{LOCAL_PORT}")));
    all.push(secret_variable("MURMUR_TOKEN", labels::sidecar_object(&service.name), TOKEN_FILE));
    if service.storage.as_ref().is_some_and(|storage| storage.sqlite) {
        all.push(variable("DATABASE_PATH", DATABASE.to_owned()));
    }
    all.extend(database::variables(service));
    all
}

/// One user, group and file group for all containers; nothing runs as root.
fn pod_security(service: &ValidMicroservice) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(service.run_as_user),
        run_as_group: Some(service.run_as_group),
        fs_group: Some(service.run_as_group),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// What Pod Security `restricted` asks of every container, and a read-only root.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn volumes(service: &ValidMicroservice) -> Vec<Volume> {
    let object = labels::sidecar_object(&service.name);
    let mut all = vec![
        Volume {
            name: BUS_VOLUME.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(object.clone()),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: CONFIG_VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource { name: object, ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        },
        Volume {
            name: TEMPORARY_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(TEMPORARY_BYTES.to_owned())),
                medium: None,
            }),
            ..Volume::default()
        },
    ];
    if service.storage.is_some() {
        all.push(Volume {
            name: DATA_VOLUME.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: labels::data_claim(&service.name),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    all.extend(database::volumes(service));
    all
}

/// A plain environment variable.
pub(super) fn variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

/// An environment variable with the content of a Secret's key.
pub(super) fn secret_variable(name: &str, secret: String, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret, key: key.to_owned(), optional: None };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
        value: None,
    }
}

/// A volume at a path.
pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A probe by HTTP, without its timing.
pub(super) fn http_probe(path: &str, port: u16) -> Probe {
    Probe { http_get: Some(http_get(path, port)), ..Probe::default() }
}

fn http_get(path: &str, port: u16) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.to_owned()), port: int(port), ..HTTPGetAction::default() }
}

fn int(port: u16) -> IntOrString {
    IntOrString::Int(i32::from(port))
}

/// An empty list is left out, so that nobody owns it.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
