//! The credentials of a server, and its certificate. The operator makes what is
//! in them: planning is pure and makes no secret.

use murmur_mesh::name::{MeshName, ServiceName};

use super::{CA_FILE, Engine, FOLDER, SERVICE, Server, metadata, port, redis};
use crate::invalid::Invalid;
use crate::labels;
use crate::microservice::ValidMicroservice;
use crate::object::{self, Object};

/// What is secret about a server, and what proves that it is the right one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The password of the service's own role.
    pub password: String,
    /// The password of the administrator, who comes in on the server's own socket only.
    pub admin_password: String,
    /// The password of Murmur's role.
    pub murmur_password: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// The host by which a server is reached from every namespace.
pub(super) fn host(service: &ServiceName, mesh: &MeshName) -> String {
    format!("{}.{mesh}.svc", labels::database(service))
}

/// The names that a server's certificate must hold for; the first is what clients are told.
pub fn names(service: &ServiceName, mesh: &MeshName) -> Vec<String> {
    let (name, host) = (labels::database(service), host(service, mesh));
    vec![host.clone(), format!("{name}.{mesh}"), name, "localhost".to_owned()]
}

/// The Secret of the credentials. Like the claim it has no owner, and so outlives its
/// Microservice, unless the data is to be deleted with it.
pub(super) fn secret(
    service: &ValidMicroservice,
    server: &Server,
    secrets: &Secrets,
) -> Result<Object, Invalid> {
    let name = labels::database(&service.name);
    let mut metadata = metadata(service, name.clone())?;
    if !server.storage.delete_with_service
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.remove("ownerReferences");
    }
    let host = host(&service.name, &service.mesh);
    let port = port(server.engine).to_string();
    let mut texts = vec![
        ("url", url(server.engine, &host, &port, &secrets.password)),
        ("host", host),
        ("port", port),
        ("database", SERVICE.to_owned()),
        ("username", SERVICE.to_owned()),
        ("password", secrets.password.clone()),
        ("admin-password", secrets.admin_password.clone()),
        ("murmur-password", secrets.murmur_password.clone()),
        (CA_FILE, secrets.authority.clone()),
    ];
    if server.engine == Engine::Redis {
        texts.push((redis::USERS, redis::users(secrets)));
    }
    Ok(object::secret(name, &metadata, "Opaque", texts))
}

/// The Secret of the certificate, which goes with its Microservice: it can always be made again.
pub(super) fn certificate(service: &ValidMicroservice, secrets: &Secrets) -> Result<Object, Invalid> {
    let name = labels::database_tls(&service.name);
    let texts = [("tls.crt", secrets.certificate.clone()), ("tls.key", secrets.key.clone())];
    Ok(object::secret(name.clone(), &metadata(service, name)?, "kubernetes.io/tls", texts))
}

/// The URL, with full verification as the engine's URL has it. Passwords have no character that needs an escape.
fn url(engine: Engine, host: &str, port: &str, password: &str) -> String {
    let ca = format!("{FOLDER}/{CA_FILE}");
    match engine {
        Engine::Postgres => format!(
            "postgres://{SERVICE}:{password}@{host}:{port}/{SERVICE}?sslmode=verify-full&sslrootcert={ca}"
        ),
        Engine::MariaDb => format!(
            "mysql://{SERVICE}:{password}@{host}:{port}/{SERVICE}?ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"
        ),
        // The scheme says TLS; the authority's certificate has no place in this URL.
        Engine::Redis => format!("rediss://{SERVICE}:{password}@{host}:{port}/0"),
    }
}
