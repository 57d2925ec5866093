//! The whole method with the same weights and inputs on every backend: results agree with flex.
//!
//! A message says if a backend of this build is skipped because the machine lacks it. With
//! `LOSPARSE_REQUIRE=wgpu,ndarray`, a skip, or a backend that is not in the build, is a failure.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::device::{Backend, DeviceSpec};
use losparse::linear::{Compressible, CompressibleLinear, LayerSelection, round_weights};
use losparse::models::bart::BartForSequenceClassification;
use losparse::models::bert::{BertForQuestionAnswering, BertForSequenceClassification};
use losparse::models::deberta_v2::{
    DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
};
use losparse::models::mpnet::MpnetForSequenceClassification;
use losparse::models::{
    AnyQuestionAnswerer, AnySequenceClassifier, EncoderInput, Labels, ModelConfig,
    question_answering_loss,
};
use losparse::precision::Precision;
use losparse::pruning::{PruningConfig, Schedule};

use super::parity::distance;

const BATCH: usize = 4;
const LENGTH: usize = 12;
/// The last token of every sequence; BART classifies its hidden state.
const END: i64 = 49;
const LEARNING_RATE: f64 = 1e-3;
const STEPS: usize = 3;
/// AdamW's epsilon.
const EPSILON: f32 = 1e-3;

/// All results of a backend, on the host.
struct Run {
    dense: Vec<f32>,
    /// `L`, `R` and `S` of every layer.
    decomposed: Vec<f32>,
    /// Logits of the model in training form.
    training: Vec<f32>,
    losses: Vec<f32>,
    /// Gradients of all parameters in the first step.
    gradients: Vec<f32>,
    /// All parameters after the last step.
    trained: Vec<f32>,
    /// Which neurons of `S` are kept: 1 or 0.
    kept: Vec<f32>,
    pruned: Vec<f32>,
    compact: Vec<f32>,
    /// Logits of the compact model in 8-bit integers.
    int8: Vec<f32>,
}

/// Random numbers from a fixed seed, the same on every machine.
struct Host(u64);

impl Host {
    /// Uniform in −1..1.
    fn values(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Sets every parameter to values from the host.
struct Fill {
    host: Host,
    field: Vec<String>,
}

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.field.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.field.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let (scale, offset) = match self.field.last().map(String::as_str) {
            Some("gamma") => (0.1, 1.0),
            Some("weight") => (0.4, 0.0),
            _ => (0.1, 0.0),
        };
        let values = self.host.values(shape.num_elements());
        let values: Vec<f32> = values.iter().map(|v| scale * v + offset).collect();
        param.map(|tensor| {
            let required = tensor.is_require_grad();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
                .set_require_grad(required)
        })
    }
}

/// Reads every parameter, or its gradient.
#[derive(Default)]
struct Read<'a> {
    gradients: Option<&'a GradientsParams>,
    values: Vec<f32>,
}

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match self.gradients {
            None => self.values.extend(host(param.val())),
            Some(gradients) => {
                let gradient = gradients.get::<D>(param.id).expect("every parameter is trained");
                self.values.extend(host(gradient));
            }
        }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn parameters<M: Module>(model: &M, gradients: Option<&GradientsParams>) -> Vec<f32> {
    let mut read = Read { gradients, values: Vec::new() };
    model.visit(&mut read);
    read.values
}

fn input(device: &Device) -> EncoderInput {
    let mut ids: Vec<i64> =
        (0..BATCH * LENGTH).map(|i| ((i * i * 31 + i * 7) % 49 + 1) as i64).collect();
    let length = |row: usize| LENGTH - 2 * row;
    (0..BATCH).for_each(|row| ids[row * LENGTH + length(row) - 1] = END);
    let mask: Vec<i64> =
        (0..BATCH * LENGTH).map(|i| i64::from(i % LENGTH < length(i / LENGTH))).collect();
    let ints = |values: Vec<i64>| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, [BATCH, LENGTH]), device)
    };
    EncoderInput::new(ints(ids)).with_attention_mask(ints(mask))
}

