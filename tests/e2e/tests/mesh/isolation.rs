//! Row 1 of systems.md: what is one service's no other gets at. A probe with another service's identity tries the port,
//! the credentials and the volume.

use anyhow::{Context, Result, ensure};
use http::Method;
use murmur_e2e::{Probe, TestMesh, command, eventually, yaml};
use serde_json::Value;

use crate::SOON;

/// What the probe got, and why no more.
async fn attempt(probe: &Probe, path: &str) -> Result<(Vec<Value>, String)> {
    let (status, answer) = probe.request(Method::GET, path, Value::Null).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    ensure!(status == 200, "{path}: {status} {answer}");
    let got = answer["got"].as_array().cloned().unwrap_or_default();
    Ok((got, answer["error"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn row_1_another_services_identity_opens_neither_the_port_nor_the_credentials_nor_the_volume()
-> Result<()> {
    let mesh = TestMesh::create("thief").await?;
    // It has a database of its own, and with it credentials that are good for that.
    let database = "{engine: Postgres, storage: {size: 256Mi}, resources: {requests: {cpu: 10m}}}";
    let own = format!("  database: {database}\n  calls: [{{name: posts}}]");
    mesh.apply(&yaml::service("thief", &own)).await?;
    mesh.apply_samples("blog", &["posts"]).await?;
    let thief = mesh.ready("thief").await?;

    // The port. Its own it reaches, and posts itself: so it is no fault of the network.
    for open in ["thief-db:5432", "posts:80"] {
        eventually("it reaches what it may", SOON, || async {
            let (got, error) = attempt(&thief, &format!("/reach?address={open}")).await?;
            if got.is_empty() { anyhow::bail!("{open}: {error}") } else { Ok(Some(())) }
        })
        .await?;
    }
    let addresses = ["get", "pod", "posts-db-0", "-o", "jsonpath={.status.podIP}"];
    let address = mesh.kubectl(&addresses).await?;
    let far = TestMesh::create("far").await?;
    far.apply(&yaml::service("posts", "")).await?; // of the same name, in another mesh
    let far_posts = far.ready("posts").await?;
    for target in [format!("posts-db.{}.svc:5432", mesh.namespace), format!("{address}:5432")] {
        for probe in [&thief, &far_posts] {
            let (got, error) = attempt(probe, &format!("/reach?address={target}")).await?;
            ensure!(got.is_empty() && !error.is_empty(), "{target} is open: {got:?}");
        }
    }

    // The credentials. No service account may read a Secret, make a pod or enter one.
    for account in ["thief", "posts", "posts-db", "thief-db"] {
        let account = format!("--as=system:serviceaccount:{}:{account}", mesh.namespace);
        for what in
            [["get", "secret/posts-db"], ["list", "secrets"], ["create", "pods"], ["create", "pods/exec"]]
        {
            // It ends with a failure when the answer is no.
            let may = mesh.kubectl(&["auth", "can-i", what[0], what[1], &account]).await;
            ensure!(may.is_err(), "{account} may {what:?}");
        }
    }
    let told = thief.request(Method::GET, "/environment", Value::Null).await?.1;
    let secret = mesh.kubectl(&["get", "secret", "posts-db", "-o", "jsonpath={.data.password}"]).await?;
    let password = command::run("base64", &["-d"], &secret).await?;
    ensure!(!String::from_utf8_lossy(&told).contains(&password), "posts' password is in thief's environment");
    // What opens the one database does not open the other, not even from inside.
    let own = mesh.kubectl(&["get", "secret", "thief-db", "-o", "jsonpath={.data.password}"]).await?;
    let own = command::run("base64", &["-d"], &own).await?;
    ensure!(own != password, "both have the same password");
    for (password, opens) in [(&own, false), (&password, true)] {
        let login = format!("PGPASSWORD='{password}' psql -h 127.0.0.1 -U service service -c 'SELECT 1'");
        let came_in = mesh.kubectl(&["exec", "posts-db-0", "--", "sh", "-c", &login]).await;
        ensure!(came_in.is_ok() == opens, "{came_in:?}");
    }

    // The credentials and the volume, asked for in its own YAML.
    let steals = [
        "  env: [{name: STOLEN, valueFrom: {secretKeyRef: {name: posts-db, key: password}}}]",
        "  envFrom: [{secretRef: {name: posts-db}}]",
        "  podOverrides: {spec: {volumes: [{name: stolen, persistentVolumeClaim: {claimName: posts-db}}]}}",
        "  podOverrides: {spec: {volumes: [{name: stolen, secret: {secretName: posts-sidecar}}]}}",
    ];
    for (number, steals) in steals.into_iter().enumerate() {
        let name = format!("asks{number}");
        mesh.apply(&yaml::service(&name, steals)).await?;
        let ready = mesh.wait_for("Microservice", &name, "Ready", "False", SOON).await?;
        ensure!(ready.message.contains("posts-"), "{ready:?}");
        ensure!(mesh.kubectl(&["get", "deployment", &name]).await.is_err(), "{name} runs");
    }
    // And by a pod of its user and its account that somebody makes by hand, the data cannot be read.
    mesh.apply(STOLEN_VOLUME).await?;
    mesh.kubectl(&["wait", "--for=condition=Ready", "pod/stolen", "--timeout=60s"]).await?;
    let body = bytes::Bytes::new();
    let (status, answer) = mesh
        .cluster
        .http(&mesh.namespace, "stolen", 8080, Method::GET, "/files?folder=/stolen", body)
        .await?;
    let answer: Value = serde_json::from_slice(&answer).context("no JSON")?;
    let got = answer["got"].as_array().cloned().unwrap_or_default();
    let data = got.iter().filter(|file| !file.as_str().is_some_and(|file| file.contains("/.murmur"))).count();
    ensure!(status == 200 && data == 0 && answer["error"] != "", "it reads the volume: {answer}");
    far.delete().await?;
    mesh.delete().await
}

/// The claim of posts' database in a pod of the user and the account of another service.
const STOLEN_VOLUME: &str = "
apiVersion: v1
kind: Pod
metadata: {name: stolen}
spec:
  serviceAccountName: thief
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: probe
    image: murmur-e2e/probe:dev
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    readinessProbe: {httpGet: {path: /readyz, port: 8080}}
    volumeMounts: [{name: stolen, mountPath: /stolen}]
  volumes: [{name: stolen, persistentVolumeClaim: {claimName: posts-db}}]
";
