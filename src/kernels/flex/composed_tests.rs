//! The kernels of `Flex` against the same composed of Burn's operations.

use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::{Shape, TensorData};

use super::slices::{row_major, slice};
use super::*;
use super::{composed_reference as composed, padded_reference as padded};

/// Numbers in −1..1, the same on every machine, others for every `seed`.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let bits = |at: usize| crate::random::split_mix_64(seed, at as u64) >> 40;
    (0..count).map(|at| bits(at) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

fn data(shape: &[usize], seed: u64) -> TensorData {
    TensorData::new(numbers(shape.iter().product(), seed), Shape::from(shape.to_vec()))
}

fn flex(shape: &[usize], seed: u64) -> FlexTensor {
    FlexTensor::from_data(data(shape, seed))
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1f32, |size, value| size.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= 2e-5 * size, "{what}[{at}]: {found}, expected {expected}");
    }
}

fn assert_alike<const N: usize>(what: &str, found: [FlexTensor; N], expected: [FlexTensor; N]) {
    for (at, (found, expected)) in found.into_iter().zip(expected).enumerate() {
        assert_eq!(found.shape(), expected.shape(), "{what} {at}");
        let (found, expected) = (row_major(found), row_major(expected));
        assert_close(&format!("{what} {at}"), slice(&found), slice(&expected));
    }
}

fn columns(active: &[usize], width: usize, gradient: SparseGradient) -> Arc<ActiveNeurons> {
    let mask: Vec<f32> = (0..width).map(|at| f32::from(active.contains(&at))).collect();
    Arc::new(ActiveNeurons { gradient, ..ActiveNeurons::of_mask(&mask) })
}

/// Settings for 2 items, 3 heads, 5 queries and 7 keys; the first query of the second item sees nothing.
fn settings(mask: Option<bool>, dropout: f64) -> AttentionSettings {
    let mut values = vec![0.0; 2 * 5 * 7];
    values[3] = -1e4;
    values[5 * 7..6 * 7].fill(f32::MIN);
    let dims = [2, 1, 5, 7];
    let mask = mask.map(|replaces| Arc::new(AttentionMask { values, dims, replaces }));
    AttentionSettings {
        heads: 3,
        scale: 0.5,
        mask,
        dropout: DropoutMask::new(dropout, 3),
        sequences: None,
    }
}

#[test]
fn gelu_has_its_exact_derivative() {
    let (x, grad) = (flex(&[9, 31], 1), flex(&[9, 31], 2));
    let found = composed::gelu_gradient::<Flex>(x.clone(), grad.clone());
    assert_alike("gelu", [found], [Flex::gelu_erf_backward(x, grad)]);
}

#[test]
fn neurons() {
    let order = [3, 0, 4, 1, 5, 6, 2];
    let left = numbers(8, 3);
    for left in [Some(&left[..]), None] {
        let plan = Arc::new(NeuronPlan::new(left, Some(&order), 3, 7).unwrap());
        let hidden = flex(&[9, if left.is_some() { 5 } else { 3 }], 4);
        let bias = flex(&[7], 5);
        let found = composed::neuron_outputs::<Flex>(hidden.clone(), bias.clone(), &plan);
        assert_alike("neurons", [found], [Flex::neuron_outputs(hidden, bias, plan)]);
    }
}

