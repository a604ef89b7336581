//! From what a user wrote to what can be planned.

use murmur_crds::EventSubscription;
use murmur_crds::subscription as crd;
use murmur_filter::Filter;
use murmur_mesh::config::{Batch, DeadLetterPolicy, On, OnChange, Ordering, Projection, Retry};
use murmur_projection::Definition;

use super::{AskedReplay, EventSelector, Place, Start, ValidDeliver, ValidSubscription, ValidTarget};
use crate::invalid::{self, Invalid};

/// Shards of a subscription that does not say.
const DEFAULT_SHARDS: i32 = 4;

/// Reads an EventSubscription.
///
/// # Errors
/// The first thing that cannot be planned.
pub fn validate(resource: &EventSubscription) -> Result<ValidSubscription, Invalid> {
    let spec = &resource.spec;
    let metadata = &resource.metadata;
    let target = target(spec)?;
    let events = spec.events.iter().map(event).collect::<Result<_, _>>()?;
    Ok(ValidSubscription {
        name: invalid::name("metadata.name", metadata.name.as_deref().unwrap_or_default())?,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        service: invalid::name("spec.microserviceRef.name", &spec.microservice_ref.name)?,
        events,
        start: start("spec.start", &spec.start)?,
        // A projection has one place in the order of the event store.
        ordering: match target {
            ValidTarget::Deliver(_) => ordering(&spec.ordering)?,
            ValidTarget::Projection(_) => Ordering::Key { shards: 1 },
        },
        retry: Retry {
            max_attempts: invalid::within(
                "spec.retry.maxAttempts",
                spec.retry.max_attempts,
                1..=1000,
                "maxAttempts is a number from 1 to 1000",
            )?,
            initial_delay: invalid::duration("spec.retry.initialDelay", &spec.retry.initial_delay)?,
            factor: invalid::within(
                "spec.retry.factor",
                spec.retry.factor,
                1..=10,
                "factor is a number from 1 to 10",
            )?,
            max_delay: invalid::duration("spec.retry.maxDelay", &spec.retry.max_delay)?,
        },
        dead_letter: match spec.dead_letter.policy {
            crd::DeadLetterPolicy::Keep => DeadLetterPolicy::Keep,
            crd::DeadLetterPolicy::Discard => DeadLetterPolicy::Discard,
        },
        filter: spec.filter.as_ref().map(|filter| compiled(&filter.cel)).transpose()?,
        suspend: spec.suspend,
        replay: asked(spec, &target)?,
        target,
        place: Place::default(),
    })
}

/// The run that is asked for: the user's replay, or the one that a changed definition needs.
fn asked(spec: &crd::EventSubscriptionSpec, target: &ValidTarget) -> Result<Option<AskedReplay>, Invalid> {
    let user = spec.replay.as_ref().map(|replay| {
        let start = start("spec.replay.start", &replay.start)?;
        Ok(AskedReplay { id: replay_id(&replay.id)?, start })
    });
    let user = user.transpose()?;
    match target {
        ValidTarget::Projection(projection) if projection.on_change == OnChange::Rebuild => {
            let (id, from) = user.map_or_else(
                || Ok((String::new(), start("spec.start", &spec.start)?)),
                |user| Ok::<_, Invalid>((user.id, user.start)),
            )?;
            Ok(Some(AskedReplay { id: projection.run(&id), start: from }))
        }
        _ => Ok(user),
    }
}

fn target(spec: &crd::EventSubscriptionSpec) -> Result<ValidTarget, Invalid> {
    match (&spec.deliver, &spec.projection) {
        (Some(spec), None) => deliver(spec).map(ValidTarget::Deliver),
        (None, Some(spec)) => projection(spec).map(ValidTarget::Projection),
        (deliver, _) => Err(Invalid::InvalidValue {
            field: "spec".to_owned(),
            value: if deliver.is_some() { "both" } else { "neither" }.to_owned(),
            rule: "exactly one of deliver and projection must be set",
        }),
    }
}

fn deliver(spec: &crd::Deliver) -> Result<ValidDeliver, Invalid> {
    Ok(ValidDeliver {
        path: invalid::path("spec.deliver.path", &spec.path)?,
        port: spec.port.map(|port| invalid::port("spec.deliver.port", port)).transpose()?,
        timeout: invalid::duration("spec.deliver.timeout", &spec.timeout)?,
        concurrency: invalid::within(
            "spec.deliver.concurrency",
            spec.concurrency,
            1..=1024,
            "concurrency is a number from 1 to 1024",
        )?,
        batch: spec.batch.as_ref().map(batch).transpose()?,
        max_per_second: spec
            .max_per_second
            .map(|rate| {
                let rule = "maxPerSecond is a number from 1 to 1000000";
                invalid::within("spec.deliver.maxPerSecond", rate, 1..=1_000_000, rule)
            })
            .transpose()?,
    })
}

