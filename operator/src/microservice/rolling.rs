//! Which database servers the operator replaces by itself, over all meshes: a few at a time.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::DynamicObject;
use murmur_plan::Object;
use murmur_plan::rolling::{PLANNED_FROM, ROLLED, Seen, Turn, turn};
use murmur_plan::status::conditions::Problem;

use crate::cluster::Owner;
use crate::compare::missing;
use crate::context::Context;

/// Notes in a planned server what its pod comes from, or says why it stays as it is for now.
pub(super) fn server(
    context: &Context,
    owner: &Owner,
    generation: i64,
    planned: &mut Object,
    live: Option<&DynamicObject>,
) -> Option<Problem> {
    let name = format!("{}/{}", owner.namespace, planned.name);
    let own = live.and_then(seen);
    let changes = live.is_some_and(|live| {
        missing(&planned.value["spec"]["template"], &live.data["spec"]["template"]).is_some()
    });
    let mut others = BTreeSet::new();
    if changes {
        others = under_way(context, planned);
        others.remove(&name);
    }
    let mut turns = context.database_turns.now();
    let given = turns.keys().filter(|given| **given != name).cloned();
    others.extend(given);
    let turn = turn(own, changes, generation, others.len(), context.settings.upgrades_at_once);
    match turn {
        Turn::Take => {
            turns.remove(&name);
        }
        Turn::Roll => {
            if own.is_some_and(|own| !own.rolled) {
                turns.insert(name, Instant::now());
            }
            planned.value["metadata"]["annotations"][ROLLED] = "true".into();
        }
        Turn::Wait => {
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            return Some(Problem::new(
                "DatabaseUpgradeWaits",
                format!(
                    "the database's pod is replaced by what the operator plans now when it is its turn: first {} must \
                     be ready with it",
                    others.join(", ")
                ),
            ));
        }
    }
    planned.value["metadata"]["annotations"][PLANNED_FROM] = generation.to_string().into();
    None
}

/// The servers that are being rolled, by namespace and name.
fn under_way(context: &Context, planned: &Object) -> BTreeSet<String> {
    let all = context.cache.all(&planned.resource);
    // Most are not, and to read one costs much more than to look for an annotation.
    let marked = all.iter().filter(|found| found.annotations().contains_key(ROLLED));
    let rolling = marked.filter(|found| seen(found).is_some_and(|seen| !seen.complete));
    rolling.map(|found| format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any())).collect()
}

fn seen(found: &DynamicObject) -> Option<Seen> {
    let set: StatefulSet = serde_json::from_value(serde_json::to_value(found).ok()?).ok()?;
    Some(Seen::of(&set))
}
