//! Streams of a mesh.

use murmur_crds::mesh::{EventStore, MeshSpec, Retention};

use super::*;
use crate::examples::settings;

fn mesh(store: EventStore) -> Mesh {
    Mesh::new("default", MeshSpec { event_store: Some(store) })
}

#[test]
fn without_a_mesh_resource_the_operators_defaults_hold() {
    let valid = validate(None, &settings()).unwrap();
    let expected = ValidMesh {
        replicas: 1,
        max_bytes: 1 << 30,
        max_age: None,
        duplicate_window: Duration::from_secs(600),
    };
    assert_eq!(valid, expected);
    assert_eq!(validate(Some(&Mesh::new("default", MeshSpec::default())), &settings()), Ok(expected));
}

#[test]
fn what_a_mesh_says_takes_the_place_of_the_defaults() {
    let mesh = mesh(EventStore {
        replicas: Some(3),
        max_bytes: Some("2Gi".into()),
        retention: Some(Retention { policy: RetentionPolicy::MaxAge, max_age: Some("2h".into()) }),
        duplicate_window: Some("1m".into()),
        backup: None,
    });
    let [events, dead_letters, config] = streams(&validate(Some(&mesh), &settings()).unwrap());
    assert_eq!((events.replicas, events.max_bytes), (3, 2 << 30));
    assert_eq!(events.max_age, Some(Duration::from_secs(7200)));
    assert_eq!(events.duplicate_window, Duration::from_secs(60));
    assert_eq!((dead_letters.replicas, config.replicas), (3, 3));
}

#[test]
fn a_default_duplicate_window_longer_than_the_age_is_cut_as_the_broker_would_refuse_it() {
    let mesh = mesh(EventStore {
        retention: Some(Retention { policy: RetentionPolicy::MaxAge, max_age: Some("2m".into()) }),
        ..EventStore::default()
    });
    assert_eq!(validate(Some(&mesh), &settings()).unwrap().duplicate_window, Duration::from_secs(120));
}

#[test]
fn a_full_event_store_refuses_and_only_the_configurations_forget() {
    let [events, dead_letters, config] = streams(&validate(None, &settings()).unwrap());
    assert!(events.discard_new && events.allow_atomic && events.max_age.is_none());
    assert_eq!(events.max_consumers, Some(5000));
    assert!(dead_letters.discard_new && dead_letters.max_age.is_none());
    assert!(!config.discard_new && config.allow_direct);
    assert_eq!(config.max_messages_per_subject, Some(1));
}

#[test]
fn what_is_out_of_range_is_named_with_its_field() {
    let bad = mesh(EventStore { replicas: Some(2), ..EventStore::default() });
    let error = validate(Some(&bad), &settings()).unwrap_err();
    assert_eq!(error.reason(), "InvalidValue");
    assert!(error.to_string().contains("spec.eventStore.replicas: 2"), "{error}");
    let bad = mesh(EventStore { max_bytes: Some("much".into()), ..EventStore::default() });
    assert_eq!(validate(Some(&bad), &settings()).unwrap_err().reason(), "InvalidQuantity");
    let bad = mesh(EventStore { duplicate_window: Some("soon".into()), ..EventStore::default() });
    assert_eq!(validate(Some(&bad), &settings()).unwrap_err().reason(), "InvalidDuration");
}
