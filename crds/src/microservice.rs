//! The kind Microservice: one service, its pods, its data and its place in the mesh.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::{Database, DatabaseStatus};
use crate::duration::GatewayDuration;
use crate::embedded;
use crate::quantity::StorageQuantity;
use crate::startup::Startup;

/// A service: its image, its pods, its data and its place in the mesh.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "murmur.dev",
    version = "v1alpha1",
    kind = "Microservice",
    namespaced,
    shortname = "msvc",
    category = "murmur",
    status = "MicroserviceStatus",
    derive = "PartialEq",
    doc = "A service of the mesh that its namespace is: its image, its pods, its data and the events that it may publish.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.database.engine"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS-1035 label: lower-case letters, digits and '-', starting with a letter"),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("the name must be at most 40 characters long"),
    validation = Rule::new("!self.metadata.name.endsWith('-db') && !self.metadata.name.endsWith('-pods') && !self.metadata.name.endsWith('-backup')")
        .message("the name must not end with -db, -pods or -backup: these are reserved for a service's own objects")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.volume) || (has(self.database) && self.database.engine == 'SQLite')) || self.replicas <= 1")
        .message("a service with a volume or a SQLite database runs in one pod: set replicas to 1 or 0")
        .field_path(".replicas"),
    validation = Rule::new("!(has(self.volume) || (has(self.database) && self.database.engine == 'SQLite')) || !has(self.autoscaling)")
        .message("a service with a volume or a SQLite database runs in one pod: leave autoscaling out")
        .field_path(".autoscaling"),
    validation = Rule::new("!(has(self.volume) && has(self.database) && self.database.engine == 'SQLite')")
        .message("a SQLite database lives on the volume at /data itself: set database.storage and leave volume out")
        .field_path(".volume"),
    validation = Rule::new("!has(self.database) || !has(oldSelf.database) || self.database.engine == oldSelf.database.engine")
        .message("the engine of a database cannot change")
        .field_path(".database.engine"),
    // The volume at /data, which may hold a SQLite database.
    validation = Rule::new("!((has(self.volume) || (has(self.database) && self.database.engine == 'SQLite')) && (has(oldSelf.volume) || (has(oldSelf.database) && oldSelf.database.engine == 'SQLite'))) || quantity(has(self.volume) ? self.volume.size : self.database.storage.size).compareTo(quantity(has(oldSelf.volume) ? oldSelf.volume.size : oldSelf.database.storage.size)) >= 0")
        .message("storage cannot shrink"),
    validation = Rule::new("!((has(self.volume) || (has(self.database) && self.database.engine == 'SQLite')) && (has(oldSelf.volume) || (has(oldSelf.database) && oldSelf.database.engine == 'SQLite'))) || (has(self.volume) ? (has(self.volume.storageClassName) ? self.volume.storageClassName : '') : (has(self.database.storage.storageClassName) ? self.database.storage.storageClassName : '')) == (has(oldSelf.volume) ? (has(oldSelf.volume.storageClassName) ? oldSelf.volume.storageClassName : '') : (has(oldSelf.database.storage.storageClassName) ? oldSelf.database.storage.storageClassName : ''))")
        .message("the storage class cannot change"),
    // The volume of a server.
    validation = Rule::new("!(has(self.database) && has(oldSelf.database) && has(self.database.storage) && has(oldSelf.database.storage)) || quantity(self.database.storage.size).compareTo(quantity(oldSelf.database.storage.size)) >= 0")
        .message("storage cannot shrink"),
    validation = Rule::new("!(has(self.database) && has(oldSelf.database) && has(self.database.storage) && has(oldSelf.database.storage)) || (has(self.database.storage.storageClassName) ? self.database.storage.storageClassName : '') == (has(oldSelf.database.storage.storageClassName) ? oldSelf.database.storage.storageClassName : '')")
        .message("the storage class cannot change"),
    validation = Rule::new("!has(self.env) || self.env.all(variable, !variable.name.startsWith('MURMUR_'))")
        .message("environment variables that start with MURMUR_ are set by Murmur")
        .field_path(".env"),
    validation = Rule::new("!has(self.env) || !has(self.database) || self.env.all(variable, !(variable.name in (self.database.engine == 'SQLite' ? ['DATABASE_PATH'] : ['DATABASE_URL', 'DATABASE_HOST', 'DATABASE_PORT', 'DATABASE_NAME', 'DATABASE_USER', 'DATABASE_PASSWORD', 'DATABASE_CA_FILE'])))")
        .message("DATABASE_PATH is set by Murmur for a service with SQLite, and DATABASE_URL, DATABASE_HOST and so on for one with a server: leave them out")
        .field_path(".env")
)]
pub struct MicroserviceSpec {
    /// The container image of the service.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// When the kubelet pulls the image: Always, IfNotPresent or Never. If left out, Always for
    /// the tag latest and IfNotPresent for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The port that the service listens on for HTTP. 3600 and 3601 are the sidecar's.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = ("self != 3600 && self != 3601", "the ports 3600 and 3601 are the sidecar's: choose another"))]
    pub port: i32,
    /// How many pods run; ignored while autoscaling is set. With a volume or a SQLite database at
    /// most 1. A HorizontalPodAutoscaler may scale the Microservice, but not its Deployment.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How many pods run by the events that wait: more at once, fewer after five minutes in which
    /// fewer would have done. Not with a volume or a SQLite database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Environment variables of the service, as in core/v1. Names that start with MURMUR_ are
    /// reserved; so is DATABASE_PATH with SQLite, and with a server are DATABASE_URL, DATABASE_HOST,
    /// DATABASE_PORT, DATABASE_NAME, DATABASE_USER, DATABASE_PASSWORD and DATABASE_CA_FILE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::env")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose entries become environment variables, as in core/v1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::env_from")]
    pub env_from: Vec<EnvFromSource>,
    /// The command in place of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// The arguments in place of the image's command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// CPU, memory and other resources of the service's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Secrets with which the kubelet pulls the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretReference>,
    /// How the kubelet tells whether the service is ready and alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// The user and group that the pod runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// A fragment of a pod template (metadata, spec) that is merged over what Murmur makes, last
    /// and as it is. Lists merge by their Kubernetes key, such as a container's name; the
    /// service's container is called service. null removes a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::free_form")]
    pub pod_overrides: Option<serde_json::Map<String, serde_json::Value>>,
    /// A volume of the service's own, at /data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Storage>,
    /// A database of the service's own, which no other service can reach. Removing it keeps its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The types of events that the service may publish; if empty, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub publishes: Vec<Publication>,
    /// The queries that the service answers, each by an HTTP POST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["query".into()]))]
    pub answers: Vec<Answer>,
    /// The queries that the service may ask: every Microservice of the namespace that answers one
    /// is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["query".into()]))]
    pub asks: Vec<Ask>,
    /// The Microservices of the namespace that the service may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub calls: Vec<Call>,
    /// When a pod is ready for requests, beside its own readiness probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// Peers outside the namespace, or an ingress controller or Prometheus inside it, that may
    /// reach the service's port and the sidecar's metrics. Pods of the same namespace always reach
    /// the service's port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::peers")]
    pub allow_from: Vec<NetworkPolicyPeer>,
    /// Settings of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
}

