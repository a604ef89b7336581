//! The authority that signs the certificates of database servers.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SigningKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::claims::ClaimsError;

/// The authority's certificate.
const CERTIFICATE: &str = "ca.crt";
/// Its key.
const KEY: &str = "ca.key";
/// The name that it signs under.
const NAME: &str = "Murmur databases";
/// How long the authority holds.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long a server's certificate holds.
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// A certificate that ends before this time has passed is renewed.
pub const RENEWED_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks differ.
const BACKDATED: i64 = 3600;

/// Signs the certificates of database servers.
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

/// A server's certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(…)")
    }
}

impl Authority {
    /// A new authority from now on: the content of its Secret.
    pub(super) fn files(now: i64) -> Result<BTreeMap<String, String>, ClaimsError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params();
        (params.not_before, params.not_after) = from(now, AUTHORITY_LIFETIME)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(BTreeMap::from([
            (CERTIFICATE.to_owned(), certificate.pem()),
            (KEY.to_owned(), key.serialize_pem()),
        ]))
    }

    /// Reads the authority from its Secret's content.
    pub(super) fn parse(files: &BTreeMap<String, String>) -> Result<Self, ClaimsError> {
        let get = |name: &'static str| files.get(name).ok_or(ClaimsError::Missing(name));
        let certificate = get(CERTIFICATE)?.clone();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| ClaimsError::Key(format!("{CERTIFICATE}: {error}")))?;
        let key =
            KeyPair::from_pem(get(KEY)?).map_err(|error| ClaimsError::Key(format!("{KEY}: {error}")))?;
        Ok(Self { certificate, der, issuer: Issuer::new(params(), key) })
    }

    /// An authority that nobody knows.
    #[cfg(test)]
    pub(crate) fn new(now: i64) -> Result<Self, ClaimsError> {
        Self::parse(&Self::files(now)?)
    }

    /// Its certificate, which clients trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new certificate for a server of these names, from now on, in seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn issue(&self, names: &[String], now: i64) -> Result<Certificate, ClaimsError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        // At most 64 characters, which the names may exceed: they stand in full in the extension.
        let common = names.iter().find(|name| name.len() <= 64).map_or(NAME, String::as_str);
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = from(now, LIFETIME)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Whether a certificate is this authority's for a server of these names, fits its key, and still
    /// holds at a moment, in seconds since 1970.
    pub fn vouches(&self, found: &Certificate, names: &[String], at: i64) -> bool {
        self.check(found, names, at).is_some()
    }

    fn check(&self, found: &Certificate, names: &[String], at: i64) -> Option<()> {
        let der = CertificateDer::from_pem_slice(found.certificate.as_bytes()).ok()?;
        let certificate = EndEntityCert::try_from(&der).ok()?;
        let anchor = [anchor_from_trusted_cert(&self.der).ok()?];
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).ok()?));
        let usage = KeyUsage::server_auth();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        certificate.verify_for_usage(algorithms, &anchor, &[], time, usage, None, None).ok()?;
        for name in names {
            certificate.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str()).ok()?).ok()?;
        }
        let key = KeyPair::from_pem(&found.key).ok()?;
        let signed = key.sign(names.concat().as_bytes()).ok()?;
        let algorithm = webpki::ring::ECDSA_P256_SHA256;
        certificate.verify_signature(algorithm, names.concat().as_bytes(), &signed).ok()
    }
}

/// What the authority's certificate says; the same each time, so that it is told by its key alone.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn from(now: i64, lifetime: Duration) -> Result<(OffsetDateTime, OffsetDateTime), ClaimsError> {
    let moment = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|error| ClaimsError::Certificate(error.to_string()))
    };
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    Ok((moment(now.saturating_sub(BACKDATED))?, moment(now.saturating_add(seconds))?))
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: rcgen::Error) -> ClaimsError {
    ClaimsError::Certificate(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn names() -> Vec<String> {
        ["users-db.shop.svc", "users-db"].map(str::to_owned).to_vec()
    }

    fn seconds(duration: Duration) -> i64 {
        i64::try_from(duration.as_secs()).unwrap()
    }

    #[test]
    fn a_certificate_holds_for_its_names_and_its_time_alone() {
        let authority = Authority::new(NOW).unwrap();
        let issued = authority.issue(&names(), NOW).unwrap();
        assert!(authority.vouches(&issued, &names(), NOW));
        assert!(authority.vouches(&issued, &names(), NOW + seconds(LIFETIME) - 1));
        assert!(!authority.vouches(&issued, &names(), NOW + seconds(LIFETIME) + 1));
        assert!(!authority.vouches(&issued, &["orders-db".to_owned()], NOW));
    }

    #[test]
    fn it_is_known_again_from_its_secret_and_no_other_is() {
        let files = Authority::files(NOW).unwrap();
        let issued = Authority::parse(&files).unwrap().issue(&names(), NOW).unwrap();
        assert!(Authority::parse(&files).unwrap().vouches(&issued, &names(), NOW));
        assert!(!Authority::new(NOW).unwrap().vouches(&issued, &names(), NOW));
    }

    #[test]
    fn what_someone_spoiled_is_not_vouched_for() {
        let authority = Authority::new(NOW).unwrap();
        let issued = authority.issue(&names(), NOW).unwrap();
        let other = authority.issue(&names(), NOW).unwrap();
        let mixed = Certificate { key: other.key, ..issued.clone() };
        assert!(!authority.vouches(&mixed, &names(), NOW), "another's key");
        let empty = Certificate { certificate: String::new(), ..issued };
        assert!(!authority.vouches(&empty, &names(), NOW));
    }

    #[test]
    fn a_service_with_the_longest_name_gets_one_too() {
        let long = [format!("{}-db.{}.svc", "x".repeat(40), "y".repeat(63))];
        let authority = Authority::new(NOW).unwrap();
        assert!(authority.vouches(&authority.issue(&long, NOW).unwrap(), &long, NOW));
    }
}
