//! Brings the durables of a subscription to the plan.

use std::sync::Arc;

use murmur_plan::status::subscription::DurableProgress;

use crate::bus::{Mesh, Wanted, ensure_durable};
use crate::context::Context;
use crate::error::Error;

/// Makes and puts right what differs; returns how far each durable is.
pub(super) async fn apply(
    context: &Context,
    mesh: &Arc<Mesh>,
    planned: &[Wanted],
) -> Result<Vec<DurableProgress>, Error> {
    let ready = mesh.settled().await?;
    let mut progress = Vec::with_capacity(planned.len());
    for wanted in planned {
        let seen = mesh.observed().consumers.as_ref().and_then(|all| all.get(&wanted.name).cloned());
        let now = {
            let _alone = mesh.changing().await;
            ensure_durable(&ready.client, wanted, seen.as_ref()).await?
        };
        if seen.as_ref() != Some(&now) {
            context.metrics.durables.inc();
            if let Some(all) = &mut mesh.observed().consumers {
                all.insert(wanted.name.clone(), now.clone());
            }
        }
        progress.push(now.progress);
    }
    Ok(progress)
}
