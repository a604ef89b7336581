//! A projection: tables in the service's database that events keep up to date.

use serde::{Deserialize, Serialize};

use crate::name::EventType;

/// A read model: tables in the service's database, and what each event changes in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Projection {
    /// The tables that it owns.
    pub tables: Vec<String>,
    /// What a change of schema or statements means.
    pub on_change: OnChange,
    /// The statements that make the tables.
    pub schema: String,
    /// What each event changes.
    pub on: Vec<On>,
}

/// What a change of a projection's schema or statements means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnChange {
    /// Its tables are built anew from the history of events.
    Rebuild,
    /// They stay, and the change counts from then on.
    Keep,
}

/// What an event of one type changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct On {
    /// The type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// SQL with placeholders.
    pub sql: String,
}

/// What a projection's run is for, by its id: the user's replay, empty where none was asked for, and the
/// definition's fingerprint. `None`: any definition, as before the first change.
pub fn parts_of_run(id: &str) -> Option<(&str, &str)> {
    id.split_once(' ')
}

impl Projection {
    /// The id of the run that builds this definition for a replay of the user's, whose id has no blank and may be empty.
    pub fn run(&self, replay: &str) -> String {
        format!("{replay} {}", self.fingerprint())
    }

    /// What tells this definition from others: of its tables, schema and statements.
    pub fn fingerprint(&self) -> String {
        let on = self.on.iter().map(|on| (on.event_type.as_str(), on.sql.as_str()));
        let parts = self.tables.iter().map(|table| ("", table.as_str()));
        let parts = parts.chain([("schema", self.schema.as_str())]).chain(on);
        let mut text = String::new();
        for (name, part) in parts {
            // Lengths keep parts apart.
            text.push_str(&format!("{}:{name}{}:{part}", name.len(), part.len()));
        }
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subscription;
    use super::*;

    #[test]
    fn a_projection_survives_its_json_form() {
        let json = serde_json::json!({
            "name": "catalog",
            "ordering": {"policy": "key", "shards": 1},
            "projection": {
                "tables": ["products"],
                "onChange": "rebuild",
                "schema": "CREATE TABLE products (id TEXT)",
                "on": [{"type": "ProductCreated", "sql": "INSERT INTO products VALUES (:data.id)"}],
            },
            "retry": {"maxAttempts": 8, "initialDelay": 1000, "factor": 2, "maxDelay": 60_000},
            "deadLetter": "keep",
        });
        let subscription: Subscription = serde_json::from_value(json.clone()).unwrap();
        assert!(subscription.deliver().is_none());
        assert_eq!(subscription.projection().unwrap().tables, ["products"]);
        assert_eq!(serde_json::to_value(&subscription).unwrap(), json);
    }

    #[test]
    fn a_changed_statement_makes_another_definition_and_onchange_does_not() {
        let one = Projection {
            tables: vec!["a".into()],
            on_change: OnChange::Rebuild,
            schema: "CREATE TABLE a (b)".into(),
            on: vec![On { event_type: "T".parse().unwrap(), sql: "DELETE FROM a".into() }],
        };
        let mut other = Projection { on_change: OnChange::Keep, ..one.clone() };
        assert_eq!(one.fingerprint(), other.fingerprint());
        other.on[0].sql.push(' ');
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
