//! podOverrides: a fragment that is merged over the pod template, last and as
//! it is, the way kubectl merges (strategic merge): maps member by member,
//! lists by their Kubernetes key, anything else replaced, null removes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

use crate::invalid::Invalid;

/// Merges a fragment over a pod template, which must keep the labels that its
/// Deployment selects.
///
/// # Errors
/// When the result is not a pod template, or has lost a label.
pub fn merge(
    template: &PodTemplateSpec,
    fragment: &Map<String, Value>,
    selector: &BTreeMap<String, String>,
) -> Result<Value, Invalid> {
    let refused = |text: String| Invalid::InvalidPodOverrides(text);
    let mut merged = serde_json::to_value(template).map_err(|error| refused(error.to_string()))?;
    if let Some(key) = fragment.keys().find(|key| !["metadata", "spec"].contains(&key.as_str())) {
        return Err(refused(format!("{key:?} is not a field of a pod template: it has metadata and spec")));
    }
    merge_value(&mut merged, &Value::Object(fragment.clone()));
    // A field that k8s-openapi does not know stays in the JSON; one of a wrong type is found here.
    let typed: PodTemplateSpec = serde_json::from_value(merged.clone())
        .map_err(|error| refused(format!("the result is not a pod template: {error}")))?;
    let labels = typed.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    match selector.iter().find(|(name, value)| labels.get(*name) != Some(value)) {
        None => Ok(merged),
        Some((name, _)) => Err(refused(format!("the label {name} cannot change: the pods are found by it"))),
    }
}

fn merge_value(base: &mut Value, over: &Value) {
    let (Value::Object(base), Value::Object(over)) = (&mut *base, over) else {
        *base = without_nulls(over);
        return;
    };
    for (name, value) in over {
        match (base.get_mut(name), value) {
            (_, Value::Null) => {
                base.remove(name);
            }
            (None, value) => {
                base.insert(name.clone(), without_nulls(value));
            }
            (Some(Value::Array(items)), Value::Array(over)) if list_key(name).is_some() => {
                merge_list(items, over, list_key(name).unwrap_or_default());
            }
            (Some(inner), value) => merge_value(inner, value),
        }
    }
}

fn merge_list(items: &mut Vec<Value>, over: &[Value], key: &str) {
    for item in over {
        let id = item.get(key);
        match items.iter_mut().find(|existing| id.is_some() && existing.get(key) == id) {
            Some(existing) => merge_value(existing, item),
            None => items.push(without_nulls(item)),
        }
    }
}

/// The key by which a list inside a pod template merges (the patchMergeKey of core/v1).
fn list_key(name: &str) -> Option<&'static str> {
    match name {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "resourceClaims" => {
            Some("name")
        }
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
