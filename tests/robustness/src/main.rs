//! Runs of faults at random, each checked: `soak --runs 200`.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use murmur_robustness::run::{Outcome, run};
use murmur_robustness::scenario::Scenario;
use tokio::task::JoinSet;

/// Publishers, services, sidecars and brokers that fail at random; what must
/// hold through it is checked after each run.
#[derive(Parser)]
struct Arguments {
    /// The seed of the first run; each further one takes the next. Drawn if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// How many of them at once, each with servers of its own.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// For how long a run's faults begin, in seconds.
    #[arg(long, default_value_t = 25)]
    seconds: u64,
    /// The longest outage of the bus, in seconds.
    #[arg(long, default_value_t = 8)]
    longest: u64,
    /// One run in so many may have outages of five minutes; 0: none.
    #[arg(long, default_value_t = 0)]
    long_every: u64,
    /// End after so many minutes, whatever is left to run.
    #[arg(long)]
    minutes: Option<u64>,
    /// The sidecar's program.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Where the histories of failed runs are kept.
    #[arg(long, default_value = "target/soak")]
    keep: PathBuf,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let sidecar = match arguments.sidecar.clone() {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("sidecar-under-test"),
    };
    let began = Instant::now();
    let mut failed = 0;
    println!(
        "{:<12} servers  faults  events  refusals  deliveries  repeats  dead  backlog s  broken",
        "seed"
    );
    let is_over =
        || arguments.minutes.is_some_and(|minutes| began.elapsed() > Duration::from_secs(minutes * 60));
    let mut numbers = 0..arguments.runs;
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < arguments.at_once.max(1) && !is_over() {
            let Some(number) = numbers.next() else { break };
            let scenario = draw(&arguments, seed.wrapping_add(number), number);
            let sidecar = sidecar.clone();
            under_way.spawn(async move { anyhow::Ok((run(&sidecar, &scenario).await?, scenario)) });
        }
        let Some(ended) = under_way.join_next().await else { break };
        let (outcome, scenario) = ended??;
        println!("{}", line(&scenario, &outcome));
        if !outcome.violations.is_empty() {
            failed += 1;
            report(&arguments.keep, &scenario, &outcome)?;
        }
    }
    if !numbers.is_empty() {
        println!("{} of {} runs in the time there was", numbers.start, arguments.runs);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn draw(arguments: &Arguments, seed: u64, number: u64) -> Scenario {
    let is_long = arguments.long_every > 0 && (number + 1).is_multiple_of(arguments.long_every);
    let (seconds, longest) =
        if is_long { (arguments.seconds.max(600), 300) } else { (arguments.seconds, arguments.longest) };
    Scenario::draw(seed, Duration::from_secs(seconds), Duration::from_secs(longest))
}

fn line(scenario: &Scenario, outcome: &Outcome) -> String {
    let figures = &outcome.figures;
    format!(
        "{:<12} {:>7}  {:>6}  {:>6}  {:>8}  {:>10}  {:>7}  {:>4}  {:>9.1}  {:>6}",
        scenario.seed,
        scenario.servers,
        scenario.faults(),
        figures.events,
        figures.refusals,
        figures.deliveries,
        figures.repeats,
        figures.dead_letters,
        outcome.drained_in.as_secs_f64(),
        outcome.violations.len()
    )
}

/// What went wrong, the first of it on the screen and all of it in files.
fn report(keep: &Path, scenario: &Scenario, outcome: &Outcome) -> Result<()> {
    let folder = keep.join(scenario.seed.to_string());
    std::fs::create_dir_all(&folder)?;
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    let deliveries: Vec<String> = outcome.history.deliveries.iter().map(ToString::to_string).collect();
    std::fs::write(folder.join("violations"), violations.join("\n"))?;
    std::fs::write(folder.join("deliveries"), deliveries.join("\n"))?;
    std::fs::write(folder.join("scenario"), format!("{scenario:#?}"))?;
    std::fs::write(folder.join("history"), format!("{:#?}", outcome.history))?;
    for (pod, log) in outcome.logs.iter().enumerate() {
        std::fs::write(folder.join(format!("sidecar-{pod}.log")), log)?;
    }
    for violation in violations.iter().take(10) {
        println!("  {violation}");
    }
    println!("  all of it: {}; again: soak --seed {}", folder.display(), scenario.seed);
    Ok(())
}
