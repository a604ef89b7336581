//! `murmur`, also `kubectl murmur`: looks at a mesh and administers it.
//!
//! Every verb reads or asks through [`bus::Bus`], which [`reach`] opens with the
//! credentials that the operator keeps in the mesh's namespace.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod bus;
mod dead_letters;
mod error;
mod events;
mod mesh;
mod output;
mod port_forward;
mod reach;
mod status;
mod stored;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Verb};
use crate::error::{EXIT_USAGE, exit_code};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody may be reading any more.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("murmur: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Box::pin(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("murmur: {error:#}");
            exit_code(&error)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { common, verb } = arguments;
    match verb {
        Verb::Status => status::status(&common).await,
        Verb::Deadletters(verb) => dead_letters::run(&common, verb).await,
        Verb::Events(verb) => events::run(&common, verb).await,
        Verb::Mesh(verb) => mesh::run(&common, verb).await,
    }
}
