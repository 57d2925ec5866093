//! Shared code of the comparisons with Hugging Face's implementation.
//!
//! A case is a folder of `fixtures/FAMILY` with a model, an input and the results of
//! `transformers`: outputs, states, attentions, loss, gradients of all parameters. It is computed
//! four times: in inference and in training (without dropout, as recorded), with and without
//! attention maps. With maps, layers are composed of Burn's operations; without, they are fused
//! kernels.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, PretrainedModel, StorageDtype, TensorSource, load_from, read_config,
    to_safetensors,
};
use losparse::device::{Backend, DeviceSpec};
use losparse::models::{EncoderInput, EncoderOutput, LabelConfig, Labels, ProblemType};

pub const TOLERANCE: f32 = 1e-5;
/// Longer inputs are recorded without states and attentions.
const LONG: usize = 100;

pub fn fixture(family: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family).join(name)
}

pub fn folder_from(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        super::say_skipped(&format!("{variable} is not set"));
    }
    folder
}

/// The flex backend, with this crate's kernels, if the build has it.
pub fn device() -> Device {
    DeviceSpec::from(Backend::Flex).open().unwrap_or_default()
}

/// All cases of a family, each with the class of its model.
pub fn cases(family: &str) -> Vec<(String, String)> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(fixture(family, "")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("expected.safetensors").is_file() {
            let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            let class = config["architectures"][0].as_str().unwrap().to_string();
            cases.push((folder.file_name().unwrap().to_str().unwrap().to_string(), class));
        }
    }
    cases.sort();
    cases
}

/// A `[rows, columns]` integer tensor, if the source has it.
pub fn ints(source: &TensorSource, name: &str, device: &Device) -> Option<Tensor<2, Int>> {
    let shape: [usize; 2] = source.shape(name)?.try_into().unwrap();
    Some(Tensor::from_data(TensorData::new(source.read_int(name).unwrap(), shape), device))
}

/// The largest difference; infinite if either value is NaN.
pub fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |largest, d| if d.is_nan() { f32::INFINITY } else { d.max(largest) })
}

fn deviation<const D: usize>(found: Tensor<D>, expected: &TensorSource, name: &str) -> f32 {
    assert_eq!(found.dims().as_slice(), expected.shape(name).expect(name), "shape of {name}");
    distance(&found.try_into_vec_as::<f32>().unwrap(), &expected.read(name).unwrap())
}

pub fn assert_close<const D: usize>(
    found: Tensor<D>,
    expected: &TensorSource,
    name: &str,
    most: f32,
) {
    let deviation = deviation(found, expected, name);
    assert!(deviation <= most, "{name} differs by {deviation}");
}

/// One computation of a case.
pub struct Pass<'a> {
    pub expected: &'a TensorSource,
    pub device: &'a Device,
    maps: bool,
    /// Deviation of each quantity.
    deviations: RefCell<Vec<(String, f32)>>,
}

