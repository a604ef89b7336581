//! What the operator is told at its start: flags and environment, read once and
//! checked as a whole before anything is opened.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Uri;
use clap::{Parser, Subcommand};
use murmur_crds::{GatewayDuration, StorageQuantity};
use murmur_plan::database::Version;
use murmur_plan::settings::{DatabaseImage, DatabaseImages, EventStoreDefaults, Tracing};

/// The exit code for a mistake in the configuration (`EX_USAGE`).
pub const EXIT_MISCONFIGURED: u8 = 64;

/// What the program can do beside running.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Look at all that the operator needs, say what was found, and end: 0 when all is well.
    Check,
}

/// The command line, as text; [`Settings::parse`] makes sense of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "murmur-operator", version, about = "Reads the cluster, plans, applies, reports.")]
pub struct Flags {
    /// What to do; to run when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The operator's own namespace: its lease and its trust material live here.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// This replica's name, as the lease shows it.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub identity: String,
    /// Where NATS listens, as `nats://host:4222` or `tls://host:4222`; several are separated by commas.
    #[arg(long, env = "MURMUR_NATS_URL")]
    pub nats_url: String,
    /// The URL that sidecars are given; the operator's own when absent.
    #[arg(long, env = "MURMUR_SIDECAR_NATS_URL")]
    pub sidecar_nats_url: Option<String>,
    /// The image of the sidecar.
    #[arg(long, env = "MURMUR_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// How many Microservices have their sidecar upgraded at a time, and how many their database.
    #[arg(long, env = "MURMUR_SIDECAR_UPGRADES_AT_ONCE", default_value_t = 5)]
    pub sidecar_upgrades_at_once: usize,
    /// Where sidecars send spans over OTLP, such as http://collector.observability:4318; nowhere when absent or empty.
    #[arg(long, env = "MURMUR_SIDECAR_OTLP_ENDPOINT")]
    pub sidecar_otlp_endpoint: Option<String>,
    /// The share of the traces that begin in a sidecar which are recorded, from 0 to 1.
    #[arg(long, env = "MURMUR_SIDECAR_TRACE_SAMPLE_RATIO", default_value = "1")]
    pub sidecar_trace_sample_ratio: String,
    /// An image with the command line, for backups: the operator's own.
    #[arg(long, env = "MURMUR_CLI_IMAGE", default_value = concat!("murmur/operator:", env!("CARGO_PKG_VERSION")))]
    pub cli_image: String,
    /// The image of PostgreSQL, without a tag, for databases that do not have one of their own.
    #[arg(long, env = "MURMUR_POSTGRES_IMAGE", default_value = "docker.io/postgres")]
    pub postgres_image: String,
    /// The version of PostgreSQL, for databases that do not say; those with data keep their major version.
    #[arg(long, env = "MURMUR_POSTGRES_VERSION", default_value = "17")]
    pub postgres_version: String,
    /// The image of MariaDB, in the same way.
    #[arg(long, env = "MURMUR_MARIADB_IMAGE", default_value = "docker.io/mariadb")]
    pub mariadb_image: String,
    /// The version of MariaDB, in the same way.
    #[arg(long, env = "MURMUR_MARIADB_VERSION", default_value = "11.8")]
    pub mariadb_version: String,
    /// The image of Redis, in the same way.
    #[arg(long, env = "MURMUR_REDIS_IMAGE", default_value = "docker.io/redis")]
    pub redis_image: String,
    /// The version of Redis, in the same way.
    #[arg(long, env = "MURMUR_REDIS_VERSION", default_value = "8")]
    pub redis_version: String,
    /// Prefix of the Secret `<name>-trust` and the ConfigMap `<name>-nats-auth`.
    #[arg(long, env = "MURMUR_TRUST_NAME", default_value = "murmur")]
    pub trust_name: String,
    /// Whether the trust Secret is made by the operator (`true`, for the bundled NATS) or
    /// given by the user (`false`, for a NATS of his own).
    #[arg(long, env = "MURMUR_TRUST_CREATE", default_value_t = true, action = clap::ArgAction::Set)]
    pub trust_create: bool,
    /// Replicas of a mesh's streams, unless its Mesh says otherwise.
    #[arg(long, env = "MURMUR_MESH_REPLICAS", default_value_t = 1)]
    pub mesh_replicas: u8,
    /// Size limit of a mesh's event store, as a quantity, unless its Mesh says otherwise.
    #[arg(long, env = "MURMUR_MESH_MAX_BYTES", default_value = "5Gi")]
    pub mesh_max_bytes: String,
    /// How long a repeated publish is recognised, unless a Mesh says otherwise.
    #[arg(long, env = "MURMUR_MESH_DUPLICATE_WINDOW", default_value = "10m")]
    pub mesh_duplicate_window: String,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, env = "MURMUR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What is logged: error, warn, info, debug or a tracing filter.
    #[arg(long, env = "MURMUR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// The lease by which replicas elect the one that acts.
    #[arg(long, env = "MURMUR_LEASE_NAME", default_value = "murmur-operator")]
    pub lease_name: String,
    /// How long a lease holds without being renewed, in seconds.
    #[arg(long, env = "MURMUR_LEASE_SECONDS", default_value_t = 15)]
    pub lease_seconds: u64,
}

