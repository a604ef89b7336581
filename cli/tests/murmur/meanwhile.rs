//! What others do on the bus just when `murmur` asks for something.

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Said, World};

/// Runs `murmur` with NATS behind a gate: what it sends to a subject that begins
/// with `subject` gets through once `act` has ended, each time.
pub async fn murmur_meanwhile(
    world: &World,
    arguments: &[&str],
    subject: &str,
    mut act: impl AsyncFnMut(),
) -> Said {
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", gate.local_addr().unwrap());
    let run = async { world.command(arguments).env("MURMUR_NATS_URL", url).output().await };
    let request = format!("PUB {subject}");
    let passing = async {
        let (mut murmur, _) = gate.accept().await.unwrap();
        let broker = world.broker_url();
        let mut broker = TcpStream::connect(broker.trim_start_matches("nats://")).await.unwrap();
        let (mut asks, mut hears) = murmur.split();
        let (mut answers, mut listens) = broker.split();
        let forth = async {
            let mut piece = vec![0; 64 * 1024];
            loop {
                let length = asks.read(&mut piece).await.unwrap();
                if length == 0 {
                    break;
                }
                let asked = String::from_utf8_lossy(&piece[..length]);
                if asked.contains(&request) {
                    act().await;
                }
                listens.write_all(&piece[..length]).await.unwrap();
            }
        };
        tokio::select! {
            () = forth => {}
            copied = copy(&mut answers, &mut hears) => drop(copied.unwrap()),
        }
        pending::<()>().await;
    };
    tokio::select! {
        said = run => said.unwrap().into(),
        () = passing => unreachable!(),
    }
}
