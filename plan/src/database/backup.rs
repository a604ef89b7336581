//! Backups of a server on a schedule, by the engine's own tool: a CronJob, and
//! a claim that outlives everything.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use murmur_mesh::name::ServiceName;
use serde_json::{Value, json};

use super::server::{FILES, ID};
use super::{Recipe, metadata};
use crate::invalid::Invalid;
use crate::labels;
use crate::microservice::ValidMicroservice;
use crate::object::{self, Object};

/// Backups on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// When, as cron writes it.
    pub schedule: String,
    /// How many are kept.
    pub keep: u16,
    /// The size of the volume.
    pub size: String,
    /// Its class; the cluster's default if `None`.
    pub storage_class_name: Option<String>,
}

/// What a new server begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The claim with the backups; `None`: the service's own.
    pub claim: Option<String>,
    /// Which of them; the newest if `None`.
    pub backup: Option<String>,
}

/// The claim of a service's backups, and their CronJob.
pub(super) fn name(service: &ServiceName) -> String {
    format!("{service}-backup")
}

/// The claim has no owner, whatever becomes of the data itself.
pub(super) fn claim(service: &ValidMicroservice, backup: &Backup) -> Result<Object, Invalid> {
    let name = name(&service.name);
    let mut metadata = metadata(service, name.clone())?;
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("ownerReferences");
    }
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": backup.size}}});
    if let Some(class) = &backup.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    Ok(object::of::<PersistentVolumeClaim>(name, json!({"metadata": metadata, "spec": spec})))
}

/// The CronJob. `kubectl create job --from` makes one at once.
pub(super) fn cron_job(
    service: &ValidMicroservice,
    backup: &Backup,
    recipe: &Recipe,
    image: &str,
) -> Result<Object, Invalid> {
    let name = name(&service.name);
    let labels = json!({
        (labels::NAME): name, (labels::MANAGED_BY): labels::MANAGER, (labels::BACKUP): service.name.to_string(),
    });
    Ok(object::of::<CronJob>(
        name.clone(),
        json!({
            "metadata": metadata(service, name)?,
            "spec": {
                "schedule": backup.schedule, "concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 3600,
                "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 3,
                "jobTemplate": {"metadata": {"labels": labels}, "spec": {"backoffLimit": 3, "activeDeadlineSeconds": 7200, "template": {
                    "metadata": {"labels": labels},
                    "spec": pod(service, backup, recipe, image),
                }}},
            },
        }),
    ))
}

fn pod(service: &ValidMicroservice, backup: &Backup, recipe: &Recipe, image: &str) -> Value {
    let database = labels::database(&service.name);
    let keys = ["host", super::CA_FILE, recipe.saved_as];
    let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
    let pull: Vec<Value> = service.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    let mut pod = json!({
        "restartPolicy": "Never", "serviceAccountName": database, "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": ID, "runAsGroup": ID, "fsGroup": ID,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "backup", "image": image,
            "command": ["sh", format!("{FILES}/backup.sh")],
            "env": [{"name": "KEEP", "value": backup.keep.to_string()}],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "backup", "mountPath": "/backup"},
                {"name": "files", "mountPath": FILES, "readOnly": true},
                {"name": "credentials", "mountPath": "/etc/murmur/credentials", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": [
            {"name": "backup", "persistentVolumeClaim": {"claimName": name(&service.name)}},
            {"name": "files", "configMap": {"name": database}},
            {"name": "credentials", "secret": {"secretName": database, "defaultMode": 0o440, "items": items}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    });
    if !pull.is_empty() {
        pod["imagePullSecrets"] = json!(pull);
    }
    pod
}
