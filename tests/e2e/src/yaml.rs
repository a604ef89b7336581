//! The resources that the tests apply, as a user would write them.

use crate::probe::IMAGE;

/// A Microservice that runs the probe; `more` is YAML of further fields of its
/// spec, each line indented by two spaces.
pub fn service(name: &str, more: &str) -> String {
    format!(
        "---
apiVersion: murmur.dev/v1alpha1
kind: Microservice
metadata:
  name: {name}
spec:
  image: {IMAGE}
  port: 8080
  probes: {{readiness: {{path: /readyz}}}}
{more}
"
    )
}

/// A service that may publish `Tick`.
pub fn publisher(name: &str) -> String {
    service(name, "  publishes: [{type: Tick}]")
}

/// An EventSubscription of `service` to every `Tick`, delivered to the probe's
/// port of deliveries; `more` as for [`service`].
pub fn subscription(name: &str, service: &str, more: &str) -> String {
    format!(
        "---
apiVersion: murmur.dev/v1alpha1
kind: EventSubscription
metadata:
  name: {name}
spec:
  microserviceRef: {{name: {service}}}
  events: [{{type: Tick}}]
  deliver: {{path: /events, port: 8081}}
{more}
"
    )
}
