//! Traces: W3C Trace Context from one side to the other, and a span of each
//! publish, delivery, query, answer and call over OTLP, where that is configured.
//!
//! Without an exporter a trace that comes in goes on as it is: a span of ours
//! that nobody can look up would only be a hole in it. Where none comes in, one
//! begins here; that of an event, without an exporter, with its deliveries.

mod context;
mod export;
mod links;
mod otlp;
mod settings;

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

pub(crate) use context::Context;
pub(crate) use export::Exporter;
pub(crate) use links::Links;
pub(crate) use settings::Sampler;
pub use settings::{InvalidTraces, TraceArguments, TraceSettings};

/// Which trace this belongs to, and which span of it came before.
pub(crate) const PARENT: &str = "traceparent";
/// What vendors add to it.
pub(crate) const STATE: &str = "tracestate";
/// Finished spans that wait for their export, at most; those beyond are dropped and counted.
const QUEUE: usize = 2048;

/// What a span is, in OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request of another is answered.
    Server = 2,
    /// Another is asked.
    Client = 3,
    /// An event is published, or a batch of them.
    Producer = 4,
    /// An event is delivered, or a batch of them.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(u64),
}

/// Starts spans; clones share the way out.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    sampler: Sampler,
    out: Option<mpsc::Sender<Finished>>,
    dropped: Counter,
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    context: Context,
    parent: Option<Context>,
    kind: Kind,
    name: String,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    links: Links,
    error: Option<String>,
}

/// A span under way; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Span {
    context: Context,
    /// There was no trace before.
    is_root: bool,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    finished: Option<Finished>,
    out: mpsc::Sender<Finished>,
    dropped: Counter,
}

impl Tracer {
    /// With this sampler; spans go to `out`, if anywhere.
    pub(crate) fn new(sampler: Sampler, out: Option<mpsc::Sender<Finished>>, dropped: Counter) -> Self {
        Self { sampler, out, dropped }
    }

    /// The way out of a tracer that exports.
    pub(crate) fn queue() -> (mpsc::Sender<Finished>, mpsc::Receiver<Finished>) {
        mpsc::channel(QUEUE)
    }

    /// Whether spans go anywhere.
    pub(crate) fn exports(&self) -> bool {
        self.out.is_some()
    }

    /// A span within this trace, or the first one of a trace of its own.
    pub(crate) fn start(&self, parent: Option<Context>, kind: Kind, name: impl FnOnce() -> String) -> Span {
        self.start_batch(parent, Links::default(), kind, name)
    }

    /// The same for several events, each in a trace of its own perhaps: a trace
    /// that begins here is recorded if one of theirs is.
    pub(crate) fn start_batch(
        &self,
        parent: Option<Context>,
        links: Links,
        kind: Kind,
        name: impl FnOnce() -> String,
    ) -> Span {
        let (context, is_root) = match parent {
            Some(parent) if parent.is_sampled() && self.out.is_some() => (parent.child(), false),
            Some(parent) => (parent, false),
            None if links.is_empty() => (Context::root(|id| self.sampler.samples(id)), true),
            None => (Context::root(|_| links.is_sampled()), true),
        };
        let recording = self.out.as_ref().filter(|_| context.is_sampled()).map(|out| {
            let start = SystemTime::now();
            let (name, attributes) = (name(), Vec::new());
            let (end, error) = (start, None);
            let finished = Finished { context, parent, kind, name, start, end, attributes, links, error };
            Box::new(Recording { finished: Some(finished), out: out.clone(), dropped: self.dropped.clone() })
        });
        Span { context, is_root, recording }
    }

    /// Puts a span into the head of which an event's trace is kept, unless nobody has seen that trace:
    /// then whoever delivers the event [begins one](Context::of_event).
    pub(crate) fn keep(&self, span: &Span, parent: Option<Context>, headers: &mut HeaderMap) {
        if parent.is_some() || self.exports() {
            span.inject(headers);
        } else {
            headers.remove(PARENT);
            headers.remove(STATE);
        }
    }
}

impl Span {
    /// Says something about it.
    pub(crate) fn note(&mut self, name: &'static str, value: &(impl ToString + ?Sized)) {
        if let Some(finished) = self.finished() {
            finished.attributes.push((name, Value::Text(value.to_string())));
        }
    }

    /// Says how much or how many.
    pub(crate) fn count(&mut self, name: &'static str, value: u64) {
        if let Some(finished) = self.finished() {
            finished.attributes.push((name, Value::Number(value)));
        }
    }

