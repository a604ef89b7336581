//! From what a user wrote to what can be planned.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, ResourceRequirements};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use murmur_crds::Microservice;
use murmur_crds::database::Engine;
use murmur_crds::microservice::{self as crd, WhenDeleted};
use murmur_crds::quantity;
use murmur_crds::startup::{Startup, WaitFor};
use murmur_mesh::config::{Answer, LogLevel};
use murmur_mesh::name::{EventType, MeshName, ServiceName};
use serde_json::{Map, Value};

use super::talks::{self, Call};
use crate::autoscaling::Autoscaling;
use crate::database::{self, Server};
use crate::invalid::{self, Invalid};

/// The user and group of a pod that does not say.
const DEFAULT_ID: i64 = 65532;

const ONE_POD: &str = "a service with a volume or a SQLite database runs in one pod";

/// A Microservice that can be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidMicroservice {
    /// Its name.
    pub name: ServiceName,
    /// Its namespace.
    pub mesh: MeshName,
    /// Its uid, which its objects bear as their owner.
    pub uid: String,
    /// The generation that this was read from.
    pub generation: i64,
    /// The image.
    pub image: String,
    /// When it is pulled; `None` for the cluster's rule.
    pub image_pull_policy: Option<String>,
    /// Secrets for pulling it.
    pub image_pull_secrets: Vec<String>,
    /// The port that the service listens on.
    pub port: u16,
    /// How many pods. With autoscaling it is what was decided last.
    pub replicas: i32,
    /// How that number follows the events that wait.
    pub autoscaling: Option<Autoscaling>,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// Sources of more.
    pub env_from: Vec<EnvFromSource>,
    /// In place of the image's entry point.
    pub command: Vec<String>,
    /// In place of the image's command.
    pub args: Vec<String>,
    /// Resources of the service's container.
    pub resources: Option<ResourceRequirements>,
    /// The path of the readiness probe; `None`: the port accepts connections.
    pub readiness: Option<String>,
    /// The path of the liveness probe; `None`: no probe.
    pub liveness: Option<String>,
    /// The pod's user.
    pub run_as_user: i64,
    /// The pod's group, and that of its files.
    pub run_as_group: i64,
    /// A fragment that is merged over the pod template.
    pub pod_overrides: Map<String, Value>,
    /// Its data, at /data.
    pub storage: Option<Storage>,
    /// Its database server.
    pub database: Option<Server>,
    /// The Secret of a database elsewhere.
    pub external: Option<String>,
    /// Whether its sidecar publishes what it writes into the outbox of its database.
    pub outbox: bool,
    /// The types that it may publish.
    pub publishes: Vec<EventType>,
    /// The schemas of those types that have one.
    pub schemas: BTreeMap<EventType, Value>,
    /// The queries that it answers.
    pub answers: Vec<Answer>,
    /// The queries that it may ask.
    pub asks: Vec<EventType>,
    /// The services that it may call.
    pub calls: Vec<Call>,
    /// After how long a pod that has not caught up is told of; `None`: it need not.
    pub catch_up: Option<Duration>,
    /// Peers beyond the namespace's own pods.
    pub allow_from: Vec<NetworkPolicyPeer>,
    /// Resources of the sidecar's container.
    pub sidecar_resources: ResourceRequirements,
    /// The version that the sidecar is pinned to.
    pub sidecar_version: Option<String>,
    /// What the sidecar logs.
    pub log_level: LogLevel,
}

/// A service's data.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// The size of the claim.
    pub size: Quantity,
    /// Its class; `None` for the cluster's default.
    pub storage_class_name: Option<String>,
    /// Whether the claim is deleted with the Microservice.
    pub delete_with_service: bool,
    /// Whether it holds a SQLite database.
    pub sqlite: bool,
}

fn catch_up(startup: &Startup) -> Result<Option<Duration>, Invalid> {
    let timeout = invalid::duration("spec.startup.timeout", &startup.timeout)?;
    Ok(Some(timeout).filter(|_| startup.wait_for == WaitFor::CaughtUp))
}

