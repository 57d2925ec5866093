//! Models as contestants of a latency measurement, and their input.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::latency::Contestant;
use crate::models::FolderModel;

/// Makes a contestant that runs `model` on `[batch, length]` tokens.
pub fn contestant<M: FolderModel + 'static>(
    name: &str,
    model: M,
    shape: [usize; 2],
    device: &Device,
) -> Contestant<'static> {
    let ids = token_ids(&model, shape, device);
    (name.to_string(), Box::new(move || model.run(ids.clone())))
}

/// Tokens `[batch, length]` from the model's vocabulary without its first, special ones, so that none is
/// padding. Each row ends with the end token if the model needs one.
pub fn token_ids<M: FolderModel>(
    model: &M,
    [batch, length]: [usize; 2],
    device: &Device,
) -> Tensor<2, Int> {
    let vocab_size = model.vocab_size();
    let words = vocab_size.saturating_sub(5).max(1) as i64;
    let first = vocab_size as i64 - words;
    let mut ids: Vec<i64> =
        (0..batch * length).map(|at| first + (at as i64 * 31) % words).collect();
    if let Some(end) = model.end_token() {
        ids.iter_mut().skip(length.saturating_sub(1)).step_by(length.max(1)).for_each(|id| {
            *id = end as i64;
        });
    }
    Tensor::from_data(TensorData::new(ids, [batch, length]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::bart::BartForSequenceClassification;
    use crate::models::bart::{BartConfig, BartForConditionalGeneration};
    use crate::models::{AnySeq2Seq, AnySequenceClassifier};

    #[test]
    fn rows_end_as_the_model_needs_it() {
        let config = BartConfig {
            vocab_size: 9,
            d_model: 8,
            encoder_layers: 1,
            decoder_layers: 1,
            encoder_attention_heads: 2,
            decoder_attention_heads: 2,
            encoder_ffn_dim: 8,
            decoder_ffn_dim: 8,
            max_position_embeddings: 8,
            ..BartConfig::default()
        };
        let device = Device::default();
        let ids = |ids: Tensor<2, Int>| ids.into_data().iter::<i64>().collect::<Vec<_>>();
        let model = BartForSequenceClassification::new(&config, &device);
        let model = AnySequenceClassifier::Bart(model);
        assert_eq!(ids(token_ids(&model, [2, 3], &device)), [5, 8, 2, 6, 5, 2]);
        assert_eq!(ids(token_ids(&model, [2, 1], &device)), [2, 2]);
        contestant("classifier", model, [2, 3], &device).1().unwrap();
        let model = BartForConditionalGeneration::new(&config, &device);
        let model = AnySeq2Seq::Bart(model);
        assert_eq!(ids(token_ids(&model, [2, 3], &device)), [5, 8, 7, 6, 5, 8]);
        contestant("writer", model, [2, 3], &device).1().unwrap();
    }
}
