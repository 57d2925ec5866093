//! Loading a model from a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Device;

use super::foreign::foreign_names;
use super::format::{self, Format, config_beside};
use super::head::{check_task, head_of_another_kind};
use super::layer::{self, LayerTensors, SUFFIXES};
use super::names::{named_params, set_params};
use super::source::TensorSource;
use super::view::{Checkpoint, LayerView, narrowed};
use super::{LabelAlignment, LoadOptions, LoadReport, ModelConfig, PretrainedModel};
use crate::linear::{Int8Rows, LayerState};
use crate::{Error, Result, files};

/// Loads a model from a folder in Hugging Face's layout, onto `device`.
///
/// # Errors
/// If a file is missing, damaged or of another architecture, or a tensor is missing, unexpected,
/// misshapen or not finite. The message names it.
pub fn load_pretrained<M: PretrainedModel>(
    folder: impl AsRef<Path>,
    device: &Device,
    options: &LoadOptions,
) -> Result<(M, LoadReport)> {
    let folder = folder.as_ref();
    let config = read_config::<M>(folder)?;
    load_from(config, &TensorSource::open(folder)?, device, options)
}

/// Reads and checks `config.json` of a folder.
///
/// # Errors
/// If it is missing or malformed, or names another architecture.
pub fn read_config<M: PretrainedModel>(folder: &Path) -> Result<M::Config> {
    let path = folder.join("config.json");
    let text = files::read_json_text(&path)?;
    match kind_of(&text, &path)? {
        Some(found) if found != M::MODEL_TYPE => Err(Error::format(
            path,
            format!("model_type: expected `{}`, found `{found}`", M::MODEL_TYPE),
        )),
        _ => {
            let mut config = M::Config::from_json(&text, &path)?;
            format::forget_own(config.other_mut(), M::MODEL_TYPE);
            M::check_config(&config).map_err(|message| Error::format(&path, message))?;
            check_task(&text, config.labels()).map_err(|message| Error::format(&path, message))?;
            Ok(config)
        }
    }
}

/// `model_type` in a folder's `config.json`.
///
/// # Errors
/// If the file is missing or malformed, or does not say.
pub fn model_type(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    let text = files::read_json_text(&path)?;
    let missing = || Error::format(&path, "model_type: missing, so the architecture is unknown");
    kind_of(&text, &path)?.ok_or_else(missing)
}

fn kind_of(config: &str, path: &Path) -> Result<Option<String>> {
    let config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(config).map_err(|e| Error::format(path, e.to_string()))?;
    format::model_type(&config).map_err(|message| Error::format(path, message))
}

/// Loads a model of configuration `config` from tensors anywhere.
///
/// # Errors
/// As [`load_pretrained`].
pub fn load_from<M: PretrainedModel>(
    mut config: M::Config,
    source: &TensorSource,
    device: &Device,
    options: &LoadOptions,
) -> Result<(M, LoadReport)> {
    let config_fault = |message| Error::format(config_beside(source.path()), message);
    let format = Format::of(config.other_mut()).map_err(config_fault)?;
    format.check_weights(source)?;
    format::forget_own(config.other_mut(), M::MODEL_TYPE);
    let checkpoint = Checkpoint::new::<M>(source, &config.sizes_shown())?;
    let other = M::LABEL_LAYER.and_then(|_| head_of_another_kind(config.other_mut()));
    let mut new_head = options.new_head || other.is_some();
    let (mut alignment, mut told) = (None, other);
    if let Some(labels) = &options.labels {
        labels.validate().map_err(|message| Error::option("labels", message))?;
        let trained = |layer| checkpoint.file_name(&format!("{layer}.weight")).is_some();
        if !new_head && M::LABEL_LAYER.is_some_and(trained) {
            let folder = source.path().parent().unwrap_or(source.path());
            alignment = options
                .align(config.labels(), labels)
                .map_err(|mismatch| Error::format(folder, mismatch.to_string()))?;
            told = match &alignment {
                Some(alignment) => alignment.note.clone(),
                None => {
                    let names = config.labels().names().join(", ");
                    Some(format!("the trained head for {names} is left behind"))
                }
            };
        }
        if let (None, Some(called)) = (&alignment, &options.called)
            && *called != labels.names()
        {
            let message = format!(
                "says what the outputs of a trained head stand for, and the head is new; the labels \
                 of the task are {}",
                labels.names().join(", ")
            );
            return Err(Error::option("labels", message));
        }
        new_head |= !options.keep_head && labels.num_labels() != config.labels().num_labels();
        *config.labels_mut() = labels.clone();
    }
    let sizes = config.sizes_shown();
    checkpoint.check_sizes(&sizes).map_err(config_fault)?;
    let model = M::build(&config, &|name| checkpoint.files.contains_key(name), device);
    let mut plan = Plan::new(&model, &checkpoint, new_head, format.is_own(), options)?;
    if !plan.report.left_out_prefix.is_empty() {
        log::warn!("{}", plan.report);
    }
    plan.report.labels = told;
    plan.alignment = alignment;
    plan.int8 = format.computes_in_int8() && !options.floats;
    plan.apply(model, &checkpoint, device)
}

