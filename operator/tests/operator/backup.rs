//! Backups on a schedule: what the operator makes of them.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use murmur_crds::Mesh;
use serde_json::json;

use crate::world::{named, test, wait};

#[test]
fn a_schedule_makes_a_cron_job_and_a_claim_and_the_claim_stays_when_it_goes() {
    test("backups on a schedule", |world| async move {
        let ns = world.namespace("backup").await?;
        let backup = |schedule: &str| json!({"schedule": schedule, "storage": {"size": "5Gi"}});
        let mesh = |schedule: &str| {
            json!({"apiVersion": "murmur.dev/v1alpha1", "kind": "Mesh",
            "metadata": {"name": "default"}, "spec": {"eventStore": {"backup": backup(schedule)}}})
        };
        let meshes: Api<Mesh> = world.api(&ns);
        meshes.create(&PostParams::default(), &serde_json::from_value(mesh("0 3 * * *"))?).await?;
        world.condition_of::<Mesh>(&ns, "default", "Ready", "True").await?;
        let (jobs, claims): (Api<CronJob>, Api<PersistentVolumeClaim>) = (world.api(&ns), world.api(&ns));
        let job = jobs.get("murmur-backup").await?.spec.unwrap();
        assert_eq!(job.schedule, "0 3 * * *");
        claims.get("murmur-backup").await?;

        let parameters = PatchParams::apply("test").force();
        meshes.patch("default", &parameters, &Patch::Apply(mesh("every night"))).await?;
        let (_, message) = world.condition_of::<Mesh>(&ns, "default", "Ready", "False").await?;
        assert!(message.contains("schedule"), "{message}");

        let without = json!({"spec": {"eventStore": {"backup": null}}});
        meshes.patch("default", &PatchParams::default(), &Patch::Merge(&without)).await?;
        wait("the CronJob is gone", || async {
            Ok(jobs.get_opt("murmur-backup").await?.is_none().then_some(()))
        })
        .await?;
        claims.get("murmur-backup").await?;
        Ok(())
    });
}

#[test]
fn a_cron_job_of_that_name_that_is_someone_elses_is_left_alone() {
    test("another's cron job", |world| async move {
        let ns = world.namespace("cron").await?;
        let jobs: Api<CronJob> = world.api(&ns);
        let theirs = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "murmur-backup"},
            "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}}});
        jobs.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
        let spec = json!({"eventStore": {"backup": {"schedule": "0 3 * * *", "storage": {"size": "5Gi"}}}});
        let mesh = Mesh {
            metadata: ObjectMeta { ..named("default") },
            ..Mesh::new("default", serde_json::from_value(spec)?)
        };
        world.api::<Mesh>(&ns).create(&PostParams::default(), &mesh).await?;
        let (reason, _) = world.condition_of::<Mesh>(&ns, "default", "Ready", "False").await?;
        assert_eq!(reason, "NameTaken");
        assert_eq!(jobs.get("murmur-backup").await?.spec.unwrap().schedule, "0 0 * * *");
        Ok(())
    });
}

#[test]
fn a_backup_is_made_and_its_mistakes_are_told_whatever_the_streams_are() {
    test("backup first", |world| async move {
        let ns = world.namespace("backup").await?;
        // One server cannot keep three replicas.
        let spec = |schedule: &str| {
            let backup = json!({"schedule": schedule, "storage": {"size": "5Gi"}});
            json!({"eventStore": {"replicas": 3, "backup": backup}})
        };
        let meshes: Api<Mesh> = world.api(&ns);
        meshes
            .create(
                &PostParams::default(),
                &Mesh::new("default", serde_json::from_value(json!({"eventStore": {}}))?),
            )
            .await?;
        world.condition_of::<Mesh>(&ns, "default", "Ready", "True").await?;
        let change = async |spec: serde_json::Value| {
            let patch = Patch::Merge(json!({"spec": spec}));
            meshes.patch("default", &PatchParams::default(), &patch).await
        };
        change(spec("every night")).await?;
        let (_, message) = world.condition_of::<Mesh>(&ns, "default", "Ready", "False").await?;
        assert!(message.contains("schedule"), "{message}");
        change(spec("0 3 * * *")).await?;
        let jobs: Api<CronJob> = world.api(&ns);
        wait("the CronJob is there", || async { Ok(jobs.get_opt("murmur-backup").await?) }).await?;
        let (_, message) = world.condition_of::<Mesh>(&ns, "default", "Ready", "False").await?;
        assert!(message.contains("replicas"), "{message}");
        change(json!({"eventStore": {"backup": null}})).await?;
        wait("the CronJob is gone", || async {
            Ok(jobs.get_opt("murmur-backup").await?.is_none().then_some(()))
        })
        .await
    });
}
