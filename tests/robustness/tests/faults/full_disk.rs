//! A full disk: what publishers are told, what the broker tells Kubernetes'
//! probe, and that a restart mends it, which is the kubelet's part.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use murmur_mesh::stream::EVENTS;
use murmur_robustness::bed::Bed;
use murmur_robustness::history::{Answer, Fate};
use murmur_robustness::publisher::publish;
use murmur_test_support::broker::free_port;
use murmur_test_support::{Broker, Cluster, http as client, mesh};
use tokio::time::sleep;

use crate::{PATIENCE, SOON, sidecar};

/// As in the chart. Left out, the first would follow what is free on the disk.
const JETSTREAM: &str = "max_file_store: 10GB\n  sync_interval: always";

const STARTUP: &str = "startupProbe:";
const LIVENESS: &str = "livenessProbe:";

/// A small file system of its own for the store of a server.
struct Disk(PathBuf);

impl Disk {
    /// Puts it under a server, which loses what it had; `None` where nothing may be mounted.
    async fn under(server: &mut Broker) -> Option<Self> {
        server.kill().await.unwrap();
        server.lose_data().unwrap();
        std::fs::create_dir_all(server.store()).unwrap();
        let disk = Self(server.store());
        if !disk.run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]) {
            println!("not run: nothing may be mounted here");
            return None;
        }
        server.resume().await.unwrap();
        Some(disk)
    }

    /// Takes all room but a few MiB.
    fn fill(&self) {
        std::fs::write(self.0.join("filler"), vec![0; 60 << 20]).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.0).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that still writes there may be ending.
        self.run("umount", &["--lazy"]);
    }
}

/// Where a probe of the chart asks NATS, as rendered with these values.
fn path_of(probe: &str, values: &str) -> String {
    let charts = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/golden"));
    let rendered = std::fs::read_to_string(charts.join(values).with_extension("yaml")).unwrap();
    let mut probes = rendered.split(probe).skip(1).filter_map(|after| after.lines().nth(1));
    let of_nats = probes.find(|line| line.contains("port: monitor")).unwrap();
    of_nats.split('"').nth(1).unwrap().to_owned()
}

