//! What is held and what may go next. Pure.
//!
//! Events of one key share a lane: the first of it is sent, waits for its retry
//! or is buried, and only when it is done does the next one follow, in the
//! order of the stream. Events without a lane go whenever there is room.
//!
//! While a durable is shut, its events stand aside, in no lane; once it opens they
//! go into their lanes in the order of the stream.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use tokio::time::Instant;

/// An event's name while it is held: the durable that it came from, and its
/// place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Position {
    /// The index of the durable within the subscription.
    pub(super) durable: usize,
    /// The sequence in the stream.
    pub(super) sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind another one in its lane.
    Behind,
    /// May be sent.
    Ready,
    /// Out of the lanes' hands: with the service, or on its way to the dead letters.
    Out,
    /// May be sent from this moment on.
    Waiting(Instant),
    /// Its durable is shut.
    Aside,
}

#[derive(Debug)]
struct Held<E> {
    event: E,
    lane: Option<u64>,
    state: State,
    /// Dropped while it was out: the broker may have given it to another.
    lost: bool,
}

/// The events of one subscription that are held here.
#[derive(Debug)]
pub(super) struct Lanes<E> {
    held: HashMap<Position, Held<E>>,
    lanes: HashMap<u64, VecDeque<Position>>,
    /// May name events that are no longer ready; they are skipped.
    ready: VecDeque<Position>,
    /// May name events that no longer wait; they are skipped.
    waiting: BinaryHeap<Reverse<(Instant, Position)>>,
    shut: HashSet<usize>,
    out: usize,
}

