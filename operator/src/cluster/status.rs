//! Writing a status: one patch, none when nothing changed, and numbers that
//! move all the time only now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use murmur_plan::labels::MANAGER;
use murmur_plan::status::conditions::{CAUGHT_UP, EVENT_STORE_REPLACED, PROGRESSING};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::events::Events;
use crate::metrics::Metrics;

/// How often a status is written of which only numbers have moved.
const NUMBERS_EVERY: Duration = Duration::from_secs(30);
/// The time between two such writes of all objects together: 5 a second.
const APART: Duration = Duration::from_millis(200);
/// Fields that move all the time.
const NUMBERS: [&str; 3] = ["pending", "deadLetters", "lastDeliveredSequence"];
/// Conditions whose changes are no event: they change in everyday life.
const EVERYDAY: [&str; 2] = [CAUGHT_UP, PROGRESSING];
/// Conditions that say, when true, that something is wrong.
const ALARMS: [&str; 1] = [EVENT_STORE_REPLACED];

/// Reasons that every new service has for a while.
const PASSING: [&str; 5] = ["PodsNotReady", "ClaimPending", "ClaimMissing", "ServerMissing", "Starting"];

/// What became of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was as it should be.
    Nothing,
    /// It was written.
    Now,
    /// Only numbers have moved: it should be written after this time.
    Later(Duration),
}

/// How a new status differs from the one that is there. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    None,
    /// Numbers that are on the same side of zero, or a message's wording.
    Slight,
    Real,
}

/// Writes the status of objects.
pub struct StatusWriter {
    client: kube::Client,
    events: Events,
    metrics: Metrics,
    /// When each object was written last, by uid.
    written: Mutex<HashMap<String, Instant>>,
    /// When the next slight write of any object may come.
    next: Mutex<Option<Instant>>,
}

impl StatusWriter {
    /// Nothing written yet.
    pub fn new(client: kube::Client, events: Events, metrics: Metrics) -> Self {
        Self { client, events, metrics, written: Mutex::default(), next: Mutex::default() }
    }

    /// Writes `status` if it differs from what `object` has, and records an
    /// event for each condition that has changed.
    ///
    /// # Errors
    /// When the API server refuses or is away. An object that is gone is no error.
    pub async fn write<K>(&self, object: &K, status: &Value) -> Result<Written, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let before = serde_json::to_value(object).map_err(kube::Error::SerdeError)?["status"].clone();
        let uid = object.uid().unwrap_or_default();
        match difference(&before, status) {
            Difference::None => return Ok(Written::Nothing),
            Difference::Slight => {
                if let Some(wait) = self.wait(&uid) {
                    return Ok(Written::Later(wait));
                }
            }
            Difference::Real => {}
        }
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        // A merge patch: what is no longer there must be named. The uid keeps
        // it from an object of the same name that came since.
        let mut status_patch = status.clone();
        if let (Some(patch), Some(before)) = (status_patch.as_object_mut(), before.as_object()) {
            for gone in before.keys() {
                patch.entry(gone.clone()).or_insert(Value::Null);
            }
        }
        let patch = json!({"metadata": {"uid": uid}, "status": status_patch});
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&object.name_any(), &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Written::Nothing),
            Err(error) => return Err(error),
        }
        self.metrics.wrote(&K::kind(&()), "status");
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, Instant::now());
        self.announce(object, &before, status).await;
        Ok(Written::Now)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// How long a slight write must wait; takes a turn when it need not.
    fn wait(&self, uid: &str) -> Option<Duration> {
        let now = Instant::now();
        let last = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(uid).copied();
        if let Some(rest) = last.and_then(|last| (last + NUMBERS_EVERY).checked_duration_since(now))
            && !rest.is_zero()
        {
            return Some(rest);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = next.and_then(|next| next.checked_duration_since(now))
            && !rest.is_zero()
        {
            return Some(rest);
        }
        *next = Some(now + APART);
        None
    }

    async fn announce<K: Resource<DynamicType = ()>>(&self, object: &K, before: &Value, after: &Value) {
        let reference = object.object_ref(&());
        for condition in after["conditions"].as_array().into_iter().flatten() {
            let kind = condition["type"].as_str().unwrap_or_default();
            if EVERYDAY.contains(&kind) || !is_news(before, condition) {
                continue;
            }
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            self.events.record(&reference, is_good(condition), text("reason"), kind, text("message")).await;
        }
    }
}

