use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(sequence: u64) -> Position {
    Position { durable: 0, sequence }
}

fn all(lanes: &mut Lanes<u64>, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| lanes.next(now)).map(|position| position.sequence).collect()
}

fn with(events: &[(u64, u64)]) -> Lanes<u64> {
    let mut lanes = Lanes::new();
    for &(sequence, lane) in events {
        assert_eq!(lanes.admit(at(sequence), Some(lane), sequence), None);
    }
    lanes
}

#[test]
fn one_event_of_each_lane_is_out_at_a_time() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7), (2, 7), (3, 8), (4, 7)]);
    assert_eq!(all(&mut lanes, now), [1, 3]);
    lanes.finish(at(1));
    assert_eq!(all(&mut lanes, now), [2]);
    lanes.finish(at(3));
    lanes.finish(at(2));
    assert_eq!(all(&mut lanes, now), [4]);
}

#[test]
fn without_lanes_what_stood_aside_goes_in_the_order_of_the_stream_whatever_was_ready_before() {
    let now = Instant::now();
    let mut lanes = Lanes::new();
    for sequence in [12, 13] {
        lanes.admit(at(sequence), None, sequence);
    }
    lanes.shut(0);
    for sequence in [11, 10] {
        lanes.admit(at(sequence), None, sequence);
    }
    assert_eq!(all(&mut lanes, now), [] as [u64; 0]);
    lanes.open(0);
    assert_eq!(all(&mut lanes, now), [10, 11, 12, 13]);
}

#[test]
fn without_lanes_all_may_go() {
    let mut lanes = Lanes::new();
    for sequence in 1..=3 {
        lanes.admit(at(sequence), None, sequence);
    }
    assert_eq!(all(&mut lanes, Instant::now()), [1, 2, 3]);
}

#[test]
fn an_event_that_waits_holds_its_own_lane_only() {
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    let mut lanes = with(&[(1, 7), (2, 7), (3, 8)]);
    assert_eq!(all(&mut lanes, now), [1, 3]);
    lanes.put_off(at(1), due);
    lanes.finish(at(3));
    assert_eq!(all(&mut lanes, now), [] as [u64; 0]);
    assert_eq!(lanes.next_due(), Some(due));
    assert_eq!(all(&mut lanes, due), [1]);
}

#[test]
fn what_is_put_back_goes_after_the_others_that_are_ready() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7), (2, 8)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    lanes.put_back(at(1));
    assert_eq!(all(&mut lanes, now), [2, 1]);
}

#[test]
fn an_event_that_comes_again_while_it_is_held_is_not_delivered_twice() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    assert_eq!(lanes.admit(at(1), Some(7), 100), Some(100));
    assert_eq!(lanes.next(now), None);
    assert_eq!(lanes.len(), 1);
}

#[test]
fn what_comes_late_is_put_in_its_place_in_the_lane() {
    let now = Instant::now();
    let mut lanes = with(&[(5, 7), (9, 7), (7, 7), (6, 7), (8, 7)]);
    let mut order = Vec::new();
    while let Some(position) = lanes.next(now) {
        order.push(position.sequence);
        lanes.finish(position);
    }
    assert_eq!(order, [5, 6, 7, 8, 9]);
}

#[test]
fn dropping_a_durable_lets_what_is_out_end_but_not_be_tried_again() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7), (2, 7), (3, 8)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    let mut dropped = lanes.drop_durable(0);
    dropped.sort_unstable();
    assert_eq!(dropped, [2, 3]);
    assert_eq!(lanes.iter_mut().count(), 0, "the lost one gets no progress marks");
    lanes.put_off(at(1), now);
    assert_eq!((lanes.len(), lanes.out()), (0, 0));
    assert_eq!(lanes.next(now), None);
}

#[test]
fn a_lost_event_that_the_broker_delivers_again_is_ours_again() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    lanes.drop_durable(0);
    lanes.admit(at(1), Some(7), 1);
    lanes.put_back(at(1));
    assert_eq!(lanes.next(now), Some(at(1)));
}

