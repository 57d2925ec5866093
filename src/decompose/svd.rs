//! Decomposition of one matrix.
//!
//! ```text
//! smaller side < 256            SVD
//! small rank                    eigenvectors V of the Gram matrix WᵀW (or WWᵀ) by block Lanczos
//! else                          all eigenvectors of the Gram matrix
//! ```
//! In f64, where squaring costs nothing of an f32 matrix's precision, and on one thread a matrix:
//! layers are decomposed in parallel, and the result does not depend on how many at once.

use burn::tensor::{Tensor, TensorData};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::lanczos::{eigen, leading, product};
use crate::linear::{LowRank, leaf};
use crate::{Error, Result};

/// Below this a full SVD takes milliseconds.
const SMALL: usize = 256;

/// `L`, `R` and `S` of one layer, transposed to Burn's orientation, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Rank `r`.
    pub rank: usize,
    /// `Rᵀ: [d_input, rank]`.
    pub right: Vec<f32>,
    /// `Lᵀ: [rank, d_output]`.
    pub left: Vec<f32>,
    /// `Sᵀ = (W − L·R)ᵀ: [d_input, d_output]`.
    pub sparse: Vec<f32>,
    /// `‖S‖ / ‖W‖` (Frobenius); 0 for a zero matrix.
    pub residual: f64,
}

impl Factors {
    /// All zero, as if `W` were.
    pub(super) fn zeros(d_input: usize, d_output: usize, rank: usize) -> Self {
        Self {
            d_input,
            d_output,
            rank,
            right: vec![0.0; d_input * rank],
            left: vec![0.0; rank * d_output],
            sparse: vec![0.0; d_input * d_output],
            residual: 0.0,
        }
    }
}

impl Factors {
    /// `R` and `L`, unless the rank is 0, and `S`, as tensors like `weight`: on its device, in its format,
    /// and under autodiff if it is.
    pub(super) fn tensors<const D: usize>(
        self,
        weight: &Tensor<D>,
    ) -> (Option<LowRank>, Tensor<2>) {
        let (device, dtype) = (weight.device().without_autodiff(), weight.dtype());
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            let tensor = Tensor::from_data(TensorData::new(values, shape), (&device, dtype));
            if weight.is_autodiff() { Tensor::from_inner(tensor) } else { tensor }
        };
        let Self { d_input, d_output, rank, right, left, sparse, .. } = self;
        let low_rank = (rank > 0).then(|| LowRank {
            right: leaf(matrix(right, [d_input, rank])),
            left: leaf(matrix(left, [rank, d_output])),
        });
        (low_rank, matrix(sparse, [d_input, d_output]))
    }
}

/// Decomposes `weight = Wᵀ: [d_input, d_output]` (row by row): with `W = UΣVᵀ`, `L = U_r √Σ_r`,
/// `R = √Σ_r V_rᵀ` and `S = W − L·R`.
///
/// # Errors
/// If `weight` has another size, a value is not finite, `rank` is above the smaller side, or the SVD does
/// not converge; `name` is the layer in the message.
pub fn decompose_matrix(
    name: &str,
    weight: &[f32],
    d_input: usize,
    d_output: usize,
    rank: usize,
) -> Result<Factors> {
    check(name, weight, [d_input, d_output], rank)?;
    let low_rank = match rank {
        0 => (Vec::new(), Vec::new()),
        _ => truncated(name, &to_f64(weight), [d_input, d_output], rank)?,
    };
    factors(name, weight, [d_input, d_output], low_rank)
}

/// Checks that `weight` has the shape and finite values, and that the shape allows `rank`.
pub(super) fn check(
    name: &str,
    weight: &[f32],
    [d_input, d_output]: [usize; 2],
    rank: usize,
) -> Result<()> {
    if weight.len() != d_input * d_output {
        let message = format!("{} values are not {d_input} x {d_output}", weight.len());
        return Err(Error::layer(name, message));
    }
    if rank > d_input.min(d_output) {
        let message = format!("rank {rank} is more than {d_input} x {d_output} can have");
        return Err(Error::layer(name, message));
    }
    let Some(at) = weight.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let (row, column, value) = (at % d_output, at / d_output, weight[at]);
    let message =
        format!("weight[{row}, {column}] is {value}; the checkpoint is damaged, get a sound one");
    Err(Error::layer(name, message))
}

/// The factors with `S`, the rest of `weight`.
pub(super) fn factors(
    name: &str,
    weight: &[f32],
    [d_input, d_output]: [usize; 2],
    (right, left): LowRankPart,
) -> Result<Factors> {
    let mut sparse = weight.to_vec();
    let rank = left.len() / d_output.max(1);
    if rank > 0 {
        matmul(
            MatMut::from_row_major_slice_mut(&mut sparse, d_input, d_output),
            Accum::Add,
            MatRef::from_row_major_slice(&right, d_input, rank),
            MatRef::from_row_major_slice(&left, rank, d_output),
            -1.0,
            Par::Seq,
        );
    }
    let (norm, rest) = (sum_of_squares(weight), sum_of_squares(&sparse));
    if !rest.is_finite() {
        return Err(Error::layer(name, "its values are too large for 32-bit floats"));
    }
    let residual = if norm > 0.0 { (rest / norm).sqrt() } else { 0.0 };
    Ok(Factors { d_input, d_output, rank, right, left, sparse, residual })
}

