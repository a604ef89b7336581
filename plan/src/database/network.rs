//! How a server is reached, and by whom.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

use super::{Recipe, Server, metadata};
use crate::invalid::Invalid;
use crate::labels;
use crate::microservice::ValidMicroservice;
use crate::object::{self, Object};

/// The Service. A server that is not ready is reached all the same: one whose
/// volume is full still answers, and may have rows deleted.
pub(super) fn service(service: &ValidMicroservice, recipe: &Recipe) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    Ok(object::of::<Service>(
        name.clone(),
        json!({
            "metadata": metadata(service, name)?,
            "spec": {
                "type": "ClusterIP",
                "selector": labels::database_selector(&service.name),
                "publishNotReadyAddresses": true,
                "ports": [{"name": "database", "port": recipe.port, "targetPort": recipe.port, "protocol": "TCP"}],
            },
        }),
    ))
}

/// The policy: the service's own pods and those that back it up come in, nobody else, and nothing
/// goes out, as no rule lets it.
pub(super) fn policy(
    service: &ValidMicroservice,
    server: &Server,
    recipe: &Recipe,
) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    let mut from = vec![json!({"podSelector": {"matchLabels": labels::selector(&service.name)}})];
    if server.backup.is_some() {
        from.push(json!({"podSelector": {"matchLabels": {(labels::BACKUP): service.name.to_string()}}}));
    }
    Ok(object::of::<NetworkPolicy>(
        name.clone(),
        json!({
            "metadata": metadata(service, name)?,
            "spec": {
                "podSelector": {"matchLabels": labels::database_selector(&service.name)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": from,
                    "ports": [{"port": recipe.port, "protocol": "TCP"}],
                }],
            },
        }),
    ))
}
