//! BERT against Hugging Face's own implementation (fixtures by `fixtures/bert_parity.py`).

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, LoadReport, TensorSource, load_from, load_pretrained, read_config,
};
use losparse::linear::{Compressible, CompressibleLinear};
use losparse::models::bert::{BertForSequenceClassification, BertModel};
use losparse::models::{EncoderInput, EncoderOutput, LabelConfig, Labels};
use losparse::models::{ModelConfig, ProblemType};

pub(super) const TOLERANCE: f32 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert").join(name)
}

pub(super) fn folder_from(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    folder
}

fn load(name: &str, device: &Device) -> (BertForSequenceClassification, LoadReport) {
    load_pretrained(fixture(name), device, &LoadOptions::default()).unwrap()
}

/// A `[rows, columns]` integer tensor, if the source has it.
pub(super) fn ints(source: &TensorSource, name: &str, device: &Device) -> Option<Tensor<2, Int>> {
    let shape: [usize; 2] = source.shape(name)?.try_into().unwrap();
    Some(Tensor::from_data(TensorData::new(source.read_int(name).unwrap(), shape), device))
}

pub(super) fn input(source: &TensorSource, device: &Device) -> EncoderInput {
    let mut input = EncoderInput::new(ints(source, "input_ids", device).unwrap())
        .with_hidden_states()
        .with_attentions();
    input.attention_mask = ints(source, "attention_mask", device);
    input.token_type_ids = ints(source, "token_type_ids", device);
    input.position_ids = ints(source, "position_ids", device);
    input
}

pub(super) fn assert_close<const D: usize>(
    found: Tensor<D>,
    expected: &TensorSource,
    name: &str,
    most: f32,
) {
    assert_eq!(found.dims().as_slice(), expected.shape(name).expect(name), "shape of {name}");
    let found = found.into_data().try_into_vec::<f32>().unwrap();
    let pairs = found.iter().zip(expected.read(name).unwrap());
    let distance = pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |a: f32, b| if b.is_nan() { f32::INFINITY } else { a.max(b) });
    assert!(distance <= most, "{name} differs by {distance}");
}

pub(super) fn check_states(output: EncoderOutput, expected: &TensorSource) {
    let (states, attentions) = (output.hidden_states.unwrap(), output.attentions.unwrap());
    assert_eq!(states.len(), attentions.len() + 1);
    assert!(!expected.contains(&format!("attentions.{}", attentions.len())));
    for (i, state) in states.into_iter().enumerate() {
        assert_close(state, expected, &format!("hidden_states.{i}"), TOLERANCE);
    }
    for (i, attention) in attentions.into_iter().enumerate() {
        assert_close(attention, expected, &format!("attentions.{i}"), TOLERANCE);
    }
}

pub(super) fn labels_of(config: &LabelConfig, source: &TensorSource, device: &Device) -> Labels {
    match config.problem_type() {
        ProblemType::SingleLabelClassification => {
            let classes = source.read_int("labels").unwrap();
            let batch = classes.len();
            Labels::Classes(Tensor::from_data(TensorData::new(classes, [batch]), device))
        }
        _ => {
            let values = source.read("labels").unwrap();
            let width = config.num_labels();
            let shape = [values.len() / width, width];
            Labels::Values(Tensor::from_data(TensorData::new(values, shape), device))
        }
    }
}

fn labels(model: &BertForSequenceClassification, source: &TensorSource, device: &Device) -> Labels {
    labels_of(model.config().labels(), source, device)
}

fn check_classifier(name: &str) {
    let device = Device::default();
    let (model, report) = load(name, &device);
    assert!(report.newly_initialised.is_empty(), "{name}: {report}");
    let expected = TensorSource::open(fixture(name).join("expected.safetensors")).unwrap();
    let output = model.bert.forward(input(&expected, &device));
    let logits = model.logits(output.pooler_output.clone().unwrap());
    assert_close(logits.clone(), &expected, "logits", TOLERANCE);
    let loss = model.loss(logits, labels(&model, &expected, &device));
    assert_close(loss, &expected, "loss", TOLERANCE);
    check_states(output, &expected);
}

#[test]
fn classifiers_of_every_configuration() {
    for name in
        ["base", "gelu_new", "regression", "one_type", "old_names", "multi_label", "positions"]
    {
        check_classifier(name);
    }
}

#[test]
fn bare_models_with_and_without_pooler() {
    let device = Device::default();
    for name in ["pooled", "unpooled"] {
        let options = LoadOptions::default();
        let (model, report) =
            load_pretrained::<BertModel>(fixture(name), &device, &options).unwrap();
        assert!(report.unused.is_empty() && report.newly_initialised.is_empty(), "{report}");
        let expected = TensorSource::open(fixture(name).join("expected.safetensors")).unwrap();
        let output = model.forward(input(&expected, &device));
        assert_eq!(output.pooler_output.is_some(), name == "pooled");
        if let Some(pooled) = output.pooler_output.clone() {
            assert_close(pooled, &expected, "pooler_output", TOLERANCE);
        }
        assert_close(output.last_hidden_state.clone(), &expected, "last_hidden_state", TOLERANCE);
        check_states(output, &expected);
    }
}

#[test]
fn every_file_format_holds_the_same_model() {
    let device = Device::default();
    let expected = TensorSource::open(fixture("base/expected.safetensors")).unwrap();
    for form in ["bin", "sharded", "sharded_bin"] {
        let (model, _) = load(form, &device);
        assert_close(model.forward(input(&expected, &device)), &expected, "logits", TOLERANCE);
    }
}

