//! W3C Trace Context: <https://www.w3.org/TR/trace-context/>. Pure but for chance.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::PARENT;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

impl Context {
    /// Reads `traceparent`; `None` when it is none, and so means nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more parts.
        if version.len() != 2 || version == "ff" || version == "00" && parts.next().is_some() {
            return None;
        }
        let [_] = bytes(version)?;
        let context = Self { trace: bytes(trace)?, span: bytes(span)?, flags: bytes::<1>(flags)?[0] };
        (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// What the head of a request says.
    pub(crate) fn extract(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(PARENT)?.to_str().ok()?)
    }

    /// The beginning of a trace, recorded if `samples` says so of its id.
    pub(crate) fn root(samples: impl FnOnce(&[u8; 16]) -> bool) -> Self {
        let trace = rand::random();
        Self { trace, span: rand::random(), flags: if samples(&trace) { SAMPLED } else { 0 } }
    }

    /// The beginning of the trace of an event that was published in none: the same for all who receive it.
    pub(crate) fn of_event(source: &str, id: &str) -> Self {
        let trace = xxh3_128_with_seed(id.as_bytes(), xxh3_64(source.as_bytes()));
        let span = (trace as u64) ^ (trace >> 64) as u64;
        // No id is zero.
        Self { trace: trace.max(1).to_be_bytes(), span: span.max(1).to_be_bytes(), flags: SAMPLED }
    }

    /// A span within this one.
    pub(crate) fn child(self) -> Self {
        Self { span: rand::random(), ..self }
    }

    /// Whether the trace is recorded.
    pub(crate) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace's id, in hexadecimal.
    pub(super) fn trace_id(self) -> String {
        HEXLOWER.encode(&self.trace)
    }

    /// The span's id, in hexadecimal.
    pub(super) fn span_id(self) -> String {
        HEXLOWER.encode(&self.span)
    }

    /// The value of `traceparent`.
    pub(crate) fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        HEXLOWER.encode_mut(&self.trace, &mut text[3..35]);
        HEXLOWER.encode_mut(&self.span, &mut text[36..52]);
        HEXLOWER.encode_mut(&[self.flags], &mut text[53..55]);
        // Hexadecimal digits and hyphens.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// So many bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (text.len() == 2 * N).then_some(())?;
    HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_written_as_it_was_read() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            assert_eq!(Context::parse(text).unwrap().header(), text);
        }
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-ever";
        assert!(Context::parse(later).unwrap().is_sampled());
        let root = Context::root(|_| true);
        assert_eq!(Context::parse(root.header().to_str().unwrap()), Some(root));
    }

    #[test]
    fn an_event_has_one_trace_whoever_receives_it_and_another_event_another() {
        let context = Context::of_event("/users", "1");
        assert_eq!(Context::parse(context.header().to_str().unwrap()), Some(context));
        assert_eq!(Context::of_event("/users", "1"), context);
        for other in [Context::of_event("/users", "2"), Context::of_event("/orders", "1")] {
            assert!(other.trace != context.trace && other.span != context.span);
        }
    }

    #[test]
    fn what_is_no_context_means_nothing() {
        for text in [
            "",
            "00-1-2-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
    }
}
