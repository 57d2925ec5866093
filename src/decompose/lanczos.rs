//! Leading eigenvectors of a Gram matrix by block Lanczos (Golub & Underwood 1977; with a block
//! wider than the rank, as Musco & Musco 2015).
//!
//! ```text
//! Q = [Q₀ Q₁ …],  G·Q = Q·T + Q₊·B·Eᵀ      Ritz values θ and vectors Q·Y of T = Y·θ·Yᵀ
//! ```
//! For a few percent of the eigenvectors, a basis of a third of the matrix is enough. Everything is in f64,
//! on one thread and from fixed random numbers, so the result does not depend on how many threads
//! decompose other matrices meanwhile.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{
    qr_in_place, qr_in_place_scratch, recommended_block_size,
};
use faer::{Accum, Conj, Mat, MatRef, Par};

use crate::random::split_mix_64;

/// The block is this much wider than the rank.
const OVERSAMPLING: usize = 8;
/// Share of the unexplained energy `‖W − L·R‖²` that may be missed. Of its root, the residual, that
/// is 1 in 100,000.
const TOLERANCE: f64 = 2e-5;
/// Weights of BERT, whose singular values decay slowly, take a basis of 7 to 9 blocks.
const FIRST_CHECK: usize = 6;
/// Rounding in a Gram matrix, relative to its trace.
const ROUNDING: f64 = 1e-14;

/// Eigenvalues, largest first, and eigenvectors of the symmetric `matrix`; `None` if the iteration
/// does not converge.
pub(super) fn eigen(matrix: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    let mut vectors = Mat::zeros(n, n);
    let mut values = Diag::zeros(n);
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    self_adjoint_evd(
        matrix,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .ok()?;
    // Ascending from faer.
    let values = values.column_vector().iter().rev().copied().collect();
    Some((values, vectors.reverse_cols().to_owned()))
}

/// The `rank` leading eigenvectors of the positive semi-definite `gram: [n, n]`, as `[n, rank]`.
///
/// `None` if that takes so large a basis that all eigenvectors at once are as cheap.
pub(super) fn leading(gram: MatRef<'_, f64>, rank: usize) -> Option<Mat<f64>> {
    let n = gram.nrows();
    let block = rank + OVERSAMPLING;
    let largest = n / 2;
    if rank == 0 || 9 * block > largest {
        return None;
    }
    let trace: f64 = (0..n).map(|i| gram[(i, i)]).sum();
    let mut basis = Mat::<f64>::zeros(n, largest);
    let mut projected = Mat::<f64>::zeros(largest, largest);
    let mut next = Mat::from_fn(n, block, |i, j| {
        split_mix_64(0, (i * block + j) as u64) as f64 / u64::MAX as f64 - 0.5
    });
    orthonormalize(&mut next);
    let mut width = 0;
    while width + block <= largest {
        let (from, to) = (width, width + block);
        basis.subcols_mut(from, block).copy_from(&next);
        width = to;
        let done = basis.subcols(0, width);
        let mut rest = product(gram, next.as_ref());
        // Twice is enough (Giraud et al. 2005) to be orthogonal to working precision.
        let once = remove(done, &mut rest);
        let twice = remove(done, &mut rest);
        for j in 0..block {
            for i in 0..width {
                let value = once[(i, j)] + twice[(i, j)];
                projected[(i, from + j)] = value;
                projected[(from + j, i)] = value;
            }
        }
        let coupling = orthonormalize(&mut rest);
        if width >= FIRST_CHECK * block {
            let (values, vectors) = eigen(projected.submatrix(0, 0, width, width))?;
            let last = product(coupling.as_ref(), vectors.submatrix(from, 0, block, rank));
            let explained: f64 = values[..rank].iter().sum();
            let missed: f64 = (0..rank)
                .map(|k| missed_energy(last.col(k).norm_l2(), values[k] - values[rank]))
                .sum();
            if missed <= TOLERANCE * (trace - explained) + ROUNDING * trace {
                let found = product(done, vectors.subcols(0, rank));
                return is_orthonormal(&found).then_some(found);
            }
        }
        // Where the block has lost rank, its new directions are arbitrary, also against the basis.
        remove(done, &mut rest);
        orthonormalize(&mut rest);
        next = rest;
    }
    None
}

/// Largest distance of a Ritz value below its eigenvalue (Weyl; Kato–Temple), by the `residual` of its
/// vector and the `gap` to the values that are left out.
fn missed_energy(residual: f64, gap: f64) -> f64 {
    match gap > residual {
        true => residual * residual / gap,
        false => residual,
    }
}

fn is_orthonormal(vectors: &Mat<f64>) -> bool {
    let gram = product(vectors.transpose(), vectors.as_ref());
    (0..gram.ncols()).all(|j| {
        (0..gram.nrows()).all(|i| (gram[(i, j)] - f64::from(u8::from(i == j))).abs() < 1e-10)
    })
}

/// `a·b`.
pub(super) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// Removes the part within the orthonormal `basis` from `block`; returns its coefficients.
fn remove(basis: MatRef<'_, f64>, block: &mut Mat<f64>) -> Mat<f64> {
    let coefficients = product(basis.transpose(), block.as_ref());
    matmul(block.as_mut(), Accum::Add, basis, coefficients.as_ref(), -1.0, Par::Seq);
    coefficients
}

/// Replaces `block = Q·R` with `Q`, orthonormal even if the block has lost rank; returns `R`.
fn orthonormalize(block: &mut Mat<f64>) -> Mat<f64> {
    let (rows, columns) = (block.nrows(), block.ncols());
    let size = recommended_block_size::<f64>(rows, columns);
    let mut coefficients = Mat::<f64>::zeros(size, columns);
    let scratch = qr_in_place_scratch::<f64>(rows, columns, size, Par::Seq, Default::default())
        .or(apply_scratch::<f64>(rows, size, columns));
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    qr_in_place(block.as_mut(), coefficients.as_mut(), Par::Seq, stack, Default::default());
    let upper = Mat::from_fn(columns, columns, |i, j| if i <= j { block[(i, j)] } else { 0.0 });
    for j in 0..columns {
        block.col_mut(j).subrows_mut(0, j).fill(0.0);
        block[(j, j)] = 1.0;
    }
    let mut orthonormal = Mat::<f64>::identity(rows, columns);
    apply(block.as_ref(), coefficients.as_ref(), Conj::No, orthonormal.as_mut(), Par::Seq, stack);
    *block = orthonormal;
    upper
}
