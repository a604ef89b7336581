//! Validation, durables and their filters.

use std::collections::BTreeSet;

use murmur_mesh::partition::Partition;
use murmur_mesh::subject;
use proptest::prelude::*;

use super::*;
use crate::examples::{CATALOG, ORDERS, PROJECTION, subscription, valid_subscription};

#[test]
fn a_subscription_gets_its_defaults() {
    let valid = valid_subscription("history-catalog", CATALOG);
    assert_eq!(valid.ordering, Ordering::Key { shards: 4 });
    let deliver = valid.deliver().unwrap();
    assert_eq!((deliver.timeout, deliver.concurrency, deliver.port), (Duration::from_secs(30), 16, None));
    assert_eq!((valid.retry.max_attempts, valid.retry.factor), (8, 2));
    assert_eq!((valid.start, valid.dead_letter), (Start::All, DeadLetterPolicy::Keep));
}

#[test]
fn the_durables_of_an_ordered_subscription_are_pinned_and_share_out_the_partitions() {
    let durables = durables(&valid_subscription("history-catalog", CATALOG));
    let names: Vec<_> = durables.iter().map(|durable| durable.name.to_string()).collect();
    assert_eq!(names, ["history-catalog-0", "history-catalog-1", "history-catalog-2", "history-catalog-3"]);
    assert!(durables.iter().all(|durable| durable.pinned && durable.max_ack_pending == 512));
    assert!(durables.iter().all(|durable| durable.filter_subjects.len() == 32));
    assert_eq!(durables[1].filter_subjects[0], "events.products.1.ProductCreated");
    assert_eq!(durables[1].filter_subjects[16], "redrive.history.history-catalog.1");
    assert_eq!(durables[0].metadata[durable::OWNER_UID], "uid-of-history-catalog");
    assert_eq!(durables[0].metadata[durable::OWNER_NAME], "history-catalog");
    assert_eq!(durables[0].metadata[durable::OWNER_SERVICE], "history");
}

#[test]
fn an_unordered_subscription_has_one_durable_and_a_covered_filter_is_dropped() {
    let durables = durables(&valid_subscription("history-orders", ORDERS));
    assert_eq!(durables.len(), 1);
    assert_eq!(durables[0].name.as_str(), "history-orders-all");
    assert!(!durables[0].pinned);
    assert_eq!(durables[0].max_ack_pending, 1024);
    assert_eq!(durables[0].filter_subjects, ["events.*.*.OrderPlaced", "redrive.history.history-orders.*"]);
}

#[test]
fn one_shard_needs_one_filter_per_type_and_one_for_its_redriven_dead_letters() {
    let spec = format!("{CATALOG}\nordering: {{shards: 1}}");
    let durables = durables(&valid_subscription("a", &spec));
    assert_eq!(durables.len(), 1);
    assert!(durables[0].pinned);
    assert_eq!(durables[0].filter_subjects, ["events.products.*.ProductCreated", "redrive.history.a.*"]);
}

#[test]
fn a_strict_subscription_has_one_durable_with_one_event_out_at_a_time() {
    let durables = durables(&valid_subscription("a", &format!("{CATALOG}\nordering: {{policy: Strict}}")));
    assert_eq!(durables.len(), 1);
    assert_eq!(
        (durables[0].name.as_str(), durables[0].pinned, durables[0].max_ack_pending),
        ("a-all", false, 1)
    );
}

#[test]
fn the_durables_of_a_suspended_subscription_are_paused() {
    assert!(!durables(&valid_subscription("a", CATALOG))[0].paused);
    assert!(durables(&valid_subscription("a", &format!("{CATALOG}\nsuspend: true")))[0].paused);
}

#[test]
fn the_options_of_delivery_are_read() {
    let options =
        "deliver: {path: /a, batch: {maxEvents: 10}, maxPerSecond: 200}\nfilter: {cel: event.data.a}";
    let valid = valid_subscription("a", &CATALOG.replace("deliver: {path: /events/products}", options));
    let batch = Batch { max_events: 10, max_wait: Duration::from_millis(50) };
    let deliver = valid.deliver().unwrap();
    assert_eq!((&deliver.batch, deliver.max_per_second), (&Some(batch), Some(200)));
    assert_eq!(valid.filter.as_deref(), Some("event.data.a"));
}

#[test]
fn a_projection_has_one_pinned_durable_in_the_order_of_the_event_store() {
    let valid = valid_subscription("catalog", PROJECTION);
    assert!(valid.deliver().is_none());
    assert_eq!(valid.projection().unwrap().tables, ["products"]);
    let durables = durables(&valid);
    assert_eq!(durables.len(), 1);
    assert!(durables[0].pinned);
    assert_eq!(
        durables[0].filter_subjects,
        ["events.products.*.ProductCreated", "redrive.history.catalog.*"]
    );
}

#[test]
fn a_projection_that_cannot_be_read_is_named_with_its_place() {
    for (from, to, words) in [
        (":data.id", ":id.x", "spec.projection.statements[ProductCreated].sql: :id.x is no value"),
        ("INSERT INTO", "DROP TABLE", "must be an INSERT"),
        ("CREATE TABLE products", "CREATE TABLE others", "makes the table others"),
    ] {
        let error = validate(&subscription("catalog", &PROJECTION.replace(from, to))).unwrap_err();
        assert_eq!(error.reason(), "InvalidProjection");
        assert!(error.to_string().contains(words), "{error}");
    }
    let both = format!("{PROJECTION}\ndeliver: {{path: /events}}");
    assert!(validate(&subscription("catalog", &both)).unwrap_err().to_string().contains("exactly one"));
}

