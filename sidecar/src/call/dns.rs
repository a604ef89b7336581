//! Where the pods of a service are, as the cluster's DNS says.
//!
//! The C library's resolver would not do: musl's returns at most 48 addresses
//! and blocks a thread. This one asks for A and AAAA, falls back to TCP when an
//! answer was cut, and keeps nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use murmur_mesh::name::{MeshName, ServiceName};

/// How long one question may take before it is asked again.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Where clusters have their names, unless resolv.conf says otherwise.
const USUAL_DOMAIN: &str = "cluster.local";

/// The cluster's DNS.
#[derive(Debug)]
pub(crate) struct Dns {
    resolver: TokioResolver,
    /// `<mesh>.svc.<cluster's domain>.`
    suffix: String,
}

impl Dns {
    /// The name servers of resolv.conf, or this one alone.
    ///
    /// # Errors
    /// When there is no resolv.conf, or it names no server.
    pub(crate) fn new(server: Option<SocketAddr>, mesh: &MeshName) -> Result<Self, NetError> {
        let config = match server {
            Some(server) => only(server),
            None => hickory_resolver::system_conf::read_system_conf()?.0,
        };
        let search: Vec<_> = config.search().iter().map(ToString::to_string).collect();
        let suffix = suffix(mesh, &search);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options())
            .build()?;
        Ok(Self { resolver, suffix })
    }

    /// The addresses of a service's pods; none when there is no such name.
    ///
    /// # Errors
    /// When no name server answers.
    pub(crate) async fn pods(&self, service: &ServiceName) -> Result<Vec<IpAddr>, NetError> {
        let name = format!("{service}-pods.{}", self.suffix);
        match self.resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 2;
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options
}

/// Full names are asked for: one question instead of one for each search
/// domain, and none that leaves the cluster. Which domain that is, the search
/// list says: in a pod it holds `<namespace>.svc.<domain>`.
fn suffix(mesh: &MeshName, search: &[String]) -> String {
    let own = format!("{mesh}.svc.");
    let found = search.iter().find(|domain| domain.starts_with(&own) && domain.len() > own.len());
    match found {
        Some(domain) => format!("{}.", domain.trim_end_matches('.')),
        None => format!("{own}{USUAL_DOMAIN}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_domain_comes_from_the_search_list() {
        let mesh = "shop".parse().unwrap();
        let of = |search: &[&str]| suffix(&mesh, &search.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            of(&["shop.svc.example.org.", "svc.example.org.", "example.org."]),
            "shop.svc.example.org."
        );
        assert_eq!(of(&["host.example.com"]), "shop.svc.cluster.local.");
        assert_eq!(of(&["shop.svc."]), "shop.svc.cluster.local.");
        assert_eq!(of(&[]), "shop.svc.cluster.local.");
    }
}
