//! The floor of anything that takes HTTP requests: a hyper server that reads
//! the body and answers 204, on one thread, as a process of its own.

use std::convert::Infallible;
use std::process::Stdio;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

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
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request: Request<Incoming>| async move {
            let _ = request.into_body().collect().await;
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok::<_, Infallible>(response)
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}
