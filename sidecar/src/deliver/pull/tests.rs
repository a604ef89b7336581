use async_nats::{HeaderMap, Message, StatusCode};
use murmur_mesh::name::SubscriptionName;

use super::answers::PIN_ID;
use super::*;

const WINDOW: Window = Window { events: 100, bytes: 1000 };

fn pull(shard: Shard) -> (Pull, Instant) {
    let name: SubscriptionName = "s".parse().unwrap();
    let now = Instant::now();
    (Pull::new(DurableName::new(&name, shard, None), shard, true, now), now)
}

fn body(ask: &Ask) -> serde_json::Value {
    serde_json::from_slice(&ask.payload).unwrap()
}

fn message(description: &str) -> Message {
    Message {
        subject: "inbox.0.1".into(),
        reply: None,
        payload: Bytes::new(),
        headers: None,
        status: None,
        description: Some(description.to_owned()),
        length: 0,
    }
}

fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

fn pinned(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(PIN_ID, id);
    headers
}

#[test]
fn one_pull_at_a_time_asks_for_what_there_is_room_for() {
    let (mut pull, now) = pull(Shard::All);
    let ask = pull.ask(now, WINDOW).unwrap();
    assert_eq!(ask.subject, "$JS.API.CONSUMER.MSG.NEXT.EVENTS.s-all");
    assert_eq!(
        body(&ask),
        serde_json::json!({"batch": 100, "max_bytes": 1000, "expires": 3_000_000_000_u64})
    );
    assert!(pull.ask(now, WINDOW).is_none());
    pull.status(ask.number, code(408), &message("Request Timeout"), now);
    pull.held = 40;
    pull.held_bytes = 100;
    let ask = pull.ask(now, WINDOW).unwrap();
    assert_eq!((body(&ask)["batch"].as_u64(), body(&ask)["max_bytes"].as_u64()), (Some(60), Some(900)));
}

#[test]
fn without_room_a_pull_that_nothing_fits_into_renews_the_pin() {
    let (mut pull, now) = pull(Shard::Number(0));
    pull.barrier = Barrier::open();
    pull.event(Some(&pinned("a")), 1);
    pull.held = 90;
    let ask = pull.ask(now, WINDOW).unwrap();
    assert_eq!(body(&ask)["max_bytes"], 1);
    assert_eq!(body(&ask)["group"], "g");
    assert_eq!(body(&ask)["id"], "a");
    assert!(pull.ask(now, WINDOW).is_none(), "once until it ends");
    pull.held = 10;
    assert_eq!(body(&pull.ask(now, WINDOW).unwrap())["batch"], 90, "room comes first");
}

