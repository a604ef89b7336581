//! How much may be under way to the bus at once, by number and by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// Counts what is in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    most: usize,
    most_bytes: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
    gauge: Gauge,
}

/// Something in flight; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Admitted {
    all: Arc<InFlight>,
    bytes: usize,
}

impl InFlight {
    /// Room for so much; `gauge` shows the number.
    pub(crate) fn new(most: usize, most_bytes: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { most, most_bytes, count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), gauge })
    }

    /// Lets one more in, if there is room for it.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Admitted> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.gauge.inc();
        let mut admitted = Admitted { all: self.clone(), bytes: 0 };
        admitted.grow(bytes).then_some(admitted)
    }
}

impl Admitted {
    /// Takes room for more bytes, if there is room.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.all.most_bytes {
            self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::Relaxed);
        self.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_by_number_and_by_bytes_and_comes_back() {
        let all = InFlight::new(2, 100, Gauge::default());
        let first = all.admit(60).unwrap();
        assert!(all.admit(60).is_none(), "too many bytes");
        let mut second = all.admit(30).unwrap();
        assert!(all.admit(0).is_none(), "too many");
        assert!(!second.grow(20));
        assert!(second.grow(10));
        drop(first);
        assert!(second.grow(60));
        drop(second);
        assert_eq!((all.count.load(Ordering::Relaxed), all.bytes.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(all.gauge.get(), 0);
    }
}
