//! What the rounds of one side gave.

use crate::load::Load;
use crate::table::{median, quantile};

/// The side's figures: medians of its rounds, and CPU over all of them.
#[derive(Default)]
pub struct Side {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    events: usize,
    cpu: f64,
    broker: f64,
}

impl Side {
    /// Adds a round: its load, and the CPU seconds that the side itself and the
    /// broker used meanwhile.
    pub fn add(&mut self, load: &Load, cpu: f64, broker: f64) {
        self.rate.push(load.rate);
        self.p50.push(quantile(&load.latencies, 0.5) * 1e3);
        self.p99.push(quantile(&load.latencies, 0.99) * 1e3);
        self.p999.push(quantile(&load.latencies, 0.999) * 1e3);
        self.events += load.latencies.len();
        self.cpu += cpu;
        self.broker += broker;
    }

    /// Events a second.
    pub fn rate(&self) -> f64 {
        median(self.rate.clone())
    }

    /// Milliseconds that half of the events took at most.
    pub fn p50(&self) -> f64 {
        median(self.p50.clone())
    }

    /// Milliseconds that all but one of a hundred took at most.
    pub fn p99(&self) -> f64 {
        median(self.p99.clone())
    }

    /// Milliseconds that all but one of a thousand took at most.
    pub fn p999(&self) -> f64 {
        median(self.p999.clone())
    }

    /// CPU seconds of a million events.
    pub fn cpu(&self) -> f64 {
        self.million(self.cpu)
    }

    /// The broker's CPU seconds of a million events.
    pub fn broker(&self) -> f64 {
        self.million(self.broker)
    }

    fn million(&self, cpu: f64) -> f64 {
        cpu / self.events.max(1) as f64 * 1e6
    }
}
