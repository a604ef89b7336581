//! Redis, by the conventions of its ordinary image, with its data on disk.

use std::collections::BTreeMap;
use std::fmt::Write;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{MEBIBYTE, Recipe, SERVICE, Secrets, Server};

/// The port that it listens on.
pub(super) const PORT: u16 = 6379;
/// The key of the credentials with the users and what they may do.
pub(super) const USERS: &str = "users.acl";

pub(super) fn recipe(server: &Server) -> Recipe {
    Recipe {
        port: PORT,
        volume: "/data",
        data: "/data/appendonlydir",
        arguments: vec!["redis-server", "/etc/murmur/files/redis.conf"],
        environment: vec![],
        configuration: BTreeMap::from([("redis.conf", configuration(server))]),
        scripts: BTreeMap::from([
            ("start.sh", include_str!("scripts/start.sh")),
            ("room.sh", include_str!("scripts/room.sh")),
            ("backup.sh", include_str!("scripts/backup.sh")),
            ("save.sh", include_str!("scripts/redis-save.sh")),
            ("find-backup.sh", include_str!("scripts/find-backup.sh")),
            ("prepare.sh", include_str!("scripts/redis-prepare.sh")),
            ("ready.sh", include_str!("scripts/redis-ready.sh")),
            ("alive.sh", include_str!("scripts/redis-alive.sh")),
        ]),
        places: vec![],
        writable: vec![("tmp", "/tmp", None), ("run", "/run/redis", None)],
        ready: "ready.sh",
        alive: "alive.sh",
        saved_as: "murmur-password",
        credentials: vec![USERS, "murmur-password"],
    }
}

/// Who may do what: the service all but administration, Murmur what its probe and a backup need.
/// Passwords stand there as digests. Nobody can be `default`, yet it may do all: Redis reads its own
/// append-only file back in that name, and drops each transaction there that `default` may not make.
pub(super) fn users(secrets: &Secrets) -> String {
    let digest = |password: &str| HEXLOWER.encode(&Sha256::digest(password.as_bytes()));
    format!(
        "user default off resetpass ~* &* +@all\n\
         user {SERVICE} on #{} ~* &* +@all -@admin\n\
         user murmur on #{} resetkeys -@all +ping +config|set +info +sync +psync +replconf\n",
        digest(&secrets.password),
        digest(&secrets.murmur_password)
    )
}

/// The configuration that fits the memory, then what the user says.
fn configuration(server: &Server) -> String {
    // The limit is twice the request: a copy that is being written out may need as much again.
    let memory = (server.memory / 4 * 3).max(16 * MEBIBYTE);
    let values = [
        ("port", "0".to_owned()),
        ("tls-port", PORT.to_string()),
        ("tls-cert-file", "/etc/murmur/tls/tls.crt".to_owned()),
        ("tls-key-file", "/etc/murmur/tls/tls.key".to_owned()),
        ("tls-auth-clients", "no".to_owned()),
        ("bind", "* -::*".to_owned()),
        ("protected-mode", "no".to_owned()),
        ("unixsocket", "/run/redis/socket".to_owned()),
        ("unixsocketperm", "700".to_owned()),
        ("aclfile", format!("/etc/murmur/credentials/{USERS}")),
        ("dir", "/data".to_owned()),
        ("daemonize", "no".to_owned()),
        ("maxmemory", memory.to_string()),
        // It is a database, not a cache: what does not fit is refused, nothing is forgotten.
        ("maxmemory-policy", "noeviction".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "everysec".to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in values {
        // Writing to a String never fails.
        let _ = writeln!(text, "{name} {value}");
    }
    // The last one of a name counts.
    for (name, value) in &server.parameters {
        let _ = writeln!(text, "{name} \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text
}
