use super::*;
use crate::history::{DeadLetter, Log};

const SUBSCRIPTIONS: [(&str, Order); 3] =
    [("key", Order::Key), ("strict", Order::Strict), ("free", Order::None)];

fn delivery(subscription: &str, event: &Stored) -> Delivery {
    Delivery {
        pod: 0,
        subscription: subscription.to_owned(),
        sequence: event.sequence,
        id: event.id.clone(),
        key: event.key.clone(),
        data: event.data.clone(),
        began: 0,
        answered: None,
    }
}

/// Six events of two keys; number 3 is rejected, number 4 fails once. All went well.
fn good() -> History {
    let mut history = History::default();
    for number in 1..=6_u64 {
        let id = number.to_string();
        let fate = match number {
            3 => Fate::Rejected,
            4 => Fate::TakenAtLast,
            _ => Fate::Taken,
        };
        let key = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
        let data = fate.data(&id);
        history.stored.push(Stored {
            sequence: number,
            id: id.clone(),
            key: key.clone(),
            data: data.clone(),
        });
        let answers = vec![Answer::NotStored(503), Answer::Unknown(504), Answer::Stored { sequence: number }];
        history.published.push(Published { publisher: 0, id, key, data, fate, answers });
    }
    let log = Log::default();
    for (name, order) in SUBSCRIPTIONS {
        history.subscriptions.push(Subscription { name: name.to_owned(), order, attempts: 3 });
        for event in &history.stored {
            let fate = Fate::of(event.data.as_bytes()).unwrap();
            // The first request of each is lost in a crash, and the last one comes again.
            log.begins(delivery(name, event));
            for _ in 0..3 {
                let (number, before) = log.begins(delivery(name, event));
                log.ends(number, status_for(fate, before - 1));
            }
        }
        let reason = "rejected".to_owned();
        history.dead_letters.push(DeadLetter { subscription: name.to_owned(), id: "3".to_owned(), reason });
    }
    history.deliveries = log.deliveries();
    history
}

fn broken(break_it: impl FnOnce(&mut History)) -> Vec<Violation> {
    let mut history = good();
    break_it(&mut history);
    check(&history)
}

/// Puts the first request of an event, and its answer, before those of another.
fn overtake(history: &mut History, subscription: &str, later: u64, earlier: u64) {
    let first = |history: &History, sequence| {
        let is_it = |one: &Delivery| one.subscription == subscription && one.sequence == sequence;
        history.deliveries.iter().position(is_it).unwrap()
    };
    let (from, to) = (first(history, later), first(history, earlier));
    let mut early = history.deliveries[from].clone();
    early.began = history.deliveries[to].began - 1;
    history.deliveries.insert(to, early);
}

#[test]
fn a_history_in_which_all_went_well_breaks_nothing() {
    assert_eq!(check(&good()), []);
    let figures = figures(&good());
    assert_eq!((figures.events, figures.refusals, figures.deliveries, figures.dead_letters), (6, 12, 72, 3));
    // Of the four requests of each event two repeat what was taken; of the one that failed, one; of the rejected, none.
    assert_eq!(figures.repeats, 3 * (4 * 2 + 1));
}

#[test]
fn an_acknowledged_event_that_is_not_in_the_store_is_lost() {
    let lost = Violation::Lost { id: "5".into() };
    let gone = broken(|history| history.stored.retain(|event| event.id != "5"));
    assert!(gone.contains(&lost), "{gone:?}");
    let elsewhere = broken(|history| history.published[4].answers = vec![Answer::Stored { sequence: 9 }]);
    assert!(elsewhere.contains(&lost), "{elsewhere:?}");
    let changed = broken(|history| history.stored[4].data.push(' '));
    assert!(changed.contains(&lost), "{changed:?}");
}

#[test]
fn an_event_that_is_stored_twice_is_found() {
    let twice = broken(|history| {
        let again = Stored { sequence: 7, ..history.stored[4].clone() };
        history.stored.push(again);
    });
    assert!(twice.contains(&Violation::StoredTwice { id: "5".into() }), "{twice:?}");
}

#[test]
fn an_event_that_was_said_not_to_be_stored_and_is_is_found() {
    let lied = broken(|history| history.published[4].answers = vec![Answer::NotStored(503)]);
    assert!(lied.contains(&Violation::StoredAfterAll { id: "5".into() }), "{lied:?}");
    assert!(lied.iter().any(|one| matches!(one, Violation::NeverAccepted { id, .. } if id == "5")));
}