/// Reads a Microservice.
///
/// # Errors
/// The first thing that cannot be planned.
pub fn validate(resource: &Microservice) -> Result<ValidMicroservice, Invalid> {
    let spec = &resource.spec;
    let metadata = &resource.metadata;
    let probes = spec.probes.clone().unwrap_or_default();
    let identity = spec.security_context.clone().unwrap_or_default();
    let sidecar = spec.sidecar.clone().unwrap_or_default();
    let sidecar_resources = sidecar_resources(sidecar.resources.as_ref());
    let storage = storage(spec)?;
    let replicas: i32 =
        invalid::within("spec.replicas", spec.replicas, 0..=1000, "replicas are a number from 0 to 1000")?;
    if storage.is_some() && replicas > 1 {
        return Err(Invalid::InvalidValue {
            field: "spec.replicas".to_owned(),
            value: replicas.to_string(),
            rule: ONE_POD,
        });
    }
    let autoscaling = spec.autoscaling.as_ref().map(|it| autoscaling(it, storage.as_ref())).transpose()?;
    Ok(ValidMicroservice {
        name: invalid::name("metadata.name", metadata.name.as_deref().unwrap_or_default())?,
        mesh: invalid::name("metadata.namespace", metadata.namespace.as_deref().unwrap_or_default())?,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        image: spec.image.clone(),
        image_pull_policy: spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        image_pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        port: invalid::port("spec.port", spec.port)?,
        catch_up: spec.startup.as_ref().map(catch_up).transpose()?.flatten(),
        replicas: match &autoscaling {
            None => replicas,
            Some(bounds) => {
                let decided = resource.status.as_ref().and_then(|status| status.desired_replicas);
                decided.unwrap_or(bounds.min_replicas).clamp(bounds.min_replicas, bounds.max_replicas)
            }
        },
        autoscaling,
        env: env(spec)?,
        env_from: spec.env_from.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        resources: spec.resources.as_ref().map(|it| resources("spec.resources", it)).transpose()?,
        readiness: probes.readiness.map(|probe| probe.path),
        liveness: probes.liveness.map(|probe| probe.path),
        run_as_user: identity.run_as_user.unwrap_or(DEFAULT_ID),
        run_as_group: identity.run_as_group.unwrap_or(DEFAULT_ID),
        pod_overrides: spec.pod_overrides.clone().unwrap_or_default(),
        storage,
        database: spec.database.as_ref().map(database::validate).transpose()?.flatten(),
        external: spec
            .database
            .as_ref()
            .and_then(|database| database.external.as_ref())
            .map(|external| external.secret_ref.name.clone()),
        outbox: spec.database.as_ref().is_some_and(|database| database.outbox.is_some()),
        publishes: talks::publishes(spec)?,
        schemas: talks::schemas(spec)?,
        answers: talks::answers(spec)?,
        asks: talks::asks(spec)?,
        calls: talks::calls(spec)?,
        allow_from: spec.allow_from.clone(),
        sidecar_resources: resources("spec.sidecar.resources", &sidecar_resources)?,
        sidecar_version: sidecar.version.clone(),
        log_level: match sidecar.log_level {
            crd::LogLevel::Error => LogLevel::Error,
            crd::LogLevel::Warn => LogLevel::Warn,
            crd::LogLevel::Info => LogLevel::Info,
            crd::LogLevel::Debug => LogLevel::Debug,
        },
    })
}

fn autoscaling(spec: &crd::Autoscaling, storage: Option<&Storage>) -> Result<Autoscaling, Invalid> {
    let field = |name: &str| format!("spec.autoscaling.{name}");
    let rule = "replicas are a number from 1 to 1000, minReplicas not more than maxReplicas";
    let max = invalid::within(&field("maxReplicas"), spec.max_replicas, 1..=1000, rule)?;
    let autoscaling = Autoscaling {
        min_replicas: invalid::within(&field("minReplicas"), spec.min_replicas, 1..=max, rule)?,
        max_replicas: max,
        pending_events_per_replica: invalid::within(
            &field("pendingEventsPerReplica"),
            spec.pending_events_per_replica,
            1..=1_000_000,
            "pendingEventsPerReplica is a number from 1 to 1000000",
        )?,
    };
    match storage {
        None => Ok(autoscaling),
        Some(_) => {
            Err(Invalid::InvalidValue { field: field("maxReplicas"), value: max.to_string(), rule: ONE_POD })
        }
    }
}

