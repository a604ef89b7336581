//! Database servers: what is made for them, and what becomes of their data.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use murmur_crds::Microservice;
use serde_json::{Value, json};

use crate::data::collect;
use crate::world::{World, condition, named, test, wait};

fn postgres(more: &Value) -> Value {
    let mut database = json!({"engine": "Postgres", "version": "17.2", "storage": {"size": "1Gi"}});
    database.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"database": database})
}

async fn secret(world: &World, ns: &str, name: &str) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(world.api::<Secret>(ns).get(name).await?)?)
}

#[test]
fn a_server_gets_all_that_it_needs_and_is_ready_when_it_answers() {
    test("a server", |world| async move {
        let ns = world.namespace("server").await?;
        let lacks = json!({"metadata": {"generateName": "users-db."}, "type": "Warning",
            "reason": "ProvisioningFailed", "message": "storageclass \"fast\" not found",
            "lastTimestamp": "2026-11-21T10:00:00Z",
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "users-db", "namespace": ns}});
        let lacks: Event = serde_json::from_value(lacks)?;
        world.api::<Event>(&ns).create(&PostParams::default(), &lacks).await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let (reason, message) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "ClaimPending");
        assert!(message.contains("storageclass \"fast\" not found"), "{message}");
        world.api::<Service>(&ns).get("users-db").await?;
        world.api::<ServiceAccount>(&ns).get("users-db").await?;
        world.api::<NetworkPolicy>(&ns).get("users-db").await?;
        let files = world.api::<ConfigMap>(&ns).get("users-db").await?.data.unwrap_or_default();
        assert!(files["postgresql.conf"].contains("ssl = 'on'"));
        let credentials = secret(&world, &ns, "users-db").await?;
        let keys: Vec<&String> = credentials["data"].as_object().unwrap().keys().collect();
        let wanted = [
            "admin-password",
            "ca.crt",
            "database",
            "host",
            "murmur-password",
            "password",
            "port",
            "url",
            "username",
        ];
        assert_eq!(keys, wanted);
        assert_eq!(secret(&world, &ns, "users-db-tls").await?["type"], "kubernetes.io/tls");
        let set = world.api::<StatefulSet>(&ns).get("users-db").await?;
        let pod = set.spec.unwrap_or_default().template.spec.unwrap_or_default();
        assert_eq!(pod.containers[0].image.as_deref(), Some("docker.io/postgres:17.2"));

        world.claim_is_bound(&ns, "users-db", "1Gi").await?;
        wait("the server is missed", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("users").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "ServerMissing"))
        })
        .await?;
        world.server_is(&ns, "users", true).await?;
        world.condition(&ns, "users", "DatabaseReady", "True").await?;
        world.pods_become_ready(&ns, "users").await?;
        world.condition(&ns, "users", "Ready", "True").await?;
        let status = world.api::<Microservice>(&ns).get("users").await?.status.unwrap_or_default().database;
        let status = serde_json::to_value(status)?;
        let endpoint = format!("users-db.{ns}.svc:5432");
        assert_eq!(
            status,
            json!({"phase": "Ready", "endpoint": endpoint, "secretName": "users-db",
            "claimName": "users-db"})
        );

        for (at, text) in [("11:00:00", "the volume is full"), ("10:00:00", "no")] {
            let said = json!({"metadata": {"generateName": "users-db-0."}, "type": "Warning", "reason": "Unhealthy",
                "message": format!("Readiness probe failed: {text}\n"), "lastTimestamp": format!("2026-11-21T{at}Z"),
                "involvedObject": {"kind": "Pod", "name": "users-db-0", "namespace": ns}});
            let said: Event = serde_json::from_value(said)?;
            world.api::<Event>(&ns).create(&PostParams::default(), &said).await?;
        }
        world.server_is(&ns, "users", false).await?;
        let (reason, message) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "NotAnswering");
        assert!(message.ends_with("not ready: the volume is full"), "{message}");
        world.condition(&ns, "users", "Ready", "False").await?;
        Ok(())
    });
}

