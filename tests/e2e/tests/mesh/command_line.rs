//! The command line, run from this machine as a user runs it: what it says of a mesh on a cluster, and what it mends.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use murmur_e2e::{Probe, TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::SOON;

/// Publishes an event, which must be stored.
async fn publish(publisher: &Probe, id: &str) -> Result<()> {
    let (status, body) = publisher.publish("Tick", id, "key").await?;
    ensure!(status == StatusCode::OK, "{id}: {status} {body}");
    Ok(())
}

async fn publish_for_ever(publisher: &Probe) -> Result<Infallible> {
    for number in 0_u64.. {
        publish(publisher, &format!("live-{number}")).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("there are no more numbers")
}

/// The one thing that murmur says.
async fn said(mesh: &TestMesh, args: &[&str]) -> Result<Value> {
    let mut values = mesh.murmur(args).await?;
    let last = values.pop().with_context(|| format!("murmur {args:?} says nothing"))?;
    ensure!(values.is_empty(), "it says more: {values:?}");
    Ok(last)
}

#[tokio::test]
async fn a_dead_letter_is_delivered_by_a_redrive_once_its_service_is_repaired_and_is_gone_then() -> Result<()>
{
    let mesh = TestMesh::create("redrive").await?;
    let retry = "  retry: {maxAttempts: 2, initialDelay: 200ms, maxDelay: 1s}";
    mesh.apply(
        &[
            yaml::publisher("a"),
            yaml::subscription("a-ticks", "a", ""),
            yaml::service("b", ""),
            yaml::subscription("b-ticks", "b", retry),
        ]
        .concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    b.answer_with("poisoned", 500).await?;
    for id in ["before", "poisoned", "after"] {
        publish(&a, id).await?;
    }
    b.receives(&["before".to_owned(), "after".to_owned()], SOON).await?;
    let list = said(&mesh, &["deadletters", "list", "-s", "b-ticks"]).await?;
    let letter = &list["deadLetters"][0];
    ensure!(list["deadLetters"].as_array().is_some_and(|letters| letters.len() == 1), "{list}");
    ensure!(letter["event"]["id"] == "poisoned" && letter["event"]["data"]["id"] == "poisoned", "{letter}");
    ensure!(letter["reason"] == "exhausted" && letter["attempts"] == 2, "{letter}");
    ensure!(letter["cause"].as_str().is_some_and(|cause| cause.contains("500")), "{letter}");
    let number = letter["letter"].to_string();
    ensure!(said(&mesh, &["deadletters", "show", &number]).await? == *letter);

    // The repair.
    b.answer_with("poisoned", 204).await?;
    let redriven = said(&mesh, &["deadletters", "redrive", &number]).await?;
    ensure!(redriven == json!({"redriven": 1, "refused": []}), "{redriven}");
    b.receives(&["poisoned".to_owned()], SOON).await?;
    let none = json!({"deadLetters": [], "more": false});
    ensure!(said(&mesh, &["deadletters", "list"]).await? == none);
    eventually("no dead letter is counted", SOON, || async {
        let object = mesh.api("EventSubscription").get("b-ticks").await?;
        Ok((object.data.pointer("/status/deadLetters") == Some(&json!(0))).then_some(()))
    })
    .await?;
    // It came to the subscription that had given it up, and to no other.
    let received = a.received().await?;
    ensure!(received.iter().filter(|delivery| delivery.id == "poisoned").count() == 1, "{received:?}");
    mesh.delete().await
}

#[tokio::test]
async fn what_status_says_of_services_subscriptions_and_events_is_so() -> Result<()> {
    let mesh = TestMesh::create("status").await?;
    mesh.apply(
        &[yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", "")].concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    let ids = ["t-1", "t-2", "t-3"].map(str::to_owned);
    for id in &ids {
        publish(&a, id).await?;
    }
    b.receives(&ids, SOON).await?;
    let status = eventually("all is delivered", SOON, || async {
        let status = said(&mesh, &["status"]).await?;
        let done = json!({"service": "b", "pending": 0, "delivering": 0, "deadLetters": 0});
        if status["subscriptions"]["b-ticks"] == done { Ok(Some(status)) } else { anyhow::bail!("{status}") }
    })
    .await?;
    ensure!(status["mesh"] == mesh.namespace.as_str(), "{status}");
    ensure!(status["eventStore"]["events"] == 3 && status["eventStore"]["lastSequence"] == 3, "{status}");
    for (index, name) in ["a", "b"].iter().enumerate() {
        let service = &status["microservices"][index];
        ensure!(service["name"] == *name && service["ready"] == "True", "{status}");
        ensure!(service["replicas"] == 1 && service["readyReplicas"] == 1, "{status}");
    }

    mesh.kubectl(&["scale", "msvc/b", "--replicas=0"]).await?;
    mesh.kubectl(&["wait", "--for=delete", "pod", "-l", "murmur.dev/microservice=b", "--timeout=60s"])
        .await?;
    publish(&a, "t-4").await?;
    eventually("an event waits for b, which has no pod", SOON, || async {
        let status = said(&mesh, &["status"]).await?;
        let (waiting, b) = (&status["subscriptions"]["b-ticks"], &status["microservices"][1]);
        let so = waiting["pending"] == 1 && b["replicas"] == 0 && status["eventStore"]["events"] == 4;
        if so { Ok(Some(())) } else { anyhow::bail!("{status}") }
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn events_are_shown_as_they_were_stored_and_as_they_come() -> Result<()> {
    let mesh = TestMesh::create("tail").await?;
    mesh.apply(&yaml::publisher("a")).await?;
    let a = mesh.ready("a").await?;
    for id in ["t-1", "t-2", "t-3"] {
        publish(&a, id).await?;
    }
    let stored = mesh.murmur(&["events", "tail", "--from", "1", "--no-follow"]).await?;
    ensure!(stored.len() == 3, "{stored:?}");
    for (event, sequence) in stored.iter().zip(1..) {
        ensure!(event["sequence"] == sequence && event["event"]["id"] == format!("t-{sequence}"), "{event}");
        ensure!(event["event"]["type"] == "Tick" && event["event"]["partitionkey"] == "key", "{event}");
    }
    ensure!(said(&mesh, &["events", "show", "2"]).await? == stored[1]);

    let come = tokio::select! {
        come = mesh.murmur(&["events", "tail", "--limit", "2"]) => come?,
        ended = publish_for_ever(&a) => match ended? {},
    };
    let sequences: Vec<_> = come.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    ensure!(
        come.iter().all(|event| event["event"]["id"].as_str().is_some_and(|id| id.starts_with("live-"))),
        "{come:?}"
    );
    ensure!(sequences.len() == 2 && sequences[1] == sequences[0] + 1, "{come:?}");
    mesh.delete().await
}
