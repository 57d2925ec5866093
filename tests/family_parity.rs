//! RoBERTa, MPNet and question answering against Hugging Face's implementation (fixtures by
//! `fixtures/family_parity.py`). Cases that exercise each option:
//!
//! | option | RoBERTa | MPNet |
//! |---|---|---|
//! | `hidden_act` | `base` (gelu), `two_types` (gelu_new), `regression` (relu), `regressions` (silu), `positions` (gelu_pytorch_tanh), `old_names` (tanh), `qa_two_types` (quick_gelu), `unpooled` (mish) | `base` (gelu), `gelu_new`, `regression` (relu), `positions` (silu), `old_names` (tanh), `qa_no_mask` (gelu_fast), `unpooled` (mish) |
//! | `num_hidden_layers` | 1: `multi_label`, `qa_no_mask`; 3: `pad_0` | 1: `multi_label`, `qa_no_mask`; 3: `pad_3` |
//! | `num_attention_heads` | 1: `full_length`; 12: `no_mask` | 1: `more_buckets`; 12: `no_mask` |
//! | `hidden_size`, `intermediate_size`, `vocab_size` | `positions`, `pad_3`, `wide` | `positions`, `pad_3`, `wide` |
//! | `max_position_embeddings`, reached | `full_length`, `wide` | `long`, `wide` |
//! | positions counted from padding's | 0: `pad_0`; 1: most; 2: `qa_two_types`; 3: `pad_3`; given: `positions` | always 1, also with `pad_token_id` 3: `pad_3`; given: `positions` |
//! | `type_vocab_size` | 1: `base`, …; 2: `two_types`; 4: `unpooled`; types not given: `positions` | none |
//! | `relative_attention_num_buckets` | none | 32: `base`; 40: `more_buckets`; far distances: `long` |
//! | `layer_norm_eps` | `regression` | `gelu_new` |
//! | `classifier_dropout` | `no_mask`; that it acts: unit tests | none |
//! | no mask, with padding attended to | `no_mask`, `full_length`, `qa_no_mask` | `no_mask`, `long`, `qa_no_mask` |
//! | an example of padding alone | `empty` | `empty` |
//! | `num_labels`, `problem_type` | `base`, `two_types`, `regression`, `regressions`, `multi_label` | the same |
//! | question answering, positions beyond the input | `qa*` | `qa*` |
//! | bare model, with and without pooler | `pooled`; `unpooled` | `pooled`; `unpooled` |
//! | half precision; old names, heads of pretraining | `multi_label`; `old_names` | –; `old_names` |
//! | products worth a packed weight, in training too | `wide` | `wide`, `long` |

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use losparse::checkpoint::PretrainedModel;
use losparse::models::bert::{
    BertConfig, BertFamily, BertForSequenceClassification, BertModel, ForQuestionAnswering,
    ForSequenceClassification,
};
use losparse::models::mpnet::{MpnetConfig, MpnetModel};
use losparse::models::roberta::{RobertaConfig, RobertaModel};
use losparse::models::{ModelConfig, question_answering_loss};

use super::parity::{Pass, cases, compare, fixture, parameters, report};

pub(super) fn no_dropout(config: &mut BertConfig) {
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    config.classifier_dropout = Some(0.0);
}

fn classify<M: BertFamily>(
    model: &ForSequenceClassification<M>,
    pass: &Pass<'_>,
) -> Option<Tensor<1>> {
    let output = model.encode(pass.input());
    let logits = model.classifier.forward(output.last_hidden_state.clone());
    pass.check(logits.clone(), "logits");
    pass.check_states(output);
    Some(model.loss(logits, pass.labels(model.config().labels())))
}

pub(super) fn answer<M: BertFamily>(
    model: &ForQuestionAnswering<M>,
    pass: &Pass<'_>,
) -> Option<Tensor<1>> {
    pass.check_states(model.encode(pass.input()));
    let (start, end) = model.forward(pass.input());
    pass.check(start.clone(), "start_logits");
    pass.check(end.clone(), "end_logits");
    let [first, last] = ["start_positions", "end_positions"].map(|name| pass.places(name));
    Some(question_answering_loss(start, end, first, last))
}

pub(super) fn bare<M: BertFamily>(model: &M, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.bert().forward(pass.input());
    assert_eq!(output.pooler_output.is_some(), pass.expected.contains("pooler_output"));
    if let Some(pooled) = output.pooler_output.clone() {
        pass.check(pooled, "pooler_output");
    }
    pass.check(output.last_hidden_state.clone(), "last_hidden_state");
    pass.check_states(output);
    None
}

