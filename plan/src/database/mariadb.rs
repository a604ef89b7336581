//! MariaDB, by the conventions of its ordinary image.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{MEBIBYTE, Recipe, SERVICE, Server};

/// The port that it listens on.
pub(super) const PORT: u16 = 3306;

pub(super) fn recipe(server: &Server) -> Recipe {
    let text = |text: &str| text.to_owned();
    let data = "/var/lib/mysql/data";
    Recipe {
        port: PORT,
        volume: "/var/lib/mysql",
        data,
        arguments: vec!["mariadbd"],
        environment: vec![
            ("MARIADB_ROOT_PASSWORD_FILE", text("/etc/murmur/credentials/admin-password")),
            ("MARIADB_ROOT_HOST", text("localhost")),
            ("MARIADB_DATABASE", text(SERVICE)),
            ("MARIADB_USER", text(SERVICE)),
            ("MARIADB_PASSWORD_FILE", text("/etc/murmur/credentials/password")),
        ],
        configuration: BTreeMap::from([("murmur.cnf", configuration(server, data))]),
        scripts: BTreeMap::from([
            ("start.sh", include_str!("scripts/start.sh")),
            ("room.sh", include_str!("scripts/room.sh")),
            ("init.sh", include_str!("scripts/mariadb-init.sh")),
            ("backup.sh", include_str!("scripts/backup.sh")),
            ("save.sh", include_str!("scripts/mariadb-save.sh")),
            ("find-backup.sh", include_str!("scripts/find-backup.sh")),
            ("restore.sh", include_str!("scripts/mariadb-restore.sh")),
            ("ready.sh", include_str!("scripts/mariadb-ready.sh")),
            ("alive.sh", include_str!("scripts/mariadb-alive.sh")),
        ]),
        places: vec![
            ("init.sh", "/docker-entrypoint-initdb.d", "90-murmur.sh"),
            ("murmur.cnf", "/etc/mysql/conf.d", "murmur.cnf"),
        ],
        writable: vec![("tmp", "/tmp", None), ("run", "/run/mysqld", None)],
        ready: "ready.sh",
        alive: "alive.sh",
        saved_as: "password",
        credentials: vec!["admin-password", "password"],
    }
}

/// The configuration that fits the memory and the volume, then what the user says.
fn configuration(server: &Server, data: &str) -> String {
    let memory = server.memory.max(128 * MEBIBYTE);
    // About 4 MiB for each connection, a quarter of the memory for all of them.
    let connections = (memory / 4 / (4 * MEBIBYTE)).clamp(25, 500);
    let log = (server.storage_bytes / 16).clamp(32 * MEBIBYTE, 2 << 30);
    let values = [
        ("datadir", data.to_owned()),
        ("bind_address", "*".to_owned()),
        ("port", PORT.to_string()),
        ("skip_name_resolve", "ON".to_owned()),
        ("require_secure_transport", "ON".to_owned()),
        ("tls_version", "TLSv1.2,TLSv1.3".to_owned()),
        ("ssl_cert", "/etc/murmur/tls/tls.crt".to_owned()),
        ("ssl_key", "/etc/murmur/tls/tls.key".to_owned()),
        ("local_infile", "OFF".to_owned()),
        ("tmpdir", "/tmp".to_owned()),
        ("max_connections", connections.to_string()),
        ("innodb_buffer_pool_size", mebibytes(memory / 2)),
        ("innodb_log_file_size", mebibytes(log)),
        ("performance_schema", "OFF".to_owned()),
        ("character_set_server", "utf8mb4".to_owned()),
        // A transaction that was answered is on disk.
        ("innodb_flush_log_at_trx_commit", "1".to_owned()),
    ];
    let mut text = "[mariadbd]\n".to_owned();
    let user = server.parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
    // The last one of a name counts.
    for (name, value) in values.into_iter().chain(user) {
        // Writing to a String never fails.
        let _ = writeln!(text, "{name} = \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text
}

fn mebibytes(bytes: i64) -> String {
    format!("{}M", bytes / MEBIBYTE)
}
