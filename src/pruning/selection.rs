//! One threshold over all neurons of the model: the selection itself.
//!
//! The published rule repeats the score of a neuron for every entry and takes the `n`-th smallest of all
//! entries. Adding up the entries of neurons in the order of their scores finds the same threshold
//! thousands of times cheaper.

/// Scores of the neurons of one layer, and the number of entries of `S` behind each.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// One score a neuron; lower is pruned first.
    pub scores: Vec<f32>,
    /// Entries of `S` in each neuron.
    pub entries: usize,
}

/// Number of `entries` pruned at `keep_ratio`: `int(N·(1 − p))`, in f64 and in that order.
pub(super) fn prune_count(entries: usize, keep_ratio: f64) -> usize {
    (entries as f64 * (1.0 - keep_ratio)) as usize
}

/// The score strictly below which neurons are pruned, or `None` when nothing is.
///
/// It is the score of the first neuron, in ascending order, at which the sum of entries reaches
/// `⌊N·(1 − keep_ratio)⌋`, so ties and the boundary neuron survive; but `keep_ratio` 0 prunes everything.
pub fn threshold(groups: &[Group], keep_ratio: f64) -> Option<f32> {
    let total: usize = groups.iter().map(|g| g.scores.len() * g.entries).sum();
    let count = prune_count(total, keep_ratio);
    if count == 0 {
        return None;
    }
    if keep_ratio <= 0.0 {
        return Some(f32::INFINITY);
    }
    let mut neurons: Vec<(f32, usize)> =
        groups.iter().flat_map(|g| g.scores.iter().map(|&s| (s, g.entries))).collect();
    Some(weighted_nth(&mut neurons, count))
}

/// The score at which the entries of `neurons`, by ascending score, add up to `count`, which is neither 0
/// nor more than there are: a quickselect, several times as fast as sorting.
fn weighted_nth(mut neurons: &mut [(f32, usize)], mut count: usize) -> f32 {
    loop {
        let middle = neurons.len() / 2;
        let (below, &mut (score, entries), above) =
            neurons.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0));
        let sum: usize = below.iter().map(|(_, entries)| entries).sum();
        if count <= sum {
            neurons = below;
        } else if count <= sum + entries || above.is_empty() {
            return score;
        } else {
            count -= sum + entries;
            neurons = above;
        }
    }
}

/// Share of the entries that a pruning below `threshold` leaves.
pub(super) fn kept_share(groups: &[Group], threshold: f32) -> f64 {
    let all: usize = groups.iter().map(|group| group.scores.len() * group.entries).sum();
    let kept = |group: &Group| group.scores.iter().filter(|&&score| score >= threshold).count();
    let kept: usize = groups.iter().map(|group| kept(group) * group.entries).sum();
    kept as f64 / all.max(1) as f64
}

/// Score of a neuron that is pruned at every threshold.
pub(super) const NEVER_KEPT: f32 = f32::MIN;

/// `threshold`, or a higher one that also prunes what is [`NEVER_KEPT`].
pub(super) fn above_never_kept(threshold: f32) -> f32 {
    threshold.max(NEVER_KEPT.next_up())
}

/// Largest share of the neurons of a layer that is kept while `keep_ratio` of all are, on the way to
/// `max_kept` at `final_keep_ratio`: the cap falls as the ratio does, and is never below it.
pub(super) fn cap_at(keep_ratio: f64, final_keep_ratio: f64, max_kept: f64) -> f64 {
    if final_keep_ratio >= 1.0 {
        return 1.0;
    }
    1.0 - (1.0 - max_kept) * (1.0 - keep_ratio) / (1.0 - final_keep_ratio)
}

