//! Durables outlive the object that they belong to (no finalizer waits for
//! NATS), so those whose owner is gone are swept up afterwards.

use std::fmt::Debug;

use async_nats::Client;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use murmur_crds::{EventSubscription, Microservice};
use serde::de::DeserializeOwned;

use super::consumers::Owner;
use super::durables::remove;
use super::error::BusError;
use super::mesh::Mesh;

/// The most durables that one sweep of a mesh removes.
const LIMIT: usize = 200;

/// Knows which owners there are.
#[derive(Clone)]
pub struct Sweep {
    /// The API server, asked before anything is removed.
    pub client: kube::Client,
    /// What the watch shows; it spares the question for owners that are there.
    pub subscriptions: Store<EventSubscription>,
    /// The same of those that have an outbox.
    pub microservices: Store<Microservice>,
}

/// A durable, and whose it is.
struct Owned {
    durable: String,
    name: String,
    uid: String,
    is_outbox: bool,
}

impl Sweep {
    /// Removes the durables of a mesh whose owner is confirmed to be gone.
    pub(super) async fn run(&self, mesh: &Mesh, client: &Client) -> Result<(), BusError> {
        let owned: Vec<Owned> = {
            let observed = mesh.observed();
            let consumers = observed.consumers.iter().flatten();
            let owned = consumers.filter_map(|(durable, found)| {
                let (name, is_outbox) = match found.owner()? {
                    Owner::Subscription(name) => (name.to_owned(), false),
                    Owner::Microservice(name) => (name.to_owned(), true),
                };
                Some(Owned { durable: durable.clone(), name, uid: found.owner_uid()?.to_owned(), is_outbox })
            });
            owned.collect()
        };
        let mut removed = 0;
        for owned in owned {
            if removed >= LIMIT {
                break;
            }
            let gone = match owned.is_outbox {
                true => self.is_gone(&self.microservices, mesh, &owned).await,
                false => self.is_gone(&self.subscriptions, mesh, &owned).await,
            };
            match gone {
                Ok(false) => {}
                Ok(true) => {
                    let _alone = mesh.changing().await;
                    removed += usize::from(remove(client, &owned.durable, &owned.uid).await?);
                }
                // Not known to be gone: the next sweep asks again.
                Err(error) => {
                    let Owned { durable, name, .. } = owned;
                    tracing::warn!(durable, owner = name, %error, "could not ask whether the owner of a durable is there");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether the owner of a durable is confirmed to be gone.
    async fn is_gone<K>(&self, seen: &Store<K>, mesh: &Mesh, owned: &Owned) -> Result<bool, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + 'static,
    {
        let key = ObjectRef::new(&owned.name).within(&mesh.name);
        if seen.get(&key).and_then(|found| found.meta().uid.clone()).as_ref() == Some(&owned.uid) {
            return Ok(false);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &mesh.name);
        let found = api.get_metadata_opt(&owned.name).await?;
        Ok(found.and_then(|found| found.metadata.uid).as_ref() != Some(&owned.uid))
    }
}
