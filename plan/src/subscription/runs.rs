//! Replays. A subscription starts over with durables of their own, so that no
//! late acknowledgement of before can count. Each such set of durables is a run;
//! the first one is that of the subscription's making.
//!
//! What the broker holds is the truth: a replay that was begun goes on, with
//! the boundary that it was begun with, whoever crashed in between. A run counts
//! once it is complete; sidecars are told of the newest that is, and only then do
//! the others go.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use murmur_mesh::config::{Replay, parts_of_run};
use murmur_mesh::durable::{self, DurableName};
use murmur_mesh::name::EventType;
use murmur_mesh::subject;

use super::{EventSelector, Start, ValidSubscription};

/// A durable of a subscription that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
}

/// A set of durables that is there, maybe not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The replay that it is; `None` for the first run.
    pub replay: Option<Replay>,
    /// The id that asks for nothing beyond this run: the replay's own, or for
    /// the first run the one that was there at its making.
    pub id: Option<String>,
    /// Whether there is a durable for each shard.
    pub complete: bool,
    /// Its durables.
    pub durables: Vec<String>,
    /// What it has delivered from its start on; `None` when that was not noted.
    first_events: Option<BTreeSet<String>>,
    made: Timestamp,
}

/// The runs of a subscription, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs(Vec<Run>);

/// The run that a subscription should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRun {
    /// The replay that it is; `None` for the first run.
    pub replay: Option<Replay>,
    /// The id that asks for nothing beyond it.
    pub id: Option<String>,
    /// Where those of its durables start that are not there yet.
    pub start: Start,
    /// What it delivers from its start on; `None` when that was not noted.
    pub(super) first_events: Option<BTreeSet<String>>,
}

/// What a subscription asks for.
enum Choice<'a> {
    /// This run, of which there is something.
    Run(&'a Run),
    /// A replay with this id, of which there is nothing.
    Begin(&'a str),
}

/// Which durables the sidecars of a service use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The replay that they are told of.
    pub replay: Option<Replay>,
    /// The runs whose durables they may use, by the replay's id: for a while
    /// the one before the replay is among them.
    pub allowed: BTreeSet<Option<String>>,
}

impl Place {
    /// The place of a sidecar that was told of this replay, or of none.
    pub fn told(replay: Option<Replay>) -> Self {
        Self { allowed: BTreeSet::from([replay.as_ref().map(|replay| replay.id.clone())]), replay }
    }
}

impl Runs {
    /// Sorts the durables of a subscription into its runs.
    pub fn of(subscription: &ValidSubscription, found: &[Found]) -> Self {
        let mut runs: BTreeMap<Option<String>, Run> = BTreeMap::new();
        for durable in found {
            let get = |key: &str| durable.metadata.get(key).cloned();
            let id = get(durable::REPLAY_ID);
            let boundary = get(durable::REPLAY_BOUNDARY).and_then(|text| text.parse().ok());
            let replay = id.clone().zip(boundary).map(|(id, boundary)| Replay { id, boundary });
            let events = get(durable::FIRST_EVENTS)
                .map(|text| text.split(' ').map(str::to_owned).collect::<BTreeSet<_>>());
            let run = runs.entry(replay.as_ref().map(|replay| replay.id.clone())).or_insert_with(|| Run {
                replay,
                id,
                complete: false,
                durables: Vec::new(),
                first_events: events,
                made: durable.created,
            });
            run.id = run.id.take().or_else(|| get(durable::REPLAY_ID));
            run.durables.push(durable.name.clone());
            run.made = run.made.max(durable.created);
        }
        for run in runs.values_mut() {
            let names: BTreeSet<&str> = run.durables.iter().map(String::as_str).collect();
            let replay = run.replay.as_ref().map(|replay| replay.id.as_str());
            run.complete = subscription
                .ordering
                .shards()
                .all(|shard| names.contains(DurableName::new(&subscription.name, shard, replay).as_str()));
        }
        let mut runs: Vec<Run> = runs.into_values().collect();
        runs.sort_by_key(|run| run.made);
        Self(runs)
    }

    /// The newest run that is complete, else the newest.
    pub fn current(&self) -> Option<&Run> {
        self.0.iter().rfind(|run| run.complete).or(self.0.last())
    }

