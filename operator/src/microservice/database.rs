//! What there is of a service's database server: its claim and its Secrets, all
//! read past the cache; and the secrets themselves, made once.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use murmur_plan::database::{CONTAINER, Held, Known, Secrets, Server, names};
use murmur_plan::labels;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::status::conditions::Problem;

use crate::cluster::{ApplyError, Owner, message};
use crate::context::Context;
use crate::error::Error;
use crate::trust::{Authority, Certificate, ClaimsError, RENEWED_BEFORE};

/// What there is.
pub(super) struct Database {
    /// What its objects are made from.
    pub(super) secrets: Secrets,
    /// What the claim says about the data on it.
    pub(super) held: Option<Held>,
    /// Whether its server is seen to be ready.
    ready: bool,
    /// The Secrets as they are.
    pub(super) live: Vec<Arc<DynamicObject>>,
}

impl Database {
    /// What planning needs of it.
    pub(super) fn known(&self) -> Known<'_> {
        Known { secrets: &self.secrets, held: self.held.as_ref(), ready: self.ready }
    }
}

/// Reads it. Passwords are made when there is neither a Secret nor a claim, and only then.
pub(super) async fn dereference(
    context: &Context,
    owner: &Owner,
    service: &ValidMicroservice,
    server: &Server,
) -> Result<Database, Error> {
    let name = labels::database(&service.name);
    let kept = read::<Secret>(context, owner, &name, true).await?;
    let claim = read::<PersistentVolumeClaim>(context, owner, &name, true).await?;
    let tls = read::<Secret>(context, owner, &labels::database_tls(&service.name), false).await?;
    let held = claim.as_ref().and_then(|claim| Held::of(claim.annotations()));
    if let Some(held) = &held
        && held.engine != server.engine.as_str()
    {
        let wanted = server.engine.as_str();
        return Err(Error::EngineDiffers { claim: name, held: held.engine.clone(), wanted });
    }
    let passwords = match (&kept, &claim) {
        (Some(secret), _) => Passwords::read(secret)
            .map_err(|source| Error::CredentialsUnusable { secret: name.clone(), source })?,
        (None, Some(_)) => return Err(Error::CredentialsLost { claim: name.clone(), secret: name }),
        (None, None) => Passwords::new(),
    };
    let names = names(&service.name, &service.mesh);
    let now = Timestamp::now().as_second();
    let certificate = certificate(&context.authority, tls.as_deref(), &names, now)
        .map_err(|source| Error::SecretUnusable { name: labels::database_tls(&service.name), source })?;
    Ok(Database {
        secrets: Secrets {
            password: passwords.service,
            admin_password: passwords.admin,
            murmur_password: passwords.murmur,
            authority: context.authority.certificate().to_owned(),
            certificate: certificate.certificate,
            key: certificate.key,
        },
        held,
        ready: context.cache.database_pods(&owner.namespace, &owner.service).iter().any(|pod| is_ready(pod)),
        live: [kept, tls].into_iter().flatten().collect(),
    })
}

fn is_ready(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|container| container.name == CONTAINER && container.ready)
}

/// What is wrong with the Secret of a database elsewhere. Its keys are looked at, not what they hold.
pub(super) async fn elsewhere(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Problem>, Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let found = secrets.get_opt(name).await.map_err(|error| ApplyError::Refused {
        kind: "Secret".to_owned(),
        name: name.to_owned(),
        done: "read",
        message: message(&error),
    })?;
    let Some(secret) = found else {
        let text = format!("there is no Secret {name} in this namespace; it goes on by itself when there is");
        return Ok(Some(Problem::new("SecretMissing", text)));
    };
    let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    if has("url") || has("host") {
        return Ok(None);
    }
    let text = format!("the Secret {name} has neither the key url nor host: add what the service needs");
    Ok(Some(Problem::new("SecretIncomplete", text)))
}

