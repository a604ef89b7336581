//! Credentials for people.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use murmur_mesh::people::{CREDENTIALS_FILE, Person, URL_FILE};
use serde_json::{Value, json};

use crate::world::{World, named, test, test_alone, wait};

async fn secret(world: &World, ns: &str, person: Person) -> anyhow::Result<Secret> {
    let api: Api<Secret> = world.api(ns);
    wait("the credentials are there", || async { Ok(api.get_opt(person.secret()).await?) }).await
}

fn text(secret: &Secret, key: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

async fn connect(world: &World, ns: &str, person: Person) -> anyhow::Result<async_nats::Client> {
    let secret = secret(world, ns, person).await?;
    let options = async_nats::ConnectOptions::with_credentials(&text(&secret, CREDENTIALS_FILE))?
        .custom_inbox_prefix(person.inbox_prefix())
        .request_timeout(Some(std::time::Duration::from_secs(1)));
    Ok(options.connect(text(&secret, URL_FILE)).await?)
}

async fn ask(client: &async_nats::Client, subject: &str, body: Value) -> anyhow::Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(subject.to_owned(), body.into()).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

#[test]
fn a_viewer_reads_and_changes_nothing_and_an_administrator_redrives_and_deletes() {
    test("people", |world| async move {
        let ns = world.namespace("people").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
        world.subscription(&ns, "mine", "users", "UserCreated", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let stored =
            world.administrator(&ns).await?.request("events.users.0.UserCreated", "x".into()).await?;
        assert!(stored.payload.starts_with(b"{\"stream\":\"EVENTS\""), "{stored:?}");

        let viewer = connect(&world, &ns, Person::Viewer).await?;
        let next = json!({"seq": 1, "next_by_subj": "events.>"});
        let found = ask(&viewer, "$JS.API.STREAM.MSG.GET.EVENTS", next).await?;
        assert_eq!(found["message"]["subject"], "events.users.0.UserCreated");
        assert!(ask(&viewer, "$JS.API.CONSUMER.LIST.EVENTS", json!({"offset": 0})).await?.is_object());
        let refused = [
            "$JS.API.STREAM.PURGE.EVENTS",
            "$JS.API.STREAM.MSG.DELETE.EVENTS",
            "$JS.API.CONSUMER.CREATE.EVENTS.mine-0",
            "redrive.users.mine.0",
            "events.users.0.UserCreated",
            "$JS.API.STREAM.MSG.GET.CONFIG",
        ];
        // Refused requests have no answer, so all are asked at once.
        let answers =
            futures::future::join_all(refused.map(|subject| ask(&viewer, subject, Value::Null))).await;
        for (subject, answer) in refused.iter().zip(answers) {
            assert!(answer.is_err(), "{subject} was answered: {answer:?}");
        }

        let admin = connect(&world, &ns, Person::Admin).await?;
        assert_eq!(ask(&admin, "redrive.users.mine.0", Value::Null).await?["stream"], "EVENTS");
        let delete = json!({"seq": 1, "no_erase": false});
        assert_eq!(ask(&admin, "$JS.API.STREAM.MSG.DELETE.EVENTS", delete).await?["success"], true);
        assert!(ask(&admin, "events.users.0.UserCreated", Value::Null).await.is_err());
        Ok(())
    });
}

#[test]
fn a_secret_of_that_name_that_is_someone_elses_is_left_alone_and_told() {
    test("people's names", |world| async move {
        let ns = world.namespace("taken").await?;
        let api: Api<Secret> = world.api(&ns);
        let data = Some([("mine".to_owned(), ByteString(b"1".to_vec()))].into());
        let theirs = Secret { metadata: named("murmur-viewer"), data, ..Secret::default() };
        api.create(&PostParams::default(), &theirs).await?;
        world.microservice(&ns, "users", json!({})).await?;
        secret(&world, &ns, Person::Admin).await?;
        let events: Api<Event> = world.api(&ns);
        wait("an event says so", || async {
            let events = events.list(&ListParams::default()).await?;
            Ok(events.iter().any(|event| event.reason.as_deref() == Some("NameTaken")).then_some(()))
        })
        .await?;
        assert_eq!(text(&api.get("murmur-viewer").await?, "mine"), "1");
        Ok(())
    });
}

#[test]
fn credentials_that_end_soon_are_renewed() {
    test_alone("people's renewal", |world| async move {
        let ns = world.namespace("renewed").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let made = secret(&world, &ns, Person::Viewer).await?;
        let creds = text(&made, CREDENTIALS_FILE);
        let seed = creds.lines().find(|line| line.starts_with("SU")).unwrap_or_default();
        world.kill_operator().await?;

        let account = world.account(&ns).await?;
        let user = crate::world::nobody(&account, nkeys::KeyPair::from_seed(seed)?.public_key());
        let soon = jiff::Timestamp::now().as_second() + 3600;
        let old = account.mint_until(&user, soon)?;
        let jwt = creds.lines().nth(1).unwrap_or_default();
        let spoiled = json!({"stringData": {(CREDENTIALS_FILE): creds.replace(jwt, &old)}});
        let api: Api<Secret> = world.api(&ns);
        api.patch("murmur-viewer", &PatchParams::default(), &Patch::Merge(&spoiled)).await?;

        world.restart_operator().await?;
        wait("they are renewed with the same key", || async {
            let now = text(&api.get("murmur-viewer").await?, CREDENTIALS_FILE);
            Ok((now.contains(seed) && !now.contains(&old)).then_some(()))
        })
        .await?;
        connect(&world, &ns, Person::Viewer).await?;
        Ok(())
    });
}

#[test]
fn while_an_administrator_restores_the_streams_they_are_not_made_anew() {
    test("making way for a restore", |world| async move {
        let ns = world.namespace("restored").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let admin = connect(&world, &ns, Person::Admin).await?;
        admin.request("mesh.restoring", "".into()).await?;
        let (_, message) = world.condition(&ns, "users", "BusReady", "False").await?;
        assert!(message.contains("restored from a backup"), "{message}");
        assert_eq!(ask(&admin, "$JS.API.STREAM.DELETE.EVENTS", Value::Null).await?["success"], true);
        // Longer than the operator otherwise takes to notice and make it anew.
        for _ in 0..8 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            admin.publish("mesh.restoring", "".into()).await?;
            let info = ask(&admin, "$JS.API.STREAM.INFO.EVENTS", Value::Null).await?;
            assert_eq!(info["error"]["err_code"], 10059, "{info}");
        }
        admin.publish("mesh.restoring", "done".into()).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        assert!(ask(&admin, "$JS.API.STREAM.INFO.EVENTS", Value::Null).await?["state"].is_object());
        Ok(())
    });
}
