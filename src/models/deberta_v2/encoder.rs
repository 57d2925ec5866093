//! The stack of layers, and the relative positions that they share.

use burn::module::Module;
use burn::nn::{Embedding, LayerNorm};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::relative::RowsByLength;
use super::{ConvLayer, DebertaV2Config, DebertaV2Layer, RelativeBuckets, RelativePositions};
use crate::linear::{FeedForwardVisitor, LinearVisitor};
use crate::models::bert::feed_forward;
use crate::models::init;
use crate::ops::ForwardContext;
use crate::ops::{Memo, Sources};

/// `DebertaV2Encoder`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2Encoder {
    /// The layers, first to last.
    pub layer: Vec<DebertaV2Layer>,
    /// `[2·span, hidden_size]`: embeddings of relative positions, with `relative_attention`.
    pub rel_embeddings: Option<Embedding>,
    /// Their normalisation, with `norm_rel_ebd`.
    pub layer_norm: Option<LayerNorm>,
    /// The convolution beside the first layer, with `conv_kernel_size`.
    pub conv: Option<ConvLayer>,
    #[module(skip)]
    buckets: Option<RelativeBuckets>,
    /// `rel_embeddings`, normalised.
    #[module(skip)]
    normalised: Memo<Tensor<2>>,
    #[module(skip)]
    rows: RowsByLength,
}

impl DebertaV2Encoder {
    /// Freshly initialised layers.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let (size, std) = (config.hidden_size, config.initializer_range);
        let buckets = config.relative_buckets();
        Self {
            layer: (0..config.num_hidden_layers)
                .map(|_| DebertaV2Layer::new(config, device))
                .collect(),
            rel_embeddings: buckets
                .map(|buckets| init::embedding(2 * buckets.span(), size, std, None, device)),
            layer_norm: config
                .norm_rel_ebd()
                .then(|| init::layer_norm(size, config.layer_norm_eps, device)),
            conv: (config.conv_kernel_size > 0).then(|| ConvLayer::new(config, device)),
            buckets,
            normalised: Memo::default(),
            rows: RowsByLength::default(),
        }
    }

    /// The relative positions that all layers share, for inputs of `length` tokens; `None` without relative attention.
    ///
    /// In inference, but for `ndarray`, these embeddings and each layer's projections of them are
    /// kept until a parameter that they come from changes.
    pub fn relative_positions(&self, length: usize) -> Option<RelativePositions> {
        let (buckets, embedding) = (self.buckets?, self.rel_embeddings.as_ref()?);
        let norm = |rows: Tensor<2>| match &self.layer_norm {
            Some(norm) => norm.forward(rows),
            None => rows,
        };
        let weight = embedding.weight.val();
        let sources = Sources::default().and(embedding).and_then(|s| s.and(&self.layer_norm));
        let lasting = sources.is_some();
        let rows = self.rows.get(buckets, length, !lasting, &weight.device());
        let embeddings = match sources {
            Some(_) => self.normalised.get(sources, || norm(weight)),
            None => norm(rows.of(weight)),
        };
        Some(RelativePositions { lasting, ..RelativePositions::of_rows(&rows, embeddings) })
    }

    /// Applies all layers; `each` sees every layer's output and attention probabilities, if `context`
    /// asks for those.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`; without padding, `each` sees
    ///   `[1, tokens, hidden_size]`, and the output has any token's row where padding is
    /// - `attention_mask`: `[batch, length]`, 0 for padding
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        attention_mask: Option<&Tensor<2, Int>>,
        context: &ForwardContext,
        mut each: impl FnMut(&Tensor<3>, Option<Tensor<4>>),
    ) -> Tensor<3> {
        let [_, length, _] = hidden_states.dims();
        let masked = attention_mask
            .filter(|_| !context.is_unpadded())
            .map(|mask| context.hiding(pairs_with_padding(mask), &hidden_states));
        let context = masked.as_ref().unwrap_or(context);
        let positions = self.relative_positions(length);
        let embedded = self.conv.as_ref().map(|_| hidden_states.clone());
        let mut rows = context.rows(hidden_states);
        for (i, layer) in self.layer.iter().enumerate() {
            let (output, probabilities) = layer.forward(rows, context, positions.as_ref());
            rows = match (i, &self.conv, &embedded) {
                (0, Some(conv), Some(embedded)) => {
                    // [batch, length] → [batch, length, 1]
                    let padding = attention_mask.map(|m| m.clone().equal_elem(0).unsqueeze_dim(2));
                    conv.forward(embedded.clone(), output, padding.as_ref())
                }
                _ => output,
            };
            each(&rows, probabilities);
        }
        context.padded(rows)
    }

    /// Visits the layers' projections, in the order of computation.
    pub(crate) fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        for (i, layer) in self.layer.iter_mut().enumerate() {
            let attention = &mut layer.attention.self_attention;
            let projections = [
                ("attention.self.query_proj", &mut attention.query_proj),
                ("attention.self.key_proj", &mut attention.key_proj),
                ("attention.self.value_proj", &mut attention.value_proj),
                ("attention.output.dense", &mut layer.attention.output.dense),
                ("intermediate.dense", &mut layer.intermediate.dense),
                ("output.dense", &mut layer.output.dense),
            ];
            for (name, linear) in projections {
                f(&format!("encoder.layer.{i}.{name}"), linear);
            }
        }
    }

    /// Visits the layers' feed-forward networks.
    pub(crate) fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        for (i, layer) in self.layer.iter_mut().enumerate() {
            let names = ["intermediate.dense", "output.dense"]
                .map(|name| format!("encoder.layer.{i}.{name}"));
            feed_forward([&names[0], &names[1]], &mut layer.intermediate, &mut layer.output, f);
        }
    }
}

/// `[batch, length]` → `[batch, 1, length, length]`: true where query or key is padding. Queries
/// too, as in Hugging Face: their rows attend to everything alike.
fn pairs_with_padding(attention_mask: &Tensor<2, Int>) -> Tensor<4, Bool> {
    let [batch, length] = attention_mask.dims();
    let queries = attention_mask.clone().reshape([batch, 1, length, 1]);
    let keys = attention_mask.clone().reshape([batch, 1, 1, length]);
    (queries * keys).equal_elem(0)
}