    /// What OpenTelemetry's conventions say of messages, of one request with so many events:
    /// <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>.
    pub(crate) fn batch(&mut self, events: usize) {
        let Some(kind) = self.finished().map(|finished| finished.kind) else { return };
        self.note("messaging.system", "murmur");
        let (name, operation) =
            if kind == Kind::Producer { ("publish", "send") } else { ("deliver", "process") };
        self.note("messaging.operation.name", name);
        self.note("messaging.operation.type", operation);
        self.count("messaging.batch.message_count", events as u64);
    }

    /// It failed; why.
    pub(crate) fn fails(&mut self, cause: &(impl ToString + ?Sized)) {
        if let Some(finished) = self.finished() {
            finished.error = Some(cause.to_string());
        }
    }

    /// The value of [`PARENT`] for what it leads to.
    pub(crate) fn header(&self) -> HeaderValue {
        self.context.header()
    }

    /// Puts it into the head of a request that it leads to.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(PARENT, self.header());
        if self.is_root {
            headers.remove(STATE);
        }
    }

    fn finished(&mut self) -> Option<&mut Finished> {
        self.recording.as_mut()?.finished.as_mut()
    }
}

/// The name of a span of several events: with their type, if they have one in common.
pub(crate) fn name_of_batch<'a>(operation: &str, mut types: impl Iterator<Item = &'a str>) -> String {
    match types.next().filter(|first| types.all(|other| other == *first)) {
        Some(common) => format!("{operation} {common}"),
        None => operation.to_owned(),
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(mut finished) = self.finished.take() else { return };
        finished.end = SystemTime::now();
        // A span less is better than an event that waits.
        if self.out.try_send(finished).is_err() {
            self.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(out: Option<mpsc::Sender<Finished>>) -> Tracer {
        Tracer::new(Sampler::Always, out, Counter::default())
    }

    #[test]
    fn without_an_exporter_a_trace_goes_on_as_it_is_and_a_new_one_begins_where_there_is_none() {
        let tracer = tracer(None);
        let span = tracer.start(Context::parse(TRACE), Kind::Client, || unreachable!());
        assert_eq!(span.header(), TRACE);
        let mut headers =
            HeaderMap::from_iter([(http::HeaderName::from_static(STATE), HeaderValue::from_static("a=1"))]);
        tracer.start(None, Kind::Client, || unreachable!()).inject(&mut headers);
        assert!(Context::extract(&headers).unwrap().is_sampled());
        assert!(!headers.contains_key(STATE), "it belonged to no trace");
    }

    #[test]
    fn a_span_of_a_sampled_trace_is_exported_when_it_ends() {
        let (out, mut spans) = Tracer::queue();
        let tracer = tracer(Some(out));
        let mut span = tracer.start(Context::parse(TRACE), Kind::Client, || "GET users".to_owned());
        let header = span.header();
        assert_ne!(header, TRACE);
        assert!(header.to_str().unwrap().starts_with(&TRACE[..36]), "the trace is the same");
        span.note("a", &1);
        span.fails("why");
        assert!(spans.try_recv().is_err());
        drop(span);
        let finished = spans.try_recv().unwrap();
        assert_eq!(finished.parent, Context::parse(TRACE));
        assert_eq!(
            (&finished.attributes[0].1, finished.error.as_deref()),
            (&Value::Text("1".into()), Some("why"))
        );
        drop(tracer.start(Context::parse(&TRACE.replace("-01", "-00")), Kind::Client, || unreachable!()));
        assert!(spans.try_recv().is_err(), "not sampled");
    }

    #[test]
    fn a_batch_without_a_trace_is_recorded_if_one_of_its_events_is() {
        let (out, mut spans) = Tracer::queue();
        let tracer = Tracer::new(Sampler::Never, Some(out), Counter::default());
        let (sampled, not) = (Context::root(|_| true), Context::root(|_| false));
        for (events, recorded) in [(vec![not, sampled], true), (vec![not], false), (vec![], false)] {
            let links: Links = events.into_iter().collect();
            let mut span = tracer.start_batch(None, links.clone(), Kind::Consumer, String::new);
            span.batch(2);
            drop(span);
            let finished = spans.try_recv().ok();
            assert_eq!(finished.is_some(), recorded);
            if let Some(finished) = finished {
                assert_eq!((finished.links, finished.parent), (links, None));
                let count = finished.attributes.last().unwrap();
                assert_eq!(count, &("messaging.batch.message_count", Value::Number(2)));
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (out, _spans) = Tracer::queue();
        let tracer = tracer(Some(out));
        for _ in 0..QUEUE + 3 {
            drop(tracer.start(None, Kind::Client, String::new));
        }
        assert_eq!(tracer.dropped.get(), 3);
    }
}
