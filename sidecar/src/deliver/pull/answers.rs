//! What the broker's answers to a pull mean.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, StatusCode};
use tokio::time::Instant;

use super::{Open, PAUSE, Pull, SHORT_PAUSE};

pub(super) const PIN_ID: HeaderName = HeaderName::from_static("Nats-Pin-Id");

/// What an event that came means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::deliver) enum Receipt {
    /// Nothing beside itself.
    Fine,
    /// Something that was handed out before it did not come.
    Gap,
    /// The pin is another one, but nobody else was handed anything since the last one.
    Continues,
    /// This replica receives from now on; others may have before.
    TakenOver,
    /// This replica received it, and does not want to any more.
    Unwanted,
}

/// What a status message means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::deliver) enum Status {
    /// Nothing that matters.
    Fine,
    /// The pin is another's now: so may be all that is held.
    PinLost,
    /// There is no such durable.
    Missing,
    /// The broker does not like the pull.
    Refused(String),
}

impl Pull {
    /// An event came; `handed_out`: how many the durable had handed out by then.
    pub(in crate::deliver) fn event(&mut self, headers: Option<&HeaderMap>, handed_out: u64) -> Receipt {
        self.missing = false;
        self.unanswered = false;
        if let Some(open) = &mut self.open {
            open.asked = open.asked.saturating_sub(1);
        }
        let pin = headers.and_then(|headers| headers.get(PIN_ID)).map(HeaderValue::as_str);
        if !self.is_pinned() {
            return Receipt::Fine;
        }
        let before = self.handed_out;
        if !self.wanted {
            // It was on its way when the pin was given up: that stays so, or it would be held for ever.
            // Or the pin came for a pull that was on its way then: what others hold comes before it.
            if pin != self.last_pin.as_deref() {
                return Receipt::Unwanted;
            }
            self.handed_out = before.max(handed_out);
            return Receipt::Fine;
        }
        if pin == self.pin.as_deref() {
            self.handed_out = before.max(handed_out);
            return if handed_out > before + 1 { Receipt::Gap } else { Receipt::Fine };
        }
        let follows = handed_out == before + 1;
        self.handed_out = handed_out;
        self.pin = pin.map(str::to_owned);
        self.sole &= follows;
        if self.sole && self.whole && self.barrier.is_open() {
            return Receipt::Continues;
        }
        Receipt::TakenOver
    }

    /// A status came, for the pull of this number.
    pub(in crate::deliver) fn status(
        &mut self,
        number: u32,
        status: StatusCode,
        message: &Message,
        now: Instant,
    ) -> Status {
        if status == StatusCode::IDLE_HEARTBEAT {
            return Status::Fine;
        }
        let open = self.open.take_if(|open| open.number == number);
        self.unanswered &= open.is_none();
        let description = message.description.as_deref().unwrap_or_default();
        self.missing = false;
        match status.as_u16() {
            // The end of a pull, or none of what was asked for.
            404 | 408 => Status::Fine,
            423 => {
                if self.let_go() {
                    Status::PinLost
                } else {
                    Status::Fine
                }
            }
            503 => {
                self.missing = true;
                self.said.unsure();
                self.pause(now, PAUSE);
                Status::Missing
            }
            // All that was asked for has come, and there would be room for more bytes.
            409 if description.contains("Batch Completed") => Status::Fine,
            409 if description.contains("MaxBytes") => {
                if let Some(open) = open.filter(|open| open.empty || self.held > 0) {
                    let until = now + SHORT_PAUSE;
                    self.open = Some(Open { asked: 1, until, starved: true, ..open });
                }
                Status::Fine
            }
            409 if description.contains("Leadership") || description.contains("Shutdown") => {
                self.is_led_anew(now);
                Status::Fine
            }
            409 if description.contains("Deleted") => {
                self.missing = true;
                self.said.unsure();
                self.pause(now, PAUSE);
                Status::Missing
            }
            _ => {
                self.pause(now, PAUSE);
                Status::Refused(format!("{status} {description}"))
            }
        }
    }
}