impl Pass<'_> {
    pub fn ints(&self, name: &str) -> Option<Tensor<2, Int>> {
        ints(self.expected, name, self.device)
    }

    /// The case's input, asking for hidden states and, in computations with maps, for attentions.
    pub fn input(&self) -> EncoderInput {
        let mut input = EncoderInput::new(self.ints("input_ids").unwrap()).with_hidden_states();
        input.output_attentions = self.maps;
        input.attention_mask = self.ints("attention_mask");
        input.token_type_ids = self.ints("token_type_ids");
        input.position_ids = self.ints("position_ids");
        input
    }

    pub fn check<const D: usize>(&self, found: Tensor<D>, name: &str) {
        let deviation = deviation(found, self.expected, name);
        self.deviations.borrow_mut().push((name.to_string(), deviation));
    }

    /// Checks a tensor of every layer.
    pub fn check_all<const D: usize>(&self, found: Option<Vec<Tensor<D>>>, kind: &str) {
        assert!(!kind.ends_with("attentions") || found.is_some() == self.maps, "{kind}");
        let Some(found) = found else { return };
        if !self.expected.contains(&format!("{kind}.0")) {
            assert!(self.expected.shape("input_ids").unwrap()[1] >= LONG, "{kind} is not recorded");
            return;
        }
        assert!(!self.expected.contains(&format!("{kind}.{}", found.len())), "all of {kind}");
        for (i, found) in found.into_iter().enumerate() {
            self.check(found, &format!("{kind}.{i}"));
        }
    }

    pub fn check_states(&self, output: EncoderOutput) {
        assert!(output.hidden_states.is_some());
        self.check_all(output.hidden_states, "hidden_states");
        self.check_all(output.attentions, "attentions");
    }

    pub fn labels(&self, config: &LabelConfig) -> Labels {
        match config.problem_type() {
            ProblemType::SingleLabelClassification => Labels::Classes(self.places("labels")),
            _ => {
                let values = self.expected.read("labels").unwrap();
                let width = config.num_labels();
                let data = TensorData::new(values.clone(), [values.len() / width, width]);
                Labels::Values(Tensor::from_data(data, self.device))
            }
        }
    }

    /// One integer for each example.
    pub fn places(&self, name: &str) -> Tensor<1, Int> {
        let values = self.expected.read_int(name).unwrap();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), self.device)
    }
}

/// Largest deviations of a case; pairs are without and with attention maps.
pub struct Row {
    name: String,
    forward: [f32; 2],
    /// Deviations of the loss and of gradients, if there is a loss.
    training: Option<(f32, [f32; 2])>,
    gradients: usize,
    failures: Vec<String>,
}

/// Compares a case. `run` checks the model's outputs and returns the loss, if the case has one.
pub fn compare<M: PretrainedModel>(
    folder: &Path,
    without_dropout: impl Fn(&mut M::Config),
    run: impl Fn(&M, &Pass<'_>) -> Option<Tensor<1>>,
) -> Row {
    let name = folder.file_name().unwrap().to_str().unwrap().to_string();
    let expected = TensorSource::open(folder.join("expected.safetensors")).unwrap();
    let mut row =
        Row { name, forward: [0.0; 2], training: None, gradients: 0, failures: Vec::new() };
    let name = &row.name;
    for (training, maps) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut config = read_config::<M>(folder).unwrap();
        let mut device = device();
        if training {
            device = device.autodiff();
            without_dropout(&mut config);
        }
        let source = TensorSource::open(folder).unwrap();
        let options = LoadOptions::default();
        let (model, report) = load_from::<M>(config, &source, &device, &options).unwrap();
        assert!(report.newly_initialised.is_empty(), "{name}: {report}");
        assert_eq!(report.unused.is_empty(), name != "old_names", "{name}: {report}");

        let pass =
            Pass { expected: &expected, device: &device, maps, deviations: RefCell::default() };
        let loss = run(&model, &pass);
        assert_eq!(loss.is_some(), expected.contains("loss"), "{name}");
        let mut deviations = pass.deviations.into_inner();
        assert!(!deviations.is_empty(), "{name}: something is compared");
        let worst = |deviations: &[(String, f32)]| deviations.iter().fold(0f32, |w, d| w.max(d.1));
        let forward = &mut row.forward[usize::from(maps)];
        *forward = forward.max(worst(&deviations));
        if let Some(loss) = loss {
            let (largest, gradients) = row.training.get_or_insert_default();
            let of_loss = deviation(loss.clone(), &expected, "loss");
            *largest = largest.max(of_loss);
            deviations.push(("loss".to_string(), of_loss));
            if training {
                let found = gradient_deviations(model, loss, &expected);
                row.gradients = found.len();
                gradients[usize::from(maps)] = worst(&found);
                deviations.extend(found);
            }
        }
        let how = |on: bool, what: &str| if on { format!(", {what}") } else { String::new() };
        let how = format!("{}{}", how(training, "training"), how(maps, "attention maps"));
        let failed = deviations.iter().filter(|(_, deviation)| *deviation > TOLERANCE);
        row.failures.extend(failed.map(|(what, d)| format!("{name}{how}: {what} differs by {d}")));
    }
    row
}

