//! The bus may be a NATS that somebody else runs: it takes its address, and a Secret with three keys.

use std::time::Duration;

use anyhow::Result;
use murmur_e2e::cluster::SYSTEM;
use murmur_e2e::{TestMesh, command, yaml};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../install.sh");

/// A server in operator mode with a full resolver, as charts/murmur/README.md asks for. `IMAGE` and `AUTH`, the
/// configuration of whom it trusts, are put in.
const SERVER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: nats}
data:
  auth.conf: |
AUTH
  nats.conf: |
    listen: "0.0.0.0:4222"
    max_control_line: 1048576
    include "auth.conf"
    jetstream {store_dir: "/data", max_file_store: 1G}
---
apiVersion: v1
kind: Pod
metadata: {name: nats, labels: {app: nats}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: nats
    image: IMAGE
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    args: [--config, /etc/nats/nats.conf]
    volumeMounts: [{name: config, mountPath: /etc/nats}, {name: data, mountPath: /data}]
  volumes: [{name: config, configMap: {name: nats}}, {name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: nats}
spec: {selector: {app: nats}, ports: [{port: 4222}]}
"#;

async fn system(args: &[&str]) -> Result<String> {
    command::run("kubectl", &[&["-n", SYSTEM], args].concat(), "").await
}

#[tokio::test]
async fn events_travel_over_a_nats_of_ones_own() -> Result<()> {
    let bus = TestMesh::create("own-nats").await?;
    let image = system(&["get", "pod/murmur-nats-0", "-o", "jsonpath={.spec.containers[0].image}"]).await?;
    // Somebody's operator: that of the bundled server, which is nobody else's from here on.
    let auth = system(&["get", "configmap/murmur-nats-auth", "-o", r"jsonpath={.data.auth\.conf}"]).await?;
    let keys = r#"go-template={{range $key, $value := .data}}{{if or (eq $key "operator-signing.nk") (eq $key "system-user.nk") (eq $key "system-user.jwt")}}  {{$key}}: {{$value}}{{"\n"}}{{end}}{{end}}"#;
    let keys = system(&["get", "secret/murmur-trust", "-o", keys]).await?;
    command::run("helm", &["uninstall", "murmur", "-n", SYSTEM, "--wait", "--timeout=120s"], "").await?;

    let indented: String = auth.lines().map(|line| format!("    {line}\n")).collect();
    let server = SERVER.replace("AUTH", indented.trim_end()).replace("IMAGE", &image);
    bus.apply(&server).await?;
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: own-trust}}\ndata:\n{keys}");
    command::run("kubectl", &["-n", SYSTEM, "apply", "-f", "-"], &secret).await?;
    let url = format!("nats.url=nats://nats.{}.svc:4222", bus.namespace);
    let own = [
        "--set",
        "nats.enabled=false",
        "--set",
        &url,
        "--set",
        "trust.name=own",
        "--set",
        "eventStore.replicas=1",
    ];
    command::run(INSTALL, &own, "").await?;

    let mesh = TestMesh::create("on-own-nats").await?;
    let all = [yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", "")];
    mesh.apply(&all.concat()).await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    a.start_load("http://localhost:8080/emit", "t", 100, 200, 5).await?;
    let ids: Vec<_> = (0..100).map(|n| format!("t-{n:06}")).collect();
    b.receives(&ids, Duration::from_secs(60)).await?;

    // The other tests want the cluster as it was.
    mesh.delete().await?;
    command::run("helm", &["uninstall", "murmur", "-n", SYSTEM, "--wait", "--timeout=120s"], "").await?;
    system(&["delete", "secret/own-trust"]).await?;
    command::run(INSTALL, &[], "").await?;
    bus.delete().await
}
