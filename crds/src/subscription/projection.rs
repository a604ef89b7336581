//! `spec.projection`: events that are applied to tables of the service's database.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::event_type;

/// A read model: tables that events keep up to date. Each event has its effect once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Projection {
    /// The tables. They belong to the projection: it makes them, only it changes them, and only they
    /// are built anew. Names have lower-case letters, digits and _.
    #[schemars(schema_with = "tables")]
    pub tables: Vec<String>,
    /// What a change of tables, schema or statements means. Rebuild: the tables are built anew from
    /// the history of events, beside those that are read, and then take their place. Keep: they stay,
    /// and the change counts for events from then on.
    #[serde(default)]
    pub on_change: OnChange,
    /// The CREATE TABLE statement of each table, and CREATE INDEX statements, with ; between two.
    #[schemars(length(min = 1, max = 16384))]
    pub schema: String,
    /// What each event changes; events of a type that is not here change nothing.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub statements: Vec<OnEvent>,
}

/// The tables of a projection.
fn tables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 48,
            "pattern": "^[a-z_][a-z0-9_]*$",
            "x-kubernetes-validations": [{
                "rule": "!self.startsWith('murmur_') && !self.startsWith('sqlite_') && !self.startsWith('pg_')",
                "message": "names that begin with murmur_, sqlite_ or pg_ are taken",
            }],
        },
    })
}

/// What a change of a projection means.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Its tables are built anew from the history of events.
    #[default]
    Rebuild,
    /// They stay, and the change counts from then on.
    Keep,
}

/// What an event changes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct OnEvent {
    /// The CloudEvents type; it must be among the subscription's events.
    #[serde(rename = "type")]
    #[schemars(schema_with = "event_type")]
    pub event_type: String,
    /// One or more INSERT, UPDATE or DELETE statements, with ; between two. :data.id stands for a
    /// value of the event's data, :source for one of its attributes; an event without it becomes a
    /// dead letter, unless a ? is behind (:data.image?), which then is NULL.
    #[schemars(length(min = 1, max = 8192))]
    pub sql: String,
}
