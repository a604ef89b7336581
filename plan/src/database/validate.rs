//! From what a user wrote about a database to what can be planned.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use murmur_crds::StorageQuantity;
use murmur_crds::database as crd;
use murmur_crds::microservice::{Resources, WhenDeleted};

use super::{Backup, Engine, Restore, Server, Version};
use crate::invalid::{self, Invalid};
use crate::microservice::{self, Storage};

const FIELD: &str = "spec.database";

/// The server that a database needs; `None` for a file of the service's own.
///
/// # Errors
/// The first thing that cannot be planned.
pub fn validate(database: &crd::Database) -> Result<Option<Server>, Invalid> {
    let engine = match database.engine {
        crd::Engine::SQLite => return Ok(None),
        crd::Engine::External if database.external.is_some() => return Ok(None),
        crd::Engine::External => {
            let (field, value) = (format!("{FIELD}.external"), "nothing".to_owned());
            return Err(Invalid::InvalidValue { field, value, rule: "External needs to know where it is" });
        }
        crd::Engine::Postgres => Engine::Postgres,
        crd::Engine::MariaDB => Engine::MariaDb,
        crd::Engine::Redis => Engine::Redis,
    };
    let version = database.version.as_deref().map(version).transpose()?;
    let storage = storage(database)?;
    let (resources, memory) = resources(engine, database.resources.as_ref())?;
    let parameters = match engine {
        Engine::Postgres => database.postgres.as_ref().map(|settings| settings.parameters.clone()),
        Engine::MariaDb => database.mariadb.as_ref().map(|settings| settings.parameters.clone()),
        Engine::Redis => database.redis.as_ref().map(|settings| settings.parameters.clone()),
    };
    Ok(Some(Server {
        engine,
        version,
        image: database.image.clone(),
        resources: microservice::resources(&format!("{FIELD}.resources"), &resources)?,
        memory,
        storage_bytes: bytes("storage.size", &storage.size)?,
        storage,
        parameters: parameters.unwrap_or_default(),
        backup: database.backup.as_ref().map(backup).transpose()?,
        restore: database
            .restore_from
            .as_ref()
            .map(|from| Restore { claim: from.claim_name.clone(), backup: from.backup.clone() }),
    }))
}

fn version(text: &str) -> Result<Version, Invalid> {
    Version::parse(text).ok_or_else(|| Invalid::InvalidValue {
        field: format!("{FIELD}.version"),
        value: text.to_owned(),
        rule: "a version is a number such as 17 or 17.2",
    })
}

/// The volume of a database.
pub(crate) fn storage(database: &crd::Database) -> Result<Storage, Invalid> {
    let field = format!("{FIELD}.storage");
    let Some(storage) = &database.storage else {
        let rule = "this engine keeps its data on a volume: set storage";
        return Err(Invalid::InvalidValue { field, value: "nothing".to_owned(), rule });
    };
    storage
        .size
        .bytes()
        .map_err(|error| Invalid::InvalidQuantity { field: format!("{field}.size"), error })?;
    Ok(Storage {
        size: storage.size.to_core(),
        storage_class_name: storage.storage_class_name.clone(),
        delete_with_service: storage.when_deleted == WhenDeleted::Delete,
        sqlite: database.engine == crd::Engine::SQLite,
    })
}

/// The resources of a server, and the memory in bytes that it is configured for.
fn resources(engine: Engine, wanted: Option<&Resources>) -> Result<(Resources, i64), Invalid> {
    let mut all = wanted.cloned().unwrap_or_default();
    all.requests.entry("cpu".to_owned()).or_insert_with(|| Quantity("50m".to_owned()));
    let usual = match engine {
        Engine::Postgres | Engine::MariaDb => "256Mi",
        Engine::Redis => "64Mi",
    };
    let limit = all.limits.get("memory").cloned();
    let requested = all
        .requests
        .entry("memory".to_owned())
        .or_insert_with(|| limit.clone().unwrap_or_else(|| Quantity(usual.to_owned())))
        .clone();
    let memory = bytes("resources.requests.memory", &requested)?;
    all.limits.entry("memory".to_owned()).or_insert_with(|| Quantity((memory.saturating_mul(2)).to_string()));
    Ok((all, memory))
}

fn backup(wanted: &murmur_crds::mesh::Backup) -> Result<Backup, Invalid> {
    bytes("backup.storage.size", &wanted.storage.size.to_core())?;
    let field = format!("{FIELD}.backup.keep");
    Ok(Backup {
        schedule: wanted.schedule.clone(),
        keep: invalid::within(&field, wanted.keep, 1..=1000, "keep is a number from 1 to 1000")?,
        size: wanted.storage.size.0.clone(),
        storage_class_name: wanted.storage.storage_class_name.clone(),
    })
}

fn bytes(field: &str, amount: &Quantity) -> Result<i64, Invalid> {
    StorageQuantity(amount.0.clone())
        .bytes()
        .map_err(|error| Invalid::InvalidQuantity { field: format!("{FIELD}.{field}"), error })
}
