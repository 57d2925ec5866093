use super::*;

/// Unordered lengths from 1 to 97.
fn lengths(count: usize) -> Vec<usize> {
    (0..count).map(|index| 1 + (index * index + 31 * index) % 97).collect()
}

/// An order with buckets of 50 batches.
fn order(batch_size: usize, seed: u64) -> BatchOrder {
    BatchOrder { batch_size, bucket_batches: 50, seed }
}

fn encoded(ids: &[u32], types: &[u32], label: Option<Label>) -> EncodedExample {
    EncodedExample { input_ids: ids.to_vec(), token_type_ids: types.to_vec(), label }
}

#[test]
fn a_plan_has_every_example_once() {
    for (count, batch_size) in [(0, 4), (1, 4), (1003, 8), (12, 4), (10, usize::MAX)] {
        let lengths = lengths(count);
        let plan = BatchPlan::shuffled(&lengths, order(batch_size, 1), 0).unwrap();
        assert_eq!(plan.len(), count.div_ceil(batch_size));
        let small = plan.batches.iter().filter(|batch| batch.len() != batch_size).count();
        assert_eq!(small, usize::from(count % batch_size != 0));
        let mut all = plan.batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn a_plan_depends_on_seed_and_epoch_only() {
    let lengths = lengths(500);
    let plan = |seed, epoch| BatchPlan::shuffled(&lengths, order(8, seed), epoch).unwrap();
    assert_eq!(plan(7, 3), plan(7, 3));
    assert_ne!(plan(7, 3), plan(7, 4));
    assert_ne!(plan(7, 3), plan(8, 3));
    assert_ne!(plan(7, 3), plan(3, 7));
}

#[test]
fn a_plan_is_the_same_everywhere() {
    // If the generator or the shuffle changes, earlier runs can no longer be repeated.
    let plan = BatchPlan::shuffled(&lengths(10), order(3, 42), 1).unwrap();
    assert_eq!(plan.batches, GOLDEN.map(<[usize]>::to_vec));
}

const GOLDEN: [&[usize]; 4] = [&[0, 3, 8], &[6, 1, 4], &[2, 9, 7], &[5]];

#[test]
fn batches_hold_similar_lengths() {
    let lengths = lengths(4000);
    let padded = |plan: &BatchPlan| -> usize {
        let longest = |batch: &[usize]| batch.iter().map(|&i| lengths[i]).max().unwrap();
        plan.batches.iter().map(|batch| longest(batch) * batch.len()).sum()
    };
    let tokens: usize = lengths.iter().sum();
    let shuffled = BatchPlan::shuffled(&lengths, order(16, 0), 0).unwrap();
    assert!(padded(&shuffled) < tokens * 105 / 100, "{} of {tokens}", padded(&shuffled));
    // Batches are still shuffled: short and long ones alternate at random.
    let first: Vec<usize> = shuffled.batches.iter().map(|batch| lengths[batch[0]]).collect();
    let rises = first.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((80..170).contains(&rises), "{rises} of 249");
}

#[test]
fn evaluation_order_is_undone() {
    let lengths = lengths(101);
    let plan = BatchPlan::sequential_by_length(&lengths, 8).unwrap();
    let order = plan.batches.concat();
    assert!(order.windows(2).all(|pair| lengths[pair[0]] >= lengths[pair[1]]));
    assert_eq!(plan.restore(order), (0..101).collect::<Vec<_>>());
}

#[test]
fn batches_of_nothing_are_refused() {
    let error = BatchPlan::shuffled(&[1], order(0, 0), 0).unwrap_err().to_string();
    assert!(error.contains("batch_size"), "{error}");
    assert!(BatchPlan::sequential_by_length(&[1], 0).is_err());
    assert!(TextBatch::new(&[], 0, &Device::default()).is_err());
}

fn ints<const D: usize>(tensor: Tensor<D, Int>) -> Vec<i64> {
    tensor.into_data().convert::<i64>().try_to_vec().unwrap()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

#[test]
fn a_batch_is_padded_to_the_longest() {
    let long = encoded(&[5, 6, 7], &[0, 1, 1], Some(Label::Class(1)));
    let short = encoded(&[8], &[0], Some(Label::Class(0)));
    let batch = TextBatch::new(&[&short, &long], 9, &Device::default()).unwrap();
    assert_eq!(batch.input_ids.dims(), [2, 3]);
    assert_eq!(ints(batch.input_ids), [8, 9, 9, 5, 6, 7]);
    assert_eq!(ints(batch.attention_mask), [1, 0, 0, 1, 1, 1]);
    assert_eq!(ints(batch.token_type_ids), [0, 0, 0, 0, 1, 1]);
    let Some(Labels::Classes(classes)) = batch.labels else { panic!("no classes") };
    assert_eq!(ints(classes), [0, 1]);
}

#[test]
fn labels_of_a_batch_are_of_one_kind() {
    let class = encoded(&[1], &[0], Some(Label::Class(1)));
    let score = encoded(&[1], &[0], Some(Label::Score(0.5)));
    let none = encoded(&[1], &[0], None);
    let batch = |examples: [&EncodedExample; 2]| TextBatch::new(&examples, 0, &Device::default());
    assert!(batch([&none, &none]).unwrap().labels.is_none());
    let Some(Labels::Values(scores)) = batch([&score, &score]).unwrap().labels else {
        panic!("no scores")
    };
    assert_eq!(floats(scores), [0.5, 0.5]);
    for mixed in [[&class, &score], [&class, &none], [&none, &score]] {
        let error = batch(mixed).unwrap_err().to_string();
        assert!(error.contains("one kind"), "{error}");
    }
}

#[test]
fn a_batch_arrives_on_the_device() {
    fn assert_usable<T: Clone + Send + std::fmt::Debug>(_: &T) {}
    let device = Device::default();
    let long = encoded(&[5, 6], &[0, 1], Some(Label::Score(2.5)));
    let short = encoded(&[70_000], &[0], Some(Label::Score(-1.0)));
    let batch = TextBatch::new(&[&long, &short], 3, &device).unwrap();
    assert_usable(&batch);
    assert_eq!(batch.input_ids.dims(), [2, 2]);
    assert_eq!(ints(batch.input_ids), [5, 6, 70_000, 3]);
    assert_eq!(ints(batch.attention_mask), [1, 1, 1, 0]);
    assert_eq!(ints(batch.token_type_ids), [0, 1, 0, 0]);
    let Some(Labels::Values(scores)) = batch.labels else { panic!("no scores") };
    assert_eq!(floats(scores), [2.5, -1.0]);
}

#[test]
fn without_buckets_the_order_is_the_shuffled_one() {
    let lengths = lengths(640);
    let spread = |bucket_batches| {
        let order = BatchOrder { batch_size: 8, bucket_batches, seed: 5 };
        let plan = BatchPlan::shuffled(&lengths, order, 0).unwrap();
        let longest = |batch: &Vec<usize>| batch.iter().map(|&index| lengths[index]).max();
        plan.batches.iter().filter_map(longest).sum::<usize>()
    };
    // Larger buckets need less padding.
    assert!(spread(1) > spread(4) && spread(4) > spread(50), "{} {}", spread(1), spread(50));
}