/// A projection that every sidecar can read; whether it fits the database, only that can say.
fn projection(spec: &crd::Projection) -> Result<Projection, Invalid> {
    let on = |on: &crd::OnEvent| {
        let event_type = invalid::name("spec.projection.statements.type", &on.event_type)?;
        Ok(On { event_type, sql: on.sql.clone() })
    };
    let projection = Projection {
        tables: spec.tables.clone(),
        on_change: match spec.on_change {
            crd::OnChange::Rebuild => OnChange::Rebuild,
            crd::OnChange::Keep => OnChange::Keep,
        },
        schema: spec.schema.clone(),
        on: spec.statements.iter().map(on).collect::<Result<_, _>>()?,
    };
    Definition::parse(&projection).map_err(|error| Invalid::InvalidProjection { error })?;
    Ok(projection)
}

/// A filter that every sidecar will take.
fn compiled(cel: &str) -> Result<String, Invalid> {
    let field = "spec.filter.cel".to_owned();
    Filter::compile(cel).map_err(|error| Invalid::InvalidFilter { field, error })?;
    Ok(cel.to_owned())
}

fn event(selector: &crd::EventSelector) -> Result<EventSelector, Invalid> {
    let from = match selector.from.as_str() {
        "*" => None,
        name => Some(invalid::name("spec.events.from", name)?),
    };
    Ok(EventSelector { event_type: invalid::name("spec.events.type", &selector.event_type)?, from })
}

/// Deliveries of a replay bear its id in a header.
fn replay_id(id: &str) -> Result<String, Invalid> {
    if (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(id.to_owned());
    }
    Err(Invalid::InvalidValue {
        field: "spec.replay.id".to_owned(),
        value: format!("{id:?}"),
        rule: "an id has 1 to 64 visible ASCII characters",
    })
}

fn start(field: &str, start: &crd::Start) -> Result<Start, Invalid> {
    match start.policy {
        crd::StartPolicy::All => Ok(Start::All),
        crd::StartPolicy::New => Ok(Start::New),
        crd::StartPolicy::Sequence => start
            .sequence
            .and_then(|sequence| u64::try_from(sequence).ok())
            .filter(|sequence| *sequence > 0)
            .map(Start::Sequence)
            .ok_or_else(|| Invalid::InvalidValue {
                field: format!("{field}.sequence"),
                value: start.sequence.map_or_else(|| "nothing".to_owned(), |sequence| sequence.to_string()),
                rule: "the policy Sequence needs a sequence from 1",
            }),
        crd::StartPolicy::Time => {
            let text = start.time.as_deref().unwrap_or_default();
            text.parse().map(Start::Time).map_err(|_| Invalid::InvalidValue {
                field: format!("{field}.time"),
                value: format!("{text:?}"),
                rule: "the policy Time needs a time such as 2026-11-21T10:00:00Z",
            })
        }
    }
}

fn ordering(ordering: &crd::Ordering) -> Result<Ordering, Invalid> {
    match ordering.policy {
        crd::OrderingPolicy::None => Ok(Ordering::None),
        crd::OrderingPolicy::Strict => Ok(Ordering::Strict),
        crd::OrderingPolicy::Key => {
            let shards = ordering.shards.unwrap_or(DEFAULT_SHARDS);
            let rule = "shards are 1, 2, 4, 8, 16, 32 or 64";
            let number: u16 = invalid::within("spec.ordering.shards", shards, 1..=64, rule)?;
            if !number.is_power_of_two() {
                return Err(Invalid::InvalidValue {
                    field: "spec.ordering.shards".to_owned(),
                    value: shards.to_string(),
                    rule,
                });
            }
            Ok(Ordering::Key { shards: number })
        }
    }
}

fn batch(batch: &crd::Batch) -> Result<Batch, Invalid> {
    let rule = "maxEvents is a number from 1 to 500";
    Ok(Batch {
        max_events: invalid::within("spec.deliver.batch.maxEvents", batch.max_events, 1..=500, rule)?,
        max_wait: invalid::duration("spec.deliver.batch.maxWait", &batch.max_wait)?,
    })
}