/// Whether people should hear of a condition: when its state or reason changed.
/// At first sight only of what is wrong and will not pass by itself.
fn is_news(before: &Value, condition: &Value) -> bool {
    let kind = condition["type"].as_str().unwrap_or_default();
    let (good, unknown) = (is_good(condition), condition["status"] == "Unknown");
    match find(before, kind) {
        // It says each time of what.
        Some(old) if ALARMS.contains(&kind) => !good && old["message"] != condition["message"],
        Some(old) => {
            !unknown && (old["status"] != condition["status"] || old["reason"] != condition["reason"])
        }
        None => {
            let passes = PASSING.iter().any(|reason| condition["reason"] == *reason);
            !good && !unknown && !passes
        }
    }
}

fn is_good(condition: &Value) -> bool {
    let alarm = condition["type"].as_str().is_some_and(|kind| ALARMS.contains(&kind));
    condition["status"] == if alarm { "False" } else { "True" }
}

fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn difference(before: &Value, after: &Value) -> Difference {
    let (before, after) = (cleaned(before), cleaned(after));
    if before == after {
        Difference::None
    } else if coarse(before) == coarse(after) {
        Difference::Slight
    } else {
        Difference::Real
    }
}

/// Without empty members, which the API server may leave out.
fn cleaned(status: &Value) -> Value {
    let members = status.as_object().cloned().unwrap_or_default();
    Value::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

/// What people and rules look at: numbers as zero or not, conditions without
/// their wording.
fn coarse(mut status: Value) -> Value {
    for name in NUMBERS {
        if let Some(number) = status.get_mut(name) {
            *number = json!(number.as_i64() != Some(0));
        }
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("message");
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: i64, ready: &str, message: &str) -> Value {
        json!({"pending": pending, "conditions": [{"type": "Ready", "status": ready, "message": message}]})
    }

    #[test]
    fn numbers_that_move_are_slight_until_they_cross_zero() {
        assert_eq!(difference(&status(3, "True", ""), &status(3, "True", "")), Difference::None);
        assert_eq!(difference(&status(3, "True", ""), &status(4, "True", "")), Difference::Slight);
        assert_eq!(difference(&status(3, "True", ""), &status(0, "True", "")), Difference::Real);
        assert_eq!(difference(&status(0, "True", ""), &status(1, "True", "")), Difference::Real);
    }

    #[test]
    fn a_first_sight_is_news_only_when_something_is_wrong() {
        let ready = |status: &str, reason: &str| json!({"type": "Ready", "status": status, "reason": reason});
        let before = |condition: Value| json!({"conditions": [condition]});
        assert!(!is_news(&Value::Null, &ready("True", "Available")));
        assert!(!is_news(&Value::Null, &ready("False", "PodsNotReady")), "the pods are on their way");
        assert!(is_news(&Value::Null, &ready("False", "NameTaken")));
        assert!(is_news(&before(ready("True", "Available")), &ready("False", "PodsNotReady")));
        assert!(!is_news(&before(ready("True", "Available")), &ready("True", "Available")));
    }

    #[test]
    fn a_replaced_event_store_is_news_each_time_it_happens() {
        let replaced =
            |message: &str| json!({"type": EVENT_STORE_REPLACED, "status": "True", "message": message});
        let before = |message: &str| json!({"conditions": [replaced(message)]});
        assert!(is_news(&Value::Null, &replaced("1")));
        assert!(!is_news(&before("1"), &replaced("1")));
        assert!(is_news(&before("1"), &replaced("2")));
    }

    #[test]
    fn another_wording_is_slight_and_another_state_is_real() {
        assert_eq!(difference(&status(0, "True", "a"), &status(0, "True", "b")), Difference::Slight);
        assert_eq!(difference(&status(0, "True", "a"), &status(0, "False", "a")), Difference::Real);
        assert_eq!(difference(&Value::Null, &status(0, "True", "a")), Difference::Real);
    }
}
