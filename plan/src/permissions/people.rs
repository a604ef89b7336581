//! What people may do on the bus.

use murmur_mesh::people::Person;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use murmur_mesh::{api, erased, restoring, subject};

use super::Permissions;

/// The streams that people see. Not the configurations: those are the operator's.
const STREAMS: [&str; 2] = [EVENTS, DEAD_LETTERS];

/// The permissions of a person.
///
/// Whoever looks reads message by message and makes no consumer: the subject of
/// that request names the consumer, so whoever may make any could change a
/// subscription's durable.
pub fn of_person(person: Person) -> Permissions {
    let mut publish = Vec::new();
    for stream in STREAMS {
        publish.extend([
            api::stream_info(stream),
            api::message_get(stream),
            api::consumer_list(stream),
            api::consumer_names(stream),
            api::consumer_info(stream, "*"),
            api::snapshot(stream),
            api::snapshot_ack(stream),
        ]);
        if person == Person::Admin {
            publish.extend([
                api::message_delete(stream),
                api::purge(stream),
                api::stream_delete(stream),
                api::restore(stream),
                api::snapshot_restore(stream),
                api::consumer_reset(stream, "*"),
            ]);
        }
    }
    if person == Person::Admin {
        publish.extend([
            subject::ALL_REDRIVES.to_owned(),
            erased::permission(),
            restoring::SUBJECT.to_owned(),
        ]);
    }
    publish.sort_unstable();
    Permissions { publish, subscribe: vec![format!("{}.>", person.inbox_prefix())] }
}
