//! Counts the labels of a data set, and points out those that look like mistakes.

use tokenizers::NormalizedString;

use super::{Example, Label, TextDataset};
use crate::error::beginning;
use crate::models::label_index;

/// Words that stand for a missing label, in lower case.
const MISSING: &str = "nan none null nil na n/a #n/a <na> - -- ? undefined missing";
/// A label on at most this many rows is pointed out …
const RARE: usize = 2;
/// … if the most frequent label is on at least this many.
const FREQUENT: usize = 20;
/// Most labels in a message.
const SHOWN: usize = 8;
/// Most characters of a label in a message: a longer label is a text in the wrong column.
const LONGEST: usize = 40;

impl TextDataset {
    /// The task's labels in order, each with its number of examples; empty if the task has no
    /// labels.
    pub(crate) fn label_counts(&self) -> Vec<(String, usize)> {
        let mut counts = vec![0; self.task.labels().len()];
        for example in &self.examples {
            if let Some(Label::Class(class)) = example.label
                && let Some(count) = counts.get_mut(class)
            {
                *count += 1;
            }
        }
        self.task.labels().iter().cloned().zip(counts).collect()
    }

    /// The score of all examples, if they are several and it is the same.
    fn only_score(&self) -> Option<f32> {
        let (first, rest) = self.examples.split_first()?;
        let Some(Label::Score(score)) = first.label else { return None };
        let same = |example: &Example| example.label == first.label;
        (!rest.is_empty() && rest.iter().all(same)).then_some(score)
    }

    /// Notes on the data for people, to be read before a training: one with the counts of the
    /// labels, and warnings of labels that look like mistakes and of empty texts.
    pub fn notes(&self) -> Vec<String> {
        let counts = self.label_counts();
        let labels = (!counts.is_empty()).then(|| format!("labels {}", listed(&counts)));
        let mut odd = odd_labels(&counts);
        if let Some(score) = self.only_score() {
            odd.push(format!("every row has the score {score}, so nothing can correlate with it"));
        }
        let blank = |example: &&Example| {
            let pair = example.pair.as_deref();
            example.text.trim().is_empty() || pair.is_some_and(|pair| pair.trim().is_empty())
        };
        let blanks = self.examples.iter().filter(blank).count();
        if blanks > 0 {
            odd.push(format!("{blanks} of {} rows have an empty text", self.len()));
        }
        labels.into_iter().chain(odd.into_iter().map(|odd| format!("warning: {odd}"))).collect()
    }
}

/// Labels with their counts, as `neg (4), pos (4)`; of very many only the first.
pub(super) fn listed(counts: &[(String, usize)]) -> String {
    let shown = counts.iter().take(SHOWN);
    let mut shown: Vec<String> =
        shown.map(|(name, count)| format!("{} ({count})", beginning(name, LONGEST))).collect();
    if counts.len() > SHOWN {
        shown.push(format!("… and {} more", counts.len() - SHOWN));
    }
    shown.join(", ")
}

/// A label with accents as single characters (NFC): systems write the same word in two ways.
fn composed(label: &str) -> String {
    NormalizedString::from(label).nfc().get().to_string()
}

