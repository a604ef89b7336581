//! Schemas of the core types that are embedded in our kinds: what
//! k8s-openapi says about them, with the bounds and list types that it lacks.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::quantity;

/// `env`: as in core/v1, keyed by name.
pub(crate) fn env(generator: &mut SchemaGenerator) -> Schema {
    let mut item = generator.subschema_for::<EnvVar>();
    at(&mut item, &["properties", "name"], json!({"minLength": 1, "maxLength": 256}));
    at(&mut item, &["properties", "value"], json!({"maxLength": 32768}));
    // One type per field: core/v1 takes a number here too.
    at(
        &mut item,
        &["properties", "valueFrom", "properties", "resourceFieldRef", "properties", "divisor"],
        json!({"x-kubernetes-int-or-string": null, "type": "string", "pattern": quantity::PATTERN, "maxLength": 32,
            "description": "The unit of the value, such as 1Mi; 1 if left out."}),
    );
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

/// `envFrom`: as in core/v1.
pub(crate) fn env_from(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<EnvFromSource>();
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": item,
        "x-kubernetes-list-type": "atomic",
    })
}

/// `allowFrom`: peers as in a NetworkPolicy.
pub(crate) fn peers(generator: &mut SchemaGenerator) -> Schema {
    let mut item = generator.subschema_for::<NetworkPolicyPeer>();
    at(
        &mut item,
        &[],
        json!({"x-kubernetes-validations": [
            {
                "rule": "has(self.ipBlock) || has(self.podSelector) || has(self.namespaceSelector)",
                "message": "a peer needs one of ipBlock, podSelector and namespaceSelector",
            },
            {
                "rule": "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
                "message": "ipBlock cannot be combined with podSelector or namespaceSelector",
            },
        ]}),
    );
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": item,
        "x-kubernetes-list-type": "atomic",
    })
}

/// A map from a resource's name, such as `cpu`, to a quantity.
pub(crate) fn resource_amounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": quantity::PATTERN,
            "maxLength": 32,
        },
    })
}

/// Parameters of a server's configuration file: one line each.
pub(crate) fn parameters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 1024, "pattern": r"^[^\x00-\x1f]*$"},
    })
}

/// An object that is taken as it is: a fragment of a pod template, a JSON Schema.
pub(crate) fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}

/// A moment, as RFC 3339 writes it.
pub(crate) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// `status.conditions`: the schema of meta/v1 Condition with its bounds.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316, "minLength": 1,
                    "description": "What the condition is about, in CamelCase.",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown.",
                },
                "reason": {
                    "type": "string", "maxLength": 1024, "minLength": 1,
                    "description": "The cause as one CamelCase word, for programs.",
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "The cause and what to do about it, for people.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the status last changed.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that the condition was computed from.",
                },
            },
        },
    })
}

/// Changes the schema at a path: a null member is removed, any other is set.
fn at(schema: &mut Schema, path: &[&str], changes: serde_json::Value) {
    let mut place = schema.ensure_object();
    for step in path {
        match place.get_mut(*step).and_then(|next| next.as_object_mut()) {
            Some(next) => place = next,
            // The unit tests see a path that leads nowhere by the bound that is then missing.
            None => return,
        }
    }
    let serde_json::Value::Object(changes) = changes else { return };
    for (key, value) in changes {
        if value.is_null() {
            place.remove(&key);
        } else {
            place.insert(key, value);
        }
    }
}
