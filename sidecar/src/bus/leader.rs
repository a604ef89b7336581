//! Whether what the bus says of a durable is its leader's word. Pure.
//!
//! While a cluster starts, a server that knows a durable's configuration, and nothing of its state yet, answers a
//! question about it in the leader's stead: with zeros, and no word of the cluster. A member that has no leader yet may
//! answer too, with what it knows (`jsConsumerInfoRequest` of nats-server 2.15). Whoever took that for how far the durable
//! is would deliver past what others hold, or be ready too early.

use async_nats::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The part of CONSUMER.INFO that matters here.
#[derive(Deserialize)]
struct Info {
    cluster: Option<Cluster>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
}

/// Whether the answer, one about a durable, counts. A refusal does.
pub(crate) fn speaks(client: &Client, answer: &[u8]) -> bool {
    counts(answer, client.server_info().cluster.is_some())
}

fn counts(answer: &[u8], in_cluster: bool) -> bool {
    let Ok(info) = serde_json::from_slice::<Info>(answer) else { return false };
    info.error.is_some() || info.cluster.map_or(!in_cluster, |cluster| !cluster.leader.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &[u8] =
        br#"{"name":"a-0","created":"2026-11-22T00:00:00Z","config":{},"num_ack_pending":0}"#;

    #[test]
    fn a_server_alone_leads() {
        assert!(counts(ZEROS, false));
    }

    #[test]
    fn in_a_cluster_an_answer_without_its_leader_says_nothing() {
        assert!(!counts(ZEROS, true), "the durable's state is not there yet");
        assert!(!counts(br#"{"cluster":{"name":"c","replicas":[]}}"#, true), "nobody leads");
        assert!(counts(br#"{"cluster":{"name":"c","leader":"s-1"}}"#, true));
    }

    #[test]
    fn a_refusal_counts_and_what_cannot_be_read_does_not() {
        assert!(counts(
            br#"{"error":{"code":404,"err_code":10014,"description":"consumer not found"}}"#,
            true
        ));
        assert!(!counts(b"?", false));
    }
}
