//! The process: flags, probes, election, stop.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{test_alone, wait};

#[test]
fn a_mistake_in_the_flags_ends_with_64_and_says_what_to_change() {
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_murmur-operator"));
        command.env_clear().args(arguments).stdout(Stdio::null()).output().unwrap()
    };
    let good = ["--namespace", "a", "--nats-url", "nats://b:4222", "--sidecar-image", "c"];
    for (mistake, named) in [
        (&["--mesh-replicas", "0"][..], "--mesh-replicas"),
        (&["--mesh-max-bytes", "lots"], "--mesh-max-bytes"),
        (&["--mesh-duplicate-window", "10"], "--mesh-duplicate-window"),
        (&["--log-level", "a=b=c"], "--log-level"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--listen", "nowhere"], "--listen"),
    ] {
        let ended = start(&[&good[..], mistake].concat());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{said}");
        assert!(said.contains(named), "{said}");
    }
    let ended = start(&good[2..]);
    assert_eq!(ended.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("--namespace"));
}

#[test]
fn a_standby_is_ready_does_nothing_and_takes_over_when_the_leader_stops() {
    test_alone("election", |world| async move {
        // Two replicas of another operator: they share a lease of their own.
        world.kill_operator().await?;
        let lease = world.new_lease();
        let first = world.start_operator(&lease).await?;
        wait("the first leads", || async {
            Ok(first.get("/metrics").await?.1.contains("murmur_operator_leader 1").then_some(()))
        })
        .await?;
        let second = world.start_operator(&lease).await?;
        wait("the second is ready", || async { Ok((second.get("/readyz").await?.0 == 200).then_some(())) })
            .await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let metrics = second.get("/metrics").await?.1;
        assert!(metrics.contains("murmur_operator_leader 0"), "{metrics}");
        assert_eq!(second.get("/healthz").await?.0, 200);
        let began = Instant::now();
        assert_eq!(first.stop().await?, Some(0));
        wait("the second leads", || async {
            Ok(second.get("/metrics").await?.1.contains("murmur_operator_leader 1").then_some(()))
        })
        .await?;
        eprintln!("took over after {:?}", began.elapsed());
        assert_eq!(second.stop().await?, Some(0));
        Ok(())
    });
}