#[test]
fn data_and_credentials_survive_their_service_and_are_taken_up_again() {
    test("credentials survive", |world| async move {
        let ns = world.namespace("survive").await?;
        world.microservice(&ns, "kept", postgres(&json!({}))).await?;
        let delete = json!({"storage": {"size": "1Gi", "whenDeleted": "Delete"}});
        world.microservice(&ns, "gone", postgres(&delete)).await?;
        world.condition(&ns, "kept", "BusReady", "True").await?;
        world.condition(&ns, "gone", "BusReady", "True").await?;
        let before = secret(&world, &ns, "kept-db").await?;
        let claims = world.api::<PersistentVolumeClaim>(&ns);
        let claim = claims.get("kept-db").await?.metadata.uid;
        let uid = async |name: &str| {
            Ok::<_, anyhow::Error>(
                world.api::<Microservice>(&ns).get(name).await?.metadata.uid.unwrap_or_default(),
            )
        };
        let (old, gone) = (uid("kept").await?, uid("gone").await?);
        world.delete::<Microservice>(&ns, "kept").await?;
        world.delete::<Microservice>(&ns, "gone").await?;
        wait("what was to go has gone", || async {
            // A look that began before may make an object once more.
            collect(&world, &ns, &gone).await?;
            let secret = world.api::<Secret>(&ns).get_opt("gone-db").await?;
            let claim =
                claims.get_opt("gone-db").await?.filter(|it| it.metadata.deletion_timestamp.is_none());
            Ok((secret.is_none() && claim.is_none()).then_some(()))
        })
        .await?;

        world.microservice(&ns, "kept", postgres(&json!({}))).await?;
        let new = uid("kept").await?;
        wait("the server is back", || async {
            collect(&world, &ns, &old).await?;
            let set = world.api::<StatefulSet>(&ns).get_opt("kept-db").await?;
            Ok(set.filter(|set| set.owner_references().iter().any(|owner| owner.uid == new)))
        })
        .await?;
        let after = secret(&world, &ns, "kept-db").await?;
        assert_eq!(
            (&before["data"], &before["metadata"]["uid"]),
            (&after["data"], &after["metadata"]["uid"])
        );
        assert_eq!(claims.get("kept-db").await?.metadata.uid, claim);

        // Without the field the server goes, its data does not; not even data that goes with its service.
        world.microservice(&ns, "stays", postgres(&delete)).await?;
        world.condition(&ns, "stays", "BusReady", "True").await?;
        for name in ["kept", "stays"] {
            world.microservice(&ns, name, json!({})).await?;
            wait("the server has gone", || async {
                let set = world.api::<StatefulSet>(&ns).get_opt(&format!("{name}-db")).await?;
                Ok(set.is_none().then_some(()))
            })
            .await?;
        }
        assert!(claims.get("stays-db").await?.metadata.deletion_timestamp.is_none());
        world.api::<Secret>(&ns).get("stays-db").await?;
        assert_eq!(claims.get("kept-db").await?.metadata.uid, claim);
        assert_eq!(secret(&world, &ns, "kept-db").await?["data"], before["data"]);
        Ok(())
    });
}

#[test]
fn credentials_are_never_made_anew_while_there_is_data() {
    test("credentials lost", |world| async move {
        let ns = world.namespace("lost").await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let secrets = world.api::<Secret>(&ns);
        let mut kept = secrets.get("users-db").await?;
        world.delete::<Secret>(&ns, "users-db").await?;
        world
            .microservice(&ns, "users", postgres(&json!({"resources": {"requests": {"cpu": "60m"}}})))
            .await?;
        let (reason, message) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "CredentialsLost");
        assert!(message.contains("restore the Secret"), "{message}");
        assert!(secrets.get_opt("users-db").await?.is_none());
        let whole = kept.data.clone().unwrap_or_default();
        kept.metadata.resource_version = None;
        kept.metadata.uid = None;

        // Half of it is as good as nothing, and nothing is guessed.
        kept.data.as_mut().unwrap().remove("password");
        secrets.create(&PostParams::default(), &kept).await?;
        wait("what is missing is named", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("users").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "CredentialsUnusable"))
        })
        .await?;
        let whole = json!({"data": whole});
        secrets.patch("users-db", &PatchParams::default(), &Patch::Merge(&whole)).await?;
        wait("it goes on by itself", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("users").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "ClaimPending"))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn storage_grows_where_its_class_allows_it_and_says_so_where_not() {
    test("growth", |world| async move {
        let ns = world.namespace("growth").await?;
        for (name, grows) in [("grows", true), ("stays", false)] {
            let name = format!("{name}-{ns}");
            let class = json!({"metadata": {"name": name}, "provisioner": "example.com/none",
                "allowVolumeExpansion": grows});
            let classes: Api<StorageClass> = Api::all(world.client.clone());
            classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
        }
        let claims = world.api::<PersistentVolumeClaim>(&ns);
        let size = |name: &'static str| {
            let claims = claims.clone();
            async move {
                let spec = claims.get(name).await?.spec.unwrap_or_default();
                Ok::<_, anyhow::Error>(
                    spec.resources.unwrap_or_default().requests.unwrap_or_default()["storage"].0.clone(),
                )
            }
        };
        for name in ["grows", "stays"] {
            let storage = |size: &str| {
                postgres(&json!({"storage": {"size": size, "storageClassName": format!("{name}-{ns}")}}))
            };
            world.microservice(&ns, name, storage("1Gi")).await?;
            world.condition(&ns, name, "BusReady", "True").await?;
            let claim = format!("{name}-db");
            world.claim_is_bound(&ns, &claim, "1Gi").await?;
            world.server_is(&ns, name, true).await?;
            world.condition(&ns, name, "DatabaseReady", "True").await?;
            world.microservice(&ns, name, storage("2Gi")).await?;
        }
        wait("the claim is larger", || async { Ok((size("grows-db").await? == "2Gi").then_some(())) })
            .await?;
        wait("it is told", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("grows").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "StorageGrowing"))
        })
        .await?;
        world.claim_is_bound(&ns, "grows-db", "2Gi").await?;
        wait("it is done", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("grows").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "Ready"))
        })
        .await?;

        let (reason, message) = world.condition(&ns, "stays", "DatabaseReady", "False").await?;
        assert_eq!(reason, "StorageCannotGrow");
        assert!(message.contains("stays-db") && message.contains("resize"), "{message}");
        assert_eq!(size("stays-db").await?, "1Gi");
        Ok(())
    });
}

