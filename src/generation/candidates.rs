//! The best next tokens of every hypothesis, read from the device.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

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
    let values = read(logits)?;
    values.par_chunks(vocab_size).map(|row| best_of_row(row, count)).collect()
}

fn best_of_row(row: &[f32], count: usize) -> Result<Vec<Candidate>> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (token, &logit) in row.iter().enumerate() {
        let full = best.len() == count;
        // Also true of NaN, which is found below.
        if full && best.last().is_some_and(|worst| logit <= worst.1) {
            continue;
        }
        let at = best.partition_point(|better| better.1 >= logit);
        best.insert(at, (token as u32, logit));
        best.truncate(count);
    }
    let max = best.first().map_or(f32::NAN, |best| best.1);
    let sum: f32 = row.iter().map(|logit| (logit - max).exp()).sum();
    normalised(best, max + sum.ln())
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

    #[test]
    fn banned_tokens_fill_up_at_minus_infinity_and_damage_is_an_error() {
        let device = Device::default();
        let logits = Tensor::<2>::from_floats([[0.0, 1.0, 2.0]], &device);
        let found = candidates(logits, &[vec![0, 2]], 2).unwrap();
        assert_eq!((found[0][0].0, found[0][1].1), (1, f32::NEG_INFINITY));
        for damaged in [[f32::NAN, 0.0, 1.0], [0.0, f32::NAN, 1.0], [f32::INFINITY, 0.0, 0.0]] {
            let logits = Tensor::<2>::from_floats([damaged], &device);
            let error = candidates(logits, &[vec![]], 1).unwrap_err().to_string();
            assert!(error.contains("not finite"), "{error}");
        }
    }
}
