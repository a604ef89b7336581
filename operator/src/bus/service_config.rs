//! The last configuration of each service, on `config.<service>`.

use async_nats::Client;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::{ServiceName, stream, subject};
use serde_json::json;

use super::error::{BusError, code};
use super::request;

/// What the bus holds for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Nothing, or something that cannot be read (it is published anew).
    Nothing,
    /// This configuration.
    Config(Box<SidecarConfig>),
}

/// Reads the last configuration of a service.
///
/// # Errors
/// When the broker is away.
pub async fn read_config(client: &Client, service: &ServiceName) -> Result<Published, BusError> {
    // Not the direct get that sidecars use: that has no error in JSON, and a
    // replica that lags behind may answer it.
    let request = format!("STREAM.MSG.GET.{}", stream::CONFIG);
    let body = json!({"last_by_subj": subject::config(service)});
    match request::jetstream(client, &request, &body).await {
        Ok(answer) => {
            let data = answer["message"]["data"].as_str().unwrap_or_default();
            let bytes = data_encoding::BASE64.decode(data.as_bytes()).unwrap_or_default();
            Ok(serde_json::from_slice(&bytes)
                .map_or(Published::Nothing, |config| Published::Config(Box::new(config))))
        }
        Err(error) if error.is_refused_with(code::MESSAGE_NOT_FOUND) => Ok(Published::Nothing),
        Err(error) => Err(error),
    }
}

/// Publishes the configuration of a service; returns once it is stored.
///
/// # Errors
/// When the broker is away or does not store it.
pub async fn publish_config(client: &Client, config: &SidecarConfig) -> Result<(), BusError> {
    let subject = subject::config(&config.service);
    let payload = serde_json::to_vec(config)
        .map_err(|error| BusError::Answer { subject: subject.clone(), cause: error.to_string() })?;
    let answer = request::raw(client, &subject, payload).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)
        .map_err(|error| BusError::Answer { subject: subject.clone(), cause: error.to_string() })?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(BusError::Refused {
            subject,
            code: error["code"].as_u64().unwrap_or_default(),
            error_code: error["err_code"].as_u64().unwrap_or_default(),
            description: error["description"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}
