//! BERT against Hugging Face's implementation (fixtures by `fixtures/bert_parity.py`; for question
//! answering by `fixtures/family_parity.py`). Cases that exercise each option:
//!
//! | option | cases |
//! |---|---|
//! | `hidden_act` | `base` (gelu), `gelu_new`, `regression` (relu), `one_type` (silu), `old_names` (quick_gelu), `multi_label` (mish), `positions` (gelu_fast), `regressions` (relu2), `no_pad` (sigmoid), `full_length` (relu6), `empty` (swish), `pooled` (gelu_pytorch_tanh), `unpooled` (tanh) |
//! | `num_hidden_layers` | 1: `positions`, `wide`; 3: `multi_label`, `qa_positions`; else 2 |
//! | `num_attention_heads` | 1: `gelu_new`; as many as channels: `regression` |
//! | `hidden_size`, `intermediate_size` | `full_length`, `wide` |
//! | `vocab_size` | `regressions` |
//! | `max_position_embeddings`, reached | `full_length`, `wide` |
//! | `type_vocab_size` | 1: `one_type`; 3: `qa_gelu_new`; 4: `unpooled`; types not given: `one_type`, `qa_positions` |
//! | `layer_norm_eps` | 1e-5: `gelu_new`, `qa_gelu_new`; 1e-7: `pooled`; else 1e-12 |
//! | `pad_token_id`, whose embedding gets no gradient | 3: `positions`; 5: `qa_positions`; none: `no_pad` |
//! | `hidden_dropout_prob`, `attention_probs_dropout_prob`, `classifier_dropout` | `full_length`; `gelu_new`; that they act: unit tests |
//! | position ids | `positions`, `qa_positions` |
//! | no mask, with padding attended to | `one_type`, `positions`, `full_length`, `qa_gelu_new` |
//! | an example of padding alone | `empty` |
//! | `num_labels`, `problem_type` | 2: `base`; 3: `gelu_new`; `regression`; `regressions`; `multi_label` |
//! | question answering, positions beyond the input | `qa*` |
//! | bare model, with and without pooler | `pooled`; `unpooled` |
//! | half precision; old names, heads of pretraining | `multi_label`; `old_names` |
//! | products worth a packed weight, in training too | `wide` |
//! | other file formats, shards | `bin`, `sharded`, `sharded_bin` |

use burn::tensor::{Device, Tensor};
use losparse::checkpoint::{LoadOptions, TensorSource, load_from, load_pretrained, read_config};
use losparse::models::EncoderInput;
use losparse::models::bert::{BertForSequenceClassification, BertModel};

use super::family_parity::{answer, bare, no_dropout};
use super::parity::{
    Pass, TOLERANCE, assert_close, cases, compare, fixture, folder_from, ints, report,
};

fn classify(model: &BertForSequenceClassification, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.bert.forward(pass.input());
    let logits = model.logits(output.pooler_output.clone().unwrap());
    pass.check(logits.clone(), "logits");
    pass.check_states(output);
    Some(model.loss(logits, pass.labels(&model.config().labels)))
}

#[test]
fn bert_of_every_configuration() {
    let mut rows = Vec::new();
    for (name, class) in cases("bert") {
        let folder = fixture("bert", &name);
        rows.push(match class.as_str() {
            "BertForSequenceClassification" => compare(&folder, no_dropout, classify),
            "BertForQuestionAnswering" => compare(&folder, no_dropout, answer::<BertModel>),
            "BertModel" => compare(&folder, no_dropout, bare::<BertModel>),
            other => panic!("{name}: {other}"),
        });
    }
    report("BERT", &rows);
}

#[test]
fn every_file_format_holds_the_same_model() {
    let device = Device::default();
    let expected = TensorSource::open(fixture("bert", "base/expected.safetensors")).unwrap();
    let whole = |name| ints(&expected, name, &device).unwrap();
    for form in ["bin", "sharded", "sharded_bin"] {
        let options = LoadOptions::default();
        let (model, _) = load_pretrained::<BertForSequenceClassification>(
            fixture("bert", form),
            &device,
            &options,
        )
        .unwrap();
        let input = EncoderInput::new(whole("input_ids"))
            .with_attention_mask(whole("attention_mask"))
            .with_token_type_ids(whole("token_type_ids"));
        assert_close(model.forward(input), &expected, "logits", TOLERANCE);
    }
}

#[test]
fn logits_of_the_recorded_run() {
    let Some(folder) = folder_from("LOSPARSE_SHARED").map(|f| f.join("traces/bert")) else {
        return;
    };
    let device = Device::default();
    let config = read_config::<BertForSequenceClassification>(&folder).unwrap();
    let source = TensorSource::open(folder.join("initial.safetensors")).unwrap();
    let options = LoadOptions::default();
    let (model, report) =
        load_from::<BertForSequenceClassification>(config, &source, &device, &options).unwrap();
    assert!(report.newly_initialised.is_empty() && report.unused.is_empty(), "{report}");

    let batches = TensorSource::open(folder.join("batches.safetensors")).unwrap();
    let observed = TensorSource::open(folder.join("observed.safetensors")).unwrap();
    let input = EncoderInput::new(ints(&batches, "0.input_ids", &device).unwrap())
        .with_attention_mask(ints(&batches, "0.attention_mask", &device).unwrap());
    assert_close(model.forward(input), &observed, "logits.step0", TOLERANCE);
}
