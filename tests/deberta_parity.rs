//! DeBERTa-v2 against Hugging Face's own implementation (fixtures by `fixtures/deberta_parity.py`).
//!
//! Every case is compared in logits, loss, hidden states, attentions and all gradients. Which
//! option is exercised by which case:
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
//! | regression, several labels | `c2p`; `p2c` |
//! | names of old checkpoints, heads of pretraining | `old_names` |
//! | question answering, positions beyond the input | `answers`, `answers_conv` |
//! | bare model, without prefix | `bare` |

use std::path::{Path, PathBuf};

use burn::module::{ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, PretrainedModel, StorageDtype, TensorSource, load_from, load_pretrained,
    read_config, to_safetensors,
};
use losparse::models::deberta_v2::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
    DebertaV2Model, RelativeBuckets,
};
use losparse::models::{EncoderInput, ModelConfig};

use super::bert_parity::{
    TOLERANCE, assert_close, check_states, folder_from, input, ints, labels_of,
};

const CLASSIFIERS: [&str; 13] = [
    "v3",
    "v2_conv",
    "conv_groups",
    "c2p",
    "p2c",
    "own",
    "shared_c2p",
    "shared_p2c",
    "no_parts",
    "absolute",
    "projected",
    "pooler",
    "old_names",
];

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/deberta_v2").join(name)
}

pub(super) fn expected(name: &str) -> TensorSource {
    TensorSource::open(fixture(name).join("expected.safetensors")).unwrap()
}

pub(super) fn load<M: PretrainedModel>(name: &str, device: &Device) -> M {
    let (model, report) = load_pretrained(fixture(name), device, &LoadOptions::default()).unwrap();
    assert!(report.newly_initialised.is_empty(), "{name}: {report}");
    model
}

/// PyTorch computes the fixtures in evaluation mode; here dropout acts under autodiff.
fn load_without_dropout<M: PretrainedModel<Config = DebertaV2Config>>(
    name: &str,
    device: &Device,
) -> M {
    let mut config = read_config::<M>(&fixture(name)).unwrap();
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    config.pooler_dropout = 0.0;
    config.cls_dropout = None;
    let source = TensorSource::open(fixture(name)).unwrap();
    load_from(config, &source, device, &LoadOptions::default()).unwrap().0
}

/// Puts its gradient in place of each parameter; zeros where there is none.
struct ToGradients<'a>(&'a GradientsParams);

impl ModuleMapper for ToGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.get::<D>(param.id);
        Param::initialized(param.id, gradient.unwrap_or_else(|| param.val().inner().zeros_like()))
    }
}

/// Compares the gradient of every parameter, by its Hugging Face name and in its orientation.
fn check_gradients<M: PretrainedModel>(name: &str, model: M, loss: Tensor<1>) {
    let expected = expected(name);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let own = to_safetensors(&model.map(&mut ToGradients(&gradients)), StorageDtype::F32).unwrap();
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    std::fs::write(file.path(), own).unwrap();
    let own = TensorSource::open(file.path()).unwrap();
    let recorded: Vec<&str> = expected.names().filter_map(|n| n.strip_prefix("grad.")).collect();
    assert_eq!(recorded.len(), own.names().count(), "{name}: the same parameters");
    for parameter in recorded {
        let gradient = format!("grad.{parameter}");
        assert_eq!(own.shape(parameter), expected.shape(&gradient), "{name}: {parameter}");
        let (found, expected) = (own.read(parameter).unwrap(), expected.read(&gradient).unwrap());
        // Values are finite: `to_safetensors` refuses others.
        let distances = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let distance = distances.fold(0.0, f32::max);
        println!("gradient of {parameter}: {distance:.1e}");
        assert!(distance <= TOLERANCE, "{name}: gradient of {parameter} differs by {distance}");
    }
}

#[test]
fn classifiers_of_every_configuration() {
    let device = Device::default();
    for name in CLASSIFIERS {
        println!("{name}");
        let expected = expected(name);
        let model: DebertaV2ForSequenceClassification = load(name, &device);
        let output = model.deberta.forward(input(&expected, &device));
        let logits = model.logits(output.last_hidden_state.clone());
        assert_close(logits.clone(), &expected, "logits", TOLERANCE);
        let loss = model.loss(logits, labels_of(model.config().labels(), &expected, &device));
        assert_close(loss, &expected, "loss", TOLERANCE);
        check_states(output, &expected);
    }
}

#[test]
fn gradients_of_every_classifier() {
    let device = Device::default().autodiff();
    for name in CLASSIFIERS {
        println!("{name}");
        let model: DebertaV2ForSequenceClassification = load_without_dropout(name, &device);
        let expected = expected(name);
        let labels = labels_of(model.config().labels(), &expected, &device);
        let loss = model.loss(model.forward(input(&expected, &device)), labels);
        check_gradients(name, model, loss);
    }
}

