//! What a service may do, and above all what it may not.

use murmur_mesh::config::Replay;
use murmur_mesh::partition::Partition;
use murmur_mesh::people::Person;
use murmur_mesh::{EventType, ServiceName, subject};
use proptest::prelude::*;

use super::*;
use crate::examples::{CATALOG, ORDERS, key, microservice, valid, valid_subscription};
use crate::subscription::Place;

const HISTORY: &str = "
image: history:dev
port: 8080
publishes: [{type: Viewed}, {type: com.example.seen}]
answers: [{query: History, path: /history}]
asks: [{query: Purchases}]
";

fn neighbours() -> Neighbours {
    let answering =
        "{image: a, port: 80, answers: [{query: Purchases, path: /p}, {query: Others, path: /o}]}";
    Neighbours::of(&["users", "orders"].map(|name| microservice(name, answering)))
}

fn of_history() -> Permissions {
    let subscriptions = [
        valid_subscription("history-catalog", CATALOG),
        valid_subscription("history-orders", ORDERS),
        // Another service's subscription must give it nothing.
        valid_subscription("users-all", &CATALOG.replace("history", "users")),
    ];
    of(&valid("history", HISTORY), &subscriptions, &neighbours(), &key())
}

/// Whether a NATS permission covers a subject.
fn covers(permission: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in permission.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

fn may_publish(subject: &str) -> bool {
    of_history().publish.iter().any(|permission| covers(permission, subject))
}

/// With no queue group, for which a permission that names one is of no use.
fn may_subscribe(subject: &str) -> bool {
    of_history().subscribe.iter().any(|permission| covers(permission, subject))
}

fn event(service: &str, event_type: &str) -> String {
    subject::event(&service.parse().unwrap(), Partition::of("1"), &event_type.parse().unwrap())
}

#[test]
fn the_permissions_of_a_service_with_two_subscriptions() {
    let permissions = of_history();
    insta::assert_snapshot!(format!(
        "publish\n{}\nsubscribe\n{}",
        permissions.publish.join("\n"),
        permissions.subscribe.join("\n")
    ));
}

#[test]
fn a_service_publishes_its_own_declared_types_and_no_others() {
    assert!(may_publish(&event("history", "Viewed")));
    assert!(may_publish(&event("history", "com.example.seen")));
    assert!(!may_publish(&event("history", "Undeclared")));
    assert!(!may_publish(&event("history", "com.example.other")));
    assert!(!may_publish(&event("users", "Viewed")), "another service's event");
}

#[test]
fn a_service_without_publishes_publishes_no_event() {
    let permissions = of(&valid("a", "{image: a, port: 80}"), &[], &neighbours(), &key());
    assert_eq!(permissions.publish, ["$JS.API.DIRECT.GET.CONFIG.config.a", "report.a.*"]);
}

#[test]
fn a_service_pulls_from_its_own_durables_and_no_others() {
    assert!(may_publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.history-catalog-3"));
    assert!(may_publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.history-orders-all"));
    assert!(may_publish("$JS.ACK.EVENTS.history-orders-all.1.2.3.4.5"));
    assert!(!may_publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.users-all-0"));
    assert!(!may_publish("$JS.ACK.EVENTS.users-all-0.1.2.3.4.5"));
    assert!(!may_publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.history-catalog-4"), "a shard that is not there");
    for request in [
        "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.CREATE.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.DELETE.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.RESET.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.PAUSE.EVENTS.history-catalog-0",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.MSG.GET.EVENTS",
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.DIRECT.GET.EVENTS.events.users.1.UserCreated",
        "$JS.API.DIRECT.GET.CONFIG.config.users",
        "$SYS.REQ.CLAIMS.UPDATE",
    ] {
        assert!(!may_publish(request), "{request}");
    }
}

#[test]
fn a_service_pulls_from_the_durables_of_a_replay_while_it_runs_and_from_no_others() {
    let mut subscription = valid_subscription("history-orders", ORDERS);
    let service = valid("history", HISTORY);
    let pulls = |subscription: &ValidSubscription, run: Option<&str>| {
        let durable = DurableName::new(&subscription.name, murmur_mesh::durable::Shard::All, run);
        let request = format!("$JS.API.CONSUMER.MSG.NEXT.EVENTS.{durable}");
        of(&service, std::slice::from_ref(subscription), &neighbours(), &key()).publish.contains(&request)
    };
    subscription.place = Place::told(Some(Replay { id: "1".into(), boundary: 7 }));
    assert!(
        pulls(&subscription, Some("1")) && !pulls(&subscription, None) && !pulls(&subscription, Some("2"))
    );
    // Before the old ones have gone.
    subscription.place.allowed.insert(None);
    assert!(pulls(&subscription, Some("1")) && pulls(&subscription, None));
}

#[test]
fn a_service_with_an_outbox_reads_back_its_own_events_and_no_others() {
    let mut service = valid("history", HISTORY);
    let covered = |service: &ValidMicroservice, subject: &str| {
        of(service, &[], &neighbours(), &key()).publish.iter().any(|permission| covers(permission, subject))
    };
    let (reset, next) =
        ("$JS.API.CONSUMER.RESET.EVENTS.outbox_history", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.outbox_history");
    assert!(!covered(&service, reset) && !covered(&service, next));
    service.outbox = true;
    assert!(covered(&service, reset) && covered(&service, next));
    for refused in [
        "$JS.API.CONSUMER.RESET.EVENTS.outbox_users",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.outbox_users",
        "$JS.API.CONSUMER.RESET.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.CREATE.EVENTS.outbox_history",
        "$JS.API.CONSUMER.DELETE.EVENTS.outbox_history",
    ] {
        assert!(!covered(&service, refused), "{refused}");
    }
}

#[test]
fn a_service_stores_its_own_dead_letters_and_reports_of_its_own_pods() {
    assert!(may_publish("dead.history.history-catalog.0.7"));
    assert!(!may_publish("dead.users.users-all.0.7"));
    assert!(!may_publish("dead.history.users-all.0.7"));
    assert!(may_publish("report.history.history-abc"));
    assert!(!may_publish("report.users.users-abc"));
    assert!(!may_publish("config.history"), "only the operator configures");
}

#[test]
fn a_service_asks_only_what_it_declares_and_only_those_who_answer_it() {
    assert!(may_publish("query.users.Purchases"));
    assert!(may_publish("query.orders.Purchases"));
    for subject in ["query.products.Purchases", "query.users.Others", "query.history.History"] {
        assert!(!may_publish(subject), "{subject}");
    }
    assert!(may_subscribe("answers.history.1"));
    assert!(!may_subscribe("answers.users.1"));
    assert!(may_publish("answers.users.1"), "it answers");
    let silent = of(&valid("a", "{image: a, port: 80}"), &[], &neighbours(), &key());
    assert!(!silent.publish.iter().any(|permission| covers(permission, "answers.users.1")));
}

#[test]
fn a_service_hears_the_queries_that_it_answers_in_its_own_queue_group_only() {
    assert!(of_history().subscribe.contains(&"query.history.History history".to_owned()));
    assert!(!may_subscribe("query.history.History"), "each query would reach each pod");
    assert!(!may_subscribe("query.users.Purchases"));
}

#[test]
fn a_service_hears_its_own_configuration_pods_and_inbox_only() {
    assert!(may_subscribe("config.history"));
    assert!(may_subscribe("report.history.history-abc"));
    assert!(!may_subscribe("report.users.users-abc"));
    assert!(may_subscribe(&format!("{}.1.2", key().inbox_prefix())));
    for subject in
        ["config.users", "events.history.1.Viewed", "events.users.1.A", "_INBOX.x", "dead.history.a.0.1"]
    {
        assert!(!may_subscribe(subject), "{subject}");
    }
}

proptest! {
    #[test]
    fn no_service_can_publish_under_another_name(
        own in "[a-z][a-z0-9-]{0,10}[a-z0-9]",
        other in "[a-z][a-z0-9-]{0,10}[a-z0-9]",
        event_type in "[A-Za-z .*>%]{0,9}[A-Za-z]",
    ) {
        let (Ok(own), Ok(other)) = (own.parse::<ServiceName>(), other.parse::<ServiceName>()) else {
            return Ok(());
        };
        let Ok(event_type) = event_type.parse::<EventType>() else { return Ok(()) };
        prop_assume!(own != other);
        let mut service = valid("a", "{image: a, port: 80}");
        service.name = own.clone();
        service.publishes = vec![event_type.clone()];
        let permissions = of(&service, &[], &Neighbours::default(), &key());
        let subject = |service: &ServiceName| subject::event(service, Partition::of("1"), &event_type);
        prop_assert!(permissions.publish.iter().any(|permission| covers(permission, &subject(&own))));
        prop_assert!(!permissions.publish.iter().any(|permission| covers(permission, &subject(&other))));
    }
}

fn allows(person: Person, subject: &str) -> bool {
    of_person(person).publish.iter().any(|permission| covers(permission, subject))
}

#[test]
fn the_permissions_of_people() {
    for person in Person::ALL {
        let permissions = of_person(person);
        insta::assert_snapshot!(
            person.secret(),
            format!(
                "publish\n{}\nsubscribe\n{}",
                permissions.publish.join("\n"),
                permissions.subscribe.join("\n")
            )
        );
    }
}

#[test]
fn whoever_views_changes_nothing() {
    for subject in [
        "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.DEAD_LETTERS",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.RESTORE.EVENTS",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.RESET.EVENTS.history-catalog-0",
        "$JS.API.CONSUMER.DELETE.EVENTS.history-catalog-0",
        "redrive.history.history-catalog.0",
        "events.users.0.UserCreated",
        "events.users.0.murmur.erased",
        "mesh.restoring",
        "config.users",
    ] {
        assert!(!allows(Person::Viewer, subject), "{subject}");
    }
}

#[test]
fn no_person_forges_an_event_or_a_configuration_or_reads_one() {
    for person in Person::ALL {
        for subject in [
            "events.users.0.UserCreated",
            "config.users",
            "dead.users.users-all.0.7",
            "$JS.API.STREAM.MSG.GET.CONFIG",
            "$JS.API.DIRECT.GET.CONFIG.config.users",
            "$JS.API.STREAM.UPDATE.EVENTS",
            "$JS.API.CONSUMER.MSG.NEXT.CONFIG.x",
        ] {
            assert!(!allows(person, subject), "{person} {subject}");
        }
    }
}
