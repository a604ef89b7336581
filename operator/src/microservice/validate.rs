//! Turns what users wrote into what can be planned.

use murmur_crds::{EventSubscription, Microservice};
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::subscription::ValidSubscription;
use murmur_plan::{Invalid, microservice, subscription};
use std::sync::Arc;

/// A service and those of its subscriptions that can be planned; the others
/// say in their own status why not.
pub(super) fn validate(
    resource: &Microservice,
    subscriptions: &[Arc<EventSubscription>],
) -> Result<(ValidMicroservice, Vec<ValidSubscription>), Invalid> {
    let service = microservice::validate(resource)?;
    let subscriptions =
        subscriptions.iter().filter_map(|subscription| subscription::validate(subscription).ok()).collect();
    Ok((service, subscriptions))
}
