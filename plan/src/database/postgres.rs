//! PostgreSQL, by the conventions of its ordinary image.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{MEBIBYTE, Recipe, SERVICE, Server, Version};

/// The port that it listens on.
pub(super) const PORT: u16 = 5432;

/// Who may come in, and how: the superuser through the local socket alone, the others by password over TLS.
const HBA: &str = "\
local   all      postgres         peer
hostssl service  service,murmur   all  scram-sha-256
";

pub(super) fn recipe(server: &Server, version: &Version) -> Recipe {
    // From 18 on the image wants the volume one folder higher.
    let (volume, data) = if version.major() >= 18 {
        ("/var/lib/postgresql", "/var/lib/postgresql/pgdata")
    } else {
        ("/var/lib/postgresql/data", "/var/lib/postgresql/data/pgdata")
    };
    let text = |text: &str| text.to_owned();
    Recipe {
        port: PORT,
        volume,
        data,
        arguments: vec![
            "postgres",
            "-c",
            "config_file=/etc/murmur/files/postgresql.conf",
            "-c",
            "hba_file=/etc/murmur/files/pg_hba.conf",
        ],
        environment: vec![
            ("PGDATA", text(data)),
            ("POSTGRES_USER", text("postgres")),
            ("POSTGRES_PASSWORD_FILE", text("/etc/murmur/credentials/admin-password")),
            ("POSTGRES_DB", text(SERVICE)),
            // Sorting that no update of the C library changes under the indexes.
            ("POSTGRES_INITDB_ARGS", text("--encoding=UTF8 --locale=C.UTF-8 --data-checksums")),
        ],
        configuration: BTreeMap::from([
            ("postgresql.conf", configuration(server)),
            ("pg_hba.conf", text(HBA)),
        ]),
        scripts: BTreeMap::from([
            ("start.sh", include_str!("scripts/start.sh")),
            ("room.sh", include_str!("scripts/room.sh")),
            ("init.sh", include_str!("scripts/postgres-init.sh")),
            ("backup.sh", include_str!("scripts/backup.sh")),
            ("save.sh", include_str!("scripts/postgres-save.sh")),
            ("find-backup.sh", include_str!("scripts/find-backup.sh")),
            ("restore.sh", include_str!("scripts/postgres-restore.sh")),
            ("ready.sh", include_str!("scripts/postgres-ready.sh")),
            ("alive.sh", include_str!("scripts/postgres-alive.sh")),
        ]),
        places: vec![("init.sh", "/docker-entrypoint-initdb.d", "90-murmur.sh")],
        writable: vec![
            ("tmp", "/tmp", None),
            ("run", "/var/run/postgresql", None),
            // What parallel workers share; the node's own is 64 MiB for a container.
            ("shm", "/dev/shm", Some(amount((server.memory / 4).max(64 * MEBIBYTE)))),
        ],
        ready: "ready.sh",
        alive: "alive.sh",
        saved_as: "password",
        credentials: vec!["admin-password", "password", "murmur-password"],
    }
}

/// The configuration that fits the memory and the volume, then what the user says.
fn configuration(server: &Server) -> String {
    let memory = server.memory.max(64 * MEBIBYTE);
    // About 5 MiB for each connection, half of the memory for all of them.
    let connections = (memory / (5 * MEBIBYTE)).clamp(25, 500);
    let work = (memory / 4 / connections).clamp(MEBIBYTE, 64 * MEBIBYTE);
    let log = (server.storage_bytes / 8).clamp(64 * MEBIBYTE, 8 << 30);
    let values = [
        ("listen_addresses", "*".to_owned()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", "/var/run/postgresql".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", "/etc/murmur/tls/tls.crt".to_owned()),
        ("ssl_key_file", "/etc/murmur/tls/tls.key".to_owned()),
        ("ssl_min_protocol_version", "TLSv1.2".to_owned()),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("max_connections", connections.to_string()),
        ("shared_buffers", megabytes(memory / 4)),
        ("effective_cache_size", megabytes(memory / 4 * 3)),
        ("work_mem", megabytes(work)),
        ("maintenance_work_mem", megabytes((memory / 16).clamp(16 * MEBIBYTE, 2 << 30))),
        // Pages that the container was not promised would end it by SIGBUS.
        ("huge_pages", "off".to_owned()),
        ("max_wal_size", megabytes(log)),
        ("min_wal_size", megabytes((log / 4).max(32 * MEBIBYTE))),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("timezone", "UTC".to_owned()),
    ];
    let mut text = String::new();
    let user = server.parameters.iter().map(|(name, value)| (name.as_str(), value.clone()));
    // The last one of a name counts.
    for (name, value) in values.into_iter().chain(user) {
        // Writing to a String never fails.
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    }
    text
}

fn megabytes(bytes: i64) -> String {
    format!("{}MB", bytes / MEBIBYTE)
}

/// As a quantity.
fn amount(bytes: i64) -> String {
    format!("{}Mi", bytes / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use super::super::tests::server;
    use super::*;

    fn value(configuration: &str, name: &str) -> String {
        let line = configuration.lines().rev().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        line.split('\'').nth(1).unwrap().to_owned()
    }

    #[test]
    fn the_configuration_fits_the_memory_that_is_requested() {
        for (memory, buffers, connections, work) in
            [("256Mi", "64MB", "51", "1MB"), ("2Gi", "512MB", "409", "1MB"), ("16Gi", "4096MB", "500", "8MB")]
        {
            let text = configuration(&server(&format!("resources: {{requests: {{memory: {memory}}}}}")));
            assert_eq!(value(&text, "shared_buffers"), buffers, "{memory}");
            assert_eq!(value(&text, "max_connections"), connections, "{memory}");
            assert_eq!(value(&text, "work_mem"), work, "{memory}");
        }
    }

    #[test]
    fn a_users_parameter_comes_last_and_stays_one_value() {
        let text =
            configuration(&server(r#"postgres: {parameters: {work_mem: 16MB, search_path: "a' b\\"}}"#));
        assert_eq!(value(&text, "work_mem"), "16MB");
        assert!(text.ends_with("search_path = 'a'' b\\\\'\nwork_mem = '16MB'\n"), "{text}");
    }

    #[test]
    fn the_volume_is_where_the_image_of_each_version_has_its_own() {
        let of = |version: &str| {
            let recipe = recipe(&server(""), &Version::parse(version).unwrap());
            (recipe.volume, recipe.data)
        };
        assert_eq!(of("17.2"), ("/var/lib/postgresql/data", "/var/lib/postgresql/data/pgdata"));
        assert_eq!(of("18"), ("/var/lib/postgresql", "/var/lib/postgresql/pgdata"));
    }
}