/// Replaces each parameter by its gradient, or by zeros without one.
struct ToGradients<'a>(&'a GradientsParams);

impl ModuleMapper for ToGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.get::<D>(param.id);
        Param::initialized(param.id, gradient.unwrap_or_else(|| param.val().inner().zeros_like()))
    }
}

/// Deviations of the gradients of all parameters, with the names and orientation of a checkpoint.
fn gradient_deviations<M: PretrainedModel>(
    model: M,
    loss: Tensor<1>,
    expected: &TensorSource,
) -> Vec<(String, f32)> {
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let model = model.map(&mut ToGradients(&gradients));
    let found = to_safetensors(&model, StorageDtype::F32).unwrap();
    let found = TensorSource::from_bytes("gradients", found).unwrap();
    let mut deviations = Vec::new();
    for name in found.names() {
        let values = found.read(name).unwrap();
        if name == "final_logits_bias" {
            assert!(values.iter().all(|gradient| *gradient == 0.0), "{name} is no parameter");
            continue;
        }
        let recorded = format!("grad.{name}");
        assert_eq!(found.shape(name), expected.shape(&recorded), "{recorded}");
        let deviation = distance(&values, &expected.read(&recorded).unwrap());
        deviations.push((recorded, deviation));
    }
    let recorded = expected.names().filter(|name| name.starts_with("grad.")).count();
    assert!(recorded > 0 && deviations.len() == recorded, "{recorded} gradients are recorded");
    deviations
}

/// Prints the table of an architecture. Fails if it is too short or a deviation too large.
pub fn report(architecture: &str, rows: &[Row]) {
    println!(
        "| {architecture} | forward, fused | composed | loss | gradients, fused | composed | of |"
    );
    println!("|---|---|---|---|---|---|---|");
    let show = |value: f32| format!("{value:.1e}");
    let line = |name: &str, forward: [f32; 2], training: Option<(f32, [f32; 2])>, count: usize| {
        let [fused, composed] = forward.map(show);
        let [loss, fused_gradients, composed_gradients] = match training {
            Some((loss, gradients)) => [loss, gradients[0], gradients[1]].map(show),
            None => [(); 3].map(|()| "–".to_string()),
        };
        println!(
            "| {name} | {fused} | {composed} | {loss} | {fused_gradients} | {composed_gradients} | \
             {count} |"
        );
    };
    let (mut forward, mut training, mut count) = ([0f32; 2], (0f32, [0f32; 2]), 0);
    for row in rows {
        line(&row.name, row.forward, row.training, row.gradients);
        let (loss, gradients) = row.training.unwrap_or_default();
        forward = std::array::from_fn(|i| forward[i].max(row.forward[i]));
        let all = std::array::from_fn(|i| training.1[i].max(gradients[i]));
        training = (training.0.max(loss), all);
        count += row.gradients;
    }
    let trained = rows.iter().filter(|row| row.gradients > 0).count();
    line(&format!("worst of {} cases", rows.len()), forward, Some(training), count);
    let failures: Vec<_> = rows.iter().flat_map(|row| &row.failures).cloned().collect();
    assert!(failures.is_empty(), "{architecture}:\n{}", failures.join("\n"));
    assert!(trained >= 12, "{architecture}: {trained} cases with gradients");
    #[cfg(feature = "flex")]
    assert!(
        rows.iter().any(|row| row.forward[0] != row.forward[1])
            && rows.iter().filter_map(|row| row.training).any(|(_, [a, b])| a != b),
        "{architecture}: to ask for attention maps changes nothing, so no kernel is compared"
    );
}

/// Number of parameters by their shapes; nothing is allocated.
pub fn parameters<M: Module>(model: &M) -> usize {
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
