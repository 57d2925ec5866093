//! DeBERTa-v2 against Hugging Face's implementation (fixtures by `fixtures/deberta_parity.py`).
//!
//! Cases that exercise each option:
//!
//! | option | cases |
//! |---|---|
//! | `relative_attention` | on: all but `absolute`; off, yet with parts named: `absolute` |
//! | `pos_att_type` as a string, as a list | `v3`, `c2p`, `shared_c2p` (capitals); `p2c`, `own` |
//! | `c2p` alone, `p2c` alone, both, neither | `c2p`, `shared_c2p`; `p2c`, `shared_p2c`; `v3`; `no_parts` |
//! | `share_att_key` | on: `v3`, `shared_*`, …; off: `c2p`, `p2c`, `own`, `answers_conv` |
//! | `position_buckets` | 4: `v3`; 6: `p2c`; none: `c2p`, `own` |
//! | `max_relative_positions` | as `max_position_embeddings`: `v3`; 6: `shared_p2c`; 3, clipping: `own` |
//! | `norm_rel_ebd` | `layer_norm`: `v3`; `none`: `c2p`, `p2c`, `shared_c2p` |
//! | `position_biased_input`, position ids | `projected`; `absolute` |
//! | `type_vocab_size` | 0: `v3`; 0 with token types given: `pooler`; 2, 3: `absolute`, `projected` |
//! | `embedding_size` | `projected`, `answers_conv` |
//! | `conv_kernel_size`, `conv_act` | 3, `gelu`: `v2_conv`; 5, `tanh`: `conv_groups`; 1: `bare` |
//! | `conv_groups` | 3: `conv_groups` |
//! | `pooler_hidden_size`, `pooler_dropout`, `pooler_hidden_act`, `cls_dropout` | `pooler` |
//! | `attention_head_size` | `v2_conv` |
//! | `pad_token_id`, `layer_norm_eps`, `hidden_act` | `pooler`; `hidden_act` also `p2c` |
//! | no mask, with padding attended to | `conv_groups`, `pooler` |
//! | an example of padding alone | `empty` |
//! | regression, several labels | `c2p`; `p2c` |
//! | names of old checkpoints, heads of pretraining | `old_names` |
//! | question answering, positions beyond the input | `answers`, `answers_conv` |
//! | bare model, without prefix | `bare` |
//! | products worth a packed weight, in training too | `wide` |

use burn::tensor::{Device, Tensor};
use losparse::checkpoint::{LoadOptions, PretrainedModel, TensorSource, load_pretrained};
use losparse::models::deberta_v2::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
    DebertaV2Model, RelativeBuckets,
};
use losparse::models::{EncoderInput, question_answering_loss};

use super::parity::{Pass, TOLERANCE, assert_close, cases, compare, fixture, ints, report};

pub(super) fn expected(name: &str) -> TensorSource {
    TensorSource::open(fixture("deberta_v2", name).join("expected.safetensors")).unwrap()
}

pub(super) fn load<M: PretrainedModel>(name: &str, device: &Device) -> M {
    let folder = fixture("deberta_v2", name);
    let (model, report) = load_pretrained(folder, device, &LoadOptions::default()).unwrap();
    assert!(report.newly_initialised.is_empty(), "{name}: {report}");
    model
}

fn no_dropout(config: &mut DebertaV2Config) {
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    config.pooler_dropout = 0.0;
    config.cls_dropout = None;
}

fn classify(model: &DebertaV2ForSequenceClassification, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.deberta.forward(pass.input());
    let logits = model.logits(output.last_hidden_state.clone());
    pass.check(logits.clone(), "logits");
    pass.check_states(output);
    Some(model.loss(logits, pass.labels(&model.config().labels)))
}

fn answer(model: &DebertaV2ForQuestionAnswering, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.deberta.forward(pass.input());
    let (start, end) = model.logits(output.last_hidden_state.clone());
    pass.check(start.clone(), "start_logits");
    pass.check(end.clone(), "end_logits");
    pass.check_states(output);
    let [first, last] = ["start_positions", "end_positions"].map(|name| pass.places(name));
    Some(question_answering_loss(start, end, first, last))
}

fn bare(model: &DebertaV2Model, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.forward(pass.input());
    pass.check(output.last_hidden_state.clone(), "last_hidden_state");
    pass.check_states(output);
    None
}

#[test]
fn deberta_of_every_configuration() {
    let mut rows = Vec::new();
    for (name, class) in cases("deberta_v2") {
        let folder = fixture("deberta_v2", &name);
        rows.push(match class.as_str() {
            "DebertaV2ForSequenceClassification" => compare(&folder, no_dropout, classify),
            "DebertaV2ForQuestionAnswering" => compare(&folder, no_dropout, answer),
            "DebertaV2Model" => compare(&folder, no_dropout, bare),
            other => panic!("{name}: {other}"),
        });
    }
    report("DeBERTa-v2/v3", &rows);
}

#[test]
fn checkpoints_load_with_and_without_prefix_and_heads() {
    let device = Device::default();
    let input = |source: &TensorSource| {
        let mut input = EncoderInput::new(ints(source, "input_ids", &device).unwrap());
        input.attention_mask = ints(source, "attention_mask", &device);
        input
    };
    // Load the files of a classifier as a bare model.
    let v3 = expected("v3");
    let (model, report) = load_pretrained::<DebertaV2Model>(
        fixture("deberta_v2", "v3"),
        &device,
        &LoadOptions::default(),
    )
    .unwrap();
    assert_eq!(report.unused.len(), 4, "{report}");
    let last = model.forward(input(&v3)).last_hidden_state;
    assert_close(last, &v3, "hidden_states.2", TOLERANCE);

    // Load the files of a bare model with heads.
    let bare = expected("bare");
    let options = LoadOptions::default();
    let (model, report) = load_pretrained::<DebertaV2ForSequenceClassification>(
        fixture("deberta_v2", "bare"),
        &device,
        &options,
    )
    .unwrap();
    let new = ["classifier.bias", "classifier.weight", "pooler.dense.bias", "pooler.dense.weight"];
    assert_eq!(report.newly_initialised, new);
    let output = model.deberta.forward(input(&bare));
    assert_close(output.last_hidden_state, &bare, "last_hidden_state", TOLERANCE);
    let (_, report) = load_pretrained::<DebertaV2ForQuestionAnswering>(
        fixture("deberta_v2", "bare"),
        &device,
        &options,
    )
    .unwrap();
    assert_eq!(report.newly_initialised, ["qa_outputs.bias", "qa_outputs.weight"]);
}

#[test]
fn rows_of_relative_positions() {
    #[derive(serde::Deserialize)]
    struct Case {
        position_buckets: i64,
        max_relative_positions: usize,
        length: usize,
        first: usize,
        steps: String,
    }
    let text = std::fs::read_to_string(fixture("deberta_v2", "rows.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let buckets = RelativeBuckets {
            buckets: usize::try_from(case.position_buckets).ok(),
            furthest: case.max_relative_positions,
        };
        let mut expected = vec![case.first];
        for step in case.steps.chars() {
            expected.push(expected[expected.len() - 1] + step.to_digit(10).unwrap() as usize);
        }
        assert_eq!(buckets.rows(case.length), expected, "{buckets:?}, length {}", case.length);
    }
}
