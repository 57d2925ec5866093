//! The bare model: embeddings, encoder and decoder.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::embeddings::embed_tokens;
use super::{BartConfig, BartDecoder, BartEncoder, DecoderContext};
use crate::linear::{
    Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor, WordEmbedding,
};
use crate::models::seq2seq::causal_mask;
use crate::models::{
    Collected, EncoderInput, Seq2SeqInput, Seq2SeqOutput, init, shift_tokens_right,
};
use crate::ops::ForwardContext;

/// `BartModel`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartModel {
    /// `[vocab_size, d_model]`: the embedding of encoder and decoder, and the language-model head.
    pub shared: WordEmbedding,
    /// The encoder.
    pub encoder: BartEncoder,
    /// The decoder.
    pub decoder: BartDecoder,
    #[module(skip)]
    pub(super) config: Arc<BartConfig>,
}

impl BartModel {
    /// A freshly initialised model.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let (vocab_size, padding) = (config.vocab_size, Some(config.pad_token_id));
        Self {
            shared: WordEmbedding::Float(init::embedding(
                vocab_size,
                config.d_model,
                config.init_std,
                padding,
                device,
            )),
            encoder: BartEncoder::new(config, device),
            decoder: BartDecoder::new(config, device),
            config: Arc::new(config.clone()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BartConfig {
        &self.config
    }

    /// Runs both sides. Segments and positions of the input are not used: BART has none.
    ///
    /// # Panics
    /// If sequences are longer than `max_position_embeddings`, or shapes differ.
    pub fn forward(&self, input: Seq2SeqInput) -> Seq2SeqOutput {
        let mut encoder = Collected::new(&input.encoder);
        let (encoded, cross) =
            self.encode(&input.encoder, |states, maps| encoder.push(states, maps));

        let decoder_input_ids = input
            .decoder_input_ids
            .unwrap_or_else(|| self.shift_tokens_right(input.encoder.input_ids.clone()));
        let embedded = self.embed(decoder_input_ids);
        let own = causal_mask(&embedded, input.decoder_attention_mask.as_ref());
        let context = DecoderContext {
            encoder_hidden_states: encoded.clone(),
            cross,
            own: ForwardContext::new(Some(own)).with_attentions(input.encoder.output_attentions),
        };
        let (mut decoder, mut crossed) =
            (Collected::new(&input.encoder), Collected::new(&input.encoder));
        let last_hidden_state = self.decoder.forward(embedded, &context, |states, (own, cross)| {
            decoder.push(states, own);
            crossed.push_attention(cross);
        });
        Seq2SeqOutput {
            last_hidden_state,
            decoder_hidden_states: decoder.hidden_states,
            decoder_attentions: decoder.attentions,
            cross_attentions: crossed.attentions,
            encoder_last_hidden_state: encoded,
            encoder_hidden_states: encoder.hidden_states,
            encoder_attentions: encoder.attentions,
        }
    }

    /// The encoder's output `[batch, source, d_model]` and the mask `[batch, 1, 1, source]` of its padding;
    /// `each` sees the states as [`BartEncoder::forward`] shows them.
    pub(super) fn encode(
        &self,
        input: &EncoderInput,
        each: impl FnMut(&Tensor<3>, Option<Tensor<4>>),
    ) -> (Tensor<3>, ForwardContext) {
        let embedded = self.embed(input.input_ids.clone());
        let context = input.padded_context(&embedded);
        (self.encoder.forward(embedded, &context, each), context)
    }

    /// `[batch, length]` → `[batch, length, d_model]`.
    pub(super) fn embed(&self, input_ids: Tensor<2, Int>) -> Tensor<3> {
        embed_tokens(&self.shared, &self.config, input_ids)
    }

    /// The tokens that the decoder reads to predict `labels`, `[batch, target]`.
    pub fn shift_tokens_right(&self, labels: Tensor<2, Int>) -> Tensor<2, Int> {
        shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)
    }
}

impl Compressible for BartModel {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        for (i, layer) in self.encoder.layers.iter_mut().enumerate() {
            let name = format!("encoder.layers.{i}");
            layer.self_attn.for_each_linear_mut(&format!("{name}.self_attn"), f);
            layer.feed_forward.for_each_linear_mut(&name, f);
        }
        for (i, layer) in self.decoder.layers.iter_mut().enumerate() {
            let name = format!("decoder.layers.{i}");
            layer.self_attn.for_each_linear_mut(&format!("{name}.self_attn"), f);
            layer.encoder_attn.for_each_linear_mut(&format!("{name}.encoder_attn"), f);
            layer.feed_forward.for_each_linear_mut(&name, f);
        }
    }

    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        f("shared", &mut self.shared);
    }

    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        for (i, layer) in self.encoder.layers.iter_mut().enumerate() {
            layer.feed_forward.visit_mut(&format!("encoder.layers.{i}"), f);
        }
        for (i, layer) in self.decoder.layers.iter_mut().enumerate() {
            layer.feed_forward.visit_mut(&format!("decoder.layers.{i}"), f);
        }
    }
}
