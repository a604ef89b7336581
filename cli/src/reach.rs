//! The way to a mesh's bus: whose credentials, which URL, and how to get there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{ConnectOptions, Event};
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use murmur_mesh::people::{CREDENTIALS_FILE, Person, URL_FILE};

use crate::arguments::Common;
use crate::bus::Bus;
use crate::error::mistake;
use crate::port_forward;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The cluster, and the namespace that is meant.
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// The mesh.
    pub namespace: String,
}

/// Reads the kubeconfig, or what a pod has in its place.
pub async fn cluster(common: &Common) -> Result<Cluster> {
    let config = match &common.context {
        Some(context) => {
            let options =
                KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
            let file = Kubeconfig::read().context("the kubeconfig cannot be read")?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| mistake(format!("--context {context}: {error}")))?
        }
        None => Config::infer().await.context(
            "no cluster is configured; set KUBECONFIG, or give --nats-url, --credentials and -n instead",
        )?,
    };
    let namespace = common.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the API server cannot be reached")?;
    Ok(Cluster { client, namespace })
}

/// Credentials, and where NATS listens as the cluster sees it.
struct Credentials {
    text: String,
    url: Option<String>,
}

/// Opens the bus of the mesh.
pub async fn bus(common: &Common, person: Person) -> Result<Bus> {
    let namespace = common.namespace.as_ref().filter(|name| !name.is_empty());
    let (mesh, credentials, cluster) = match (&common.credentials, namespace) {
        // What is done to the wrong mesh's backups, or said of it, cannot be taken back.
        (Some(_), None) => return Err(mistake("--credentials does not name the mesh: give -n")),
        (Some(folder), Some(mesh)) => (mesh.clone(), from_folder(folder)?, None),
        (None, _) => {
            let cluster = cluster(common).await?;
            (cluster.namespace.clone(), from_secret(&cluster, person).await?, Some(cluster))
        }
    };
    let url = match (&common.nats_url, &cluster, credentials.url) {
        (Some(url), _, _) => url.clone(),
        (None, None, Some(url)) => url,
        (None, Some(cluster), Some(url)) => port_forward::open(&cluster.client, &url).await?,
        (None, _, None) => return Err(mistake("the credentials name no URL: give --nats-url")),
    };
    let options = ConnectOptions::with_credentials(&credentials.text)
        .context("the credentials cannot be used; delete the Secret to have it made anew")?
        .name(person.secret())
        .custom_inbox_prefix(person.inbox_prefix())
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT))
        // Its addresses inside the cluster are none out here.
        .ignore_discovered_servers()
        // A refused request has no answer: its cause arrives only here.
        .event_callback(|event| async move {
            if let Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) = event {
                eprintln!("murmur: NATS says: {event}");
            }
        });
    let addresses: Vec<async_nats::ServerAddr> =
        url.split(',').map(|url| url.trim().parse()).collect::<std::result::Result<_, _>>().map_err(
            |error| mistake(format!("{url} is no URL of NATS ({error}); give one such as nats://host:4222")),
        )?;
    let client = options.connect(addresses).await.with_context(|| {
        format!("NATS at {url} cannot be reached; is it there, and do the credentials still hold?")
    })?;
    Ok(Bus::new(client, mesh))
}

fn from_folder(folder: &Path) -> Result<Credentials> {
    let file = folder.join(CREDENTIALS_FILE);
    let text = std::fs::read_to_string(&file)
        .map_err(|error| mistake(format!("--credentials: {} cannot be read: {error}", file.display())))?;
    let url = std::fs::read_to_string(folder.join(URL_FILE)).ok().map(|url| url.trim().to_owned());
    Ok(Credentials { text, url })
}

async fn from_secret(cluster: &Cluster, person: Person) -> Result<Credentials> {
    let (name, namespace) = (person.secret(), &cluster.namespace);
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let secret = api
        .get_opt(name)
        .await
        .with_context(|| format!("the Secret {name} in namespace {namespace} may not or cannot be read"))?
        .with_context(|| {
            format!(
                "there is no Secret {name} in namespace {namespace}: it is no mesh (no Microservice is there), \
                 or the operator does not run; choose the mesh with -n"
            )
        })?;
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let credentials = text(CREDENTIALS_FILE)
        .with_context(|| format!("the Secret {name} in namespace {namespace} holds no {CREDENTIALS_FILE}"))?;
    Ok(Credentials { text: credentials, url: text(URL_FILE) })
}