#[test]
fn after_a_pull_that_came_to_no_end_the_broker_shows_that_it_is_there_before_the_next() {
    let (mut pull, now) = pull(Shard::All);
    pull.said.informed(br#"{"created":"2026-11-21T09:00:00Z"}"#);
    pull.ask(now, WINDOW).unwrap();
    assert!(pull.ask(now + PULL_EXPIRES, WINDOW).is_none());
    assert_eq!(pull.next_question(), None);
    let later = now + PULL_EXPIRES + OVERDUE;
    assert!(pull.ask(later, WINDOW).is_none());
    assert_eq!(pull.next_question(), Some(later));
    assert_eq!(pull.recall.since(), Some(later), "what it brought may be lost");
    pull.recall = Recall::default();
    assert!(pull.ask(later + OVERDUE, WINDOW).is_none());
    pull.answered();
    assert!(pull.ask(later + OVERDUE, WINDOW).is_some());
}

#[test]
fn with_a_new_leader_the_open_pull_is_void_and_nothing_is_asked_for_before_it_was_told_all_again() {
    let (mut pull, now) = pull(Shard::All);
    pull.said.informed(br#"{"created":"2026-11-21T09:00:00Z"}"#);
    let word = ("reply".into(), Bytes::from_static(b"+ACK"));
    assert!(pull.said.ends(word.clone(), now));
    pull.ask(now, WINDOW).unwrap();
    pull.is_led_anew(now);
    let settled = now + SHORT_PAUSE;
    assert_eq!(pull.next_question(), Some(settled), "it may not hear acknowledgements yet");
    assert!(pull.ask(settled, WINDOW).is_none());
    let told = pull.said.informed(br#"{"created":"2026-11-21T09:00:00Z"}"#);
    assert_eq!(told, crate::deliver::said::Whose::Same(vec![word]));
    pull.recall = Recall::default();
    assert!(pull.ask(settled, WINDOW).is_some());
}

#[test]
fn without_a_pin_nothing_new_is_asked_for_while_it_is_searched_what_was_lost() {
    let (mut pull, now) = pull(Shard::All);
    pull.recall.begin(now);
    assert!(pull.ask(now, WINDOW).is_none());
    assert_eq!(pull.next_question(), Some(now));
    pull.recall = Recall::default();
    assert!(pull.ask(now, WINDOW).is_some());
}

#[test]
fn what_did_not_come_is_noticed_by_what_comes_next() {
    let (mut pull, now) = pull(Shard::Number(0));
    pull.event(Some(&pinned("a")), 7);
    assert_eq!(pull.event(Some(&pinned("a")), 8), Receipt::Fine);
    assert_eq!(pull.event(Some(&pinned("a")), 10), Receipt::Gap);
    assert_eq!(pull.event(Some(&pinned("a")), 11), Receipt::Fine);
    pull.search(now);
    assert_eq!(pull.recall.since(), Some(now));
}

#[test]
fn a_pull_that_nothing_fits_into_is_not_repeated_at_once_but_gives_way_to_one_that_asks() {
    let (mut pull, now) = pull(Shard::Number(0));
    pull.event(Some(&pinned("a")), 1);
    pull.barrier = Barrier::shut_unsure(now);
    let ask = pull.ask(now, WINDOW).unwrap();
    assert_eq!(body(&ask)["max_bytes"], 1);
    pull.status(ask.number, code(409), &message("Message Size Exceeds MaxBytes"), now);
    assert!(pull.ask(now, WINDOW).is_none());
    pull.barrier.expect_nothing();
    assert_eq!(body(&pull.ask(now, WINDOW).unwrap())["batch"], 100);
}

#[test]
fn while_what_is_held_waits_for_what_is_not_even_a_little_room_is_asked_for() {
    let (mut pull, now) = pull(Shard::Number(0));
    pull.event(Some(&pinned("a")), 1);
    for _ in 1..WINDOW.events {
        pull.takes(1);
    }
    assert_eq!(body(&pull.ask(now, WINDOW).unwrap())["batch"], 1, "what is missing fits");
    pull.restart(now);
    pull.barrier = Barrier::open();
    assert_eq!(
        body(&pull.ask(now, WINDOW).unwrap())["max_bytes"],
        1,
        "nothing waits: later, and more at once"
    );
}

#[test]
fn a_broker_that_handed_out_less_than_what_is_held_has_forgotten_it_and_is_asked_once_for_each_lost_connection()
 {
    let (mut pull, _) = pull(Shard::Number(0));
    assert!(!pull.has_forgotten(0), "the connection was not lost");
    pull.doubts(9);
    assert!(!pull.has_forgotten(9));
    assert!(!pull.has_forgotten(3), "what was handed out later may be on its way before the answer");
    pull.doubts(9);
    assert!(pull.has_forgotten(7));
    assert!(!pull.has_forgotten(7));
}

#[test]
fn a_new_pin_is_no_take_over_where_nobody_else_was_handed_anything_and_all_is_here() {
    let (mut pull, now) = pull(Shard::Number(0));
    assert_eq!(pull.event(Some(&pinned("a")), 7), Receipt::TakenOver);
    pull.barrier = Barrier::open();
    pull.completes();
    assert_eq!(pull.event(Some(&pinned("a")), 8), Receipt::Fine);
    assert_eq!(pull.event(Some(&pinned("a")), 7), Receipt::Fine, "late");
    assert_eq!(pull.event(Some(&pinned("b")), 9), Receipt::Continues);
    assert_eq!(pull.event(Some(&pinned("c")), 11), Receipt::TakenOver, "someone was handed the tenth");
    assert!(!pull.sole);
    assert_eq!(pull.event(Some(&pinned("d")), 12), Receipt::TakenOver, "and may still have it");
    pull.completes();
    pull.lacks();
    assert_eq!(pull.event(Some(&pinned("e")), 13), Receipt::TakenOver, "something comes again");
    assert!(pull.sole, "but nobody else has it");
    pull.completes();
    assert_eq!(pull.event(Some(&pinned("f")), 13), Receipt::TakenOver, "the broker forgot something");
    pull.completes();
    pull.barrier = Barrier::shut(now);
    assert_eq!(pull.event(Some(&pinned("g")), 14), Receipt::TakenOver);
    assert!(pull.sole);
}

#[test]
fn the_pin_comes_with_the_first_event_and_goes_with_a_mismatch() {
    let (mut pull, now) = pull(Shard::Number(0));
    let first = pull.ask(now, WINDOW).unwrap();
    assert!(body(&first).get("id").is_none());
    assert_eq!(pull.event(Some(&pinned("a")), 1), Receipt::TakenOver);
    assert_eq!(pull.event(Some(&pinned("a")), 2), Receipt::Fine);
    assert_eq!(pull.status(first.number, code(423), &message(""), now), Status::PinLost);
    assert!(!pull.has_pin());
    assert!(body(&pull.ask(now, WINDOW).unwrap()).get("id").is_none());
}

#[test]
fn a_durable_that_is_not_there_is_asked_again_after_a_pause() {
    let (mut pull, now) = pull(Shard::Number(0));
    let ask = pull.ask(now, WINDOW).unwrap();
    assert_eq!(pull.status(ask.number, code(503), &message(""), now), Status::Missing);
    assert!(pull.is_missing());
    assert!(pull.ask(now, WINDOW).is_none());
    assert!(pull.ask(now + PAUSE, WINDOW).is_some());
}

#[test]
fn an_event_that_there_is_no_room_for_is_asked_for_again_once_there_is() {
    let (mut pull, now) = pull(Shard::All);
    let ask = pull.ask(now, WINDOW).unwrap();
    pull.takes(500);
    pull.status(ask.number, code(409), &message("Message Size Exceeds MaxBytes"), now);
    assert!(pull.ask(now, WINDOW).is_none());
    pull.lets_go(500);
    assert!(pull.ask(now, WINDOW).is_some());
}

#[test]
fn a_pull_that_brought_all_that_it_asked_for_is_followed_by_the_next_at_once() {
    let (mut pull, now) = pull(Shard::All);
    let ask = pull.ask(now, WINDOW).unwrap();
    let status = pull.status(ask.number, code(409), &message("Batch Completed"), now);
    assert_eq!(status, Status::Fine);
    assert!(pull.ask(now, WINDOW).is_some());
}

#[test]
fn the_end_of_an_earlier_pull_does_not_end_the_current_one() {
    let (mut pull, now) = pull(Shard::All);
    let first = pull.ask(now, WINDOW).unwrap();
    pull.restart(now);
    pull.ask(now, WINDOW).unwrap();
    pull.status(first.number, code(408), &message(""), now);
    assert!(pull.ask(now, WINDOW).is_none());
}

#[test]
fn what_comes_after_the_pin_was_given_up_does_not_bring_it_back() {
    let (mut pull, _) = pull(Shard::Number(0));
    pull.event(Some(&pinned("a")), 7);
    pull.barrier = Barrier::open();
    pull.wanted = false;
    assert!(pull.let_go());
    assert_eq!(pull.event(Some(&pinned("a")), 8), Receipt::Fine);
    assert!(!pull.has_pin(), "else it is never given back");
    assert!(pull.vouches);
}

#[test]
fn an_event_for_a_pull_that_was_on_its_way_when_the_durable_was_let_go_of_is_not_wanted() {
    let (mut pull, now) = pull(Shard::Number(0));
    pull.event(Some(&pinned("a")), 1);
    pull.completes();
    pull.barrier = Barrier::open();
    pull.wanted = false;
    pull.let_go();
    // It believed to be alone, as after a stop: wanted again, asked, and heard of the others then.
    pull.wanted = true;
    pull.restart(now);
    assert!(pull.ask(now, WINDOW).is_some());
    pull.wanted = false;
    pull.let_go();
    assert_eq!(pull.event(Some(&pinned("a")), 2), Receipt::Fine, "on its way under the pin before");
    assert_eq!(pull.event(Some(&pinned("b")), 9), Receipt::Unwanted);
    assert!(!pull.has_pin());
}