#[test]
fn each_start_policy_is_understood() {
    for (text, start) in [
        ("{policy: All}", Start::All),
        ("{policy: New}", Start::New),
        ("{policy: Sequence, sequence: 7}", Start::Sequence(7)),
        (
            "{policy: Time, time: '2026-11-21T11:00:00+01:00'}",
            Start::Time("2026-11-21T10:00:00Z".parse().unwrap()),
        ),
    ] {
        assert_eq!(valid_subscription("a", &format!("{CATALOG}\nstart: {text}")).start, start);
    }
}

#[test]
fn what_an_older_rule_may_have_let_in_is_named_with_its_field() {
    for (addition, reason, field) in [
        ("start: {policy: Sequence}", "InvalidValue", "spec.start.sequence"),
        ("start: {policy: Time, time: yesterday}", "InvalidValue", "spec.start.time"),
        ("replay: {id: a b}", "InvalidValue", "spec.replay.id"),
        ("replay: {id: a, start: {policy: Sequence}}", "InvalidValue", "spec.replay.start.sequence"),
        ("ordering: {shards: 3}", "InvalidValue", "spec.ordering.shards"),
        ("ordering: {shards: 128}", "InvalidValue", "spec.ordering.shards"),
        ("retry: {maxAttempts: 0}", "InvalidValue", "spec.retry.maxAttempts"),
        ("retry: {maxDelay: never}", "InvalidDuration", "spec.retry.maxDelay"),
    ] {
        let error = validate(&subscription("a", &format!("{CATALOG}\n{addition}"))).unwrap_err();
        assert_eq!(error.reason(), reason, "{addition}");
        assert!(error.to_string().contains(field), "{error}");
    }
    for (from, to, field) in [
        ("/events/products", "events", "spec.deliver.path"),
        ("{path: ", "{port: 3600, path: ", "spec.deliver.port"),
        ("ProductCreated", "a..b", "spec.events.type"),
        ("from: products", "from: Products", "spec.events.from"),
        ("name: history", "name: History", "spec.microserviceRef.name"),
    ] {
        let error = validate(&subscription("a", &CATALOG.replace(from, to))).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(validate(&subscription("A", CATALOG)).unwrap_err().reason(), "InvalidName");
}

/// The durables of a subscription that is new.
fn durables(subscription: &ValidSubscription) -> Vec<Durable> {
    super::durables(subscription, &Runs::default().wanted(subscription, false, 0))
}

/// Whether one filter covers a subject or another filter.
fn covers(filter: &str, subject: &str) -> bool {
    let (filter, subject): (Vec<_>, Vec<_>) = (filter.split('.').collect(), subject.split('.').collect());
    filter.len() == subject.len()
        && filter.iter().zip(&subject).all(|(part, token)| *part == "*" || part == token)
}

fn selectors() -> impl Strategy<Value = Vec<EventSelector>> {
    let event_type = prop::sample::select(vec!["A", "B", "a.b", "a.b.c", "größe"]);
    let from = prop::option::of(prop::sample::select(vec!["users", "orders"]));
    prop::collection::vec((event_type, from), 1..8).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(event_type, from)| EventSelector {
                event_type: event_type.parse().unwrap(),
                from: from.map(|from| from.parse().unwrap()),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_selected_event_reaches_exactly_one_durable_once(
        events in selectors(),
        shards in prop::sample::select(vec![0_u16, 1, 2, 4, 8, 64]),
        key in ".{0,8}",
    ) {
        let mut subscription = valid_subscription("a", CATALOG);
        subscription.events = events.clone();
        subscription.ordering = if shards == 0 { Ordering::None } else { Ordering::Key { shards } };
        let durables = durables(&subscription);
        for from in ["users", "orders", "others"] {
            for event_type in ["A", "B", "C", "a.b", "a.b.c", "größe"] {
                let from: ServiceName = from.parse().unwrap();
                let event_type: EventType = event_type.parse().unwrap();
                let wanted = events.iter().any(|selector| {
                    selector.event_type == event_type && selector.from.as_ref().is_none_or(|it| *it == from)
                });
                let subject = subject::event(&from, Partition::of(&key), &event_type);
                let hits = durables
                    .iter()
                    .flat_map(|durable| &durable.filter_subjects)
                    .filter(|filter| covers(filter, &subject))
                    .count();
                prop_assert_eq!(hits, usize::from(wanted), "{}", subject);
            }
        }
    }

    #[test]
    fn no_filter_of_a_durable_covers_another(events in selectors(), shards in prop::sample::select(vec![0_u16, 1, 4])) {
        let mut subscription = valid_subscription("a", CATALOG);
        subscription.events = events;
        subscription.ordering = if shards == 0 { Ordering::None } else { Ordering::Key { shards } };
        for durable in durables(&subscription) {
            let distinct: BTreeSet<_> = durable.filter_subjects.iter().collect();
            prop_assert_eq!(distinct.len(), durable.filter_subjects.len());
            for (at, one) in durable.filter_subjects.iter().enumerate() {
                for (other_at, other) in durable.filter_subjects.iter().enumerate() {
                    prop_assert!(at == other_at || !covers(one, other), "{} covers {}", one, other);
                }
            }
        }
    }
}
