//! RoBERTa, MPNet and question answering against Hugging Face's own implementation (fixtures by
//! `fixtures/family_parity.py`).

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, PretrainedModel, StorageDtype, TensorSource, load_from, load_pretrained,
    read_config, to_safetensors,
};
use losparse::models::bert::{BertConfig, BertForSequenceClassification, BertModel};
use losparse::models::bert::{BertFamily, ForQuestionAnswering, ForSequenceClassification};
use losparse::models::mpnet::{MpnetForSequenceClassification, MpnetModel};
use losparse::models::roberta::{RobertaConfig, RobertaForSequenceClassification, RobertaModel};
use losparse::models::{ModelConfig, question_answering_loss};

use super::bert_parity::{
    TOLERANCE, assert_close, check_states, folder_from, input, ints, labels_of,
};

fn fixture(family: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family).join(name)
}

/// Replaces every parameter by its gradient.
struct IntoGradients<'a>(&'a Gradients);

impl ModuleMapper for IntoGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(self.0).expect("every parameter has a gradient");
        Param::initialized(param.id, gradient)
    }
}

/// Checks the gradients of all parameters under their Hugging Face names.
fn check_gradients<M: PretrainedModel>(model: M, loss: &Tensor<1>, expected: &TensorSource) {
    let gradients = loss.backward();
    let gradients = model.map(&mut IntoGradients(&gradients));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, to_safetensors(&gradients, StorageDtype::F32).unwrap()).unwrap();
    let found = TensorSource::open(&file).unwrap();
    let mut checked = 0;
    for name in found.names() {
        let recorded = format!("grad.{name}");
        assert_eq!(found.shape(name), expected.shape(&recorded), "{recorded}");
        let pairs = found.read(name).unwrap().into_iter().zip(expected.read(&recorded).unwrap());
        let distance = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(distance <= TOLERANCE, "{recorded} differs by {distance}");
        checked += 1;
    }
    let recorded = expected.names().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(checked, recorded, "every recorded gradient is checked");
}

/// The model of a fixture on a device that records, without dropout, as PyTorch evaluates.
fn load<M: PretrainedModel>(
    folder: &Path,
    without_dropout: impl Fn(&mut M::Config),
    device: &Device,
) -> M {
    let mut config = read_config::<M>(folder).unwrap();
    without_dropout(&mut config);
    let source = TensorSource::open(folder).unwrap();
    let (model, report) = load_from::<M>(config, &source, device, &LoadOptions::default()).unwrap();
    assert!(report.newly_initialised.is_empty(), "{report}");
    model
}

fn no_dropout(config: &mut BertConfig) {
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    config.classifier_dropout = Some(0.0);
}

fn check_classifier<M: BertFamily>(
    family: &str,
    name: &str,
    without_dropout: impl Fn(&mut <M as BertFamily>::Config),
) {
    let device = Device::default().autodiff();
    let folder = fixture(family, name);
    let model: ForSequenceClassification<M> = load(&folder, without_dropout, &device);
    let expected = TensorSource::open(folder.join("expected.safetensors")).unwrap();
    let output = model.encode(input(&expected, &device));
    let logits = model.classifier.forward(output.last_hidden_state.clone());
    assert_close(logits.clone(), &expected, "logits", TOLERANCE);
    let loss = model.loss(logits, labels_of(model.config().labels(), &expected, &device));
    assert_close(loss.clone(), &expected, "loss", TOLERANCE);
    if expected.contains("hidden_states.0") {
        check_states(output, &expected);
    }
    if expected.names().any(|name| name.starts_with("grad.")) {
        check_gradients(model, &loss, &expected);
    }
}

fn check_answerer<M: BertFamily>(
    family: &str,
    name: &str,
    without_dropout: impl Fn(&mut <M as BertFamily>::Config),
) {
    let device = Device::default().autodiff();
    let folder = fixture(family, name);
    let model: ForQuestionAnswering<M> = load(&folder, without_dropout, &device);
    let expected = TensorSource::open(folder.join("expected.safetensors")).unwrap();
    let (start, end) = model.forward(input(&expected, &device));
    assert_close(start.clone(), &expected, "start_logits", TOLERANCE);
    assert_close(end.clone(), &expected, "end_logits", TOLERANCE);
    let positions = |name: &str| {
        let positions = expected.read_int(name).unwrap();
        let count = positions.len();
        Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), &device)
    };
    let loss = question_answering_loss(
        start,
        end,
        positions("start_positions"),
        positions("end_positions"),
    );
    assert_close(loss.clone(), &expected, "loss", TOLERANCE);
    check_gradients(model, &loss, &expected);
}

