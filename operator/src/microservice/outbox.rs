//! The durable of a service's outbox on the bus.

use murmur_mesh::durable::DurableName;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::outbox::{self, OutboxDurable};
use serde_json::{Value, json};

use crate::bus::{Mesh, Wanted, ensure_durable, remove_durable};
use crate::context::Context;
use crate::error::Error;

/// Makes it, puts it right, or removes it when the service has no outbox any more.
pub(super) async fn ensure(context: &Context, mesh: &Mesh, service: &ValidMicroservice) -> Result<(), Error> {
    let client = mesh.ready()?.client;
    let name = DurableName::outbox(&service.name).to_string();
    let _alone = mesh.changing().await;
    let seen = mesh.observed().consumers.as_ref().and_then(|all| all.get(&name).cloned());
    let now = match (outbox::durable(service), &seen) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            remove_durable(&client, &name, &service.uid).await?;
            None
        }
        (Some(durable), seen) => {
            let wanted = Wanted { name: name.clone(), config: config(&durable), paused: false };
            Some(ensure_durable(&client, &wanted, seen.as_ref()).await?)
        }
    };
    if seen == now {
        return Ok(());
    }
    context.metrics.durables.inc();
    if let Some(all) = &mut mesh.observed().consumers {
        match now {
            Some(now) => drop(all.insert(name, now)),
            None => drop(all.remove(&name)),
        }
    }
    Ok(())
}

fn config(durable: &OutboxDurable) -> Value {
    json!({
        "name": durable.name.as_str(),
        "durable_name": durable.name.as_str(),
        "ack_policy": "none",
        "deliver_policy": "all",
        "max_deliver": -1,
        "filter_subjects": [durable.filter_subject],
        "replay_policy": "instant",
        "metadata": durable.metadata,
        "headers_only": true,
        // Empty, and named all the same, as for subscriptions.
        "inactive_threshold": 0,
        "backoff": [],
    })
}
