//! Decomposes random weights, the hardest case since no singular value stands out, or the weights of a
//! model (`LOSPARSE_DECOMPOSE`).

use faer::{Mat, MatRef, Side};
use losparse::checkpoint::LoadOptions;
use losparse::decompose::decompose_matrix;
use losparse::models::{AnySequenceClassifier, FolderModel};
use rayon::prelude::*;

use super::*;

#[divan::bench(args = [0.01, 0.05, 0.1, 0.35], sample_count = 5)]
fn matrix_768x3072(bencher: Bencher<'_, '_>, share: f64) {
    let weight = weights(768, 3072);
    let rank = Rank::Budget(share).resolve(3072, 768).expect("a share");
    bencher.bench_local(|| decompose_matrix("w", black_box(&weight), 768, 3072, rank));
}

/// Decomposes all matrices of BERT-base's sizes, or of the model, and prints how far they are from the optimum.
#[divan::bench(args = [0.05, 0.35], sample_count = 3)]
fn all_matrices(bencher: Bencher<'_, '_>, share: f64) {
    let model = matrices();
    let (worst, name) = worst(&model, share);
    eprintln!("share {share}: ‖W − L·R‖ at most {worst:.9} times the optimum ({name})");
    let config = DecomposeConfig::new(Rank::Budget(share));
    bencher.with_inputs(|| model.clone()).bench_local_values(|model| {
        decompose(model, &LayerSelection::all(), config).map(|(_, done)| done.len())
    });
}

fn matrices() -> Stack {
    let Some(folder) = std::env::var_os("LOSPARSE_DECOMPOSE") else { return bert_base(&device()) };
    let (model, _) = AnySequenceClassifier::load(folder, &device(), &LoadOptions::default())
        .expect("the model of LOSPARSE_DECOMPOSE");
    let mut layers = Vec::new();
    model.for_each_linear(&mut |_, linear| layers.push(linear.clone()));
    Stack { layers }
}

/// The largest `‖W − L·R‖ / min ‖W − L·R‖` of all matrices, in f64, with number and size of the matrix.
fn worst(model: &Stack, share: f64) -> (f64, String) {
    let layers: Vec<_> = model
        .layers
        .iter()
        .map(|layer| {
            let weight: Vec<f32> = layer.effective_weight().try_into_vec_as().expect("floats");
            (weight, layer.dims())
        })
        .collect();
    let ratios = layers.par_iter().enumerate().map(|(at, (weight, [d_input, d_output]))| {
        let (d_input, d_output) = (*d_input, *d_output);
        let rank = Rank::Budget(share).resolve(d_output, d_input).expect("a share");
        let found = decompose_matrix("w", weight, d_input, d_output, rank).expect("factors");
        let matrix = |values: &[f32], rows: usize, columns: usize| -> Mat<f64> {
            let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            MatRef::from_row_major_slice(&values, rows, columns).to_owned()
        };
        let weight = matrix(weight, d_input, d_output);
        let product = matrix(&found.right, d_input, rank) * matrix(&found.left, rank, d_output);
        let off = (&weight - product).norm_l2();
        let gram = match d_input <= d_output {
            true => &weight * weight.transpose(),
            false => weight.transpose() * &weight,
        };
        let eigenvalues = gram.self_adjoint_eigenvalues(Side::Lower).expect("eigenvalues");
        // Ascending: all but the largest ones remain in `W − L·R`.
        let left: f64 = eigenvalues[..eigenvalues.len() - rank].iter().sum();
        (off / left.sqrt(), format!("matrix {at}, {d_input}x{d_output}"))
    });
    ratios.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a matrix")
}