/// Gradients of all parameters by the order in which a module is visited.
struct GradientVisitor<'a> {
    gradients: &'a Gradients,
    found: Vec<(Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for GradientVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
        let shape = gradient.dims().to_vec();
        self.found.push((shape, gradient.into_data().try_into_vec().unwrap()));
    }
}

/// The `grad.<name>` of every parameter of a module, in the order of its fields.
fn check_gradients<M: Module>(
    module: &M,
    names: &[String],
    gradients: &Gradients,
    expected: &TensorSource,
) {
    let mut visitor = GradientVisitor { gradients, found: Vec::new() };
    module.visit(&mut visitor);
    assert_eq!(visitor.found.len(), names.len());
    for (name, (shape, found)) in names.iter().zip(visitor.found) {
        let name = format!("grad.{name}");
        let values = expected.read(&name).unwrap();
        // Only matrices of linear layers are transposed; embeddings are not.
        let transposed = shape.len() == 2 && !name.contains("embeddings");
        let at = |i: usize| match transposed {
            true => values[(i % shape[1]) * shape[0] + i / shape[1]],
            false => values[i],
        };
        let distance = found.iter().enumerate().map(|(i, a)| (a - at(i)).abs()).fold(0.0, f32::max);
        assert!(distance <= TOLERANCE, "{name} differs by {distance}");
        assert_eq!(found.len(), values.len(), "{name}");
    }
}

#[test]
fn gradients_of_all_parameters() {
    for name in ["base", "gelu_new", "positions"] {
        let device = Device::default().autodiff();
        let (mut model, _) = load(name, &device);
        // PyTorch computes the fixtures in evaluation mode: no dropout.
        model = without_dropout(model);
        let expected = TensorSource::open(fixture(name).join("expected.safetensors")).unwrap();
        let logits = model.forward(input(&expected, &device));
        let loss = model.loss(logits, labels(&model, &expected, &device));
        let gradients = loss.backward();

        let mut checked = 0;
        let mut check = |parent: &str, fields: &[&str]| -> Vec<String> {
            checked += fields.len();
            fields.iter().map(|field| format!("{parent}.{field}")).collect()
        };
        let embeddings = check(
            "bert.embeddings",
            &[
                "word_embeddings.weight",
                "position_embeddings.weight",
                "token_type_embeddings.weight",
                "LayerNorm.weight",
                "LayerNorm.bias",
            ],
        );
        check_gradients(&model.bert.embeddings, &embeddings, &gradients, &expected);
        model.for_each_linear(&mut |name, linear: &CompressibleLinear| {
            let names = check(name, &["weight", "bias"]);
            check_gradients(linear, &names, &gradients, &expected);
        });
        for (i, layer) in model.bert.encoder.layer.iter().enumerate() {
            for (norm, part) in [
                (&layer.attention.output.layer_norm, "attention.output"),
                (&layer.output.layer_norm, "output"),
            ] {
                let names =
                    check(&format!("bert.encoder.layer.{i}.{part}.LayerNorm"), &["weight", "bias"]);
                check_gradients(norm, &names, &gradients, &expected);
            }
        }
        let names = check("bert.pooler.dense", &["weight", "bias"]);
        check_gradients(&model.bert.pooler, &names, &gradients, &expected);
        let names = check("classifier", &["weight", "bias"]);
        check_gradients(&model.classifier, &names, &gradients, &expected);
        let recorded = expected.names().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(checked, recorded, "{name}: every recorded gradient is checked");
    }
}

/// The model with its dropout flags off and its parameters still trained.
fn without_dropout(mut model: BertForSequenceClassification) -> BertForSequenceClassification {
    model.dropout = model.dropout.freeze();
    model.bert.embeddings.dropout = model.bert.embeddings.dropout.freeze();
    for layer in &mut model.bert.encoder.layer {
        let attention = &mut layer.attention;
        for dropout in [
            &mut attention.self_attention.dropout,
            &mut attention.output.dropout,
            &mut layer.output.dropout,
        ] {
            *dropout = dropout.clone().freeze();
        }
    }
    model
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

/// A real checkpoint, `minilm-l6` in the folder that `LOSPARSE_MODELS` names.
#[test]
fn hidden_states_of_minilm() {
    let Some(folder) = folder_from("LOSPARSE_MODELS").map(|f| f.join("minilm-l6")) else { return };
    let device = Device::default();
    let options = LoadOptions::default();
    let (model, _) = load_pretrained::<BertModel>(folder, &device, &options).unwrap();
    let expected = TensorSource::open(fixture("minilm.safetensors")).unwrap();
    let input = input(&expected, &device);
    let [batch, length] = input.input_ids.dims();
    let mask = input.attention_mask.clone().unwrap().float().reshape([batch, length, 1]);
    let output = model.forward(input);

    let hidden = model.config().hidden_size;
    let second = output.last_hidden_state.narrow(1, 1, 1).reshape([batch, hidden]);
    assert_close(second, &expected, "second_token", 1e-4);
    assert_close(output.pooler_output.unwrap(), &expected, "pooler_output", 1e-4);
    for (i, state) in output.hidden_states.unwrap().into_iter().enumerate() {
        let mean: Tensor<3> = (state * mask.clone()).sum_dim(1) / mask.clone().sum_dim(1);
        assert_close(mean.reshape([batch, hidden]), &expected, &format!("mean.{i}"), 1e-4);
    }
}
