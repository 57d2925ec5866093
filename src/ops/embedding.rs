//! Word embeddings.

use burn::nn::Embedding;
use burn::tensor::{Int, Tensor};

/// `[batch, length, d_model]`. The padding token's row gets no gradient, as with PyTorch's
/// `padding_idx`.
pub(crate) fn word_embeddings(
    embedding: &Embedding,
    input_ids: &Tensor<2, Int>,
    pad_token_id: Option<usize>,
) -> Tensor<3> {
    let words = embedding.forward(input_ids.clone());
    match pad_token_id {
        Some(pad) if words.is_autodiff() => {
            // [batch, length] → [batch, length, 1]
            let padding = input_ids.clone().equal_elem(pad as i64).unsqueeze_dim::<3>(2);
            let padding = padding.expand(words.dims());
            words.clone().mask_where(padding, words.detach())
        }
        _ => words,
    }
}
