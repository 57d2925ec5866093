//! `config.json` of a BART model.

use serde::{Deserialize, Deserializer, Serialize};

use crate::generation::TokenIds;
use crate::models::config::{
    ModelConfig, Shown, SizeShown, at_most, axis, config_fields, deviation, heads, layers,
    probability, size, token,
};
use crate::models::{Activation, LabelConfig};

/// Rows before that of position 0: a quirk of BART, whose first rows are for padding.
pub(super) const OFFSET: usize = 2;

/// Configuration of a BART model: Hugging Face's `config.json`, field by field.
///
/// Fields that a file leaves out take Hugging Face's defaults (those of `bart-large`); fields
/// unknown here, settings of a generation among them, are kept and written back.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/configuration_bart.py>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BartConfig {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest input and longest output, in tokens.
    pub max_position_embeddings: usize,
    /// Number of encoder layers.
    pub encoder_layers: usize,
    /// Width of the encoder's feed-forward layers.
    pub encoder_ffn_dim: usize,
    /// Attention heads of an encoder layer; divides `d_model`.
    pub encoder_attention_heads: usize,
    /// Number of decoder layers.
    pub decoder_layers: usize,
    /// Width of the decoder's feed-forward layers.
    pub decoder_ffn_dim: usize,
    /// Attention heads of a decoder layer; divides `d_model`.
    pub decoder_attention_heads: usize,
    /// Probability of leaving out a layer in training: only 0.
    pub encoder_layerdrop: f64,
    /// Probability of leaving out a layer in training: only 0.
    pub decoder_layerdrop: f64,
    /// Activation of the feed-forward layers.
    pub activation_function: Activation,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Dropout of embeddings, attention output and feed-forward output.
    pub dropout: f64,
    /// Dropout of the attention probabilities.
    pub attention_dropout: f64,
    /// Dropout after the activation.
    pub activation_dropout: f64,
    /// Standard deviation of freshly initialised weights.
    pub init_std: f64,
    /// Dropout around the classifier's inner layer.
    pub classifier_dropout: f64,
    /// Multiply embeddings by `√d_model`.
    pub scale_embedding: bool,
    /// Id of the padding token, whose embedding gets no gradient from either side's input.
    pub pad_token_id: usize,
    /// Id of the first token of an input.
    pub bos_token_id: Option<usize>,
    /// Id of the token that ends a sequence; its last state is what a classifier sees.
    pub eos_token_id: Option<TokenIds>,
    /// Token that the decoder starts from.
    pub decoder_start_token_id: usize,
    /// Encoder and decoder share their embedding, which is the head too: only `true`.
    pub tie_word_embeddings: bool,
    /// Always `true`: a lone decoder is not supported.
    pub is_encoder_decoder: bool,
    /// Labels and the kind of task.
    #[serde(flatten, deserialize_with = "three_labels")]
    pub labels: LabelConfig,
    /// Every other field of the file, as read.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// BART has three labels where others have two.
fn three_labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LabelConfig, D::Error> {
    let mut labels = LabelConfig::deserialize(deserializer)?;
    if labels.id2label.is_none() && labels.num_labels.is_none() {
        labels.num_labels = Some(3);
    }
    Ok(labels)
}

impl Default for BartConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50265,
            max_position_embeddings: 1024,
            encoder_layers: 12,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            decoder_layers: 12,
            decoder_ffn_dim: 4096,
            decoder_attention_heads: 16,
            encoder_layerdrop: 0.0,
            decoder_layerdrop: 0.0,
            activation_function: Activation::Gelu,
            d_model: 1024,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            classifier_dropout: 0.0,
            scale_embedding: false,
            pad_token_id: 1,
            bos_token_id: Some(0),
            eos_token_id: Some(TokenIds::One(2)),
            decoder_start_token_id: 2,
            tie_word_embeddings: true,
            is_encoder_decoder: true,
            labels: LabelConfig { num_labels: Some(3), ..LabelConfig::default() },
            other: serde_json::Map::new(),
        }
    }
}

impl BartConfig {
    /// The factor of embedded tokens.
    pub fn embed_scale(&self) -> f64 {
        if self.scale_embedding { (self.d_model as f64).sqrt() } else { 1.0 }
    }

    /// The one token that ends a sequence.
    pub(crate) fn eos_token(&self) -> Option<usize> {
        self.eos_token_id.as_ref().and_then(|ids| ids.as_slice().first()).copied()
    }
}

impl ModelConfig for BartConfig {
    config_fields!();

    fn validate(&self) -> Result<(), String> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("encoder_ffn_dim", self.encoder_ffn_dim),
            ("decoder_ffn_dim", self.decoder_ffn_dim),
            ("d_model", self.d_model),
        ] {
            size(field, value)?;
        }
        let width = ("d_model", self.d_model);
        heads("encoder_attention_heads", self.encoder_attention_heads, width)?;
        heads("decoder_attention_heads", self.decoder_attention_heads, width)?;
        at_most("encoder_layers", self.encoder_layers)?;
        at_most("decoder_layers", self.decoder_layers)?;
        for (field, value) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
            ("classifier_dropout", self.classifier_dropout),
        ] {
            probability(field, value)?;
        }
        for (field, value) in [
            ("encoder_layerdrop", self.encoder_layerdrop),
            ("decoder_layerdrop", self.decoder_layerdrop),
        ] {
            if value != 0.0 {
                return Err(format!("{field}: {value} is not supported; set it to 0.0"));
            }
        }
        deviation("init_std", self.init_std)?;
        token("pad_token_id", Some(self.pad_token_id), self.vocab_size)?;
        token("decoder_start_token_id", Some(self.decoder_start_token_id), self.vocab_size)?;
        token("bos_token_id", self.bos_token_id, self.vocab_size)?;
        for &end in self.eos_token_id.iter().flat_map(TokenIds::as_slice) {
            token("eos_token_id", Some(end), self.vocab_size)?;
        }
        if !self.tie_word_embeddings {
            return Err("tie_word_embeddings: false is not supported; BART's embeddings are one \
                        matrix"
                .into());
        }
        if !self.is_encoder_decoder {
            return Err("is_encoder_decoder: BART as a lone decoder is not supported; use an \
                        encoder-decoder checkpoint"
                .into());
        }
        self.labels.validate()
    }

    fn max_length(&self) -> usize {
        self.max_position_embeddings
    }

    fn sizes_shown(&self) -> Vec<SizeShown> {
        let positions = |tensor| SizeShown {
            field: "max_position_embeddings",
            value: self.max_position_embeddings,
            shown: Shown::Axis { tensor, axis: 0, beyond: OFFSET },
        };
        vec![
            axis("vocab_size", self.vocab_size, "shared.weight", 0),
            axis("d_model", self.d_model, "shared.weight", 1),
            positions("encoder.embed_positions.weight"),
            positions("decoder.embed_positions.weight"),
            layers("encoder_layers", self.encoder_layers, "encoder.layers."),
            layers("decoder_layers", self.decoder_layers, "decoder.layers."),
        ]
    }
}
