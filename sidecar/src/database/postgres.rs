//! A connection to the service's Postgres, as the role `murmur`.
//!
//! A folder says how, one file each: `host`, `port`, `database`, `username` (the
//! service's own role, which gets rights on what is made here), `murmur-password`
//! and `ca.crt`. They are read anew at each connect, so what is rotated counts from
//! then on. With `ca.crt` the server's certificate is verified in full; without it
//! nothing is encrypted, which the operator never does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;

/// The role that the sidecar connects as.
const ROLE: &str = "murmur";
/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may leave sent bytes without an acknowledgement: one whose machine is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// Notifications that wait to be read; one is as good as many.
const NOTIFICATIONS: usize = 16;

/// Where the server is, and who the sidecar is there.
#[derive(Debug, Clone)]
pub struct Postgres {
    folder: PathBuf,
}

/// A connection. It ends when this is dropped.
#[derive(Debug)]
pub struct Session {
    /// What statements are sent with.
    pub client: Client,
    /// The service's own role.
    pub service: String,
    /// What the server notifies of, if anything is listened for; some may be left out while many wait.
    pub notifications: mpsc::Receiver<Notification>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Postgres {
    /// As the files in this folder say, whenever it connects.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Connects once; `purpose` is what the server's own lists call it.
    ///
    /// # Errors
    /// When a file is missing, or the server does not let it in within five seconds.
    pub async fn connect(&self, purpose: &str) -> Result<Session, DatabaseError> {
        let (host, port) = (self.read("host")?, self.read("port")?);
        let service = self.read("username")?;
        let address = format!("{host}:{port}");
        let failed = |cause: String| DatabaseError::Postgres { address: address.clone(), cause };
        let mut config = Config::new();
        config
            .host(&host)
            .port(port.parse().map_err(|_| failed(format!("{port:?} is no port")))?)
            .dbname(self.read("database")?)
            .user(ROLE)
            .password(self.read("murmur-password")?)
            .application_name(purpose)
            .connect_timeout(CONNECT)
            .tcp_user_timeout(UNACKNOWLEDGED);
        let tls = self.tls()?;
        let connecting = async {
            match tls {
                Some(tls) => {
                    config.ssl_mode(SslMode::Require);
                    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
                    Ok(Session::start(client, service, connection))
                }
                None => {
                    config.ssl_mode(SslMode::Disable);
                    let (client, connection) = config.connect(NoTls).await?;
                    Ok(Session::start(client, service, connection))
                }
            }
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| failed(told(&error))),
            Err(_) => Err(failed(format!("no answer within {CONNECT:?}"))),
        }
    }

    fn read(&self, name: &str) -> Result<String, DatabaseError> {
        let file = self.folder.join(name);
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
            Err(error) => Err(DatabaseError::Credentials { file, cause: error.to_string() }),
        }
    }

    fn tls(&self) -> Result<Option<ClientConfig>, DatabaseError> {
        let file = self.folder.join("ca.crt");
        if !file.exists() {
            return Ok(None);
        }
        let failed = |cause: String| DatabaseError::Credentials { file: file.clone(), cause };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&file).map_err(|error| failed(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Some(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

impl Session {
    fn start<S, T>(client: Client, service: String, mut connection: Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, notifications) = mpsc::channel(NOTIFICATIONS);
        let driver = tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => drop(sender.try_send(notification)),
                    Ok(AsyncMessage::Notice(notice)) => tracing::debug!(%notice, "the database"),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::info!(cause = told(&error), "the connection to the database is lost");
                        return;
                    }
                }
            }
        });
        Self { client, service, notifications, driver }
    }
}

/// What went wrong, with what the server said about it.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}{detail} [{}]", said.message(), said.code().code())
        }
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}
