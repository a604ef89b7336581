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
