//! Histograms of neurons' importance.

use super::{Axis, Figure, Mark, Panel, Point, Series};
use crate::pruning::LayerScores;

/// Number of bars in a histogram.
const BINS: usize = 60;

/// Bars of equal width on an axis, which is logarithmic if no score is negative.
struct Bins {
    logarithmic: bool,
    low: f64,
    width: f64,
}

impl Bins {
    /// Chooses bars for `scores`; `None` if no score has a place on the axis.
    fn over(scores: &[f64]) -> Option<Self> {
        let logarithmic = scores.iter().all(|&score| score >= 0.0);
        let mut bins = Self { logarithmic, low: 0.0, width: 1.0 };
        let places = scores.iter().map(|&score| bins.place(score));
        let mut places: Vec<f64> = places.filter(|place| place.is_finite()).collect();
        places.sort_by(f64::total_cmp);
        let (&first, &last) = (places.first()?, places.last()?);
        // A few outliers would squeeze all others into one bar.
        let few = places.len() / 200;
        let low = first.max(places[few]);
        let high = if logarithmic { last } else { places[places.len() - 1 - few] };
        bins.low = low;
        bins.width = if high > low { (high - low) / BINS as f64 } else { 1.0 };
        Some(bins)
    }

    /// Place of a score on the axis; not finite if it has none.
    fn place(&self, score: f64) -> f64 {
        if self.logarithmic { score.log10() } else { score }
    }

    /// Counts `scores` in each bar, with those beyond the ends in the outermost, and those without a
    /// place.
    fn count(&self, scores: &[f64]) -> ([f64; BINS], usize) {
        let mut counts = [0.0; BINS];
        let mut nowhere = 0;
        for place in scores.iter().map(|&score| self.place(score)) {
            if place.is_finite() {
                let bin = ((place - self.low) / self.width).max(0.0) as usize;
                counts[bin.min(BINS - 1)] += 1.0;
            } else {
                nowhere += 1;
            }
        }
        (counts, nowhere)
    }

    /// Bars of these heights, standing on `feet`.
    fn bars(&self, counts: &[f64; BINS], feet: &[f64; BINS]) -> Vec<Point> {
        let bar = |(bin, (count, foot)): (usize, (&f64, &f64))| {
            let x = self.low + (bin as f64 + 0.5) * self.width;
            Point { x, y: foot + count, low: *foot, high: foot + count }
        };
        let bars = counts.iter().zip(feet).enumerate();
        bars.filter(|(_, (count, _))| **count > 0.0).map(bar).collect()
    }

    fn mark(&self) -> Mark {
        Mark::Bars(self.width)
    }

    /// A panel of `series` on this axis.
    fn panel(&self, series: Vec<Series>) -> Panel {
        Panel {
            x_label: "importance".into(),
            y_label: "neurons".into(),
            x: if self.logarithmic { Axis::Power } else { Axis::Number },
            from_zero: true,
            series,
            ..Panel::default()
        }
    }

    fn ends(&self) -> [f64; 2] {
        [self.low, self.low + self.width * BINS as f64]
    }
}

/// `ITP: 300, 2 at 0`.
fn label(name: &str, count: usize, nowhere: usize) -> String {
    match nowhere {
        0 => format!("{name}: {count}"),
        zeros => format!("{name}: {count}, {zeros} at 0"),
    }
}

fn finite<'a>(scores: impl Iterator<Item = &'a f32>) -> Vec<f64> {
    scores.map(|&score| f64::from(score)).filter(|score| score.is_finite()).collect()
}

/// Histogram of the importance of a model's neurons, kept ones and pruned ones.
pub fn importance_figure(title: &str, layers: &[LayerScores]) -> Figure {
    let groups = [
        ("kept", finite(layers.iter().flat_map(|layer| &layer.kept))),
        ("pruned", finite(layers.iter().flat_map(|layer| &layer.pruned))),
    ];
    let Some(bins) = Bins::over(&[&groups[0].1[..], &groups[1].1].concat()) else {
        return Figure { title: title.into(), panels: Vec::new() };
    };
    let mut feet = [0.0; BINS];
    let mut series = Vec::new();
    for (name, scores) in groups.iter().filter(|(_, scores)| !scores.is_empty()) {
        let (counts, nowhere) = bins.count(scores);
        let label = label(name, scores.len(), nowhere);
        series.push(Series::new(label, bins.mark(), bins.bars(&counts, &feet)));
        feet.iter_mut().zip(counts).for_each(|(foot, count)| *foot += count);
    }
    Figure { title: title.into(), panels: vec![bins.panel(series)] }
}

