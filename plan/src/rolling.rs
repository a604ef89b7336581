//! The pods of database servers are replaced a few at a time where it is the operator that changes them, as after
//! its own upgrade: each is ready again before the next, and where some do not become so, the others keep theirs.
//! What a user changes counts at once.

use k8s_openapi::api::apps::v1::StatefulSet;

/// The annotation with the generation of the Microservice that a server was planned from.
pub const PLANNED_FROM: &str = "murmur.dev/planned-from-generation";
/// The annotation of a server whose pod the operator replaces by itself.
pub const ROLLED: &str = "murmur.dev/rolled-by-operator";

/// What the StatefulSet of a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The generation of the Microservice that it was planned from; unknown where an older operator made it.
    pub planned_from: Option<i64>,
    /// The operator has replaced its pod by itself.
    pub rolled: bool,
    /// Its pod is the one that is planned, and is ready.
    pub complete: bool,
}

impl Seen {
    /// Reads a StatefulSet.
    pub fn of(set: &StatefulSet) -> Self {
        let annotation = |name: &str| set.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let status = set.status.clone().unwrap_or_default();
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let looked = status.observed_generation >= set.metadata.generation;
        Self {
            planned_from: annotation(PLANNED_FROM).and_then(|text| text.parse().ok()),
            rolled: annotation(ROLLED).is_some(),
            complete: looked
                && status.updated_replicas.unwrap_or(0) == wanted
                && status.ready_replicas.unwrap_or(0) == wanted,
        }
    }
}

/// What a server does about a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It takes it without further ado.
    Take,
    /// It takes it now, and others wait until it is ready with it, or has and is not ready yet.
    Roll,
    /// It stays as it is until it is its turn.
    Wait,
}

/// What a server does that is `own`. `changes`: its pod would be replaced; `generation`: of the Microservice; so many
/// `others` are being rolled, and so many may be `at_once`.
pub fn turn(own: Option<Seen>, changes: bool, generation: i64, others: usize, at_once: usize) -> Turn {
    let Some(own) = own else { return Turn::Take };
    // The plan that is there may be what it does not become ready with; it still counts.
    if own.rolled && !own.complete {
        return Turn::Roll;
    }
    let by_user = own.planned_from.is_some_and(|from| from != generation);
    // One that is broken anyway has nothing to lose, and would prove nothing.
    if !changes || by_user || !own.complete {
        return Turn::Take;
    }
    if others < at_once { Turn::Roll } else { Turn::Wait }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const READY: Seen = Seen { planned_from: Some(3), rolled: false, complete: true };

    #[test]
    fn what_the_operator_changes_by_itself_waits_for_its_turn() {
        assert_eq!(turn(Some(READY), true, 3, 0, 1), Turn::Roll);
        assert_eq!(turn(Some(READY), true, 3, 1, 1), Turn::Wait);
        assert_eq!(turn(Some(READY), true, 3, 1, 2), Turn::Roll);
        let of_an_older_operator = Seen { planned_from: None, ..READY };
        assert_eq!(turn(Some(of_an_older_operator), true, 3, 1, 1), Turn::Wait);
    }

    #[test]
    fn what_a_user_changes_and_what_is_new_or_broken_or_the_same_does_not_wait() {
        assert_eq!(turn(None, true, 1, 1, 1), Turn::Take);
        assert_eq!(turn(Some(READY), true, 4, 1, 1), Turn::Take);
        assert_eq!(turn(Some(READY), false, 3, 1, 1), Turn::Take);
        assert_eq!(turn(Some(Seen { complete: false, ..READY }), true, 3, 1, 1), Turn::Take);
    }

    #[test]
    fn one_is_being_rolled_until_it_is_ready() {
        let rolled = Seen { rolled: true, complete: false, ..READY };
        assert_eq!(turn(Some(rolled), false, 3, 1, 1), Turn::Roll);
        assert_eq!(turn(Some(rolled), true, 3, 1, 1), Turn::Roll, "a newer plan may mend it");
        assert_eq!(turn(Some(Seen { complete: true, ..rolled }), false, 3, 0, 1), Turn::Take);
    }

    #[test]
    fn a_server_is_complete_once_its_new_pod_is_ready() {
        let seen = |status: serde_json::Value| {
            let set = json!({"metadata": {"generation": 2, "annotations": {
                "murmur.dev/planned-from-generation": "7", "murmur.dev/rolled-by-operator": "true"}},
                "spec": {"replicas": 1, "selector": {}, "serviceName": "a", "template": {}}, "status": status});
            Seen::of(&serde_json::from_value(set).unwrap())
        };
        let ready = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
        assert_eq!(seen(ready.clone()), Seen { planned_from: Some(7), rolled: true, complete: true });
        for (field, value) in [("observedGeneration", 1), ("updatedReplicas", 0), ("readyReplicas", 0)] {
            let mut other = ready.clone();
            other[field] = value.into();
            assert!(!seen(other).complete, "{field}");
        }
    }
}
