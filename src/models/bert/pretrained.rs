//! Names and parts of BERT checkpoints.

use burn::tensor::Device;

use super::family::NEVER_USED;
use super::{BertConfig, BertFamily, BertForSequenceClassification, BertModel, hugging_face_name};
use crate::models::pretrained::pretrained_models;

impl BertFamily for BertModel {
    type Config = BertConfig;
    const NAME: &'static str = "bert";
    const PREFIX: &'static str = "bert.";
    const ARCHITECTURES: [&'static str; 3] =
        ["BertModel", "BertForSequenceClassification", "BertForQuestionAnswering"];

    fn init(config: &BertConfig, pooler: bool, device: &Device) -> Self {
        Self::new(config, pooler, device)
    }

    fn family_config(&self) -> &BertConfig {
        self.config()
    }

    fn bert(&self) -> &BertModel {
        self
    }

    fn parameter_name(path: &str) -> String {
        hugging_face_name(path)
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
