//! Reads all that a subscription needs.

use std::sync::Arc;

use kube::ResourceExt;
use murmur_crds::EventSubscription;

use crate::bus::Mesh;
use crate::context::Context;
use crate::error::Error;

/// The mesh of a subscription, whose Microservice is there.
pub(super) async fn dereference(resource: &EventSubscription, context: &Context) -> Result<Arc<Mesh>, Error> {
    let namespace = resource.namespace().unwrap_or_default();
    let service = &resource.spec.microservice_ref.name;
    if context.microservice(&namespace, service).is_none() {
        return Err(Error::MicroserviceNotFound(service.clone()));
    }
    context.mesh(&namespace).await
}
