//! `murmur-timeout`: how long a client wants to wait.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use murmur_mesh::duration;

/// The header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("murmur-timeout");

/// The header holds no duration, or too long a one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header murmur-timeout must be a duration of at most {}, such as 500ms or 10s", duration::write(*longest))]
pub(crate) struct Invalid {
    longest: Duration,
}

/// What the client asks for, if it does.
pub(crate) fn asked(headers: &HeaderMap, longest: Duration) -> Result<Option<Duration>, Invalid> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(duration::parse);
    match parsed.filter(|timeout| !timeout.is_zero() && *timeout <= longest) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Invalid { longest }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_bounded_and_never_zero() {
        let longest = Duration::from_secs(60);
        let ask = |value: &str| asked(&HeaderMap::from_iter([(HEADER, value.parse().unwrap())]), longest);
        assert_eq!(asked(&HeaderMap::new(), longest), Ok(None));
        assert_eq!(ask("1m"), Ok(Some(longest)));
        for wrong in ["0s", "61s", "5", "", "é"] {
            assert!(ask(wrong).unwrap_err().to_string().contains("at most 1m"), "{wrong}");
        }
    }
}
