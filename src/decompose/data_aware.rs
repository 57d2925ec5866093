//! Decomposition of one matrix for its inputs: the low-rank part keeps the layer's outputs on real
//! inputs, not the weights themselves (DRONE: Chen et al., NeurIPS 2021).
//!
//! With `G = C·Cᵀ` the second moments of the inputs `x`, `E‖(W − L·R)·x‖² = ‖(W − L·R)·C‖²`. The best
//! `L·R` of a rank is `U_r·U_rᵀ·W`, where `U_r` are the leading left singular vectors of `W·C`.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

use super::lanczos::product;
use super::svd::{self, Factors, LowRankPart, no_convergence, right_vectors, row_major, to_f64};
use crate::{Error, Result};

/// Added to the diagonal of `G`, relative to its mean: where examples say nothing about a direction, the
/// weights do. The first that makes `G` positive definite: moments are summed in f32, and where one direction
/// has nearly all of them, their rounding is larger than the other directions' share.
const RIDGES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];

/// Decomposes `weight = Wᵀ: [d_input, d_output]` (row by row) for inputs with the second moments
/// `moments: [d_input, d_input]`.
///
/// # Errors
/// As [`decompose_matrix`](super::decompose_matrix), and if a moment is not finite.
pub(super) fn decompose_for_inputs(
    name: &str,
    weight: &[f32],
    shape: [usize; 2],
    rank: usize,
    moments: &[f32],
) -> Result<Factors> {
    svd::check(name, weight, shape, rank)?;
    let low_rank = match rank {
        0 => (Vec::new(), Vec::new()),
        _ => projected(name, &to_f64(weight), shape, rank, moments)?,
    };
    svd::factors(name, weight, shape, low_rank)
}

/// `(U_rᵀ·W)ᵀ` and `U_rᵀ`, each of a pair of vectors with the same norm.
fn projected(
    name: &str,
    weight: &[f64],
    [d_input, d_output]: [usize; 2],
    rank: usize,
    moments: &[f32],
) -> Result<LowRankPart> {
    let root = root(name, moments, d_input)?;
    let weight = MatRef::from_row_major_slice(weight, d_input, d_output);
    // (W·C)ᵀ
    let mut image = Mat::<f64>::zeros(d_input, d_output);
    triangular::matmul(
        image.as_mut(),
        BlockStructure::Rectangular,
        Accum::Replace,
        root.transpose(),
        BlockStructure::TriangularUpper,
        weight,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    let upright = d_input >= d_output;
    let tall = if upright { image.as_ref() } else { image.transpose() };
    let vectors = right_vectors(tall, rank).ok_or_else(|| no_convergence(name))?;
    let basis = if upright { vectors } else { directions(tall, &vectors) };
    let right = product(weight, basis.as_ref());
    let roots: Vec<f64> = (0..rank).map(|k| right.col(k).norm_l2().sqrt()).collect();
    let share = |k: usize| if roots[k] > 0.0 { 1.0 / roots[k] } else { 0.0 };
    Ok((
        row_major(d_input, rank, |i, k| (right[(i, k)] * share(k)) as f32),
        row_major(rank, d_output, |k, j| (basis[(j, k)] * roots[k]) as f32),
    ))
}

/// The directions of `tall·vectors`, each of norm 1 or 0.
fn directions(tall: MatRef<'_, f64>, vectors: &Mat<f64>) -> Mat<f64> {
    let mut images = product(tall, vectors.as_ref());
    for k in 0..images.ncols() {
        let norm = images.col(k).norm_l2();
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        images.col_mut(k).iter_mut().for_each(|value| *value *= scale);
    }
    images
}

/// The lower triangular `C` of `C·Cᵀ = G`.
fn root(name: &str, moments: &[f32], width: usize) -> Result<Mat<f64>> {
    let unusable = || {
        let message = "its inputs on the training examples are not finite; the model is damaged, or \
                       its numbers are too large";
        Error::layer(name, message)
    };
    if moments.iter().any(|moment| !moment.is_finite()) {
        return Err(unusable());
    }
    let exact = Mat::from_fn(width, width, |i, j| f64::from(moments[i * width + j]));
    let trace: f64 = (0..width).map(|i| exact[(i, i)]).sum();
    let scratch = cholesky_in_place_scratch::<f64>(width, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    for ridge in RIDGES {
        // Inputs that are all zero: every direction is alike.
        let ridge = if trace > 0.0 { ridge * trace / width as f64 } else { 1.0 };
        let mut gram = exact.clone();
        (0..width).for_each(|i| gram[(i, i)] += ridge);
        let stack = MemStack::new(&mut memory);
        let (settings, more) = (Default::default(), Default::default());
        if cholesky_in_place(gram.as_mut(), settings, Par::Seq, stack, more).is_ok() {
            return Ok(gram);
        }
    }
    Err(unusable())
}

/// `‖D·C‖²` of each neuron: the energy of its outputs on inputs with the second moments `moments`, for
/// neurons with the weights `matrix = Dᵀ: [d_input, d_output]`.
pub(super) fn output_energies(
    matrix: &[f32],
    [d_input, d_output]: [usize; 2],
    moments: Option<&[f32]>,
) -> Vec<f64> {
    let matrix = to_f64(matrix);
    let matrix = MatRef::from_row_major_slice(&matrix, d_input, d_output);
    let image = match moments {
        Some(moments) => {
            let gram = to_f64(moments);
            product(MatRef::from_row_major_slice(&gram, d_input, d_input), matrix)
        }
        None => matrix.to_owned(),
    };
    let energy = |j: usize| (0..d_input).map(|i| matrix[(i, j)] * image[(i, j)]).sum::<f64>();
    // Moments are summed in f32, so that the least energies may come out below zero.
    (0..d_output).map(|j| energy(j).max(0.0)).collect()
}
