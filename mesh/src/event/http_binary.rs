//! An event in binary content mode: attributes in `ce-` headers, data in the
//! body (CloudEvents HTTP binding 1.0.2, section 3.1).

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::attribute::{self, DATA_CONTENT_TYPE, InvalidEvent};
use super::{Draft, structured};

/// The prefix of an attribute's header.
pub const HEADER_PREFIX: &str = "ce-";

/// Reads an event from headers and body.
///
/// # Errors
/// When an attribute is not valid, or the body's media type says that it is
/// itself a CloudEvent.
pub fn read(headers: &HeaderMap, body: Bytes) -> Result<Draft, InvalidEvent> {
    let mut draft = Draft::default();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) {
            // In this mode the media type of the data is the Content-Type header's.
            if name != DATA_CONTENT_TYPE {
                draft.set(name, attribute::decode(name, value.as_bytes())?)?;
            }
        }
    }
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        let Ok(content_type) = content_type.to_str() else {
            return Err(InvalidEvent::ContentType("the header Content-Type must be ASCII"));
        };
        if structured::is_cloud_event(content_type) {
            return Err(InvalidEvent::ContentType(
                "a body that is itself a CloudEvent is not data: post it to /v1/events",
            ));
        }
        draft.set(DATA_CONTENT_TYPE, content_type.to_owned())?;
    }
    draft.set_data(body);
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::Fixed;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn attributes_come_from_headers_and_data_is_the_body() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/mine"),
            ("ce-type", "UserCreated"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-myextension", "x"),
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "*/*"),
        ]);
        let event = read(&headers, Bytes::from_static(b"{\"a\":1}")).unwrap().complete(&Fixed).unwrap();
        assert_eq!((event.id(), event.source(), event.event_type().as_str()), ("1", "/mine", "UserCreated"));
        assert_eq!(event.attribute("subject"), Some("Euro €"));
        assert_eq!(event.attribute("myextension"), Some("x"));
        assert_eq!(event.attribute("datacontenttype"), Some("application/json; charset=utf-8"));
        assert_eq!(&event.data()[..], b"{\"a\":1}");
    }

    #[test]
    fn a_cloud_events_media_type_is_refused() {
        let headers = headers(&[("ce-type", "A"), ("content-type", "application/cloudevents+json")]);
        assert!(matches!(read(&headers, Bytes::new()), Err(InvalidEvent::ContentType(_))));
    }

    #[test]
    fn another_specversion_is_refused() {
        let headers = headers(&[("ce-specversion", "0.3"), ("ce-type", "A")]);
        assert_eq!(read(&headers, Bytes::new()).unwrap_err(), InvalidEvent::SpecVersion("0.3".into()));
    }

    #[test]
    fn a_header_that_comes_twice_is_refused() {
        let mut headers = headers(&[("ce-type", "A")]);
        headers.append("ce-type", "B".parse().unwrap());
        assert_eq!(read(&headers, Bytes::new()).unwrap_err(), InvalidEvent::Twice("type".into()));
    }
}