impl<E> Lanes<E> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            held: HashMap::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            shut: HashSet::new(),
            out: 0,
        }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// An event that is held.
    pub(super) fn get_mut(&mut self, position: Position) -> Option<&mut E> {
        self.held.get_mut(&position).map(|held| &mut held.event)
    }

    /// Whether an event was dropped while it was out, or is not held at all.
    pub(super) fn is_lost(&self, position: Position) -> bool {
        self.held.get(&position).is_none_or(|held| held.lost)
    }

    /// Takes an event in. One that is held already comes back: the broker
    /// delivered it again, and it is ours again if it was lost.
    pub(super) fn admit(&mut self, position: Position, lane: Option<u64>, event: E) -> Option<E> {
        let state = match self.held.entry(position) {
            MapEntry::Occupied(mut known) => {
                known.get_mut().lost = false;
                return Some(event);
            }
            MapEntry::Vacant(place) => {
                let state = if self.shut.contains(&position.durable) {
                    State::Aside
                } else {
                    Self::enter(&mut self.lanes, lane, position)
                };
                place.insert(Held { event, lane, state, lost: false });
                state
            }
        };
        if state == State::Ready {
            self.ready.push_back(position);
        }
        None
    }

    fn enter(lanes: &mut HashMap<u64, VecDeque<Position>>, lane: Option<u64>, position: Position) -> State {
        lane.map_or(State::Ready, |lane| Self::queue(lanes.entry(lane).or_default(), position))
    }

    /// Lets nothing of a durable be sent until it opens again. What is out stays out.
    pub(super) fn shut(&mut self, durable: usize) {
        self.shut.insert(durable);
        for position in self.positions(durable) {
            if let Some(held) = self.held.get_mut(&position)
                && held.state != State::Out
            {
                held.state = State::Aside;
                if let Some(lane) = held.lane {
                    self.leave(lane, position);
                }
            }
        }
    }

    /// Lets the events of a durable be sent, each lane in the order of the stream.
    pub(super) fn open(&mut self, durable: usize) {
        if !self.shut.remove(&durable) {
            return;
        }
        // Those that were ready before it was shut: what has no lane would go before others.
        self.ready.retain(|position| position.durable != durable);
        for position in self.positions(durable) {
            if let Some(held) = self.held.get_mut(&position)
                && held.state == State::Aside
            {
                held.state = Self::enter(&mut self.lanes, held.lane, position);
                if held.state == State::Ready {
                    self.ready.push_back(position);
                }
            }
        }
    }

    /// In stream order, but never before the first: that one may be out.
    fn queue(lane: &mut VecDeque<Position>, position: Position) -> State {
        if lane.is_empty() {
            lane.push_back(position);
            return State::Ready;
        }
        let behind = lane.iter().skip(1).rposition(|other| other.sequence < position.sequence);
        lane.insert(behind.map_or(1, |index| index + 2), position);
        State::Behind
    }

    /// The next event that may be sent; it is out from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Position> {
        self.wake(now);
        while let Some(position) = self.ready.pop_front() {
            if let Some(held) = self.held.get_mut(&position)
                && held.state == State::Ready
            {
                held.state = State::Out;
                self.out += 1;
                return Some(position);
            }
        }
        None
    }

    /// How many may be sent; perhaps fewer.
    pub(super) fn ready(&mut self, now: Instant) -> usize {
        self.wake(now);
        self.ready.len()
    }

    /// Takes an event out of turn: it goes no further than to the dead letters.
    pub(super) fn take_out(&mut self, position: Position) {
        if let Some(held) = self.held.get_mut(&position)
            && held.state != State::Out
        {
            held.state = State::Out;
            self.out += 1;
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((due, position))) = self.waiting.peek() {
            if due > now {
                break;
            }
            self.waiting.pop();
            if let Some(held) = self.held.get_mut(&position)
                && held.state == State::Waiting(due)
            {
                held.state = State::Ready;
                self.ready.push_back(position);
            }
        }
    }

    /// When the next event stops waiting.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, _))| *due)
    }

    /// An event that is out may be sent again at once, after the others that are ready.
    pub(super) fn put_back(&mut self, position: Position) {
        if self.in_again(position, State::Ready) {
            self.ready.push_back(position);
        }
    }

    /// An event that is out may be sent again at once, before all others.
    pub(super) fn put_first(&mut self, position: Position) {
        if self.in_again(position, State::Ready) {
            self.ready.push_front(position);
        }
    }

    /// An event that is out may be sent again at this moment.
    pub(super) fn put_off(&mut self, position: Position, until: Instant) {
        if self.in_again(position, State::Waiting(until)) {
            self.waiting.push(Reverse((until, position)));
        }
    }

    /// Whether it is still held here and ours, and may be sent; if it is lost, it is let go.
    fn in_again(&mut self, position: Position, state: State) -> bool {
        match self.held.get_mut(&position) {
            Some(held) if held.state == State::Out && !held.lost => {
                self.out -= 1;
                if self.shut.contains(&position.durable) {
                    held.state = State::Aside;
                    if let Some(lane) = held.lane {
                        self.leave(lane, position);
                    }
                    return false;
                }
                held.state = state;
                true
            }
            Some(held) if held.state == State::Out => {
                self.finish(position);
                false
            }
            _ => false,
        }
    }

    /// An event is over; the next of its lane may go.
    pub(super) fn finish(&mut self, position: Position) -> Option<E> {
        let held = self.held.remove(&position)?;
        if held.state == State::Out {
            self.out -= 1;
        }
        if let Some(lane) = held.lane {
            self.leave(lane, position);
        }
        Some(held.event)
    }

    fn leave(&mut self, lane: u64, position: Position) {
        let MapEntry::Occupied(mut places) = self.lanes.entry(lane) else { return };
        let queue = places.get_mut();
        let was_first = queue.front() == Some(&position);
        queue.retain(|other| *other != position);
        let Some(&first) = queue.front() else {
            places.remove();
            return;
        };
        if was_first
            && let Some(held) = self.held.get_mut(&first)
            && held.state == State::Behind
        {
            held.state = State::Ready;
            self.ready.push_back(first);
        }
    }

    /// Drops what is held of one durable. What is out stays until its answer
    /// comes, but is not tried again. Returns what was dropped.
    pub(super) fn drop_durable(&mut self, durable: usize) -> Vec<E> {
        let mut dropped = Vec::new();
        for position in self.positions(durable) {
            match self.held.get_mut(&position) {
                Some(held) if held.state == State::Out => held.lost = true,
                _ => dropped.extend(self.finish(position)),
            }
        }
        // Lanes are finished front to back, so what became ready on the way is gone, too.
        dropped
    }

    /// The positions of one durable, in stream order.
    fn positions(&self, durable: usize) -> Vec<Position> {
        let mut positions: Vec<_> =
            self.held.keys().copied().filter(|position| position.durable == durable).collect();
        positions.sort_unstable();
        positions
    }

    /// The last place in the stream of which an event of this durable is held; 0 where none is.
    pub(super) fn last(&self, durable: usize) -> u64 {
        let places = self.held.keys().filter(|position| position.durable == durable);
        places.map(|position| position.sequence).max().unwrap_or_default()
    }

    /// Takes out all of these that is not out, in stream order.
    pub(super) fn release(&mut self, these: impl Fn(Position) -> bool) -> Vec<E> {
        let mut positions: Vec<_> = self
            .held
            .iter()
            .filter(|(position, held)| held.state != State::Out && these(**position))
            .map(|(position, _)| *position)
            .collect();
        positions.sort_unstable_by_key(|position| position.sequence);
        positions.into_iter().filter_map(|position| self.finish(position)).collect()
    }

    /// The events of a durable that are held and ours, up to a place in the stream.
    pub(super) fn up_to(&self, durable: usize, sequence: u64) -> impl Iterator<Item = (u64, &E)> {
        self.held
            .iter()
            .filter(move |(position, held)| {
                position.durable == durable && position.sequence <= sequence && !held.lost
            })
            .map(|(position, held)| (position.sequence, &held.event))
    }

    /// All positions, each with the size of its event.
    pub(super) fn sizes(&self, size: impl Fn(&E) -> usize) -> Vec<(Position, usize)> {
        self.held.iter().map(|(position, held)| (*position, size(&held.event))).collect()
    }

    /// All that are held and ours.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Position, &mut E)> {
        self.held
            .iter_mut()
            .filter(|(_, held)| !held.lost)
            .map(|(position, held)| (*position, &mut held.event))
    }
}

#[cfg(test)]
mod tests;
