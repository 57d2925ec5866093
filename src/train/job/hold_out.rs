//! Evaluation examples held out of the training data, if no others are given.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::inspect::many;
use crate::random::split_mix_64;
use crate::tasks::{MetricKind, Split, Task};
use crate::train::{Event, Observer, Recipe, TaskRecipe};
use crate::{Error, Result};

/// Keeps these random numbers apart from those that order batches and drop units.
const STREAM: u64 = 0x686f_6c64_6f75_7421;

/// Training data in two parts.
pub(super) struct HeldOut<E> {
    pub train: Vec<E>,
    pub dev: Vec<E>,
}

/// Holds out about `share` of each stratum of `examples`, drawn by `seed`. `place` gives an example's
/// stratum and group. A group stays together, in the stratum of its first example; a stratum of
/// several groups gives at least one. The order of examples is kept.
///
/// # Errors
/// If there are too few examples to hold any out.
pub(super) fn hold_out<E, G: Eq + Hash>(
    examples: Vec<E>,
    share: f64,
    seed: u64,
    place: impl Fn(&E) -> (usize, G),
) -> Result<HeldOut<E>> {
    // Groups in order of their first examples: stratum and members.
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut known = HashMap::new();
    for (at, example) in examples.iter().enumerate() {
        let (stratum, group) = place(example);
        let number = *known.entry(group).or_insert(groups.len());
        match groups.get_mut(number) {
            Some((_, members)) => members.push(at),
            None => groups.push((stratum, vec![at])),
        }
    }
    let strata = groups.iter().map(|(stratum, _)| stratum + 1).max().unwrap_or(0);
    let mut held = vec![false; examples.len()];
    for stratum in 0..strata {
        let of = |group: &&(usize, Vec<usize>)| group.0 == stratum;
        let mut drawn: Vec<&Vec<usize>> =
            groups.iter().filter(of).map(|(_, members)| members).collect();
        let total: usize = drawn.iter().map(|members| members.len()).sum();
        let wanted = ((share * total as f64).round() as usize).max(1);
        drawn.sort_by_key(|members| split_mix_64(seed ^ STREAM, members[0] as u64));
        // One group at least is left to train on.
        drawn.pop();
        let mut count = 0;
        for members in drawn {
            if count >= wanted {
                break;
            }
            count += members.len();
            members.iter().for_each(|&at| held[at] = true);
        }
    }
    if !held.contains(&true) {
        let (count, different) = (examples.len(), groups.len());
        let which = match different == count {
            true => "are too few".to_string(),
            false => format!("hold too few different texts ({different})"),
        };
        let message = format!(
            "missing, and the {count} training examples {which} to hold some out; give a file to \
             evaluate on"
        );
        return Err(Error::option("dev", message));
    }
    let (mut train, mut dev) = (Vec::new(), Vec::new());
    for (example, held) in examples.into_iter().zip(held) {
        if held { dev.push(example) } else { train.push(example) }
    }
    Ok(HeldOut { train, dev })
}

/// Training and evaluation examples of a run.
pub(super) struct Splits<E> {
    pub train: Vec<E>,
    pub dev: Vec<E>,
    /// Examples that were left out of `train` and `dev`.
    pub skipped: [usize; 2],
    /// Number of examples in `dev`, if they were held out of the training data.
    pub held_out: Option<usize>,
}

impl<E> Splits<E> {
    /// Reads both splits, or holds examples out of the training file. `read` reads the examples of a
    /// split and how many it left out. Examples of a `group` stay in one split.
    ///
    /// # Errors
    /// Those of `read`, and as [`hold_out`].
    pub fn read<G: Eq + Hash>(
        recipe: &Recipe,
        observer: &dyn Observer,
        read: impl Fn(&TaskRecipe, Split) -> Result<(Vec<E>, usize)>,
        group: impl Fn(&E) -> G,
    ) -> Result<Self> {
        let task = &recipe.task;
        let Some(share) = task.dev_share() else {
            let (train, in_train) = read(task, Split::Train)?;
            let (dev, in_dev) = read(task, Split::Dev)?;
            return Ok(Self { train, dev, skipped: [in_train, in_dev], held_out: None });
        };
        let whole = TaskRecipe { max_train_examples: None, ..task.clone() };
        let (examples, skipped) = read(&whole, Split::Train)?;
        let seed = recipe.training.seed;
        let HeldOut { mut train, mut dev } =
            hold_out(examples, share, seed, |example| (0, group(example)))?;
        train.truncate(task.max_train_examples.unwrap_or(usize::MAX));
        dev.truncate(task.max_eval_examples.unwrap_or(usize::MAX));
        tell_held_out(observer, dev.len(), train.len(), seed);
        let held_out = Some(dev.len());
        Ok(Self { train, dev, skipped: [skipped, 0], held_out })
    }

    /// Name of the evaluation split.
    pub fn dev_name(&self) -> String {
        self.held_out.map_or("dev", |_| HELD_OUT).to_string()
    }
}

/// Tells the observer that examples were held out.
pub(super) fn tell_held_out(observer: &dyn Observer, held: usize, train: usize, seed: u64) {
    let message = format!(
        "no evaluation data given: {held} training examples, drawn by seed {seed}, are held out to \
         evaluate on; the model is trained on {train}"
    );
    observer.event(&Event::Note { message });
}