#[test]
fn an_event_of_nobody_and_an_unexpected_answer_are_found() {
    let foreign = broken(|history| history.published.retain(|event| event.id != "6"));
    assert_eq!(foreign, [Violation::FromNowhere { id: "6".into() }]);
    let odd = broken(|history| history.published[0].answers.push(Answer::Unexpected(500, "?".into())));
    assert_eq!(odd, [Violation::Unexpected { id: "1".into(), answer: "500 ?".into() }]);
}

#[test]
fn events_that_are_stored_in_another_order_than_published_are_found() {
    let swapped = broken(|history| history.published.swap(0, 1));
    assert_eq!(swapped, [Violation::StoredOutOfOrder { id: "1".into() }]);
}

#[test]
fn an_event_that_no_service_took_is_found_in_each_subscription() {
    for (name, _) in SUBSCRIPTIONS {
        let lost = Violation::NotDelivered { subscription: name.into(), id: "5".into() };
        let none = broken(|history| {
            history.deliveries.retain(|one| one.subscription != name || one.sequence != 5);
        });
        assert!(none.contains(&lost), "{none:?}");
        // Acknowledged before the service had answered, or while it was away.
        for answer in [None, Some(503), Some(500)] {
            let untaken = broken(|history| {
                let mut times = 0;
                history.deliveries.retain_mut(|one| {
                    if one.subscription == name && one.sequence == 5 {
                        times += 1;
                        one.answered = answer.map(|status| (one.began + 1, status));
                    }
                    one.subscription != name || one.sequence != 5 || times <= 2
                });
            });
            assert!(untaken.contains(&lost), "{answer:?}: {untaken:?}");
        }
    }
}

#[test]
fn an_event_that_is_changed_on_the_way_is_found() {
    let changed = broken(|history| history.deliveries[0].data.push(' '));
    assert!(matches!(changed.as_slice(), [Violation::Changed { .. }]), "{changed:?}");
}

#[test]
fn an_event_that_overtakes_another_of_its_key_is_found() {
    let violations = broken(|history| overtake(history, "key", 5, 3));
    let [Violation::OutOfOrder { subscription, before, .. }] = violations.as_slice() else {
        panic!("{violations:?}");
    };
    assert_eq!((subscription.as_str(), before.as_slice()), ("key", [3].as_slice()));
}

#[test]
fn an_event_that_overtakes_one_of_another_key_breaks_only_the_strict_order() {
    assert_eq!(broken(|history| overtake(history, "key", 4, 3)), []);
    assert_eq!(broken(|history| overtake(history, "free", 6, 1)), []);
    let strict = broken(|history| overtake(history, "strict", 4, 3));
    assert!(matches!(strict.as_slice(), [Violation::OutOfOrder { .. }]), "{strict:?}");
}

#[test]
fn an_event_that_begins_while_the_one_before_is_still_with_the_service_is_found() {
    let early = broken(|history| {
        let of_three = |one: &&mut Delivery| one.subscription == "key" && one.sequence == 3;
        for one in history.deliveries.iter_mut().filter(of_three) {
            one.answered = one.answered.map(|(moment, status)| (moment + 1000, status));
        }
    });
    assert!(matches!(early.as_slice(), [Violation::OutOfOrder { .. }]), "{early:?}");
}

#[test]
fn a_repeat_of_an_event_that_is_over_is_no_step_back() {
    let repeated = broken(|history| {
        let again = history.deliveries.iter().filter(|one| one.subscription == "key").cloned();
        let again: Vec<_> = again.map(|one| Delivery { began: one.began + 1000, ..one }).collect();
        history.deliveries.extend(again);
    });
    assert_eq!(repeated, []);
}

#[test]
fn a_dead_letter_that_is_missing_doubled_wrong_or_needless_is_found() {
    let none = broken(|history| history.dead_letters.clear());
    assert_eq!(none.iter().filter(|one| matches!(one, Violation::NoDeadLetter { .. })).count(), 3);
    let twice = broken(|history| history.dead_letters.push(history.dead_letters[0].clone()));
    assert!(matches!(twice.as_slice(), [Violation::NoDeadLetter { .. }]), "{twice:?}");
    let wrong = broken(|history| history.dead_letters[0].reason = "exhausted".into());
    assert!(matches!(wrong.as_slice(), [Violation::NoDeadLetter { .. }]), "{wrong:?}");
    let needless = broken(|history| {
        let letter = DeadLetter { id: "5".into(), ..history.dead_letters[0].clone() };
        history.dead_letters.push(letter);
    });
    assert!(matches!(needless.as_slice(), [Violation::NeedlessDeadLetter { .. }]), "{needless:?}");
}

#[test]
fn a_durable_that_is_not_done_is_found() {
    let left = broken(|history| history.left.push(("key-0".into(), 4)));
    assert_eq!(left, [Violation::Left { durable: "key-0".into(), events: 4 }]);
}
