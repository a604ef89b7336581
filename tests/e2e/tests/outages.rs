//! What happens when a part of Murmur itself goes away. These tests disturb
//! everyone on the cluster, so they run one after another.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_e2e::cluster::SYSTEM;
use murmur_e2e::{TestMesh, command, eventually, yaml};

const SOON: Duration = Duration::from_secs(90);

/// The bundled broker of the release `murmur`.
const BROKER: &str = "statefulset/murmur-nats";

async fn system(args: &[&str]) -> Result<String> {
    command::run("kubectl", &[&["-n", SYSTEM], args].concat(), "").await
}

/// Does something while the broker is away, and brings it back whatever comes of that.
async fn without_broker(meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let replicas = system(&["get", BROKER, "-o", "jsonpath={.spec.replicas}"]).await?;
    ensure!(replicas != "0", "the broker is away already: `kubectl -n {SYSTEM} scale {BROKER} --replicas=1`");
    let outcome = async {
        system(&["scale", BROKER, "--replicas=0"]).await?;
        meanwhile.await
    }
    .await;
    let back = async {
        system(&["scale", BROKER, &format!("--replicas={replicas}")]).await?;
        system(&["rollout", "status", BROKER, "--timeout=120s"]).await?;
        Ok(())
    }
    .await;
    outcome.and(back)
}

