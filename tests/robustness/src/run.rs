//! Plays a scenario against real processes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::check::{Figures, Violation, check, figures};
use crate::faults::{self, Mood};
use crate::history::History;
use crate::publisher::{Habits, Publishers};
use crate::scenario::Scenario;
use crate::world::{Pod, World};

/// How long nothing of the backlog may move once all is well again: an ack
/// wait, a pin's time, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub history: History,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
    /// What it was like.
    pub figures: Figures,
    /// How long the backlog took after the last fault.
    pub drained_in: Duration,
    /// The end of each sidecar's log.
    pub logs: Vec<String>,
}

/// Runs it, with this program as the sidecar.
///
/// # Errors
/// When something does not start, or not again: that is no broken promise yet.
pub async fn run(sidecar: &Path, scenario: &Scenario) -> Result<Outcome> {
    let moods: Vec<Mood> = scenario.services.iter().map(|_| Mood::default()).collect();
    let behaviour = |pod: usize| moods[pod].behaviour();
    let world = World::start(sidecar, scenario.servers, moods.len(), behaviour).await?;
    let habits = Habits {
        publishers: 6,
        pause: Duration::from_millis(150),
        rejected: 80,
        exhausted: 300,
        failing_once: 15,
        seed: scenario.seed,
    };
    let publishers = Publishers::start(&habits, world.ports());

    let World { mut bed, pods, log } = world;
    let bus = tokio::spawn(faults::of_bus(bed.cluster, bed.context.clone(), scenario.bus.clone()));
    let mut tasks = JoinSet::new();
    for (number, pod) in pods.into_iter().enumerate() {
        let (sidecar, service) = (scenario.sidecars[number].clone(), scenario.services[number].clone());
        let mood = moods[number].clone();
        tasks.spawn(async move {
            let (sidecar, service) = tokio::join!(
                faults::of_sidecar(pod.sidecar, sidecar),
                faults::of_service(pod.service, mood, service)
            );
            anyhow::Ok((number, Pod { sidecar: sidecar?, service: service? }))
        });
    }
    let mut pods = Vec::new();
    while let Some(pod) = tasks.join_next().await {
        pods.push(pod??);
    }
    pods.sort_by_key(|(number, _)| *number);
    bed.cluster = bus.await??;
    let world = World { bed, pods: pods.into_iter().map(|(_, pod)| pod).collect(), log };

    let healed = Instant::now();
    let published = publishers.end().await;
    let history = world.history(published, PATIENCE).await?;
    let drained_in = healed.elapsed();
    let violations = check(&history);
    let figures = figures(&history);
    let logs = world.pods.iter().map(|pod| pod.sidecar.log()).collect();
    Ok(Outcome { history, violations, figures, drained_in, logs })
}