fn mistake(flag: &'static str, value: &str, rule: &'static str) -> Mistake {
    Mistake { flag, value: value.to_owned(), rule }
}

/// The image of a database server.
fn image(flags: [&'static str; 2], repository: String, version: &str) -> Result<DatabaseImage, Mistake> {
    if repository.is_empty() {
        return Err(mistake(flags[0], "", "give the name of an image, without a tag"));
    }
    match Version::parse(version) {
        Some(version) => Ok(DatabaseImage { repository, version }),
        None => Err(mistake(flags[1], version, "give a tag that begins with a version, such as 17 or 17.2")),
    }
}

/// What sidecars are told about traces: they would not start with anything else.
fn tracing(endpoint: &str, ratio: &str) -> Result<Option<Tracing>, Mistake> {
    let share: Option<f64> = ratio.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    let share =
        share.ok_or_else(|| mistake("sidecar-trace-sample-ratio", ratio, "give a number from 0 to 1"))?;
    if endpoint.is_empty() {
        return Ok(None);
    }
    let uri: Option<Uri> = endpoint.parse().ok();
    if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.query().is_some()) {
        let rule = "give the URL of a collector over plain HTTP, such as http://collector.observability:4318";
        return Err(mistake("sidecar-otlp-endpoint", endpoint, rule));
    }
    let sample_ratio = (share < 1.0).then(|| share.to_string());
    Ok(Some(Tracing { otlp_endpoint: endpoint.to_owned(), sample_ratio }))
}

/// The operator's configuration: a value of this type is valid.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The operator's own namespace.
    pub namespace: String,
    /// This replica's name in the lease.
    pub identity: String,
    /// Where NATS listens.
    pub nats_url: String,
    /// How many Microservices have their sidecar upgraded at a time, and how many their database.
    pub upgrades_at_once: usize,
    /// Prefix of the trust objects.
    pub trust_name: String,
    /// Whether the operator makes the trust material.
    pub trust_create: bool,
    /// What planning needs: the sidecar's image, URL and tracing, the chart's event store.
    pub plan: murmur_plan::Settings,
    /// Where the probes and metrics are served.
    pub listen: SocketAddr,
    /// A tracing filter.
    pub log_level: String,
    /// The lease's name.
    pub lease_name: String,
    /// How long the lease holds without being renewed.
    pub lease_duration: Duration,
}

/// A mistake in the flags: which, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} (or its environment variable) is {value:?}: {rule}")]
pub struct Mistake {
    flag: &'static str,
    value: String,
    rule: &'static str,
}

