//! A recorded run, and a model to replay it with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{LoadOptions, SaveOptions, TensorSource, model_type};
use losparse::linear::Compressible;
use losparse::models::{
    AnySeq2Seq, AnySequenceClassifier, EncoderInput, FolderModel, Labels, ProblemType,
    Seq2SeqInput, language_model_loss,
};
use losparse::pruning::{Importance, PruningConfig, Reduction, Schedule, Structure};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Value, json};

/// Shapes and values of tensors by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[derive(Deserialize)]
pub struct Trace {
    pub method: Method,
    pub optimizer: OptimizerSettings,
    pub compressed_layers: Vec<String>,
    pub steps: Vec<Step>,
    pub eval_loss: f64,
}

#[derive(Deserialize)]
pub struct Method {
    pub low_rank_parameter_ratio: f64,
    initial_ratio: f64,
    final_ratio: f64,
    beta1: f64,
    beta2: f64,
    interval: usize,
    initial_warmup_steps: usize,
    final_warmup_steps: usize,
    total_steps: usize,
    importance: String,
    pub reduction: String,
    direction: String,
}

#[derive(Deserialize)]
pub struct OptimizerSettings {
    pub name: String,
    pub betas: [f32; 2],
    pub eps: f32,
    pub weight_decay: f32,
}

#[derive(Deserialize)]
pub struct Step {
    pub lr: f64,
    pub loss: f64,
    pub keep_ratio: f64,
    pub mask_threshold: Option<f64>,
    pub kept_rows: BTreeMap<String, usize>,
}

impl Method {
    pub fn pruning(&self) -> Result<PruningConfig, String> {
        let unknown =
            |what: &str, value: &str| Err(format!("trace.json: unknown {what} `{value}`"));
        let mut config = PruningConfig::new(Schedule {
            initial_keep_ratio: self.initial_ratio,
            final_keep_ratio: self.final_ratio,
            initial_warmup_steps: self.initial_warmup_steps,
            final_warmup_steps: self.final_warmup_steps,
            total_steps: self.total_steps,
            interval: self.interval,
            curve: losparse::pruning::Curve::Cubic,
        });
        (config.beta1, config.beta2) = (self.beta1, self.beta2);
        config.importance = match self.importance.as_str() {
            "PLATON" => Importance::Sensitivity,
            "Magnitude" => Importance::Magnitude,
            other => return unknown("importance", other),
        };
        config.structure = match self.direction.as_str() {
            "row" => Structure::Neurons,
            "col" => Structure::Inputs,
            other => return unknown("direction", other),
        };
        match self.reduction.as_str() {
            "mean" => config.reduction = Reduction::Mean,
            "sum" => config.reduction = Reduction::Sum,
            "max" => config.reduction = Reduction::Max,
            "min" => config.reduction = Reduction::Min,
            "none" => config.structure = Structure::Unstructured,
            other => return unknown("reduction", other),
        }
        Ok(config)
    }
}

/// The files of one run.
pub struct Run {
    pub folder: PathBuf,
    pub trace: Trace,
    pub model_type: String,
    /// Whether the model generates text: then labels are the decoder's tokens.
    pub encoder_decoder: bool,
}

