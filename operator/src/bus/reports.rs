//! What the sidecars of a mesh say about themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use murmur_mesh::report::{OutboxReport, Report, STALE_AFTER, held};
use murmur_plan::status::subscription::Delivery;

/// The most pods of one mesh whose reports are kept; further ones are ignored
/// until others have gone silent.
const LIMIT: usize = 10_000;

/// The last report of each pod, by service and pod.
#[derive(Debug, Default)]
pub struct Reports {
    pods: BTreeMap<(String, String), (Instant, Report)>,
    since: Option<Instant>,
}

impl Reports {
    /// Takes in a message of a report's subject. Returns the service when what
    /// it says about a subscription is news.
    pub(super) fn take(&mut self, subject: &str, payload: &[u8], now: Instant) -> Option<String> {
        self.pods.retain(|_, (at, _)| now.duration_since(*at) < STALE_AFTER);
        let mut tokens = subject.split('.').skip(1);
        let key = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
        let report: Report = serde_json::from_slice(payload).ok()?;
        if self.pods.len() >= LIMIT && !self.pods.contains_key(&key) {
            return None;
        }
        let service = key.0.clone();
        let before = self.pods.insert(key, (now, report.clone()));
        let news = before.is_none_or(|(_, before)| {
            before.subscriptions != report.subscriptions
                || before.version != report.version
                || before.outbox != report.outbox
        });
        news.then_some(service)
    }

    /// Notes that reports are heard from now on: at the start, and when the bus
    /// is back, of which the sidecars may hear later than the operator.
    pub(super) fn listen(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// How long it still takes until silence means anything: every sidecar that
    /// lives has spoken by then.
    pub fn still_to_hear(&self, now: Instant) -> Option<Duration> {
        let Some(since) = self.since else { return Some(STALE_AFTER) };
        STALE_AFTER.checked_sub(now.duration_since(since)).filter(|rest| !rest.is_zero())
    }

    /// What the pods of `service` say about `subscription`: it is held up as
    /// soon as one of them holds it, since each may have a share of the events.
    pub fn delivery(&self, service: &str, subscription: &str, now: Instant) -> Delivery {
        let mut delivery = Delivery::Unreported;
        for ((_, pod), (at, report)) in self.of(service) {
            if now.duration_since(*at) >= STALE_AFTER {
                continue;
            }
            let found = report.subscriptions.iter().find(|found| found.name.as_str() == subscription);
            let Some(found) = found else { continue };
            let Some(cause) = &found.held else {
                delivery = Delivery::Going;
                continue;
            };
            let reason = found.reason.as_deref().unwrap_or(held::SERVICE_UNAVAILABLE);
            return Delivery::Held { reason: reason.to_owned(), cause: format!("pod {pod}: {cause}") };
        }
        delivery
    }

    /// How the outbox of `service` stands, as the pod that relays it said last.
    pub fn outbox(&self, service: &str, now: Instant) -> Option<OutboxReport> {
        let fresh = self.of(service).filter(|(_, (at, _))| now.duration_since(*at) < STALE_AFTER);
        let relays = fresh.filter_map(|(_, (at, report))| Some((at, report.outbox.as_ref()?)));
        relays.max_by_key(|(at, _)| **at).map(|(_, outbox)| outbox.clone())
    }

    /// The version of the sidecars of `service`, when those that report agree.
    pub fn version(&self, service: &str) -> Option<String> {
        let mut versions = self.of(service).map(|(_, (_, report))| report.version.as_str());
        let first = versions.next()?;
        versions.all(|other| other == first).then(|| first.to_owned())
    }

    /// Whether no pod of `service` runs with a configuration before `generation`.
    /// Of `pods`, which may live, each has been heard, or is silent for good.
    pub fn all_run_with<'a>(
        &self,
        service: &str,
        generation: u64,
        mut pods: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> bool {
        let fresh = self.of(service).filter(|(_, (at, _))| now.duration_since(*at) < STALE_AFTER);
        let heard: BTreeMap<&str, u64> =
            fresh.map(|((_, pod), (_, report))| (pod.as_str(), report.generation)).collect();
        heard.values().all(|runs_with| *runs_with >= generation)
            && (self.still_to_hear(now).is_none() || pods.all(|pod| heard.contains_key(pod)))
    }

    /// When the first of the reports that count now will count no longer.
    pub fn next_stale(&self, service: &str, now: Instant) -> Option<Duration> {
        self.of(service).map(|(_, (at, _))| STALE_AFTER.saturating_sub(now.duration_since(*at))).min()
    }

    fn of(&self, service: &str) -> impl Iterator<Item = (&(String, String), &(Instant, Report))> {
        let service = service.to_owned();
        let from = (service.clone(), String::new());
        self.pods.range(from..).take_while(move |((other, _), _)| *other == service)
    }
}

#[cfg(test)]
mod tests {
    use murmur_mesh::report::SubscriptionReport;

