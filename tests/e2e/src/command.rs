//! The commands that a user would type, run for real.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use murmur_test_support::tools::cache;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The kubeconfig of the cluster under test.
///
/// # Errors
/// When it is not there.
pub fn kubeconfig() -> Result<PathBuf> {
    let path = match std::env::var_os("MURMUR_TEST_KUBECONFIG") {
        Some(path) => path.into(),
        None => cache()?.join("kubeconfig"),
    };
    if !path.exists() {
        bail!("no kubeconfig at {}: run `make cluster`, or set MURMUR_TEST_KUBECONFIG", path.display());
    }
    Ok(path)
}

/// How long a command may take: installing Murmur waits for its pods.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs kubectl, helm or murmur with `input` on its standard input; gives what it prints.
///
/// # Errors
/// When it ends with a failure, and what it said is in the error; when it does not end within ten minutes.
pub async fn run(program: &str, args: &[&str], input: &str) -> Result<String> {
    let path = std::env::join_paths(
        std::iter::once(cache()?.join("bin"))
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("KUBECONFIG", kubeconfig()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            let installer = if program == "murmur" { "images/build.sh" } else { "tests/cluster/tools.sh" };
            format!("could not start {program}; `{installer} {program}` installs it")
        })?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = ended.with_context(|| format!("{program} {} did not end", args.join(" ")))??;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
