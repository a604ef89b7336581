//! The head of a call, from one connection to the next (RFC 9110, section 7.6). Pure.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

use crate::http::{ERROR_HEADER, timeout};

/// Those that concern one connection alone, beside the ones that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The service that a path under `/v1/services/` names, and the path for it:
/// the rest as it is, with its query and its percent-encodings.
pub(super) fn target(uri: &Uri) -> Option<(&str, PathAndQuery)> {
    let whole = uri.path_and_query()?.as_str().strip_prefix("/v1/services/")?;
    let end = whole.find(['/', '?']).unwrap_or(whole.len());
    let (service, rest) = whole.split_at(end);
    let path = if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() };
    Some((service, path.ok()?))
}

/// Whether the client asks for another protocol. HTTP/2 does not count: who
/// offers it (as Java's client does) goes on with HTTP/1.1 when nobody takes it up.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    protocols.map(<[u8]>::trim_ascii).any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// The head of a request, for the target.
pub(super) fn forward(headers: &mut HeaderMap, host: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.remove(timeout::HEADER);
    // The sidecar itself has answered it.
    headers.remove(EXPECT);
    headers.insert(HOST, host);
}

/// The head of the target's answer, for the client: an error of ours it cannot pretend.
pub(super) fn back(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(ERROR_HEADER);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn path_and_query_stay_as_they_are() {
        for (path, service, rest) in [
            ("/v1/services/users/a/b?c=d", "users", "/a/b?c=d"),
            ("/v1/services/users/a%2Fb//..?x=%20&y=a+b", "users", "/a%2Fb//..?x=%20&y=a+b"),
            ("/v1/services/users//x", "users", "//x"),
            ("/v1/services/users/", "users", "/"),
            ("/v1/services/users", "users", "/"),
            ("/v1/services/users?a", "users", "/?a"),
            ("/v1/services/", "", "/"),
        ] {
            let uri: Uri = path.parse().unwrap();
            let (found, left) = target(&uri).unwrap();
            assert_eq!((found, left.as_str()), (service, rest), "{path}");
        }
        assert!(target(&"/v1/other".parse().unwrap()).is_none());
    }

    #[test]
    fn what_concerns_one_connection_goes_no_further() {
        let mut map = headers(&[
            ("host", "127.0.0.1:3600"),
            ("connection", "close, X-Mine"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("murmur-timeout", "1s"),
            ("x-mine", "1"),
            ("x-yours", "1"),
            ("authorization", "Bearer x"),
        ]);
        forward(&mut map, HeaderValue::from_static("users"));
        assert_eq!(names(&map), ["authorization", "host", "x-yours"]);
        assert_eq!(map["host"], "users");
    }

    #[test]
    fn an_answer_cannot_pretend_to_be_an_error_of_the_sidecar() {
        let mut map =
            headers(&[("murmur-error", "noReplicas"), ("connection", "x-a"), ("x-a", "1"), ("etag", "1")]);
        back(&mut map);
        assert_eq!(names(&map), ["etag"]);
    }

    #[test]
    fn an_offer_of_http_2_is_no_upgrade() {
        assert!(!is_upgrade(&headers(&[("upgrade", "h2c")])));
        assert!(is_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(is_upgrade(&headers(&[("upgrade", "h2c, websocket")])));
        assert!(!is_upgrade(&headers(&[])));
    }
}