/// Configuration fields that all architectures share here.
fn config<C: ModelConfig>(own: serde_json::Value) -> C {
    let mut config = serde_json::json!({
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 16, "num_labels": 3,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": null,
    });
    config.as_object_mut().unwrap().append(&mut own.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

/// A model of any architecture, with a head.
trait Subject: Compressible {
    /// The outputs to compare.
    fn outputs(&self, input: EncoderInput) -> Tensor<2>;

    /// The loss `[1]` of these outputs.
    fn loss_of(&self, outputs: Tensor<2>) -> Tensor<1>;
}

impl Subject for AnySequenceClassifier {
    fn outputs(&self, input: EncoderInput) -> Tensor<2> {
        self.forward(input)
    }

    fn loss_of(&self, outputs: Tensor<2>) -> Tensor<1> {
        let labels = Tensor::from_ints([0, 1, 2, 1], &outputs.device());
        self.loss(outputs, Labels::Classes(labels))
    }
}

/// Start and end logits side by side.
impl Subject for AnyQuestionAnswerer {
    fn outputs(&self, input: EncoderInput) -> Tensor<2> {
        let (start, end) = self.forward(input);
        Tensor::cat(vec![start, end], 1)
    }

    fn loss_of(&self, outputs: Tensor<2>) -> Tensor<1> {
        let device = outputs.device();
        let column = |at| outputs.clone().narrow(1, at * LENGTH, LENGTH);
        let [first, last] = [[1, 2, 0, 3], [4, 5, LENGTH as i32, 3]];
        let places = |places: [i32; BATCH]| Tensor::from_ints(places, &device);
        question_answering_loss(column(0), column(1), places(first), places(last))
    }
}

fn bert(device: &Device) -> AnySequenceClassifier {
    let config = config(serde_json::json!({}));
    AnySequenceClassifier::Bert(BertForSequenceClassification::new(&config, device))
}

fn bert_answerer(device: &Device) -> AnyQuestionAnswerer {
    let config = config(serde_json::json!({}));
    AnyQuestionAnswerer::Bert(BertForQuestionAnswering::new(&config, device))
}

/// A model whose layers share a trained bias of attention scores.
fn mpnet(device: &Device) -> AnySequenceClassifier {
    let config = config(serde_json::json!({"pad_token_id": 1}));
    AnySequenceClassifier::Mpnet(MpnetForSequenceClassification::new(&config, device))
}

/// The settings of v3 and the convolution of v2-xlarge.
fn deberta_config() -> serde_json::Value {
    serde_json::json!({
        "relative_attention": true, "position_buckets": 6, "pos_att_type": "c2p|p2c",
        "share_att_key": true, "norm_rel_ebd": "layer_norm", "position_biased_input": false,
        "conv_kernel_size": 3,
    })
}

fn deberta(device: &Device) -> AnySequenceClassifier {
    let config = config(deberta_config());
    AnySequenceClassifier::DebertaV2(DebertaV2ForSequenceClassification::new(&config, device))
}

fn deberta_answerer(device: &Device) -> AnyQuestionAnswerer {
    let config = config(deberta_config());
    AnyQuestionAnswerer::DebertaV2(DebertaV2ForQuestionAnswering::new(&config, device))
}

fn bart(device: &Device) -> AnySequenceClassifier {
    let config = config(serde_json::json!({
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "dropout": 0.0,
        "eos_token_id": END, "pad_token_id": 0,
    }));
    AnySequenceClassifier::Bart(BartForSequenceClassification::new(&config, device))
}

fn run<M: Subject>(build: fn(&Device) -> M, device: &Device) -> Run {
    let training = device.clone().autodiff();
    let model = build(&training);
    let model = model.map(&mut Fill { host: Host(230_611_222), field: Vec::new() });
    let (plain_input, training_input) = (input(device), input(&training));
    let dense = host(model.clone().valid().outputs(plain_input.clone()));

    let config = DecomposeConfig::new(Rank::Budget(0.2));
    let (mut model, _) = decompose(model, &LayerSelection::all(), config).unwrap();
    let mut decomposed = Vec::new();
    model.for_each_linear(&mut |_, linear| decomposed.extend(parameters(linear, None)));
    let form = host(model.clone().valid().outputs(plain_input.clone()));

    // Prunes at steps 1 (cubic) and 2 (final).
    let schedule = Schedule::new(0.3, STEPS)
        .with_initial_warmup_steps(0)
        .with_final_warmup_steps(1)
        .with_interval(1);
    let mut pruner = PruningConfig::new(schedule).init(&model).unwrap();
    let mut optimizer = AdamWConfig::new().with_epsilon(EPSILON).init();
    let (mut losses, mut first) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let loss = model.loss_of(model.outputs(training_input.clone()));
        losses.extend(host(loss.clone()));
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        if step == 0 {
            first = parameters(&model, Some(&gradients));
        }
        let done;
        (model, done) = pruner.optimize(model, &mut optimizer, LEARNING_RATE, gradients).unwrap();
        assert_eq!((done.skipped, done.threshold.is_some()), (false, step > 0));
    }
    let mut kept = Vec::new();
    model.for_each_linear(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear {
            let sparse = layer.sparse.as_ref().unwrap().val();
            let neurons = host(sparse.abs().max_dim(0));
            kept.extend(neurons.iter().map(|&largest| f32::from(u8::from(largest > 0.0))));
        }
    });
    let pruned = host(model.clone().valid().outputs(plain_input.clone()));
    let trained = parameters(&model, None);
    let (small, _) = compact(model);
    let small = small.valid();
    let compact = host(small.outputs(plain_input.clone()));
    let int8 = host(round_weights(small, Precision::Int8).outputs(plain_input));
    Run {
        dense,
        decomposed,
        training: form,
        losses,
        gradients: first,
        trained,
        kept,
        pruned,
        compact,
        int8,
    }
}