/// What a server tells a probe.
async fn told(monitor: u16, path: &str) -> (StatusCode, String) {
    let answer = client::get(monitor, path).await.unwrap();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

/// Waits until a server of a cluster has all that it should, as the chart's startup probe does.
async fn until_whole(monitor: u16) {
    let (probe, began) = (path_of(STARTUP, "three"), Instant::now());
    loop {
        let (status, said) = told(monitor, &probe).await;
        if status == StatusCode::OK {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it is not whole: {said}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What the kubelet does once the probe has failed often enough.
async fn restart(server: &mut Broker) {
    server.kill().await.unwrap();
    server.resume().await.unwrap();
}

/// Publishes until that fails; the sequences of what was stored, and the failure.
async fn publish_until_refused(port: u16, prefix: &str, data: &str) -> (Vec<u64>, Answer) {
    let (mut stored, began) = (Vec::new(), Instant::now());
    loop {
        match publish(port, &format!("{prefix}-{}", stored.len()), "k", data).await {
            Answer::Stored { sequence } => stored.push(sequence),
            // The sidecar has not yet found the server that was started again.
            Answer::NotStored(503) if began.elapsed() < SOON => sleep(Duration::from_millis(100)).await,
            refused => return (stored, refused),
        }
        assert!(stored.len() < 1000, "the disk is not full");
    }
}

#[tokio::test]
async fn a_full_disk_is_answered_for_honestly_loses_nothing_and_the_probe_has_the_broker_restarted() {
    let mut bed = Bed::start(1, JETSTREAM, Vec::new()).await.unwrap();
    let Some(disk) = Disk::under(&mut bed.cluster.servers()[0]).await else { return };
    bed.cluster.until_ready().await.unwrap();
    bed.furnish().await.unwrap();
    let sidecar = bed.sidecar(sidecar(), "tested-0", free_port().unwrap()).await.unwrap();
    let (port, data) = (sidecar.port, Fate::Taken.data(&"x".repeat(64 << 10)));
    let (monitor, probe) = (bed.cluster.servers()[0].monitor(), path_of(LIVENESS, "default"));
    assert_eq!(told(monitor, &probe).await.0, StatusCode::OK);

    disk.fill();
    let (mut stored, refused) = publish_until_refused(port, "full", &data).await;
    // The broker says nothing at all when it cannot write: what became of it is not known.
    assert!(matches!(refused, Answer::Unknown(504) | Answer::NotStored(507)), "{refused:?}");
    let (status, why) = told(monitor, &probe).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("no space left on device"), "{why}");

    // Started again too early, it comes up, and says so again once it has tried to write.
    restart(&mut bed.cluster.servers()[0]).await;
    let (more, refused) = publish_until_refused(port, "still-full", &data).await;
    stored.extend(more);
    assert!(matches!(refused, Answer::Unknown(504) | Answer::NotStored(507)), "{refused:?}");
    assert_eq!(told(monitor, &probe).await.0, StatusCode::SERVICE_UNAVAILABLE);
    // A client may be quicker than the startup probe, before which there is no liveness probe.
    assert_eq!(told(monitor, &path_of(STARTUP, "default")).await.0, StatusCode::OK);

    // nats-server 2.15 writes to a store that has failed once only after it was started again.
    disk.make_room();
    let refused = publish(port, "room", "k", &data).await;
    assert!(!matches!(refused, Answer::Stored { .. }), "it writes again by itself: the probe is not needed");
    assert_eq!(told(monitor, &probe).await.0, StatusCode::SERVICE_UNAVAILABLE);
    restart(&mut bed.cluster.servers()[0]).await;
    let began = Instant::now();
    let sequence = loop {
        match publish(port, "after", "k", &data).await {
            Answer::Stored { sequence } => break sequence,
            other => assert!(began.elapsed() < SOON, "publishing does not go on: {other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(told(monitor, &probe).await.0, StatusCode::OK);
    let found: Vec<u64> = bed.stored().await.unwrap().iter().map(|event| event.sequence).collect();
    stored.push(sequence);
    assert!(stored.iter().all(|sequence| found.contains(sequence)), "{stored:?} are not all in {found:?}");
}

#[tokio::test]
async fn a_server_of_a_cluster_whose_disk_is_full_tells_the_probe_and_the_others_go_on() {
    let mut cluster = Cluster::start(3, JETSTREAM).await.unwrap();
    let Some(disk) = Disk::under(&mut cluster.servers()[0]).await else { return };
    cluster.until_ready().await.unwrap();
    let context = cluster.client().await.unwrap();
    let monitor = cluster.servers()[0].monitor();
    until_whole(monitor).await;
    mesh::replicated_streams(&context, -1, 3).await.unwrap();
    let probe = path_of(LIVENESS, "three");
    assert_eq!(told(monitor, &probe).await.0, StatusCode::OK);

    disk.fill();
    let data = bytes::Bytes::from("x".repeat(64 << 10));
    let publish = async || {
        // Its leader may be the very server: then another takes the lead first.
        let sent = context.publish("events.a.1.T", data.clone()).await;
        sent.unwrap().await.is_ok()
    };
    let (began, mut stored) = (Instant::now(), 0);
    while told(monitor, &probe).await.0 == StatusCode::OK {
        stored += u64::from(publish().await);
        assert!(
            began.elapsed() < PATIENCE,
            "the probe is told nothing after {stored} messages {}",
            cluster.servers()[0].log()
        );
    }
    let (status, why) = told(monitor, &probe).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{why}");
    while !publish().await {
        assert!(began.elapsed() < PATIENCE, "the others do not go on");
    }

    disk.make_room();
    restart(&mut cluster.servers()[0]).await;
    until_whole(monitor).await;
    let state = context.get_stream(EVENTS).await.unwrap().get_info().await.unwrap().state;
    assert!(state.messages > stored, "{} of more than {stored} messages", state.messages);
}
