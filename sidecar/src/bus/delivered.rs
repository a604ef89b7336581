//! Where an event from a durable comes from, as the subject of its
//! acknowledgement says, and what can be said back.

use bytes::Bytes;
use murmur_mesh::durable::DurableName;
use murmur_mesh::stream;

/// It is done.
pub(crate) const ACK: Bytes = Bytes::from_static(b"+ACK");
/// It is being worked on: the broker waits longer.
pub(crate) const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
/// It is given back, to be delivered again at once.
pub(crate) const GIVE_BACK: Bytes = Bytes::from_static(b"-NAK");

/// It shall never be delivered again.
pub(crate) fn terminate(reason: &str) -> Bytes {
    Bytes::from(format!("+TERM {reason}"))
}

/// What the subject of an acknowledgement says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivered<'a> {
    /// The durable.
    pub(crate) durable: &'a str,
    /// How often it was handed out, this time included.
    pub(crate) deliveries: u64,
    /// The event's place in the stream.
    pub(crate) sequence: u64,
    /// How many events the durable had handed out by then, repeats and this one included.
    pub(crate) handed_out: u64,
    /// How many events follow it, for this durable.
    pub(crate) pending: u64,
}

impl<'a> Delivered<'a> {
    /// Reads both layouts of the subject:
    /// `$JS.ACK.<stream>.<durable>.<deliveries>.<stream sequence>.<durable's sequence>.<time>.<pending>`
    /// and, from the same on, `$JS.ACK.<domain>.<account>.<stream>.<durable>. … .<pending>[.<more>]`.
    pub(crate) fn parse(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.split('.').count();
        let skipped = if tokens >= 9 { 2 } else { 0 };
        let mut parts = rest.split('.').skip(skipped + 1);
        let durable = parts.next()?;
        let deliveries = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        let handed_out = parts.next()?.parse().ok()?;
        let pending = parts.nth(1)?.parse().ok()?;
        Some(Self { durable, deliveries, sequence, handed_out, pending })
    }
}

/// Where something can be said of an event that never came: its place in the stream
/// and how many events the durable has handed out. Of the rest the broker reads nothing.
pub(crate) fn unseen(durable: &DurableName, sequence: u64, handed_out: u64) -> String {
    format!("$JS.ACK.{}.{durable}.1.{sequence}.{handed_out}.0.0", stream::EVENTS)
}

#[cfg(test)]
mod tests {
    use murmur_mesh::durable::Shard;

    use super::*;

    #[test]
    fn both_layouts_of_the_acknowledgements_subject_are_understood() {
        let expected =
            Delivered { durable: "history-0", deliveries: 3, sequence: 100, handed_out: 7, pending: 42 };
        for reply in [
            "$JS.ACK.EVENTS.history-0.3.100.7.1790230470084404000.42",
            "$JS.ACK._.hash.EVENTS.history-0.3.100.7.1790230470084404000.42",
            "$JS.ACK._.hash.EVENTS.history-0.3.100.7.1790230470084404000.42.token",
        ] {
            assert_eq!(Delivered::parse(reply).as_ref(), Some(&expected), "{reply}");
        }
    }

    #[test]
    fn an_event_that_never_came_has_such_a_subject_too() {
        let durable = DurableName::new(&"history".parse().unwrap(), Shard::Number(0), None);
        let subject = unseen(&durable, 100, 7);
        let expected =
            Delivered { durable: "history-0", deliveries: 1, sequence: 100, handed_out: 7, pending: 0 };
        assert_eq!(Delivered::parse(&subject), Some(expected));
    }

    #[test]
    fn another_subject_is_not_taken_for_one() {
        for reply in ["", "x.y", "$JS.ACK.EVENTS.d", "$JS.ACK.EVENTS.d.1.x.3.4.5"] {
            assert_eq!(Delivered::parse(reply), None, "{reply}");
        }
    }
}
