//! The best next tokens of every hypothesis, read from the device.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

#[cfg(feature = "flex")]
use crate::kernels::exp::sum_of_exponentials;
use crate::{Error, Result};

/// Logits that are looked at together.
const CHUNK: usize = 64;

/// A next token and its log-probability.
pub(crate) type Candidate = (u32, f32);

/// The `count` best tokens of every row of logits `[rows, vocab_size]`, best first, with their
/// log-probabilities; banned ones, where there are no others, at −∞.
///
/// # Errors
/// If a logit is NaN or all are infinite.
pub(crate) fn candidates(
    logits: Tensor<2>,
    banned: &[Vec<u32>],
    count: usize,
) -> Result<Vec<Vec<Candidate>>> {
    let [_, vocab_size] = logits.dims();
    let count = count.min(vocab_size);
    let most = banned.iter().map(Vec::len).max().unwrap_or(0);
    // Enough that some are left when the banned ones are taken out.
    let fetched = (count + most).min(vocab_size);
    let best = match is_on_host(&logits.device()) {
        true => best_on_host(logits, fetched)?,
        false => best_on_device(logits, fetched)?,
    };
    let allowed = |(mut row, banned): (Vec<Candidate>, &Vec<u32>)| {
        let is_banned = |candidate: &Candidate| banned.binary_search(&candidate.0).is_ok();
        row.iter_mut().filter(|c| is_banned(c)).for_each(|c| c.1 = f32::NEG_INFINITY);
        row.sort_by(|a, b| b.1.total_cmp(&a.1));
        row.truncate(count);
        row
    };
    Ok(best.into_iter().zip(banned).map(allowed).collect())
}

/// Whether reading a tensor costs no transfer: there Burn's top-k would sort all of it.
fn is_on_host(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    let device = device.clone().without_autodiff();
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

fn best_on_host(logits: Tensor<2>, count: usize) -> Result<Vec<Vec<Candidate>>> {
    let [_, vocab_size] = logits.dims();
    let best =
        |values: &[f32]| values.par_chunks(vocab_size).map(|row| best_of_row(row, count)).collect();
    #[cfg(feature = "flex")]
    if let Some(values) = crate::kernels::block::Values::of(&logits) {
        // Where they are, which the next step may then write again.
        return best(values.as_slice());
    }
    best(&read(logits)?)
}

fn best_of_row(row: &[f32], count: usize) -> Result<Vec<Candidate>> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (first, chunk) in (0..).step_by(CHUNK).zip(row.chunks(CHUNK)) {
        // After the first tokens hardly a chunk has one of the best. NaN is found below.
        let full = best.len() == count;
        if full && best.last().is_some_and(|worst| greatest(chunk) <= worst.1) {
            continue;
        }
        for (token, &logit) in (first..).zip(chunk) {
            let full = best.len() == count;
            if full && best.last().is_some_and(|worst| logit <= worst.1) {
                continue;
            }
            let at = best.partition_point(|better| better.1 >= logit);
            best.insert(at, (token, logit));
            best.truncate(count);
        }
    }
    let max = best.first().map_or(f32::NAN, |best| best.1);
    normalised(best, max + sum_of_exponentials(row, max).ln())
}

/// Greatest of some values, NaN left out; lanes side by side for the compiler to vectorise.
fn greatest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut most = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (most, value) in most.iter_mut().zip(chunk) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, value| most.max(*value))
}

#[cfg(not(feature = "flex"))]
fn sum_of_exponentials(values: &[f32], greatest: f32) -> f32 {
    values.iter().map(|value| (value - greatest).exp()).sum()
}

fn best_on_device(logits: Tensor<2>, count: usize) -> Result<Vec<Vec<Candidate>>> {
    let max = logits.clone().max_dim(1);
    let normaliser = (logits.clone() - max.clone()).exp().sum_dim(1).log() + max;
    let (values, tokens) = logits.topk_with_indices(count, 1);
    // [rows, count] and [rows, 1] in one transfer
    let values = read(Tensor::cat(vec![values, normaliser], 1))?;
    let tokens = tokens.into_data().convert::<i64>();
    let tokens: Vec<i64> = tokens.try_into_vec().map_err(unreadable)?;
    let rows = values.chunks(count + 1).zip(tokens.chunks(count));
    rows.map(|(values, tokens)| {
        let best = tokens.iter().zip(values).map(|(&token, &value)| (token as u32, value));
        normalised(best.collect(), values[count])
    })
    .collect()
}

