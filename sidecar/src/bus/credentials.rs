//! Who the sidecar is on the bus: a JWT and the nkey that signs for it.
//!
//! The files are read anew at every connect, since the kubelet renews them; a
//! newer JWT that came over the bus is kept in memory. The one issued last is
//! used, and one that has expired is not sent: the broker would let it in and
//! drop it at once, for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Auth, AuthError};
use data_encoding::BASE64URL_NOPAD;
use murmur_mesh::config::{JWT_FILE, SEED_FILE};
use nkeys::KeyPair;
use serde::Deserialize;

/// The wait before a connect is given up because there is no valid JWT.
const EXPIRED_WAIT: Duration = Duration::from_secs(1);

/// What is wrong with the bus user's files, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Cannot be read.
    #[error(
        "cannot read {file}: {cause}; set MURMUR_BUS_CREDENTIALS to the folder of the service's bus Secret"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Is not what it should be.
    #[error("{file} does not hold a {what}: delete the service's bus Secret to get a new one")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
}

/// The two files, and the newest JWT that came over the bus.
#[derive(Debug)]
pub struct Credentials {
    /// `None`: a bus without users of its own for services (`user.jwt` and
    /// `user.nk` are both absent); what the bus' URL says is used.
    files: Option<Files>,
    received: Mutex<Option<Jwt>>,
    /// The JWT that the broker was last shown.
    shown: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Files {
    jwt: PathBuf,
    seed: PathBuf,
}

/// A user's JWT and what matters of its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Jwt {
    text: String,
    issued: i64,
    expires: Option<i64>,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    #[serde(default)]
    exp: Option<i64>,
}

impl Jwt {
    /// Reads the claims without checking the signature: the broker does that.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let payload = BASE64URL_NOPAD.decode(text.split('.').nth(1)?.as_bytes()).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        let expires = claims.exp.filter(|&seconds| seconds != 0);
        Some(Self { text: text.to_owned(), issued: claims.iat, expires })
    }

    fn is_valid_at(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Credentials {
    /// Opens the folder; the files are checked once, so that a mistake shows at the start.
    pub(crate) fn open(folder: &Path) -> Result<Self, CredentialsError> {
        let files = Files { jwt: folder.join(JWT_FILE), seed: folder.join(SEED_FILE) };
        let (received, shown) = (Mutex::default(), Mutex::default());
        if !files.jwt.exists() && !files.seed.exists() {
            return Ok(Self { files: None, received, shown });
        }
        files.read_jwt()?;
        files.read_seed()?;
        Ok(Self { files: Some(files), received, shown })
    }

    /// Whether the sidecar has a user of its own.
    pub(crate) fn has_user(&self) -> bool {
        self.files.is_some()
    }

    /// Takes a JWT that came over the bus. `true`: connecting again brings new permissions, by this one or by
    /// one in the file, which may have come there since the connection was made.
    pub(crate) fn receive(&self, text: &str) -> bool {
        let (Some(files), Some(jwt)) = (&self.files, Jwt::parse(text)) else { return false };
        let from_file = files.read_jwt().ok();
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = newer(received.clone(), from_file.clone());
        let is_newest = newest.is_none_or(|newest| newest.issued <= jwt.issued && newest.text != jwt.text);
        if is_newest {
            *received = Some(jwt);
        }
        let newest = newer(received.clone(), from_file);
        match &*self.shown.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(shown) => newest.is_some_and(|newest| newest.text != *shown),
            None => is_newest,
        }
    }

    /// The answer to the broker's challenge.
    pub(crate) async fn sign(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = Auth::new();
        let Some(files) = &self.files else { return Ok(auth) };
        let from_file = files.read_jwt();
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let newest = match from_file {
            Ok(jwt) => newer(received, Some(jwt)),
            Err(error) if received.is_none() => return Err(AuthError::new(error)),
            Err(_) => received,
        };
        let Some(jwt) = newest.filter(|jwt| jwt.is_valid_at(now())) else {
            tracing::warn!(file = %files.jwt.display(), "the bus user's JWT has expired; waiting for a new one");
            tokio::time::sleep(EXPIRED_WAIT).await;
            return Err(AuthError::new("the bus user's JWT has expired"));
        };
        let seed = files.read_seed().map_err(AuthError::new)?;
        auth.signature = Some(seed.sign(nonce).map_err(AuthError::new)?);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(jwt.text.clone());
        auth.jwt = Some(jwt.text);
        Ok(auth)
    }
}

