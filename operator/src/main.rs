//! `murmur-operator`: parses the flags, then hands over to the library.

use std::process::ExitCode;

use clap::Parser;
// Linked in, it takes the place of musl's memcpy (docs/benchmarks.md).
use murmur_memory as _;
use murmur_operator::settings::{Command, EXIT_MISCONFIGURED, Flags, Settings};
use murmur_operator::{check, process};

// With musl's own allocator it takes a third more CPU (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version are no mistakes: clap tells them apart.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_MISCONFIGURED) } else { ExitCode::SUCCESS };
        }
    };
    let command = flags.command;
    let settings = match Settings::parse(flags) {
        Ok(settings) => settings,
        Err(mistake) => {
            eprintln!("murmur-operator: {mistake}");
            return ExitCode::from(EXIT_MISCONFIGURED);
        }
    };
    match command {
        None => process::start(settings),
        Some(Command::Check) => look(settings),
    }
}

#[allow(clippy::print_stdout)] // What it found is its output.
fn look(settings: Settings) -> ExitCode {
    let found = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async { check::check(settings, kube::Client::try_default().await?).await })
    });
    match found {
        Ok(found) => {
            found.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("murmur-operator check: {error:#}");
            ExitCode::FAILURE
        }
    }
}
