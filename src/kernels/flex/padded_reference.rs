//! Operations on sequences with or without padding, composed. Those without are padded, computed as any,
//! and taken out again.

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Shape, TensorData};

use super::attention::{AttentionMask, AttentionSettings};
use super::composed_reference as composed;
use super::positions::PositionSettings;
use super::sequences::Sequences;

/// See [`composed::attention`].
pub(super) fn attention<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &AttentionSettings,
) -> FloatTensor<B> {
    let Some(sequences) = &settings.sequences else {
        return composed::attention::<B>(inputs, settings);
    };
    let inputs = pad_inputs::<B, 3>(inputs, sequences);
    let output = composed::attention::<B>(inputs, &without_padding(settings, sequences));
    take::<B>(output, sequences)
}

/// See [`composed::attention_gradients`].
pub(super) fn attention_gradients<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &AttentionSettings,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 4] {
    let Some(sequences) = &settings.sequences else {
        return composed::attention_gradients::<B>(inputs, settings, grad);
    };
    let inputs = pad_inputs::<B, 3>(inputs, sequences);
    let settings = without_padding(settings, sequences);
    let grad = pad::<B>(grad, sequences);
    let [query, key, value, bias] = composed::attention_gradients::<B>(inputs, &settings, grad);
    let [query, key, value] = [query, key, value].map(|rows| take::<B>(rows, sequences));
    [query, key, value, bias]
}

/// See [`composed::position_scores`].
pub(super) fn position_scores<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &PositionSettings,
) -> FloatTensor<B> {
    let Some(sequences) = &settings.sequences else {
        return composed::position_scores::<B>(inputs, settings);
    };
    let inputs = pad_inputs::<B, 2>(inputs, sequences);
    let settings = PositionSettings { sequences: None, ..settings.clone() };
    pairs_only::<B>(composed::position_scores::<B>(inputs, &settings), sequences)
}

/// See [`composed::position_gradients`].
pub(super) fn position_gradients<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &PositionSettings,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 4] {
    let Some(sequences) = &settings.sequences else {
        return composed::position_gradients::<B>(inputs, settings, grad);
    };
    let inputs = pad_inputs::<B, 2>(inputs, sequences);
    let settings = PositionSettings { sequences: None, ..settings.clone() };
    let grad = pairs_only::<B>(grad, sequences);
    let [query, key, keys, queries] = composed::position_gradients::<B>(inputs, &settings, grad);
    let [query, key] = [query, key].map(|rows| take::<B>(rows, sequences));
    [query, key, keys, queries]
}

/// Pads the first `N` inputs.
fn pad_inputs<B: Backend, const N: usize>(
    mut inputs: [FloatTensor<B>; 4],
    sequences: &Sequences,
) -> [FloatTensor<B>; 4] {
    for input in &mut inputs[..N] {
        *input = pad::<B>(input.clone(), sequences);
    }
    inputs
}

/// `[1, tokens, size]` to `[count, length, size]`, with zeros for padding.
fn pad<B: Backend>(rows: FloatTensor<B>, sequences: &Sequences) -> FloatTensor<B> {
    let (count, length, size) = (sequences.count(), sequences.length(), rows.shape()[2]);
    let places = places::<B>(&rows, sequences);
    let zeros = composed::zeros::<B>([count * length, size], &rows);
    let rows = B::float_reshape(rows, Shape::new([sequences.tokens(), size]));
    let padded = B::float_select_assign(zeros, 0, places, rows, IndexingUpdateOp::Add);
    B::float_reshape(padded, Shape::new([count, length, size]))
}

/// [`pad`] undone.
fn take<B: Backend>(padded: FloatTensor<B>, sequences: &Sequences) -> FloatTensor<B> {
    let (count, length, size) = (sequences.count(), sequences.length(), padded.shape()[2]);
    let places = places::<B>(&padded, sequences);
    let padded = B::float_reshape(padded, Shape::new([count * length, size]));
    let rows = B::float_select(padded, 0, places);
    B::float_reshape(rows, Shape::new([1, sequences.tokens(), size]))
}

fn places<B: Backend>(like: &FloatTensor<B>, sequences: &Sequences) -> IntTensor<B> {
    let places = TensorData::new(sequences.places(), [sequences.tokens()]);
    B::int_from_data(places, &like.device())
}

/// Scores `[count, heads, length, length]`, those with padding made 0.
fn pairs_only<B: Backend>(scores: FloatTensor<B>, sequences: &Sequences) -> FloatTensor<B> {
    let (count, length) = (sequences.count(), sequences.length());
    let pair = |at: usize| {
        let (item, query, key) = (at / length / length, at / length % length, at % length);
        f32::from(query.max(key) < sequences.rows(item).len())
    };
    let pairs = (0..count * length * length).map(pair).collect();
    let pairs = composed::values::<B>(pairs, [count, 1, length, length], &scores);
    B::float_mul(scores, pairs)
}

/// The same attention to padded sequences.
fn without_padding(settings: &AttentionSettings, sequences: &Sequences) -> AttentionSettings {
    let (count, length) = (sequences.count(), sequences.length());
    let mask = settings.mask.as_deref();
    let [heads, queries] = mask.map_or([1, 1], |mask| [mask.dims[1], mask.dims[2]]);
    let mut values = Vec::with_capacity(count * heads * queries * length);
    for item in 0..count {
        for row in 0..heads * queries {
            let from = mask.map(|mask| mask.row(item, row / queries, row % queries));
            values.extend((0..length).map(|key| match (mask, from) {
                _ if key >= sequences.rows(item).len() => f32::MIN,
                (Some(mask), Some(from)) => mask.values[from + key],
                _ => 0.0,
            }));
        }
    }
    let dims = [count, heads, queries, length];
    let replaces = mask.is_some_and(|mask| mask.replaces);
    let mask = Some(Arc::new(AttentionMask { values, dims, replaces }));
    AttentionSettings { mask, sequences: None, ..settings.clone() }
}
