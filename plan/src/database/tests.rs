//! What is made for a database server. The snapshot shows a review what a
//! change does to a cluster.

use std::fmt::Write;

use serde_json::Value;

use super::*;
use crate::examples::{microservice, settings, valid};
use crate::status::conditions::Problem;

fn spec(database: &str) -> String {
    format!(
        "{{image: a, port: 8080, replicas: 3, database: {{engine: Postgres, storage: {{size: 1Gi}}{database}}}}}"
    )
}

/// A Postgres with these fields besides the engine and a volume of 1Gi.
pub(super) fn server(more: &str) -> Server {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    valid("users", &spec(&more)).database.unwrap()
}

fn secrets() -> Secrets {
    Secrets {
        password: "password-of-service".into(),
        admin_password: "password-of-admin".into(),
        murmur_password: "password-of-murmur".into(),
        authority: "authority".into(),
        certificate: "certificate".into(),
        key: "key".into(),
    }
}

fn planned(spec: &str, held: Option<&Held>) -> Vec<Object> {
    let service = valid("users", spec);
    let known = Known { secrets: &secrets(), held, ready: false };
    objects(&service, service.database.as_ref().unwrap(), &settings(), known).unwrap()
}

fn one<'a>(objects: &'a [Object], kind: &str) -> &'a Value {
    &objects.iter().find(|object| object.resource.kind == kind).unwrap().value
}

fn image_of(objects: &[Object]) -> &Value {
    &one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["image"]
}

fn held(version: &str, image: &str) -> Held {
    let written = Written { version: Version::parse(version).unwrap(), image: image.into() };
    Held { engine: "Postgres".into(), written: Some(written) }
}

/// All objects of a server as YAML.
fn manifests(spec: &str) -> String {
    let mut text = String::new();
    for object in planned(spec, None) {
        writeln!(text, "---\n{}", serde_saphyr::to_string(&object.value).unwrap().trim_end()).unwrap();
    }
    text
}

#[test]
fn a_postgres_server() {
    insta::assert_snapshot!(manifests(&spec("")));
}

#[test]
fn a_mariadb_server() {
    insta::assert_snapshot!(manifests(
        &spec(", mariadb: {parameters: {max_connections: \"50\"}}").replace("Postgres", "MariaDB")
    ));
}

#[test]
fn a_redis_server() {
    insta::assert_snapshot!(manifests(
        &spec(", redis: {parameters: {maxmemory: 40mb}}").replace("Postgres", "Redis")
    ));
}

#[test]
fn each_engine_is_reached_by_an_url_of_its_own() {
    for (engine, begin, end) in [
        (
            "Postgres",
            "postgres://service:",
            ":5432/service?sslmode=verify-full&sslrootcert=/var/run/murmur/database/ca.crt",
        ),
        (
            "MariaDB",
            "mysql://service:",
            ":3306/service?ssl-mode=VERIFY_IDENTITY&ssl-ca=/var/run/murmur/database/ca.crt",
        ),
        ("Redis", "rediss://service:", ":6379/0"),
    ] {
        let objects = planned(&spec("").replace("Postgres", engine), None);
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(one(&objects, "Secret").clone()).unwrap();
        let url = String::from_utf8(secret.data.unwrap()["url"].0.clone()).unwrap();
        assert!(url.starts_with(begin) && url.ends_with(end), "{url}");
        assert!(url.contains("password-of-service@users-db.shop.svc:"), "{url}");
    }
}

#[test]
fn the_users_of_redis_stand_with_digests_of_their_passwords() {
    let users = redis::users(&secrets());
    assert!(!users.contains("password-of"), "{users}");
    assert!(users.lines().nth(1).unwrap().ends_with(" ~* &* +@all -@admin"), "{users}");
    // Off, and with all rights, by which the server reads its own log back.
    assert!(users.starts_with("user default off resetpass ~* &* +@all\n"), "{users}");
}

#[test]
fn a_database_elsewhere_is_reached_by_its_secret_and_nothing_is_made() {
    let spec =
        "{image: a, port: 80, replicas: 2, database: {engine: External, external: {secretRef: {name: x}}}}";
    let service = valid("users", spec);
    assert_eq!((service.database.as_ref(), service.external.as_deref()), (None, Some("x")));
    let resource = microservice("users", "{image: a, port: 80, database: {engine: External}}");
    let error = crate::microservice::validate(&resource).unwrap_err();
    assert!(error.to_string().contains("spec.database.external"), "{error}");
}

#[test]
fn credentials_and_claim_outlive_the_service_unless_they_are_to_go_with_it() {
    for (when_deleted, owned) in [("Retain", false), ("Delete", true)] {
        let spec = spec("").replace("size: 1Gi", &format!("size: 1Gi, whenDeleted: {when_deleted}"));
        for object in planned(&spec, None) {
            let has_owner = object.value["metadata"]["ownerReferences"][0]["uid"] == "uid-of-users";
            assert_eq!(has_owner, !object.is_kept() || owned, "{} {}", object.resource.kind, object.name);
            let prunable = crate::object::prunable().contains(&object.resource);
            assert_eq!(prunable, !object.is_claim(), "{}", object.resource.kind);
        }
    }
}