    /// The run that there should be. A replay that is new has the boundary
    /// `last_sequence`, unless it was begun before.
    pub fn wanted(
        &self,
        subscription: &ValidSubscription,
        store_replaced: bool,
        last_sequence: u64,
    ) -> WantedRun {
        let all = || Some(subjects(&subscription.events).collect());
        let Some(current) = self.current() else {
            let start = if store_replaced { Start::All } else { subscription.start };
            // What is asked for at its making has nothing to start over from.
            let id = subscription.replay.as_ref().map(|asked| asked.id.clone());
            return WantedRun { replay: None, id, start, first_events: all() };
        };
        let (run, replay, id) = match self.choice(current, subscription) {
            Choice::Run(run) => (Some(run), run.replay.clone(), run.id.clone()),
            Choice::Begin(id) => {
                let replay = Replay { id: id.to_owned(), boundary: last_sequence };
                (None, Some(replay), Some(id.to_owned()))
            }
        };
        let start = match &replay {
            None if store_replaced => Start::All,
            None => subscription.start,
            Some(replay) => match subscription.replay.as_ref().filter(|asked| asked.id == replay.id) {
                // The same for all shards, whenever each is made.
                Some(asked) if asked.start == Start::New => Start::Sequence(replay.boundary + 1),
                Some(asked) => asked.start,
                None => Start::All,
            },
        };
        let first_events = match run {
            None => all(),
            Some(run) => run.first_events.as_ref().map(|first| {
                // A type that is no longer asked for has a gap if it comes again.
                subjects(&subscription.events).filter(|subject| first.contains(subject)).collect()
            }),
        };
        WantedRun { replay, id, start, first_events }
    }

    /// Whether a replay is asked for that is to be begun now.
    pub fn begins(&self, subscription: &ValidSubscription) -> bool {
        let current = self.current();
        current.is_some_and(|current| matches!(self.choice(current, subscription), Choice::Begin(_)))
    }

    /// What a subscription asks for that has the run `current`.
    fn choice<'a>(&'a self, current: &'a Run, subscription: &'a ValidSubscription) -> Choice<'a> {
        let asked = subscription.replay.as_ref().map(|asked| asked.id.as_str());
        let Some(asked) = asked.filter(|asked| !satisfies(current.id.as_deref(), asked)) else {
            return Choice::Run(current);
        };
        let is_asked = |run: &&Run| run.replay.as_ref().is_some_and(|replay| replay.id == asked);
        let mut newer = self.0.iter().rev().take_while(|run| *run != current);
        match newer.find(is_asked) {
            Some(begun) => Choice::Run(begun),
            // It ended when the current one took its place, and its durables have not gone yet.
            // They have the names that it needs to begin anew, so they go first.
            None if self.0.iter().any(|run| is_asked(&run)) => Choice::Run(current),
            None => Choice::Begin(asked),
        }
    }

    /// The durables of all runs but one.
    pub fn besides(&self, wanted: &WantedRun) -> Vec<&str> {
        let others = self.0.iter().filter(|run| run.replay != wanted.replay);
        others.flat_map(|run| run.durables.iter().map(String::as_str)).collect()
    }

    /// What the sidecars are told and may use.
    pub fn place(&self) -> Place {
        let mut place = Place::told(self.current().and_then(|run| run.replay.clone()));
        let complete = self.0.iter().filter(|run| run.complete);
        place.allowed.extend(complete.map(|run| run.replay.as_ref().map(|replay| replay.id.clone())));
        place
    }
}

impl WantedRun {
    /// The types that were added to the subscription later: they are delivered
    /// from then on only.
    pub fn added_later<'a>(&self, events: &'a [EventSelector]) -> BTreeSet<&'a EventType> {
        let Some(first) = &self.first_events else { return BTreeSet::new() };
        let later = events.iter().filter(|event| {
            let from_any = subject::event_filter(None, None, &event.event_type);
            !first.contains(&subject_of(event)) && !first.contains(&from_any)
        });
        later.map(|event| &event.event_type).collect()
    }

    /// What its durables bear of it.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let boundary = self.replay.as_ref().map(|replay| replay.boundary.to_string());
        let first = self.first_events.as_ref();
        let first = first.map(|first| first.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        [
            (durable::REPLAY_ID, self.id.clone()),
            (durable::REPLAY_BOUNDARY, boundary),
            (durable::FIRST_EVENTS, first),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }
}

/// Whether a run is what is asked for. Where no definition is asked for, one of any will do.
fn satisfies(run: Option<&str>, asked: &str) -> bool {
    run == Some(asked)
        || parts_of_run(asked).is_none()
            && run.and_then(parts_of_run).is_some_and(|(replay, _)| replay == asked)
}

fn subject_of(event: &EventSelector) -> String {
    subject::event_filter(event.from.as_ref(), None, &event.event_type)
}

fn subjects(events: &[EventSelector]) -> impl Iterator<Item = String> {
    events.iter().map(subject_of)
}

#[cfg(test)]
mod tests;
