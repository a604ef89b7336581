//! The command line: what the pod's template sets, mostly through its environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::startup::WaitFor;
use crate::trace::TraceArguments;

/// The sidecar of a Murmur service.
#[derive(Debug, Parser)]
#[command(name = "murmur-sidecar", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the service in this pod until SIGTERM.
    Run(Box<RunArguments>),
    /// Ask the sidecar in this pod to stop receiving, and wait until it has: the pod's preStop.
    Drain(DrainArguments),
}

/// The arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Where the bus is; several addresses are separated by commas.
    #[arg(long, env = "MURMUR_BUS_URL")]
    pub bus_url: String,
    /// The configuration to boot from; the bus may hold a newer one.
    #[arg(long, env = "MURMUR_CONFIG", default_value = "/var/run/murmur/config/config.json")]
    pub config: PathBuf,
    /// The folder of the bus Secret: user.jwt, user.nk, message-id.key, token.
    #[arg(long, env = "MURMUR_BUS_CREDENTIALS", default_value = "/var/run/murmur/bus")]
    pub bus_credentials: PathBuf,
    /// The name of this pod.
    #[arg(long, env = "MURMUR_POD")]
    pub pod: String,
    /// The service's volume: no two pods may write it, so it is locked first.
    #[arg(long, env = "MURMUR_DATA")]
    pub data: Option<PathBuf>,
    /// The service's SQLite database, created before the service starts.
    #[arg(long, env = "MURMUR_DATABASE_PATH")]
    pub database_path: Option<PathBuf>,
    /// The folder that says how to reach the service's Postgres database.
    #[arg(long, env = "MURMUR_DATABASE")]
    pub database: Option<PathBuf>,
    /// What the pod's readiness waits for.
    #[arg(long, env = "MURMUR_WAIT_FOR", value_enum, default_value = "Started")]
    pub wait_for: WaitFor,
    /// The DNS server that knows the pods of other services; those of /etc/resolv.conf if absent.
    #[arg(long, env = "MURMUR_DNS")]
    pub dns: Option<SocketAddr>,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceArguments,
    /// Where the service reaches the sidecar.
    #[arg(long, env = "MURMUR_LOCAL_ADDRESS", default_value = "127.0.0.1:3600")]
    pub local_address: SocketAddr,
    /// Where probes and metrics are answered.
    #[arg(long, env = "MURMUR_ADMIN_ADDRESS", default_value = "0.0.0.0:3601")]
    pub admin_address: SocketAddr,
}

/// The arguments of `drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArguments {
    /// Where the sidecar in this pod listens.
    #[arg(long, env = "MURMUR_LOCAL_ADDRESS", default_value = "127.0.0.1:3600")]
    pub local_address: SocketAddr,
}