#[test]
fn a_minor_version_rolls_and_a_major_one_is_refused() {
    test("versions", |world| async move {
        let ns = world.namespace("versions").await?;
        let version = |version: &str| postgres(&json!({"version": version}));
        // One that never comes up is no obstacle.
        world.microservice(&ns, "users", version("99")).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        world.microservice(&ns, "users", version("16.3")).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        world.claim_is_bound(&ns, "users-db", "1Gi").await?;
        world.server_is(&ns, "users", true).await?;
        let image = || async {
            let set = world.api::<StatefulSet>(&ns).get("users-db").await?.spec.unwrap_or_default();
            let image = set.template.spec.unwrap_or_default().containers[0].image.clone();
            Ok::<_, anyhow::Error>(image.unwrap_or_default())
        };
        world.microservice(&ns, "users", version("16.4")).await?;
        world.condition(&ns, "users", "DatabaseReady", "True").await?;
        wait("it rolls", || async { Ok((image().await? == "docker.io/postgres:16.4").then_some(())) })
            .await?;
        world.microservice(&ns, "users", version("17.0")).await?;
        let (reason, message) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "MajorVersionRefused");
        assert!(message.contains("docs/databases.md"), "{message}");
        assert_eq!(image().await?, "docker.io/postgres:16.4");
        world.microservice(&ns, "users", version("16.5")).await?;
        world.condition(&ns, "users", "DatabaseReady", "True").await?;
        Ok(())
    });
}

#[test]
fn objects_of_someone_else_are_left_alone_and_named() {
    test("taken by a database", |world| async move {
        let ns = world.namespace("taken").await?;
        let theirs = Secret { metadata: named("users-db"), ..Secret::default() };
        let secrets = world.api::<Secret>(&ns);
        let before = secrets.create(&PostParams::default(), &theirs).await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "NameTaken");
        assert!(message.contains("Secret users-db"), "{message}");
        assert_eq!(
            secrets.get("users-db").await?.metadata.resource_version,
            before.metadata.resource_version
        );
        assert!(world.api::<PersistentVolumeClaim>(&ns).get_opt("users-db").await?.is_none());

        let theirs = ConfigMap { metadata: named("orders-db"), ..ConfigMap::default() };
        world.api::<ConfigMap>(&ns).create(&PostParams::default(), &theirs).await?;
        world.microservice(&ns, "orders", postgres(&json!({}))).await?;
        let (_, message) = world.condition(&ns, "orders", "Ready", "False").await?;
        assert!(message.contains("ConfigMap orders-db"), "{message}");
        Ok(())
    });
}

