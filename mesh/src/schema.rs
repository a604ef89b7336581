//! JSON Schemas of events' data: compiled by the operator to see whether they
//! can be, and by the sidecar to check what is published.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// The largest schema, in bytes of JSON.
pub const LONGEST: usize = 32 * 1024;

/// A compiled JSON Schema: of draft 2020-12 unless its `$schema` says otherwise.
///
/// Nothing is fetched, so a `$ref` must lead to a place in the schema itself;
/// patterns are matched in time linear in the text, so have no look-around.
#[derive(Debug)]
pub struct Schema(Validator);

/// Why a schema cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    /// It is no schema.
    #[error("it is no JSON Schema: {0}")]
    Rule(String),
    /// It is too large.
    #[error("it has {0} bytes; at most {LONGEST} are allowed")]
    TooLarge(usize),
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When it is too large, or breaks the rules for schemas.
    pub fn compile(schema: &Value) -> Result<Self, InvalidSchema> {
        let bytes = schema.to_string().len();
        if bytes > LONGEST {
            return Err(InvalidSchema::TooLarge(bytes));
        }
        jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map(Self)
            .map_err(|error| InvalidSchema::Rule(at(&error)))
    }

    /// Checks data.
    ///
    /// # Errors
    /// The first place that breaks the schema, and the rule.
    pub fn check(&self, data: &Value) -> Result<(), String> {
        self.0.validate(data).map_err(|error| at(&error))
    }
}

/// What is wrong and where; data is cut, it may be large.
fn at(error: &jsonschema::ValidationError<'_>) -> String {
    const LONGEST_TEXT: usize = 512;
    let place = error.instance_path().to_string();
    let place = if place.is_empty() { "at the top".to_owned() } else { format!("at {place}") };
    let text = error.to_string();
    let short: String = text.chars().take(LONGEST_TEXT).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{place}: {short}{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile(schema).map_err(|error| error.to_string())
    }

    #[test]
    fn data_that_breaks_the_schema_is_refused_with_the_place() {
        let schema = json!({"type": "object", "required": ["id"],
            "properties": {"price": {"type": "number", "minimum": 0}}});
        let schema = compile(&schema).unwrap();
        assert_eq!(schema.check(&json!({"id": 1, "price": 1.5})), Ok(()));
        assert!(schema.check(&json!({})).unwrap_err().starts_with("at the top: \"id\" is a required"));
        assert!(schema.check(&json!({"id": 1, "price": -1})).unwrap_err().starts_with("at /price: "));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_the_place() {
        let error = compile(&json!({"properties": {"a": {"type": "text"}}})).unwrap_err();
        assert!(error.contains("/properties/a/type"), "{error}");
        assert!(compile(&json!({"pattern": "("})).is_err());
        assert!(compile(&json!({"pattern": "a(?=b)"})).is_err(), "look-around takes more than linear time");
        let large = json!({"description": "x".repeat(LONGEST)});
        assert!(compile(&large).unwrap_err().contains("at most 32768"));
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in ["https://example.com/schema.json", "file:///etc/passwd", "other.json"] {
            assert!(compile(&json!({"$ref": reference})).is_err(), "{reference}");
        }
        let inside =
            json!({"$defs": {"id": {"type": "integer"}}, "properties": {"id": {"$ref": "#/$defs/id"}}});
        assert!(compile(&inside).unwrap().check(&json!({"id": "x"})).is_err());
    }
}
