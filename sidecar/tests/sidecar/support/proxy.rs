//! A wire between the sidecar and the broker that can be cut, and that can lose some of what the broker says.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Whether this message of the broker gets lost.
type Loses = dyn Fn(&[u8]) -> bool + Send + Sync;

pub(crate) struct Wire {
    pub(crate) port: u16,
    held: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Wire {
    /// What the broker sends takes so long for each 4 KiB.
    pub(crate) async fn to(broker: u16, slowness: Duration) -> Self {
        Self::new(broker, slowness, None).await
    }

    /// What the broker sends arrives, but for the messages that get lost.
    pub(crate) async fn losing(broker: u16, loses: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self::new(broker, Duration::ZERO, Some(Arc::new(loses))).await
    }

    async fn new(broker: u16, slowness: Duration, loses: Option<Arc<Loses>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = connections.clone();
        let held = Arc::<AtomicBool>::default();
        let is_held = held.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (is_held, loses) = (is_held.clone(), loses.clone());
                let connection = tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await else { return };
                    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
                        (near.split(), far.into_split());
                    let there = tokio::io::copy(&mut from_near, &mut to_far);
                    let back = async {
                        let mut buffer = vec![0; 4096];
                        let mut frames = Frames::default();
                        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
                            tokio::time::sleep(slowness).await;
                            if is_held.load(Ordering::Relaxed) {
                                std::future::pending::<()>().await;
                            }
                            let passes = match &loses {
                                None => buffer[..length].to_vec(),
                                Some(loses) => frames.take(&buffer[..length], &**loses),
                            };
                            if to_near.write_all(&passes).await.is_err() {
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

/// What the broker has sent that is not a whole frame of its protocol yet: a line, and after that of a message its
/// payload.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// The whole frames that are there now, but for the messages that get lost.
    fn take(&mut self, more: &[u8], loses: &Loses) -> Vec<u8> {
        self.0.extend_from_slice(more);
        let mut passes = Vec::new();
        while let Some((length, is_message)) = self.first() {
            let frame: Vec<u8> = self.0.drain(..length).collect();
            if !(is_message && loses(&frame)) {
                passes.extend(frame);
            }
        }
        passes
    }

    /// How long the first frame is, once it is whole, and whether it is a message.
    fn first(&self) -> Option<(usize, bool)> {
        let line = self.0.windows(2).position(|two| two == b"\r\n")? + 2;
        let text = String::from_utf8_lossy(&self.0[..line]);
        let is_message = text.starts_with("MSG ") || text.starts_with("HMSG ");
        let payload = match is_message {
            true => text.split_whitespace().next_back()?.parse::<usize>().unwrap() + 2,
            false => 0,
        };
        (self.0.len() >= line + payload).then_some((line + payload, is_message))
    }
}

#[test]
fn of_what_the_broker_says_only_whole_messages_get_lost() {
    let mut frames = Frames::default();
    let said = b"PING\r\nMSG a 1 3\r\nbad\r\nHMSG b 1 r 2 4\r\ngood\r\n+OK\r\n";
    let loses = |message: &[u8]| message.windows(3).any(|some| some == b"bad");
    let passes: Vec<u8> = said.chunks(5).flat_map(|some| frames.take(some, &loses)).collect();
    assert_eq!(String::from_utf8(passes).unwrap(), "PING\r\nHMSG b 1 r 2 4\r\ngood\r\n+OK\r\n");
}
