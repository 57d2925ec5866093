//! Shows the progress of a run: on a terminal one line that is redrawn, elsewhere a plain line now
//! and then.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use losparse::inspect::visible;
use losparse::train::{Event, Observer};

use super::output::{self, CLEAR_LINE};

/// Shortest time between redraws on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Shortest time between plain lines.
const PLAIN: Duration = Duration::from_secs(10);
/// Weight of the newest loss in the smoothed one.
const SMOOTHING: f64 = 0.05;

/// An observer that prints a run's events.
pub struct Progress {
    /// Print text for people to stderr.
    text: bool,
    /// Print events as JSON lines to stdout.
    json: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loss: Option<f64>,
    /// Update and seconds of the first event; a resumed run does not begin at 0.
    first: Option<(usize, f64)>,
    metric: Option<String>,
    /// Share of `S` that the last pruning kept.
    kept: Option<f64>,
    skipped: usize,
    /// Update of the latest event.
    newest: usize,
    shown: Option<Instant>,
}

impl Progress {
    /// Prints text for people unless `quiet`, and JSON lines if `json`.
    pub fn new(quiet: bool, json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { text: !quiet, json, terminal, state: Mutex::default() }
    }

    fn show(&self, event: &Event) {
        // The lock is poisoned if another thread panicked while printing; the state is still good.
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(line) = state.line(event) else { return };
        if !matches!(event, Event::Step { .. } | Event::Progress { .. }) {
            output::note(&line);
            return;
        }
        let every = if self.terminal { REDRAW } else { PLAIN };
        let now = Instant::now();
        // Without a terminal, the first plain line comes after a while, too.
        let since = *state.shown.get_or_insert(now);
        if now.duration_since(since) < every {
            return;
        }
        state.shown = Some(now);
        if self.terminal {
            let line = output::shorten(&line, output::terminal_width().saturating_sub(1));
            let mut err = io::stderr().lock();
            // If stderr is closed, there is nowhere to report that.
            let _ = write!(err, "{CLEAR_LINE}{}", visible(&line)).and_then(|()| err.flush());
        } else {
            output::note(&line);
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        if self.json {
            output::print_event(event);
        }
        if self.text {
            self.show(event);
        }
    }
}

impl State {
    /// The line for people about an event, if it is worth one.
    fn line(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Stage { name } => format!("· {name}"),
            Event::Note { message } => message.clone(),
            Event::Step { step, total, loss, kept, skipped, seconds, .. } => {
                if *step <= self.newest {
                    // The next run of a study has begun; forget the previous one.
                    *self = Self { shown: self.shown, ..Self::default() };
                }
                self.newest = *step;
                if loss.is_finite() {
                    let smoothed = self.loss.map_or(*loss, |old| old + SMOOTHING * (loss - old));
                    self.loss = Some(smoothed);
                }
                self.skipped += usize::from(*skipped);
                let (first, begun) = *self.first.get_or_insert((*step, *seconds));
                let mut line = format!("step {step}/{total}");
                if let Some(loss) = self.loss {
                    line += &format!("  loss {loss:.4}");
                }
                self.kept = kept.or(self.kept);
                if let Some(kept) = self.kept {
                    line += &format!("  kept {:.1}%", kept * 100.0);
                }
                if let Some(metric) = &self.metric {
                    line += &format!("  {metric}");
                }
                if self.skipped > 0 {
                    line += &format!("  skipped {}", self.skipped);
                }
                if step > &first {
                    let each = (seconds - begun) / (step - first) as f64;
                    let left = each * total.saturating_sub(*step) as f64;
                    line += &format!("  {} left", output::duration(left));
                }
                line
            }
            Event::Progress { done, total } => format!("{done} of {total} examples"),
            Event::Evaluation { step, total, metrics, best } => {
                self.metric = Some(format!("{} {:.4}", metrics.primary, metrics.primary_value()));
                let best = if *best { "  (best so far)" } else { "" };
                format!("step {step}/{total}  evaluation: {metrics}{best}")
            }
            // Evaluations show where the run is; a line for each checkpoint would be noise.
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use losparse::tasks::{MetricKind, MetricReport};

    fn step(step: usize, loss: f64, kept: Option<f64>, seconds: f64) -> Event {
        Event::Step {
            step,
            total: 100,
            epoch: 0.5,
            loss,
            learning_rate: 1e-4,
            // The line shows `kept`, not this.
            keep_ratio: 0.1,
            kept,
            gradient_norm: 1.0,
            skipped: !loss.is_finite(),
            seconds,
        }
    }

    #[test]
    fn the_line_tells_loss_ratio_metric_and_time_left() {
        let mut state = State::default();
        // The speed of a resumed run counts from its own first step.
        assert_eq!(state.line(&step(40, 1.0, None, 300.0)).unwrap(), "step 40/100  loss 1.0000");
        let values = [(MetricKind::Accuracy, 0.75)].into();
        let metrics = MetricReport {
            values,
            primary: MetricKind::Accuracy,
            examples: 4,
            majority_share: Some(0.5),
            f1_of: None,
        };
        let evaluation = Event::Evaluation { step: 40, total: 100, metrics, best: true };
        assert_eq!(
            state.line(&evaluation).unwrap(),
            "step 40/100  evaluation: accuracy 0.7500 (majority 0.5000)  (best so far)"
        );
        let line = state.line(&step(50, 0.0, Some(0.2), 320.0)).unwrap();
        assert_eq!(line, "step 50/100  loss 0.9500  kept 20.0%  accuracy 0.7500  1 min 40 s left");
        let line = state.line(&step(51, f64::NAN, None, 322.0)).unwrap();
        // The share stays until the next pruning.
        assert!(line.contains("loss 0.9500  kept 20.0%") && line.contains("skipped 1"), "{line}");

        // The next run of a study shows nothing of the previous one.
        assert_eq!(state.line(&step(1, 2.0, None, 0.5)).unwrap(), "step 1/100  loss 2.0000");
        let line = state.line(&step(2, 2.0, None, 1.5)).unwrap();
        assert_eq!(line, "step 2/100  loss 2.0000  1 min 38 s left");
    }
}
