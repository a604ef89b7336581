//! The API server itself.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::{Options, TestApiServer};

#[tokio::test]
async fn it_serves_writes_its_audit_log_and_ends_with_its_holder() {
    let server = TestApiServer::start_with(&Options { audit: true, ..Options::default() }).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(server.client().await.unwrap());
    assert!(!namespaces.list(&kube::api::ListParams::default()).await.unwrap().items.is_empty());
    let log = std::fs::read_to_string(server.audit_log()).unwrap();
    assert!(log.contains("\"resource\":\"namespaces\""));
    let processes = [server.apiserver_id(), server.etcd_id()];
    drop(server);
    for id in processes {
        assert!(!std::path::Path::new(&format!("/proc/{id}/exe")).exists(), "{id} still runs");
    }
}
