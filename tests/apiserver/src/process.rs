//! A child process that ends with its holder, however that ends.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Runs the program given as arguments, says its process id and kills it once
/// standard input ends: when the holder lets go of it, or is killed itself.
const KEEPER: &str =
    r#""$@" </dev/null >&2 & child=$!; echo "$child"; read -r _; kill -KILL "$child"; wait "$child""#;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    keeper: Child,
    id: u32,
}

impl Process {
    /// Starts a tool; its log goes to `<name>.log` in the directory.
    pub(crate) fn start(name: &str, directory: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let program = crate::tool(name)?;
        let log = File::create(directory.join(format!("{name}.log")))?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let mut line = String::new();
        let output = keeper.stdout.take().context("no output of the keeper")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let id = line.trim().parse().with_context(|| format!("{name} has no process id"))?;
        Ok(Self { name: name.to_owned(), keeper, id })
    }

    /// Whether it still runs.
    pub(crate) fn running(&self) -> bool {
        // One that has ended has no program any more, though its keeper has not yet reaped it.
        Path::new("/proc").join(self.id.to_string()).join("exe").read_link().is_ok()
    }

    /// That it is not ready, with the end of its log.
    pub(crate) fn complaint(&self, directory: &Path) -> String {
        let text = std::fs::read_to_string(directory.join(format!("{}.log", self.name))).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        let end: Vec<_> = lines.into_iter().rev().collect();
        format!("{} does not become ready; the end of its log:\n{}", self.name, end.join("\n"))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // An error means that the keeper has ended already.
        let _ = self.keeper.wait();
    }
}

/// Ports that are free now, all different.
pub(crate) fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    // Held together, so that no two are the same.
    let mut listeners = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
