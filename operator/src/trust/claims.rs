//! JWTs of accounts and users: made, and compared with those that are there.

use nats_jwt_rs::Claims;
use nats_jwt_rs::account::Account;
use nats_jwt_rs::types::Permission;
use nats_jwt_rs::user::User as UserClaims;
use nkeys::KeyPair;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Why keys or claims could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// A file is absent.
    #[error("the key {0} is missing")]
    Missing(&'static str),
    /// A seed is none.
    #[error("a key is not valid: {0}")]
    Key(String),
    /// The signature failed.
    #[error("a JWT could not be signed: {0}")]
    Sign(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(String),
}

/// A user of a mesh's account, as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name, for people: the service.
    pub name: String,
    /// Its public nkey.
    pub public_key: String,
    /// The account's identity.
    pub account: String,
    /// Subjects that it may publish to; never empty, since an empty list would allow all.
    pub publish: Vec<String>,
    /// Subjects that it may subscribe to; never empty.
    pub subscribe: Vec<String>,
}

fn user_claims(user: &User) -> Claims<UserClaims> {
    let mut claims = UserClaims::new_claims(user.name.clone(), user.public_key.clone());
    claims.nats.issuer_account = Some(user.account.clone());
    // NATS takes an empty list for "everything": nothing at all is spelled as a refusal.
    let permission = |allow: &[String]| match allow {
        [] => Permission { allow: vec![], deny: vec![">".to_owned()] },
        allow => Permission { allow: allow.to_vec(), deny: vec![] },
    };
    claims.nats.permissions.permissions.publish = permission(&user.publish);
    claims.nats.permissions.permissions.subscribe = permission(&user.subscribe);
    claims
}

/// The user by which the operator talks to the system account: it may push and
/// look up accounts, and nothing else.
pub(super) fn system_user_claims(public_key: &str) -> Claims<UserClaims> {
    let mut claims = UserClaims::new_claims("murmur-operator".to_owned(), public_key.to_owned());
    let permissions = &mut claims.nats.permissions.permissions;
    permissions.publish.allow =
        vec!["$SYS.REQ.CLAIMS.UPDATE".to_owned(), "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP".to_owned()];
    permissions.subscribe.allow = vec!["_INBOX.>".to_owned()];
    claims
}

/// Signs a user's JWT.
///
/// # Errors
/// When the key cannot sign.
pub fn mint_user(user: &User, signer: &KeyPair) -> Result<String, ClaimsError> {
    user_claims(user).encode(signer).map_err(|error| ClaimsError::Sign(error.to_string()))
}

/// Signs a user's JWT that holds until a moment, in seconds since 1970.
///
/// # Errors
/// When the key cannot sign.
pub fn mint_user_until(user: &User, expires: i64, signer: &KeyPair) -> Result<String, ClaimsError> {
    let mut claims = user_claims(user);
    claims.exp = Some(expires);
    claims.encode(signer).map_err(|error| ClaimsError::Sign(error.to_string()))
}

/// When a user's JWT ends, in seconds since 1970; `None` when it does not, or is none.
pub fn expires(jwt: &str) -> Option<i64> {
    Claims::<UserClaims>::decode(jwt.trim()).ok()?.exp
}

/// Whether a JWT says what the plan says, signed by `issuer` (a public nkey); until when is another matter.
pub fn same_user(jwt: &str, user: &User, issuer: &str) -> bool {
    same(jwt, &user_claims(user), issuer)
}

/// Whether an account's JWT says what `claims` say, signed by `issuer`.
pub fn same_account(jwt: &str, claims: &Claims<Account>, issuer: &str) -> bool {
    same(jwt, claims, issuer)
}

fn same<T>(jwt: &str, wanted: &Claims<T>, issuer: &str) -> bool
where
    T: nats_jwt_rs::Claim + Serialize + DeserializeOwned + Clone,
{
    // Decoding verifies the signature of whom the JWT names as its issuer.
    let Ok(found) = Claims::<T>::decode(jwt.trim()) else { return false };
    found.iss == issuer && content(&found) == content(wanted)
}

/// The claims without what each signing makes anew.
fn content<T: Serialize>(claims: &Claims<T>) -> Option<Value> {
    let mut value = serde_json::to_value(claims).ok()?;
    let object = value.as_object_mut()?;
    for signed in ["iat", "iss", "jti", "exp"] {
        object.remove(signed);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "history".to_owned(),
            public_key: KeyPair::new_user().public_key(),
            account: KeyPair::new_account().public_key(),
            publish: vec!["report.history.*".to_owned()],
            subscribe: vec!["_INBOX_1.>".to_owned()],
        }
    }

    #[test]
    fn a_jwt_is_the_same_until_a_permission_or_the_signer_changes() {
        let signer = KeyPair::new_account();
        let mut user = user();
        let jwt = mint_user(&user, &signer).unwrap();
        assert!(same_user(&jwt, &user, &signer.public_key()));
        assert!(!same_user(&jwt, &user, &KeyPair::new_account().public_key()));
        user.publish.push("events.history.*.Sold".to_owned());
        assert!(!same_user(&jwt, &user, &signer.public_key()));
    }

    #[test]
    fn no_permission_at_all_is_a_refusal_not_a_licence() {
        let mut user = user();
        user.publish.clear();
        let claims = user_claims(&user);
        assert_eq!(claims.nats.permissions.permissions.publish.deny, [">"]);
    }

    #[test]
    fn text_that_is_no_jwt_is_not_the_same() {
        assert!(!same_user("nonsense", &user(), &KeyPair::new_account().public_key()));
    }
}
