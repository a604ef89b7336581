//! A replay starts over once, wherever its making was interrupted.

use super::*;
use crate::examples::{CATALOG, PROJECTION, valid_subscription};
use crate::subscription::{Durable, durables};

/// A subscription of two shards with this replay, if any.
fn subscription(replay: &str) -> ValidSubscription {
    valid_subscription("a", &format!("{CATALOG}\nordering: {{shards: 2}}\n{replay}"))
}

const FIRST: &str = "replay: {id: first}";
const SECOND: &str = "replay: {id: second, start: {policy: New}}";

/// A broker that holds durables, made one after another.
#[derive(Default)]
struct Broker {
    found: Vec<Found>,
    last_sequence: u64,
    /// Seconds; each durable is made a second after the one before.
    clock: i64,
}

impl Broker {
    fn runs(&self, subscription: &ValidSubscription) -> Runs {
        Runs::of(subscription, &self.found)
    }

    /// Makes at most `count` of the durables that are wanted; returns those.
    fn make(&mut self, subscription: &ValidSubscription, count: usize) -> Vec<Durable> {
        let wanted = self.runs(subscription).wanted(subscription, false, self.last_sequence);
        let planned = durables(subscription, &wanted);
        let absent = |durable: &Durable| !self.found.iter().any(|it| it.name == durable.name.as_str());
        let made: Vec<Durable> = planned.into_iter().filter(absent).take(count).collect();
        for durable in &made {
            self.clock += 1;
            let created = Timestamp::from_second(self.clock).unwrap();
            let (name, metadata) = (durable.name.to_string(), durable.metadata.clone());
            self.found.push(Found { name, metadata, created });
        }
        made
    }

    fn told(&self, subscription: &ValidSubscription) -> Option<Replay> {
        self.runs(subscription).place().replay
    }

    fn besides(&self, subscription: &ValidSubscription) -> Vec<String> {
        let runs = self.runs(subscription);
        let wanted = runs.wanted(subscription, false, self.last_sequence);
        runs.besides(&wanted).into_iter().map(str::to_owned).collect()
    }
}

#[test]
fn an_id_that_is_there_at_the_making_counts_as_done() {
    let mut broker = Broker::default();
    let subscription = subscription(FIRST);
    let made = broker.make(&subscription, 2);
    assert_eq!(made[0].name.as_str(), "a-0");
    assert_eq!(made[0].metadata[durable::REPLAY_ID], "first");
    assert!(broker.make(&subscription, 2).is_empty());
    assert_eq!(broker.told(&subscription), None);
    assert!(!broker.runs(&subscription).begins(&subscription));
}

#[test]
fn a_changed_definition_of_a_projection_starts_it_over_unless_its_tables_are_kept() {
    let of = |definition: &str, more: &str| valid_subscription("a", &format!("{definition}\n{more}"));
    let changed = PROJECTION.replace("VALUES (:data.id)", "VALUES (:data.name)");
    let kept = |definition: &str| definition.replace("tables:", "onChange: Keep\n  tables:");
    let mut broker = Broker { last_sequence: 70, ..Broker::default() };
    broker.make(&of(PROJECTION, ""), 1);
    assert!(!broker.runs(&of(PROJECTION, "")).begins(&of(PROJECTION, "")));
    assert!(!broker.runs(&of(&kept(&changed), "")).begins(&of(&kept(&changed), "")), "it is kept");
    let rebuilt = of(&changed, "");
    assert!(broker.runs(&rebuilt).begins(&rebuilt));
    let made = broker.make(&rebuilt, 1);
    assert_eq!(made[0].start, Start::All);
    assert_eq!(broker.told(&rebuilt).unwrap().boundary, 70);
    assert!(!broker.runs(&rebuilt).begins(&rebuilt), "once");
    // A replay that is asked for is another run of the same definition.
    let replayed = of(&changed, "replay: {id: again}");
    assert!(broker.runs(&replayed).begins(&replayed));
    broker.make(&replayed, 1);
    assert!(!broker.runs(&replayed).begins(&replayed));
    // To keep the tables from now on asks for nothing.
    let kept = of(&kept(PROJECTION), "replay: {id: again}");
    assert!(!broker.runs(&kept).begins(&kept));
}

#[test]
fn a_new_id_starts_over_once_wherever_the_making_was_interrupted() {
    let mut broker = Broker { last_sequence: 70, ..Broker::default() };
    broker.make(&subscription(""), 2);
    let subscription = subscription(FIRST);
    assert!(broker.runs(&subscription).begins(&subscription));
    let first = broker.make(&subscription, 1);
    assert_eq!(first[0].name, DurableName::new(&"a".parse().unwrap(), first[0].shard, Some("first")));
    assert_eq!(first[0].start, Start::All);
    // It is not complete: nobody is told, nothing goes.
    assert_eq!(broker.told(&subscription), None);
    assert!(!broker.runs(&subscription).begins(&subscription));
    // After a crash and more events it goes on as it began.
    broker.last_sequence = 99;
    let second = broker.make(&subscription, 2);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].metadata[durable::REPLAY_BOUNDARY], "70");
    let replay = Some(Replay { id: "first".into(), boundary: 70 });
    assert_eq!(broker.told(&subscription), replay);
    let allowed = broker.runs(&subscription).place().allowed;
    assert_eq!(allowed, BTreeSet::from([None, Some("first".to_owned())]));
    assert_eq!(broker.besides(&subscription), ["a-0", "a-1"]);
    // The old ones go, one by one.
    broker.found.remove(0);
    assert_eq!(broker.told(&subscription), replay);
    assert_eq!(broker.besides(&subscription), ["a-1"]);
    broker.found.remove(0);
    assert!(broker.make(&subscription, 2).is_empty());
    assert_eq!(broker.besides(&subscription), [""; 0]);
    // Without the field it stays where it is.
    let without = self::subscription("");
    assert!(broker.make(&without, 2).is_empty());
    assert_eq!(broker.told(&without), replay);
}

