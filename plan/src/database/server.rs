//! The server itself: a StatefulSet of one pod over a plain claim, and the
//! files that it is started and asked with.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::backup::{self, Restore};
use super::{Recipe, Server, metadata};
use crate::invalid::Invalid;
use crate::labels;
use crate::microservice::ValidMicroservice;
use crate::object::{self, Object};

/// The name of the server's container.
pub const CONTAINER: &str = "database";
/// The user and group of the ordinary images.
pub(super) const ID: i64 = 999;
/// The annotation of the pods with the digest of their configuration.
const CONFIGURATION: &str = "murmur.dev/configuration";
/// Where the files are mounted.
pub(super) const FILES: &str = "/etc/murmur/files";
/// How long a server may take to end, in seconds.
const GRACE: i64 = 120;

/// An identity of its own, with no rights.
pub(super) fn account(service: &ValidMicroservice) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    let metadata = metadata(service, name.clone())?;
    Ok(object::of::<ServiceAccount>(
        name,
        json!({"metadata": metadata, "automountServiceAccountToken": false}),
    ))
}

/// Configuration and scripts.
pub(super) fn files(service: &ValidMicroservice, recipe: &Recipe) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    let mut data: Map<String, Value> =
        recipe.configuration.iter().map(|(file, text)| ((*file).to_owned(), json!(text))).collect();
    data.extend(recipe.scripts.iter().map(|(file, text)| ((*file).to_owned(), json!(text))));
    Ok(object::of::<ConfigMap>(name.clone(), json!({"metadata": metadata(service, name)?, "data": data})))
}

/// The StatefulSet. A pod that does not become ready is replaced when the plan changes (Parallel; OrderedReady
/// would wait for it for ever), and never is there a second one beside it.
pub(super) fn stateful_set(
    service: &ValidMicroservice,
    server: &Server,
    recipe: &Recipe,
    image: &str,
) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    let configuration = json!(recipe.configuration).to_string();
    Ok(object::of::<StatefulSet>(
        name.clone(),
        json!({
            "metadata": metadata(service, name.clone())?,
            "spec": {
                "replicas": 1,
                "serviceName": name,
                "podManagementPolicy": "Parallel",
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": labels::database_selector(&service.name)},
                "template": {
                    "metadata": {
                        "labels": labels::of_database(&service.name),
                        "annotations": {CONFIGURATION: digest(&configuration)},
                    },
                    "spec": pod(service, server, recipe, image),
                },
            },
        }),
    ))
}

fn pod(service: &ValidMicroservice, server: &Server, recipe: &Recipe, image: &str) -> Value {
    let name = labels::database(&service.name);
    let pull: Vec<Value> = service.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    let mut pod = json!({
        "serviceAccountName": name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": ID, "runAsGroup": ID, "fsGroup": ID,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(server, recipe, image)],
        "volumes": volumes(&name, &labels::database_tls(&service.name), recipe),
    });
    if let Some(restore) = &server.restore {
        begin_with(&mut pod, restore, &backup::name(&service.name));
    }
    if !pull.is_empty() {
        pod["imagePullSecrets"] = json!(pull);
    }
    pod
}

/// Mounts the backups for the first start.
fn begin_with(pod: &mut Value, restore: &Restore, own: &str) {
    let claim = restore.claim.as_deref().unwrap_or(own);
    let push = |list: &mut Value, item: Value| list.as_array_mut().map(|list| list.push(item));
    push(&mut pod["volumes"], json!({"name": "restore", "persistentVolumeClaim": {"claimName": claim}}));
    let container = &mut pod["containers"][0];
    push(
        &mut container["volumeMounts"],
        json!({"name": "restore", "mountPath": "/restore", "readOnly": true}),
    );
    if let Some(backup) = &restore.backup {
        push(&mut container["env"], json!({"name": "BACKUP", "value": backup}));
    }
}

fn container(server: &Server, recipe: &Recipe, image: &str) -> Value {
    let mut environment = vec![
        json!({"name": "VOLUME", "value": recipe.volume}),
        json!({"name": "DATA", "value": recipe.data}),
    ];
    environment.extend(recipe.environment.iter().map(|(name, value)| json!({"name": name, "value": value})));
    let script = |name: &str| json!({"command": ["sh", format!("{FILES}/{name}")]});
    let mut mounts = vec![
        json!({"name": "data", "mountPath": recipe.volume}),
        json!({"name": "files", "mountPath": FILES, "readOnly": true}),
        json!({"name": "credentials", "mountPath": "/etc/murmur/credentials", "readOnly": true}),
        json!({"name": "tls", "mountPath": "/etc/murmur/tls", "readOnly": true}),
    ];
    mounts.extend(
        recipe
            .places
            .iter()
            .map(|(file, folder, _)| json!({"name": place(file), "mountPath": folder, "readOnly": true})),
    );
    mounts.extend(recipe.writable.iter().map(|(name, folder, _)| json!({"name": name, "mountPath": folder})));
    json!({
        "name": CONTAINER,
        "image": image,
        "command": ["sh", format!("{FILES}/start.sh")],
        "args": recipe.arguments,
        "env": environment,
        "ports": [{"name": "database", "containerPort": recipe.port, "protocol": "TCP"}],
        "resources": server.resources,
        // As long as it takes: another pod may hold the volume, a log may have to be gone through.
        "startupProbe": {"exec": script(recipe.alive), "periodSeconds": 2, "timeoutSeconds": 10,
            "failureThreshold": 43200},
        "readinessProbe": {"exec": script(recipe.ready), "periodSeconds": 10, "timeoutSeconds": 10,
            "failureThreshold": 3},
        // A server that says nothing for a minute will not end by itself either.
        "livenessProbe": {"exec": script(recipe.alive), "periodSeconds": 20, "timeoutSeconds": 10,
            "failureThreshold": 3, "terminationGracePeriodSeconds": 10},
        // The last lines of its log, so that the status can say why it ended.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    })
}

fn volumes(name: &str, tls: &str, recipe: &Recipe) -> Vec<Value> {
    let credentials: Vec<Value> =
        recipe.credentials.iter().map(|key| json!({"key": key, "path": key})).collect();
    let mut all = vec![
        json!({"name": "data", "persistentVolumeClaim": {"claimName": name}}),
        json!({"name": "files", "configMap": {"name": name}}),
        json!({"name": "credentials", "secret": {"secretName": name, "defaultMode": 0o440, "items": credentials}}),
        // PostgreSQL takes a key of root's only if no more than its own group may read it.
        json!({"name": "tls", "secret": {"secretName": tls, "defaultMode": 0o640}}),
    ];
    all.extend(recipe.places.iter().map(|(file, _, as_name)| {
        json!({"name": place(file), "configMap": {"name": name, "items": [{"key": file, "path": as_name}]}})
    }));
    all.extend(recipe.writable.iter().map(|(name, _, size)| match size {
        // With a size it is memory.
        Some(size) => json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}),
        None => json!({"name": name, "emptyDir": {"sizeLimit": "1Gi"}}),
    }));
    all
}

/// The name of the volume with one file.
fn place(file: &str) -> String {
    file.replace('.', "-")
}

/// The same on every machine.
fn digest(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}
