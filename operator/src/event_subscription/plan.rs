//! Planned durables in the form of the JetStream API. Pure.

use murmur_mesh::durable::PIN_GROUP;
use murmur_plan::subscription::{Durable, Start, ValidSubscription, WantedRun, durables};
use serde_json::{Value, json};

use crate::bus::Wanted;
use crate::mesh::nanoseconds;

/// The durables of a run of a subscription.
pub(super) fn plan(subscription: &ValidSubscription, run: &WantedRun) -> Vec<Wanted> {
    durables(subscription, run)
        .iter()
        .map(|durable| Wanted {
            name: durable.name.to_string(),
            config: config(durable),
            paused: durable.paused,
        })
        .collect()
}

fn config(durable: &Durable) -> Value {
    let mut config = json!({
        "name": durable.name.as_str(),
        "durable_name": durable.name.as_str(),
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(durable.ack_wait),
        "max_deliver": -1,
        "max_ack_pending": durable.max_ack_pending,
        "filter_subjects": durable.filter_subjects,
        "replay_policy": "instant",
        "metadata": durable.metadata,
        // Empty, and named all the same: set by hand, they would lose or change events.
        "inactive_threshold": 0,
        "headers_only": false,
        "backoff": [],
    });
    match durable.start {
        Start::All => config["deliver_policy"] = json!("all"),
        Start::New => config["deliver_policy"] = json!("new"),
        Start::Sequence(sequence) => {
            config["deliver_policy"] = json!("by_start_sequence");
            config["opt_start_seq"] = json!(sequence);
        }
        Start::Time(time) => {
            config["deliver_policy"] = json!("by_start_time");
            config["opt_start_time"] = json!(time);
        }
    }
    if durable.pinned {
        config["priority_policy"] = json!("pinned_client");
        config["priority_groups"] = json!([PIN_GROUP]);
        config["priority_timeout"] = json!(nanoseconds(durable.pin_timeout));
    }
    config
}
