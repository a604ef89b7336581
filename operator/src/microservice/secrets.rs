//! What the sidecar's Secret holds: made once; only the JWT changes, when its
//! permissions do.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use kube::api::DynamicObject;
use murmur_mesh::config::{JWT_FILE, MESSAGE_ID_KEY_FILE, SEED_FILE, TOKEN_FILE};
use murmur_mesh::message_id::MessageIdKey;
use murmur_plan::microservice::{BusSecrets, Neighbours, ValidMicroservice};
use murmur_plan::permissions;
use murmur_plan::subscription::ValidSubscription;
use nkeys::KeyPair;

use crate::error::Error;
use crate::trust::{Account, ClaimsError, User, same_user};

/// The secrets of a service: those that are there, or new ones if there is no
/// Secret; with a JWT that says what the plan says.
pub(super) fn secrets(
    service: &ValidMicroservice,
    subscriptions: &[ValidSubscription],
    neighbours: &Neighbours,
    account: &Account,
    secret: Option<&DynamicObject>,
) -> Result<BusSecrets, Error> {
    let name = murmur_plan::labels::sidecar_object(&service.name);
    let unusable = |source| Error::SecretUnusable { name: name.clone(), source };
    let mut secrets = match secret {
        Some(secret) => read(secret).map_err(unusable)?,
        None => new().map_err(unusable)?,
    };
    let invalid = |cause: String| unusable(ClaimsError::Key(cause));
    let pair = KeyPair::from_seed(secrets.user_seed.trim()).map_err(|error| invalid(error.to_string()))?;
    let key = MessageIdKey::from_hex(&secrets.message_id_key).map_err(|error| invalid(error.to_string()))?;
    let permissions = permissions::of(service, subscriptions, neighbours, &key);
    let user = User {
        name: service.name.to_string(),
        public_key: pair.public_key(),
        account: account.public_key(),
        publish: permissions.publish,
        subscribe: permissions.subscribe,
    };
    if !same_user(&secrets.user_jwt, &user, &account.issuer()) {
        secrets.user_jwt = account.mint(&user).map_err(unusable)?;
    }
    Ok(secrets)
}

fn new() -> Result<BusSecrets, ClaimsError> {
    let seed = KeyPair::new_user().seed().map_err(|error| ClaimsError::Key(error.to_string()))?;
    Ok(BusSecrets {
        user_jwt: String::new(),
        user_seed: seed,
        message_id_key: MessageIdKey::from_bytes(rand::random()).to_hex(),
        token: BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>()),
    })
}

fn read(secret: &DynamicObject) -> Result<BusSecrets, ClaimsError> {
    let get = |name: &'static str| {
        let text = secret.data["data"][name].as_str().ok_or(ClaimsError::Missing(name))?;
        let bytes =
            BASE64.decode(text.as_bytes()).map_err(|error| ClaimsError::Key(format!("{name}: {error}")))?;
        String::from_utf8(bytes).map_err(|error| ClaimsError::Key(format!("{name}: {error}")))
    };
    Ok(BusSecrets {
        // A JWT can always be made again; the rest cannot.
        user_jwt: get(JWT_FILE).unwrap_or_default(),
        user_seed: get(SEED_FILE)?,
        message_id_key: get(MESSAGE_ID_KEY_FILE)?,
        token: get(TOKEN_FILE)?,
    })
}
