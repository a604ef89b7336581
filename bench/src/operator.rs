//! The operator beside a bare client: how long 500 Microservices take until
//! they are Ready, and by how many requests; and what it takes to apply the
//! same objects by server-side apply, with nothing watched and nothing
//! reported. The API server and etcd are real and alone: nothing runs the pods,
//! so Deployments are told to be available by the benchmark.

mod bare;
mod bed;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, PostParams};
use murmur_crds::{EventSubscription, Microservice};
use murmur_test_support::process::{cpu_seconds, memory};
use serde_json::json;

use crate::table::{Bar, Table};
use bed::Bed;

/// Requests that a client of ours has under way at once.
const AT_ONCE: usize = 16;
/// The namespace of the services.
const NAMESPACE: &str = "bench";

/// What to measure with.
#[derive(clap::Args)]
pub struct Arguments {
    /// The operator's binary, built for release.
    #[arg(long)]
    operator: PathBuf,
    /// How many Microservices; every fifth has a subscription.
    #[arg(long, default_value_t = 500)]
    services: usize,
}

/// Runs it.
///
/// # Errors
/// When a server cannot be started, or the services do not become Ready.
pub async fn run(arguments: Arguments) -> Result<()> {
    let bed = Bed::start(&arguments.operator).await?;
    let before = bed.requests_of_the_operator()?;
    let began = Instant::now();
    create(&bed, arguments.services).await?;
    bed.all_ready(NAMESPACE, arguments.services, Duration::from_secs(600)).await?;
    let seconds = began.elapsed().as_secs_f64();
    // The API server writes its audit log when a request has ended.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let requests = bed.requests_of_the_operator()? - before;
    let (cpu, peak) = (cpu_seconds(bed.operator()?)?, memory(bed.operator()?, "VmHWM")?);
    let bare = bare::apply(&bed, NAMESPACE).await?;

    let scenario = format!("{} Microservices until Ready", arguments.services);
    let each = |total: usize| total as f64 / arguments.services as f64;
    let mut table = Table::default();
    table.add(&scenario, "time", "s", seconds, Some(bare.seconds), Bar::None);
    table.add(&scenario, "requests each", "1", each(requests), Some(each(bare.requests)), Bar::None);
    table.add(&scenario, "operator's CPU", "s", cpu, None, Bar::None);
    table.add(&scenario, "operator's peak memory", "MB", peak, None, Bar::None);
    table.finish("operator")
}

async fn create(bed: &Bed, services: usize) -> Result<()> {
    let microservices: Api<Microservice> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let subscriptions: Api<EventSubscription> = Api::namespaced(bed.client.clone(), NAMESPACE);
    stream::iter(0..services)
        .map(|number| {
            let (microservices, subscriptions) = (microservices.clone(), subscriptions.clone());
            async move {
                let service: Microservice = serde_json::from_value(json!({
                    "apiVersion": "murmur.dev/v1alpha1",
                    "kind": "Microservice",
                    "metadata": {"name": format!("service-{number}")},
                    "spec": {"image": "bench:1", "port": 8080, "publishes": [{"type": "Tick"}]},
                }))?;
                microservices
                    .create(&PostParams::default(), &service)
                    .await
                    .context("create a Microservice")?;
                if number % 5 == 0 {
                    let subscription: EventSubscription = serde_json::from_value(json!({
                        "apiVersion": "murmur.dev/v1alpha1",
                        "kind": "EventSubscription",
                        "metadata": {"name": format!("ticks-{number}")},
                        "spec": {
                            "microserviceRef": {"name": format!("service-{number}")},
                            "events": [{"type": "Tick"}],
                            "ordering": {"policy": "Key", "shards": 1},
                            "deliver": {"path": "/events", "port": 8081},
                        },
                    }))?;
                    subscriptions.create(&PostParams::default(), &subscription).await.context("subscribe")?;
                }
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .map(|created| ensure_all(created.len(), services))?
}

fn ensure_all(created: usize, wanted: usize) -> Result<()> {
    ensure!(created == wanted, "only {created} of {wanted} were created");
    Ok(())
}