#[tokio::test]
async fn a_broker_that_stops_and_starts_costs_no_event_that_was_acknowledged() -> Result<()> {
    let mesh = TestMesh::create("broker").await?;
    mesh.apply(
        &[yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", "")].concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    a.start_load("http://localhost:8080/emit", "t", 3000, 100, 20).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;

    without_broker(async {
        // What was under way when the connection went may have been stored; what comes after it was certainly not.
        let body = eventually("publishing answers 503, certainly not stored", SOON, || async {
            let (status, body) = a.publish("Tick", "while-away", "").await?;
            let away = status == StatusCode::SERVICE_UNAVAILABLE && body["outcome"] == "notStored";
            if away { Ok(Some(body)) } else { anyhow::bail!("{status} {body}") }
        })
        .await?;
        ensure!(body["id"] == "while-away", "{body}");
        // A broker outage stops no service.
        mesh.wait_for("Microservice", "a", "BusReady", "False", SOON).await?;
        let pods = mesh
            .kubectl(&["get", "deployment", "a", "b", "-o", "jsonpath={.items[*].status.readyReplicas}"])
            .await?;
        ensure!(pods == "1 1", "ready replicas: {pods}");
        Ok(())
    })
    .await?;

    eventually("publishing works again", SOON, || async {
        Ok((a.publish("Tick", "after", "").await?.0 == StatusCode::OK).then_some(()))
    })
    .await?;
    let mut wanted = a.finish_load(SOON).await?.acked;
    wanted.push("after".to_owned());
    ensure!(wanted.len() > 300, "only {} events were acknowledged", wanted.len());
    b.receives(&wanted, SOON).await?;
    mesh.wait_for("Microservice", "a", "BusReady", "True", SOON).await?;
    mesh.delete().await
}

/// A service that is ready once it has caught up, with a mark that a rollout changes.
fn catching_up(mark: &str) -> String {
    let more = format!("  startup: {{waitFor: CaughtUp}}\n  env: [{{name: MARK, value: {mark}}}]");
    [yaml::service("b", &more), yaml::subscription("b-ticks", "b", "")].concat()
}

#[tokio::test]
async fn a_rollout_with_the_broker_away_goes_on_when_it_is_back_and_stops_nobody_meanwhile() -> Result<()> {
    let mesh = TestMesh::create("rollout").await?;
    mesh.apply(&[yaml::publisher("a"), catching_up("before")].concat()).await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    ensure!(a.publish("Tick", "before", "").await?.0 == StatusCode::OK);
    b.receives(&["before".to_owned()], SOON).await?;
    let pod = ["get", "pod", "-l", "murmur.dev/microservice=b", "-o", "jsonpath={.items[0].metadata.name}"];
    let old = mesh.kubectl(&pod).await?;

    without_broker(async {
        mesh.wait_for("Microservice", "b", "BusReady", "False", SOON).await?;
        let plain = yaml::service("plain", "");
        mesh.apply(
            &[
                yaml::service("a", "  publishes: [{type: Tick}]\n  env: [{name: MARK, value: after}]"),
                plain,
                catching_up("after"),
            ]
            .concat(),
        )
        .await?;
        // What waits for no events is there without the bus, too.
        for (name, wanted) in [("a", "after"), ("plain", "")] {
            eventually(&format!("the Deployment {name} is as applied"), SOON, || async {
                let mark = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='MARK')].value}";
                let mark = mesh.kubectl(&["get", "deployment", name, "-o", mark]).await?;
                Ok((mark == wanted).then_some(()))
            })
            .await?;
            let rollout = ["rollout", "status", &format!("deployment/{name}"), "--timeout=90s"];
            mesh.kubectl(&rollout).await?;
        }
        // What waits for events has its new pod, not ready, and its old one, which serves.
        eventually("the new pod of b runs", SOON, || async {
            let pods = mesh.cluster.pods(&mesh.namespace, "murmur.dev/microservice=b").await?;
            ensure!(pods.len() == 2, "{} pods", pods.len());
            b.request(http::Method::GET, "/readyz", serde_json::Value::Null).await?;
            Ok(Some(()))
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let replicas =
            "jsonpath={.status.readyReplicas} {.status.updatedReplicas} {.status.availableReplicas}";
        let replicas = mesh.kubectl(&["get", "deployment", "b", "-o", replicas]).await?;
        ensure!(replicas == "1 1 1", "ready, updated and available replicas of b: {replicas}");
        let pods = mesh.cluster.pods(&mesh.namespace, "murmur.dev/microservice=b").await?;
        ensure!(pods.len() == 2, "b has {} pods", pods.len());
        Ok(())
    })
    .await?;

    let rollout = ["rollout", "status", "deployment/b", "--timeout=120s"];
    mesh.kubectl(&rollout).await?;
    // The old pod works to its end: it would take an event, too.
    mesh.kubectl(&["wait", "--for=delete", &format!("pod/{old}"), "--timeout=120s"]).await?;
    for name in ["a", "b", "plain"] {
        mesh.wait_for("Microservice", name, "Ready", "True", SOON).await?;
    }
    eventually("publishing works again", SOON, || async {
        Ok((a.publish("Tick", "after", "").await?.0 == StatusCode::OK).then_some(()))
    })
    .await?;
    b.receives(&["after".to_owned()], SOON).await?;
    mesh.delete().await
}

#[tokio::test]
async fn an_operator_that_is_killed_in_the_middle_leaves_nothing_half_done() -> Result<()> {
    let mesh = TestMesh::create("killed").await?;
    let names: Vec<_> = (0..6).map(|n| format!("s{n}")).collect();
    let yaml: String = names
        .iter()
        .flat_map(|name| [yaml::publisher(name), yaml::subscription(&format!("{name}-ticks"), name, "")])
        .collect();
    mesh.apply(&yaml).await?;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        system(&[
            "delete",
            "pod",
            "-l",
            "app.kubernetes.io/component=operator",
            "--grace-period=0",
            "--force",
        ])
        .await?;
    }
    for name in &names {
        mesh.wait_for("Microservice", name, "Ready", "True", Duration::from_secs(180)).await?;
        mesh.wait_for("EventSubscription", &format!("{name}-ticks"), "Ready", "True", SOON).await?;
    }
    let first = mesh.ready("s0").await?;
    ensure!(first.publish("Tick", "t", "").await?.0 == StatusCode::OK);
    for name in &names {
        mesh.ready(name).await?.receives(&["t".to_owned()], SOON).await?;
    }
    mesh.delete().await
}
