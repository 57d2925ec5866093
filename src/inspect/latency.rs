//! Latency of models against each other on one machine.
//!
//! Contestants alternate, so that a machine that slows down slows all of them: each repetition runs
//! every contestant once, every other repetition in reverse order, and speed is compared within
//! repetitions.

use std::time::Instant;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Times of one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Name of the contestant.
    pub name: String,
    /// Median time of a forward pass, milliseconds.
    pub median_ms: f64,
    /// Shortest time, milliseconds.
    pub min_ms: f64,
    /// Longest time, milliseconds.
    pub max_ms: f64,
    /// Examples per second at the median time.
    pub examples_per_second: f64,
    /// Speed relative to the first contestant: the median over repetitions of the ratio of both times.
    pub speedup: f64,
}

/// A measurement and its conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Examples in a batch.
    pub batch: usize,
    /// Tokens of an example.
    pub length: usize,
    /// Measured repetitions.
    pub repetitions: usize,
    /// Threads of the CPU backends.
    pub threads: usize,
    /// The contestants, in the order given.
    pub contestants: Vec<Latency>,
}

/// Number of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repetitions {
    /// Runs of each contestant before measuring.
    pub warmup: usize,
    /// Measured runs of each contestant.
    pub measured: usize,
}

impl Default for Repetitions {
    fn default() -> Self {
        Self { warmup: 2, measured: 20 }
    }
}

/// A contestant: its name and a function that runs it once.
pub type Contestant<'a> = (String, Box<dyn FnMut() -> Result<()> + 'a>);

/// Times every contestant. The device is synchronised before and after every run.
///
/// # Errors
/// Those of the contestants and the device; also if there is nothing to measure.
pub fn measure(
    contestants: &mut [Contestant<'_>],
    repetitions: Repetitions,
    [batch, length]: [usize; 2],
    device: &Device,
) -> Result<LatencyReport> {
    if repetitions.measured == 0 {
        return Err(Error::option("repeat", "must be at least 1"));
    }
    for _ in 0..repetitions.warmup {
        contestants.iter_mut().try_for_each(|(_, run)| time(run, device).map(|_| ()))?;
    }
    let mut seconds = vec![Vec::with_capacity(repetitions.measured); contestants.len()];
    for repetition in 0..repetitions.measured {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let taken = time(&mut contestants[at].1, device)?;
            seconds[at].push(taken);
        }
    }
    let names = contestants.iter().map(|(name, _)| name.clone()).collect();
    Ok(LatencyReport {
        batch,
        length,
        repetitions: repetitions.measured,
        threads: rayon::current_num_threads(),
        contestants: summarise(names, &seconds, batch),
    })
}

fn time(run: &mut dyn FnMut() -> Result<()>, device: &Device) -> Result<f64> {
    let sync = || {
        let failed = |e| Error::device(format!("{device:?}"), format!("does not finish: {e:?}"));
        device.sync().map_err(failed)
    };
    sync()?;
    let start = Instant::now();
    run()?;
    sync()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Summarises `seconds[contestant][repetition]`.
fn summarise(names: Vec<String>, seconds: &[Vec<f64>], batch: usize) -> Vec<Latency> {
    let summary = names.into_iter().zip(seconds).map(|(name, times)| {
        let first = seconds.first().map_or(times, |first| first);
        let quotients = first.iter().zip(times).map(|(first, time)| first / time).collect();
        let middle = median(times.clone());
        Latency {
            name,
            median_ms: middle * 1e3,
            min_ms: times.iter().copied().fold(f64::INFINITY, f64::min) * 1e3,
            max_ms: times.iter().copied().fold(0.0, f64::max) * 1e3,
            examples_per_second: batch as f64 / middle,
            speedup: median(quotients),
        }
    });
    summary.collect()
}

/// The median of `values`: the middle one, or the mean of the middle two; NaN without values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn contestants_take_turns_and_swap() {
        let order = RefCell::new(String::new());
        let contestant = |name: &'static str| -> Contestant<'_> {
            let order = &order;
            (
                name.into(),
                Box::new(move || {
                    order.borrow_mut().push_str(name);
                    Ok(())
                }),
            )
        };
        let repetitions = Repetitions { warmup: 1, measured: 3 };
        let mut contestants = [contestant("a"), contestant("b")];
        let report = measure(&mut contestants, repetitions, [4, 8], &Device::default()).unwrap();
        assert_eq!(*order.borrow(), "ababbaab");
        assert_eq!((report.batch, report.length, report.repetitions), (4, 8, 3));
        assert_eq!(report.contestants[1].name, "b");
    }

    #[test]
    fn summaries_are_medians_and_paired_quotients() {
        let seconds = [vec![0.4, 0.2, 0.8], vec![0.1, 0.1, 0.1]];
        let rows = summarise(vec!["a".into(), "b".into()], &seconds, 2);
        assert_eq!((rows[0].median_ms, rows[0].min_ms, rows[0].max_ms), (400.0, 200.0, 800.0));
        assert_eq!((rows[0].examples_per_second, rows[0].speedup), (5.0, 1.0));
        assert_eq!(rows[1].speedup, 4.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0, 10.0]), 2.5);
    }

    #[test]
    fn failures_and_nothing_to_measure_are_errors() {
        let device = Device::default();
        let none = Repetitions { warmup: 0, measured: 0 };
        assert!(measure(&mut [], none, [1, 1], &device).is_err());
        let mut broken: [Contestant; 1] =
            [("a".into(), Box::new(|| Err(Error::Training("broken".into()))))];
        let error = measure(&mut broken, Repetitions::default(), [1, 1], &device).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
