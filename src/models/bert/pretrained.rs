//! Names and parts of BERT checkpoints.

use burn::tensor::Device;

use super::family::NEVER_USED;
use super::hugging_face_name;
use super::{BertConfig, BertFamily, BertForSequenceClassification, BertModel, RelativeConfig};
use crate::models::pretrained::pretrained_models;

impl RelativeConfig for BertConfig {
    const NAME: &'static str = "bert";
    const PREFIX: &'static str = "bert.";
    const ARCHITECTURES: [&'static str; 3] =
        ["BertModel", "BertForSequenceClassification", "BertForQuestionAnswering"];
}

impl BertFamily for BertModel {
    type Config = BertConfig;

    fn init(config: &BertConfig, pooler: bool, device: &Device) -> Self {
        Self::new(config, pooler, device)
    }

    fn family_config(&self) -> &BertConfig {
        self.config()
    }

    fn bert(&self) -> &BertModel {
        self
    }
}

pretrained_models! {
    BertConfig, model_type: "bert", prefix: "bert.", names: hugging_face_name,
    never_used: NEVER_USED;

    BertForSequenceClassification: "BertForSequenceClassification" => {
        label_layer: Some("classifier"),
        new: &["classifier.", "bert.pooler."],
        unused: &["qa_outputs."],
    }
}
