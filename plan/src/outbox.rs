//! The durable by which a service reads back what came out of its own outbox.

use std::collections::BTreeMap;

use murmur_mesh::durable::{self, DurableName};
use murmur_mesh::subject;

use crate::microservice::ValidMicroservice;

/// A durable of a service's own events without their data, which is set to its place each time that it is
/// used. Nothing is acknowledged on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxDurable {
    /// Its name.
    pub name: DurableName,
    /// Its filter.
    pub filter_subject: String,
    /// Whose it is.
    pub metadata: BTreeMap<String, String>,
}

/// The durable of a service that has an outbox.
pub fn durable(service: &ValidMicroservice) -> Option<OutboxDurable> {
    service.outbox.then(|| OutboxDurable {
        name: DurableName::outbox(&service.name),
        filter_subject: subject::events_of(&service.name),
        metadata: BTreeMap::from([
            (durable::OWNER_UID.to_owned(), service.uid.clone()),
            (durable::OWNER_MICROSERVICE.to_owned(), service.name.to_string()),
        ]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::valid;

    #[test]
    fn a_service_with_an_outbox_has_a_durable_of_its_own_events_and_another_has_none() {
        let mut service = valid("orders", "{image: a, port: 80}");
        assert_eq!(durable(&service), None);
        service.outbox = true;
        let made = durable(&service).unwrap();
        assert_eq!((made.name.as_str(), made.filter_subject.as_str()), ("outbox_orders", "events.orders.>"));
        assert_eq!(made.metadata[durable::OWNER_UID], "uid-of-orders");
    }
}
