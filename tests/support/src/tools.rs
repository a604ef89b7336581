//! Where the programs are that tests need.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The folder in which `make cluster` and `tests/cluster/tools.sh` keep what they build.
///
/// # Errors
/// When neither `MURMUR_CACHE` nor a home folder is known.
pub fn cache() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MURMUR_CACHE") {
        return Ok(path.into());
    }
    if let Some(path) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(path).join("murmur"));
    }
    let home = std::env::var_os("HOME").context("neither MURMUR_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/murmur"))
}

/// A program from that folder.
///
/// # Errors
/// When it is not there; the text says how to install it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = cache()?.join("bin").join(name);
    if !path.exists() {
        bail!("{name} is not installed; run: tests/cluster/tools.sh {name}");
    }
    Ok(path)
}