#[test]
fn credentials_are_made_before_the_claim_and_all_else_before_the_server() {
    let kinds: Vec<String> = planned(&spec(""), None).into_iter().map(|it| it.resource.kind).collect();
    let at = |kind: &str| kinds.iter().position(|it| it == kind).unwrap();
    assert!(at("Secret") < at("PersistentVolumeClaim"));
    assert_eq!(at("StatefulSet"), kinds.len() - 1);
}

#[test]
fn no_password_stands_anywhere_but_in_the_secret() {
    for object in planned(&spec(""), None) {
        assert!(!object.value.to_string().contains("password-of-"), "{}", object.resource.kind);
    }
}

#[test]
fn the_pods_of_a_server_are_none_of_the_services_own() {
    let objects = planned(&spec(""), None);
    let labels = &one(&objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"];
    assert!(labels[labels::MICROSERVICE].is_null(), "its Service would lead to them");
    let policy = one(&objects, "NetworkPolicy");
    assert_eq!(
        policy["spec"]["podSelector"]["matchLabels"],
        serde_json::json!({(labels::DATABASE): "users"})
    );
    assert_eq!(
        policy["spec"]["ingress"][0]["from"],
        serde_json::json!([{"podSelector": {"matchLabels": {(labels::MICROSERVICE): "users"}}}])
    );
}

#[test]
fn a_change_of_configuration_restarts_the_server_and_nothing_else_does() {
    let template = |more: &str| one(&planned(&spec(more), None), "StatefulSet")["spec"]["template"].clone();
    let bigger = ", resources: {requests: {memory: 256Mi}}";
    assert_eq!(template(""), template(bigger), "it says what holds anyway");
    assert_ne!(template(""), template(", postgres: {parameters: {work_mem: 16MB}}"));
}

#[test]
fn a_minor_version_rolls_and_a_major_one_is_refused_while_there_is_data() {
    let mine = held("16.3", "docker.io/postgres:16.3");
    let run = |version: &str| image(&server(version), &settings(), Some(&mine));
    assert_eq!(run("version: \"16.4\"").image, "docker.io/postgres:16.4");
    assert_eq!(run("version: \"16\"").refused, None);
    let refused = run("version: \"17\"");
    assert_eq!(
        (refused.image.as_str(), refused.version.to_string().as_str()),
        ("docker.io/postgres:16.3", "16.3")
    );
    let Some(Problem { reason, message }) = refused.refused else { panic!("it was not refused") };
    assert_eq!(reason, "MajorVersionRefused");
    assert!(message.contains("docs/databases.md"), "{message}");
    // The operator's own version is 17 by now: nobody asked for it.
    let kept = run("");
    assert_eq!((kept.image.as_str(), kept.refused), ("docker.io/postgres:16.3", None));
    assert_eq!(image(&server(""), &settings(), None).image, "docker.io/postgres:17");
    // MariaDB's data is bound to both numbers, Redis's to the first.
    let version = |text: &str| Version::parse(text).unwrap();
    assert_eq!(version("11.8.2").series(Engine::MariaDb), "11.8");
    assert_eq!(version("8.0.1").series(Engine::Redis), "8");
    // The claim goes on saying what the data is.
    let objects = planned(&spec(", version: \"17\""), Some(&mine));
    assert_eq!(image_of(&objects), "docker.io/postgres:16.3");
    let claim = &one(&objects, "PersistentVolumeClaim")["metadata"]["annotations"];
    assert_eq!(claim[labels::DATABASE_VERSION], "16.3");
}

#[test]
fn a_version_that_never_came_up_binds_nobody() {
    let never = Held { engine: "Postgres".into(), written: None };
    let settled = image(&server("version: \"17\""), &settings(), Some(&never));
    assert_eq!((settled.image.as_str(), settled.refused), ("docker.io/postgres:17", None));
    let said = |ready| {
        let service = valid("users", &spec(", version: \"99\""));
        let known = Known { secrets: &secrets(), held: Some(&never), ready };
        let objects = objects(&service, service.database.as_ref().unwrap(), &settings(), known).unwrap();
        one(&objects, "PersistentVolumeClaim")["metadata"]["annotations"][labels::DATABASE_VERSION].clone()
    };
    assert_eq!((said(false), said(true)), (Value::Null, "99".into()));
}

#[test]
fn an_image_of_ones_own_takes_the_place_of_the_operators() {
    let own = "version: \"17.2\", image: \"registry.example/postgres@sha256:0\"";
    assert_eq!(image(&server(own), &settings(), None).image, "registry.example/postgres@sha256:0");
}

#[test]
fn the_limit_of_memory_is_twice_the_request_unless_it_is_said() {
    let of = |more: &str| {
        let server = server(more);
        let amount = |map: Option<BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            map.unwrap_or_default()["memory"].0.clone()
        };
        (server.memory >> 20, amount(server.resources.requests), amount(server.resources.limits))
    };
    assert_eq!(of(""), (256, "256Mi".into(), (512_u32 << 20).to_string()));
    assert_eq!(of("resources: {limits: {memory: 1Gi}}"), (1024, "1Gi".into(), "1Gi".into()));
    let both = "resources: {requests: {memory: 1Gi}, limits: {memory: 3Gi}}";
    assert_eq!(of(both), (1024, "1Gi".into(), "3Gi".into()));
}