impl Files {
    fn read_jwt(&self) -> Result<Jwt, CredentialsError> {
        Jwt::parse(&read(&self.jwt)?)
            .ok_or_else(|| CredentialsError::Malformed { file: self.jwt.clone(), what: "user's JWT" })
    }

    fn read_seed(&self) -> Result<KeyPair, CredentialsError> {
        KeyPair::from_seed(read(&self.seed)?.trim())
            .map_err(|_| CredentialsError::Malformed { file: self.seed.clone(), what: "user's nkey seed" })
    }
}

fn read(file: &Path) -> Result<String, CredentialsError> {
    std::fs::read_to_string(file)
        .map_err(|cause| CredentialsError::Unreadable { file: file.to_owned(), cause })
}

/// The one issued last; at the same second the received one, since files lag behind the bus.
fn newer(received: Option<Jwt>, from_file: Option<Jwt>) -> Option<Jwt> {
    match (received, from_file) {
        (Some(received), Some(from_file)) if received.issued >= from_file.issued => Some(received),
        (received, None) => received,
        (_, from_file) => from_file,
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(issued: i64, expires: i64) -> String {
        let claims = format!(r#"{{"iat":{issued},"exp":{expires}}}"#);
        format!("e30.{}.sig", BASE64URL_NOPAD.encode(claims.as_bytes()))
    }

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(JWT_FILE), text).unwrap();
        std::fs::write(folder.path().join(SEED_FILE), KeyPair::new_user().seed().unwrap()).unwrap();
        folder
    }

    #[tokio::test]
    async fn the_jwt_issued_last_is_used_wherever_it_came_from() {
        let folder = folder(&jwt(10, 0));
        let credentials = Credentials::open(folder.path()).unwrap();
        assert!(credentials.receive(&jwt(20, 0)));
        assert!(!credentials.receive(&jwt(20, 0)), "the same again");
        assert!(!credentials.receive(&jwt(15, 0)), "an older one");
        assert!(!credentials.receive("garbage"));
        assert!(credentials.receive(&jwt(20, 99)), "another one of the same second");
        assert!(credentials.receive(&jwt(20, 0)));
        assert_eq!(credentials.sign(b"n").await.unwrap().jwt, Some(jwt(20, 0)));
        std::fs::write(folder.path().join(JWT_FILE), jwt(30, 0)).unwrap();
        assert_eq!(credentials.sign(b"n").await.unwrap().jwt, Some(jwt(30, 0)));
    }

    #[tokio::test]
    async fn a_jwt_that_came_into_the_file_after_the_connection_is_a_reason_to_connect_again() {
        let folder = folder(&jwt(10, 0));
        let credentials = Credentials::open(folder.path()).unwrap();
        credentials.sign(b"n").await.unwrap();
        std::fs::write(folder.path().join(JWT_FILE), jwt(20, 0)).unwrap();
        assert!(credentials.receive(&jwt(20, 0)), "the broker was shown the one before");
        assert!(credentials.receive(&jwt(20, 0)), "and still is");
        credentials.sign(b"n").await.unwrap();
        assert!(!credentials.receive(&jwt(20, 0)));
        assert!(!credentials.receive(&jwt(10, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_jwt_is_not_sent_and_a_fresh_file_is_taken() {
        let folder = folder(&jwt(10, 11));
        let credentials = Credentials::open(folder.path()).unwrap();
        assert!(credentials.sign(b"n").await.is_err());
        std::fs::write(folder.path().join(JWT_FILE), jwt(12, now() + 60)).unwrap();
        assert!(credentials.sign(b"n").await.is_ok());
    }

    #[test]
    fn one_file_without_the_other_is_a_mistake_and_neither_means_no_user() {
        let empty = tempfile::tempdir().unwrap();
        assert!(!Credentials::open(empty.path()).unwrap().has_user());
        std::fs::write(empty.path().join(JWT_FILE), jwt(1, 0)).unwrap();
        assert!(Credentials::open(empty.path()).is_err());
    }
}