/// An object of this name, which must be ours.
async fn read<K>(
    context: &Context,
    owner: &Owner,
    name: &str,
    is_kept: bool,
) -> Result<Option<Arc<DynamicObject>>, Error>
where
    K: kube::Resource<DynamicType = ()>,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &owner.namespace, &kind);
    let found = api.get_opt(name).await.map_err(|error| ApplyError::Refused {
        kind: kind.kind.clone(),
        name: name.to_owned(),
        done: "read",
        message: message(&error),
    })?;
    if let Some(found) = &found {
        owner.must_own(&kind, name, &found.metadata, is_kept)?;
    }
    Ok(found.map(Arc::new))
}

/// The certificate that is there, or a new one when that is not what it should be or ends soon.
fn certificate(
    authority: &Authority,
    secret: Option<&DynamicObject>,
    names: &[String],
    now: i64,
) -> Result<Certificate, ClaimsError> {
    let found = secret.and_then(|secret| {
        Some(Certificate { certificate: text(secret, "tls.crt").ok()?, key: text(secret, "tls.key").ok()? })
    });
    let soon = now.saturating_add(i64::try_from(RENEWED_BEFORE.as_secs()).unwrap_or(i64::MAX));
    match found {
        Some(found) if authority.vouches(&found, names, soon) => Ok(found),
        _ => authority.issue(names, now),
    }
}

struct Passwords {
    service: String,
    admin: String,
    murmur: String,
}

impl Passwords {
    /// 256 bits each, in characters that no URL and no shell has to escape.
    fn new() -> Self {
        let password = || BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
        Self { service: password(), admin: password(), murmur: password() }
    }

    fn read(secret: &DynamicObject) -> Result<Self, ClaimsError> {
        Ok(Self {
            service: text(secret, "password")?,
            admin: text(secret, "admin-password")?,
            murmur: text(secret, "murmur-password")?,
        })
    }
}

/// A Secret's key, which must be there and hold something.
fn text(secret: &DynamicObject, key: &'static str) -> Result<String, ClaimsError> {
    let found = secret.data["data"][key].as_str().filter(|text| !text.is_empty());
    let bytes = BASE64
        .decode(found.ok_or(ClaimsError::Missing(key))?.as_bytes())
        .map_err(|error| ClaimsError::Key(format!("{key}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| ClaimsError::Key(format!("{key}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn secret(certificate: &Certificate) -> DynamicObject {
        let encoded = |text: &str| BASE64.encode(text.as_bytes());
        serde_json::from_value(json!({"metadata": {}, "data": {
            "tls.crt": encoded(&certificate.certificate), "tls.key": encoded(&certificate.key)}}))
        .unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_a_third_of_its_life_is_left() {
        let authority = Authority::new(NOW).unwrap();
        let names = ["users-db".to_owned()];
        let made = certificate(&authority, None, &names, NOW).unwrap();
        let at = |days: i64| {
            certificate(&authority, Some(&secret(&made)), &names, NOW + days * 24 * 3600).unwrap()
        };
        assert_eq!(at(59), made);
        let renewed = at(61);
        assert_ne!(renewed, made);
        assert!(authority.vouches(&renewed, &names, NOW + 150 * 24 * 3600));
    }

    #[test]
    fn a_certificate_of_another_authority_is_made_anew() {
        let names = ["users-db".to_owned()];
        let made = Authority::new(NOW).unwrap().issue(&names, NOW).unwrap();
        let mine = Authority::new(NOW).unwrap();
        assert_ne!(certificate(&mine, Some(&secret(&made)), &names, NOW).unwrap(), made);
    }

    #[test]
    fn passwords_differ_and_need_no_escape() {
        let Passwords { service, admin, murmur } = Passwords::new();
        assert!(service != admin && admin != murmur && service.len() == 43);
        assert!(service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn a_password_that_is_missing_or_empty_is_named() {
        let secret: DynamicObject =
            serde_json::from_value(json!({"metadata": {}, "data": {"password": ""}})).unwrap();
        assert_eq!(Passwords::read(&secret).err(), Some(ClaimsError::Missing("password")));
    }
}