#[test]
fn weights_and_layers_of_some_columns() {
    let (rows, d_input, d_output) = (20, 12, 9);
    for (rank, active, gradient) in [
        (3, &[0, 4, 8][..], SparseGradient::Gathered),
        (3, &[0, 4, 8], SparseGradient::Active),
        (3, &[0, 4, 8], SparseGradient::Whole),
        (0, &[1], SparseGradient::Gathered),
        (0, &[1], SparseGradient::Whole),
        (2, &[], SparseGradient::Gathered),
        (2, &[], SparseGradient::Whole),
        (0, &[], SparseGradient::Active),
    ] {
        let x = flex(&[rows, d_input], 1);
        let factors = [flex(&[d_input, rank], 2), flex(&[rank, d_output], 3)];
        let columns = columns(active, d_output, gradient);
        let mut values = numbers(d_input * d_output, 4);
        let mask = columns.mask();
        values.chunks_mut(d_output).for_each(|row| {
            row.iter_mut().zip(&mask).for_each(|(value, mask)| *value *= mask);
        });
        let sparse = FlexTensor::from_data(TensorData::new(values, [d_input, d_output]));
        let [right, left] = factors.clone();
        let what = format!("rank {rank}, {active:?}, {gradient:?}");

        let found = composed::weight::<Flex>(sparse.clone(), right.clone(), left.clone());
        let expected = Flex::composed_weight(sparse.clone(), right.clone(), left.clone(), None);
        assert_alike(&format!("weight, {what}"), [found], [expected]);

        let grad = flex(&[d_input, d_output], 5);
        let run = |composed: bool| {
            let (factors, grad) = (factors.clone(), grad.clone());
            let [of_sparse, of_right, of_left] = match composed {
                true => composed::weight_gradients::<Flex>(factors, Some(&columns), grad),
                false => Flex::composed_weight_gradients(factors, Some(columns.clone()), grad),
            };
            if rank > 0 { vec![of_sparse, of_right, of_left] } else { vec![of_sparse] }
        };
        for (found, expected) in run(true).into_iter().zip(run(false)) {
            assert_alike(&format!("gradients of the weight, {what}"), [found], [expected]);
        }

        let grad = flex(&[rows, d_output], 6);
        let inputs = [x, sparse, right, left];
        let run = |composed: bool| {
            let (inputs, grad) = (inputs.clone(), grad.clone());
            let [x, sparse, right, left, bias] = match composed {
                true => composed::active_dense_gradients::<Flex>(inputs, &columns, grad),
                false => Flex::active_dense_gradients(inputs, columns.clone(), grad),
            };
            match rank {
                0 => vec![x, sparse, bias],
                _ => vec![x, sparse, bias, right, left],
            }
        };
        for (found, expected) in run(true).into_iter().zip(run(false)) {
            assert_alike(&format!("gradients of the layer, {what}"), [found], [expected]);
        }
    }
}

#[test]
fn attention_with_all_it_may_have() {
    for (mask, bias, dropout) in [
        (None, false, 0.0),
        (Some(false), false, 0.0),
        (Some(true), false, 0.0),
        (Some(false), true, 0.3),
        (Some(true), true, 0.3),
        (None, true, 0.0),
    ] {
        let bias = if bias { flex(&[2, 3, 5, 7], 4) } else { flex(&[0, 0, 0, 0], 4) };
        let inputs = [flex(&[2, 5, 12], 1), flex(&[2, 7, 12], 2), flex(&[2, 7, 12], 3), bias];
        let settings = settings(mask, dropout);
        let what = format!("attention, {mask:?} {dropout}");
        let found = padded::attention::<Flex>(inputs.clone(), &settings);
        let [query, key, value, bias] = inputs.clone();
        let expected = Flex::attention_heads(query, key, value, bias, settings.clone());
        assert_alike(&what, [found], [expected]);
        let grad = flex(&[2, 5, 12], 5);
        let found = padded::attention_gradients::<Flex>(inputs.clone(), &settings, grad.clone());
        let expected = Flex::attention_gradients(inputs, settings, grad);
        assert_alike(&what, found, expected);
    }
}

/// Sequences of 3, 5, 1 and 6 tokens, padded to 6.
fn sequences() -> Arc<Sequences> {
    Arc::new(Sequences::new(&[3, 5, 1, 6], 6))
}

