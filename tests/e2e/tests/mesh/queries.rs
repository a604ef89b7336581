//! Row 3 of systems.md: request and reply over the event bus, by scatter and gather.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, ensure};
use http::Method;
use murmur_e2e::probe::Reply;
use murmur_e2e::{Probe, TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::{SOON, seen};

const ANSWERS: &str = "  answers: [{query: UserProductQuery, path: /queries, port: 8081}]";

/// A service `d` that asks, and these that answer, each with so many replicas.
async fn asker_and_answerers(name: &str, answerers: &[(&str, u32)]) -> Result<(TestMesh, Probe)> {
    let mesh = TestMesh::create(name).await?;
    let mut yaml = yaml::service("d", "  asks: [{query: UserProductQuery}]");
    for (service, replicas) in answerers {
        yaml += &yaml::service(service, &format!("  replicas: {replicas}\n{ANSWERS}"));
    }
    mesh.apply(&yaml).await?;
    for (service, _) in answerers {
        mesh.ready(service).await?;
    }
    let d = mesh.ready("d").await?;
    eventually("all answer", SOON, || async {
        let reply = ask(&d, &[]).await?;
        let all = reply.status == 200 && outcomes(&reply).len() == answerers.len() && complete(&reply);
        if all { Ok(Some(())) } else { anyhow::bail!("{reply:?}") }
    })
    .await?;
    Ok((mesh, d))
}

async fn ask(asker: &Probe, headers: &[(&str, &str)]) -> Result<Reply> {
    let headers = [&[("content-type", "application/json")], headers].concat();
    asker.talk(Method::POST, "/v1/queries/UserProductQuery", &headers, &json!({"user": 1})).await
}

fn complete(reply: &Reply) -> bool {
    reply.json()["complete"] == true
}

/// The outcome of each service.
fn outcomes(reply: &Reply) -> BTreeMap<String, String> {
    let body = reply.json();
    let results = body["results"].as_array().into_iter().flatten();
    results.map(|result| (text(&result["service"]), text(&result["outcome"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn wanted(outcomes: &[(&str, &str)]) -> BTreeMap<String, String> {
    outcomes.iter().map(|(service, outcome)| ((*service).to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test]
async fn row_3_a_query_is_answered_by_every_service_that_registered_for_it() -> Result<()> {
    let (mesh, d) = asker_and_answerers("query", &[("users", 1), ("products", 1), ("purchases", 1)]).await?;
    let reply = ask(&d, &[]).await?;
    let all = wanted(&[("users", "answered"), ("products", "answered"), ("purchases", "answered")]);
    ensure!(outcomes(&reply) == all, "{reply:?}");
    for result in reply.json()["results"].as_array().context("no results")? {
        ensure!(result["status"] == 200, "{result}");
        ensure!(result["data"]["body"] == "{\"user\":1}", "not what was asked: {result}");
        let own = text(&result["data"]["pod"]).starts_with(&text(&result["service"]));
        ensure!(own, "another service's answer: {result}");
    }
    mesh.delete().await
}

#[tokio::test]
async fn row_3_a_service_that_is_away_is_named_at_once_and_the_others_answer() -> Result<()> {
    let (mesh, d) = asker_and_answerers("query-absent", &[("users", 1), ("products", 1)]).await?;
    mesh.kubectl(&["scale", "msvc/products", "--replicas=0"]).await?;
    eventually("products is absent, at once", SOON, || async {
        let reply = ask(&d, &[("murmur-timeout", "15s")]).await?;
        let absent = reply.status == 200
            && !complete(&reply)
            && outcomes(&reply) == wanted(&[("users", "answered"), ("products", "absent")])
            && reply.millis < 10_000;
        if absent { Ok(Some(())) } else { anyhow::bail!("{reply:?}") }
    })
    .await?;
    // With nobody there is no answer.
    mesh.kubectl(&["scale", "msvc/users", "--replicas=0"]).await?;
    eventually("nobody answers", SOON, || async {
        let reply = ask(&d, &[("murmur-timeout", "15s")]).await?;
        if reply.status == 504 { Ok(Some(())) } else { anyhow::bail!("{reply:?}") }
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_3_a_slow_service_is_waited_for_until_the_deadline_or_the_quorum() -> Result<()> {
    let (mesh, d) = asker_and_answerers("query-slow", &[("users", 1), ("products", 1)]).await?;
    let products = mesh.ready("products").await?;
    products.answer_after("8s", "query", 200).await?;
    let late = ask(&d, &[("murmur-timeout", "1s")]).await?;
    ensure!(late.status == 200 && !complete(&late), "{late:?}");
    ensure!(outcomes(&late) == wanted(&[("users", "answered"), ("products", "timedOut")]), "{late:?}");
    // Two cannot be had in a second, one can.
    let one = ask(&d, &[("murmur-timeout", "7s"), ("murmur-quorum", "1")]).await?;
    ensure!(one.status == 200 && one.millis < 6_000, "{one:?}");
    ensure!(outcomes(&one)["users"] == "answered", "{one:?}");
    let three = ask(&d, &[("murmur-quorum", "3")]).await?;
    ensure!(three.status == 400, "{three:?}");
    // An error is an outcome, too.
    products.answer_after("", "query", 404).await?;
    let reply = ask(&d, &[]).await?;
    let results = reply.json();
    let result =
        results["results"].as_array().into_iter().flatten().find(|part| part["service"] == "products");
    ensure!(result.context("no products")?["status"] == 404, "{reply:?}");
    mesh.delete().await
}

#[tokio::test]
async fn row_3_a_query_that_is_not_declared_cannot_be_asked() -> Result<()> {
    let (mesh, d) = asker_and_answerers("query-undeclared", &[("users", 1)]).await?;
    let headers = [("content-type", "application/json")];
    let reply = d.talk(Method::POST, "/v1/queries/Other", &headers, &json!({})).await?;
    ensure!(reply.status == 403, "{reply:?}");
    mesh.delete().await
}

#[tokio::test]
async fn row_8_queries_are_spread_over_the_replicas() -> Result<()> {
    let (mesh, d) = asker_and_answerers("query-spread", &[("users", 3)]).await?;
    let asked = RefCell::new(HashSet::new());
    eventually("three pods have been asked, one each time", SOON, || async {
        let reply = ask(&d, &[]).await?;
        let body = reply.json();
        ensure!(body["results"].as_array().is_some_and(|results| results.len() == 1), "{reply:?}");
        seen(&asked, body["results"][0]["data"]["pod"].to_string(), 3)
    })
    .await?;
    mesh.delete().await
}
