//! Layers that share their input.

use burn::tensor::Tensor;

use super::CompressibleLinear;
use crate::ops::{Memo, Sources};
use crate::precision::linear;

/// Computes layers that share their input, such as a block's query, key and value.
///
/// In inference, compact layers share one first product `[K₁; R₁; K₂; R₂; …]`, whose weights are joined
/// once: fewer and larger operations. Otherwise one layer is computed after another.
#[derive(Debug, Clone, Default)]
pub struct SharedInput {
    /// `[d_input, (kept₁ + rank₁) + (kept₂ + rank₂) + …]`.
    joined: Memo<Tensor<2>>,
}

impl SharedInput {
    /// Applies `layers` to one input.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - outputs: `[.., d_output]` each
    ///
    /// # Panics
    /// If the last axis of `input` is not every layer's `d_input`.
    pub fn forward<const N: usize, const D: usize>(
        &self,
        layers: [&CompressibleLinear; N],
        input: Tensor<D>,
    ) -> [Tensor<D>; N] {
        let Some(joined) = self.joined(&layers) else {
            return layers.map(|layer| layer.forward(input.clone()));
        };
        let hidden = linear(input, joined, None);
        let mut from = 0;
        layers.map(|layer| {
            let CompressibleLinear::Compact(layer) = layer else {
                unreachable!("only compact layers are joined")
            };
            let width = layer.kept + layer.rank();
            from += width;
            layer.outputs(hidden.clone().narrow(D - 1, from - width, width))
        })
    }

    /// The joined weights; `None` unless all layers are compact with a first product, and their weights stay
    /// the same.
    fn joined(&self, layers: &[&CompressibleLinear]) -> Option<Tensor<2>> {
        let mut sources = Sources::default();
        let mut firsts = Vec::new();
        for layer in layers {
            let CompressibleLinear::Compact(layer) = layer else { return None };
            if layer.is_constant() {
                return None;
            }
            sources = sources.and(&layer.first)?;
            firsts.push(&layer.first);
        }
        let join = || Tensor::cat(firsts.iter().map(|first| first.val()).collect(), 1);
        Some(self.joined.get(Some(sources), join))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Distribution};

    use super::super::{CompactLinear, CompressibleLinearConfig};
    use super::*;

    /// 8 → 6, the named neurons kept, with rank 2 beside them.
    fn compact(kept: &[usize], device: &Device) -> CompressibleLinear {
        let random = |shape: [usize; 2]| {
            Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), device)
        };
        let low_rank = (kept.len() < 6).then(|| (random([8, 2]), random([2, 6 - kept.len()])));
        let bias = random([1, 6]).reshape([6]);
        let folded = random([8, kept.len().max(1)]).narrow(1, 0, kept.len().max(1));
        CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, Some(bias), kept, 6))
    }

    fn assert_alike(shared: &SharedInput, layers: [&CompressibleLinear; 3], input: &Tensor<3>) {
        let outputs = shared.forward(layers, input.clone());
        for (layer, output) in layers.iter().zip(outputs) {
            let off = (layer.forward(input.clone()) - output).abs().max().into_scalar::<f32>();
            assert!(off < 1e-6, "{off}");
        }
    }

    #[test]
    fn one_first_product_gives_what_the_layers_give() {
        let device = Device::default();
        let input = Tensor::random([2, 3, 8], Distribution::Uniform(-1.0, 1.0), &device);
        let layers = [[1, 4].as_slice(), &[], &[0, 1, 2, 3, 4, 5]].map(|k| compact(k, &device));
        let [query, key, value] = layers.each_ref();
        let shared = SharedInput::default();
        assert_alike(&shared, [query, key, value], &input);
        assert_alike(&shared, [query, key, value], &input);
        // A layer without a product.
        let none = Tensor::zeros([8, 0], &device);
        let bias = Tensor::from_floats([1., 2., 3., 4., 5., 6.], &device);
        let pruned = CompactLinear::new(none, None, Some(bias.clone()), &[], 6);
        let pruned = CompressibleLinear::Compact(pruned);
        assert_alike(&shared, [query, &pruned, value], &input);
        let [_, outputs, _] = shared.forward([query, &pruned, value], input.clone());
        let off = (outputs - bias.unsqueeze()).abs().max().into_scalar::<f32>();
        assert_eq!(off, 0.0);
        // Other layers than those that were joined.
        assert_alike(&shared, [value, query, query], &input);
        let dense = CompressibleLinearConfig::new(8, 6).init(&device);
        assert_alike(&shared, [query, &dense, value], &input);
        assert!(shared.joined(&[query, &dense]).is_none());
    }

    #[test]
    fn joined_anew_once_a_weight_has_changed() {
        let device = Device::default();
        let input = Tensor::random([1, 4, 8], Distribution::Uniform(-1.0, 1.0), &device);
        let [query, key] = [[1].as_slice(), &[0, 5]].map(|kept| compact(kept, &device));
        let shared = SharedInput::default();
        assert_alike(&shared, [&query, &key, &key], &input);
        struct Doubled;
        impl burn::module::ModuleMapper for Doubled {
            fn map_float<const D: usize>(
                &mut self,
                param: burn::module::Param<Tensor<D>>,
            ) -> burn::module::Param<Tensor<D>> {
                param.map(|tensor| tensor * 2.0)
            }
        }
        assert_alike(&shared, [&query, &key.map(&mut Doubled), &query], &input);
    }

    #[test]
    fn one_layer_after_another_under_autodiff() {
        let device = Device::default().autodiff();
        let layers = [compact(&[1], &device), compact(&[2, 3], &device)];
        assert!(SharedInput::default().joined(&layers.each_ref()).is_none());
    }
}
