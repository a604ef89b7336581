//! The queue of objects that a controller should look at.

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

/// Requests that wait for a controller; whoever adds more waits too.
const LIMIT: usize = 1_024;

/// Where requests are added.
pub struct Queue<K: Resource<DynamicType = ()>>(mpsc::Sender<ObjectRef<K>>);

impl<K: Resource<DynamicType = ()>> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Where a controller takes them.
pub type Requests<K> = mpsc::Receiver<ObjectRef<K>>;

/// A new queue.
pub fn queue<K: Resource<DynamicType = ()>>() -> (Queue<K>, Requests<K>) {
    let (sender, receiver) = mpsc::channel(LIMIT);
    (Queue(sender), receiver)
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    /// Has the controller look at an object; waits while the queue is full.
    pub async fn add(&self, object: ObjectRef<K>) {
        // An error means that the controller has ended: nobody looks any more.
        let _ = self.0.send(object).await;
    }
}
