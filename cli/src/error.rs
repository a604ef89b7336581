//! What ends the program, and with which code.

use std::process::ExitCode;

/// The exit code for a mistake in how the program was called (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// A mistake in how the program was called: what, and what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// A mistake as an error.
pub fn mistake(text: impl Into<String>) -> anyhow::Error {
    Mistake(text.into()).into()
}

/// 64 for a mistake of the caller's, 1 for all else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Mistake>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}