#[test]
fn releasing_gives_back_all_but_what_is_out_in_stream_order() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7), (5, 8), (2, 7), (3, 9)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    assert_eq!(lanes.release(|_| true), [2, 3, 5]);
    assert_eq!((lanes.len(), lanes.out()), (1, 1));
}

#[test]
fn while_a_durable_is_shut_its_events_stand_aside_and_then_go_in_stream_order() {
    let now = Instant::now();
    let mut lanes = with(&[(5, 7), (6, 7), (8, 8)]);
    assert_eq!(lanes.next(now), Some(at(5)));
    lanes.shut(0);
    lanes.admit(at(3), Some(7), 3);
    lanes.admit(at(9), Some(9), 9);
    lanes.admit(Position { durable: 1, sequence: 4 }, Some(4), 4);
    assert_eq!(all(&mut lanes, now), [4], "another durable goes on");
    lanes.put_off(at(5), now);
    assert_eq!(all(&mut lanes, now), [] as [u64; 0], "what comes back stands aside, too");
    assert_eq!(lanes.up_to(0, 8).count(), 4);
    lanes.open(0);
    assert_eq!(all(&mut lanes, now), [3, 8, 9]);
    lanes.finish(at(3));
    assert_eq!(all(&mut lanes, now), [5]);
    lanes.finish(at(5));
    assert_eq!(all(&mut lanes, now), [6]);
}

#[test]
fn what_ends_while_its_durable_is_shut_sets_nothing_free() {
    let now = Instant::now();
    let mut lanes = with(&[(1, 7), (2, 7)]);
    assert_eq!(lanes.next(now), Some(at(1)));
    lanes.shut(0);
    lanes.finish(at(1));
    assert_eq!(all(&mut lanes, now), [] as [u64; 0]);
    lanes.open(0);
    assert_eq!(all(&mut lanes, now), [2]);
}

proptest! {
    /// Whatever happens to them, events of one lane end in stream order, each once.
    #[test]
    fn every_lane_ends_in_stream_order(
        keys in proptest::collection::vec(0_u64..5, 1..60),
        steps in proptest::collection::vec((0_u8..3, 0_usize..8), 0..200),
    ) {
        let now = Instant::now();
        let mut lanes = Lanes::new();
        for (index, &key) in keys.iter().enumerate() {
            lanes.admit(at(index as u64), Some(key), key);
        }
        let mut out = Vec::new();
        let mut ended: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut end = |lanes: &mut Lanes<u64>, position: Position| {
            let key = lanes.finish(position).unwrap();
            ended.entry(key).or_default().push(position.sequence);
        };
        for (what, which) in steps {
            out.extend(lanes.next(now));
            if out.is_empty() { continue }
            let position = out.swap_remove(which % out.len());
            match what {
                0 => lanes.put_back(position),
                1 => lanes.put_off(position, now),
                _ => end(&mut lanes, position),
            }
            prop_assert_eq!(lanes.out(), out.len());
        }
        loop {
            out.extend(lanes.next(now));
            let Some(position) = out.pop() else { break };
            end(&mut lanes, position);
        }
        prop_assert_eq!(lanes.len(), 0);
        prop_assert_eq!(ended.values().map(Vec::len).sum::<usize>(), keys.len());
        for sequences in ended.values() {
            prop_assert!(sequences.is_sorted());
        }
    }
}

#[test]
fn what_is_past_a_place_of_the_stream_is_let_go_but_for_what_is_out() {
    let now = Instant::now();
    let mut lanes = Lanes::new();
    for sequence in [3, 5, 7, 9] {
        lanes.admit(Position { durable: 0, sequence }, Some(sequence), sequence);
    }
    lanes.admit(Position { durable: 1, sequence: 20 }, None, 20);
    assert_eq!((lanes.last(0), lanes.last(1), lanes.last(2)), (9, 20, 0));
    for _ in 0..3 {
        lanes.next(now);
    }
    assert_eq!(lanes.release(|position| position.durable == 0 && position.sequence > 5), [9], "7 is out");
    assert_eq!((lanes.last(0), lanes.len()), (7, 4));
}
