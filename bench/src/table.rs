//! What a benchmark found: a table to read and a file to compute with.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::{Serialize, Serializer};

/// One figure of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// What was measured.
    pub figure: String,
    /// Its unit.
    pub unit: String,
    /// With Murmur.
    pub murmur: f64,
    /// Without it: the same work by a bare client, in the same run.
    pub bare: Option<f64>,
    /// The first by the second.
    pub ratio: Option<f64>,
    /// What is asked of it; in the file the number alone, or null.
    #[serde(serialize_with = "number")]
    pub bar: Bar,
    /// Whether it does as the bar asks.
    pub met: Option<bool>,
}

/// What is asked of a figure: of itself, or of its ratio to the bare one.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// Nothing.
    None,
    /// The figure itself must not be more, whatever the bare one is.
    AtMost(f64),
    /// The figure itself must not be less.
    AtLeast(f64),
    /// The ratio must not be more.
    RatioAtMost(f64),
    /// The ratio must not be less.
    RatioAtLeast(f64),
}

impl Bar {
    /// Whether it is met; a ratio that there is none of does not meet anything.
    fn met(self, figure: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(bar) => Some(figure <= bar),
            Self::AtLeast(bar) => Some(figure >= bar),
            Self::RatioAtMost(bar) => Some(ratio.is_some_and(|ratio| ratio <= bar)),
            Self::RatioAtLeast(bar) => Some(ratio.is_some_and(|ratio| ratio >= bar)),
        }
    }
}

fn number<S: Serializer>(bar: &Bar, serializer: S) -> Result<S::Ok, S::Error> {
    match bar {
        Bar::None => serializer.serialize_none(),
        Bar::AtMost(bar) | Bar::AtLeast(bar) | Bar::RatioAtMost(bar) | Bar::RatioAtLeast(bar) => {
            serializer.serialize_f64(*bar)
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::None => "-".to_owned(),
            Self::AtMost(bar) => format!("<= {bar}"),
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::RatioAtMost(bar) => format!("<= {bar} x"),
            Self::RatioAtLeast(bar) => format!(">= {bar} x"),
        })
    }
}

/// The rows of one benchmark.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure; `bare` is what it is compared with.
    pub fn add(
        &mut self,
        scenario: &str,
        figure: &str,
        unit: &str,
        murmur: f64,
        bare: Option<f64>,
        bar: Bar,
    ) {
        let ratio = bare.filter(|bare| *bare > 0.0).map(|bare| murmur / bare);
        self.rows.push(Row {
            scenario: scenario.to_owned(),
            figure: figure.to_owned(),
            unit: unit.to_owned(),
            murmur,
            bare,
            ratio,
            bar,
            met: bar.met(murmur, ratio),
        });
    }

    /// Prints the table and writes it as `target/bench/<name>.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[allow(clippy::print_stdout, reason = "a table is for reading")]
    pub fn finish(&self, name: &str) -> Result<()> {
        println!("\n{name}");
        println!(
            "{:<40} {:<22} {:>12} {:>12} {:>8} {:>10}  unit",
            "scenario", "figure", "murmur", "bare", "ratio", "bar"
        );
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            println!(
                "{:<40} {:<22} {:>12.2} {:>12} {:>8} {:>10}  {}{}",
                row.scenario,
                row.figure,
                row.murmur,
                number(row.bare),
                number(row.ratio),
                row.bar,
                row.unit,
                if row.met == Some(false) { "  (bar not met)" } else { "" },
            );
        }
        let folder = Path::new("target/bench");
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&self.rows)?)?;
        Ok(())
    }
}

/// The median; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The largest; 0 of nothing.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The `share` (0 to 1) quantile; 0 of nothing.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    // A share of at most 1 of a length keeps within usize.
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index.min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]).to_bits(), 2.5_f64.to_bits());
        assert_eq!(median(vec![]).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_bar_asks_something_of_the_figure_or_of_its_ratio_to_the_bare_one() {
        let met = |murmur, bare, bar| {
            let mut table = Table::default();
            table.add("s", "f", "u", murmur, bare, bar);
            table.rows[0].met
        };
        assert_eq!(met(50.0, Some(100.0), Bar::RatioAtLeast(0.6)), Some(false));
        assert_eq!(met(50.0, Some(100.0), Bar::AtLeast(0.6)), Some(true));
        assert_eq!(met(1.5, Some(1.0), Bar::RatioAtMost(1.6)), Some(true));
        assert_eq!(met(1.5, Some(1.5), Bar::AtMost(1.4)), Some(false));
        assert_eq!(met(1.5, None, Bar::RatioAtMost(2.0)), Some(false), "there is no ratio");
        assert_eq!(met(1.5, Some(1.0), Bar::None), None);
    }
}
