//! A projection's statements in Postgres' form. Values go out as texts: the
//! server reads them as whatever type stands there.

use std::collections::BTreeMap;

use bytes::BytesMut;
use murmur_mesh::name::EventType;
use murmur_projection::{Definition, Dialect, Event, Value};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Statement as Prepared};

use super::{away, blame, run};
use crate::database::postgres::told;
use crate::project::{Blame, Trouble, bind};

/// All statements for events of one projection.
#[derive(Debug)]
pub(super) struct Statements(BTreeMap<EventType, Vec<Ready>>);

#[derive(Debug)]
struct Ready {
    parameters: Vec<murmur_projection::Parameter>,
    place: String,
    prepared: Prepared,
}

/// A statement with what it needs of an event.
pub(super) struct BoundStatement<'a> {
    ready: &'a Ready,
    values: Vec<Text>,
}

fn trouble(place: &str, sql: &str, error: &Error) -> Trouble {
    let short: String = sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
    match blame(error) {
        Blame::Database | Blame::Chance => away(error),
        _ => Trouble::Invalid(format!("{place}: {}, in: {short}", told(error))),
    }
}

/// Makes the tables, within a transaction.
pub(super) async fn make(client: &Client, definition: &Definition, schema: &str) -> Result<(), Trouble> {
    run(client, &format!("SET LOCAL search_path TO \"{schema}\"")).await?;
    for statement in &definition.schema {
        let sql = statement.sql(Dialect::Postgres);
        client.batch_execute(&sql).await.map_err(|error| trouble(&statement.place, &sql, &error))?;
    }
    Ok(())
}

/// Lets the statements change a table, and the service read it.
pub(super) async fn grant(
    client: &Client,
    schema: &str,
    table: &str,
    role: &str,
    service: &str,
) -> Result<(), Trouble> {
    let name = format!("\"{schema}\".\"{table}\"");
    let service = service.replace('"', "\"\"");
    run(
        client,
        &format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO \"{role}\"; GRANT SELECT ON {name} TO \"{service}\""
        ),
    )
    .await?;
    // Of columns that count by themselves.
    let sequences = "SELECT s.oid::regclass::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid \
                     AND s.relkind = 'S' WHERE d.refobjid = $1::text::regclass AND d.deptype = 'a'";
    let found = client.query(sequences, &[&name]).await.map_err(|error| away(&error))?;
    for row in found {
        let sequence: String = row.get(0);
        run(client, &format!("GRANT USAGE ON SEQUENCE {sequence} TO \"{role}\"")).await?;
    }
    Ok(())
}

/// Plans every statement for events as the role that runs them, within a
/// transaction: so what it may not touch is known before the first event.
pub(super) async fn check(
    client: &Client,
    definition: &Definition,
    role: &str,
    path: &str,
) -> Result<(), Trouble> {
    run(client, &format!("SET LOCAL search_path TO {path}; SET LOCAL ROLE \"{role}\"")).await?;
    for statement in definition.on.values().flatten() {
        let sql = statement.sql(Dialect::Postgres);
        let failed = |error: Error| trouble(&statement.place, &sql, &error);
        let nothing = vec!["NULL"; statement.parameters.len()].join(", ");
        let nothing = if nothing.is_empty() { nothing } else { format!("({nothing})") };
        client.batch_execute(&format!("PREPARE murmur_check AS {sql}")).await.map_err(failed)?;
        client.batch_execute(&format!("EXPLAIN EXECUTE murmur_check{nothing}")).await.map_err(failed)?;
        client.batch_execute("DEALLOCATE murmur_check").await.map_err(failed)?;
    }
    run(client, "RESET ROLE").await
}

