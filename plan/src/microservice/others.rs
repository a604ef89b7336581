//! What is another service's no pod may name: its credentials, and the claims of its data. Kubernetes lets every pod of
//! a namespace mount every Secret and claim there.

use murmur_mesh::name::ServiceName;
use serde_json::Value;

use crate::invalid::Invalid;

/// How the Secrets that Murmur makes for a service end.
const SECRETS: [&str; 3] = ["-db", "-db-tls", "-sidecar"];
/// And the claims.
const CLAIMS: [&str; 3] = ["-db", "-data", "-backup"];

/// Refuses a pod template, env and podOverrides included, that names what Murmur makes for another service.
pub(super) fn refuse(template: &Value, service: &ServiceName) -> Result<(), Invalid> {
    match template {
        Value::Array(items) => items.iter().try_for_each(|item| refuse(item, service)),
        Value::Object(fields) => fields.iter().try_for_each(|(field, value)| {
            if let Some((kind, name, endings)) = named(field, value)
                && let Some(owner) = endings.iter().find_map(|ending| name.strip_suffix(ending))
                && owner != service.as_str()
            {
                return Err(Invalid::AnothersData { kind, name: name.to_owned(), owner: owner.to_owned() });
            }
            refuse(value, service)
        }),
        _ => Ok(()),
    }
}

/// The Secret or the claim that a field of a pod template names.
fn named<'a>(field: &str, value: &'a Value) -> Option<(&'static str, &'a str, &'static [&'static str])> {
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    match field {
        // A projected Secret and references have `name`, a volume `secretName`.
        "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
            Some(("Secret", text("secretName").or_else(|| text("name"))?, &SECRETS))
        }
        "persistentVolumeClaim" => Some(("claim", text("claimName")?, &CLAIMS)),
        // A copy of another's claim.
        "dataSource" | "dataSourceRef" => Some(("claim", text("name")?, &CLAIMS)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(template: &Value) -> Option<String> {
        refuse(template, &"thief".parse().unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_pod_that_names_another_services_credentials_or_claims_is_refused() {
        let volume = |volume: Value| json!({"spec": {"volumes": [volume]}});
        let env = |env: Value| json!({"spec": {"containers": [env]}});
        for (template, name) in [
            (env(json!({"env": [{"valueFrom": {"secretKeyRef": {"name": "posts-db"}}}]})), "posts-db"),
            (env(json!({"envFrom": [{"secretRef": {"name": "posts-sidecar"}}]})), "posts-sidecar"),
            (volume(json!({"secret": {"secretName": "posts-db-tls"}})), "posts-db-tls"),
            (volume(json!({"projected": {"sources": [{"secret": {"name": "posts-db"}}]}})), "posts-db"),
            (volume(json!({"persistentVolumeClaim": {"claimName": "posts-data"}})), "posts-data"),
            (
                volume(json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {
                "kind": "PersistentVolumeClaim", "name": "posts-db"}}}}})),
                "posts-db",
            ),
        ] {
            let error = refused(&template).unwrap_or_else(|| panic!("taken: {template}"));
            assert!(error.contains(name) && error.contains("which belongs to posts alone"), "{error}");
        }
    }

    #[test]
    fn its_own_and_what_murmur_did_not_make_it_may_name() {
        for name in ["thief-db", "thief-sidecar", "tokens", "db"] {
            assert_eq!(refused(&json!({"volumes": [{"secret": {"secretName": name}}]})), None);
        }
        assert_eq!(
            refused(&json!({"volumes": [{"persistentVolumeClaim": {"claimName": "thief-data"}}]})),
            None
        );
        assert_eq!(refused(&json!({"volumes": [{"configMap": {"name": "posts-db"}}]})), None);
    }
}