#[test]
fn a_certificate_that_was_spoiled_is_made_anew_and_nothing_else() {
    test("certificates", |world| async move {
        let ns = world.namespace("tls").await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let before = secret(&world, &ns, "users-db-tls").await?;
        let credentials = secret(&world, &ns, "users-db").await?;
        let spoiled = json!({"data": {"tls.crt": "bm9uZQ=="}});
        world
            .api::<Secret>(&ns)
            .patch("users-db-tls", &PatchParams::default(), &Patch::Merge(&spoiled))
            .await?;
        // Secrets are not watched: any look at the service sees it.
        world
            .microservice(&ns, "users", postgres(&json!({"resources": {"requests": {"cpu": "60m"}}})))
            .await?;
        wait("it is another one", || async {
            let now = secret(&world, &ns, "users-db-tls").await?;
            let certificate = &now["data"]["tls.crt"];
            Ok((*certificate != before["data"]["tls.crt"] && *certificate != "bm9uZQ==").then_some(()))
        })
        .await?;
        assert_eq!(secret(&world, &ns, "users-db").await?["data"], credentials["data"]);
        Ok(())
    });
}

#[test]
fn another_engine_does_not_take_over_the_data_of_one_that_was_removed() {
    test("engines", |world| async move {
        let ns = world.namespace("engines").await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        world.microservice(&ns, "users", json!({})).await?;
        wait("the server has gone", || async {
            Ok(world.api::<StatefulSet>(&ns).get_opt("users-db").await?.is_none().then_some(()))
        })
        .await?;
        let mariadb = json!({"database": {"engine": "MariaDB", "storage": {"size": "1Gi"}}});
        world.microservice(&ns, "users", mariadb).await?;
        let (reason, message) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "EngineDiffers");
        assert!(message.contains("data of Postgres, not of MariaDB"), "{message}");
        assert!(world.api::<StatefulSet>(&ns).get_opt("users-db").await?.is_none());
        Ok(())
    });
}

#[test]
fn a_database_elsewhere_is_ready_once_its_secret_says_where_it_is() {
    test("elsewhere", |world| async move {
        let ns = world.namespace("elsewhere").await?;
        let external = json!({"database": {"engine": "External", "external": {"secretRef": {"name": "x"}}}});
        world.microservice(&ns, "users", external).await?;
        let (reason, _) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "SecretMissing");
        let mut secret = Secret { metadata: named("x"), ..Secret::default() };
        secret.string_data = Some([("password".to_owned(), "p".to_owned())].into());
        world.api::<Secret>(&ns).create(&PostParams::default(), &secret).await?;
        wait("what is missing is named", || async {
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("users").await?)?;
            Ok(condition(&found, "DatabaseReady").filter(|it| it["reason"] == "SecretIncomplete"))
        })
        .await?;
        let url = json!({"stringData": {"url": "oracle://x"}});
        world.api::<Secret>(&ns).patch("x", &PatchParams::default(), &Patch::Merge(&url)).await?;
        world.condition(&ns, "users", "DatabaseReady", "True").await?;
        let deployment = world.api::<k8s_openapi::api::apps::v1::Deployment>(&ns).get("users").await?;
        assert!(serde_json::to_string(&deployment)?.contains("DATABASE_URL"));
        assert!(world.api::<StatefulSet>(&ns).get_opt("users-db").await?.is_none());
        Ok(())
    });
}

#[test]
fn backups_come_and_go_with_their_field_but_what_was_saved_stays() {
    test("backups of a database", |world| async move {
        let ns = world.namespace("saved").await?;
        let backup = json!({"backup": {"schedule": "0 3 * * *", "storage": {"size": "5Gi"}}});
        world.microservice(&ns, "users", postgres(&backup)).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let jobs = world.api::<CronJob>(&ns);
        let job = serde_json::to_value(jobs.get("users-backup").await?)?;
        let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "docker.io/postgres:17.2");
        world.api::<PersistentVolumeClaim>(&ns).get("users-backup").await?;
        world.microservice(&ns, "users", postgres(&json!({}))).await?;
        wait("the CronJob has gone", || async {
            Ok(jobs.get_opt("users-backup").await?.is_none().then_some(()))
        })
        .await?;
        world.api::<PersistentVolumeClaim>(&ns).get("users-backup").await?;
        // A schedule that is none is told, and the database goes on.
        let wrong = json!({"backup": {"schedule": "every night", "storage": {"size": "5Gi"}}});
        world.microservice(&ns, "users", postgres(&wrong)).await?;
        let (_, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert!(message.contains("schedule"), "{message}");
        let (reason, _) = world.condition(&ns, "users", "DatabaseReady", "False").await?;
        assert_eq!(reason, "ClaimPending", "nothing else is claimed of the database");
        assert!(world.api::<StatefulSet>(&ns).get_opt("users-db").await?.is_some());
        Ok(())
    });
}