impl Settings {
    /// Checks the flags as a whole.
    ///
    /// # Errors
    /// The first mistake, as a sentence that says what to change.
    pub fn parse(flags: Flags) -> Result<Self, Mistake> {
        if flags.namespace.is_empty() {
            return Err(mistake("namespace", "", "give the namespace that the operator runs in"));
        }
        if flags.sidecar_image.is_empty() {
            return Err(mistake("sidecar-image", "", "give the sidecar's image"));
        }
        let sidecar_nats_url = flags.sidecar_nats_url.unwrap_or_else(|| flags.nats_url.clone());
        for (flag, urls) in [("nats-url", &flags.nats_url), ("sidecar-nats-url", &sidecar_nats_url)] {
            let valid = urls.split(',').all(|url| url.trim().parse::<async_nats::ServerAddr>().is_ok());
            if urls.is_empty() || !valid {
                return Err(mistake(flag, urls, "give URLs such as nats://nats.murmur-system.svc:4222"));
            }
        }
        if !(1..=5).contains(&flags.mesh_replicas) {
            let value = flags.mesh_replicas.to_string();
            return Err(mistake("mesh-replicas", &value, "give a number from 1 to 5"));
        }
        if !(3..=3600).contains(&flags.lease_seconds) {
            let value = flags.lease_seconds.to_string();
            return Err(mistake("lease-seconds", &value, "give a number from 3 to 3600"));
        }
        if flags.sidecar_upgrades_at_once == 0 {
            return Err(mistake("sidecar-upgrades-at-once", "0", "give a number from 1"));
        }
        if flags.log_level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            return Err(mistake("log-level", &flags.log_level, "give error, warn, info or debug"));
        }
        let max_bytes = StorageQuantity(flags.mesh_max_bytes.clone()).bytes().ok().filter(|bytes| *bytes > 0);
        let max_bytes = max_bytes
            .ok_or_else(|| mistake("mesh-max-bytes", &flags.mesh_max_bytes, "give a quantity such as 5Gi"))?;
        let window = GatewayDuration(flags.mesh_duplicate_window.clone()).parse().ok();
        let duplicate_window =
            window.filter(|window| *window >= Duration::from_secs(1)).ok_or_else(|| {
                mistake("mesh-duplicate-window", &flags.mesh_duplicate_window, "give a duration such as 10m")
            })?;
        let endpoint = flags.sidecar_otlp_endpoint.as_deref().unwrap_or_default();
        let tracing = tracing(endpoint, &flags.sidecar_trace_sample_ratio)?;
        let plan = murmur_plan::Settings {
            sidecar_image: flags.sidecar_image,
            cli_image: flags.cli_image,
            bus_url: sidecar_nats_url,
            event_store: EventStoreDefaults { replicas: flags.mesh_replicas, max_bytes, duplicate_window },
            databases: DatabaseImages {
                postgres: image(
                    ["postgres-image", "postgres-version"],
                    flags.postgres_image,
                    &flags.postgres_version,
                )?,
                mariadb: image(
                    ["mariadb-image", "mariadb-version"],
                    flags.mariadb_image,
                    &flags.mariadb_version,
                )?,
                redis: image(["redis-image", "redis-version"], flags.redis_image, &flags.redis_version)?,
            },
            tracing,
        };
        let identity = match flags.identity {
            identity if identity.is_empty() => format!("murmur-operator-{:08x}", rand::random::<u32>()),
            identity => identity,
        };
        Ok(Self {
            namespace: flags.namespace,
            identity,
            nats_url: flags.nats_url,
            upgrades_at_once: flags.sidecar_upgrades_at_once,
            trust_name: flags.trust_name,
            trust_create: flags.trust_create,
            plan,
            listen: flags.listen,
            log_level: flags.log_level,
            lease_name: flags.lease_name,
            lease_duration: Duration::from_secs(flags.lease_seconds),
        })
    }

    /// The Secret with the trust material, in the operator's namespace.
    pub fn trust_secret(&self) -> String {
        format!("{}-trust", self.trust_name)
    }

    /// The Secret with the authority for database servers, in the operator's namespace.
    pub fn authority_secret(&self) -> String {
        format!("{}-database-ca", self.trust_name)
    }

    /// The ConfigMap with NATS's part of it, in the operator's namespace.
    pub fn trust_config_map(&self) -> String {
        format!("{}-nats-auth", self.trust_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Settings, Mistake> {
        let needed =
            ["", "--namespace", "murmur-system", "--nats-url", "nats://nats:4222", "--sidecar-image", "s:1"];
        Settings::parse(Flags::try_parse_from(needed.iter().chain(more)).unwrap())
    }

    fn told(more: &[&str]) -> Option<Tracing> {
        parse(more).unwrap().plan.tracing
    }

    #[test]
    fn sidecars_are_told_of_a_collector_if_there_is_one() {
        assert_eq!(told(&[]), None);
        // So it comes from a chart whose value is empty.
        assert_eq!(told(&["--sidecar-otlp-endpoint", "", "--sidecar-trace-sample-ratio", "0.5"]), None);
        let endpoint = ["--sidecar-otlp-endpoint", "http://collector.observability:4318"];
        let all = Tracing { otlp_endpoint: endpoint[1].to_owned(), sample_ratio: None };
        assert_eq!(told(&endpoint), Some(all.clone()));
        for (given, sample_ratio) in
            [("1", None), ("1.0", None), ("0.25", Some("0.25")), ("1e-2", Some("0.01"))]
        {
            let told = told(&[&endpoint[..], &["--sidecar-trace-sample-ratio", given]].concat());
            assert_eq!(told, Some(Tracing { sample_ratio: sample_ratio.map(str::to_owned), ..all.clone() }));
        }
    }

    #[test]
    fn a_version_that_is_none_is_refused() {
        let mistake = parse(&["--postgres-version", "latest"]).unwrap_err().to_string();
        assert!(mistake.contains("postgres-version") && mistake.contains("latest"), "{mistake}");
        let images = parse(&["--postgres-image", "registry/postgres"]).unwrap().plan.databases;
        assert_eq!(images.postgres.repository, "registry/postgres");
    }

    #[test]
    fn what_would_keep_sidecars_from_starting_is_refused() {
        for (flag, value) in [
            ("sidecar-otlp-endpoint", "https://collector:4318"),
            ("sidecar-otlp-endpoint", "collector:4318"),
            ("sidecar-otlp-endpoint", "http://"),
            ("sidecar-otlp-endpoint", "http://collector:4318?x=1"),
            ("sidecar-trace-sample-ratio", "2"),
            ("sidecar-trace-sample-ratio", "NaN"),
            ("sidecar-trace-sample-ratio", "half"),
        ] {
            let mistake = parse(&[&format!("--{flag}"), value]).unwrap_err().to_string();
            assert!(mistake.contains(flag) && mistake.contains(value), "{mistake}");
        }
    }
}