impl Statements {
    /// Prepares them, with the search path of the session.
    pub(super) async fn prepare(client: &Client, definition: &Definition) -> Result<Self, Trouble> {
        let mut all = BTreeMap::new();
        for (event_type, statements) in &definition.on {
            let mut ready = Vec::with_capacity(statements.len());
            for statement in statements {
                let sql = statement.sql(Dialect::Postgres);
                let prepared =
                    client.prepare(&sql).await.map_err(|error| trouble(&statement.place, &sql, &error))?;
                if prepared.params().len() != statement.parameters.len() {
                    return Err(Trouble::Invalid(format!(
                        "{}: it has a parameter that is no placeholder: write values of the event as :data.id",
                        statement.place
                    )));
                }
                let (place, parameters) = (statement.place.clone(), statement.parameters.clone());
                ready.push(Ready { parameters, place, prepared });
            }
            all.insert(event_type.clone(), ready);
        }
        Ok(Self(all))
    }

    /// What an event changes.
    ///
    /// # Errors
    /// When the event lacks a value.
    pub(super) fn of<'a>(&'a self, event: &Event<'_>) -> Result<Vec<BoundStatement<'a>>, String> {
        let all = bind::event_type(event).and_then(|event_type| self.0.get(&event_type));
        let bound = |ready: &'a Ready| {
            let Ready { parameters, place, prepared } = ready;
            let values = parameters.iter().zip(prepared.params()).map(|(parameter, ty)| {
                let value = parameter.of(event).map_err(|missing| format!("{place}: {missing}"))?;
                Ok(Text(text(&value, ty)))
            });
            Ok(BoundStatement { ready, values: values.collect::<Result<_, String>>()? })
        };
        all.into_iter().flatten().map(bound).collect()
    }
}

impl BoundStatement<'_> {
    /// Runs it.
    pub(super) async fn run(self, client: &Client) -> Result<(), (Blame, String)> {
        let ran = client.execute_raw(&self.ready.prepared, self.values).await;
        ran.map(drop).map_err(|error| (blame(&error), format!("{}: {}", self.ready.place, told(&error))))
    }
}

/// A value as the server reads it where this type is expected; `None`: NULL.
fn text(value: &Value<'_>, ty: &Type) -> Option<String> {
    let json = [Type::JSON, Type::JSONB].contains(ty);
    match value {
        Value::Null => None,
        Value::Boolean(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Text(text) if json => Some(serde_json::Value::from(*text).to_string()),
        Value::Text(text) => Some((*text).to_owned()),
        Value::Json(serde_json::Value::Array(items)) if matches!(ty.kind(), Kind::Array(_)) => {
            Some(array(items))
        }
        Value::Json(value) => Some(value.to_string()),
    }
}

/// A list as Postgres writes arrays.
fn array(items: &[serde_json::Value]) -> String {
    let item = |item: &serde_json::Value| match item {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::Array(items) => array(items),
        serde_json::Value::String(text) => quoted(text),
        serde_json::Value::Object(_) => quoted(&item.to_string()),
        other => other.to_string(),
    };
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[derive(Debug)]
struct Text(Option<String>);

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            None => IsNull::Yes,
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_become_arrays_where_an_array_is_expected_and_json_elsewhere() {
        let list = json!([1, "a \"b\" \\", null, [true], {"x": 1}]);
        assert_eq!(
            text(&Value::Json(&list), &Type::TEXT_ARRAY).unwrap(),
            r#"{1,"a \"b\" \\",NULL,{true},"{\"x\":1}"}"#
        );
        assert_eq!(text(&Value::Json(&list), &Type::JSONB).unwrap(), list.to_string());
        assert_eq!(text(&Value::Json(&list), &Type::TEXT).unwrap(), list.to_string());
    }

    #[test]
    fn a_text_is_json_only_in_quotes() {
        assert_eq!(text(&Value::Text("a"), &Type::JSONB).unwrap(), "\"a\"");
        assert_eq!(text(&Value::Text("a"), &Type::TEXT).unwrap(), "a");
        assert_eq!(text(&Value::Null, &Type::JSONB), None);
    }
}
