//! Connections to NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use nkeys::KeyPair;

use super::error::BusError;
use crate::trust::SystemUser;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait between two attempts of a connection that was lost.
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Connects as a user. The connection mends itself for as long as it is held.
///
/// # Errors
/// When the first attempt fails, with its cause.
pub(super) async fn connect(url: &str, name: &str, user: &SystemUser) -> Result<Client, BusError> {
    let failed = |cause: String| BusError::Connect { url: url.to_owned(), cause };
    let pair = Arc::new(KeyPair::from_seed(&user.seed).map_err(|error| failed(error.to_string()))?);
    let jwt = user.jwt.clone();
    let addresses: Vec<async_nats::ServerAddr> = url
        .split(',')
        .map(|url| url.trim().parse())
        .collect::<Result<_, std::io::Error>>()
        .map_err(|error| failed(error.to_string()))?;
    let label = name.to_owned();
    ConnectOptions::with_auth_callback(move |nonce| {
        let (pair, jwt) = (pair.clone(), jwt.clone());
        async move {
            let mut auth = Auth::new();
            auth.jwt = Some(jwt);
            auth.signature = Some(pair.sign(&nonce).map_err(AuthError::new)?);
            Ok(auth)
        }
    })
    .name(name)
    .connection_timeout(CONNECT_TIMEOUT)
    .reconnect_delay_callback(|attempts| {
        Duration::from_millis(100)
            .saturating_mul(attempts.try_into().unwrap_or(u32::MAX))
            .min(LONGEST_RECONNECT_DELAY)
    })
    // A refused request has no answer: its cause arrives only here.
    .event_callback(move |event| {
        let connection = label.clone();
        async move {
            match event {
                Event::Connected => tracing::debug!(connection, "connected to NATS"),
                Event::Closed => tracing::debug!(connection, "closed the connection to NATS"),
                event => tracing::warn!(connection, %event, "NATS"),
            }
        }
    })
    .connect(addresses)
    .await
    .map_err(|error| failed(error.to_string()))
}
