//! What a service says to others: its events' schemas, the queries that it
//! answers and asks, the services that it calls.

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_crds::MicroserviceSpec;
use murmur_mesh::config::Answer;
use murmur_mesh::name::{EventType, ServiceName};
use murmur_mesh::schema::Schema;
use serde_json::Value;

use crate::invalid::{self, Invalid};

/// All schemas of a service together, in bytes of JSON: they travel in one
/// message and lie in one ConfigMap, which holds 1 MiB.
const LONGEST_SCHEMAS: usize = 256 * 1024;

/// A service that may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The service.
    pub service: ServiceName,
    /// How long a call may take unless the caller says otherwise.
    pub timeout: Duration,
}

/// The types that may be published.
pub(super) fn publishes(spec: &MicroserviceSpec) -> Result<Vec<EventType>, Invalid> {
    let names = spec.publishes.iter().map(|it| invalid::name("spec.publishes.type", &it.event_type));
    names.collect()
}

/// The schemas of those types that have one; each compiles.
pub(super) fn schemas(spec: &MicroserviceSpec) -> Result<BTreeMap<EventType, Value>, Invalid> {
    let mut schemas = BTreeMap::new();
    let mut bytes = 0;
    for publication in &spec.publishes {
        let Some(schema) = &publication.schema else { continue };
        let field = format!("spec.publishes[{}].schema", publication.event_type);
        let schema = Value::Object(schema.clone());
        bytes += schema.to_string().len();
        Schema::compile(&schema).map_err(|error| Invalid::InvalidSchema { field, error })?;
        schemas.insert(invalid::name("spec.publishes.type", &publication.event_type)?, schema);
    }
    if bytes > LONGEST_SCHEMAS {
        return Err(Invalid::InvalidValue {
            field: "spec.publishes".to_owned(),
            value: format!("{bytes} bytes of schemas"),
            rule: "all schemas of a service together have at most 256 KiB",
        });
    }
    Ok(schemas)
}

/// The queries that are answered, sorted.
pub(super) fn answers(spec: &MicroserviceSpec) -> Result<Vec<Answer>, Invalid> {
    let answer = |answer: &murmur_crds::microservice::Answer| {
        Ok(Answer {
            query: invalid::name("spec.answers.query", &answer.query)?,
            port: invalid::port("spec.answers.port", answer.port.unwrap_or(spec.port))?,
            path: invalid::path("spec.answers.path", &answer.path)?,
        })
    };
    let mut answers = spec.answers.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    answers.sort_unstable_by(|a, b| a.query.cmp(&b.query));
    Ok(answers)
}

/// The queries that may be asked, sorted.
pub(super) fn asks(spec: &MicroserviceSpec) -> Result<Vec<EventType>, Invalid> {
    let names = spec.asks.iter().map(|ask| invalid::name("spec.asks.query", &ask.query));
    let mut asks = names.collect::<Result<Vec<_>, _>>()?;
    asks.sort_unstable();
    Ok(asks)
}

/// The services that may be called, sorted.
pub(super) fn calls(spec: &MicroserviceSpec) -> Result<Vec<Call>, Invalid> {
    let call = |call: &murmur_crds::microservice::Call| {
        Ok(Call {
            service: invalid::name("spec.calls.name", &call.name)?,
            timeout: invalid::duration("spec.calls.timeout", &call.timeout)?,
        })
    };
    let mut calls = spec.calls.iter().map(call).collect::<Result<Vec<_>, _>>()?;
    calls.sort_unstable_by(|a, b| a.service.cmp(&b.service));
    Ok(calls)
}
