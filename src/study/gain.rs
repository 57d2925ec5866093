//! What the low-rank part is worth: LoSparse against ITP, all else equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Cell;
use super::cell::{is_rate, mean, spread};
use crate::tasks::MetricKind;

/// LoSparse minus ITP at the same settings, each at its best learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// LoSparse's settings, without the method; a learning rate as `LoSparse's / ITP's` where they
    /// are not the same.
    pub settings: BTreeMap<String, String>,
    /// The metric.
    pub metric: MetricKind,
    /// Mean over seeds of the difference of the two runs of a seed.
    pub mean: f64,
    /// Its standard deviation over seeds; absent with fewer than two.
    pub spread: Option<f64>,
    /// Seeds that both have.
    pub seeds: Vec<u64>,
}

/// Whether an axis is about the low-rank part alone, which ITP has not.
fn is_low_rank(axis: &str) -> bool {
    matches!(axis.rsplit('.').next(), Some("low_rank_share" | "low_rank_ratio" | "rank"))
}

fn rest(cell: &Cell) -> BTreeMap<&str, &str> {
    let settings = cell.settings.iter().map(|(axis, value)| (axis.as_str(), value.as_str()));
    settings.filter(|(axis, _)| *axis != "method" && !is_rate(axis) && !is_low_rank(axis)).collect()
}

/// The gains of LoSparse over ITP among the cells at their best learning rate.
pub(super) fn gains(chosen: &[&Cell]) -> Vec<Gain> {
    let of = |name: &str| -> Vec<&&Cell> {
        chosen.iter().filter(|c| c.settings.get("method").is_some_and(|m| m == name)).collect()
    };
    let itp = of("itp");
    let gain = |cell: &&&Cell| {
        let other =
            itp.iter().find(|other| rest(other) == rest(cell) && other.ratio == cell.ratio)?;
        let metric = cell.primary?;
        let pairs = cell.runs.iter().filter_map(|run| {
            let rival = other.runs.iter().find(|rival| rival.seed == run.seed)?;
            Some((run.seed, run.metrics.get(&metric)? - rival.metrics.get(&metric)?))
        });
        let (seeds, differences): (Vec<u64>, Vec<f64>) = pairs.unzip();
        let mut settings = cell.settings.clone();
        settings.remove("method");
        for (axis, value) in settings.iter_mut().filter(|(axis, _)| is_rate(axis)) {
            if let Some(rate) = other.settings.get(axis).filter(|rate| *rate != value) {
                *value = format!("{value} / {rate}");
            }
        }
        let (mean, spread) = (mean(&differences)?, spread(&differences));
        Some(Gain { settings, metric, mean, spread, seeds })
    };
    of("losparse").iter().filter_map(gain).collect()
}
