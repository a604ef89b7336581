//! The last touch on a generated CustomResourceDefinition: what the API server
//! wants and derive macros do not know.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// The longest list, and the largest map, where a schema does not say.
const ITEMS: u64 = 64;
/// The longest text, in characters, where a schema does not say.
const LENGTH: u64 = 1024;
/// Formats that the API server knows; it warns about any other.
const FORMATS: [&str; 4] = ["int32", "int64", "date-time", "byte"];

/// The definition with every schema bounded and structural.
pub(crate) fn finished(
    definition: &CustomResourceDefinition,
) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(definition)?;
    // Helm, and kubectl delete of the operator's files, leave a kind and so all data alone.
    value["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    value["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "murmur"});
    if let Some(versions) = value["spec"]["versions"].as_array_mut() {
        for version in versions {
            if let Some(root) = version["schema"]["openAPIV3Schema"].as_object_mut() {
                finish(root);
                // `metadata` is the API server's own.
                if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert("metadata".to_owned(), json!({"type": "object"}));
                }
            }
        }
    }
    serde_json::from_value(value)
}

/// Finishes one schema and all below it.
fn finish(schema: &mut Map<String, Value>) {
    // Null means absent: the API server prunes it, and a default takes its place.
    schema.remove("nullable");
    schema.remove("title");
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
        schema.remove("format");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => {
            schema.entry("maxItems").or_insert(ITEMS.into());
            schema.entry("x-kubernetes-list-type").or_insert("atomic".into());
        }
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            schema.entry("maxLength").or_insert(LENGTH.into());
        }
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(ITEMS.into());
        }
        _ => {}
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(finish);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key).and_then(Value::as_object_mut) {
            finish(inner);
        }
    }
}

#[cfg(test)]
mod tests;