    use super::*;

    fn report(pod: &str, held: Option<&str>) -> Vec<u8> {
        let subscription =
            SubscriptionReport { name: "s".parse().unwrap(), held: held.map(str::to_owned), reason: None };
        let report = Report {
            pod: pod.to_owned(),
            version: "0.1.0".to_owned(),
            generation: 1,
            subscriptions: vec![subscription],
            leaving: false,
            released: Vec::new(),
            outbox: None,
        };
        serde_json::to_vec(&report).unwrap()
    }

    #[test]
    fn a_subscription_is_held_as_soon_as_one_pod_holds_it() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        assert_eq!(reports.delivery("history", "s", now), Delivery::Unreported);
        assert_eq!(reports.take("report.history.a", &report("a", None), now), Some("history".into()));
        assert_eq!(reports.delivery("history", "s", now), Delivery::Going);
        reports.take("report.history.b", &report("b", Some("it answers 503")), now);
        assert_eq!(
            reports.delivery("history", "s", now),
            Delivery::Held { reason: "ServiceUnavailable".into(), cause: "pod b: it answers 503".into() }
        );
        assert_eq!(reports.delivery("histor", "s", now), Delivery::Unreported);
    }

    #[test]
    fn the_pod_that_relays_the_outbox_says_how_it_stands_and_a_change_is_news() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        let told = |held: Option<&str>| {
            let outbox = OutboxReport { held: held.map(str::to_owned), ..OutboxReport::default() };
            let report: Report = serde_json::from_slice(&report("a", None)).unwrap();
            serde_json::to_vec(&Report { outbox: Some(outbox), ..report }).unwrap()
        };
        reports.take("report.history.b", &report("b", None), now);
        assert_eq!(reports.outbox("history", now), None);
        assert!(reports.take("report.history.a", &told(None), now).is_some());
        assert_eq!(reports.outbox("history", now), Some(OutboxReport::default()));
        assert!(reports.take("report.history.a", &told(Some("the bus is away")), now).is_some());
        assert!(reports.outbox("history", now).unwrap().held.is_some());
        assert_eq!(reports.outbox("history", now + STALE_AFTER), None);
    }

    #[test]
    fn a_repeated_report_is_no_news_and_an_old_one_does_not_count() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        reports.take("report.history.a", &report("a", None), now);
        assert_eq!(reports.take("report.history.a", &report("a", None), now), None);
        assert_eq!(reports.delivery("history", "s", now + STALE_AFTER), Delivery::Unreported);
    }

    #[test]
    fn a_pod_that_is_behind_holds_all_up_until_it_is_silent() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        let all_run_with = |reports: &Reports, generation, now| {
            reports.all_run_with("history", generation, std::iter::empty(), now)
        };
        assert!(all_run_with(&reports, 2, now), "there is none");
        reports.take("report.history.a", &report("a", None), now);
        assert!(all_run_with(&reports, 1, now));
        assert!(!all_run_with(&reports, 2, now));
        assert!(all_run_with(&reports, 2, now + STALE_AFTER));
    }

    #[test]
    fn a_pod_that_may_not_have_been_heard_yet_holds_all_up() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        let all_run_with =
            |reports: &Reports, now| reports.all_run_with("history", 1, ["a", "b"].into_iter(), now);
        assert!(!all_run_with(&reports, now), "nobody has listened");
        reports.listen(now);
        reports.take("report.history.a", &report("a", None), now);
        assert!(!all_run_with(&reports, now), "b has not been heard");
        assert!(all_run_with(&reports, now + STALE_AFTER), "b has nothing to say");
        reports.take("report.history.b", &report("b", None), now);
        assert!(all_run_with(&reports, now));
        // The bus was away, and with it what they would have said.
        let later = now + STALE_AFTER * 2;
        reports.listen(later);
        assert!(!all_run_with(&reports, later));
    }

    #[test]
    fn silence_means_nothing_until_every_sidecar_has_had_its_turn() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        assert!(reports.still_to_hear(now).is_some());
        reports.listen(now);
        assert!(reports.still_to_hear(now + STALE_AFTER / 2).is_some());
        assert_eq!(reports.still_to_hear(now + STALE_AFTER), None);
    }

    #[test]
    fn what_is_no_report_is_ignored() {
        let mut reports = Reports::default();
        assert_eq!(reports.take("report.history.a", b"nonsense", Instant::now()), None);
    }
}