fn check_bare<M: BertFamily>(family: &str, name: &str) {
    let device = Device::default();
    let folder = fixture(family, name);
    let (model, report) = load_pretrained::<M>(&folder, &device, &LoadOptions::default()).unwrap();
    assert!(report.unused.is_empty() && report.newly_initialised.is_empty(), "{report}");
    let expected = TensorSource::open(folder.join("expected.safetensors")).unwrap();
    let output = model.bert().forward(input(&expected, &device));
    assert_eq!(output.pooler_output.is_some(), name == "pooled");
    if let Some(pooled) = output.pooler_output.clone() {
        assert_close(pooled, &expected, "pooler_output", TOLERANCE);
    }
    assert_close(output.last_hidden_state.clone(), &expected, "last_hidden_state", TOLERANCE);
    check_states(output, &expected);
}

#[test]
fn bert_answers_questions() {
    for name in ["qa", "qa_gelu_new", "qa_positions"] {
        check_answerer::<BertModel>("bert", name, no_dropout);
    }
}

#[test]
fn roberta_of_every_configuration() {
    #[rustfmt::skip]
    let classifiers = [
        "base", "two_types", "no_mask", "regression", "regressions", "multi_label", "pad_0",
        "pad_3", "positions", "full_length", "old_names",
    ];
    for name in classifiers {
        check_classifier::<RobertaModel>("roberta", name, |c| no_dropout(&mut c.bert));
    }
    for name in ["qa", "qa_two_types", "qa_no_mask"] {
        check_answerer::<RobertaModel>("roberta", name, |c| no_dropout(&mut c.bert));
    }
    for name in ["pooled", "unpooled"] {
        check_bare::<RobertaModel>("roberta", name);
    }
}

#[test]
fn mpnet_of_every_configuration() {
    #[rustfmt::skip]
    let classifiers = [
        "base", "gelu_new", "no_mask", "regression", "regressions", "multi_label", "more_buckets",
        "pad_3", "positions", "long", "old_names",
    ];
    for name in classifiers {
        check_classifier::<MpnetModel>("mpnet", name, |c| no_dropout(&mut c.bert));
    }
    for name in ["qa", "qa_no_mask"] {
        check_answerer::<MpnetModel>("mpnet", name, |c| no_dropout(&mut c.bert));
    }
    for name in ["pooled", "unpooled"] {
        check_bare::<MpnetModel>("mpnet", name);
    }
}

/// Weights that need no file: the same multiples of 2⁻¹² in every language. Turned from PyTorch's
/// `[rows, columns]` to Burn's orientation.
fn fixed_matrix(rows: usize, columns: usize, device: &Device) -> Param<Tensor<2>> {
    let value = |at: usize| ((at * 7919 % 1009) as f32 - 504.0) / 4096.0;
    let values: Vec<f32> = (0..rows * columns).map(value).collect();
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), device);
    Param::from_tensor(matrix.transpose())
}

/// A real checkpoint, `mpnet-base` in the folder that `LOSPARSE_MODELS` names, on 50 sentence
/// pairs.
#[test]
fn mpnet_base_on_real_sentence_pairs() {
    let Some(folder) = folder_from("LOSPARSE_MODELS").map(|f| f.join("mpnet-base")) else { return };
    let device = Device::default();
    let options = LoadOptions {
        labels: Some(losparse::models::LabelConfig::numbered(3)),
        ..LoadOptions::default()
    };
    let (mut model, report) =
        load_pretrained::<MpnetForSequenceClassification>(&folder, &device, &options).unwrap();
    assert_eq!(report.newly_initialised.len(), 4, "{report}");
    let hidden = model.config().hidden_size();
    model.classifier.dense.weight = fixed_matrix(hidden, hidden, &device);
    model.classifier.out_proj.weight = fixed_matrix(3, hidden, &device);

    let expected = TensorSource::open(fixture("mpnet", "mpnet_base.safetensors")).unwrap();
    let tokenizer = losparse::tasks::TextTokenizer::from_folder(&folder, 128).unwrap();
    assert_eq!(tokenizer.pad_id(), 1);
    let pairs = folder_from("LOSPARSE_SHARED").map(|shared| {
        let task = losparse::tasks::GlueTask::Stsb;
        let dev = task.load(shared.join("data/glue"), losparse::tasks::Split::Dev).unwrap();
        let chosen: Vec<_> = dev.examples.into_iter().step_by(30).take(50).collect();
        tokenizer.encode_examples(&chosen).unwrap()
    });
    for number in 0..5 {
        let ids = ints(&expected, &format!("{number}.input_ids"), &device).unwrap();
        let mask = ints(&expected, &format!("{number}.attention_mask"), &device).unwrap();
        let [batch, length] = ids.dims();
        let rows = expected.read_int(&format!("{number}.input_ids")).unwrap();
        for (at, row) in rows.chunks(length).enumerate().filter(|_| pairs.is_some()) {
            let example = &pairs.as_ref().unwrap()[10 * number + at];
            let mut ids: Vec<i64> = example.input_ids.iter().map(|id| i64::from(*id)).collect();
            ids.resize(length, 1);
            assert_eq!(ids, row, "tokens of pair {at} of batch {number}");
        }
        let shown = mask.clone().float().reshape([batch, length, 1]);
        let input =
            losparse::models::EncoderInput::new(ids).with_attention_mask(mask).with_hidden_states();
        let output = model.encode(input);
        let logits = model.classifier.forward(output.last_hidden_state);
        assert_close(logits, &expected, &format!("{number}.logits"), 1e-4);
        for (i, state) in output.hidden_states.unwrap().into_iter().enumerate() {
            let part = (state * shown.clone()).slice([0..batch, 0..length.min(6), 0..16]);
            assert_close(part, &expected, &format!("{number}.state.{i}"), 1e-4);
        }
    }
}

