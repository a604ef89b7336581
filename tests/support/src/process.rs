//! What a process of ours costs, as the kernel counts it.

use anyhow::{Context, Result};

/// The kernel's clock ticks a second, as /proc reports them on Linux.
const TICKS: f64 = 100.0;

/// CPU seconds that a process has used so far, user and system.
///
/// # Errors
/// When it is not there.
pub fn cpu_seconds(pid: i32) -> Result<f64> {
    cpu_of(&format!("/proc/{pid}/stat"))
}

/// CPU seconds that this thread has used so far, user and system.
///
/// # Errors
/// When the kernel does not say.
pub fn thread_cpu_seconds() -> Result<f64> {
    cpu_of("/proc/thread-self/stat")
}

fn cpu_of(path: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(path)?;
    // The name in brackets may hold spaces: count the fields after it.
    let fields: Vec<&str> = stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Resident memory in MB: now (`VmRSS`) or its peak (`VmHWM`).
///
/// # Errors
/// When it is not there.
pub fn memory(pid: i32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
