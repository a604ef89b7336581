//! Message ids: by them the broker recognises a repeated publish.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::name::ServiceName;

/// A service's secret key for message ids, 32 bytes.
///
/// Without it nobody can tell which id an event of that service will have, so
/// nobody can store something else under it first.
#[derive(Clone)]
pub struct MessageIdKey {
    bytes: [u8; 32],
    /// What has taken the key in, and nothing more yet: every id starts from here.
    keyed: Hmac<Sha256>,
}

/// The key's text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message id key must be 64 hexadecimal digits; delete the service's bus Secret to get a new one")]
pub struct InvalidKey;

impl MessageIdKey {
    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        // HMAC takes a key of any length; this constructor's fixed one is a block of 64 bytes.
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(&bytes);
        Self { bytes, keyed: Hmac::<Sha256>::new(&block.into()) }
    }

    /// Reads the text form; white space around it is allowed.
    pub fn from_hex(text: &str) -> Result<Self, InvalidKey> {
        let bytes = HEXLOWER.decode(text.trim().as_bytes()).map_err(|_| InvalidKey)?;
        bytes.try_into().map(Self::from_bytes).map_err(|_| InvalidKey)
    }

    /// The text form, 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.bytes)
    }

    /// The `Nats-Msg-Id` of an event: HMAC-SHA256 over service, source and id,
    /// each preceded by its length (8 bytes, big endian), as URL-safe base64.
    pub fn message_id(&self, service: &ServiceName, source: &str, id: &str) -> String {
        BASE64URL_NOPAD.encode(&self.mac(&[service.as_str(), source, id]))
    }

    /// The prefix of the service's own inbox: not to be guessed from its name,
    /// so that nobody can have a message delivered there.
    pub fn inbox_prefix(&self) -> String {
        format!("_INBOX_{}", HEXLOWER.encode(&self.mac(&["inbox"])[..16]))
    }

    fn mac(&self, parts: &[&str]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for MessageIdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageIdKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MessageIdKey {
        MessageIdKey::from_bytes([7; 32])
    }

    fn id(service: &str, source: &str, id: &str) -> String {
        key().message_id(&service.parse().unwrap(), source, id)
    }

    #[test]
    fn the_message_id_matches_the_published_vector() {
        assert_eq!(id("users", "/shop/users", "1"), "KaxuDYXeraEnk4F5vNR5Sqr0FdaZeomeuhYTICNoGIU");
    }

    #[test]
    fn moving_a_character_between_source_and_id_changes_the_message_id() {
        assert_ne!(id("users", "ab", "c"), id("users", "a", "bc"));
    }

    #[test]
    fn another_key_gives_another_id_and_inbox() {
        let other = MessageIdKey::from_bytes([8; 32]);
        assert_ne!(other.message_id(&"users".parse().unwrap(), "a", "b"), id("users", "a", "b"));
        assert_ne!(other.inbox_prefix(), key().inbox_prefix());
    }

    #[test]
    fn a_key_survives_its_text_form_and_a_broken_text_is_refused() {
        let again = MessageIdKey::from_hex(&format!("{}\n", key().to_hex())).unwrap();
        assert_eq!(again.to_hex(), key().to_hex());
        assert_eq!(MessageIdKey::from_hex("abc").unwrap_err(), InvalidKey);
        assert_eq!(MessageIdKey::from_hex("").unwrap_err(), InvalidKey);
    }

    #[test]
    fn a_key_does_not_show_itself_in_logs() {
        assert_eq!(format!("{:?}", key()), "MessageIdKey(…)");
    }
}
