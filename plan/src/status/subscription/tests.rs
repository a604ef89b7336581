//! What a user reads of an EventSubscription.

use super::*;

fn at(pending: u64, ack_pending: u64, ack_floor: u64, delivered: u64) -> DurablePosition {
    // As of a durable that gets each event of the stream once.
    let (deliveries, deliveries_floor) = (delivered, ack_floor);
    DurablePosition { pending, ack_pending, ack_floor, delivered, deliveries, deliveries_floor }
}

fn durable(pending: u64, ack_pending: u64, ack_floor: u64, delivered: u64) -> DurableProgress {
    DurableProgress { before: None, now: at(pending, ack_pending, ack_floor, delivered) }
}

fn observed(durables: Vec<DurableProgress>) -> Observed {
    Observed {
        durables: Some(durables),
        dead_letters: Some(0),
        delivery: Delivery::Going,
        run: None,
        suspended: false,
        blocked: None,
    }
}

fn status(observed: &Observed) -> EventSubscriptionStatus {
    of(1, None, observed, Timestamp::UNIX_EPOCH)
}

fn summary(status: &EventSubscriptionStatus, kind: &str) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    format!("{} {}", condition.status, condition.reason)
}

#[test]
fn a_subscription_with_nothing_waiting_has_caught_up() {
    let status = status(&observed(vec![durable(0, 0, 7, 7), durable(0, 0, 2, 2)]));
    assert_eq!(summary(&status, READY), "True DurablesReady");
    assert_eq!(summary(&status, CAUGHT_UP), "True NothingPending");
    assert_eq!(summary(&status, DELIVERING), "True Delivering");
    assert_eq!((status.pending, status.last_delivered_sequence), (Some(0), Some(7)));
}

#[test]
fn events_in_delivery_wait_too_and_hold_the_position_back() {
    let status = status(&observed(vec![durable(3, 2, 5, 9), durable(0, 0, 100, 100)]));
    assert_eq!(summary(&status, CAUGHT_UP), "False EventsPending");
    assert_eq!((status.pending, status.last_delivered_sequence), (Some(5), Some(5)));
}

#[test]
fn the_conditions_of_a_moving_backlog_do_not_change() {
    let first = status(&observed(vec![durable(3, 2, 5, 9)]));
    let second = of(1, Some(&first), &observed(vec![durable(2, 2, 6, 10)]), Timestamp::MAX);
    assert_eq!(first.conditions, second.conditions);
}

#[test]
fn events_that_are_delivered_as_they_come_do_not_wait_and_change_nothing() {
    let first = status(&observed(vec![durable(0, 0, 9, 9)]));
    let steps = [
        at(0, 0, 9, 9),
        at(0, 1, 19, 20),
        at(0, 3, 20, 40),
        at(0, 0, 60, 60),
        at(1, 2, 71, 80),
        at(2, 1, 81, 82),
    ];
    for pair in steps.windows(2) {
        let progress = DurableProgress { before: Some(pair[0]), now: pair[1] };
        assert_eq!(of(1, Some(&first), &observed(vec![progress]), Timestamp::MAX), first, "{progress:?}");
    }
}

#[test]
fn an_event_that_waits_from_one_look_to_the_next_is_pending() {
    let caught_up = status(&observed(vec![durable(0, 0, 9, 9)]));
    for (before, now) in [
        (at(0, 1, 9, 10), at(0, 1, 9, 10)),
        (at(0, 1, 9, 10), at(0, 3, 9, 12)),
        (at(5, 0, 9, 9), at(4, 0, 10, 10)),
        (at(5, 0, 9, 9), at(0, 1, 13, 14)),
    ] {
        let progress = DurableProgress { before: Some(before), now };
        let status = of(1, Some(&caught_up), &observed(vec![progress]), Timestamp::MAX);
        assert_eq!(summary(&status, CAUGHT_UP), "False EventsPending", "{progress:?}");
        assert_eq!(status.pending, Some(number(now.outstanding())));
    }
}

#[test]
fn the_position_is_shown_again_once_it_rests() {
    let first = status(&observed(vec![durable(0, 0, 9, 9)]));
    let resting = DurableProgress { before: Some(at(0, 0, 80, 80)), now: at(0, 0, 80, 80) };
    let after = of(1, Some(&first), &observed(vec![resting]), Timestamp::MAX);
    assert_eq!(after.last_delivered_sequence, Some(80));
}

#[test]
fn while_the_bus_is_away_numbers_stay_and_conditions_are_unknown() {
    let before = status(&observed(vec![durable(3, 0, 5, 5)]));
    let away =
        Observed { durables: None, dead_letters: None, delivery: Delivery::Unreported, ..observed(vec![]) };
    let after = of(1, Some(&before), &away, Timestamp::UNIX_EPOCH);
    assert_eq!((after.pending, after.dead_letters), (Some(3), Some(0)));
    assert_eq!(summary(&after, READY), "Unknown BusUnavailable");
    assert_eq!(summary(&after, CAUGHT_UP), "Unknown BusUnavailable");
    assert_eq!(summary(&after, DELIVERING), "Unknown NoReport");
}

