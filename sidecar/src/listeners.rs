//! The sockets of a sidecar.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::StartError;

/// Where a sidecar listens; bound by whoever runs it, since tests use their own ports.
#[derive(Debug)]
pub struct Listeners {
    /// Where the service comes in; one for each address family.
    pub local: Vec<TcpListener>,
    /// Where the kubelet and Prometheus come in.
    pub admin: TcpListener,
}

impl Listeners {
    /// Binds both. With 127.0.0.1 the same port of ::1 is bound too, where there is IPv6.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(local: SocketAddr, admin: SocketAddr) -> Result<Self, StartError> {
        let bind = |address| async move {
            TcpListener::bind(address).await.map_err(|cause| StartError::Bind { address, cause })
        };
        let mut locals = vec![bind(local).await?];
        if local.ip() == Ipv4Addr::LOCALHOST {
            match TcpListener::bind((Ipv6Addr::LOCALHOST, local.port())).await {
                Ok(listener) => locals.push(listener),
                Err(error) => tracing::debug!(%error, "no IPv6 on loopback; 127.0.0.1 alone is served"),
            }
        }
        Ok(Self { local: locals, admin: bind(admin).await? })
    }
}
