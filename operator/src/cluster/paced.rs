//! Requests at a bounded pace: what is asked for once is passed on at once; what is asked for again within a while of that
//! is passed on when the while has passed, once. kube-runtime's own debounce puts an object off for as long as it changes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio_util::time::DelayQueue;

use super::queue::Requests;

/// One object is passed on at most once in this time.
const PACE: Duration = Duration::from_millis(100);

/// The requests as the controller runtime takes them.
pub(crate) struct Paced<K: Resource<DynamicType = ()>> {
    requests: Requests<K>,
    pace: Duration,
    /// What was passed on a moment ago, and whether it was asked for again since.
    lately: HashMap<ObjectRef<K>, bool>,
    over: DelayQueue<ObjectRef<K>>,
}

/// The requests, none of them more often than that.
pub(crate) fn paced<K: Resource<DynamicType = ()>>(requests: Requests<K>) -> Paced<K> {
    Paced { requests, pace: PACE, lately: HashMap::new(), over: DelayQueue::new() }
}

impl<K: Resource<DynamicType = ()> + 'static> Stream for Paced<K> {
    type Item = Result<ObjectRef<K>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while let Poll::Ready(Some(expired)) = this.over.poll_expired(context) {
            let object = expired.into_inner();
            if this.lately.remove(&object) == Some(true) {
                return Poll::Ready(Some(Ok(this.pass(object))));
            }
        }
        loop {
            let Some(object) = ready!(this.requests.poll_recv(context)) else { return Poll::Ready(None) };
            match this.lately.get_mut(&object) {
                Some(again) => *again = true,
                None => return Poll::Ready(Some(Ok(this.pass(object)))),
            }
        }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Paced<K> {
    fn pass(&mut self, object: ObjectRef<K>) -> ObjectRef<K> {
        self.lately.insert(object.clone(), false);
        self.over.insert(object.clone(), self.pace);
        object
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::cluster::{Queue, queue};

    fn started(pace: Duration) -> (Queue<ConfigMap>, Paced<ConfigMap>) {
        let (queue, requests) = queue();
        (queue, Paced { pace, ..paced(requests) })
    }

    fn object(name: &str) -> ObjectRef<ConfigMap> {
        ObjectRef::new(name).within("shop")
    }

    #[tokio::test]
    async fn the_first_request_passes_at_once_and_those_for_others_too() {
        let (queue, mut requests) = started(Duration::from_secs(3600));
        for name in ["a", "b"] {
            queue.add(object(name)).await;
            assert_eq!(requests.next().await.unwrap().unwrap(), object(name));
        }
    }

    #[tokio::test]
    async fn those_that_follow_soon_become_one_when_the_while_has_passed() {
        let pace = Duration::from_millis(500);
        let (queue, mut requests) = started(pace);
        let began = Instant::now();
        for _ in 0..3 {
            queue.add(object("a")).await;
        }
        requests.next().await.unwrap().unwrap();
        assert_eq!(requests.next().await.unwrap().unwrap(), object("a"));
        assert!(began.elapsed() >= pace);
        let silence = tokio::time::timeout(2 * pace, requests.next()).await;
        assert!(silence.is_err(), "three requests are passed on twice: {silence:?}");
        queue.add(object("a")).await;
        assert_eq!(requests.next().await.unwrap().unwrap(), object("a"), "later it passes again");
    }

    #[tokio::test]
    async fn an_object_that_changes_all_the_time_is_not_put_off() {
        let (queue, mut requests) = started(Duration::from_millis(30));
        let changing = async {
            loop {
                queue.add(object("a")).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let passed = async {
            for _ in 0..5 {
                requests.next().await.unwrap().unwrap();
            }
        };
        tokio::select! {
            () = changing => {}
            () = passed => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it is put off"),
        }
    }

    #[tokio::test]
    async fn when_nobody_can_ask_any_more_it_ends() {
        let (queue, mut requests) = started(Duration::from_secs(3600));
        drop(queue);
        assert!(requests.next().await.is_none());
    }
}
