//! How a service is reached, and by whom.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use murmur_mesh::config::ADMIN_PORT;

use super::{ValidMicroservice, metadata};
use crate::labels;

/// The Service: port 80 leads to the service's port.
pub(super) fn service(service: &ValidMicroservice) -> Service {
    Service {
        metadata: metadata(service, service.name.to_string()),
        spec: Some(ServiceSpec {
            selector: Some(labels::selector(&service.name)),
            ports: Some(vec![port(80, service.port)]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The headless Service: the address of each pod that is ready, and with `CaughtUp` of the others
/// too. Calls find it here.
pub(super) fn pods_service(service: &ValidMicroservice) -> Service {
    Service {
        metadata: metadata(service, labels::pods_service(&service.name)),
        spec: Some(ServiceSpec {
            selector: Some(labels::selector(&service.name)),
            ports: Some(vec![port(i32::from(service.port), service.port)]),
            cluster_ip: Some("None".to_owned()),
            // Handlers that call each other while both catch up must not wait for each other.
            publish_not_ready_addresses: service.catch_up.map(|_| true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(outside: i32, inside: u16) -> ServicePort {
    ServicePort {
        name: Some("http".to_owned()),
        port: outside,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(inside))),
        ..ServicePort::default()
    }
}

/// The policy: pods of the namespace reach the service's port; the peers of
/// `allowFrom` reach it and the sidecar's metrics. Every other port is closed,
/// a deliver port of its own included.
pub(super) fn policy(service: &ValidMicroservice) -> NetworkPolicy {
    let mut ingress = vec![NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(vec![open(service.port)]),
    }];
    if !service.allow_from.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(service.allow_from.clone()),
            ports: Some(vec![open(service.port), open(ADMIN_PORT)]),
        });
    }
    NetworkPolicy {
        metadata: metadata(service, service.name.to_string()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&service.name)),
                match_expressions: None,
            }),
            ingress: Some(ingress),
            policy_types: Some(vec!["Ingress".to_owned()]),
            egress: None,
        }),
    }
}

fn open(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
