//! The sidecar beside a bare async-nats client: publishing, delivery of a
//! backlog, both of them end to end, a projection of one, how soon it is ready, and what it costs when
//! it has nothing to do. 1 KiB events, medians of rounds in turns.

mod bed;
mod consume;
mod deliver;
mod end_to_end;
mod idle;
mod loads;
mod outbox;
mod projection;
mod publish;
mod side;
mod start;

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
    /// Seconds of publishing in a round; end to end three times as long.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Events of the backlog that is delivered in a round.
    #[arg(long, default_value_t = 200_000)]
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
    deliver::measure(&arguments, &mut table).await?;
    projection::measure(&arguments, &mut table).await?;
    end_to_end::measure(&arguments, &mut table).await?;
    outbox::measure(&arguments, &mut table).await?;
    start::measure(&arguments, &mut table).await?;
    idle::measure(&arguments, &mut table).await?;
    table.finish("sidecar")
}