/// Raises the best `min_kept` of the neurons of a layer above every score, and lowers all but the best
/// `max_kept` to [`NEVER_KEPT`]: a floor and a cap per layer under one threshold for all. If rounding to
/// whole neurons makes them contradict each other, the floor holds. Of equal neurons the earlier one is
/// kept.
pub(super) fn bound(group: &mut Group, min_kept: f64, max_kept: f64) {
    let n = group.scores.len() as f64;
    // A share times a count may miss a whole number by a rounding error.
    let floor = (min_kept * n - 1e-6).ceil().max(0.0) as usize;
    let cap = ((max_kept * n + 1e-6).floor() as usize).max(floor);
    let mut best: Vec<usize> = (0..group.scores.len()).collect();
    best.sort_by(|&a, &b| group.scores[b].total_cmp(&group.scores[a]));
    for &neuron in best.iter().take(floor) {
        group.scores[neuron] = f32::MAX;
    }
    for &neuron in best.iter().skip(cap) {
        group.scores[neuron] = NEVER_KEPT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_keep_at_least_the_floor_and_at_most_the_cap() {
        // Without bounds the second layer would lose all and the first none.
        let mut groups = [
            Group { scores: (0..100).map(|i| 100.0 + i as f32).collect(), entries: 8 },
            Group { scores: (0..100).map(|i| i as f32).collect(), entries: 8 },
        ];
        groups.iter_mut().for_each(|group| bound(group, 0.1, 0.8));
        let threshold = threshold(&groups, 0.5).unwrap();
        let kept = |group: &Group| group.scores.iter().filter(|&&s| s >= threshold).count();
        assert_eq!(kept(&groups[0]), 80);
        assert_eq!(kept(&groups[1]), 21, "the boundary neuron survives");
        // The best are the kept ones.
        assert!(groups[0].scores[..20].iter().all(|&s| s < threshold));
        assert!(groups[1].scores[79..].iter().all(|&s| s >= threshold));
    }

    #[test]
    fn the_cap_falls_with_the_ratio_and_is_never_below_it() {
        assert_eq!((cap_at(1.0, 0.1, 0.3), cap_at(1.0, 1.0, 1.0)), (1.0, 1.0));
        assert!((cap_at(0.1, 0.1, 0.3) - 0.3).abs() < 1e-12);
        for percent in 10..=100 {
            let keep = f64::from(percent) / 100.0;
            assert!(cap_at(keep, 0.1, 0.1) >= keep - 1e-12);
            assert!(cap_at(keep, 0.1, 0.4) >= cap_at(keep, 0.1, 0.3));
        }
    }

    #[test]
    fn what_is_beyond_the_cap_is_pruned_whatever_the_threshold() {
        // More neurons are beyond the cap than are to be pruned: 5 of 10 against 4.
        let mut group = Group { scores: (0..10).map(|i| i as f32).collect(), entries: 8 };
        bound(&mut group, 0.0, 0.5);
        let threshold = above_never_kept(threshold(std::slice::from_ref(&group), 0.6).unwrap());
        let kept: Vec<bool> = group.scores.iter().map(|&s| s >= threshold).collect();
        assert_eq!(kept, [[false; 5], [true; 5]].concat());
        // A threshold of its own stays as it is.
        assert_eq!(above_never_kept(0.25), 0.25);
        // Shares that are whole numbers of neurons are just that: 0.07 of 100 are 7.
        let mut group = Group { scores: (0..100).map(|i| i as f32).collect(), entries: 1 };
        bound(&mut group, 0.07, 0.29);
        let count = |score: f32| group.scores.iter().filter(|&&s| s == score).count();
        assert_eq!((count(f32::MAX), count(NEVER_KEPT)), (7, 71));
    }

    /// The published rule, literally.
    fn kthvalue(groups: &[Group], keep_ratio: f64) -> Option<f32> {
        let mut all: Vec<f32> = groups
            .iter()
            .flat_map(|g| g.scores.iter().flat_map(|&s| std::iter::repeat_n(s, g.entries)))
            .collect();
        let k = (all.len() as f64 * (1.0 - keep_ratio)) as usize;
        all.sort_by(f32::total_cmp);
        k.checked_sub(1).map(|at| all[at])
    }

    #[test]
    fn equals_the_published_rule() {
        let scores = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 7919 + seed * 104_729) % 257) as f32 / 16.0).collect()
        };
        let groups = [
            Group { scores: scores(64, 1), entries: 48 },
            Group { scores: scores(48, 2), entries: 64 },
            Group { scores: scores(200, 3), entries: 7 },
        ];
        for percent in 1..=100 {
            let keep = f64::from(percent) / 100.0;
            assert_eq!(threshold(&groups, keep), kthvalue(&groups, keep), "keep {keep}");
        }
    }

    #[test]
    fn keeping_all_prunes_nothing_and_keeping_none_everything() {
        let groups = [Group { scores: vec![1.0, 2.0, 2.0], entries: 10 }];
        assert_eq!(threshold(&groups, 1.0), None);
        assert_eq!(threshold(&groups, 0.99), None);
        assert_eq!(threshold(&groups, 0.0), Some(f32::INFINITY));
        // The boundary neuron and its ties survive.
        assert_eq!(threshold(&groups, 0.5), Some(2.0));
        assert_eq!(kept_share(&groups, 2.0), 2.0 / 3.0);
        let wide = Group { scores: vec![0.0, 3.0], entries: 30 };
        assert_eq!(kept_share(&[groups[0].clone(), wide], 2.0), 50.0 / 90.0);
        assert_eq!(kept_share(&[], 2.0), 0.0);
    }

    #[test]
    fn counts_in_f64() {
        // BERT-base at 5% and 15%; f32 arithmetic gives 80_687_920 and 72_194_456.
        assert_eq!(prune_count(84_934_656, 0.05), 80_687_923);
        assert_eq!(prune_count(84_934_656, 0.15), 72_194_457);
    }

    #[test]
    fn eighty_thousand_neurons() {
        let groups: Vec<Group> = (0..72)
            .map(|layer| Group {
                scores: (0..1152).map(|i| ((i * 31 + layer * 17) % 9973) as f32).collect(),
                entries: 768,
            })
            .collect();
        let threshold = threshold(&groups, 0.15).unwrap();
        let kept: usize =
            groups.iter().map(|g| g.scores.iter().filter(|&&s| s >= threshold).count()).sum();
        let share = kept as f64 / (72.0 * 1152.0);
        assert!((0.15..0.16).contains(&share), "{share}");
    }
}
