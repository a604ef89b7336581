//! How a fragment is merged.

use serde_json::json;

use super::*;

fn template() -> PodTemplateSpec {
    serde_json::from_value(json!({
        "metadata": {"labels": {"murmur.dev/microservice": "a"}},
        "spec": {
            "enableServiceLinks": false,
            "containers": [{"name": "service", "image": "a:1", "env": [{"name": "A", "value": "1"}]}],
            "tolerations": [{"key": "x"}],
        },
    }))
    .unwrap()
}

fn merged(fragment: Value) -> Result<Value, Invalid> {
    let Value::Object(fragment) = fragment else { panic!("not a fragment") };
    let selector = BTreeMap::from([("murmur.dev/microservice".to_owned(), "a".to_owned())]);
    merge(&template(), &fragment, &selector)
}

#[test]
fn no_fragment_changes_nothing() {
    assert_eq!(merged(json!({})).unwrap(), serde_json::to_value(template()).unwrap());
}

#[test]
fn a_container_is_found_by_its_name_and_a_new_one_is_added() {
    let result = merged(json!({"spec": {"containers": [
        {"name": "service", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]},
        {"name": "other", "image": "b", "stdin": null},
    ]}}))
    .unwrap();
    assert_eq!(
        result["spec"]["containers"],
        json!([
            {"name": "service", "image": "a:1", "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]},
            {"name": "other", "image": "b"},
        ])
    );
}

#[test]
fn a_list_without_a_key_is_replaced_and_null_removes_a_field() {
    let result =
        merged(json!({"spec": {"tolerations": [{"key": "y"}], "enableServiceLinks": null}})).unwrap();
    assert_eq!(result["spec"]["tolerations"], json!([{"key": "y"}]));
    assert!(result["spec"].get("enableServiceLinks").is_none());
}

#[test]
fn a_field_that_only_a_newer_kubernetes_knows_stays() {
    let result = merged(json!({"spec": {"someNewField": {"a": 1}}})).unwrap();
    assert_eq!(result["spec"]["someNewField"], json!({"a": 1}));
}

#[test]
fn what_does_not_fit_a_pod_template_is_refused_with_its_cause() {
    for (fragment, text) in [
        (json!({"containers": []}), "it has metadata and spec"),
        (json!({"spec": {"hostNetwork": "yes"}}), "not a pod template"),
        (json!({"spec": 1}), "not a pod template"),
        (json!({"metadata": {"labels": {"murmur.dev/microservice": "b"}}}), "cannot change"),
        (json!({"metadata": null}), "cannot change"),
    ] {
        let error = merged(fragment.clone()).unwrap_err();
        assert_eq!(error.reason(), "InvalidPodOverrides");
        assert!(error.to_string().contains(text), "{fragment}: {error}");
    }
}