/// Histograms of the importance of neurons in several runs by name, with medians: a panel for each on a
/// common axis (figure 3 of Li et al. 2023, with scores before pruning).
pub fn importance_comparison_figure(title: &str, runs: &[(String, Vec<LayerScores>)]) -> Figure {
    let all = |layers: &[LayerScores]| {
        finite(layers.iter().flat_map(|layer| layer.kept.iter().chain(&layer.pruned)))
    };
    let runs: Vec<(&String, Vec<f64>)> =
        runs.iter().map(|(name, layers)| (name, all(layers))).collect();
    let together: Vec<f64> = runs.iter().flat_map(|(_, scores)| scores).copied().collect();
    let Some(bins) = Bins::over(&together) else {
        return Figure { title: title.into(), panels: Vec::new() };
    };
    let counted: Vec<_> = runs.iter().map(|(_, scores)| bins.count(scores)).collect();
    let tallest = counted.iter().flat_map(|(counts, _)| counts).copied().fold(1.0, f64::max);
    let panels = runs.into_iter().zip(counted).map(|((name, mut scores), (counts, nowhere))| {
        let name = label(name, scores.len(), nowhere);
        let mut series = vec![Series::new(name, bins.mark(), bins.bars(&counts, &[0.0; BINS]))];
        scores.sort_by(f64::total_cmp);
        if let Some(&median) = scores.get(scores.len() / 2) {
            let ends = [0.0, tallest].map(|y| Point::new(bins.place(median), y));
            series.push(Series::new(format!("median {median:.1e}"), Mark::Dashed, ends.to_vec()));
        }
        Panel { x_range: Some(bins.ends()), ..bins.panel(series) }
    });
    Figure { title: title.into(), panels: panels.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(series: &Series) -> f64 {
        series.points.iter().map(|p| p.y - p.low).sum()
    }

    #[test]
    fn importance_is_counted_whole_and_stacked() {
        let layers: Vec<LayerScores> = (0..3)
            .map(|at| LayerScores {
                name: format!("{at}"),
                kept: (1..=100).map(|i| i as f32 * 0.01).collect(),
                pruned: (0..100).map(|i| i as f32 * 1e-4).collect(),
            })
            .collect();
        let figure = importance_figure("importance", &layers);
        let [kept, pruned] = &figure.panels[0].series[..] else { panic!("{figure:?}") };
        assert_eq!(
            (kept.name.as_str(), pruned.name.as_str()),
            ("kept: 300", "pruned: 300, 3 at 0")
        );
        assert_eq!((count(kept), count(pruned)), (300.0, 297.0));
        assert_eq!(figure.panels[0].x, Axis::Power);
        // Bars stand on those below.
        let shared = pruned.points.iter().find(|p| p.low > 0.0).unwrap();
        assert!(kept.points.iter().any(|p| p.x == shared.x && p.y == shared.low));
        let negative = LayerScores { kept: vec![-1.0, 2.0], ..LayerScores::default() };
        assert_eq!(importance_figure("movement", &[negative]).panels[0].x, Axis::Number);
        assert!(importance_figure("none", &[]).is_empty());
    }

    #[test]
    fn runs_are_compared_on_one_axis() {
        let run = |name: &str, scale: f32| {
            let kept = (1..=99).map(|i| i as f32 * scale).collect();
            let layer = LayerScores { name: "a".into(), kept, pruned: vec![0.0] };
            (name.to_string(), vec![layer])
        };
        let runs = [run("ITP", 1e-2), run("LoSparse", 1e-4)];
        let figure = importance_comparison_figure("before", &runs);
        let [itp, losparse] = &figure.panels[..] else { panic!("{figure:?}") };
        assert_eq!((itp.x_range, itp.x), (losparse.x_range, Axis::Power));
        let [low, high] = itp.x_range.unwrap();
        assert!(low < -3.0 && (high - 0.99f64.log10()).abs() < 1e-6, "{low} {high}");
        let names: Vec<&str> = itp.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["ITP: 100, 1 at 0", "median 5.0e-1"]);
        for (panel, median) in [(itp, 0.5f64), (losparse, 0.005)] {
            let [bars, line] = &panel.series[..] else { panic!("{panel:?}") };
            assert_eq!(count(bars), 99.0);
            assert!((line.points[0].x - median.log10()).abs() < 1e-6, "{line:?}");
        }
        // One height, too.
        assert_eq!(itp.series[1].points[1].y, losparse.series[1].points[1].y);
        assert!(importance_comparison_figure("none", &[]).is_empty());
        assert!(importance_comparison_figure("none", &[("ITP".into(), vec![])]).is_empty());
    }
}
