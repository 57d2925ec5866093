//! `config.json` of a DeBERTa-v2 or v3 model.

use serde::{Deserialize, Deserializer, Serialize};

use super::RelativeBuckets;
use crate::models::bert::BertConfig;
use crate::models::config::{
    ModelConfig, SizeShown, at_most, axis, config_fields, layers, nonzero, probability, size, token,
};
use crate::models::{Activation, LabelConfig};

/// Configuration of a DeBERTa-v2 model: Hugging Face's `config.json`, field by field.
///
/// Fields that a file leaves out take Hugging Face's defaults, those of its modeling code where
/// `DebertaV2Config` has no such field; fields unknown here are kept and written back.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/configuration_deberta_v2.py>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebertaV2Config {
    /// Number of word pieces.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the embeddings, projected to `hidden_size` where that differs; `hidden_size` when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_size: Option<usize>,
    /// Number of encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of one head; only `hidden_size / num_attention_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_head_size: Option<usize>,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Dropout of embeddings, positions, attention output and feed-forward output.
    pub hidden_dropout_prob: f64,
    /// Dropout of the attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Longest input, in tokens.
    pub max_position_embeddings: usize,
    /// Number of token types (segments); 0: no embedding of them.
    pub type_vocab_size: usize,
    /// Standard deviation of freshly initialised weights.
    pub initializer_range: f64,
    /// Epsilon of every layer normalisation.
    pub layer_norm_eps: f64,
    /// Id of the padding token, whose embedding gets no gradient.
    pub pad_token_id: Option<usize>,
    /// Whether attention takes part in relative positions.
    pub relative_attention: bool,
    /// Furthest relative position; below 1: `max_position_embeddings`.
    pub max_relative_positions: i64,
    /// Number of buckets a direction for relative positions, far ones sharing; below 1: none.
    pub position_buckets: i64,
    /// Whether absolute positions are added to the embeddings.
    pub position_biased_input: bool,
    /// `c2p` (content → position), `p2c` (position → content), both or neither; a list, or a
    /// string with `|` between. Other names do nothing, as in Hugging Face's code.
    #[serde(deserialize_with = "pos_att_type")]
    pub pos_att_type: Vec<String>,
    /// Whether positions are projected by the queries' and keys' own projections.
    pub share_att_key: bool,
    /// `layer_norm`: the embeddings of relative positions are normalised; `none`.
    pub norm_rel_ebd: String,
    /// Width of the convolution beside the first layer, odd; 0: no convolution.
    pub conv_kernel_size: usize,
    /// Groups of its channels; divides `hidden_size`.
    pub conv_groups: usize,
    /// Its activation.
    pub conv_act: Activation,
    /// Width of the pooler; only `hidden_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooler_hidden_size: Option<usize>,
    /// Dropout before the pooler.
    pub pooler_dropout: f64,
    /// Activation of the pooler.
    pub pooler_hidden_act: Activation,
    /// Dropout before the classifier; `hidden_dropout_prob` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cls_dropout: Option<f64>,
    /// Labels and the kind of task.
    #[serde(flatten)]
    pub labels: LabelConfig,
    /// Every other field of the file, as read.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Default for DebertaV2Config {
    fn default() -> Self {
        Self {
            vocab_size: 128100,
            hidden_size: 1536,
            embedding_size: None,
            num_hidden_layers: 24,
            num_attention_heads: 24,
            attention_head_size: None,
            intermediate_size: 6144,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 0,
            initializer_range: 0.02,
            layer_norm_eps: 1e-7,
            pad_token_id: Some(0),
            relative_attention: false,
            max_relative_positions: -1,
            position_buckets: -1,
            position_biased_input: true,
            pos_att_type: Vec::new(),
            share_att_key: false,
            norm_rel_ebd: "none".into(),
            conv_kernel_size: 0,
            conv_groups: 1,
            conv_act: Activation::Tanh,
            pooler_hidden_size: None,
            pooler_dropout: 0.0,
            pooler_hidden_act: Activation::Gelu,
            cls_dropout: None,
            labels: LabelConfig::default(),
            other: serde_json::Map::new(),
        }
    }
}

