//! Trust material in Kubernetes: read, or made by `create` when absent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, PostParams};

use super::account::Account;
use super::authority::Authority;
use super::claims::ClaimsError;
use super::material::{self, AUTH_CONF, Trust};
use crate::settings::Settings;

/// Why there is no trust material.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The API server refused or was away.
    #[error("{what} {name} in namespace {namespace} could not be read or made: {source}")]
    Cluster {
        /// What kind of object.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// What is there cannot be used.
    #[error("Secret {name} in namespace {namespace} cannot be used: {source}")]
    Content {
        /// The Secret.
        name: String,
        /// Its namespace.
        namespace: String,
        /// What is wrong with it.
        source: ClaimsError,
    },
    /// The Secret of a NATS of one's own is missing.
    #[error(
        "Secret {name} is missing in namespace {namespace}; for a NATS of your own make it with the keys \
         operator-signing.nk, system-user.nk and system-user.jwt"
    )]
    NotGiven {
        /// The Secret.
        name: String,
        /// Its namespace.
        namespace: String,
    },
}

type Files = BTreeMap<String, String>;

/// The operator's trust material; made now, with NATS's part of it, if this is
/// the first start.
///
/// # Errors
/// When it can be neither read nor made, or is not usable.
pub async fn load_trust(client: &kube::Client, settings: &Settings) -> Result<Trust, TrustError> {
    let namespace = &settings.namespace;
    let name = settings.trust_secret();
    let files = if settings.trust_create {
        secret(client, namespace, &name, material::files).await?
    } else {
        read_secret(client, namespace, &name)
            .await?
            .ok_or_else(|| TrustError::NotGiven { name: name.clone(), namespace: namespace.clone() })?
    };
    let content = |source| TrustError::Content { name: name.clone(), namespace: namespace.clone(), source };
    let trust = material::parse(&files).map_err(content)?;
    if settings.trust_create
        && let Some(conf) = material::auth_conf(&files)
    {
        config_map(client, namespace, &settings.trust_config_map(), conf).await?;
    }
    Ok(trust)
}

/// The account of a mesh; its keys are made now if it has none.
///
/// # Errors
/// When they can be neither read nor made, or are not usable.
pub async fn load_account(client: &kube::Client, namespace: &str, mesh: &str) -> Result<Account, TrustError> {
    let name = format!("mesh-{mesh}");
    let files = secret(client, namespace, &name, Account::files).await?;
    Account::parse(&files).map_err(|source| TrustError::Content {
        name,
        namespace: namespace.to_owned(),
        source,
    })
}

/// The authority for database servers; made now if there is none.
///
/// # Errors
/// When it can be neither read nor made, or is not usable.
pub async fn load_authority(client: &kube::Client, settings: &Settings) -> Result<Authority, TrustError> {
    let namespace = &settings.namespace;
    let name = settings.authority_secret();
    let now = Timestamp::now().as_second();
    let files = secret(client, namespace, &name, || Authority::files(now)).await?;
    Authority::parse(&files).map_err(|source| TrustError::Content {
        name,
        namespace: namespace.clone(),
        source,
    })
}

async fn read_secret(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Files>, TrustError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|source| failed("Secret", namespace, name, source))?;
    Ok(found.map(|secret| text(secret.data.unwrap_or_default())))
}

async fn secret(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    make: impl Fn() -> Result<Files, ClaimsError>,
) -> Result<Files, TrustError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(files) = read_secret(client, namespace, name).await? {
        return Ok(files);
    }
    let files = make().map_err(|source| TrustError::Content {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        source,
    })?;
    let data = files.iter().map(|(key, text)| (key.clone(), ByteString(text.clone().into_bytes()))).collect();
    let object = Secret { metadata: metadata(name), data: Some(data), ..Secret::default() };
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {
            tracing::info!(secret = name, namespace, "made keys");
            Ok(files)
        }
        // Another replica was faster: what it made is what counts.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let secret = api.get(name).await.map_err(|source| failed("Secret", namespace, name, source))?;
            Ok(text(secret.data.unwrap_or_default()))
        }
        Err(source) => Err(failed("Secret", namespace, name, source)),
    }
}

async fn config_map(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    conf: String,
) -> Result<(), TrustError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let failed = |source| failed("ConfigMap", namespace, name, source);
    if api.get_metadata_opt(name).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let data = BTreeMap::from([(AUTH_CONF.to_owned(), conf)]);
    let object = ConfigMap { metadata: metadata(name), data: Some(data), ..ConfigMap::default() };
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// No owner reference: these outlive `helm uninstall`.
fn metadata(name: &str) -> ObjectMeta {
    let label = ("app.kubernetes.io/managed-by".to_owned(), "murmur".to_owned());
    ObjectMeta { name: Some(name.to_owned()), labels: Some(BTreeMap::from([label])), ..ObjectMeta::default() }
}

fn text(data: BTreeMap<String, ByteString>) -> Files {
    data.into_iter().filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0).ok()?))).collect()
}

fn failed(what: &'static str, namespace: &str, name: &str, source: kube::Error) -> TrustError {
    TrustError::Cluster { what, name: name.to_owned(), namespace: namespace.to_owned(), source }
}
