//! `config.json` of a BERT model.

use serde::{Deserialize, Serialize};

use crate::models::config::{
    ModelConfig, SizeShown, at_most, axis, config_fields, deviation, epsilon, heads, layers,
    probability, size, token,
};
use crate::models::{Activation, LabelConfig};

/// Configuration of a BERT model: Hugging Face's `config.json`, field by field.
///
/// Fields that a file leaves out take Hugging Face's defaults; fields unknown here are kept and
/// written back.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/configuration_bert.py>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Number of word pieces.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Dropout of embeddings, attention output and feed-forward output.
    pub hidden_dropout_prob: f64,
    /// Dropout of the attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Longest input, in tokens.
    pub max_position_embeddings: usize,
    /// Number of token types (segments).
    pub type_vocab_size: usize,
    /// Standard deviation of freshly initialised weights.
    pub initializer_range: f64,
    /// Epsilon of every layer normalisation.
    pub layer_norm_eps: f64,
    /// Id of the padding token, whose embedding gets no gradient.
    pub pad_token_id: Option<usize>,
    /// Kind of position embedding: only `absolute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_embedding_type: Option<String>,
    /// Dropout before the classifier; `hidden_dropout_prob` when absent.
    pub classifier_dropout: Option<f64>,
    /// Causal attention; not supported.
    pub is_decoder: bool,
    /// Cross-attention; not supported.
    pub add_cross_attention: bool,
    /// Labels and the kind of task.
    #[serde(flatten)]
    pub labels: LabelConfig,
    /// Every other field of the file, as read.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            position_embedding_type: None,
            classifier_dropout: None,
            is_decoder: false,
            add_cross_attention: false,
            labels: LabelConfig::default(),
            other: serde_json::Map::new(),
        }
    }
}

impl BertConfig {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Dropout before the classifier.
    pub fn classifier_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }
}

impl AsRef<BertConfig> for BertConfig {
    fn as_ref(&self) -> &BertConfig {
        self
    }
}

impl ModelConfig for BertConfig {
    config_fields!();

    fn validate(&self) -> Result<(), String> {
        size("vocab_size", self.vocab_size)?;
        size("hidden_size", self.hidden_size)?;
        heads("num_attention_heads", self.num_attention_heads, ("hidden_size", self.hidden_size))?;
        size("intermediate_size", self.intermediate_size)?;
        size("max_position_embeddings", self.max_position_embeddings)?;
        size("type_vocab_size", self.type_vocab_size)?;
        at_most("num_hidden_layers", self.num_hidden_layers)?;
        probability("hidden_dropout_prob", self.hidden_dropout_prob)?;
        probability("attention_probs_dropout_prob", self.attention_probs_dropout_prob)?;
        probability("classifier_dropout", self.classifier_dropout())?;
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        deviation("initializer_range", self.initializer_range)?;
        token("pad_token_id", self.pad_token_id, self.vocab_size)?;
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                return Err(format!(
                    "position_embedding_type: `{other}` is not supported (transformers 5 dropped \
                     it for BERT); supported: absolute"
                ));
            }
        }
        if self.is_decoder || self.add_cross_attention {
            return Err(
                "is_decoder, add_cross_attention: BERT as a decoder is not supported; use an \
                 encoder checkpoint"
                    .into(),
            );
        }
        self.labels.validate()
    }

    fn max_length(&self) -> usize {
        self.max_position_embeddings
    }

    fn sizes_shown(&self) -> Vec<SizeShown> {
        let words = "embeddings.word_embeddings.weight";
        let positions = "embeddings.position_embeddings.weight";
        let types = "embeddings.token_type_embeddings.weight";
        vec![
            axis("vocab_size", self.vocab_size, words, 0),
            axis("hidden_size", self.hidden_size, words, 1),
            axis("max_position_embeddings", self.max_position_embeddings, positions, 0),
            axis("type_vocab_size", self.type_vocab_size, types, 0),
            layers("num_hidden_layers", self.num_hidden_layers, "encoder.layer."),
        ]
    }
}
