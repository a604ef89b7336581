//! Resources for the tests of this crate, written as users write them.

use murmur_crds::{EventSubscription, Microservice};
use murmur_mesh::message_id::MessageIdKey;

use crate::database::Version;
use crate::microservice::{self, BusSecrets, ValidMicroservice};
use crate::settings::{DatabaseImage, DatabaseImages, EventStoreDefaults, Settings};
use crate::subscription::{self, ValidSubscription};

pub(crate) fn settings() -> Settings {
    Settings {
        sidecar_image: "murmur/sidecar:dev".into(),
        cli_image: "murmur/operator:dev".into(),
        bus_url: "nats://murmur-nats.murmur-system:4222".into(),
        event_store: EventStoreDefaults {
            replicas: 1,
            max_bytes: 1 << 30,
            duplicate_window: std::time::Duration::from_secs(600),
        },
        databases: DatabaseImages {
            postgres: image("postgres", "17"),
            mariadb: image("mariadb", "11.8"),
            redis: image("redis", "8"),
        },
        tracing: None,
    }
}

fn image(name: &str, version: &str) -> DatabaseImage {
    DatabaseImage { repository: format!("docker.io/{name}"), version: Version::parse(version).unwrap() }
}

pub(crate) fn secrets() -> BusSecrets {
    BusSecrets {
        user_jwt: "jwt".into(),
        user_seed: "seed".into(),
        message_id_key: key().to_hex(),
        token: "token".into(),
    }
}

pub(crate) fn key() -> MessageIdKey {
    MessageIdKey::from_bytes([7; 32])
}

/// A Microservice named `name` in the namespace `shop`.
pub(crate) fn microservice(name: &str, spec: &str) -> Microservice {
    let mut resource = Microservice::new(name, serde_saphyr::from_str(spec).unwrap());
    resource.metadata.namespace = Some("shop".into());
    resource.metadata.uid = Some(format!("uid-of-{name}"));
    resource.metadata.generation = Some(1);
    resource
}

pub(crate) fn valid(name: &str, spec: &str) -> ValidMicroservice {
    microservice::validate(&microservice(name, spec)).unwrap()
}

/// An EventSubscription named `name`.
pub(crate) fn subscription(name: &str, spec: &str) -> EventSubscription {
    let mut resource = EventSubscription::new(name, serde_saphyr::from_str(spec).unwrap());
    resource.metadata.namespace = Some("shop".into());
    resource.metadata.uid = Some(format!("uid-of-{name}"));
    resource.metadata.generation = Some(1);
    resource
}

pub(crate) fn valid_subscription(name: &str, spec: &str) -> ValidSubscription {
    subscription::validate(&subscription(name, spec)).unwrap()
}

pub(crate) const CATALOG: &str = "
microserviceRef: {name: history}
events: [{type: ProductCreated, from: products}]
deliver: {path: /events/products}
";

pub(crate) const PROJECTION: &str = "
microserviceRef: {name: history}
events: [{type: ProductCreated, from: products}]
projection:
  tables: [products]
  schema: CREATE TABLE products (id TEXT PRIMARY KEY)
  statements: [{type: ProductCreated, sql: 'INSERT INTO products VALUES (:data.id)'}]
";

pub(crate) const ORDERS: &str = "
microserviceRef: {name: history}
events: [{type: OrderPlaced}, {type: OrderPlaced, from: orders}]
ordering: {policy: None}
deliver: {path: /events/orders, port: 8081, timeout: 1m30s, concurrency: 4}
retry: {maxAttempts: 3}
deadLetter: {policy: Discard}
";
