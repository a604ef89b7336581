//! Backups of a mesh on a schedule: a CronJob, and a claim that outlives it.

use k8s_openapi::api::batch::v1::CronJob;
use kube::core::ApiResource;
use murmur_crds::Mesh;
use murmur_mesh::people::Person;
use serde_json::{Value, json};

use crate::invalid::{self, Invalid};
use crate::labels::{MANAGED_BY, MANAGER, MICROSERVICE, NAME};
use crate::object::{self, Object};
use crate::settings::Settings;

/// The name of both objects. No service has it: the ending is reserved.
pub const BACKUP: &str = "murmur-backup";

/// A backup that can be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidBackup {
    /// When, as cron writes it.
    pub schedule: String,
    /// How many are kept.
    pub keep: u16,
    /// The size of the claim.
    pub size: String,
    /// Its class; the cluster's default if `None`.
    pub storage_class_name: Option<String>,
}

/// The backup that a Mesh asks for, if any.
///
/// # Errors
/// When a number or quantity is not one or out of range.
pub fn validate(mesh: &Mesh) -> Result<Option<ValidBackup>, Invalid> {
    let Some(backup) = mesh.spec.event_store.as_ref().and_then(|store| store.backup.as_ref()) else {
        return Ok(None);
    };
    backup.storage.size.bytes().map_err(|error| Invalid::InvalidQuantity {
        field: "spec.eventStore.backup.storage.size".to_owned(),
        error,
    })?;
    let keep = invalid::within(
        "spec.eventStore.backup.keep",
        backup.keep,
        1..=1000,
        "keep is a number from 1 to 1000",
    )?;
    Ok(Some(ValidBackup {
        schedule: backup.schedule.clone(),
        keep,
        size: backup.storage.size.0.clone(),
        storage_class_name: backup.storage.storage_class_name.clone(),
    }))
}

/// The claim and the CronJob, in the order in which they are applied.
pub fn objects(namespace: &str, mesh_uid: &str, backup: &ValidBackup, settings: &Settings) -> [Object; 2] {
    let labels = json!({(NAME): BACKUP, (MANAGED_BY): MANAGER, (MICROSERVICE): BACKUP});
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        // No owner: what was saved outlives the Mesh, as all claims outlive what they were made for.
        "metadata": {"name": BACKUP, "namespace": namespace, "labels": labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": backup.size}}},
    });
    if let Some(class) = &backup.storage_class_name {
        claim["spec"]["storageClassName"] = json!(class);
    }
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": BACKUP, "namespace": namespace, "labels": labels, "ownerReferences": [{
            "apiVersion": "murmur.dev/v1alpha1", "kind": "Mesh", "name": murmur_crds::mesh::NAME, "uid": mesh_uid,
            "controller": true, "blockOwnerDeletion": false,
        }]},
        "spec": {
            "schedule": backup.schedule, "concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": {"backoffLimit": 3, "activeDeadlineSeconds": 7200, "template": {
                "metadata": {"labels": labels_of_pod()},
                "spec": pod(namespace, backup, settings),
            }}},
        },
    });
    [
        Object { resource: object::claim(), name: BACKUP.to_owned(), value: claim },
        Object { resource: cron_job(), name: BACKUP.to_owned(), value: job },
    ]
}

/// The kind of the CronJob.
pub fn cron_job() -> ApiResource {
    ApiResource::erase::<CronJob>(&())
}

/// Not the label of a service's pods: it is none.
fn labels_of_pod() -> Value {
    json!({(NAME): BACKUP, (MANAGED_BY): MANAGER})
}

fn pod(namespace: &str, backup: &ValidBackup, settings: &Settings) -> Value {
    let keep = backup.keep.to_string();
    json!({
        "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "backup", "image": settings.cli_image, "imagePullPolicy": "IfNotPresent",
            "command": ["/murmur"],
            "args": ["--namespace", namespace, "--credentials", "/credentials",
                "mesh", "backup", "--to", "/backup", "--keep", keep],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "backup", "mountPath": "/backup"},
                {"name": "credentials", "mountPath": "/credentials", "readOnly": true},
            ],
        }],
        "volumes": [
            {"name": "backup", "persistentVolumeClaim": {"claimName": BACKUP}},
            // To save is to read.
            {"name": "credentials", "secret": {"secretName": Person::Viewer.secret(), "defaultMode": 0o440}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use murmur_crds::mesh::{Backup, BackupStorage, EventStore, MeshSpec};

    use super::*;
    use crate::examples::settings;

    fn mesh(keep: i32) -> Mesh {
        let storage = BackupStorage { size: "5Gi".into(), storage_class_name: None };
        let backup = Backup { schedule: "0 3 * * *".to_owned(), keep, storage };
        Mesh::new(
            "default",
            MeshSpec { event_store: Some(EventStore { backup: Some(backup), ..EventStore::default() }) },
        )
    }

    #[test]
    fn a_schedule_becomes_a_cron_job_and_a_claim_without_an_owner() {
        let backup = validate(&mesh(7)).unwrap().unwrap();
        let [claim, job] = objects("shop", "uid-1", &backup, &settings());
        assert!(claim.value["metadata"]["ownerReferences"].is_null());
        serde_json::from_value::<CronJob>(job.value.clone()).unwrap();
        insta::assert_yaml_snapshot!("claim", claim.value);
        insta::assert_yaml_snapshot!("cron_job", job.value);
    }

    #[test]
    fn a_mesh_without_a_backup_has_none_and_a_number_out_of_range_is_refused() {
        assert_eq!(validate(&Mesh::new("default", MeshSpec::default())), Ok(None));
        assert!(validate(&mesh(0)).is_err());
    }
}
