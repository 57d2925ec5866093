//! The decomposition of one matrix, by faer's SVD.

use faer::Mat;

use crate::{Error, Result};

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

/// Decomposes `weight = Wᵀ: [d_input, d_output]` (row by row): with `W = UΣVᵀ`, `L = U_r √Σ_r`,
/// `R = √Σ_r V_rᵀ` and `S = W − L·R`.
///
/// # Errors
/// If a value is not finite or the SVD does not converge; `name` is the layer in the message.
pub fn decompose_matrix(
    name: &str,
    weight: &[f32],
    d_input: usize,
    d_output: usize,
    rank: usize,
) -> Result<Factors> {
    if let Some(at) = weight.iter().position(|v| !v.is_finite()) {
        return Err(Error::layer(
            name,
            format!(
                "weight[{}, {}] is {}; the checkpoint is damaged, get a sound one",
                at % d_output,
                at / d_output,
                weight[at]
            ),
        ));
    }
    let dense = Mat::from_fn(d_input, d_output, |i, j| weight[i * d_output + j]);
    let (right, left) = truncated(name, &dense, rank)?;
    let product = &right * &left;
    let mut sparse = vec![0f32; d_input * d_output];
    let (mut norm, mut rest) = (0f64, 0f64);
    for i in 0..d_input {
        for j in 0..d_output {
            let (w, lr) = (dense[(i, j)], if rank > 0 { product[(i, j)] } else { 0.0 });
            let s = w - lr;
            sparse[i * d_output + j] = s;
            norm += f64::from(w).powi(2);
            rest += f64::from(s).powi(2);
        }
    }
    Ok(Factors {
        d_input,
        d_output,
        rank,
        right: row_major(&right),
        left: row_major(&left),
        sparse,
        residual: if norm > 0.0 { (rest / norm).sqrt() } else { 0.0 },
    })
}

/// `(U_r √Σ_r, √Σ_r V_rᵀ)` of `matrix`.
fn truncated(name: &str, matrix: &Mat<f32>, rank: usize) -> Result<(Mat<f32>, Mat<f32>)> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    if rank == 0 {
        return Ok((Mat::zeros(rows, 0), Mat::zeros(0, columns)));
    }
    let svd = matrix
        .thin_svd()
        .map_err(|e| Error::layer(name, format!("its SVD does not converge ({e:?})")))?;
    let (u, s, v) = (svd.U(), svd.S().column_vector(), svd.V());
    let root: Vec<f32> = (0..rank).map(|k| s[k].max(0.0).sqrt()).collect();
    let right = Mat::from_fn(rows, rank, |i, k| u[(i, k)] * root[k]);
    let left = Mat::from_fn(rank, columns, |k, j| root[k] * v[(j, k)]);
    Ok((right, left))
}

fn row_major(matrix: &Mat<f32>) -> Vec<f32> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    (0..rows).flat_map(|i| (0..columns).map(move |j| matrix[(i, j)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;

    fn weight(d_input: usize, d_output: usize) -> Vec<f32> {
        // A fixed, full-rank matrix with a decaying spectrum.
        (0..d_input * d_output)
            .map(|at| {
                let (i, j) = (at / d_output, at % d_output);
                let phase = (i * 31 + j * 17 + i * j * 7) as f32;
                phase.sin() / (1.0 + (i % 5 + j % 3) as f32)
            })
            .collect()
    }

    #[test]
    fn residual_is_the_optimum_that_nalgebra_finds() {
        for (d_input, d_output, rank) in [(24, 24, 5), (16, 40, 7), (40, 16, 16), (8, 8, 1)] {
            let weight = weight(d_input, d_output);
            let factors = decompose_matrix("w", &weight, d_input, d_output, rank).unwrap();
            let oracle = DMatrix::from_row_slice(d_input, d_output, &weight).cast::<f64>();
            let mut values = oracle.clone().singular_values().as_slice().to_vec();
            values.sort_by(|a, b| b.total_cmp(a));
            let optimum = values[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
            let found = factors.residual * oracle.norm();
            assert!(
                found <= optimum * 1.0001 + 1e-4,
                "{d_input}×{d_output} rank {rank}: {found} > {optimum}"
            );
        }
    }

    #[test]
    fn parts_sum_to_the_weight_and_share_the_singular_values_evenly() {
        let (d_input, d_output, rank) = (20, 12, 4);
        let weight = weight(d_input, d_output);
        let f = decompose_matrix("w", &weight, d_input, d_output, rank).unwrap();
        let matrix = |v: &[f32], r, c| DMatrix::from_row_slice(r, c, v);
        let right = matrix(&f.right, d_input, rank);
        let left = matrix(&f.left, rank, d_output);
        let sum = &right * &left + matrix(&f.sparse, d_input, d_output);
        assert!((sum - matrix(&weight, d_input, d_output)).amax() < 1e-6);
        let (a, b) = (right.transpose() * &right, &left * left.transpose());
        assert!((&a - &b).amax() < 1e-4, "RᵀR and LLᵀ are both Σ_r: {a} {b}");
    }

    #[test]
    fn rank_zero_keeps_everything_sparse_and_full_rank_nothing() {
        let weight = weight(6, 9);
        assert_eq!(decompose_matrix("w", &weight, 6, 9, 0).unwrap().sparse, weight);
        assert!(decompose_matrix("w", &weight, 6, 9, 6).unwrap().residual < 1e-5);
    }

    #[test]
    fn a_value_that_is_not_finite_names_the_layer() {
        let mut weight = weight(4, 4);
        weight[6] = f32::NAN;
        let message = decompose_matrix("encoder.query", &weight, 4, 4, 2).unwrap_err().to_string();
        assert!(message.contains("encoder.query") && message.contains("NaN"), "{message}");
    }
}
