//! `config.json` of a RoBERTa model.

use serde::{Deserialize, Deserializer, Serialize};

use crate::models::bert::{BertConfig, BertVariation, Positions, RelativeConfig};
use crate::models::config::{ModelConfig, SizeShown, config_fields, read_with_defaults};

/// Configuration of a RoBERTa model: BERT's fields, with other defaults.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/configuration_roberta.py>
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RobertaConfig {
    /// The fields. `pad_token_id` is where positions begin.
    pub bert: BertConfig,
}

impl Default for RobertaConfig {
    fn default() -> Self {
        let bert = BertConfig { vocab_size: 50265, pad_token_id: Some(1), ..BertConfig::default() };
        Self { bert }
    }
}

impl<'de> Deserialize<'de> for RobertaConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let defaults = [("vocab_size", 50265), ("pad_token_id", 1)];
        read_with_defaults(deserializer, defaults).map(|bert| Self { bert })
    }
}

impl RelativeConfig for RobertaConfig {
    const NAME: &'static str = "roberta";
    const PREFIX: &'static str = "roberta.";
    const ARCHITECTURES: [&'static str; 3] =
        ["RobertaModel", "RobertaForSequenceClassification", "RobertaForQuestionAnswering"];

    fn variation(&self) -> BertVariation {
        let padding = self.bert.pad_token_id.unwrap_or(1);
        BertVariation { positions: Positions::AfterPadding(padding), ..BertVariation::default() }
    }
}

impl AsRef<BertConfig> for RobertaConfig {
    fn as_ref(&self) -> &BertConfig {
        &self.bert
    }
}

impl ModelConfig for RobertaConfig {
    config_fields!(bert);

    fn validate(&self) -> Result<(), String> {
        self.bert.validate()?;
        if self.bert.pad_token_id.is_none() {
            return Err("pad_token_id: missing, but RoBERTa counts positions from it".into());
        }
        self.check_positions()
    }

    fn max_length(&self) -> usize {
        self.variation().positions.room(self.bert.max_position_embeddings)
    }

    fn sizes_shown(&self) -> Vec<SizeShown> {
        self.bert.sizes_shown()
    }
}
