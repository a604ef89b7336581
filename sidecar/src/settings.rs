//! What a sidecar starts with, parsed and checked once, before anything is bound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_nats::ServerAddr;
use http::HeaderValue;
use murmur_mesh::config::{
    Answer, Call, MESSAGE_ID_KEY_FILE, Ordering, SidecarConfig, Subscription, TOKEN_FILE,
};
use murmur_mesh::message_id::{InvalidKey, MessageIdKey};
use murmur_mesh::partition::PARTITIONS;

use crate::bus::credentials::{Credentials, CredentialsError};
use crate::cli::RunArguments;
use crate::database::DatabaseSettings;
use crate::startup::WaitFor;
use crate::trace::{InvalidTraces, TraceSettings};

/// All that a sidecar needs before it can bind its listeners.
#[derive(Debug)]
pub struct Settings {
    /// The bus, one or more addresses.
    pub bus: Vec<ServerAddr>,
    /// The configuration to boot from.
    pub config: SidecarConfig,
    /// Where that came from: read again while the bus is away.
    pub config_file: PathBuf,
    /// The bus user's files.
    pub credentials: Credentials,
    /// The key of the service's message ids.
    pub message_id_key: MessageIdKey,
    /// `Authorization` of every delivery.
    pub authorization: HeaderValue,
    /// This pod.
    pub pod: String,
    /// The DNS server that knows the pods of other services; those of resolv.conf if absent.
    pub dns: Option<SocketAddr>,
    /// Where traces go, and which.
    pub traces: TraceSettings,
    /// The volume to lock.
    pub data: Option<PathBuf>,
    /// The service's database.
    pub database: Option<DatabaseSettings>,
    /// What the pod's readiness waits for.
    pub wait_for: WaitFor,
    /// How much is taken on at once.
    pub limits: crate::limits::Limits,
}

/// What is wrong with the settings, as a sentence that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The bus' address.
    #[error("MURMUR_BUS_URL {url:?} is not the address of a bus ({cause}): use nats://host:4222")]
    BusUrl {
        /// As given.
        url: String,
        /// Why it is not.
        cause: String,
    },
    /// The pod's name.
    #[error("MURMUR_POD {0:?} is not the name of a pod: set it to metadata.name, without dots")]
    Pod(String),
    /// A file that cannot be read.
    #[error("cannot read {file}: {cause}; {hint}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
        /// What to set.
        hint: &'static str,
    },
    /// The configuration is not one.
    #[error("{file} is not a sidecar's configuration: {cause}; let the operator write it anew")]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The key of message ids.
    #[error("{file}: {cause}")]
    MessageIdKey {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: InvalidKey,
    },
    /// The token of deliveries.
    #[error("{0} does not hold a token of printable ASCII; delete the service's bus Secret to get a new one")]
    Token(PathBuf),
    /// OpenTelemetry's variables.
    #[error(transparent)]
    Traces(#[from] InvalidTraces),
    /// The bus user's files.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Settings {
    /// Reads everything that the arguments name.
    ///
    /// # Errors
    /// At the first thing that is missing or wrong.
    pub fn load(arguments: &RunArguments) -> Result<Self, SettingsError> {
        let folder = &arguments.bus_credentials;
        Ok(Self {
            bus: bus(&arguments.bus_url)?,
            config: config(&arguments.config)?,
            config_file: arguments.config.clone(),
            message_id_key: message_id_key(&folder.join(MESSAGE_ID_KEY_FILE))?,
            authorization: authorization(&folder.join(TOKEN_FILE))?,
            credentials: Credentials::open(folder)?,
            pod: pod(&arguments.pod)?,
            dns: arguments.dns,
            traces: TraceSettings::parse(&arguments.traces)?,
            data: arguments.data.clone(),
            database: DatabaseSettings::new(arguments.database_path.clone(), arguments.database.clone()),
            wait_for: arguments.wait_for,
            limits: crate::limits::Limits::default(),
        })
    }
}

fn bus(url: &str) -> Result<Vec<ServerAddr>, SettingsError> {
    let wrong = |cause: String| SettingsError::BusUrl { url: url.to_owned(), cause };
    let parse = |part: &str| {
        let address: ServerAddr =
            part.trim().parse().map_err(|error: std::io::Error| wrong(error.to_string()))?;
        match address.scheme() {
            "nats" | "tls" if !address.host().is_empty() => Ok(address),
            other => Err(wrong(format!("{other:?} with host {:?} is neither nats nor tls", address.host()))),
        }
    };
    url.split(',').map(parse).collect()
}

