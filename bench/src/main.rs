//! Benchmarks: each measures Murmur beside the same work without it, in the
//! same run and in turns, since the machines that they run on are noisy.

mod http;
mod sidecar;
mod table;

use anyhow::Result;
use clap::Parser;

/// Murmur's benchmarks; run them by `make bench`.
#[derive(Parser)]
enum Command {
    /// The sidecar beside a bare async-nats client, on a real nats-server.
    Sidecar(sidecar::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Command::parse() {
        Command::Sidecar(arguments) => sidecar::run(arguments).await,
    }
}
