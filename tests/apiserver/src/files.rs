//! The files and arguments that the two processes start with.

use std::path::Path;

use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::text;

/// The one user's token; the server listens on loopback only and for one test.
const TOKEN: &str = "test";

/// Writes what both need.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::write(directory.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n"))?;
    let (private, public) = keys()?;
    std::fs::write(directory.join("service-accounts.key"), private)?;
    std::fs::write(directory.join("service-accounts.pem"), public)?;
    std::fs::write(
        directory.join("audit.json"),
        json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{"level": "Metadata"}],
        })
        .to_string(),
    )?;
    Ok(())
}

/// What precedes the point of a public key of the curve P-256 in its DER form
/// (RFC 5480: SEQUENCE, the two object ids, BIT STRING).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A new pair of keys for service account tokens, private and public, as PEM.
fn keys() -> anyhow::Result<(String, String)> {
    let random = SystemRandom::new();
    let failed = |_| anyhow::anyhow!("no key could be made for service accounts");
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref(), &random)
        .map_err(|_| anyhow::anyhow!("the key for service accounts cannot be read back"))?;
    let public = [&P256_PREFIX, pair.public_key().as_ref()].concat();
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &public)))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let mut lines = format!("-----BEGIN {kind}-----");
    for (at, character) in base64::engine::general_purpose::STANDARD.encode(der).chars().enumerate() {
        if at % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    format!("{lines}\n-----END {kind}-----\n")
}

/// The arguments of etcd: in memory as far as it allows, as nothing is to be kept.
pub(crate) fn etcd(directory: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    vec![
        format!("--data-dir={}", text(&directory.join("etcd"))),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

/// The arguments of kube-apiserver.
pub(crate) fn apiserver(directory: &Path, etcd_port: u16, port: u16, audit: bool) -> Vec<String> {
    let file = |name: &str| text(&directory.join(name));
    let mut all = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        // An address to advertise must not be loopback; nobody uses it.
        "--advertise-address=192.0.2.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", file("certificates")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("service-accounts.pem")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes the default service account here.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
    ];
    if audit {
        all.push(format!("--audit-policy-file={}", file("audit.json")));
        all.push(format!("--audit-log-path={}", file("audit.log")));
    }
    all
}

/// A kubeconfig. The certificate is the server's own and new at each start.
pub(crate) fn kubeconfig(port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
}
