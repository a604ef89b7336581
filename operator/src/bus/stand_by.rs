//! Keeping hands off the streams while somebody restores them from a backup.

use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use murmur_mesh::restoring::{DONE, HOLDS, INTERVAL};
use tokio::time::timeout;

/// The word that the streams are being restored, if it is being given just now.
pub(super) async fn being_restored(words: &mut Subscriber) -> Option<Message> {
    timeout(INTERVAL + Duration::from_millis(500), words.next()).await.ok().flatten()
}

/// Waits until the restore has ended, or nothing more is heard of it.
pub(super) async fn stand_by(client: &Client, words: &mut Subscriber, mut word: Message) {
    loop {
        if let Some(reply) = word.reply {
            // Lost, it is asked again or given up there.
            let _ = client.publish(reply, Bytes::new()).await;
        }
        if word.payload == DONE {
            return;
        }
        match timeout(HOLDS, words.next()).await {
            Ok(Some(next)) => word = next,
            Ok(None) | Err(_) => return,
        }
    }
}