/// A list, a string with `|` between names, or null.
fn pos_att_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of names, or names with `|` between")]
    enum Names {
        List(Vec<String>),
        Joined(String),
    }
    Ok(match Option::<Names>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Names::List(names)) => names,
        Some(Names::Joined(names)) => {
            names.to_lowercase().split('|').map(|name| name.trim().to_string()).collect()
        }
    })
}

impl DebertaV2Config {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of the embeddings.
    pub fn embedding_size(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// Dropout before the classifier.
    pub fn cls_dropout(&self) -> f64 {
        self.cls_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// Whether `pos_att_type` names content → position attention.
    pub fn content_to_position(&self) -> bool {
        self.pos_att_type.iter().any(|name| name == "c2p")
    }

    /// Whether `pos_att_type` names position → content attention.
    pub fn position_to_content(&self) -> bool {
        self.pos_att_type.iter().any(|name| name == "p2c")
    }

    /// Whether the embeddings of relative positions are normalised.
    pub fn norm_rel_ebd(&self) -> bool {
        let names = self.norm_rel_ebd.to_lowercase();
        names.split('|').any(|name| name.trim() == "layer_norm")
    }

    /// The rows of the embedding of relative positions, `None` without relative attention.
    pub fn relative_buckets(&self) -> Option<RelativeBuckets> {
        let furthest = match self.max_relative_positions {
            ..1 => self.max_position_embeddings,
            given => usize::try_from(given).unwrap_or(usize::MAX),
        };
        let buckets = usize::try_from(self.position_buckets).ok().filter(|&n| n > 0);
        self.relative_attention.then_some(RelativeBuckets { buckets, furthest })
    }

    /// The configuration of the parts that are BERT's.
    pub(super) fn bert(&self) -> BertConfig {
        BertConfig {
            hidden_size: self.hidden_size,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.hidden_act,
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: self.attention_probs_dropout_prob,
            initializer_range: self.initializer_range,
            layer_norm_eps: self.layer_norm_eps,
            ..BertConfig::default()
        }
    }

    fn validate_sizes(&self) -> Result<(), String> {
        size("vocab_size", self.vocab_size)?;
        size("embedding_size", self.embedding_size())?;
        size("max_position_embeddings", self.max_position_embeddings)?;
        at_most("num_hidden_layers", self.num_hidden_layers)?;
        at_most("type_vocab_size", self.type_vocab_size)?;
        at_most("conv_kernel_size", self.conv_kernel_size)?;
        let hidden = self.hidden_size;
        if let Some(size) = self.attention_head_size.filter(|&size| size != self.head_size()) {
            return Err(format!(
                "attention_head_size: {size}, but the output projection takes hidden_size / \
                 num_attention_heads = {}",
                self.head_size()
            ));
        }
        if let Some(size) = self.pooler_hidden_size.filter(|&size| size != hidden) {
            return Err(format!(
                "pooler_hidden_size: {size}, but the pooler's input has hidden_size {hidden}"
            ));
        }
        token("pad_token_id", self.pad_token_id, self.vocab_size)
    }

    fn validate_positions(&self) -> Result<(), String> {
        if self.position_buckets == 1 {
            return Err("position_buckets: 1 leaves no bucket a direction; use 2 or more, or -1 \
                        for none"
                .into());
        }
        // Beyond, neither Hugging Face's f32 computation of buckets nor an embedding makes sense.
        for (field, value) in [
            ("position_buckets", self.position_buckets),
            ("max_relative_positions", self.max_relative_positions),
        ] {
            if value > 1 << 22 {
                return Err(format!("{field}: {value} is beyond 4194304"));
            }
        }
        if self.conv_kernel_size > 0 {
            if self.conv_kernel_size.is_multiple_of(2) {
                return Err(format!(
                    "conv_kernel_size: {} is even, so the convolution would shorten its input",
                    self.conv_kernel_size
                ));
            }
            nonzero("conv_groups", self.conv_groups)?;
            if !self.hidden_size.is_multiple_of(self.conv_groups) {
                return Err(format!(
                    "conv_groups: {} does not divide hidden_size {}",
                    self.conv_groups, self.hidden_size
                ));
            }
        }
        Ok(())
    }
}

impl ModelConfig for DebertaV2Config {
    config_fields!();

    fn validate(&self) -> Result<(), String> {
        self.bert().validate()?;
        self.validate_sizes()?;
        self.validate_positions()?;
        probability("pooler_dropout", self.pooler_dropout)?;
        probability("cls_dropout", self.cls_dropout())?;
        self.labels.validate()
    }

    fn max_length(&self) -> usize {
        self.max_position_embeddings
    }

    fn sizes_shown(&self) -> Vec<SizeShown> {
        let words = "embeddings.word_embeddings.weight";
        let mut sizes = vec![
            axis("vocab_size", self.vocab_size, words, 0),
            axis("embedding_size", self.embedding_size(), words, 1),
            axis("hidden_size", self.hidden_size, "embeddings.LayerNorm.weight", 0),
            layers("num_hidden_layers", self.num_hidden_layers, "encoder.layer."),
        ];
        if self.type_vocab_size > 0 {
            let types = "embeddings.token_type_embeddings.weight";
            sizes.push(axis("type_vocab_size", self.type_vocab_size, types, 0));
        }
        if self.position_biased_input {
            let positions = "embeddings.position_embeddings.weight";
            let most = self.max_position_embeddings;
            sizes.push(axis("max_position_embeddings", most, positions, 0));
        }
        if self.conv_kernel_size > 0 {
            sizes.push(axis(
                "conv_kernel_size",
                self.conv_kernel_size,
                "encoder.conv.conv.weight",
                2,
            ));
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(json: &str) -> Result<DebertaV2Config, String> {
        DebertaV2Config::from_json(json, Path::new("config.json")).map_err(|e| e.to_string())
    }

    #[test]
    fn pos_att_type_is_a_list_a_string_or_null() {
        for (json, c2p, p2c) in [
            (r#"{"pos_att_type": "P2C| c2p"}"#, true, true),
            (r#"{"pos_att_type": ["p2c"]}"#, false, true),
            (r#"{"pos_att_type": "c2p"}"#, true, false),
            (r#"{"pos_att_type": "none"}"#, false, false),
            (r#"{"pos_att_type": null}"#, false, false),
            ("{}", false, false),
        ] {
            let config = parse(json).unwrap();
            assert_eq!((config.content_to_position(), config.position_to_content()), (c2p, p2c));
        }
        assert!(parse(r#"{"pos_att_type": 3}"#).unwrap_err().contains("pos_att_type: expected"));
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (json, field) in [
            (r#"{"num_attention_heads": 7}"#, "num_attention_heads: 7"),
            (r#"{"attention_head_size": 32}"#, "attention_head_size: 32"),
            (r#"{"pooler_hidden_size": 768}"#, "pooler_hidden_size: 768"),
            (r#"{"conv_kernel_size": 4}"#, "conv_kernel_size: 4"),
            (r#"{"conv_kernel_size": 3, "conv_groups": 7}"#, "conv_groups: 7"),
            (r#"{"position_buckets": 1}"#, "position_buckets: 1"),
            (r#"{"max_relative_positions": 99999999999}"#, "max_relative_positions: 99999999999"),
            (r#"{"pad_token_id": 128100}"#, "pad_token_id: 128100"),
            (r#"{"embedding_size": 0}"#, "embedding_size: must not be 0"),
            (r#"{"cls_dropout": 1}"#, "cls_dropout: 1"),
            (r#"{"hidden_act": "geglu"}"#, "hidden_act: unknown variant"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(field), "{json}: {error}");
        }
    }

    #[test]
    fn a_written_config_reads_the_same() {
        let config = parse(
            r#"{"pos_att_type": "c2p|p2c", "norm_rel_ebd": "layer_norm", "pooler_dropout": 0,
                "relative_attention": true, "position_buckets": 256, "legacy": true}"#,
        )
        .unwrap();
        assert_eq!(config.other["legacy"], true);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(parse(&text).unwrap(), config);
    }
}