/// Tolerances of values and of trained weights, if products are rounded to `unit` relative to their
/// terms.
///
/// Logits, losses and gradients are of size 1 (the test checks that), behind about twelve products
/// of up to 64 terms (√64 units each, as roundings add up at random), four normalisations, and the
/// GPU's own `exp`, `erf` and `tanh` (a few units each): 128 units. An AdamW step moves a weight by
/// `lr · g / (|g| + ε)`, so an error `e` of a gradient moves it by at most `lr · e / ε`, in each of
/// three steps; with `ε` far above rounding a gradient that is zero but for it moves nothing.
fn tolerances(unit: f32) -> (f32, f32) {
    let values = 128.0 * unit;
    let weights = STEPS as f32 * LEARNING_RATE as f32 * (values / EPSILON).min(2.0);
    (values, weights)
}

/// Matrix units of NVIDIA and AMD GPUs use 10 of 23 mantissa bits (TF32); everything else computes
/// in f32.
pub(super) fn has_tf32(backend: Backend) -> bool {
    matches!(backend, Backend::Cuda | Backend::Rocm)
}

fn compare(backend: Backend, run: &Run, flex: &Run) {
    let tf32 = has_tf32(backend);
    let unit = if tf32 { 2f32.powi(-11) } else { 2f32.powi(-24) };
    let (values, weights) = tolerances(unit);
    // The SVD always runs on the host, so its results are equal bit for bit.
    let checks = [
        ("decomposed weights", &run.decomposed, &flex.decomposed, 0.0),
        ("dense logits", &run.dense, &flex.dense, values),
        ("training-form logits", &run.training, &flex.training, values),
        ("losses", &run.losses, &flex.losses, values),
        ("gradients", &run.gradients, &flex.gradients, values),
        ("weights after 3 steps", &run.trained, &flex.trained, weights),
        ("logits after 3 steps", &run.pruned, &flex.pruned, 4.0 * values),
        ("compact logits", &run.compact, &run.pruned, values),
        // Only flex rounds activations, too.
        ("int8 logits", &run.int8, &flex.int8, 0.05),
    ];
    let mut failed = Vec::new();
    for (what, a, b, tolerance) in checks {
        let deviation = distance(a, b);
        println!("{backend}: {what}: {deviation:.1e} (tolerance {tolerance:.1e})");
        if deviation > tolerance {
            failed.push(what);
        }
    }
    let differing = run.kept.iter().zip(&flex.kept).filter(|(a, b)| a != b).count();
    println!(
        "{backend}: neurons pruned otherwise than on flex: {differing} of {}",
        flex.kept.len()
    );
    // A neuron is kept or not; in f32 no score here is close enough to the threshold to differ.
    if differing > if tf32 { flex.kept.len() / 20 } else { 0 } {
        failed.push("selection");
    }
    assert!(failed.is_empty(), "{backend} deviates from flex: {}", failed.join(", "));
}

