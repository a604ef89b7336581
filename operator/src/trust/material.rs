//! The operator's trust material: made once, at the first start.

use std::collections::BTreeMap;

use nats_jwt_rs::account::Account;
use nats_jwt_rs::operator::Operator;
use nkeys::KeyPair;
use serde_json::json;

use super::claims::{ClaimsError, system_user_claims};

/// Seed of the operator's identity; signs nothing but the operator's own JWT.
pub const OPERATOR_SEED: &str = "operator.nk";
/// Seed that signs accounts.
pub const OPERATOR_SIGNING_SEED: &str = "operator-signing.nk";
/// Seed of the system account.
pub const SYSTEM_ACCOUNT_SEED: &str = "system-account.nk";
/// Seed of the user by which the operator pushes accounts.
pub const SYSTEM_USER_SEED: &str = "system-user.nk";
/// JWT of that user.
pub const SYSTEM_USER_JWT: &str = "system-user.jwt";
/// The file that the bundled NATS includes.
pub const AUTH_CONF: &str = "auth.conf";
/// The operator's JWT, kept in the Secret so that [`AUTH_CONF`] can be made again.
pub const OPERATOR_JWT: &str = "operator.jwt";
/// The system account's JWT, for the same reason.
pub const SYSTEM_ACCOUNT_JWT: &str = "system-account.jwt";

/// What the operator needs of the trust material while it runs.
pub struct Trust {
    /// Signs the accounts of meshes.
    pub signer: KeyPair,
    /// The user of the system account.
    pub system_user: SystemUser,
}

/// The credentials of a user.
#[derive(Clone)]
pub struct SystemUser {
    /// Its JWT.
    pub jwt: String,
    /// The seed of its nkey.
    pub seed: String,
}

impl std::fmt::Debug for SystemUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemUser(…)")
    }
}

/// Makes all keys and JWTs: the content of the trust Secret.
///
/// # Errors
/// When a JWT cannot be signed, which new keys never cause.
pub fn files() -> Result<BTreeMap<String, String>, ClaimsError> {
    let operator = KeyPair::new_operator();
    let signing = KeyPair::new_operator();
    let system = KeyPair::new_account();
    let user = KeyPair::new_user();

    let mut operator_claims = Operator::new_claims("murmur".to_owned(), operator.public_key());
    operator_claims.nats.signing_keys = Some(vec![signing.public_key()]);
    operator_claims.nats.system_account = Some(system.public_key());
    let system_claims = Account::new_claims("SYS".to_owned(), system.public_key());
    let user_claims = system_user_claims(&user.public_key());

    let signed = |text: anyhow::Result<String>| text.map_err(|error| ClaimsError::Sign(error.to_string()));
    let seed = |pair: &KeyPair| pair.seed().map_err(|error| ClaimsError::Key(error.to_string()));
    Ok(BTreeMap::from([
        (OPERATOR_SEED.to_owned(), seed(&operator)?),
        (OPERATOR_SIGNING_SEED.to_owned(), seed(&signing)?),
        (OPERATOR_JWT.to_owned(), signed(operator_claims.encode(&operator))?),
        (SYSTEM_ACCOUNT_SEED.to_owned(), seed(&system)?),
        (SYSTEM_ACCOUNT_JWT.to_owned(), signed(system_claims.encode(&signing))?),
        (SYSTEM_USER_SEED.to_owned(), seed(&user)?),
        (SYSTEM_USER_JWT.to_owned(), signed(user_claims.encode(&system))?),
    ]))
}

/// NATS's part of the trust material: public, and the same each time it is
/// made from the same Secret. `None` when the Secret is a user's own, without
/// the JWTs that it would need.
pub fn auth_conf(files: &BTreeMap<String, String>) -> Option<String> {
    let operator = files.get(OPERATOR_JWT)?;
    let system = KeyPair::from_seed(files.get(SYSTEM_ACCOUNT_SEED)?).ok()?.public_key();
    let system_jwt = files.get(SYSTEM_ACCOUNT_JWT)?;
    // A JSON object is valid in NATS's configuration language, and escapes what needs it.
    let resolver = json!({"type": "full", "dir": "/data/jwt", "allow_delete": false, "interval": "2m"});
    Some(format!(
        "operator: {}\nsystem_account: {}\nresolver: {resolver}\nresolver_preload: {}\n",
        json!(operator),
        json!(system),
        json!({system: system_jwt}),
    ))
}

/// Reads what the operator needs out of the trust Secret.
///
/// # Errors
/// Which key is missing or not what it should be.
pub fn parse(files: &BTreeMap<String, String>) -> Result<Trust, ClaimsError> {
    let get = |name: &'static str| {
        files.get(name).map(|text| text.trim().to_owned()).ok_or(ClaimsError::Missing(name))
    };
    let signer = KeyPair::from_seed(&get(OPERATOR_SIGNING_SEED)?)
        .map_err(|error| ClaimsError::Key(format!("{OPERATOR_SIGNING_SEED}: {error}")))?;
    let seed = get(SYSTEM_USER_SEED)?;
    KeyPair::from_seed(&seed).map_err(|error| ClaimsError::Key(format!("{SYSTEM_USER_SEED}: {error}")))?;
    Ok(Trust { signer, system_user: SystemUser { jwt: get(SYSTEM_USER_JWT)?, seed } })
}
