//! A DNS server that knows what the test tells it: A and AAAA, over UDP cut to
//! 512 bytes, and over TCP.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

const TRUNCATED: u8 = 0x02;
const NAME_ERROR: u8 = 3;
const SERVER_FAILURE: u8 = 2;

#[derive(Default)]
struct Shared {
    names: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    broken: AtomicBool,
    over_udp: AtomicUsize,
    over_tcp: AtomicUsize,
}

pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

impl Dns {
    pub(crate) async fn start() -> Self {
        // A port that is free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let servers =
            [tokio::spawn(serve_udp(udp, shared.clone())), tokio::spawn(serve_tcp(tcp, shared.clone()))];
        Self { address, shared, servers }
    }

    /// The pods of a service of the mesh `shop`.
    pub(crate) fn pods(&self, service: &str, addresses: &[IpAddr]) {
        let name = format!("{service}-pods.shop.svc.cluster.local");
        self.shared.names.lock().unwrap().insert(name, addresses.to_vec());
    }

    /// From now on every answer is a failure, or none is.
    pub(crate) fn fail(&self, broken: bool) {
        self.shared.broken.store(broken, Ordering::Relaxed);
    }

    /// Questions so far, over UDP and over TCP.
    pub(crate) fn questions(&self) -> (usize, usize) {
        (self.shared.over_udp.load(Ordering::Relaxed), self.shared.over_tcp.load(Ordering::Relaxed))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = [0; 1024];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        shared.over_udp.fetch_add(1, Ordering::Relaxed);
        let mut answer = answer(&buffer[..length], &shared);
        if answer.len() > 512 {
            answer = answer[..length].to_vec();
            answer[2] |= TRUNCATED;
            answer[6..12].fill(0);
        }
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                shared.over_tcp.fetch_add(1, Ordering::Relaxed);
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&question, &shared);
                let mut message = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
                message.extend(answer);
                if stream.write_all(&message).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The answer to a message with one question (RFC 1035, section 4).
fn answer(question: &[u8], shared: &Shared) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8(question[at + 1..=at + length].to_vec()).unwrap());
        at += length + 1;
    }
    let record_type = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let end = at + 5;
    let names = shared.names.lock().unwrap();
    let known = names.get(&name.join(".").to_lowercase());
    let code = match known {
        _ if shared.broken.load(Ordering::Relaxed) => SERVER_FAILURE,
        None => NAME_ERROR,
        Some(_) => 0,
    };
    let records: Vec<Vec<u8>> = known
        .into_iter()
        .flatten()
        .filter_map(|address| match (address, record_type) {
            (IpAddr::V4(address), 1) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), 28) => Some(address.octets().to_vec()),
            _ => None,
        })
        .filter(|_| code == 0)
        .collect();
    let mut message = question[..end].to_vec();
    message[2] = 0x84 | (question[2] & 1);
    message[3] = code;
    message[4..12].fill(0);
    message[5] = 1;
    message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    for record in records {
        // The name of the question, the type, class IN, a TTL of 30 s, the length.
        message.extend([0xC0, 12, question[at + 1], question[at + 2], 0, 1, 0, 0, 0, 30, 0]);
        message.push(u8::try_from(record.len()).unwrap());
        message.extend(record);
    }
    message
}
