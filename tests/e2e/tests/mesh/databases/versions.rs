//! Other versions of a server: what rolls, what is refused, what nobody has.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use murmur_e2e::sample::READY;
use murmur_e2e::{TestMesh, eventually};
use serde_json::json;

use super::{databases_ready, told, with_database};

/// A server of an engine, and how it is asked from inside its pod.
struct Server {
    /// As the resource writes it, and the name of its service in small letters.
    engine: &'static str,
    /// Prints the server's version.
    version: &'static str,
    /// Another major version.
    major: &'static str,
    client: &'static str,
    write: &'static str,
    read: &'static str,
}

const SERVERS: [Server; 3] = [
    Server {
        engine: "Postgres",
        version: "postgres --version",
        major: "99",
        client: "psql -U postgres -qtA service -c",
        write: "'CREATE TABLE notes AS SELECT 42 AS n'",
        read: "'SELECT n FROM notes'",
    },
    Server {
        engine: "MariaDB",
        version: "mariadbd --version",
        major: "11.4",
        client: "MYSQL_PWD=$(cat /etc/murmur/credentials/admin-password) \
                 mariadb --user=root --skip-ssl --skip-ssl-verify-server-cert -NB service -e",
        write: "'CREATE TABLE notes AS SELECT 42 AS n'",
        read: "'SELECT n FROM notes'",
    },
    Server {
        engine: "Redis",
        version: "redis-server --version",
        major: "99",
        client: "REDISCLI_AUTH=PASSWORD redis-cli -s /run/redis/socket --user service",
        write: "SET n 42",
        read: "GET n",
    },
];

impl Server {
    fn name(&self) -> String {
        self.engine.to_lowercase()
    }

    /// Runs a command in its pod.
    async fn run(&self, mesh: &TestMesh, command: &str) -> Result<String> {
        let pod = format!("{}-db-0", self.name());
        let said = mesh.kubectl(&["exec", &pod, "-c", "database", "--", "sh", "-c", command]).await?;
        Ok(said.trim().to_owned())
    }

    /// Has the server carry something out.
    async fn ask(&self, mesh: &TestMesh, what: &str) -> Result<String> {
        let template = "go-template={{.data.password | base64decode}}";
        let password =
            mesh.kubectl(&["get", "secret", &format!("{}-db", self.name()), "-o", template]).await?;
        self.run(mesh, &format!("{} {what}", self.client.replace("PASSWORD", &password))).await
    }

    async fn keeps_its_data(&self, mesh: &TestMesh) -> Result<()> {
        let kept = self.ask(mesh, self.read).await?;
        ensure!(kept == "42", "{} tells {kept}, not 42", self.engine);
        Ok(())
    }

    /// The version of the server that runs, such as 17.6.
    async fn runs(&self, mesh: &TestMesh) -> Result<String> {
        let said = self.run(mesh, self.version).await?;
        let numbers = said.split(|sign: char| !sign.is_ascii_digit() && sign != '.');
        let version = numbers.map(|part| part.trim_matches('.')).find(|part| part.contains('.'));
        Ok(version.with_context(|| format!("{} says: {said}", self.version))?.to_owned())
    }

    async fn wish(&self, mesh: &TestMesh, version: &str) -> Result<()> {
        let wish = json!({"spec": {"database": {"version": version}}}).to_string();
        mesh.kubectl(&["patch", &format!("msvc/{}", self.name()), "--type=merge", "-p", &wish]).await?;
        Ok(())
    }

    /// Which pod runs with which image, once it is ready.
    async fn pod(&self, mesh: &TestMesh) -> Result<(String, String)> {
        let api: Api<Pod> = Api::namespaced(mesh.cluster.client.clone(), &mesh.namespace);
        let pod = api.get(&format!("{}-db-0", self.name())).await?;
        let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
        Ok((pod.metadata.uid.unwrap_or_default(), image.unwrap_or_default()))
    }
}

#[tokio::test]
async fn row_1_a_minor_version_rolls_a_major_one_is_refused_and_an_unknown_one_is_told() -> Result<()> {
    let mesh = TestMesh::create("versions").await?;
    for server in &SERVERS {
        let storage = "storageClassName: murmur-local, size: 512Mi";
        mesh.apply(&with_database(&server.name(), server.engine, storage)).await?;
    }
    let names = SERVERS.map(|server| server.name());
    databases_ready(&mesh, &names.each_ref().map(String::as_str)).await?;
    try_join_all(SERVERS.iter().map(|server| versions(&mesh, server))).await?;
    mesh.delete().await
}

async fn versions(mesh: &TestMesh, server: &Server) -> Result<()> {
    server.ask(mesh, server.write).await?;
    let exact = server.runs(mesh).await?;
    let (old, image) = server.pod(mesh).await?;
    ensure!(!image.ends_with(&exact), "{image} is {exact} already");
    server.wish(mesh, &exact).await?;
    let new = eventually("the server is of the new version", READY, || async {
        let (new, image) = server.pod(mesh).await?;
        let ready = mesh.condition("Microservice", &server.name(), "DatabaseReady").await?;
        let ready = ready.is_some_and(|found| found.status == "True");
        let done = ready && new != old && image.ends_with(&format!(":{exact}"));
        if done { Ok(Some(new)) } else { anyhow::bail!("{image}, ready: {ready}") }
    })
    .await?;
    server.keeps_its_data(mesh).await?;

    server.wish(mesh, server.major).await?;
    let refused = told(mesh, &server.name(), "MajorVersionRefused").await?;
    ensure!(refused.status == "False" && refused.message.contains("docs/databases.md"), "{refused:?}");
    server.keeps_its_data(mesh).await?;
    ensure!(server.pod(mesh).await?.0 == new, "{} was started anew", server.engine);

    // Of the same series, and nobody has it.
    let unknown = format!("{}.9999", exact.rsplit_once('.').map_or(exact.as_str(), |(series, _)| series));
    server.wish(mesh, &unknown).await?;
    let missing = told(mesh, &server.name(), "ImageNotPulled").await?;
    ensure!(missing.status == "False" && missing.message.contains(&unknown), "{missing:?}");
    server.wish(mesh, &exact).await?;
    mesh.wait_for("Microservice", &server.name(), "DatabaseReady", "True", READY).await?;
    server.keeps_its_data(mesh).await?;
    Ok(())
}
