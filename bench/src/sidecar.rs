//! The sidecar beside a bare async-nats client: publishing, delivery of a
//! backlog, memory, and how soon it is ready. 1 KiB events, medians of rounds
//! in turns.

mod bed;
mod deliver;
mod publish;

use std::path::PathBuf;

use anyhow::Result;

use crate::table::Table;

/// What to measure with.
#[derive(clap::Args)]
pub struct Arguments {
    /// The sidecar's binary, built for release.
    #[arg(long)]
    sidecar: PathBuf,
    /// How often each side takes its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of publishing in a round.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Events of the backlog that is delivered in a round.
    #[arg(long, default_value_t = 20_000)]
    backlog: u64,
    /// Only the scenarios whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
}

impl Arguments {
    fn wants(&self, scenario: &str) -> bool {
        scenario.contains(&self.only)
    }
}

/// Runs all of it.
///
/// # Errors
/// When a server cannot be started or an event is refused.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut table = Table::default();
    publish::measure(&arguments, &mut table).await?;
    if arguments.wants("deliver a backlog") {
        deliver::measure(&arguments, &mut table).await?;
    }
    table.finish("sidecar")
}