#[test]
fn attention_of_sequences_without_padding() {
    for (masked, bias, dropout) in [(false, false, 0.0), (false, true, 0.3), (true, true, 0.0)] {
        let values = numbers(3 * 6 * 6, 6);
        let mask = Arc::new(AttentionMask { values, dims: [1, 3, 6, 6], replaces: false });
        let settings = AttentionSettings {
            sequences: Some(sequences()),
            mask: masked.then_some(mask),
            ..settings(None, dropout)
        };
        let bias = if bias { flex(&[4, 3, 6, 6], 4) } else { flex(&[0, 0, 0, 0], 4) };
        let rows = |seed| flex(&[1, 15, 12], seed);
        let (inputs, grad) = ([rows(1), rows(2), rows(3), bias], rows(5));
        let what = format!("attention, masked: {masked}, {dropout}");
        let found = padded::attention::<Flex>(inputs.clone(), &settings);
        let [query, key, value, bias] = inputs.clone();
        let expected = Flex::attention_heads(query, key, value, bias, settings.clone());
        assert_alike(&what, [found], [expected]);
        let found = padded::attention_gradients::<Flex>(inputs.clone(), &settings, grad.clone());
        let expected = Flex::attention_gradients(inputs, settings, grad);
        assert_alike(&what, found, expected);
    }
}

/// Each as it would be by itself.
#[test]
fn sequences_without_padding_do_not_see_each_other() {
    let (rows, all) = ([1, 2, 3].map(|seed| flex(&[1, 15, 12], seed)), sequences());
    let whole = AttentionSettings { sequences: Some(all.clone()), ..settings(None, 0.0) };
    let none = || flex(&[0, 0, 0, 0], 4);
    let [query, key, value] = rows.clone();
    let found = row_major(Flex::attention_heads(query, key, value, none(), whole));
    for sequence in 0..all.count() {
        let part = all.rows(sequence);
        let [query, key, value] = rows.each_ref().map(|rows| {
            let values = &slice(rows)[part.start * 12..part.end * 12];
            FlexTensor::from_data(TensorData::new(values.to_vec(), [1, part.len(), 12]))
        });
        let alone = Flex::attention_heads(query, key, value, none(), settings(None, 0.0));
        let found = &slice(&found)[part.start * 12..part.end * 12];
        assert_close(&format!("sequence {sequence}"), found, slice(&row_major(alone)));
    }
}

#[test]
fn position_scores_of_sequences_without_padding() {
    for tables in [[true, true], [true, false], [false, true]] {
        let [keys, queries] = [(3, tables[0]), (4, tables[1])]
            .map(|(seed, is_there)| flex(if is_there { &[12, 12] } else { &[0, 0] }, seed));
        let inputs = [flex(&[1, 15, 12], 1), flex(&[1, 15, 12], 2), keys, queries];
        let settings = PositionSettings { heads: 3, scale: 0.4, sequences: Some(sequences()) };
        let what = format!("positions, {tables:?}");
        let found = padded::position_scores::<Flex>(inputs.clone(), &settings);
        let [query, key, keys, queries] = inputs.clone();
        let expected = Flex::position_scores(query, key, keys, queries, settings.clone());
        assert_alike(&what, [found], [expected]);
        let grad = flex(&[4, 3, 6, 6], 5);
        let found = padded::position_gradients::<Flex>(inputs.clone(), &settings, grad.clone());
        let expected = Flex::position_gradients(inputs, settings, grad);
        assert_alike(&what, found, expected);
    }
}

#[test]
fn normalisation() {
    for dropout in [0.0, 0.4] {
        let dropout = DropoutMask::new(dropout, 9);
        let settings = NormSettings { epsilon: 1e-3, dropout };
        let [x, residual, gamma, beta] =
            [flex(&[13, 24], 1), flex(&[13, 24], 2), flex(&[24], 3), flex(&[24], 4)];
        let inputs = [x.clone(), residual.clone(), gamma.clone(), beta.clone()];
        let found = composed::residual_norm::<Flex>(inputs, settings);
        let expected =
            Flex::residual_norm(x.clone(), residual.clone(), gamma.clone(), beta, settings);
        assert_alike("normalisation", [found], [expected]);
        let (inputs, grad) = ([x, residual, gamma], flex(&[13, 24], 5));
        let found =
            composed::residual_norm_gradients::<Flex>(inputs.clone(), settings, grad.clone());
        let expected = Flex::residual_norm_gradients(inputs, settings, grad);
        assert_alike("normalisation", found, expected);
    }
}