/// A load, checked against names and shapes before any value is read.
struct Plan {
    /// State and `[d_input, d_output]` of every compressible layer.
    layers: BTreeMap<String, (LayerState, [usize; 2])>,
    new: BTreeSet<String>,
    /// Order of the outputs of a trained head for the labels at hand.
    alignment: Option<LabelAlignment>,
    /// Whether layers that are stored in 8-bit integers compute in them.
    int8: bool,
    report: LoadReport,
}

impl Plan {
    fn new<M: PretrainedModel>(
        model: &M,
        checkpoint: &Checkpoint,
        new_head: bool,
        own_format: bool,
        options: &LoadOptions,
    ) -> Result<Self> {
        let mut used = BTreeSet::new();
        let Params { new, mut absent, mut faults, count: mut parts } =
            Params::check(model, checkpoint, new_head, &mut used);
        let narrowed = if own_format { narrowed(model, checkpoint) } else { BTreeMap::new() };
        let mut layers = BTreeMap::new();
        model.for_each_linear(&mut |name, linear| {
            let view = LayerView { checkpoint, layer: name };
            for suffix in SUFFIXES {
                used.insert(checkpoint.key(&format!("{name}.{suffix}")).to_string());
            }
            let dims = narrowed.get(name).copied().unwrap_or(linear.dims());
            parts += 1;
            if !SUFFIXES.iter().any(|suffix| view.shape(suffix).is_some()) {
                absent.push((format!("{name}.weight"), vec![dims[1], dims[0]]));
            }
            match layer::plan(name, &view, dims, has_bias(linear)) {
                Ok(state) if state != LayerState::Dense && !own_format => {
                    faults.push(Error::layer(name, NOT_OWN));
                }
                Ok(state) => {
                    layers.insert(name.to_string(), (state, dims));
                }
                Err(error) => faults.push(error),
            }
        });
        let path = checkpoint.source.path();
        let unused = checkpoint.files.iter().filter(|(name, _)| !used.contains(*name));
        let mut report = LoadReport {
            source: path.to_path_buf(),
            newly_initialised: new.iter().cloned().collect(),
            unused: unused.clone().map(|(_, file_name)| file_name.clone()).collect(),
            tensors: checkpoint.files.len(),
            left_out_prefix: checkpoint.wrapper.clone(),
            compressed_layers: layers
                .iter()
                .filter(|(name, (s, _))| *s != LayerState::Dense || narrowed.contains_key(*name))
                .count(),
            ..LoadReport::default()
        };
        let unexpected = unused.filter(|(name, _)| !M::may_be_unused(name));
        let unexpected = unexpected.map(|(_, file_name)| {
            let shape = checkpoint.source.shape(file_name).unwrap_or_default();
            (file_name.clone(), shape.to_vec())
        });
        let unexpected: Vec<_> = unexpected.collect();
        if 2 * absent.len() > parts && 2 * unexpected.len() > absent.len() {
            return Err(foreign_names(path, M::ARCHITECTURE, &absent, &unexpected));
        }
        if let Some(name) = checkpoint.source.quantized().next().filter(|_| !own_format) {
            faults.push(Error::layer(name, NOT_OWN));
        }
        if !options.allow_unexpected {
            let message =
                format!("unexpected tensor in {}: the model has no place for it", path.display());
            faults.extend(unexpected.iter().map(|(name, _)| Error::layer(name, &message)));
        }
        one_error(checkpoint.source.path(), faults)?;
        report.tensors -= report.unused.len();
        Ok(Self { layers, new, alignment: None, int8: false, report })
    }

