//! `murmur-operator`: parses the flags, then hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use murmur_operator::process;
use murmur_operator::settings::{EXIT_MISCONFIGURED, Flags, Settings};

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version are no mistakes: clap tells them apart.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_MISCONFIGURED) } else { ExitCode::SUCCESS };
        }
    };
    let settings = match Settings::parse(flags) {
        Ok(settings) => settings,
        Err(mistake) => {
            eprintln!("murmur-operator: {mistake}");
            return ExitCode::from(EXIT_MISCONFIGURED);
        }
    };
    process::start(settings)
}
