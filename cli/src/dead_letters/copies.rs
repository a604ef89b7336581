//! What earlier redrives left in the event store: copies with which their
//! subscription is done, so that nobody will ever be given them again.

use std::ops::RangeInclusive;

use anyhow::Result;
use murmur_mesh::stream::EVENTS;
use serde_json::Value;

use crate::bus::Bus;

/// The most copies that one redrive removes; the next one goes on.
const MOST: usize = 10_000;

/// Removes such copies of these subjects. The last one of each stays: by it a
/// redrive that died knows what it had stored.
pub(super) async fn remove(bus: &Bus, subjects: impl Iterator<Item = &String>) -> Result<usize> {
    let consumers = bus.consumers(EVENTS).await?;
    let mut removed = 0;
    for subject in subjects {
        let Some(done) = done(subject, &consumers) else { continue };
        let Some(last) = bus.last(EVENTS, subject).await? else { continue };
        let mut from = *done.start();
        while removed < MOST
            && let Some(copy) = bus.next(EVENTS, subject, from).await?
            && done.contains(&copy.sequence)
            && copy.sequence < last.sequence
        {
            bus.delete(EVENTS, copy.sequence).await?;
            removed += 1;
            from = copy.sequence + 1;
        }
    }
    Ok(removed)
}

/// Of which sequences all consumers that are given a subject have acknowledged
/// what they were given. `None` when there is no such consumer, or one of which
/// it is not known where it began: what lies before that it was never given.
fn done(subject: &str, consumers: &[Value]) -> Option<RangeInclusive<u64>> {
    let any_partition = format!("{}.*", subject.rsplit_once('.')?.0);
    let is_given = |consumer: &&Value| {
        let config = &consumer["config"];
        let many = config["filter_subjects"].as_array().into_iter().flatten();
        many.chain([&config["filter_subject"]]).any(|filter| filter == subject || *filter == any_partition)
    };
    let mut given = consumers.iter().filter(is_given).peekable();
    given.peek()?;
    let (mut first, mut floor) = (1, u64::MAX);
    for consumer in given {
        let config = &consumer["config"];
        first = match config["deliver_policy"].as_str()? {
            "all" => first,
            "by_start_sequence" => config["opt_start_seq"].as_u64()?.max(first),
            _ => return None,
        };
        floor = consumer["ack_floor"]["stream_seq"].as_u64()?.min(floor);
    }
    Some(first..=floor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SUBJECT: &str = "redrive.history.catalog.9";

    fn consumer(filters: &Value, start: &Value, floor: u64) -> Value {
        let mut config = json!({"deliver_policy": "all", "filter_subjects": filters});
        config.as_object_mut().unwrap().extend(start.as_object().unwrap().clone());
        json!({"config": config, "ack_floor": {"stream_seq": floor}})
    }

    #[test]
    fn what_all_who_are_given_it_have_acknowledged_is_done() {
        let own = json!(["events.*.9.T", SUBJECT]);
        let all = [
            consumer(&own, &json!({}), 20),
            consumer(&json!(["redrive.history.catalog.*"]), &json!({}), 10),
            consumer(
                &json!(["redrive.history.catalog.8", "redrive.history.other.*", "events.>"]),
                &json!({}),
                1,
            ),
        ];
        assert_eq!(done(SUBJECT, &all), Some(1..=10));
        assert_eq!(done(SUBJECT, &all[..1]), Some(1..=20));
        let one = json!({"config": {"deliver_policy": "all", "filter_subject": SUBJECT}, "ack_floor": {"stream_seq": 3}});
        assert_eq!(done(SUBJECT, &[one]), Some(1..=3));
        assert_eq!(done(SUBJECT, &all[2..]), None, "nobody is given it");
    }

    #[test]
    fn what_was_stored_before_a_consumer_began_was_not_given_to_it() {
        let own = json!([SUBJECT]);
        let from = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 7});
        let all = [consumer(&own, &from, 20), consumer(&own, &json!({}), 30)];
        assert_eq!(done(SUBJECT, &all), Some(7..=20));
        let time = json!({"deliver_policy": "by_start_time", "opt_start_time": "2026-11-21T09:00:00Z"});
        assert_eq!(done(SUBJECT, &[consumer(&own, &time, 20)]), None);
    }
}