#[test]
fn a_subscription_to_a_service_that_is_not_there_says_so() {
    let blocked = Some(Problem::new("MicroserviceNotFound", "there is no Microservice history"));
    let status = status(&Observed { blocked, ..observed(vec![]) });
    assert_eq!(summary(&status, READY), "False MicroserviceNotFound");
    assert_eq!(summary(&status, DELIVERING), "False MicroserviceNotFound");
}

#[test]
fn a_suspended_subscription_says_so_and_what_waits() {
    let suspended = |durable| status(&Observed { suspended: true, ..observed(vec![durable]) });
    let waiting = suspended(durable(3, 0, 5, 5));
    assert_eq!(summary(&waiting, DELIVERING), "False Suspended");
    assert_eq!(summary(&waiting, CAUGHT_UP), "False Suspended");
    assert_eq!(waiting.pending, Some(3));
    assert_eq!(summary(&suspended(durable(0, 0, 5, 5)), CAUGHT_UP), "True NothingPending");
}

fn in_run(boundary: Option<u64>, durables: Vec<DurableProgress>) -> Observed {
    let run = ObservedRun {
        event_store: EventStore { created: "store".into(), restored: false },
        id: Some("1".into()),
        boundary,
        added_later: vec!["B".into()],
    };
    Observed { run: Some(run), ..observed(durables) }
}

#[test]
fn a_replay_is_done_when_every_durable_has_passed_its_boundary_and_stays_so() {
    let phase = |status: &EventSubscriptionStatus| status.replay.as_ref().unwrap().phase;
    let running = status(&in_run(Some(70), vec![durable(0, 0, 2, 2), durable(5, 1, 69, 71)]));
    assert_eq!(phase(&running), ReplayPhase::Running);
    assert_eq!(running.replay.as_ref().unwrap().boundary_sequence, Some(70));
    let done = status(&in_run(Some(70), vec![durable(0, 0, 2, 2), durable(5, 1, 70, 71)]));
    assert_eq!(phase(&done), ReplayPhase::Done);
    let later = in_run(Some(70), vec![durable(1, 0, 2, 2)]);
    assert_eq!(phase(&of(1, Some(&done), &later, Timestamp::MAX)), ReplayPhase::Done);
    assert_eq!(phase(&status(&later)), ReplayPhase::Running);
    // Another one begins.
    let again = in_run(Some(80), vec![durable(9, 0, 0, 0)]);
    assert_eq!(phase(&of(1, Some(&done), &again, Timestamp::MAX)), ReplayPhase::Running);
    let unknown = Observed { durables: None, run: None, ..observed(vec![]) };
    assert_eq!(of(1, Some(&done), &unknown, Timestamp::MAX).replay, done.replay);
    // One that was there at the making has nothing to do.
    assert_eq!(phase(&status(&in_run(None, vec![durable(9, 0, 0, 0)]))), ReplayPhase::Done);
}

#[test]
fn a_type_that_was_added_later_is_named_in_the_condition() {
    let status = status(&in_run(None, vec![durable(0, 0, 0, 0)]));
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
    assert!(ready.message.contains("delivered from then on: B"), "{}", ready.message);
}

#[test]
fn another_event_store_is_a_condition() {
    let first = status(&in_run(None, vec![durable(0, 0, 9, 9)]));
    let mut other = in_run(None, vec![durable(0, 0, 0, 0)]);
    other.run.as_mut().unwrap().event_store.created = "other".into();
    let second = of(1, Some(&first), &other, Timestamp::MAX);
    assert_eq!(summary(&second, "EventStoreReplaced"), "True EventStoreReplaced");
    assert_eq!((first.event_store.as_deref(), second.event_store.as_deref()), (Some("store"), Some("other")));
    other.run.as_mut().unwrap().event_store = EventStore { created: "third".into(), restored: true };
    let third = of(1, Some(&second), &other, Timestamp::MAX);
    assert!(third.conditions.iter().all(|condition| condition.type_ != "EventStoreReplaced"));
    assert_eq!(third.event_store.as_deref(), Some("third"));
}

#[test]
fn a_service_that_holds_events_up_is_named_by_its_sidecar() {
    let delivery = Delivery::Held {
        reason: "ServiceUnavailable".into(),
        cause: "the service refuses connections".into(),
    };
    let status = status(&Observed { delivery, ..observed(vec![durable(3, 0, 5, 5)]) });
    assert_eq!(summary(&status, DELIVERING), "False ServiceUnavailable");
    assert_eq!(summary(&status, READY), "True DurablesReady");
}
