//! A wire between the sidecar and the broker that can be cut.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Wire {
    pub(crate) port: u16,
    held: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Wire {
    /// What the broker sends takes so long for each 4 KiB.
    pub(crate) async fn to(broker: u16, slowness: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = connections.clone();
        let held = Arc::<AtomicBool>::default();
        let is_held = held.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let is_held = is_held.clone();
                let connection = tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await else { return };
                    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
                        (near.split(), far.into_split());
                    let there = tokio::io::copy(&mut from_near, &mut to_far);
                    let back = async {
                        let mut buffer = vec![0; 4096];
                        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
                            tokio::time::sleep(slowness).await;
                            if is_held.load(Ordering::Relaxed) {
                                std::future::pending::<()>().await;
                            }
                            if to_near.write_all(&buffer[..length]).await.is_err() {
                                return;
                            }
                        }
                    };
                    tokio::select! {
                        _ = there => {}
                        () = back => {}
                    }
                });
                all.lock().unwrap().push(connection);
            }
        });
        Self { port, held, accepting, connections }
    }

    /// Cuts all connections; new ones are possible at once.
    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
        self.held.store(false, Ordering::Relaxed);
    }

    /// Nothing of what the broker says arrives any more, until it is cut.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Cuts all connections; there will be no new ones.
    pub(crate) fn end(&self) {
        self.accepting.abort();
        self.cut();
    }
}
