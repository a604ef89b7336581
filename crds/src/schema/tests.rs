//! What holds for every schema of every kind.

use serde_json::Value;

/// The largest file that a definition may become, in bytes: what kubectl's
/// client-side apply can still keep in an annotation.
const LARGEST: usize = 200 * 1024;

/// Calls `check` with the path and text of every schema below `properties`.
fn each(schema: &Value, path: &str, check: &mut impl FnMut(&str, &Value)) {
    check(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        each(inner, &format!("{path}.{name}"), check);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            each(&schema[key], &format!("{path}{mark}"), check);
        }
    }
}

/// Calls `check` for every schema of every kind, metadata aside.
fn all(mut check: impl FnMut(&str, &Value)) {
    for definition in crate::definitions().unwrap() {
        let definition = serde_json::to_value(definition).unwrap();
        let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        for part in ["spec", "status"] {
            each(&root["properties"][part], &format!("{kind}.{part}"), &mut check);
        }
    }
}

#[test]
fn every_file_is_small_enough_for_kubectl_apply() {
    for file in crate::files::all().unwrap() {
        assert!(file.text.len() < LARGEST, "{}: {} bytes", file.path.display(), file.text.len());
    }
}

#[test]
fn every_field_has_a_description() {
    all(|path, schema| {
        let is_field = !path.ends_with("[]") && !path.ends_with("{}");
        assert!(!is_field || schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
    });
}

#[test]
fn every_field_has_one_type_and_no_union_of_schemas() {
    all(|path, schema| {
        if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
            return;
        }
        assert!(schema["type"].is_string(), "{path} has the type {}", schema["type"]);
        for union in ["anyOf", "oneOf", "allOf", "not", "nullable", "$ref", "title"] {
            assert!(schema[union].is_null(), "{path} has {union}");
        }
    });
}

#[test]
fn every_list_map_and_text_is_bounded() {
    all(|path, schema| {
        let bounded = match schema["type"].as_str() {
            Some("array") => schema["maxItems"].is_u64() && schema["x-kubernetes-list-type"].is_string(),
            Some("string") => ["maxLength", "enum", "format"].iter().any(|bound| !schema[bound].is_null()),
            Some("object") => schema["additionalProperties"].is_null() || schema["maxProperties"].is_u64(),
            _ => true,
        };
        assert!(bounded, "{path}: {schema}");
    });
}

#[test]
fn every_list_of_objects_of_ours_merges_by_key() {
    // What core/v1 and networking/v1 have no key for.
    let without_key = [".envFrom", ".allowFrom", ".matchExpressions"];
    all(|path, schema| {
        if schema["items"]["type"] == "object" && !without_key.iter().any(|end| path.ends_with(end)) {
            assert_eq!(schema["x-kubernetes-list-type"], "map", "{path}");
        }
    });
}

#[test]
fn enum_values_are_written_in_camel_case() {
    all(|path, schema| {
        for value in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let plain = value.chars().all(|character| character.is_ascii_alphanumeric());
            // Log levels are lower-case everywhere.
            let first =
                path.ends_with(".logLevel") || value.starts_with(|first: char| first.is_ascii_uppercase());
            assert!(plain && first, "{path}: {value}");
        }
    });
}

#[test]
fn the_bounds_that_are_set_by_path_are_there() {
    let mut seen = Vec::new();
    all(|path, schema| match path {
        "Microservice.spec.env[].name" => seen.push(schema["maxLength"] == 256),
        "Microservice.spec.env[].value" => seen.push(schema["maxLength"] == 32768),
        "Microservice.spec.env[].valueFrom.resourceFieldRef.divisor" => seen.push(schema["type"] == "string"),
        _ => {}
    });
    assert_eq!(seen, [true, true, true]);
}