/// A sentence for each label that looks like a mistake.
fn odd_labels(counts: &[(String, usize)]) -> Vec<String> {
    let mut odd = Vec::new();
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let number = |name: &str| name.parse::<f64>().ok().filter(|number| number.is_finite());
    let negative = |name: &str| number(name).is_some_and(|number| number < 0.0);
    let negatives = counts.iter().filter(|(name, _)| negative(name)).count();
    let numbers = counts.iter().filter(|(name, _)| number(name).is_some()).count();
    for (at, (name, count)) in counts.iter().enumerate() {
        let earlier: Vec<String> = counts[..at].iter().map(|(name, _)| composed(name)).collect();
        if MISSING.split(' ').any(|missing| missing == name.to_lowercase()) {
            odd.push(format!(
                "label {name:?} ({count} of {all} rows) usually means that there is none; if so, remove the \
                 rows"
            ));
        } else if negative(name) && negatives == 1 && numbers == counts.len() {
            odd.push(format!(
                "label {name:?} ({count} of {all} rows) beside labels from 0 on usually means that there is \
                 none; if so, remove the rows"
            ));
        } else if let Some(other) = label_index(&earlier, &composed(name)) {
            let other = &counts[other].0;
            odd.push(format!("labels {other:?} and {name:?} may be one, written in two ways"));
        } else if (1..=RARE).contains(count) && most >= FREQUENT {
            odd.push(format!("label {name:?} is on {count} of {all} rows only"));
        }
    }
    if counts.len() > SHOWN && 2 * counts.len() > all {
        let count = counts.len();
        odd.push(format!("{count} labels on {all} rows: is the column one of labels?"));
    }
    odd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Task;

    fn data(labels: &[&str], classes: &[usize]) -> TextDataset {
        let names = labels.iter().map(|label| label.to_string()).collect();
        let class = |&class| Some(Label::Class(class));
        let example = |label| Example { text: "a".into(), pair: None, label };
        TextDataset {
            examples: classes.iter().map(class).map(example).collect(),
            task: Task::classification("t", names).unwrap(),
            skipped: 0,
        }
    }

    #[test]
    fn labels_and_empty_texts_are_counted() {
        let mut set = data(&["no", "yes"], &[1, 0, 1, 1]);
        set.examples.push(Example { text: " ".into(), pair: None, label: None });
        assert_eq!(set.label_counts(), [("no".to_string(), 1), ("yes".to_string(), 3)]);
        let blank = "warning: 1 of 5 rows have an empty text";
        assert_eq!(set.notes(), ["labels no (1), yes (3)", blank]);
        set.examples.pop();
        set.task = Task::regression("t");
        assert!(set.notes().is_empty() && set.label_counts().is_empty());
        set.examples.iter_mut().for_each(|example| example.label = Some(Label::Score(2.5)));
        let constant = "warning: every row has the score 2.5, so nothing can correlate with it";
        assert_eq!(set.notes(), [constant]);
        set.examples[1].label = Some(Label::Score(2.0));
        assert!(set.notes().is_empty());
    }

    #[test]
    fn labels_that_look_like_mistakes_are_pointed_out() {
        let often = |labels: &[(&str, usize)]| {
            let counts: Vec<_> = labels.iter().map(|(n, c)| (n.to_string(), *c)).collect();
            odd_labels(&counts)
        };
        assert!(often(&[("neg", 3), ("pos", 1)]).is_empty());
        assert!(often(&[("neg", 500), ("pos", 3)]).is_empty());
        assert!(often(&[("0", 5), ("1", 5)]).is_empty());
        assert!(often(&[("-2", 5), ("-1", 5), ("0", 5), ("1", 5)]).is_empty());
        assert!(often(&[("-1", 5), ("other", 5)]).is_empty());
        for (labels, what) in [
            (&[("0.0", 5), ("1.0", 5), ("nan", 1)][..], "\"nan\" (1 of 11 rows) usually means"),
            (&[("-", 1), ("neg", 1), ("pos", 1)], "\"-\" (1 of 3 rows)"),
            (&[("N/A", 1), ("neg", 1)], "\"N/A\""),
            (&[("-1", 2), ("0", 5), ("1", 5)], "\"-1\" (2 of 12 rows) beside labels from 0"),
            (&[("Pos", 1), ("neg", 5), ("pos", 4)], "\"Pos\" and \"pos\" may be one"),
            (&[("cafe\u{301}", 4), ("caf\u{e9}", 5)], "may be one, written in two ways"),
            (&[("1", 1), ("1.0", 5)], "\"1\" and \"1.0\" may be one"),
            (&[("neg", 20), ("pos", 30), ("pso", 2)], "\"pso\" is on 2 of 52 rows only"),
        ] {
            let odd = often(labels);
            assert_eq!(odd.len(), 1, "{odd:?}");
            assert!(odd[0].contains(what), "{odd:?}");
        }
        let many: Vec<(String, usize)> = (0..30).map(|at| (format!("id{at}"), 1)).collect();
        assert!(odd_labels(&many)[0].contains("30 labels on 30 rows"));
        assert!(listed(&many).ends_with("id7 (1), … and 22 more"));
    }
}
