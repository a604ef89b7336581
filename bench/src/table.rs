//! What a benchmark found: a table to read and a file to compute with.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

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
    /// What the ratio, or the figure where there is nothing to compare with,
    /// must not exceed (or, for rates, not fall below); `None` where no bar is set.
    pub bar: Option<f64>,
    /// Whether it does as the bar asks.
    pub met: Option<bool>,
}

/// How a figure is held against its bar.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// There is none.
    None,
    /// It must not be more.
    AtMost(f64),
    /// It must not be less.
    AtLeast(f64),
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
        let judged = ratio.unwrap_or(murmur);
        let (bar, met) = match bar {
            Bar::None => (None, None),
            Bar::AtMost(bar) => (Some(bar), Some(judged <= bar)),
            Bar::AtLeast(bar) => (Some(bar), Some(judged >= bar)),
        };
        self.rows.push(Row {
            scenario: scenario.to_owned(),
            figure: figure.to_owned(),
            unit: unit.to_owned(),
            murmur,
            bare,
            ratio,
            bar,
            met,
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
            "{:<40} {:<22} {:>12} {:>12} {:>8} {:>8}  unit",
            "scenario", "figure", "murmur", "bare", "ratio", "bar"
        );
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            println!(
                "{:<40} {:<22} {:>12.2} {:>12} {:>8} {:>8}  {}{}",
                row.scenario,
                row.figure,
                row.murmur,
                number(row.bare),
                number(row.ratio),
                number(row.bar),
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
    fn a_rate_below_its_bar_is_not_met() {
        let mut table = Table::default();
        table.add("s", "f", "1/s", 50.0, Some(100.0), Bar::AtLeast(0.6));
        table.add("s", "f", "ms", 1.5, Some(1.0), Bar::AtMost(1.6));
        assert_eq!(table.rows.iter().map(|row| row.met).collect::<Vec<_>>(), [Some(false), Some(true)]);
    }
}