    fn apply<M: PretrainedModel>(
        self,
        model: M,
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<(M, LoadReport)> {
        let of_labels = |name: &str| {
            M::LABEL_LAYER.is_some_and(|layer| {
                let suffix = name.strip_prefix(layer);
                matches!(suffix, Some(".weight" | ".bias"))
            })
        };
        let mut embeddings = BTreeMap::new();
        let mut result = Ok(());
        model.clone().for_each_embedding_mut(&mut |name, _| {
            let name = format!("{name}.weight");
            let Some(file_name) = checkpoint.file_name(&name).filter(|_| self.int8) else { return };
            match checkpoint.source.read_int8(file_name) {
                Ok(Some(rows)) => drop(embeddings.insert(name, rows)),
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
        });
        result?;
        let mut model = set_params(model, &M::hugging_face_name, &|param| match checkpoint
            .file_name(&param.name)
        {
            // Never in floats.
            Some(_) if embeddings.contains_key(&param.name) => Ok(None),
            Some(file_name) if !self.new.contains(&param.name) => {
                let values = checkpoint.source.read(file_name)?;
                Ok(Some(match &self.alignment {
                    Some(alignment) if of_labels(&param.name) => alignment.permute(values),
                    _ => values,
                }))
            }
            _ => Ok(None),
        })?;
        let mut result = Ok(());
        model.for_each_linear_mut(&mut |name, linear| {
            let Some(&(state, dims)) = self.layers.get(name) else { return };
            if result.is_err() {
                return;
            }
            let view = LayerView { checkpoint, layer: name };
            match layer::read(name, &view, state, dims, has_bias(linear), self.int8, device) {
                Ok(loaded) => *linear = loaded,
                Err(error) => result = Err(error),
            }
        });
        model.for_each_embedding_mut(&mut |name, embedding| {
            if let Some((levels, scales)) = embeddings.remove(&format!("{name}.weight")) {
                *embedding = Int8Rows::new(levels, scales, device).on_backend();
            }
        });
        result.map(|()| (model, self.report))
    }
}

/// The parameters outside compressible layers, checked.
#[derive(Default)]
struct Params {
    new: BTreeSet<String>,
    /// Names and shapes of those that the checkpoint lacks, though it should have them.
    absent: Vec<(String, Vec<usize>)>,
    faults: Vec<Error>,
    /// Number of all.
    count: usize,
}

impl Params {
    fn check<M: PretrainedModel>(
        model: &M,
        checkpoint: &Checkpoint,
        new_head: bool,
        used: &mut BTreeSet<String>,
    ) -> Self {
        let mut params = Self::default();
        for param in named_params(model, &M::hugging_face_name) {
            let found = checkpoint.file_name(&param.name).and_then(|n| checkpoint.source.shape(n));
            used.insert(checkpoint.key(&param.name).to_string());
            params.count += 1;
            match found {
                // The pooler is part of a pretrained model: only the layers behind it are replaced.
                _ if new_head && M::is_head(&param.name) => {
                    params.new.insert(param.name);
                }
                None if M::may_be_new(&param.name) => {
                    params.new.insert(param.name);
                }
                None => {
                    params.faults.push(layer::missing(&param.name, &param.shape));
                    params.absent.push((param.name, param.shape));
                }
                Some(found) if found != param.shape => {
                    params.faults.push(layer::misshapen(&param.name, &param.shape, found));
                }
                Some(_) => {}
            }
        }
        params
    }
}

/// Message about compressed weights in a folder whose configuration does not announce them.
const NOT_OWN: &str = "is compressed or of 8-bit integers, but config.json does not say that losparse \
                       wrote it (no losparse object of such weights); restore the config.json that \
                       was written with the weights";

/// Joins all faults of the tensors of a checkpoint in one error; if there are very many, the first.
fn one_error(path: &Path, mut faults: Vec<Error>) -> Result<()> {
    const TOLD: usize = 20;
    if faults.len() < 2 {
        return faults.pop().map_or(Ok(()), Err);
    }
    let mut lines: Vec<String> =
        faults.iter().take(TOLD).map(|fault| format!("\n  {fault}")).collect();
    if faults.len() > TOLD {
        lines.push(format!("\n  … and {} more", faults.len() - TOLD));
    }
    let message = format!("{} tensors are wrong:{}", faults.len(), lines.concat());
    Err(Error::format(path, message))
}

/// Whether a freshly built layer has a bias.
fn has_bias(linear: &crate::linear::CompressibleLinear) -> bool {
    matches!(linear, crate::linear::CompressibleLinear::Dense(dense) if dense.bias.is_some())
}