/// Tells the observer what makes metrics on an evaluation split say little: examples that are also trained
/// on, or very few.
pub(super) fn tell_of_split<E: Eq + Hash>(
    observer: &dyn Observer,
    (split, task): (&str, &Task),
    train: impl Iterator<Item = E>,
    dev: impl Iterator<Item = E>,
) {
    let train: HashSet<E> = train.collect();
    let (mut shared, mut total) = (0, 0);
    for example in dev {
        shared += usize::from(train.contains(&example));
        total += 1;
    }
    if shared > 0 {
        let message = format!(
            "{split}: {shared} of {total} examples are also training examples; a metric on them says \
             nothing about new texts"
        );
        observer.event(&Event::Note { message });
    }
    if let Some(few) = few(total, task) {
        observer.event(&Event::Note { message: format!("{split}: {few}") });
    }
}

/// Fewer evaluation examples than this are pointed out.
const FEW: usize = 100;

/// Says how coarse the metrics of a task are on so few examples; `None` if they are enough.
fn few(examples: usize, task: &Task) -> Option<String> {
    use MetricKind::{Accuracy, Matthews, Pearson, Spearman};
    if !(1..FEW).contains(&examples) {
        return None;
    }
    let count = many(examples, "evaluation example");
    let mean = match task.primary {
        // One example has no fixed share of a correlation.
        Matthews | Pearson | Spearman => {
            let chance = (examples as f64).sqrt().recip();
            return Some(format!("{count}: chance moves {} by about {chance:.2}", task.primary));
        }
        _ if task.metrics.contains(&Accuracy) => Accuracy,
        other => other,
    };
    Some(format!("{count}: one of them is {:.1} points of {mean}", 100.0 / examples as f64))
}

/// Name of the held-out split.
pub(super) const HELD_OUT: &str = "held-out";

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(held: &HeldOut<usize>) -> Vec<usize> {
        held.dev.clone()
    }

    #[test]
    fn every_stratum_gives_its_share_and_nothing_is_lost() {
        // 300, 30, 6 and 1 of a kind.
        let stratum = |&at: &usize| match at {
            0..300 => 0,
            300..330 => 1,
            330..336 => 2,
            _ => 3,
        };
        let all: Vec<usize> = (0..337).collect();
        let held = hold_out(all.clone(), 0.1, 7, |at| (stratum(at), *at)).unwrap();
        let count = |kind| held.dev.iter().filter(|at| stratum(at) == kind).count();
        assert_eq!([0, 1, 2, 3].map(count), [30, 3, 1, 0]);
        assert!(held.dev.is_sorted() && held.train.is_sorted());
        let mut both = [held.train.clone(), held.dev.clone()].concat();
        both.sort_unstable();
        assert_eq!(both, all);
        // The same seed draws the same, another others.
        let again = |seed| numbers(&hold_out(all.clone(), 0.1, seed, |at| (0, *at)).unwrap());
        assert_eq!(again(7), again(7));
        assert_ne!(again(7), again(8));
        assert_eq!(again(9).len(), 34);
    }

    #[test]
    fn what_belongs_together_stays_together() {
        // Ten groups of twelve, as questions about a text.
        let held = hold_out((0..120).collect(), 0.1, 3, |at| (0, at % 10)).unwrap();
        assert_eq!(held.dev.len(), 12);
        assert!(held.dev.iter().all(|at| at % 10 == held.dev[0] % 10));
        // Two of the same text, of different kinds, are not torn apart.
        let held = hold_out(vec![0, 1, 0, 1, 2, 3], 0.9, 3, |at| (at % 2, *at)).unwrap();
        assert!(held.train.iter().all(|at| !held.dev.contains(at)));
    }

    #[test]
    fn few_examples_to_evaluate_on_are_pointed_out() {
        let labels = vec!["a".to_string(), "b".to_string()];
        let task = Task::classification("own", labels).unwrap();
        assert_eq!([0, 100, 872].map(|examples| few(examples, &task)), [None, None, None]);
        let told = few(40, &task).unwrap();
        assert_eq!(told, "40 evaluation examples: one of them is 2.5 points of accuracy");
        let told = few(1, &task).unwrap();
        assert_eq!(told, "1 evaluation example: one of them is 100.0 points of accuracy");
        let told = few(25, &Task::regression("own")).unwrap();
        assert_eq!(told, "25 evaluation examples: chance moves pearson by about 0.20");
    }

    #[test]
    fn too_few_are_an_error() {
        for examples in [vec![], vec![1], vec![1, 1, 1]] {
            let error = hold_out(examples, 0.1, 1, |at| (0, *at)).err().unwrap().to_string();
            assert!(error.starts_with("option dev: missing"), "{error}");
        }
        let error = hold_out(vec![1, 1, 1], 0.1, 1, |at| (0, *at)).err().unwrap().to_string();
        assert!(
            error.contains("3 training examples hold too few different texts (1) to hold some out"),
            "{error}"
        );
        let two = hold_out(vec![1, 2], 0.1, 1, |at| (0, *at)).unwrap();
        assert_eq!((two.train.len(), two.dev.len()), (1, 1));
    }
}
