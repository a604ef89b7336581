//! What each service offered when it was seen last, so that a change of that
//! part alone wakes whoever depends on it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::ResourceExt;
use murmur_crds::Microservice;
use murmur_plan::microservice::Offer;

/// Offers by namespace and name.
#[derive(Debug, Default)]
pub struct Offers(Mutex<HashMap<(String, String), Offer>>);

impl Offers {
    /// Notes what a service offers now, `None` when it is gone; returns what it
    /// offered before.
    pub fn replace(&self, service: &Microservice, now: Option<Offer>) -> Option<Offer> {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        // A panic while holding it leaves plain data, which is still true.
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match now {
            Some(now) => offers.insert(key, now),
            None => offers.remove(&key),
        }
    }
}