#[test]
fn what_an_older_rule_may_have_let_in_is_named_with_its_field() {
    for (spec, field) in [
        ("{engine: Postgres}", "spec.database.storage"),
        ("{engine: SQLite}", "spec.database.storage"),
        ("{engine: Postgres, storage: {size: big}}", "spec.database.storage.size"),
        ("{engine: Postgres, storage: {size: 1Gi}, version: latest}", "spec.database.version"),
        (
            "{engine: Postgres, storage: {size: 1Gi}, resources: {requests: {memory: much}}}",
            "spec.database.resources.requests.memory",
        ),
    ] {
        let resource = microservice("users", &format!("{{image: a, port: 80, database: {spec}}}"));
        let error = crate::microservice::validate(&resource).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

const BACKUP: &str = ", backup: {schedule: 0 3 * * *, keep: 3, storage: {size: 5Gi}}";

#[test]
fn a_server_with_backups_that_begins_with_one() {
    let restore = ", restoreFrom: {claimName: old-backup, backup: 20261121T030000Z}";
    insta::assert_snapshot!(manifests(&spec(&format!("{BACKUP}{restore}"))));
}

#[test]
fn backups_outlive_their_service_whatever_becomes_of_its_data() {
    let spec = spec(BACKUP).replace("size: 1Gi", "size: 1Gi, whenDeleted: Delete");
    let objects = planned(&spec, None);
    let claim = objects.iter().find(|object| object.name == "users-backup" && object.is_claim()).unwrap();
    assert!(claim.value["metadata"]["ownerReferences"].is_null());
    let job = one(&objects, "CronJob");
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "uid-of-users");
    let labels = &job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"];
    assert!(labels[labels::MICROSERVICE].is_null() && labels[labels::DATABASE].is_null(), "{labels}");
}

#[test]
fn only_the_pods_that_back_it_up_are_let_in_beside_the_services_own() {
    let from =
        |more: &str| one(&planned(&spec(more), None), "NetworkPolicy")["spec"]["ingress"][0]["from"].clone();
    assert_eq!(from("").as_array().unwrap().len(), 1);
    let backup = serde_json::json!({"podSelector": {"matchLabels": {(labels::BACKUP): "users"}}});
    assert_eq!(from(BACKUP)[1], backup);
}

#[test]
fn what_a_server_begins_with_is_its_own_newest_backup_unless_it_says() {
    let pod =
        |more: &str| one(&planned(&spec(more), None), "StatefulSet")["spec"]["template"]["spec"].to_string();
    assert!(!pod("").contains("restore"));
    let newest = pod(", restoreFrom: {}");
    assert!(newest.contains(r#""claimName":"users-backup""#) && !newest.contains("BACKUP"), "{newest}");
}

#[test]
fn every_engine_has_what_its_scripts_ask_for() {
    for engine in ["Postgres", "MariaDB", "Redis"] {
        let objects = planned(&spec(BACKUP).replace("Postgres", engine), None);
        let files = one(&objects, "ConfigMap")["data"].as_object().unwrap().clone();
        for text in files.values().map(|text| text.as_str().unwrap()) {
            // Wherever a script sources another, it is there.
            for line in
                text.lines().filter(|line| line.contains(". /etc/murmur/files/") && !line.contains("-e "))
            {
                let name = line.split("/etc/murmur/files/").nth(1).unwrap().split([';', ' ']).next().unwrap();
                assert!(files.contains_key(name), "{engine}: {line}");
            }
        }
        let secret = one(&objects, "Secret")["data"].as_object().unwrap().clone();
        let mounted = [
            &one(&objects, "StatefulSet")["spec"]["template"],
            &one(&objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"],
        ];
        for volume in mounted.iter().flat_map(|template| template["spec"]["volumes"].as_array().unwrap()) {
            let keys = volume["secret"]["items"].as_array().cloned().unwrap_or_default();
            for key in keys.iter().map(|item| item["key"].as_str().unwrap()) {
                assert!(secret.contains_key(key), "{engine}: {key}");
            }
        }
    }
}