fn one() -> i32 {
    1
}

/// How many pods run by the events that wait.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.minReplicas <= self.maxReplicas", "minReplicas must not be more than maxReplicas"))]
pub struct Autoscaling {
    /// The fewest pods.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// The most pods. More than a subscription has shards do not share its events in order per key.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// How many waiting events, of all subscriptions of the service together, are one pod's share.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending_events_per_replica: i32,
}

fn thousand() -> i32 {
    1000
}

/// When the kubelet pulls an image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At each start of the container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// As core/v1 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Resources of a container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// What the container gets at least, by resource, such as cpu: 100m.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "embedded::resource_amounts")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container gets at most, by resource, such as memory: 64Mi.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "embedded::resource_amounts")]
    pub limits: BTreeMap<String, Quantity>,
}

/// A Secret in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Probes of the service's container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// When the service takes requests: by HTTP at this path, or, if left out, when its port
    /// accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<HttpProbe>,
    /// When the service is alive: by HTTP at this path. If left out, it is not probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<HttpProbe>,
}

/// A probe by HTTP GET on the service's port.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The path, which starts with /.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: String,
}

/// The identity of the pod's processes; no process runs as root.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user id of all containers; 65532 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// The group id of all containers and of the files on the volume; 65532 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
}

/// A volume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The size, such as 1Gi. It may grow where the storage class allows it, never shrink.
    pub size: StorageQuantity,
    /// The storage class; the cluster's default if left out. It cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the data when the Microservice is deleted: Retain keeps it, Delete deletes it.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

/// What becomes of data when its Microservice is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDeleted {
    /// It is kept.
    #[default]
    Retain,
    /// It is deleted too.
    Delete,
}

/// A type of event that the service may publish.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The CloudEvents type, such as ProductCreated.
    #[serde(rename = "type")]
    #[schemars(schema_with = "crate::subscription::event_type")]
    pub event_type: String,
    /// The JSON Schema that the data of such an event must meet; anything else is refused with 422.
    /// At most 32 KiB, of draft 2020-12 unless $schema names another one. A $ref leads to a place in
    /// the schema itself: nothing is fetched. If left out, the data may be anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::free_form")]
    pub schema: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A query that the service answers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The type of the query, such as UserProductQuery.
    #[schemars(schema_with = "crate::subscription::event_type")]
    pub query: String,
    /// The path of the POST, which starts with /.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The port of the POST; the service's port if left out. A port of its own is closed to other
    /// pods, so that nobody can ask past the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = ("self != 3600 && self != 3601", "the ports 3600 and 3601 are the sidecar's: choose another"))]
    pub port: Option<i32>,
}

/// A query that the service may ask.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The type of the query, such as UserProductQuery.
    #[schemars(schema_with = "crate::subscription::event_type")]
    pub query: String,
}

/// A Microservice that the service may call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name of the Microservice. It may be made later.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How long a call may take unless the caller says otherwise, up to 1h.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = ("duration(self) > duration('0s') && duration(self) <= duration('1h')", "timeout must be more than 0s and at most 1h"))]
    pub timeout: GatewayDuration,
}

fn ten_seconds() -> GatewayDuration {
    "10s".into()
}

/// Settings of the sidecar.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// CPU, memory and other resources of the sidecar's container. Each that is left out keeps
    /// Murmur's value: requests 10m and 16Mi, limit 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How much the sidecar logs: error, warn, info or debug. Changing it restarts nothing.
    #[serde(default)]
    pub log_level: LogLevel,
    /// The version (the tag of its image) that the sidecar stays at, whichever the operator has;
    /// the operator's own if left out. They work one minor version apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub version: Option<String>,
}

/// How much a sidecar logs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may fail soon.
    Warn,
    /// Also the milestones of its life.
    #[default]
    Info,
    /// Also each event's way.
    Debug,
}

/// What the operator has observed of a Microservice.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MicroserviceStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// How many there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// The label selector of the pods, as text, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The version of the sidecar that the pods are made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub sidecar_version: Option<String>,
    /// The service's database, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// Ready, DatabaseReady, BusReady and Progressing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::conditions")]
    pub conditions: Vec<Condition>,
}