fn positions(source: &TensorSource, name: &str, device: &Device) -> Tensor<1, Int> {
    let values = source.read_int(name).unwrap();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

#[test]
fn question_answering() {
    let (plain, training) = (Device::default(), Device::default().autodiff());
    for name in ["answers", "answers_conv"] {
        let expected = expected(name);
        let model: DebertaV2ForQuestionAnswering = load(name, &plain);
        let output = model.deberta.forward(input(&expected, &plain));
        let (start, end) = model.logits(output.last_hidden_state.clone());
        assert_close(start, &expected, "start_logits", TOLERANCE);
        assert_close(end, &expected, "end_logits", TOLERANCE);
        check_states(output, &expected);

        let model: DebertaV2ForQuestionAnswering = load_without_dropout(name, &training);
        let at = |name| positions(&expected, name, &training);
        let logits = model.forward(input(&expected, &training));
        let loss = model.loss(logits, at("start_positions"), at("end_positions"));
        assert_close(loss.clone(), &expected, "loss", TOLERANCE);
        check_gradients(name, model, loss);
    }
}

#[test]
fn a_bare_model_loads_with_and_without_prefix_and_under_heads() {
    let device = Device::default();
    let bare = expected("bare");
    let model: DebertaV2Model = load("bare", &device);
    let output = model.forward(input(&bare, &device));
    assert_close(output.last_hidden_state.clone(), &bare, "last_hidden_state", TOLERANCE);
    check_states(output, &bare);

    // The files of a classifier, as a bare model.
    let v3 = expected("v3");
    let (model, report) =
        load_pretrained::<DebertaV2Model>(fixture("v3"), &device, &LoadOptions::default()).unwrap();
    assert_eq!(report.unused.len(), 4, "{report}");
    assert_close(
        model.forward(input(&v3, &device)).last_hidden_state,
        &v3,
        "hidden_states.2",
        1e-5,
    );

    // The files of a bare model, under heads.
    let options = LoadOptions::default();
    let (model, report) =
        load_pretrained::<DebertaV2ForSequenceClassification>(fixture("bare"), &device, &options)
            .unwrap();
    let new = ["classifier.bias", "classifier.weight", "pooler.dense.bias", "pooler.dense.weight"];
    assert_eq!(report.newly_initialised, new);
    let output = model.deberta.forward(input(&bare, &device));
    assert_close(output.last_hidden_state, &bare, "last_hidden_state", TOLERANCE);
    let (_, report) =
        load_pretrained::<DebertaV2ForQuestionAnswering>(fixture("bare"), &device, &options)
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
    let text = std::fs::read_to_string(fixture("rows.json")).unwrap();
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

/// A real checkpoint on 50 real pairs, `deberta-v3-xsmall` in the folder that `LOSPARSE_MODELS`
/// names.
#[test]
fn hidden_states_and_logits_of_xsmall() {
    let Some(folder) = folder_from("LOSPARSE_MODELS").map(|f| f.join("deberta-v3-xsmall")) else {
        return;
    };
    let device = Device::default();
    let (model, _) = load_pretrained::<DebertaV2ForSequenceClassification>(
        folder,
        &device,
        &LoadOptions::default(),
    )
    .unwrap();
    let expected = TensorSource::open(fixture("xsmall.safetensors")).unwrap();
    let most = 1e-4;
    for at in 0..5 {
        let name = |part: &str| format!("{at}.{part}");
        let mask = ints(&expected, &name("attention_mask"), &device).unwrap();
        let [batch, length] = mask.dims();
        let input = EncoderInput::new(ints(&expected, &name("input_ids"), &device).unwrap())
            .with_attention_mask(mask.clone())
            .with_hidden_states();
        let output = model.deberta.forward(input);
        let mask = mask.float().reshape([batch, length, 1]);
        let hidden = model.config().hidden_size;
        let mean = |state: Tensor<3>| -> Tensor<2> {
            let mean: Tensor<3> = (state * mask.clone()).sum_dim(1) / mask.clone().sum_dim(1);
            mean.reshape([batch, hidden])
        };
        let states = output.hidden_states.unwrap();
        // Every 24th channel.
        let some = |state: Tensor<2>| -> Tensor<2> {
            let groups = hidden / 24;
            state.reshape([batch, groups, 24]).narrow(2, 0, 1).reshape([batch, groups])
        };
        let means = states.iter().map(|state| some(mean(state.clone()))).collect();
        assert_close(Tensor::<2>::stack::<3>(means, 0), &expected, &name("means"), most);
        let last = output.last_hidden_state;
        assert_close(mean(last.clone()), &expected, &name("mean"), most);
        let first = last.clone().narrow(1, 0, 1).reshape([batch, hidden]);
        assert_close(first, &expected, &name("first_token"), most);
        assert_close(model.logits(last), &expected, &name("logits"), most);
    }
}

/// Its tokenizer on the same pairs, as read from `LOSPARSE_SHARED`.
#[test]
#[cfg(feature = "train")]
fn tokens_of_xsmall() {
    use losparse::tasks::tokenize::TextTokenizer;

    let Some(folder) = folder_from("LOSPARSE_MODELS").map(|f| f.join("deberta-v3-xsmall")) else {
        return;
    };
    let Some(shared) = folder_from("LOSPARSE_SHARED") else { return };
    let dev = std::fs::read_to_string(shared.join("data/glue/STS-B/dev.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = dev.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    let step = rows.len() / 50;
    let tokenizer = TextTokenizer::from_folder(folder, 256).unwrap();
    assert_eq!(tokenizer.pad_id(), 0);
    let expected = TensorSource::open(fixture("xsmall.safetensors")).unwrap();
    for (at, row) in rows.iter().step_by(step).take(50).enumerate() {
        let ids = expected.read_int(&format!("{}.input_ids", at / 10)).unwrap();
        let length = ids.len() / 10;
        let expected = &ids[at % 10 * length..][..length];
        let encoding = tokenizer.encode(row[7], Some(row[8])).unwrap();
        let found: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        assert_eq!(found, expected[..found.len()], "{row:?}");
        assert!(expected[found.len()..].iter().all(|&id| id == 0), "{row:?}");
    }
}