/// A pod's name becomes one token of a subject.
fn pod(name: &str) -> Result<String, SettingsError> {
    let valid = (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if valid { Ok(name.to_owned()) } else { Err(SettingsError::Pod(name.to_owned())) }
}

fn read(file: &Path, hint: &'static str) -> Result<String, SettingsError> {
    std::fs::read_to_string(file).map_err(|cause| SettingsError::Unreadable {
        file: file.to_owned(),
        cause,
        hint,
    })
}

fn config(file: &Path) -> Result<SidecarConfig, SettingsError> {
    let text = read(file, "set MURMUR_CONFIG to the file that the operator writes")?;
    parse_config(text.as_bytes()).map_err(|cause| SettingsError::Config { file: file.to_owned(), cause })
}

/// Parses and checks a configuration, from the file or from the bus.
pub(crate) fn parse_config(json: &[u8]) -> Result<SidecarConfig, String> {
    let config: SidecarConfig = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    config.subscriptions.iter().try_for_each(check_subscription)?;
    config.calls.iter().try_for_each(check_call)?;
    config.answers.iter().try_for_each(check_answer)?;
    Ok(config)
}

fn check_answer(answer: &Answer) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("answer to {}: {what}", answer.query));
    if answer.port == 0 {
        return wrong("port must not be 0");
    }
    if answer.path.parse::<http::uri::PathAndQuery>().is_err() || !answer.path.starts_with('/') {
        return wrong("path must be the path of a URL and start with '/'");
    }
    Ok(())
}

fn check_call(call: &Call) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("call of {}: {what}", call.service));
    if call.port == Some(0) {
        return wrong("port must not be 0");
    }
    if call.timeout.is_zero() {
        return wrong("timeout must be longer than 0");
    }
    Ok(())
}

fn check_subscription(subscription: &Subscription) -> Result<(), String> {
    let name = &subscription.name;
    let wrong = |what: &str| Err(format!("subscription {name}: {what}"));
    match subscription.ordering {
        Ordering::Key { shards } if shards == 0 || !PARTITIONS.is_multiple_of(shards) => {
            return wrong("ordering.shards must divide 64");
        }
        _ => {}
    }
    if subscription.retry.max_attempts == 0 {
        return wrong("retry.maxAttempts must be at least 1");
    }
    let Some(deliver) = subscription.deliver() else {
        // One place in the order of events is all that a projection remembers.
        return match subscription.ordering {
            Ordering::Key { shards: 1 } => Ok(()),
            _ => wrong("a projection has one shard: ordering must be key with 1 shard"),
        };
    };
    if deliver.path.parse::<http::uri::PathAndQuery>().is_err() || !deliver.path.starts_with('/') {
        return wrong("deliver.path must be the path of a URL and start with '/'");
    }
    if deliver.port == 0 {
        return wrong("deliver.port must not be 0");
    }
    if deliver.concurrency == 0 {
        return wrong("deliver.concurrency must be at least 1");
    }
    if deliver.timeout.is_zero() {
        return wrong("deliver.timeout must be longer than 0");
    }
    Ok(())
}

fn message_id_key(file: &Path) -> Result<MessageIdKey, SettingsError> {
    let text = read(file, "set MURMUR_BUS_CREDENTIALS to the folder of the service's bus Secret")?;
    MessageIdKey::from_hex(&text)
        .map_err(|cause| SettingsError::MessageIdKey { file: file.to_owned(), cause })
}

fn authorization(file: &Path) -> Result<HeaderValue, SettingsError> {
    let text = read(file, "set MURMUR_BUS_CREDENTIALS to the folder of the service's bus Secret")?;
    let token = text.trim();
    let mut value = Some(token)
        .filter(|token| !token.is_empty())
        .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok())
        .ok_or_else(|| SettingsError::Token(file.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(subscription: &str) -> Result<SidecarConfig, String> {
        parse_config(
            format!(r#"{{"generation":1,"service":"a","mesh":"m","subscriptions":[{subscription}]}}"#)
                .as_bytes(),
        )
    }

    fn subscription(shards: u16, port: u16, path: &str, attempts: u32) -> String {
        format!(
            r#"{{"name":"s","ordering":{{"policy":"key","shards":{shards}}},
            "deliver":{{"port":{port},"path":"{path}","timeout":1000,"concurrency":4}},
            "retry":{{"maxAttempts":{attempts},"initialDelay":1000,"factor":2,"maxDelay":60000}},"deadLetter":"keep"}}"#
        )
    }

    #[test]
    fn a_subscription_that_could_not_work_is_refused_with_the_field_to_change() {
        assert!(with(&subscription(4, 8080, "/events", 8)).is_ok());
        for (bad, field) in [
            (subscription(0, 8080, "/e", 8), "ordering.shards"),
            (subscription(3, 8080, "/e", 8), "ordering.shards"),
            (subscription(4, 0, "/e", 8), "deliver.port"),
            (subscription(4, 8080, "e", 8), "deliver.path"),
            (subscription(4, 8080, "/a b", 8), "deliver.path"),
            (subscription(4, 8080, "/e", 0), "retry.maxAttempts"),
        ] {
            let error = with(&bad).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_bus_address_may_name_several_servers() {
        assert_eq!(bus("nats://a:4222, nats://b:4222").unwrap().len(), 2);
        for bad in ["http://a", "nats://", "", "nats://a:x", "a,,b"] {
            assert!(bus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pod_name_is_one_token_of_a_subject() {
        assert!(pod("users-5d4f-x2").is_ok());
        for bad in ["", "a.b", "*", ">", "a b"] {
            assert!(pod(bad).is_err(), "{bad}");
        }
    }
}
