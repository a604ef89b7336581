//! Benchmarks: each measures Murmur beside the same work without it, in the
//! same run and in turns, since the machines that they run on are noisy.

mod alone;
mod arrivals;
mod bare;
mod floor;
mod http;
mod load;
mod operator;
mod poster;
mod receiver;
mod sidecar;
mod steady;
mod table;

use anyhow::Result;
use clap::Parser;

/// Murmur's benchmarks; run them by `make bench`.
#[derive(Parser)]
enum Command {
    /// The sidecar beside a bare async-nats client, on a real nats-server.
    Sidecar(sidecar::Arguments),
    /// The operator beside a bare client, on a real API server.
    Operator(operator::Arguments),
    /// What the operator writes while nothing changes, on a real cluster.
    Steady(steady::Arguments),
    /// The least that HTTP costs: a server that answers 204 to everything, once it has stored it or at once.
    #[command(hide = true)]
    Floor(floor::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Command::parse() {
        Command::Floor(arguments) => alone::run(|| floor::serve(arguments)).await?.result,
        Command::Sidecar(arguments) => sidecar::run(arguments).await,
        Command::Operator(arguments) => operator::run(arguments).await,
        Command::Steady(arguments) => steady::run(arguments).await,
    }
}
