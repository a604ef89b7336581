//! Durables outlive the object that they belong to (no finalizer waits for
//! NATS), so those whose owner is gone are swept up afterwards.

use async_nats::Client;
use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use murmur_crds::EventSubscription;

use super::durables::remove;
use super::error::BusError;
use super::mesh::Mesh;

/// The most durables that one sweep of a mesh removes.
const LIMIT: usize = 200;

/// Knows which subscriptions there are.
#[derive(Clone)]
pub struct Sweep {
    /// The API server, asked before anything is removed.
    pub client: kube::Client,
    /// What the watch shows; it spares the question for owners that are there.
    pub subscriptions: Store<EventSubscription>,
}

impl Sweep {
    /// Removes the durables of a mesh whose owner is confirmed to be gone.
    pub(super) async fn run(&self, mesh: &Mesh, client: &Client) -> Result<(), BusError> {
        let owned: Vec<(String, String, String)> = {
            let observed = mesh.observed();
            let consumers = observed.consumers.iter().flatten();
            consumers
                .filter_map(|(name, found)| {
                    Some((name.clone(), found.owner_name()?.to_owned(), found.owner_uid()?.to_owned()))
                })
                .collect()
        };
        let api: Api<EventSubscription> = Api::namespaced(self.client.clone(), &mesh.name);
        let mut removed = 0;
        for (durable, owner, uid) in owned {
            let key = ObjectRef::new(&owner).within(&mesh.name);
            let cached = self.subscriptions.get(&key).and_then(|found| found.metadata.uid.clone());
            if removed >= LIMIT || cached.as_deref() == Some(uid.as_str()) {
                continue;
            }
            match api.get_metadata_opt(&owner).await {
                Ok(found)
                    if found.as_ref().and_then(|found| found.metadata.uid.as_deref()) == Some(&*uid) => {}
                Ok(_) => {
                    let _alone = mesh.changing().await;
                    removed += usize::from(remove(client, &durable, &uid).await?);
                }
                // Not known to be gone: the next sweep asks again.
                Err(error) => {
                    tracing::warn!(durable, owner, %error, "could not ask whether the owner of a durable is there");
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
