//! The mesh at a glance.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use murmur_crds::Microservice;
use murmur_mesh::durable::{OWNER_NAME, OWNER_SERVICE};
use murmur_mesh::people::Person;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use murmur_mesh::{api, redrive, subject};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::{Common, Format};
use crate::bus::{Bus, NO_STREAM, is_refused_with};
use crate::output;
use crate::reach;

/// Consumers, or subjects, that are read at most.
const MOST: u64 = 300_000;

/// One subscription, over all of its durables.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    service: String,
    /// Events that are still to come to it.
    pending: u64,
    /// Events that are being delivered.
    delivering: u64,
    dead_letters: u64,
}

type Subscriptions = BTreeMap<String, Subscription>;

/// Shows services, subscriptions and the event store.
pub async fn status(common: &Common) -> Result<()> {
    let bus = reach::bus(common, Person::Viewer).await?;
    let services = match &common.credentials {
        Some(_) => Err("not looked at: there is no kubeconfig, only --credentials".to_owned()),
        None => services(common).await.map_err(|error| format!("{error:#}")),
    };
    let store = event_store(&bus).await?;
    let mut subscriptions = match store.is_null() {
        true => Subscriptions::new(),
        false => durables(&bus).await?,
    };
    dead_letters(&bus, &mut subscriptions).await?;
    if common.output == Format::Json {
        let services = services.unwrap_or_else(|cause| json!({"unknown": cause}));
        return output::json(&json!({
            "mesh": bus.mesh, "microservices": services, "subscriptions": subscriptions, "eventStore": store,
        }));
    }
    match services {
        Ok(services) => output::print(&service_table(&services))?,
        Err(cause) => output::print(&format!("Microservices: {cause}"))?,
    }
    let rows: Vec<Vec<String>> = subscriptions
        .iter()
        .map(|(name, found)| {
            let numbers =
                [found.pending, found.delivering, found.dead_letters].map(|number| number.to_string());
            [name.clone(), found.service.clone()].into_iter().chain(numbers).collect()
        })
        .collect();
    let heads = ["SUBSCRIPTION", "SERVICE", "PENDING", "DELIVERING", "DEAD-LETTERS"];
    output::print(&format!("\n{}\n", output::table(&heads, &rows)))?;
    output::print(&store_line(&store))
}

async fn services(common: &Common) -> Result<Value> {
    let cluster = reach::cluster(common).await?;
    let api: Api<Microservice> = Api::namespaced(cluster.client, &cluster.namespace);
    let found = api.list(&ListParams::default()).await?;
    let services = found.items.iter().map(|service| {
        let status = service.status.as_ref();
        let ready = status.and_then(|status| status.conditions.iter().find(|found| found.type_ == "Ready"));
        json!({
            "name": service.name_any(),
            "ready": ready.map_or("Unknown", |ready| &ready.status),
            "reason": ready.map(|ready| &ready.reason),
            "replicas": status.and_then(|status| status.replicas).unwrap_or_default(),
            "readyReplicas": status.and_then(|status| status.ready_replicas).unwrap_or_default(),
        })
    });
    Ok(services.collect())
}

fn service_table(services: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<Vec<String>> = services
        .as_array()
        .into_iter()
        .flatten()
        .map(|found| {
            let pods = format!("{}/{}", found["readyReplicas"], found["replicas"]);
            vec![text(&found["name"]), text(&found["ready"]), pods, text(&found["reason"])]
        })
        .collect();
    output::table(&["MICROSERVICE", "READY", "PODS", "REASON"], &rows)
}

async fn durables(bus: &Bus) -> Result<Subscriptions> {
    let mut found = Subscriptions::new();
    let mut offset = 0;
    while offset < MOST {
        let page = bus.ask(&api::consumer_list(EVENTS), &json!({"offset": offset})).await?;
        let consumers = page["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
        for consumer in consumers {
            let metadata = &consumer["config"]["metadata"];
            let Some(name) = metadata[OWNER_NAME].as_str() else { continue };
            let number = |field: &str| consumer[field].as_u64().unwrap_or_default();
            let entry = found.entry(name.to_owned()).or_default();
            entry.service = metadata[OWNER_SERVICE].as_str().unwrap_or("?").to_owned();
            entry.pending += number("num_pending");
            entry.delivering += number("num_ack_pending");
        }
        offset += consumers.len() as u64;
        if consumers.is_empty() || offset >= page["total"].as_u64().unwrap_or_default() {
            break;
        }
    }
    Ok(found)
}

async fn dead_letters(bus: &Bus, subscriptions: &mut Subscriptions) -> Result<()> {
    let mut offset = 0;
    while offset < MOST {
        let body = json!({"subjects_filter": subject::dead_letters(None), "offset": offset});
        let page = match bus.ask(&api::stream_info(DEAD_LETTERS), &body).await {
            Err(error) if is_refused_with(&error, NO_STREAM) => return Ok(()),
            page => page?,
        };
        let subjects = page["state"]["subjects"].as_object();
        for (subject, count) in subjects.into_iter().flatten() {
            let Some((service, name)) = redrive::subscription_of(subject) else { continue };
            let entry = subscriptions.entry(name.to_string()).or_default();
            entry.service = service.to_string();
            entry.dead_letters += count.as_u64().unwrap_or_default();
        }
        let length = subjects.map(serde_json::Map::len).unwrap_or_default();
        offset += length as u64;
        if length == 0 || offset >= page["total"].as_u64().unwrap_or_default() {
            break;
        }
    }
    Ok(())
}

async fn event_store(bus: &Bus) -> Result<Value> {
    let Some(info) = bus.stream(EVENTS).await? else { return Ok(Value::Null) };
    let (state, config) = (&info["state"], &info["config"]);
    let bytes = state["bytes"].as_u64().unwrap_or_default();
    let most = config["max_bytes"].as_u64();
    Ok(json!({
        "events": state["messages"],
        "bytes": bytes,
        "maxBytes": most,
        "percent": most.filter(|most| *most > 0).map(|most| bytes.saturating_mul(100) / most),
        "firstSequence": state["first_seq"],
        "lastSequence": state["last_seq"],
        "firstTime": state["first_ts"],
        "lastTime": state["last_ts"],
        "replicas": config["num_replicas"],
    }))
}

fn store_line(store: &Value) -> String {
    if store.is_null() {
        return "event store: not there yet".to_owned();
    }
    let bytes = output::bytes(store["bytes"].as_u64().unwrap_or_default());
    let most = store["maxBytes"].as_u64().map_or_else(|| "no limit".to_owned(), output::bytes);
    let percent = store["percent"].as_u64().map(|percent| format!(", {percent} %")).unwrap_or_default();
    format!(
        "event store: {} events, {bytes} of {most}{percent}, sequences {} to {}",
        store["events"], store["firstSequence"], store["lastSequence"]
    )
}
