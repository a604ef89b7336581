//! The sidecar's container: a native sidecar (an init container that restarts
//! always), so that it starts before the service and ends after it.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, Probe,
};
use murmur_mesh::config::{ADMIN_PORT, CONFIG_FILE};

use super::pod::{
    BUS_VOLUME, CONFIG_VOLUME, DATA, DATA_VOLUME, DATABASE, container_security, http_probe, mount, variable,
};
use super::{Input, SIDECAR_CONTAINER, database};
use crate::settings::Tracing;

/// Where the Secret and the ConfigMap are mounted.
const BUS: &str = "/var/run/murmur/bus";
const CONFIG: &str = "/var/run/murmur/config";
/// The binary inside the image.
const BINARY: &str = "/murmur-sidecar";

/// The sidecar's container.
pub(super) fn container(input: &Input<'_>) -> Container {
    let service = input.service;
    let mut mounts = vec![mount(BUS_VOLUME, BUS, true), mount(CONFIG_VOLUME, CONFIG, true)];
    if service.storage.is_some() {
        mounts.push(mount(DATA_VOLUME, DATA, false));
    }
    mounts.extend(database::sidecar_mount(service));
    Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(input.sidecar.image.clone()),
        args: Some(vec!["run".to_owned()]),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(input)),
        ports: Some(vec![ContainerPort {
            name: Some("murmur-admin".to_owned()),
            container_port: i32::from(ADMIN_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(service.sidecar_resources.clone()),
        // Up to two minutes: it may wait for another pod to let go of the volume.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(1),
            failure_threshold: Some(120),
            ..http_probe("/startedz", ADMIN_PORT)
        }),
        readiness_probe: service.catch_up.map(|_| Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(1),
            failure_threshold: Some(1),
            ..http_probe("/readyz", ADMIN_PORT)
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..http_probe("/livez", ADMIN_PORT)
        }),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction { command: Some(vec![BINARY.to_owned(), "drain".to_owned()]) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(container_security()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn environment(input: &Input<'_>) -> Vec<EnvVar> {
    let service = input.service;
    let mut all = vec![
        variable("MURMUR_BUS_URL", input.settings.bus_url.clone()),
        variable("MURMUR_CONFIG", format!("{CONFIG}/{CONFIG_FILE}")),
        variable("MURMUR_BUS_CREDENTIALS", BUS.to_owned()),
        EnvVar {
            name: "MURMUR_POD".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.name".to_owned(),
                    api_version: None,
                }),
                ..EnvVarSource::default()
            }),
            value: None,
        },
        variable("MURMUR_SERVICE_PORT", service.port.to_string()),
    ];
    if let Some(storage) = &service.storage {
        all.push(variable("MURMUR_DATA", DATA.to_owned()));
        if storage.sqlite {
            all.push(variable("MURMUR_DATABASE_PATH", DATABASE.to_owned()));
        }
    }
    all.extend(database::sidecar_variable(service));
    if service.catch_up.is_some() {
        all.push(variable("MURMUR_WAIT_FOR", "CaughtUp".to_owned()));
    }
    all.extend(input.sidecar.tracing.iter().flat_map(traces));
    all
}

/// OpenTelemetry's own variables, so that podOverrides say something else by the same names.
fn traces(tracing: &Tracing) -> Vec<EnvVar> {
    let mut all = vec![variable("OTEL_EXPORTER_OTLP_ENDPOINT", tracing.otlp_endpoint.clone())];
    if let Some(ratio) = &tracing.sample_ratio {
        all.push(variable("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()));
        all.push(variable("OTEL_TRACES_SAMPLER_ARG", ratio.clone()));
    }
    all
}
