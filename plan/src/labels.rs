//! The labels, names and numbers that objects in a cluster bear.

use std::collections::BTreeMap;

use murmur_mesh::ServiceName;

/// The field manager of every write, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "murmur";
/// The standard label for a service's name.
pub const NAME: &str = "app.kubernetes.io/name";
/// The standard label for who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label by which the pods, and a kept claim, are recognised.
pub const MICROSERVICE: &str = "murmur.dev/microservice";

/// The label by which the pods of a service's database are recognised. They do not bear
/// [`MICROSERVICE`]: they are none of the service's own.
pub const DATABASE: &str = "murmur.dev/database";
/// The label of the pods that back a service's database up.
pub const BACKUP: &str = "murmur.dev/database-backup";
/// The annotation of a database's claim: which engine's data it holds.
pub const ENGINE: &str = "murmur.dev/engine";
/// The annotation of a database's claim: of which version its data is.
pub const DATABASE_VERSION: &str = "murmur.dev/database-version";
/// The annotation of a database's claim: the image that wrote its data last.
pub const DATABASE_IMAGE: &str = "murmur.dev/database-image";

/// The label of a Secret with credentials for people: which ones.
pub const PERSON: &str = "murmur.dev/credentials";

/// The labels of every object of a service.
pub fn of(service: &ServiceName) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.to_owned(), service.to_string()),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (MICROSERVICE.to_owned(), service.to_string()),
    ])
}

/// The labels that select a service's pods.
pub fn selector(service: &ServiceName) -> BTreeMap<String, String> {
    BTreeMap::from([(MICROSERVICE.to_owned(), service.to_string())])
}

/// The selector as text, for the scale subresource.
pub fn selector_text(service: &ServiceName) -> String {
    format!("{MICROSERVICE}={service}")
}

/// The headless Service through which each pod is found.
pub fn pods_service(service: &ServiceName) -> String {
    format!("{service}-pods")
}

/// The ConfigMap, and the Secret, of a service's sidecar.
pub fn sidecar_object(service: &ServiceName) -> String {
    format!("{service}-sidecar")
}

/// The claim of a service's volume or SQLite database.
pub fn data_claim(service: &ServiceName) -> String {
    format!("{service}-data")
}

/// All objects of a service's database server, the claim and the Secret of its credentials included.
pub fn database(service: &ServiceName) -> String {
    format!("{service}-db")
}

/// The Secret with the certificate of a service's database server.
pub fn database_tls(service: &ServiceName) -> String {
    format!("{service}-db-tls")
}

/// The labels that select the pods of a service's database.
pub fn database_selector(service: &ServiceName) -> BTreeMap<String, String> {
    BTreeMap::from([(DATABASE.to_owned(), service.to_string())])
}

/// The labels of the pods of a service's database.
pub fn of_database(service: &ServiceName) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.to_owned(), database(service)),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (DATABASE.to_owned(), service.to_string()),
    ])
}
