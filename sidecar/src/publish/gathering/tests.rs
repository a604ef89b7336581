use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A broker that syncs each message: a single costs 0.2 ms, a batch 3.
fn synced(now: Instant) -> Gathering<usize> {
    let mut gathering = Gathering::default();
    gathering.pace.batch(3 * MILLISECOND, now);
    singles_cost(&mut gathering, Duration::from_micros(200), now);
    gathering
}

/// Enough singles were measured: each costs so much.
fn singles_cost(gathering: &mut Gathering<usize>, cost: Duration, now: Instant) {
    let pace = &mut gathering.pace;
    (1..=SAMPLE).for_each(|in_flight| pace.single_sent(in_flight, true, now));
    for number in 1..=SAMPLE {
        pace.single_ended(SAMPLE - number, true, now + cost * number as u32);
    }
}

/// So many come at once: how many went alone.
fn arrive(gathering: &mut Gathering<usize>, count: usize, now: Instant) -> usize {
    (0..count)
        .filter(|number| {
            let alone = gathering.enter(now);
            if !alone {
                gathering.wait(*number, 1000);
            }
            alone
        })
        .count()
}

fn together(next: Next<usize>) -> usize {
    match next {
        Next::Together { members, complete: true } => members.len(),
        other => panic!("{other:?}"),
    }
}

fn joining(next: Next<usize>) -> usize {
    match next {
        Next::Together { members, complete: false } => members.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn few_go_alone_and_many_wait_for_those_ahead_and_then_go_together() {
    let now = Instant::now();
    let mut gathering = synced(now);
    let alone = arrive(&mut gathering, 64, now);
    assert!((16..32).contains(&alone), "{alone}");
    assert_eq!(gathering.next(now), Next::Nobody);
    (0..alone).for_each(|_| gathering.single_ended(false, now));
    assert_eq!(together(gathering.next(now)), 64 - alone);
}

#[test]
fn those_who_were_just_answered_are_awaited_a_little_by_a_batch_that_has_begun() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 64, now);
    assert_eq!(together(gathering.next(now)), 64);
    gathering.batch_stored(64, now);
    assert_eq!(gathering.next(now), Next::Nobody);
    arrive(&mut gathering, 60, now);
    assert_eq!(joining(gathering.next(now)), 60);
    arrive(&mut gathering, 3, now);
    assert_eq!(joining(gathering.next(now)), 3);
    assert_eq!(gathering.next(now), Next::Nobody);
    arrive(&mut gathering, 1, now);
    assert_eq!(together(gathering.next(now)), 1);
    assert_eq!(gathering.next(now), Next::Nobody, "until it has ended");
    gathering.batch_stored(64, now);
    arrive(&mut gathering, 40, now);
    assert_eq!(joining(gathering.next(now)), 40);
    let soon = now + gathering.pace.linger() - MILLISECOND / 2;
    assert_eq!(gathering.next(soon), Next::Nobody, "those left out would need another batch");
    assert_eq!(together(gathering.next(now + 6 * MILLISECOND)), 0, "it goes with those that have come");
}

#[test]
fn a_batch_that_has_begun_goes_when_it_is_full_or_as_large_as_may_be() {
    let now = Instant::now();
    for (count, bytes, first, last) in [(250, 1000, 250, 6), (30, FULL_BYTES / 40, 30, 10)] {
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        gathering.batches = 1;
        gathering.batch_stored(FULL * 2, now);
        (0..count).for_each(|number| gathering.wait(number, bytes));
        assert_eq!(joining(gathering.next(now)), first);
        (0..20).for_each(|number| gathering.wait(number, bytes));
        assert_eq!(together(gathering.next(now)), last);
        assert_eq!(gathering.next(now), Next::Nobody, "the rest waits for it");
    }
}

#[test]
fn the_wait_for_singles_is_none_of_the_first_batchs_cost() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.pace = Pace::default();
    gathering.gathers_since = Some(now);
    singles_cost(&mut gathering, Duration::from_micros(200), now);
    arrive(&mut gathering, 64, now);
    let later = now + 60 * MILLISECOND;
    assert_eq!(together(gathering.next(later)), 64);
    gathering.batch_stored(64, later + 4 * MILLISECOND);
    assert!(gathering.pace.batch_pays(64, later), "it took 4 ms, and alone they take 13");
}

