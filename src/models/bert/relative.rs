//! A bias of the attention scores by the distance between two tokens.

use burn::module::Module;
use burn::nn::Embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::models::init;

/// Distances that `relative_position_bucket` tells apart, whatever the configuration says.
pub(crate) const BUCKETS: usize = 32;
const MAX_DISTANCE: usize = 128;

/// `relative_attention_bias`: one number a head for each bucket of distances, T5's way.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpnet/modeling_mpnet.py>
#[derive(Module, Debug)]
pub struct RelativeAttentionBias {
    /// `[buckets, heads]`.
    pub bias: Embedding,
}

impl RelativeAttentionBias {
    /// A freshly initialised bias.
    pub fn new(buckets: usize, heads: usize, std: f64, device: &Device) -> Self {
        Self { bias: init::embedding(buckets, heads, std, None, device) }
    }

    /// The bias of sequences of `length` tokens, `[1, heads, length, length]` (query, key).
    pub fn forward(&self, length: usize, device: &Device) -> Tensor<4> {
        let by_distance: Vec<i32> = (0..2 * length.max(1) - 1)
            .map(|at| bucket(at as i64 - (length as i64 - 1)) as i32)
            .collect();
        let buckets: Vec<i32> = (0..length)
            .flat_map(|query| by_distance[length - 1 - query..][..length].iter().copied())
            .collect();
        let buckets: Tensor<2, Int> =
            Tensor::from_data(TensorData::new(buckets, [length, length]), device);
        // [query, key, heads] → [heads, query, key] → [1, heads, query, key]
        self.bias.forward(buckets).permute([2, 0, 1]).unsqueeze()
    }
}

/// Bucket of a key that lies `relative_position` after its query: half of the buckets are for each
/// side, half of those exact and the rest logarithmic up to 128.
fn bucket(relative_position: i64) -> usize {
    const SIDE: usize = BUCKETS / 2;
    const EXACT: usize = SIDE / 2;
    let after = if relative_position > 0 { SIDE } else { 0 };
    let distance = relative_position.unsigned_abs() as usize;
    if distance < EXACT {
        return after + distance;
    }
    // In f32 as there, since what is cut off decides.
    let range = (MAX_DISTANCE as f64 / EXACT as f64).ln() as f32;
    let log = (distance as f32 / EXACT as f32).ln() / range * (SIDE - EXACT) as f32;
    after + (EXACT + log as usize).min(SIDE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where transformers' `relative_position_bucket` changes, from −600 to 600.
    #[test]
    fn buckets_equal_transformers() {
        #[rustfmt::skip]
        let changes = [
            (-600, 15), (-90, 14), (-63, 13), (-45, 12), (-31, 11), (-22, 10), (-15, 9), (-11, 8),
            (-7, 7), (-6, 6), (-5, 5), (-4, 4), (-3, 3), (-2, 2), (-1, 1), (0, 0), (1, 17), (2, 18),
            (3, 19), (4, 20), (5, 21), (6, 22), (7, 23), (8, 24), (12, 25), (16, 26), (23, 27),
            (32, 28), (46, 29), (64, 30), (91, 31),
        ];
        let mut found: Vec<(i64, usize)> = Vec::new();
        for position in -600..=600 {
            let bucket = bucket(position);
            if found.last().is_none_or(|(_, last)| *last != bucket) {
                found.push((position, bucket));
            }
        }
        assert_eq!(found, changes);
    }

    #[test]
    fn the_bias_depends_on_the_distance_from_query_to_key() {
        let device = Device::default();
        let bias = RelativeAttentionBias::new(BUCKETS, 2, 1.0, &device);
        let weight = bias.bias.weight.val().into_data().try_into_vec::<f32>().unwrap();
        let found = bias.forward(10, &device);
        assert_eq!(found.dims(), [1, 2, 10, 10]);
        let found = found.into_data().try_into_vec::<f32>().unwrap();
        for (at, value) in found.into_iter().enumerate() {
            let (head, query, key) = (at / 100, at / 10 % 10, at % 10);
            assert_eq!(value, weight[2 * bucket(key as i64 - query as i64) + head]);
        }
        assert_eq!(bias.forward(1, &device).dims(), [1, 2, 1, 1]);
    }
}