/// The backends that `LOSPARSE_REQUIRE` names; it may also name Chromium.
fn required() -> Vec<Backend> {
    let names = std::env::var("LOSPARSE_REQUIRE").unwrap_or_default();
    let backend = |name: &str| {
        let spec: DeviceSpec = name.parse().unwrap_or_else(|e| panic!("LOSPARSE_REQUIRE: {e}"));
        spec.backend.unwrap_or_else(|| panic!("LOSPARSE_REQUIRE: `{name}` is no backend"))
    };
    let names = names.split(',').map(str::trim);
    names.filter(|name| !["", "chromium"].contains(name)).map(backend).collect()
}

#[test]
fn bert_agrees_with_flex_on_every_backend() {
    every_backend_agrees_with_flex(bert);
}

#[test]
fn deberta_agrees_with_flex_on_every_backend() {
    every_backend_agrees_with_flex(deberta);
}

#[test]
fn bart_agrees_with_flex_on_every_backend() {
    every_backend_agrees_with_flex(bart);
}

#[test]
fn mpnet_agrees_with_flex_on_every_backend() {
    every_backend_agrees_with_flex(mpnet);
}

#[test]
fn answers_agree_with_flex_on_every_backend() {
    every_backend_agrees_with_flex(bert_answerer);
    every_backend_agrees_with_flex(deberta_answerer);
}

fn every_backend_agrees_with_flex<M: Subject>(build: fn(&Device) -> M) {
    let reference = run(build, &DeviceSpec::from(Backend::Flex).open().unwrap());
    let logits = reference.dense.iter().chain(&reference.pruned);
    let sizes: Vec<f32> = logits.chain(&reference.gradients).copied().collect();
    let largest = distance(&sizes, &vec![0.0; sizes.len()]);
    assert!((0.1..4.0).contains(&largest), "tolerances suppose values of size 1, not {largest}");
    let kept = reference.kept.iter().sum::<f32>() / reference.kept.len() as f32;
    assert!((0.25..0.4).contains(&kept), "pruned down to about 0.3: {kept}");
    assert!(distance(&reference.compact, &reference.pruned) < tolerances(2f32.powi(-24)).0);
    on_every_other_backend(|backend, device| compare(backend, &run(build, device), &reference));
}

/// Calls `check` with every backend other than flex that the build and the machine have.
pub(super) fn on_every_other_backend(check: impl Fn(Backend, &Device)) {
    let required = required();
    for backend in Backend::ALL.into_iter().filter(|&backend| backend != Backend::Flex) {
        match DeviceSpec::from(backend).open() {
            Ok(device) => check(backend, &device),
            Err(error) if required.contains(&backend) => panic!("required, but {error}"),
            Err(error) if backend.is_compiled() => {
                super::say_skipped(&format!("{backend}: {error}"))
            }
            Err(_) => super::say_skipped(&format!("{backend}: not in this build")),
        }
    }
}
