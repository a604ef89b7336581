//! What each engine's own tool has saved, on a schedule and on demand, is what a new server can begin with.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::{Method, StatusCode};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use murmur_e2e::sample::READY;
use murmur_e2e::{TestMesh, eventually};
use serde_json::{Value, json};

use super::{ENGINES, Engine, MARIADB, POSTGRES, REDIS, note_everywhere};

/// Makes a backup now, as docs/databases.md says; gives its name.
async fn saved_now(mesh: &TestMesh, engine: &Engine) -> Result<String> {
    let service = engine.service;
    let (job, from) = (format!("{service}-now"), format!("--from=cronjob/{service}-backup"));
    mesh.kubectl(&["create", "job", &job, &from]).await?;
    let log = mesh.complete(&job).await?;
    let saved = log.lines().find_map(|line| line.strip_prefix("saved ")?.split(':').next());
    Ok(saved.with_context(|| format!("{job} says: {log}"))?.to_owned())
}

/// Waits until the schedule has made one.
async fn saved_on_schedule(mesh: &TestMesh, engine: &Engine) -> Result<()> {
    let jobs: Api<Job> = Api::namespaced(mesh.cluster.client.clone(), &mesh.namespace);
    let label = format!("murmur.dev/database-backup={}", engine.service);
    // One made with `kubectl create job --from` belongs to the CronJob, too.
    let not_by_hand = |job: &&Job| job.annotations().get("cronjob.kubernetes.io/instantiate").is_none();
    eventually(&format!("the schedule of {} has made a backup", engine.service), READY, || async {
        let all = jobs.list(&ListParams::default().labels(&label)).await?.items;
        let scheduled: Vec<_> = all.iter().filter(not_by_hand).map(|job| &job.status).collect();
        let done =
            scheduled.iter().any(|status| status.as_ref().and_then(|status| status.succeeded) == Some(1));
        if done { Ok(Some(())) } else { anyhow::bail!("{scheduled:?}") }
    })
    .await
}

/// The sample's service alone, under another name, beginning with a backup of the first one's.
fn beginning_with(engine: &Engine, backup: Option<&str>) -> Result<String> {
    let service = engine.service;
    let which = backup.map(|backup| format!(", backup: {backup}")).unwrap_or_default();
    let sample = engine.sample_with(&format!("restoreFrom: {{claimName: {service}-backup{which}}}"))?;
    let alone =
        sample.split("---\n").find(|part| part.contains("kind: Microservice")).context("no service")?;
    Ok(alone
        .replace(&format!("metadata: {{name: {service}}}"), &format!("metadata: {{name: {service}-again}}")))
}

#[tokio::test]
async fn row_1_a_backup_of_each_engine_is_what_a_new_service_can_begin_with() -> Result<()> {
    let mesh = TestMesh::create("saved").await?;
    let storage = "{size: 64Mi, storageClassName: murmur-local}";
    for engine in &ENGINES {
        let backup = format!("backup: {{schedule: '0 3 1 6 *', keep: 20, storage: {storage}}}");
        mesh.apply(&engine.sample_with(&backup)?).await?;
    }
    for engine in &ENGINES {
        mesh.wait_for("Microservice", engine.service, "Ready", "True", READY).await?;
    }
    note_everywhere(&mesh, 1).await?;
    let saved = try_join_all(ENGINES.iter().map(|engine| saved_now(&mesh, engine))).await?;
    note_everywhere(&mesh, 2).await?;
    // From here on the schedule makes them, too.
    let every_minute = r#"{"spec":{"database":{"backup":{"schedule":"* * * * *"}}}}"#;
    for engine in &ENGINES {
        let service = format!("msvc/{}", engine.service);
        mesh.kubectl(&["patch", &service, "--type=merge", "-p", every_minute]).await?;
    }

    for (engine, backup) in ENGINES.iter().zip(&saved) {
        mesh.apply(&beginning_with(engine, Some(backup))?).await?;
    }
    for (engine, [told, not_yet]) in [
        (POSTGRES, ["/posts/n1", "/posts/n2"]),
        (MARIADB, ["/posts/n1/comments/n1", "/posts/n2/comments/n2"]),
        (REDIS, ["/comments/n1", "/comments/n2"]),
    ] {
        let name = format!("{}-again", engine.service);
        mesh.wait_for("Microservice", &name, "Ready", "True", READY).await?;
        let first = mesh.answers(&name, (Method::GET, told, Value::Null), StatusCode::OK, READY).await?;
        ensure!(first["id"] == "n1", "{name}: {first}");
        // What was written after the backup is not in it.
        let (status, second) = mesh.ask(&name, Method::GET, not_yet, Value::Null).await?;
        ensure!(status == 404, "{name}: {status} {second}");
        let passwords = [engine.service, &name].map(|name| {
            let secret = format!("secret/{name}-db");
            let mesh = &mesh;
            async move { mesh.kubectl(&["get", &secret, "-o", "jsonpath={.data.password}"]).await }
        });
        let passwords = try_join_all(passwords).await?;
        ensure!(passwords[0] != passwords[1], "{name} has the password of the service that was saved");
    }
    // And it is written to, by a service with a password of its own.
    let post = json!({"id": "new", "title": "new", "body": ""});
    mesh.answers("posts-again", (Method::POST, "/posts", post), StatusCode::CREATED, READY).await?;
    let comment = json!({"id": "new", "text": "new"});
    mesh.answers("comments-again", (Method::POST, "/posts/n1/comments", comment), StatusCode::CREATED, READY)
        .await?;
    let decided = json!({"status": "approved"});
    mesh.answers("moderation-again", (Method::PUT, "/comments/n1", decided), StatusCode::OK, READY).await?;
    try_join_all(ENGINES.iter().map(|engine| saved_on_schedule(&mesh, engine))).await?;
    mesh.delete().await
}
