//! Watching one kind: a store of what is there, and word of each change.

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;

/// What a watch saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<K> {
    /// It is there, new or changed.
    There(K),
    /// It is gone.
    Gone(K),
}

/// Watches a kind until it is dropped. `trim` removes what nobody reads, `seen`
/// hears of each change after the store has it.
pub async fn watch<K, F>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    trim: impl Fn(&mut K) + Clone,
    seen: impl Fn(Seen<K>) -> F,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
    F: Future<Output = ()>,
{
    run(watcher(api, config).default_backoff(), &mut writer, trim, seen).await;
}

/// The same for a kind that is known only when it runs.
pub(super) async fn run<K, F>(
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>>,
    writer: &mut Writer<K>,
    trim: impl Fn(&mut K),
    seen: impl Fn(Seen<K>) -> F,
) where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
    F: Future<Output = ()>,
{
    let mut stream = std::pin::pin!(stream);
    let mut listed: Vec<K> = Vec::new();
    while let Some(event) = stream.next().await {
        let mut event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "a watch was interrupted; it goes on");
                continue;
            }
        };
        if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &mut event {
            object.managed_fields_mut().clear();
            trim(object);
        }
        let before = match &event {
            // Whatever is not listed again has gone unseen.
            Event::InitDone => writer.as_reader().state(),
            _ => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        match event {
            Event::Apply(object) => seen(Seen::There(object)).await,
            Event::Delete(object) => seen(Seen::Gone(object)).await,
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.push(object),
            Event::InitDone => {
                let uids: std::collections::HashSet<_> = listed.iter().map(ResourceExt::uid).collect();
                for gone in before.iter().filter(|object| !uids.contains(&object.uid())) {
                    seen(Seen::Gone(K::clone(gone))).await;
                }
                for object in listed.drain(..) {
                    seen(Seen::There(object)).await;
                }
            }
        }
    }
}

/// A store and its writer for a kind that is known when the program is built.
pub(crate) fn store<K>() -> (Store<K>, Writer<K>)
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let writer = Writer::default();
    (writer.as_reader(), writer)
}
