//! How a service's pods are rolled out and kept.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Input, ValidMicroservice, metadata, object, others, pod};
use crate::invalid::Invalid;
use crate::object::Object;
use crate::upgrade::{TRACING, UPGRADED_FROM};
use crate::{labels, overrides};

/// Old ReplicaSets that are kept for `kubectl rollout undo`.
const REVISIONS: i32 = 3;

/// The Deployment.
pub(super) fn deployment(input: &Input<'_>) -> Result<Object, Invalid> {
    let service = input.service;
    let template = pod::template(input);
    let selector = labels::selector(&service.name);
    let merged = overrides::merge(&template, &service.pod_overrides, &selector)?;
    others::refuse(&merged, &service.name)?;
    let mut planned = object(&Deployment {
        metadata: metadata(service, service.name.to_string()),
        spec: Some(DeploymentSpec {
            replicas: Some(service.replicas),
            revision_history_limit: Some(REVISIONS),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(strategy(service)),
            // What takes its time is not stuck.
            progress_deadline_seconds: service.catch_up.map(progress_deadline),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })?;
    planned.value["spec"]["template"] = merged;
    if let Some(from) = input.upgraded_from {
        planned.value["metadata"]["annotations"][UPGRADED_FROM] = from.into();
    }
    if let Some(tracing) = &input.sidecar.tracing {
        // Texts can always be written.
        let text = serde_json::to_string(tracing).unwrap_or_default();
        planned.value["metadata"]["annotations"][TRACING] = text.into();
    }
    Ok(planned)
}

/// Kubernetes' own ten minutes beside the time that catching up may take, in seconds.
fn progress_deadline(catch_up: Duration) -> i32 {
    i32::try_from(catch_up.as_secs()).unwrap_or(i32::MAX).saturating_add(600)
}

/// A volume has one writer, so its pod ends before the next one starts; else
/// the new pod is ready before an old one ends.
fn strategy(service: &ValidMicroservice) -> DeploymentStrategy {
    if service.storage.is_some() {
        return DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// A drained node takes one pod at a time.
pub(super) fn disruption_budget(service: &ValidMicroservice) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(service, service.name.to_string()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&service.name)),
                match_expressions: None,
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
