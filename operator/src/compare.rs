//! Is what was planned what is there? Pure comparison of JSON, used alike for
//! Kubernetes objects, streams and durables.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use murmur_crds::quantity::parse_core;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// Where `live` does not have what `planned` asks for: the path of the first
/// such place, or `None` when all of it is there.
///
/// `live` may have more: defaults of the server, fields of others. A planned
/// value that is empty (null, false, 0, "", [] or {}) may be absent in `live`,
/// as servers leave such values out. Lists whose members have a `name` are
/// compared by it; others must be equally long.
pub fn missing(planned: &Value, live: &Value) -> Option<String> {
    let mut path = String::new();
    (!contains(planned, live, &mut path)).then_some(path)
}

fn contains(planned: &Value, live: &Value, path: &mut String) -> bool {
    match (planned, live) {
        (Value::Object(planned), Value::Object(live)) => planned.iter().all(|(key, wanted)| {
            let found = live.get(key).unwrap_or(&Value::Null);
            within(path, key, |path| contains(wanted, found, path))
        }),
        (Value::Array(wanted), Value::Array(found)) => match named(wanted).zip(named(found)) {
            Some((wanted, found)) => wanted.iter().all(|(name, wanted)| {
                let found = found.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
                within(path, name, |path| contains(wanted, found.unwrap_or(&Value::Null), path))
            }),
            None => {
                wanted.len() == found.len()
                    && wanted.iter().zip(found).enumerate().all(|(index, (wanted, found))| {
                        within(path, &index.to_string(), |path| contains(wanted, found, path))
                    })
            }
        },
        (wanted, Value::Null) => is_empty(wanted),
        // A number is the same whether it is written as 1 or as 1.0.
        (Value::Number(wanted), Value::Number(found)) => wanted == found || wanted.as_f64() == found.as_f64(),
        (wanted, found) => wanted == found || (holds_quantity(path) && same_quantity(wanted, found)),
    }
}

/// Whether a place holds a Kubernetes quantity, which the API server writes in
/// its own way: `1000m` as `1`.
fn holds_quantity(path: &str) -> bool {
    path.contains("/requests/") || path.contains("/limits/") || path.ends_with("/sizeLimit")
}

fn same_quantity(wanted: &Value, found: &Value) -> bool {
    let amount = |value: &Value| parse_core(&Quantity(value.as_str()?.to_owned())).ok();
    amount(wanted).is_some_and(|wanted| amount(found) == Some(wanted))
}

/// Runs `check` one step deeper; the step stays in the path when it fails.
fn within(path: &mut String, step: &str, check: impl FnOnce(&mut String) -> bool) -> bool {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    let ok = check(path);
    if ok {
        path.truncate(length);
    }
    ok
}

fn named(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    list.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.values().all(is_empty),
    }
}

/// A digest of a JSON value: 16 hexadecimal digits, the same on every machine.
pub fn digest(value: &Value) -> String {
    // serde_json keeps the members of an object sorted, so equal values have equal texts.
    format!("{:016x}", xxh3_64(value.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_fields_of_others_are_no_difference() {
        let planned = json!({"spec": {"ports": [{"name": "http", "port": 80}], "paused": false, "env": []}});
        let live = json!({"spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "type": "x"}});
        assert_eq!(missing(&planned, &live), None);
    }

    #[test]
    fn a_changed_member_of_a_named_list_is_found_with_its_path() {
        let planned = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        let live = json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]});
        assert_eq!(missing(&planned, &live).as_deref(), Some("/containers/b/image"));
    }

    #[test]
    fn a_list_without_names_must_be_equally_long() {
        assert_eq!(
            missing(&json!({"filters": ["a"]}), &json!({"filters": ["a", "b"]})),
            Some("/filters".into())
        );
        assert_eq!(missing(&json!({"filters": ["a", "b"]}), &json!({"filters": ["a", "b"]})), None);
    }

    #[test]
    fn an_amount_is_the_same_in_whatever_unit_but_a_text_is_not() {
        let limits = |cpu: &str| json!({"limits": {"cpu": cpu}});
        assert_eq!(missing(&limits("1000m"), &limits("1")), None);
        assert_eq!(missing(&limits("1000m"), &limits("2")).as_deref(), Some("/limits/cpu"));
        assert_eq!(missing(&json!({"value": "1000m"}), &json!({"value": "1"})).as_deref(), Some("/value"));
    }

    #[test]
    fn something_planned_but_absent_is_a_difference() {
        assert_eq!(missing(&json!({"a": {"b": 1}}), &json!({"a": {}})), Some("/a/b".into()));
        assert_eq!(missing(&json!({"a": {"b": 0}}), &json!({})), None);
    }
}