fn check_family<M: BertFamily>(
    architecture: &str,
    without_dropout: impl Fn(&mut <M as BertFamily>::Config),
) {
    let mut rows = Vec::new();
    for (name, class) in cases(M::MODEL_TYPE) {
        let folder = fixture(M::MODEL_TYPE, &name);
        rows.push(if class.ends_with("ForSequenceClassification") {
            compare(&folder, &without_dropout, classify::<M>)
        } else if class.ends_with("ForQuestionAnswering") {
            compare(&folder, &without_dropout, answer::<M>)
        } else {
            compare(&folder, &without_dropout, bare::<M>)
        });
    }
    report(architecture, &rows);
}

#[test]
fn roberta_of_every_configuration() {
    check_family::<RobertaModel>("RoBERTa", |config| no_dropout(&mut config.bert));
}

#[test]
fn mpnet_of_every_configuration() {
    check_family::<MpnetModel>("MPNet", |config| no_dropout(&mut config.bert));
}

#[derive(serde::Deserialize)]
struct Published {
    config: serde_json::Value,
    parameters: BTreeMap<String, usize>,
}

/// The number of parameters equals that of the same class in transformers.
fn check_published<M: BertFamily>(
    classifier: impl Fn(&<M as BertFamily>::Config, &Device) -> usize,
) {
    let device = Device::default();
    let text = std::fs::read_to_string(fixture(M::MODEL_TYPE, "published.json")).unwrap();
    let models: BTreeMap<String, Published> = serde_json::from_str(&text).unwrap();
    assert!(!models.is_empty());
    for (name, Published { config, parameters: expected }) in models {
        let config =
            <M as BertFamily>::Config::from_json(&config.to_string(), Path::new(&name)).unwrap();
        assert_eq!(expected.len(), 3, "{name}");
        for (class, expected) in expected {
            let found = if class.ends_with("ForSequenceClassification") {
                classifier(&config, &device)
            } else if class.ends_with("ForQuestionAnswering") {
                parameters(&ForQuestionAnswering::<M>::new(&config, &device))
            } else {
                parameters(&M::init(&config, true, &device))
            };
            println!("{name}, {class}: {found} parameters");
            assert_eq!(found, expected, "{name}, {class}");
        }
    }
}

#[test]
fn published_configurations_have_as_many_parameters_as_in_transformers() {
    fn classifier<M: BertFamily>(config: &<M as BertFamily>::Config, device: &Device) -> usize {
        parameters(&ForSequenceClassification::<M>::new(config, device))
    }
    check_published::<BertModel>(|config, device| {
        parameters(&BertForSequenceClassification::new(config, device))
    });
    check_published::<RobertaModel>(classifier::<RobertaModel>);
    check_published::<MpnetModel>(classifier::<MpnetModel>);
}

/// Fields that a file lacks have the architecture's defaults, and saved configurations read back.
#[test]
fn configurations_survive_json() {
    let path = Path::new("config.json");
    let roberta = RobertaConfig::from_json("{\"num_labels\": 3}", path).unwrap();
    let sizes = (roberta.vocab_size(), roberta.bert.pad_token_id, roberta.max_length());
    assert_eq!(sizes, (50265, Some(1), 510));
    let mpnet = MpnetConfig::from_json("{\"num_labels\": 3, \"colour\": \"red\"}", path).unwrap();
    assert_eq!((mpnet.vocab_size(), mpnet.max_length()), (30527, 510));
    let text = serde_json::to_string(&mpnet).unwrap();
    assert!(!text.contains("type_vocab_size") && text.contains("\"colour\":\"red\""), "{text}");
    assert_eq!(MpnetConfig::from_json(&text, path).unwrap(), mpnet);
    let text = serde_json::to_string(&roberta).unwrap();
    assert_eq!(RobertaConfig::from_json(&text, path).unwrap(), roberta);
    for (text, part) in [
        ("{\"relative_attention_num_buckets\": 20}", "relative_attention_num_buckets: 20"),
        ("{\"relative_attention_num_buckets\": \"x\"}", "relative_attention_num_buckets"),
        ("{\"max_position_embeddings\": 2}", "max_position_embeddings: 2"),
        ("{\"hidden_act\": \"square\"}", "hidden_act"),
    ] {
        let error = MpnetConfig::from_json(text, path).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let error = RobertaConfig::from_json("{\"pad_token_id\": null}", path).unwrap_err();
    assert!(error.to_string().contains("pad_token_id: missing"), "{error}");
}
