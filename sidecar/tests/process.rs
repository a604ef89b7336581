//! The sidecar as a process: how it starts, refuses to start, and ends.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_test_support::receiver::{Receiver, Reply};
use murmur_test_support::sidecar::Sidecar;
use murmur_test_support::{Broker, http as client, mesh};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BINARY: &str = env!("CARGO_BIN_EXE_murmur-sidecar");
const NOWHERE: &str = "nats://127.0.0.1:1";

async fn start(bus: &str, environment: &[(&str, &str)]) -> Result<Sidecar> {
    Sidecar::start(Path::new(BINARY), bus, &mesh::config(vec![])?, environment).await
}

#[tokio::test]
async fn it_starts_and_is_alive_without_a_broker() -> Result<()> {
    let sidecar = start(NOWHERE, &[]).await?;
    for path in ["/startedz", "/livez", "/metrics"] {
        ensure!(client::get(sidecar.admin, path).await?.status == StatusCode::OK, "{path}");
    }
    let answer = sidecar.publish("1", "").await?;
    ensure!(answer.status == StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.json());
    Ok(())
}

#[tokio::test]
async fn a_mistake_in_its_settings_ends_it_with_64_and_a_sentence() -> Result<()> {
    for environment in [
        ("MURMUR_BUS_URL", "not a url at all"),
        ("MURMUR_CONFIG", "/does/not/exist.json"),
        ("MURMUR_BUS_CREDENTIALS", "/does/not/exist"),
        ("MURMUR_LOCAL_ADDRESS", "nonsense"),
    ] {
        let mut sidecar = Sidecar::spawn(Path::new(BINARY), NOWHERE, &mesh::config(vec![])?, &[environment])?;
        let status = sidecar.ends(Duration::from_secs(10)).await?;
        ensure!(status.code() == Some(64), "{environment:?}: {status}");
        let log = sidecar.log();
        ensure!(log.contains(environment.0) || log.contains(environment.1), "{environment:?}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_sidecar_waits_for_the_lock_on_the_volume() -> Result<()> {
    let volume = tempfile::tempdir()?;
    let data = volume.path().to_str().unwrap_or_default();
    let environment = [("MURMUR_DATA", data)];
    let first = start(NOWHERE, &environment).await?;
    let mut second = Sidecar::spawn(Path::new(BINARY), NOWHERE, &mesh::config(vec![])?, &environment)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = client::get(second.admin, "/startedz").await;
    ensure!(!started.is_ok_and(|answer| answer.status == StatusCode::OK), "two started on one volume");
    first.signal(Signal::KILL)?;
    for _ in 0..200 {
        if client::get(second.admin, "/startedz").await.is_ok_and(|answer| answer.status == StatusCode::OK) {
            return Ok(());
        }
        ensure!(second.ends(Duration::from_millis(50)).await.is_err(), "it ended: {}", second.log());
    }
    anyhow::bail!("the second never started: {}", second.log())
}

#[tokio::test]
async fn the_database_is_there_in_wal_mode_before_the_service_starts() -> Result<()> {
    let volume = tempfile::tempdir()?;
    let path = volume.path().join("service.db");
    let text = path.to_str().unwrap_or_default();
    let _sidecar = start(
        NOWHERE,
        &[("MURMUR_DATA", volume.path().to_str().unwrap_or_default()), ("MURMUR_DATABASE_PATH", text)],
    )
    .await?;
    let header = std::fs::read(&path)?;
    // SQLite's file format, section 1.3: bytes 18 and 19 are 2 in WAL mode.
    ensure!(
        header.starts_with(b"SQLite format 3\0") && header[18..20] == [2, 2],
        "not a database in WAL mode"
    );
    Ok(())
}

#[tokio::test]
async fn a_client_that_sends_its_headers_slowly_is_cut_off_and_disturbs_nobody() -> Result<()> {
    let broker = Broker::start("", "").await?;
    mesh::streams(&mesh::client(&broker).await?, -1).await?;
    let sidecar = start(&broker.url(), &[]).await?;
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", sidecar.port)).await?;
    slow.write_all(b"POST /v1/events/Tick HTTP/1.1\r\nhost: x\r\n").await?;
    ensure!(sidecar.publish("1", "").await?.status != StatusCode::REQUEST_TIMEOUT);
    let mut rest = vec![];
    let end = tokio::time::timeout(Duration::from_secs(40), slow.read_to_end(&mut rest)).await;
    ensure!(end.is_ok(), "the connection is still open after 40 s");
    Ok(())
}

#[tokio::test]
async fn a_header_bomb_is_refused() -> Result<()> {
    let sidecar = start(NOWHERE, &[]).await?;
    let large = "x".repeat(200_000);
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", sidecar.port)).await?;
    let mut request = vec![];
    write!(request, "POST /v1/events/Tick HTTP/1.1\r\nhost: x\r\nce-big: {large}\r\n\r\n")?;
    // The sidecar may close while we still send.
    let _ = stream.write_all(&request).await;
    let mut answer = vec![];
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.is_empty() || text.starts_with("HTTP/1.1 431") || text.starts_with("HTTP/1.1 4"), "{text}");
    ensure!(client::get(sidecar.admin, "/livez").await?.status == StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next() -> Result<()> {
    let receiver =
        Receiver::start(|_| Reply { delay: Duration::from_millis(300), ..Reply::status(204) }).await?;
    let broker = Broker::start("", "").await?;
    let bus = mesh::client(&broker).await?;
    mesh::streams(&bus, -1).await?;
    let mut subscription = mesh::subscription("ticks", receiver.port)?;
    subscription.deliver.concurrency = 2;
    mesh::durables(&bus, &subscription).await?;
    let config = mesh::config(vec![subscription])?;
    let mut first = Sidecar::start(Path::new(BINARY), &broker.url(), &config, &[]).await?;
    for number in 0..20 {
        for _ in 0..200 {
            if first.publish(&format!("{number}"), &format!("k{number}")).await?.status == StatusCode::OK {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    receiver.wait(Duration::from_secs(10), |all| all.len() >= 2).await?;
    let drained = tokio::process::Command::new(BINARY)
        .arg("drain")
        .env("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{}", first.port))
        .status()
        .await?;
    ensure!(drained.success(), "drain ended with {drained}");
    let after_drain = receiver.deliveries().len();
    tokio::time::sleep(Duration::from_millis(600)).await;
    ensure!(receiver.deliveries().len() == after_drain, "it went on delivering after the drain");
    // Publishing stays open until the end.
    ensure!(first.publish("late", "").await?.status == StatusCode::OK);
    first.signal(Signal::TERM)?;
    let status = first.ends(Duration::from_secs(10)).await?;
    ensure!(status.success(), "{status}: {}", first.log());

    let _second =
        Sidecar::start(Path::new(BINARY), &broker.url(), &config, &[("MURMUR_POD", "tested-1")]).await?;
    let deliveries = receiver
        .wait(Duration::from_secs(40), |all| {
            all.iter().map(|delivery| delivery.id()).collect::<std::collections::HashSet<_>>().len() == 21
        })
        .await?;
    ensure!(deliveries.len() == 21, "something came twice: {:?}", receiver.ids());
    Ok(())
}