impl Run {
    pub fn open(folder: &Path) -> Result<Self, String> {
        let read =
            |name: &str| fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"));
        let trace =
            serde_json::from_str(&read("trace.json")?).map_err(|e| format!("trace.json: {e}"))?;
        let config: serde_json::Value =
            serde_json::from_str(&read("config.json")?).map_err(|e| format!("config.json: {e}"))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            trace,
            model_type: model_type(folder).map_err(|e| e.to_string())?,
            encoder_decoder: config["is_encoder_decoder"].as_bool().unwrap_or(false),
        })
    }

    /// Whether the library has this architecture.
    pub fn supported(&self) -> bool {
        let model_type = self.model_type.as_str();
        match self.encoder_decoder {
            true => AnySeq2Seq::SUPPORTED.contains(&model_type),
            false => AnySequenceClassifier::SUPPORTED.contains(&model_type),
        }
    }

    pub fn open_tensors(&self, name: &str) -> losparse::Result<TensorSource> {
        TensorSource::open(self.folder.join(format!("{name}.safetensors")))
    }

    /// The tensors of a file under this library's names, without empty ones.
    pub fn tensors(&self, name: &str) -> losparse::Result<Tensors> {
        let source = self.open_tensors(name)?;
        let mut tensors = read_all(&source)?;
        tensors.retain(|_, (_, values)| !values.is_empty());
        Ok(tensors.into_iter().map(|(name, tensor)| (own_name(&name), tensor)).collect())
    }

    /// The dense model before decomposition.
    pub fn initial<M: Replayed>(&self, device: &Device) -> losparse::Result<M> {
        self.model(&self.tensors("initial")?, device)
    }

    /// The model that the recorded training began with.
    pub fn decomposed<M: Replayed>(&self, device: &Device) -> losparse::Result<M> {
        let mut tensors = self.tensors("initial")?;
        for layer in &self.trace.compressed_layers {
            tensors.remove(&format!("{layer}.weight"));
        }
        tensors.extend(self.tensors("decomposed")?);
        self.model(&tensors, device)
    }

    fn model<M: Replayed>(&self, tensors: &Tensors, device: &Device) -> losparse::Result<M> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = self.folder.join("config.json");
        let mut config: Value =
            serde_json::from_str(&fs::read_to_string(config).expect("config.json read"))
                .expect("config.json is JSON");
        // Format version 1, which has no checksum.
        config["losparse"] = json!({"format_version": 1});
        fs::write(folder.path().join("config.json"), config.to_string())
            .expect("config.json written");
        let bytes: BTreeMap<&String, (&Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, (shape, v))| {
                (name, (shape, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
            })
            .collect();
        let views = bytes.iter().map(|(name, (shape, bytes))| {
            (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a sound tensor"))
        });
        let file = safetensors::serialize(views, None).expect("sound tensors");
        fs::write(folder.path().join("model.safetensors"), file)
            .expect("model.safetensors written");
        M::open(folder.path(), device)
    }

    /// The batch of a step, or `eval`.
    pub fn batch(
        &self,
        batches: &TensorSource,
        step: &str,
        device: &Device,
    ) -> losparse::Result<Batch> {
        let ints = |name: &str| -> losparse::Result<Tensor<2, Int>> {
            let name = format!("{step}.{name}");
            let values = batches.read_int(&name)?;
            let shape = batches.shape(&name).unwrap_or_default().to_vec();
            Ok(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let input =
            EncoderInput::new(ints("input_ids")?).with_attention_mask(ints("attention_mask")?);
        Ok(Batch { input, labels: format!("{step}.labels") })
    }
}

pub struct Batch {
    input: EncoderInput,
    labels: String,
}

/// A model that can be replayed.
pub trait Replayed: Compressible {
    /// The model of a folder.
    fn open(folder: &Path, device: &Device) -> losparse::Result<Self>;

    /// Writes the model to a folder.
    fn write(&self, folder: &Path) -> losparse::Result<()>;

    /// Logits, and the loss `[1]`.
    fn logits_and_loss(
        &self,
        batch: Batch,
        batches: &TensorSource,
    ) -> losparse::Result<(Vec<f32>, Tensor<1>)>;

    /// All parameters under Hugging Face's names and in its orientation.
    fn tensors(&self) -> losparse::Result<Tensors> {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("model");
        self.write(&folder)?;
        read_all(&TensorSource::open(folder)?)
    }
}

impl Replayed for AnySeq2Seq {
    fn open(folder: &Path, device: &Device) -> losparse::Result<Self> {
        Self::load(folder, device, &LoadOptions::default()).map(|(model, _)| model)
    }

    fn write(&self, folder: &Path) -> losparse::Result<()> {
        self.save(folder, &SaveOptions::default())
    }

    fn logits_and_loss(
        &self,
        batch: Batch,
        batches: &TensorSource,
    ) -> losparse::Result<(Vec<f32>, Tensor<1>)> {
        let device = batch.input.input_ids.device();
        let shape = batches.shape(&batch.labels).unwrap_or_default().to_vec();
        let data = TensorData::new(batches.read_int(&batch.labels)?, shape);
        let labels = Tensor::<2, Int>::from_data(data, &device);
        let input = self.teacher_forced(Seq2SeqInput::new(batch.input), labels.clone());
        let logits = self.forward(input);
        let loss = language_model_loss(logits.clone(), labels, 0.0);
        Ok((logits.into_data().convert::<f32>().iter::<f32>().collect(), loss))
    }
}

impl Replayed for AnySequenceClassifier {
    fn open(folder: &Path, device: &Device) -> losparse::Result<Self> {
        Self::load(folder, device, &LoadOptions::default()).map(|(model, _)| model)
    }

    fn write(&self, folder: &Path) -> losparse::Result<()> {
        self.save(folder, &SaveOptions::default())
    }

    fn logits_and_loss(
        &self,
        batch: Batch,
        batches: &TensorSource,
    ) -> losparse::Result<(Vec<f32>, Tensor<1>)> {
        let logits = self.forward(batch.input);
        let device = logits.device();
        let [rows, width] = logits.dims();
        let labels = match self.labels().problem_type() {
            ProblemType::SingleLabelClassification => {
                let classes = batches.read_int(&batch.labels)?;
                Labels::Classes(Tensor::from_data(TensorData::new(classes, [rows]), &device))
            }
            _ => {
                // Targets of a regression may be recorded as integers.
                let whole = |v: Vec<i64>| v.into_iter().map(|v| v as f32).collect();
                let values = batches
                    .read_int(&batch.labels)
                    .map_or_else(|_| batches.read(&batch.labels), |values| Ok(whole(values)))?;
                Labels::Values(Tensor::from_data(TensorData::new(values, [rows, width]), &device))
            }
        };
        let loss = self.loss(logits.clone(), labels);
        Ok((logits.into_data().convert::<f32>().iter::<f32>().collect(), loss))
    }
}

fn read_all(source: &TensorSource) -> losparse::Result<Tensors> {
    let names: BTreeSet<String> = source.names().map(str::to_string).collect();
    let read = |name: String| {
        let shape = source.shape(&name).unwrap_or_default().to_vec();
        let values = if shape.contains(&0) { Vec::new() } else { source.read(&name)? };
        Ok((name, (shape, values)))
    };
    names.into_iter().map(read).collect()
}

/// Names of the published code in this library: `layer.left.weight` is `layer.left`; likewise
/// `right`, `sparse`.
pub fn own_name(recorded: &str) -> String {
    let part = [".left", ".right", ".sparse"]
        .into_iter()
        .find_map(|part| recorded.strip_suffix(&format!("{part}.weight")).map(|l| (l, part)));
    part.map_or_else(|| recorded.to_string(), |(layer, part)| format!("{layer}{part}"))
}

/// Biases of BERT's and BART's key projections. Because of the softmax their gradient is zero, so
/// recorded values are rounding noise.
pub fn is_key_bias(name: &str) -> bool {
    name.ends_with(".key.bias") || name.ends_with(".k_proj.bias")
}