#[test]
fn what_will_not_pay_is_not_begun() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    gathering.batches = 1;
    let later = now + 3 * MILLISECOND;
    gathering.batch_stored(17, later);
    arrive(&mut gathering, 10, later);
    assert_eq!(gathering.next(later), Next::Nobody);
}

#[test]
fn what_a_batch_costs_includes_the_wait_for_those_that_go_with_it() {
    let now = Instant::now();
    // Alone an event costs 60 µs; a batch takes 3 ms once it has gone, but the next comes together
    // only 3 ms after its answer.
    let mut gathering = Gathering::default();
    singles_cost(&mut gathering, Duration::from_micros(60), now);
    gathering.gathers_since = Some(now);
    let mut end = now;
    for _ in 0..8 {
        arrive(&mut gathering, 64, end + 3 * MILLISECOND);
        let Next::Together { members, .. } = gathering.next(end + 3 * MILLISECOND) else { break };
        end += 6 * MILLISECOND;
        gathering.batch_stored(members.len(), end);
    }
    assert!(!gathering.pace.batch_pays(64, end));
    let mut quick = Gathering::<usize>::default();
    singles_cost(&mut quick, Duration::from_micros(60), now);
    quick.pace.batch(3 * MILLISECOND, now);
    assert!(quick.pace.batch_pays(64, now), "had it been taken for as quick as it looks");
}

#[test]
fn the_last_of_a_rush_goes_alone() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 1, now);
    assert_eq!(gathering.next(now), Next::Alone(vec![0]));
    assert!(gathering.enter(now), "and who comes then does not wait");
}

#[test]
fn only_full_batches_go_beside_another_and_only_so_many() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 64, now);
    together(gathering.next(now));
    arrive(&mut gathering, 255, now);
    assert_eq!(gathering.next(now), Next::Nobody);
    arrive(&mut gathering, 1025, now);
    for _ in 0..3 {
        assert_eq!(together(gathering.next(now)), 256);
    }
    assert_eq!(gathering.next(now), Next::Nobody);
}

#[test]
fn a_batch_is_bounded_in_bytes_and_so_large_events_go_alone() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    for number in 0..64 {
        gathering.wait(number, FULL_BYTES / 40);
    }
    assert_eq!(together(gathering.next(now)), 40);
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    for number in 0..64 {
        gathering.wait(number, FULL_BYTES / 4);
    }
    assert!(matches!(gathering.next(now), Next::Alone(members) if members.len() == 64));
}

#[test]
fn after_a_refusal_all_go_alone_for_a_while() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 64, now);
    together(gathering.next(now));
    arrive(&mut gathering, 10, now);
    gathering.batch_failed(64, true, now);
    assert!(matches!(gathering.next(now), Next::Alone(members) if members.len() == 10));
    assert_eq!(arrive(&mut gathering, 100, now), 100);
    assert!(arrive(&mut gathering, 100, now + LONGEST_PAUSE) < 100);
}

#[test]
fn singles_are_measured_now_and_then() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 100, now);
    let later = now + Duration::from_secs(2);
    assert!(matches!(gathering.next(later), Next::Alone(members) if members.len() == SAMPLE));
    assert_eq!(gathering.next(later), Next::Nobody);
    for number in 1..=SAMPLE as u32 {
        gathering.single_ended(true, later + Duration::from_micros(200) * number);
    }
    assert_eq!(together(gathering.next(later)), 100 - SAMPLE);
}

#[test]
fn a_round_trip_does_not_make_singles_look_slow_that_are_quick() {
    let now = Instant::now();
    let mut gathering = synced(now);
    gathering.gathers_since = Some(now);
    arrive(&mut gathering, 64, now);
    let later = now + Duration::from_secs(2);
    gathering.pace.batch(Duration::from_micros(2800), later);
    let Next::Alone(members) = gathering.next(later) else { panic!("not measured") };
    // Each costs 20 µs; the way there and back takes 0.5 ms.
    for number in 1..=members.len() as u64 {
        gathering.single_ended(true, later + Duration::from_micros(500 + 20 * number));
    }
    arrive(&mut gathering, members.len(), later);
    assert!(matches!(gathering.next(later), Next::Alone(members) if members.len() == 64));
}
