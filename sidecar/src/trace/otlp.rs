//! Spans as OTLP's JSON: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::{Context, Finished, Value};

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The body of an export.
pub(super) fn body(resource: &[(&'static str, String)], spans: &[Finished]) -> Json {
    let text = |(key, value): &(&'static str, String)| attribute(key, &Value::Text(value.clone()));
    json!({"resourceSpans": [{
        "resource": {"attributes": resource.iter().map(text).collect::<Vec<_>>()},
        "scopeSpans": [{
            "scope": {"name": "murmur-sidecar", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Finished) -> Json {
    let mut json = json!({
        "traceId": span.context.trace_id(),
        "spanId": span.context.span_id(),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": span.attributes.iter().map(|(key, value)| attribute(key, value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = parent.span_id().into();
    }
    if !span.links.is_empty() {
        json["links"] = span.links.contexts().iter().copied().map(link).collect();
        json["droppedLinksCount"] = span.links.left_out().into();
    }
    if let Some(error) = &span.error {
        json["status"] = json!({"code": ERROR, "message": error});
    }
    json
}

fn link(context: Context) -> Json {
    json!({"traceId": context.trace_id(), "spanId": context.span_id()})
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({"stringValue": text}),
        // 64-bit numbers are text in this form.
        Value::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn nanoseconds(moment: SystemTime) -> String {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