/// What Murmur sets for a service with a database of this engine.
fn database_variables(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::SQLite => &["DATABASE_PATH"],
        Engine::Postgres | Engine::MariaDB | Engine::Redis | Engine::External => &[
            "DATABASE_URL",
            "DATABASE_HOST",
            "DATABASE_PORT",
            "DATABASE_NAME",
            "DATABASE_USER",
            "DATABASE_PASSWORD",
            "DATABASE_CA_FILE",
        ],
    }
}

fn env(spec: &murmur_crds::MicroserviceSpec) -> Result<Vec<EnvVar>, Invalid> {
    let reserved = spec.database.as_ref().map_or(&[][..], |database| database_variables(database.engine));
    let is_ours = |name: &str| name.starts_with("MURMUR_") || reserved.contains(&name);
    match spec.env.iter().find(|variable| is_ours(&variable.name)) {
        None => Ok(spec.env.clone()),
        Some(variable) => Err(Invalid::InvalidValue {
            field: "spec.env".to_owned(),
            value: variable.name.clone(),
            rule: "MURMUR_… and, with a database, DATABASE_… are set by Murmur",
        }),
    }
}

fn storage(spec: &murmur_crds::MicroserviceSpec) -> Result<Option<Storage>, Invalid> {
    if let Some(database) = spec.database.as_ref().filter(|database| database.engine == Engine::SQLite) {
        return database::storage(database).map(Some);
    }
    let Some(storage) = &spec.volume else { return Ok(None) };
    let field = "spec.volume.size".to_owned();
    storage.size.bytes().map_err(|error| Invalid::InvalidQuantity { field, error })?;
    Ok(Some(Storage {
        size: storage.size.to_core(),
        storage_class_name: storage.storage_class_name.clone(),
        delete_with_service: storage.when_deleted == WhenDeleted::Delete,
        sqlite: false,
    }))
}

/// The sidecar's own resources, with what the user set in their place.
fn sidecar_resources(wanted: Option<&crd::Resources>) -> crd::Resources {
    let amount = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    let mut all = crd::Resources {
        requests: BTreeMap::from([amount("cpu", "10m"), amount("memory", "16Mi")]),
        limits: BTreeMap::from([amount("memory", "64Mi")]),
    };
    if let Some(wanted) = wanted {
        all.requests.extend(wanted.requests.clone());
        all.limits.extend(wanted.limits.clone());
    }
    all
}

/// Resources of core/v1, checked: the API server would refuse the Deployment.
pub(crate) fn resources(field: &str, resources: &crd::Resources) -> Result<ResourceRequirements, Invalid> {
    check_resources(field, resources)?;
    let amounts = |amounts: &BTreeMap<String, Quantity>| (!amounts.is_empty()).then(|| amounts.clone());
    Ok(ResourceRequirements {
        requests: amounts(&resources.requests),
        limits: amounts(&resources.limits),
        claims: None,
    })
}

fn check_resources(field: &str, resources: &crd::Resources) -> Result<(), Invalid> {
    let read = |part: &str, name: &str, amount: &Quantity| {
        quantity::parse_core(amount)
            .map_err(|error| Invalid::InvalidQuantity { field: format!("{field}.{part}.{name}"), error })
    };
    for (name, limit) in &resources.limits {
        read("limits", name, limit)?;
    }
    for (name, request) in &resources.requests {
        let amount = read("requests", name, request)?;
        if let Some(limit) = resources.limits.get(name)
            && amount > read("limits", name, limit)?
        {
            return Err(Invalid::RequestAboveLimit {
                field: format!("{field}.requests.{name}"),
                request: request.0.clone(),
                limit: limit.0.clone(),
            });
        }
    }
    Ok(())
}
