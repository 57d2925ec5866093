//! Second moments of a layer's inputs, measured while a model is applied to examples.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use burn::tensor::{DType, Tensor};

/// The sum of `XᵀX / l` over all sequences `X: [l, d_input]` that a layer was given: each counts alike, whatever
/// its number of tokens.
#[derive(Debug, Default)]
pub(crate) struct InputMoments {
    sum: Mutex<Option<Tensor<2>>>,
    first: OnceLock<u64>,
}

/// Counts the first inputs of layers.
static FIRST_INPUTS: AtomicU64 = AtomicU64::new(0);

impl InputMoments {
    /// Adds the moments of one input.
    ///
    /// # Shapes
    /// - `input`: `[sequences, .., d_input]`
    pub(crate) fn add<const D: usize>(&self, input: &Tensor<D>) {
        let input = if input.is_autodiff() { input.clone().inner() } else { input.clone() };
        let width = input.dims()[D - 1];
        let tokens = input.shape().num_elements() / width.max(1);
        if tokens == 0 {
            return;
        }
        self.first.get_or_init(|| FIRST_INPUTS.fetch_add(1, Ordering::Relaxed));
        let length = (tokens / input.dims()[0]).max(1);
        let rows = input.reshape([tokens, width]).cast(DType::F32);
        let moments = rows.clone().transpose().matmul(rows) / length as f32;
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = Some(match sum.take() {
            Some(sum) => sum + moments,
            None => moments,
        });
    }

    /// The sum, `[d_input, d_input]`; `None` if the layer was never applied.
    pub(crate) fn sum(&self) -> Option<Tensor<2>> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that is larger the later the layer was applied first; `None` if it never was.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.get().copied()
    }
}
