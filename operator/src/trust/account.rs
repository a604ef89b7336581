//! A mesh's account: its keys, its claims and the users in it.

use std::collections::BTreeMap;

use indexmap::IndexSet;
use nats_jwt_rs::Claims;
use nats_jwt_rs::account::{Account as AccountClaims, JetStreamLimits};
use nats_jwt_rs::types::{NO_LIMIT, SigningKey};
use nkeys::KeyPair;

use super::claims::{ClaimsError, User, mint_user, mint_user_until};
use super::material::SystemUser;

/// Seed of the account's identity.
const IDENTITY_SEED: &str = "account.nk";
/// Seed that signs the account's users.
const SIGNING_SEED: &str = "account-signing.nk";

/// The keys of one mesh's account.
pub struct Account {
    identity: KeyPair,
    signing: KeyPair,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.public_key())
    }
}

impl Account {
    /// New keys: the content of the Secret `mesh-<namespace>`.
    pub(super) fn files() -> Result<BTreeMap<String, String>, ClaimsError> {
        let seed = |pair: KeyPair| pair.seed().map_err(|error| ClaimsError::Key(error.to_string()));
        Ok(BTreeMap::from([
            (IDENTITY_SEED.to_owned(), seed(KeyPair::new_account())?),
            (SIGNING_SEED.to_owned(), seed(KeyPair::new_account())?),
        ]))
    }

    /// An account that nobody knows.
    #[cfg(test)]
    pub(crate) fn new() -> Result<Self, ClaimsError> {
        Self::parse(&Self::files()?)
    }

    /// Reads the keys from the Secret's content.
    pub(super) fn parse(files: &BTreeMap<String, String>) -> Result<Self, ClaimsError> {
        let key = |name: &'static str| {
            let seed = files.get(name).ok_or(ClaimsError::Missing(name))?;
            KeyPair::from_seed(seed.trim()).map_err(|error| ClaimsError::Key(format!("{name}: {error}")))
        };
        Ok(Self { identity: key(IDENTITY_SEED)?, signing: key(SIGNING_SEED)? })
    }

    /// The account's identity.
    pub fn public_key(&self) -> String {
        self.identity.public_key()
    }

    /// The public key of whoever signs its users.
    pub fn issuer(&self) -> String {
        self.signing.public_key()
    }

    /// Signs the JWT of a user.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn mint(&self, user: &User) -> Result<String, ClaimsError> {
        mint_user(user, &self.signing)
    }

    /// Signs the JWT of a user until a moment, in seconds since 1970.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn mint_until(&self, user: &User, expires: i64) -> Result<String, ClaimsError> {
        mint_user_until(user, expires, &self.signing)
    }

    /// A user with all rights in the account, for this process alone: neither
    /// its key nor its JWT is ever stored.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn administrator(&self) -> Result<SystemUser, ClaimsError> {
        let pair = KeyPair::new_user();
        let user = User {
            name: "murmur-operator".to_owned(),
            public_key: pair.public_key(),
            account: self.public_key(),
            publish: vec![">".to_owned()],
            subscribe: vec![">".to_owned()],
        };
        let seed = pair.seed().map_err(|error| ClaimsError::Key(error.to_string()))?;
        Ok(SystemUser { jwt: self.mint(&user)?, seed })
    }
}

/// What a mesh's account may do: JetStream without limits of its own (the
/// streams have theirs), users signed by its signing key.
pub fn account_claims(mesh: &str, account: &Account) -> Claims<AccountClaims> {
    let mut claims = AccountClaims::new_claims(mesh.to_owned(), account.public_key());
    claims.nats.signing_keys = Some(IndexSet::from([SigningKey { key: account.issuer(), scope: None }]));
    if let Some(limits) = &mut claims.nats.limits {
        limits.jetstream = Some(JetStreamLimits {
            memory_storage: Some(NO_LIMIT),
            disk_storage: Some(NO_LIMIT),
            streams: Some(NO_LIMIT),
            consumer: Some(NO_LIMIT),
            ..JetStreamLimits::default()
        });
    }
    claims
}
