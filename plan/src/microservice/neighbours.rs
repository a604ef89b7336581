//! What the services of a mesh offer each other: a service's configuration and
//! permissions follow from it.

use std::collections::{BTreeMap, BTreeSet};

use murmur_crds::Microservice;
use murmur_mesh::name::{EventType, ServiceName};

use crate::invalid;

/// What a service offers. Read without the rest of its spec: one that cannot be
/// planned for another reason may be running all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The queries that it answers.
    pub answers: BTreeSet<EventType>,
    /// The port that it listens on.
    pub port: Option<u16>,
}

impl Offer {
    /// What a Microservice offers.
    pub fn of(resource: &Microservice) -> Self {
        let spec = &resource.spec;
        Self {
            answers: spec.answers.iter().filter_map(|answer| answer.query.parse().ok()).collect(),
            port: invalid::port("spec.port", spec.port).ok(),
        }
    }
}

/// All services of a mesh, and what they offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours(BTreeMap<ServiceName, Offer>);

impl Neighbours {
    /// The services of a mesh.
    pub fn of<'a>(resources: impl IntoIterator<Item = &'a Microservice>) -> Self {
        let name = |resource: &Microservice| resource.metadata.name.as_deref()?.parse().ok();
        Self(
            resources
                .into_iter()
                .filter_map(|resource| Some((name(resource)?, Offer::of(resource))))
                .collect(),
        )
    }

    /// The services that answer a query, sorted.
    pub fn answering(&self, query: &EventType) -> Vec<ServiceName> {
        let answering = self.0.iter().filter(|(_, offer)| offer.answers.contains(query));
        answering.map(|(name, _)| name.clone()).collect()
    }

    /// The port of a service, if it is there.
    pub fn port(&self, service: &ServiceName) -> Option<u16> {
        self.0.get(service)?.port
    }
}

/// Whether what `resource` is told depends on a difference between two offers
/// of `neighbour`, one of which may be that it is not there.
pub fn concerns(
    resource: &Microservice,
    neighbour: &str,
    before: Option<&Offer>,
    now: Option<&Offer>,
) -> bool {
    let spec = &resource.spec;
    let port = |offer: Option<&Offer>| offer.and_then(|offer| offer.port);
    let answers = |offer: Option<&Offer>, query: &str| {
        offer.is_some_and(|offer| offer.answers.iter().any(|answered| answered.as_str() == query))
    };
    (port(before) != port(now) && spec.calls.iter().any(|call| call.name == neighbour))
        || spec.asks.iter().any(|ask| answers(before, &ask.query) != answers(now, &ask.query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::microservice;

    fn offer(spec: &str) -> Offer {
        Offer::of(&microservice("users", spec))
    }

    #[test]
    fn every_service_that_answers_a_query_is_found_and_whoever_is_broken_offers_what_it_can() {
        let users = microservice("users", "{image: a, port: 80, answers: [{query: Q, path: /q}]}");
        let broken = "{image: a, port: 3600, answers: [{query: a..b, path: /q}, {query: Q, path: /q}]}";
        let neighbours = Neighbours::of([&users, &microservice("broken", broken)]);
        let names: Vec<_> = neighbours.answering(&"Q".parse().unwrap());
        assert_eq!(names, ["broken", "users"].map(|name| name.parse().unwrap()));
        assert_eq!(neighbours.port(&"users".parse().unwrap()), Some(80));
        assert_eq!(neighbours.port(&"broken".parse().unwrap()), None);
        assert_eq!(neighbours.port(&"absent".parse().unwrap()), None);
    }

    #[test]
    fn only_the_part_that_a_service_uses_concerns_it() {
        let plain = offer("{image: a, port: 80}");
        let moved = offer("{image: a, port: 81}");
        let answers = offer("{image: a, port: 80, answers: [{query: Q, path: /q}]}");
        let caller = microservice("a", "{image: a, port: 80, calls: [{name: users}]}");
        let asker = microservice("a", "{image: a, port: 80, asks: [{query: Q}, {query: R}]}");
        for (resource, before, now, expected) in [
            (&caller, None, Some(&plain), true),
            (&caller, Some(&plain), Some(&moved), true),
            (&caller, Some(&plain), None, true),
            (&caller, Some(&plain), Some(&answers), false),
            (&asker, None, Some(&plain), false),
            (&asker, Some(&plain), Some(&moved), false),
            (&asker, Some(&plain), Some(&answers), true),
            (&asker, Some(&answers), None, true),
        ] {
            assert_eq!(concerns(resource, "users", before, now), expected, "{before:?} {now:?}");
        }
        assert!(!concerns(&caller, "others", None, Some(&plain)));
    }
}
