//! NATS inside the cluster, reached through the API server: a port of this
//! machine's loopback, of which each connection goes to a pod of NATS.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// The port of NATS when its URL names none.
const NATS_PORT: u16 = 4222;

/// Opens the way to `url`, which names a Service of the cluster; returns the URL to use here.
pub async fn open(client: &Client, url: &str) -> Result<String> {
    let Some((service, namespace, port)) = service_of(url) else {
        bail!("{url} is not in the cluster, so it is not reached through the API server: give --nats-url");
    };
    let pod = pod(client, &service, &namespace).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port of loopback is free")?;
    let here = listener.local_addr()?.port();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (pods, pod) = (pods.clone(), pod.clone());
            tokio::spawn(async move {
                if let Err(error) = forward(&pods, &pod, port, connection).await {
                    eprintln!("murmur: the connection to pod {pod} through the API server ended: {error:#}");
                }
            });
        }
    });
    Ok(format!("nats://127.0.0.1:{here}"))
}

async fn forward(pods: &Api<Pod>, pod: &str, port: u16, mut near: TcpStream) -> Result<()> {
    let mut forwarder = pods
        .portforward(pod, &[port])
        .await
        .context("it refuses; may you get and create pods/portforward?")?;
    let mut far = forwarder.take_stream(port).context("it opened no stream")?;
    // How it ends is no news: whoever uses it sees that.
    let _ = copy_bidirectional(&mut near, &mut far).await;
    Ok(())
}

/// A ready pod behind the Service.
async fn pod(client: &Client, service: &str, namespace: &str) -> Result<String> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = services
        .get(service)
        .await
        .with_context(|| format!("the Service {service} of NATS in namespace {namespace} cannot be read"))?;
    let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
    let selector: Vec<String> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods
        .list(&ListParams::default().labels(&selector.join(",")))
        .await
        .with_context(|| format!("the pods of NATS in namespace {namespace} cannot be listed"))?;
    pods.items
        .into_iter()
        .find(is_ready)
        .and_then(|pod| pod.metadata.name)
        .with_context(|| format!("no pod of NATS is ready in namespace {namespace}"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|found| found.type_ == "Ready" && found.status == "True")
}

/// Service, namespace and port of a URL such as `nats://nats.murmur-system.svc:4222`.
fn service_of(url: &str) -> Option<(String, String, u16)> {
    let first = url.split(',').next()?.trim();
    let address = first.split_once("://").map_or(first, |(_, rest)| rest);
    let address = address.rsplit('@').next()?.trim_end_matches('/');
    let (host, port) = match address.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (address, NATS_PORT),
    };
    let mut labels = host.split('.');
    let (service, namespace, svc) = (labels.next()?, labels.next()?, labels.next()?);
    (svc == "svc").then(|| (service.to_owned(), namespace.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_inside_the_cluster_names_its_service() {
        let found =
            |url| service_of(url).map(|(service, namespace, port)| format!("{namespace}/{service}:{port}"));
        assert_eq!(
            found("nats://murmur-nats.murmur-system.svc:4222").as_deref(),
            Some("murmur-system/murmur-nats:4222")
        );
        assert_eq!(found("tls://n.x.svc.cluster.local").as_deref(), Some("x/n:4222"));
        assert_eq!(found("nats://nats.example.com:4222"), None);
        assert_eq!(found("nats://10.0.0.1:4222"), None);
    }
}
