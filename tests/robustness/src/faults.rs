//! Makes things go wrong, and well again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream;
use murmur_mesh::stream::EVENTS;
use murmur_test_support::{Cluster, Sidecar, cluster};
use rand::Rng;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::check::status_for;
use crate::history::{Delivery, Fate};
use crate::scenario::{BusFault, ServiceFault, SidecarFault, Step};
use crate::service::{Behaviour, Service};

/// How long a sidecar may take to end; longer, and it is killed, as Kubernetes does.
const GRACE: Duration = Duration::from_secs(15);

/// Plays the faults of the bus; at the end all servers run.
///
/// # Errors
/// When a server does not come back.
pub async fn of_bus(
    mut bus: Cluster,
    context: jetstream::Context,
    steps: Vec<Step<BusFault>>,
) -> Result<Cluster> {
    for step in steps {
        sleep(step.after).await;
        // While nobody leads, the first one will do.
        let leader = bus.leader(&context, EVENTS).await.unwrap_or(0);
        let (chosen, signal) = match step.fault {
            BusFault::KillLeader => (vec![leader], Signal::KILL),
            BusFault::Kill(one) => (vec![one], Signal::KILL),
            BusFault::KillAll => ((0..bus.size()).collect(), Signal::KILL),
            BusFault::StopLeader => (vec![leader], Signal::STOP),
            BusFault::Stop(one) => (vec![one], Signal::STOP),
            BusFault::StepDown => {
                // Without a leader there is nobody to give it away.
                let _ = cluster::step_down(&context, EVENTS).await;
                continue;
            }
        };
        for index in &chosen {
            bus.servers()[*index].signal(signal)?;
        }
        sleep(step.lasts).await;
        for index in chosen {
            let server = &mut bus.servers()[index];
            if signal == Signal::STOP {
                server.signal(Signal::CONT)?;
            } else {
                server.kill().await?;
                server.resume().await?;
            }
        }
    }
    Ok(bus)
}

/// Plays the faults of a sidecar; at the end it runs.
///
/// # Errors
/// When it does not come back.
pub async fn of_sidecar(mut sidecar: Sidecar, steps: Vec<Step<SidecarFault>>) -> Result<Sidecar> {
    for step in steps {
        sleep(step.after).await;
        match step.fault {
            SidecarFault::Stop => {
                sidecar.signal(Signal::STOP)?;
                sleep(step.lasts).await;
                sidecar.signal(Signal::CONT)?;
            }
            SidecarFault::Kill => {
                sidecar.kill().await?;
                sleep(step.lasts).await;
                sidecar.resume().await?;
            }
            SidecarFault::Leave => {
                sidecar.end(GRACE).await?;
                sleep(step.lasts).await;
                sidecar.resume().await?;
            }
        }
    }
    Ok(sidecar)
}

/// How a service feels.
#[derive(Debug, Clone, Default)]
pub struct Mood(Arc<AtomicU8>);

const WELL: u8 = 0;
const UNAVAILABLE: u8 = 1;
const SLOW: u8 = 2;

impl Mood {
    /// What a service in this mood answers.
    pub fn behaviour(&self) -> Arc<Behaviour> {
        let mood = self.0.clone();
        Arc::new(move |delivery: &Delivery, before| {
            let fate = Fate::of(delivery.data.as_bytes()).unwrap_or(Fate::Taken);
            match mood.load(Relaxed) {
                UNAVAILABLE => (503, Duration::ZERO),
                SLOW => (status_for(fate, before), Duration::from_millis(rand::rng().random_range(100..500))),
                _ => (status_for(fate, before), Duration::from_millis(rand::rng().random_range(0..8))),
            }
        })
    }
}

/// Plays the faults of a service; at the end it is well.
///
/// # Errors
/// When it cannot listen any more.
pub async fn of_service(mut service: Service, mood: Mood, steps: Vec<Step<ServiceFault>>) -> Result<Service> {
    for step in steps {
        sleep(step.after).await;
        match step.fault {
            ServiceFault::Crash => {
                service.crash();
                sleep(step.lasts).await;
                service.come_back().await?;
            }
            ServiceFault::Unavailable | ServiceFault::Slow => {
                let feels = if step.fault == ServiceFault::Slow { SLOW } else { UNAVAILABLE };
                mood.0.store(feels, Relaxed);
                sleep(step.lasts).await;
                mood.0.store(WELL, Relaxed);
            }
        }
    }
    Ok(service)
}
