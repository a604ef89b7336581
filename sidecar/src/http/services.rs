//! `ANY /v1/services/{name}/{path}`: call another service.

use http::Request;
use hyper::body::Incoming;

use super::Answer;
use super::local::Local;
use super::problem::{Code, Problem};
use crate::call::CallError;

impl Local {
    /// Passes the request on, and the answer back.
    pub(super) async fn call(&self, request: Request<Incoming>) -> http::Response<Answer> {
        match self.calls.call(request).await {
            Ok(response) => response.map(Answer::Passed),
            Err(error) => problem(&error).response().map(Answer::Own),
        }
    }
}

fn problem(error: &CallError) -> Problem {
    let (code, retry_after) = match error {
        CallError::NotAllowed(_) => (Code::CallNotAllowed, None),
        CallError::Upgrade => (Code::UpgradeNotSupported, None),
        CallError::Timeout(_) => (Code::BadTimeout, None),
        CallError::TooMany => (Code::TooMuchInFlight, Some(1)),
        CallError::NoReplicas { .. } => (Code::NoReplicas, Some(1)),
        CallError::Unreachable { .. } => (Code::Unreachable, Some(1)),
        CallError::Broken { .. } => (Code::Broken, None),
        CallError::TimedOut { .. } => (Code::CallTimeout, None),
    };
    let problem = Problem::new(code, error.to_string());
    match retry_after {
        Some(seconds) => problem.retry_after(seconds),
        None => problem,
    }
}
