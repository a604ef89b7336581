//! The sidecar's program: parse everything, bind, run.

use std::process::ExitCode;

use clap::Parser;
// Linked in, it takes the place of musl's memcpy (docs/benchmarks.md).
use murmur_memory as _;
use murmur_sidecar::cli::{Cli, Command, DrainArguments, RunArguments};
use murmur_sidecar::{Listeners, Settings, drain, logging};
use tokio::signal::unix::{SignalKind, signal};

// With musl's own allocator an event takes a third more CPU (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sockets are looked at after so many tasks; 61 is tokio's own. Many become ready at once, when a batch is answered, and
/// what is to be sent to the broker should not wait for all of them.
const TASKS_BETWEEN_SOCKETS: u32 = 16;

/// `EX_USAGE` of sysexits.h: the settings are wrong, starting again will not help.
const WRONG_SETTINGS: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(WRONG_SETTINGS) } else { ExitCode::SUCCESS };
        }
    };
    // One thread: at the rates of one service, what other threads would cost in
    // memory and in wake-ups is more than they would bring.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = match runtime.event_interval(TASKS_BETWEEN_SOCKETS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start the async runtime: {error}")),
    };
    match cli.command {
        Command::Run(arguments) => runtime.block_on(run(*arguments)),
        Command::Drain(arguments) => runtime.block_on(drain_pod(arguments)),
    }
}

async fn run(arguments: RunArguments) -> ExitCode {
    let settings = match Settings::load(&arguments) {
        Ok(settings) => settings,
        Err(error) => return fail(WRONG_SETTINGS, &error.to_string()),
    };
    let level = logging::start(settings.config.log_level);
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                return fail(1, &format!("cannot listen for signals: {error}"));
            }
        };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let bind = Listeners::bind(arguments.local_address, arguments.admin_address);
    match murmur_sidecar::run(settings, bind, level, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

async fn drain_pod(arguments: DrainArguments) -> ExitCode {
    match drain::request(arguments.local_address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

fn fail(code: u8, sentence: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "murmur-sidecar: {sentence}");
    ExitCode::from(code)
}