pub(super) fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn sum_of_squares(values: &[f32]) -> f64 {
    // Separate sums, which the compiler can vectorise.
    let mut lanes = [0f64; 8];
    let (chunks, tail) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value).powi(2);
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
}

/// `Rᵀ: [d_input, rank]` and `Lᵀ: [rank, d_output]`, row by row.
pub(super) type LowRankPart = (Vec<f32>, Vec<f32>);

/// `(U_r √Σ_r, √Σ_r V_rᵀ)` of a matrix, row by row.
fn truncated(
    name: &str,
    values: &[f64],
    [rows, columns]: [usize; 2],
    rank: usize,
) -> Result<LowRankPart> {
    let matrix = MatRef::from_row_major_slice(values, rows, columns);
    // Upright, so that the Gram matrix is of the smaller side.
    let upright = rows >= columns;
    let tall = if upright { matrix } else { matrix.transpose() };
    let vectors = right_vectors(tall, rank).ok_or_else(|| no_convergence(name))?;
    // `W·v_k = σ_k u_k`, so this is optimal for the span of the vectors, however exact they are.
    let images = product(tall, vectors.as_ref());
    let roots: Vec<f64> = (0..rank).map(|k| images.col(k).norm_l2().sqrt()).collect();
    let share = |k: usize| if roots[k] > 0.0 { 1.0 / roots[k] } else { 0.0 };
    let tall_part = |i: usize, k: usize| (images[(i, k)] * share(k)) as f32;
    let short_part = |i: usize, k: usize| (vectors[(i, k)] * roots[k]) as f32;
    Ok(match upright {
        true => {
            (row_major(rows, rank, tall_part), row_major(rank, columns, |k, j| short_part(j, k)))
        }
        false => {
            (row_major(rows, rank, short_part), row_major(rank, columns, |k, j| tall_part(j, k)))
        }
    })
}

pub(super) fn no_convergence(name: &str) -> Error {
    Error::layer(name, "its SVD does not converge; use another rank")
}

/// The `rank` leading right singular vectors of `tall`, which has at least as many rows as columns.
pub(super) fn right_vectors(tall: MatRef<'_, f64>, rank: usize) -> Option<Mat<f64>> {
    let n = tall.ncols();
    if n < SMALL {
        let mut vectors = Mat::zeros(n, n);
        run_svd(tall, Some(vectors.as_mut()))?;
        return Some(vectors.subcols(0, rank).to_owned());
    }
    let gram = gram(tall);
    leading(gram.as_ref(), rank)
        .or_else(|| eigen(gram.as_ref()).map(|(_, vectors)| vectors.subcols(0, rank).to_owned()))
}

/// Singular values of `tall`, largest first; with `vectors`, its right singular vectors.
fn run_svd(tall: MatRef<'_, f64>, vectors: Option<MatMut<'_, f64>>) -> Option<Vec<f64>> {
    let (rows, columns) = (tall.nrows(), tall.ncols());
    let right = match vectors {
        Some(_) => ComputeSvdVectors::Thin,
        None => ComputeSvdVectors::No,
    };
    let left = ComputeSvdVectors::No;
    let scratch = svd_scratch::<f64>(rows, columns, left, right, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    let mut values = Diag::zeros(columns);
    svd(tall, values.as_mut(), None, vectors, Par::Seq, stack, Default::default()).ok()?;
    Some(values.column_vector().iter().copied().collect())
}

/// All singular values of the `[rows, columns]` matrix `weight`, largest first; `None` if they are
/// not found.
#[cfg(feature = "plots")]
pub(crate) fn singular_values(weight: &[f32], rows: usize, columns: usize) -> Option<Vec<f32>> {
    let values = to_f64(weight);
    let matrix = MatRef::from_row_major_slice(&values, rows, columns);
    let tall = if rows >= columns { matrix } else { matrix.transpose() };
    Some(run_svd(tall, None)?.into_iter().map(|value| value as f32).collect())
}

/// `tallᵀ·tall`.
fn gram(tall: MatRef<'_, f64>) -> Mat<f64> {
    let n = tall.ncols();
    let mut gram = Mat::<f64>::zeros(n, n);
    triangular::matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        tall.transpose(),
        BlockStructure::Rectangular,
        tall,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    for j in 0..n {
        for i in 0..j {
            gram[(i, j)] = gram[(j, i)];
        }
    }
    gram
}

pub(super) fn row_major(rows: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let at = &at;
    (0..rows).flat_map(|i| (0..columns).map(move |j| at(i, j))).collect()
}
