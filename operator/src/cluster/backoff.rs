//! How long to wait before an object that failed is looked at again: each has
//! a back-off of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The wait after the first failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Notes a failure; returns the wait, up to a quarter longer or shorter by
    /// chance so that objects that failed together do not come back together.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.lock();
        let failures = failures.entry(object.to_owned()).or_default();
        let wait = SHORTEST.saturating_mul(2_u32.saturating_pow(*failures)).min(LONGEST);
        *failures = failures.saturating_add(1);
        wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)
    }

    /// Notes a success, or that the object is gone.
    pub fn succeeded(&self, object: &str) {
        self.lock().remove(object);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_until_a_success() {
        let backoff = Backoff::default();
        let first = backoff.failed("a");
        assert!(first >= Duration::from_millis(750) && first <= Duration::from_millis(1250));
        for _ in 0..20 {
            assert!(backoff.failed("a") <= LONGEST.mul_f64(1.25));
        }
        assert!(backoff.failed("a") >= LONGEST.mul_f64(0.75));
        backoff.succeeded("a");
        assert!(backoff.failed("a") <= Duration::from_millis(1250));
    }
}