#[test]
fn a_second_replay_follows_the_first_and_one_that_is_withdrawn_half_way_goes() {
    let mut broker = Broker { last_sequence: 70, ..Broker::default() };
    broker.make(&subscription(FIRST), 2);
    let second = broker.make(&subscription(SECOND), 1);
    assert_eq!(second[0].start, Start::Sequence(71), "New is the same moment for all shards");
    // It is withdrawn before anybody was told.
    let withdrawn = subscription(FIRST);
    assert!(broker.make(&withdrawn, 2).is_empty());
    assert_eq!(broker.told(&withdrawn), None);
    assert_eq!(broker.besides(&withdrawn), [second[0].name.as_str()]);
    // Asked for again, it goes on.
    broker.last_sequence = 80;
    assert_eq!(broker.make(&subscription(SECOND), 2)[0].start, Start::Sequence(71));
    assert_eq!(broker.told(&subscription(SECOND)), Some(Replay { id: "second".into(), boundary: 70 }));
}

#[test]
fn an_id_that_is_asked_for_again_while_its_durables_are_there_starts_over() {
    let mut broker = Broker { last_sequence: 70, ..Broker::default() };
    broker.make(&subscription(""), 2);
    let first = broker.make(&subscription(FIRST), 2);
    broker.found.drain(..2);
    broker.last_sequence = 80;
    let second = broker.make(&subscription(SECOND), 2);
    let told = Some(Replay { id: "second".into(), boundary: 80 });
    assert_eq!(broker.told(&subscription(SECOND)), told);
    // Before the durables of the first have gone, it is asked for again.
    let again = subscription(FIRST);
    broker.last_sequence = 90;
    for left in [2, 1] {
        assert!(broker.make(&again, 2).is_empty());
        assert_eq!(broker.told(&again), told);
        assert!(!broker.runs(&again).begins(&again));
        let besides = broker.besides(&again);
        assert_eq!(besides, first[2 - left..].iter().map(|it| it.name.to_string()).collect::<Vec<_>>());
        broker.found.remove(0);
    }
    // Now that they have, it begins anew, from there on like any other.
    assert!(broker.runs(&again).begins(&again));
    let made = broker.make(&again, 2);
    assert_eq!((made.len(), made[0].start), (2, Start::All));
    assert_eq!(made[0].metadata[durable::REPLAY_BOUNDARY], "90");
    assert_eq!(broker.told(&again), Some(Replay { id: "first".into(), boundary: 90 }));
    assert_eq!(broker.besides(&again), [second[0].name.as_str(), second[1].name.as_str()]);
}

#[test]
fn a_durable_removed_by_hand_is_made_again_in_its_run() {
    let mut broker = Broker { last_sequence: 70, ..Broker::default() };
    broker.make(&subscription(""), 2);
    let subscription = subscription(FIRST);
    broker.make(&subscription, 2);
    broker.found.drain(..2);
    let gone = broker.found.remove(0);
    broker.last_sequence = 99;
    let made = broker.make(&subscription, 2);
    assert_eq!((made.len(), made[0].name.as_str()), (1, gone.name.as_str()));
    assert_eq!(made[0].metadata, gone.metadata);
}

#[test]
fn another_event_store_is_delivered_from_its_first_event() {
    let subscription = valid_subscription("a", &format!("{CATALOG}\nstart: {{policy: New}}"));
    assert_eq!(Runs::default().wanted(&subscription, false, 7).start, Start::New);
    assert_eq!(Runs::default().wanted(&subscription, true, 7).start, Start::All);
}

#[test]
fn a_type_that_was_added_later_is_named_until_a_replay() {
    let mut broker = Broker::default();
    broker.make(&subscription(""), 2);
    let more = |replay: &str| {
        let mut more = subscription(replay);
        let selector = |name: &str, from: Option<&str>| EventSelector {
            event_type: name.parse().unwrap(),
            from: from.map(|from| from.parse().unwrap()),
        };
        more.events.push(selector("ProductRenamed", None));
        more
    };
    let later = |broker: &Broker, subscription: &ValidSubscription| {
        let wanted = broker.runs(subscription).wanted(subscription, false, 0);
        wanted.added_later(&subscription.events).into_iter().map(EventType::to_string).collect::<Vec<_>>()
    };
    assert_eq!(later(&broker, &subscription("")), [""; 0]);
    assert_eq!(later(&broker, &more("")), ["ProductRenamed"]);
    broker.make(&more(FIRST), 2);
    assert_eq!(later(&broker, &more(FIRST)), [""; 0]);
    // Of durables that an older operator made nothing is known.
    broker.found.iter_mut().for_each(|found| {
        found.metadata.remove(durable::FIRST_EVENTS);
    });
    assert_eq!(later(&broker, &more(FIRST)), [""; 0]);
}