/// Parameters by their shapes: nothing is allocated.
fn parameters<M: Module>(model: &M) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized(), "{} was allocated", param.id);
            self.0 += param.lazy_shape().num_elements();
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}

/// `sum(p.numel() for p in model.parameters())` of transformers' models of the published configs.
#[test]
fn published_configurations_have_as_many_parameters_as_in_transformers() {
    let device = Device::default();
    let large = |base: BertConfig| BertConfig {
        hidden_size: 1024,
        num_hidden_layers: 24,
        num_attention_heads: 16,
        intermediate_size: 4096,
        ..base
    };
    let bert = BertConfig::default();
    assert_eq!(parameters(&BertModel::new(&bert, true, &device)), 109_482_240);
    assert_eq!(parameters(&BertForSequenceClassification::new(&bert, &device)), 109_483_778);
    assert_eq!(parameters(&BertModel::new(&large(bert), true, &device)), 335_141_888);
    let roberta = BertConfig {
        max_position_embeddings: 514,
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        ..RobertaConfig::default().bert
    };
    let base = RobertaConfig { bert: roberta.clone() };
    assert_eq!(parameters(&RobertaModel::new(&base, true, &device)), 124_645_632);
    assert_eq!(parameters(&RobertaForSequenceClassification::new(&base, &device)), 124_647_170);
    let large = RobertaConfig { bert: large(roberta) };
    assert_eq!(parameters(&RobertaModel::new(&large, true, &device)), 355_359_744);
    let mut mpnet = losparse::models::mpnet::MpnetConfig::default();
    mpnet.bert.max_position_embeddings = 514;
    assert_eq!(parameters(&MpnetModel::new(&mpnet, true, &device)), 109_486_464);
    assert_eq!(parameters(&MpnetForSequenceClassification::new(&mpnet, &device)), 109_488_002);
}

/// What a file leaves out takes the architecture's own defaults, and what is written is read back.
#[test]
fn configurations_survive_json() {
    let path = Path::new("config.json");
    let roberta = RobertaConfig::from_json("{\"num_labels\": 3}", path).unwrap();
    let sizes = (roberta.vocab_size(), roberta.bert.pad_token_id, roberta.max_length());
    assert_eq!(sizes, (50265, Some(1), 510));
    type Mpnet = losparse::models::mpnet::MpnetConfig;
    let mpnet = Mpnet::from_json("{\"num_labels\": 3, \"colour\": \"red\"}", path).unwrap();
    assert_eq!((mpnet.vocab_size(), mpnet.max_length()), (30527, 510));
    let text = serde_json::to_string(&mpnet).unwrap();
    assert!(!text.contains("type_vocab_size") && text.contains("\"colour\":\"red\""), "{text}");
    assert_eq!(Mpnet::from_json(&text, path).unwrap(), mpnet);
    let text = serde_json::to_string(&roberta).unwrap();
    assert_eq!(RobertaConfig::from_json(&text, path).unwrap(), roberta);
    for (text, part) in [
        ("{\"relative_attention_num_buckets\": 20}", "relative_attention_num_buckets: 20"),
        ("{\"relative_attention_num_buckets\": \"x\"}", "relative_attention_num_buckets"),
        ("{\"max_position_embeddings\": 2}", "max_position_embeddings: 2"),
        ("{\"hidden_act\": \"square\"}", "hidden_act"),
    ] {
        let error = Mpnet::from_json(text, path).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let error = RobertaConfig::from_json("{\"pad_token_id\": null}", path).unwrap_err();
    assert!(error.to_string().contains("pad_token_id: missing"), "{error}");
}
