//! What is said of a service's outbox.

use murmur_mesh::report::OutboxReport;

use super::conditions::{Finding, OUTBOX_READY, State};

/// What the sidecar that relays it reports; `None`: no sidecar does at present.
pub fn finding(report: Option<&OutboxReport>) -> Finding {
    let Some(report) = report else {
        let message = "no sidecar of the service publishes what is in the outbox at present";
        return Finding::new(OUTBOX_READY, State::Unknown, "NotReported", message);
    };
    if let Some(held) = &report.held {
        return Finding::new(OUTBOX_READY, false, "Held", format!("rows of the outbox wait: {held}"));
    }
    if report.refused == 0 {
        return Finding::new(OUTBOX_READY, true, "Relaying", "what is committed is published");
    }
    let cause = report.cause.as_deref().unwrap_or("the table says why");
    let message = format!(
        "rows in murmur_outbox_refused: {} (counted up to 1000), which are never published; the last one since: \
         {cause}. Insert them into murmur_outbox again once they can be, and delete them there",
        report.refused
    );
    Finding::new(OUTBOX_READY, false, "RowsRefused", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_is_ready_while_nothing_waits_and_nothing_was_refused() {
        let report = |held: Option<&str>, refused| OutboxReport {
            held: held.map(str::to_owned),
            refused,
            cause: Some("the service does not publish X".to_owned()),
        };
        assert_eq!(finding(None).state, State::Unknown);
        assert_eq!(finding(Some(&report(None, 0))).state, State::True);
        let held = finding(Some(&report(Some("there is no connection to the bus"), 3)));
        assert_eq!((held.state, held.reason.as_str()), (State::False, "Held"));
        assert!(held.message.contains("no connection"));
        let refused = finding(Some(&report(None, 3)));
        assert_eq!((refused.state, refused.reason.as_str()), (State::False, "RowsRefused"));
        assert!(
            refused.message.contains("3 (") && refused.message.contains("publish X"),
            "{}",
            refused.message
        );
    }
}
