//! The floor of anything that takes HTTP requests: a hyper server that reads
//! the body and answers 204, on one thread, as a process of its own.

use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::receiver;

/// The server's process; killed, by its id, when dropped.
pub struct Echo {
    child: Child,
    /// Its port.
    pub port: u16,
}

impl Echo {
    /// Starts this program once more, as the server.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("echo")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("the server has no output")?;
        let line = BufReader::new(out).lines().next_line().await?.context("the server has ended")?;
        Ok(Self { child, port: line.parse()? })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id().context("the server has ended")?)?)
    }
}

/// Serves until it is killed; the first line of its output is its port.
///
/// # Errors
/// When it cannot listen.
#[allow(clippy::print_stdout, reason = "whoever started it reads its port there")]
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    receiver::serve(listener, drop).await
}