fn read(values: Tensor<2>) -> Result<Vec<f32>> {
    values.into_data().convert::<f32>().try_into_vec().map_err(unreadable)
}

fn unreadable(cause: impl std::fmt::Debug) -> Error {
    Error::layer("lm_head", format!("its logits cannot be read: {cause:?}"))
}

fn normalised(mut best: Vec<Candidate>, normaliser: f32) -> Result<Vec<Candidate>> {
    if !normaliser.is_finite() {
        let message = "its logits are not finite; the model's weights are damaged";
        return Err(Error::layer("lm_head", message));
    }
    best.iter_mut().for_each(|candidate| candidate.1 -= normaliser);
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_probabilities(row: &[f32]) -> Vec<f32> {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row.iter().map(|x| (f64::from(*x) - sum.ln()) as f32).collect()
    }

    #[test]
    fn the_best_that_are_not_banned_with_their_log_probabilities() {
        let rows = [[0.5, 3.0, -1.0, 2.0, 2.5], [1.0, 1.0, 4.0, -2.0, 0.0]];
        for (backend, device) in crate::device::available() {
            let Ok(device) = device else { continue };
            let logits = Tensor::<2>::from_floats(rows, &device);
            let found = candidates(logits.clone(), &[vec![1, 4], vec![]], 2).unwrap();
            let tokens: Vec<Vec<u32>> =
                found.iter().map(|row| row.iter().map(|c| c.0).collect()).collect();
            assert_eq!(tokens[0], [3, 0], "{backend}");
            assert_eq!(tokens[1][0], 2, "{backend}");
            for (row, found) in rows.iter().zip(&found) {
                let expected = log_probabilities(row);
                for &(token, value) in found {
                    assert!((value - expected[token as usize]).abs() < 1e-5, "{backend}");
                }
            }
            let both = best_on_device(logits.clone(), 3).unwrap();
            let host = best_on_host(logits, 3).unwrap();
            assert_eq!(both[0].iter().map(|c| c.0).collect::<Vec<_>>(), [1, 4, 3], "{backend}");
            assert_eq!(host[0].iter().map(|c| c.0).collect::<Vec<_>>(), [1, 4, 3], "{backend}");
        }
    }

    /// Ties go to the earlier token, in whichever chunks they are.
    #[test]
    fn the_best_of_many_are_those_of_a_stable_sort() {
        let row: Vec<f32> = (0..5000).map(|at| (at * 7919 % 997) as f32 * 0.01).collect();
        for count in [1, 2, 13, 70] {
            let mut sorted: Vec<usize> = (0..row.len()).collect();
            sorted.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let found = best_of_row(&row, count).unwrap();
            let tokens: Vec<usize> = found.iter().map(|c| c.0 as usize).collect();
            assert_eq!(tokens, sorted[..count]);
            let expected = log_probabilities(&row);
            assert!(found.iter().all(|c| (c.1 - expected[c.0 as usize]).abs() < 5e-6));
        }
    }

    #[test]
    fn banned_tokens_fill_up_at_minus_infinity_and_damage_is_an_error() {
        let device = Device::default();
        let logits = Tensor::<2>::from_floats([[0.0, 1.0, 2.0]], &device);
        let found = candidates(logits, &[vec![0, 2]], 2).unwrap();
        assert_eq!((found[0][0].0, found[0][1].1), (1, f32::NEG_INFINITY));
        // Beyond the first chunks too, where none of the best is.
        let mut damaged = vec![0.0; 1000];
        (damaged[3], damaged[990]) = (1.0, f32::NAN);
        assert!(best_of_row(&damaged, 1).is_err());
        for damaged in [[f32::NAN, 0.0, 1.0], [0.0, f32::NAN, 1.0], [f32::INFINITY, 0.0, 0.0]] {
            let logits = Tensor::<2>::from_floats([damaged], &device);
            let error = candidates(logits, &[vec![]], 1).unwrap_err().to_string();
            assert!(error.contains("not finite"), "{error}");
        }
    }
}
