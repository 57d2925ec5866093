//! `config.json` of an MPNet model.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::models::bert::{BUCKETS, LayerNames, hugging_face_name};
use crate::models::bert::{BertConfig, BertVariation, Positions, RelativeConfig};
use crate::models::config::{
    ModelConfig, SizeShown, at_most, axis, config_fields, read_with_defaults,
};

/// The padding token's id and position, which transformers has written into the code.
const PADDING: usize = 1;
/// BERT's fields that MPNet lacks.
const LACKS: [&str; 5] = [
    "type_vocab_size",
    "classifier_dropout",
    "is_decoder",
    "add_cross_attention",
    "position_embedding_type",
];
const BUCKETS_FIELD: &str = "relative_attention_num_buckets";

/// Configuration of an MPNet model: BERT's fields but those about token types, with other
/// defaults, and the size of the relative attention bias.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpnet/configuration_mpnet.py>
#[derive(Debug, Clone, PartialEq)]
pub struct MpnetConfig {
    /// The fields that BERT has, too.
    pub bert: BertConfig,
    /// Rows of the relative attention bias, at least 32: transformers tells 32 buckets of
    /// distances apart, whatever this says.
    pub relative_attention_num_buckets: usize,
}

impl Default for MpnetConfig {
    fn default() -> Self {
        let bert = BertConfig { vocab_size: 30527, pad_token_id: Some(1), ..BertConfig::default() };
        Self { bert, relative_attention_num_buckets: BUCKETS }
    }
}

impl<'de> Deserialize<'de> for MpnetConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut fields = Map::deserialize(deserializer)?;
        LACKS.iter().for_each(|name| drop(fields.remove(*name)));
        let buckets = match fields.remove(BUCKETS_FIELD) {
            Some(value) => serde_json::from_value(value).map_err(Error::custom)?,
            None => BUCKETS,
        };
        let defaults = [("vocab_size", 30527), ("pad_token_id", PADDING)];
        let bert = read_with_defaults(Value::Object(fields), defaults).map_err(Error::custom)?;
        Ok(Self { bert, relative_attention_num_buckets: buckets })
    }
}

impl Serialize for MpnetConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut fields = serde_json::to_value(&self.bert).map_err(Error::custom)?;
        if let Some(fields) = fields.as_object_mut() {
            LACKS.iter().for_each(|name| drop(fields.remove(*name)));
            fields.insert(BUCKETS_FIELD.into(), self.relative_attention_num_buckets.into());
        }
        fields.serialize(serializer)
    }
}

impl RelativeConfig for MpnetConfig {
    const NAME: &'static str = "mpnet";
    const PREFIX: &'static str = "mpnet.";
    const ARCHITECTURES: [&'static str; 3] =
        ["MPNetModel", "MPNetForSequenceClassification", "MPNetForQuestionAnswering"];
    const LAYER_NAMES: LayerNames = [
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
        "intermediate.dense",
        "output.dense",
    ];

    fn variation(&self) -> BertVariation {
        BertVariation {
            token_types: false,
            positions: Positions::AfterPadding(PADDING),
            relative_attention_num_buckets: Some(self.relative_attention_num_buckets),
        }
    }

    fn parameter_name(path: &str) -> String {
        let path = path.replace("attention.output.layer_norm", "attention.layer_norm");
        hugging_face_name(&path.replace("attention_bias.bias", "attention_bias"))
    }

    fn head_dropout(&self) -> f64 {
        self.bert.hidden_dropout_prob
    }
}

impl AsRef<BertConfig> for MpnetConfig {
    fn as_ref(&self) -> &BertConfig {
        &self.bert
    }
}

impl ModelConfig for MpnetConfig {
    config_fields!(bert);

    fn validate(&self) -> Result<(), String> {
        self.bert.validate()?;
        if self.bert.vocab_size <= PADDING {
            return Err(format!("vocab_size: {} leaves none for padding", self.bert.vocab_size));
        }
        self.check_positions()?;
        at_most(BUCKETS_FIELD, self.relative_attention_num_buckets)?;
        if self.relative_attention_num_buckets < BUCKETS {
            return Err(format!(
                "{BUCKETS_FIELD}: {} are fewer than the {BUCKETS} that MPNet tells apart",
                self.relative_attention_num_buckets
            ));
        }
        Ok(())
    }

    fn max_length(&self) -> usize {
        self.variation().positions.room(self.bert.max_position_embeddings)
    }

    fn sizes_shown(&self) -> Vec<SizeShown> {
        let bias = "encoder.relative_attention_bias.weight";
        let mut sizes = self.bert.sizes_shown();
        sizes.retain(|size| size.field != "type_vocab_size");
        sizes.push(axis(BUCKETS_FIELD, self.relative_attention_num_buckets, bias, 0));
        sizes.push(axis("num_attention_heads", self.bert.num_attention_heads, bias, 1));
        sizes
    }
}
