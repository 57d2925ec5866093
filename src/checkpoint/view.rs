//! The tensors of a checkpoint under the names that the models here use.

use std::collections::BTreeMap;

use super::layer::LayerTensors;
use super::source::TensorSource;
use super::{PretrainedModel, Shown, SizeShown};
use crate::{Error, Result};

/// Tensors of the file by name, without prefixes and old names.
pub(super) struct Checkpoint<'a> {
    pub(super) source: &'a TensorSource,
    /// Name here → name in the file.
    pub(super) files: BTreeMap<String, String>,
    /// Prefix of all names in the file that no model has, such as `module.`.
    pub(super) wrapper: String,
    /// The base model's prefix.
    prefix: &'static str,
}

impl<'a> Checkpoint<'a> {
    /// # Errors
    /// If two tensors are the same parameter, or tied ones differ.
    pub(super) fn new<M: PretrainedModel>(
        source: &'a TensorSource,
        sizes: &[SizeShown],
    ) -> Result<Self> {
        let mut files = BTreeMap::new();
        let wrapper = wrapper(source, M::BASE_PREFIX, sizes);
        for file_name in source.names() {
            let name = &file_name[wrapper.len()..];
            let name = name.strip_prefix(M::BASE_PREFIX).unwrap_or(name);
            // TensorFlow's names of a layer normalisation's parameters.
            let name = match name.strip_suffix("LayerNorm.gamma") {
                Some(layer) => format!("{layer}LayerNorm.weight"),
                None => match name.strip_suffix("LayerNorm.beta") {
                    Some(layer) => format!("{layer}LayerNorm.bias"),
                    None => name.to_string(),
                },
            };
            if let Some(first) = files.insert(name, file_name.to_string()) {
                let message = format!("tensors {first} and {file_name} are the same parameter");
                return Err(Error::format(source.path(), message));
            }
        }
        for (name, others) in M::TIED {
            tie(source, &mut files, name, others)?;
        }
        Ok(Self { source, files, wrapper, prefix: M::BASE_PREFIX })
    }

    /// Name in the file of a parameter, given by its full name.
    pub(super) fn file_name(&self, name: &str) -> Option<&str> {
        self.files.get(self.key(name)).map(String::as_str)
    }

    pub(super) fn key<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }

    /// Compares the sizes in the configuration with those of tensors, before anything is built. The message
    /// starts with the name of the field.
    pub(super) fn check_sizes(&self, sizes: &[SizeShown]) -> Result<(), String> {
        for size in sizes {
            let (field, value) = (size.field, size.value);
            match size.shown {
                Shown::Axis { tensor, axis, beyond } => {
                    let Some(name) = self.files.get(tensor) else { continue };
                    let stored = self.source.shape(name).and_then(|shape| shape.get(axis));
                    let Some(&stored) = stored else { continue };
                    if stored != value.saturating_add(beyond) {
                        let stored = match beyond {
                            0 => stored.to_string(),
                            _ => format!("{stored} − {beyond}"),
                        };
                        return Err(format!(
                            "{field}: {value}, but by the weights it is {stored} (axis {axis} of \
                             {name})"
                        ));
                    }
                }
                Shown::Layers(prefix) => {
                    let of_layers = self.files.keys().filter_map(|name| name.strip_prefix(prefix));
                    let number = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
                    let stored = of_layers.filter_map(number).max().map_or(0, |last| last + 1);
                    // The load itself reports more layers in the file than in the configuration (as
                    // unexpected tensors) and none at all (as other names); it builds no more than it
                    // could have found.
                    if value > stored && (stored > 0 || value > self.files.len()) {
                        return Err(format!(
                            "{field}: {value}, but the weights have {stored} layers ({prefix}…)"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Prefix of all names in front of those of a model, as left by `DataParallel`, `torch.compile`,
/// training frameworks, or by saving a model inside another one.
fn wrapper(source: &TensorSource, base: &str, sizes: &[SizeShown]) -> String {
    let names: Vec<&str> = source.names().collect();
    let is_known = |name: &str| {
        let name = name.strip_prefix(base).unwrap_or(name);
        sizes.iter().any(|size| matches!(size.shown, Shown::Axis { tensor, .. } if tensor == name))
    };
    let mut wrapper = String::new();
    while !names.iter().any(|name| is_known(&name[wrapper.len()..])) {
        let first = names.first().and_then(|name| name[wrapper.len()..].split_once('.'));
        let Some((first, _)) = first else { return String::new() };
        wrapper = format!("{wrapper}{first}.");
        if !names.iter().all(|name| name.starts_with(&wrapper)) {
            return String::new();
        }
    }
    wrapper
}

/// Finds a tied parameter under any of its names; all that are there must hold the same.
fn tie(
    source: &TensorSource,
    files: &mut BTreeMap<String, String>,
    name: &str,
    others: &[&str],
) -> Result<()> {
    let stored: Vec<String> =
        others.iter().filter_map(|other| files.get(*other).cloned()).collect();
    let first = match files.get(name) {
        Some(first) => first.clone(),
        None => {
            let Some(other) = others.iter().find(|other| files.contains_key(**other)) else {
                return Ok(());
            };
            let Some(first) = files.remove(*other) else { return Ok(()) };
            files.insert(name.to_string(), first.clone());
            first
        }
    };
    for other in stored {
        if other != first && !source.are_equal(&first, &other)? {
            let message = format!(
                "is not the same as {first}, but the two are one matrix here (tied embeddings); a \
                 model with a matrix of its own in this place is not supported"
            );
            return Err(Error::layer(other, message));
        }
    }
    Ok(())
}

/// Tensors of one layer in a checkpoint.
pub(super) struct LayerView<'a> {
    pub(super) checkpoint: &'a Checkpoint<'a>,
    pub(super) layer: &'a str,
}

impl LayerView<'_> {
    fn file_name(&self, suffix: &str) -> Result<&str> {
        let name = format!("{}.{suffix}", self.layer);
        let missing = || Error::layer(&name, "missing from the checkpoint");
        self.checkpoint.file_name(&name).ok_or_else(missing)
    }
}

impl LayerTensors for LayerView<'_> {
    fn shape(&self, suffix: &str) -> Option<Vec<usize>> {
        let name = self.checkpoint.file_name(&format!("{}.{suffix}", self.layer))?;
        self.checkpoint.source.shape(name).map(<[usize]>::to_vec)
    }

    fn read(&self, suffix: &str) -> Result<Vec<f32>> {
        self.checkpoint.source.read(self.file_name(suffix)?)
    }

    fn read_int(&self, suffix: &str) -> Result<Vec<i64>> {
        self.checkpoint.source.read_int(self.file_name(suffix)?)
    }

    fn read_int8(&self, suffix: &str) -> Result<Option<(Vec<i8>, Vec<f32>)>> {
        self.checkpoint.source.read_int8(self.file_name(suffix)?)
    }
}

/// `[d_input, d_output]` of the layers of those feed-forward networks that a checkpoint has narrower
/// than the model's configuration.
pub(super) fn narrowed<M: PretrainedModel>(
    model: &M,
    checkpoint: &Checkpoint,
) -> BTreeMap<String, [usize; 2]> {
    let mut narrowed = BTreeMap::new();
    model.clone().for_each_feed_forward_mut(&mut |pair| {
        let [inner, outer] = pair.names;
        let ([d_input, _], [_, d_output]) = (pair.inner.dims(), pair.outer.dims());
        let view = |layer, suffix| LayerView { checkpoint, layer }.shape(suffix);
        let axis = |shape: Option<Vec<usize>>, axis: usize| {
            shape.filter(|shape| shape.len() == 2).map(|shape| shape[axis])
        };
        // Rows are neurons, whether all inputs are stored or only those that are not zero. If no neurons
        // are stored, the inputs of the next layer tell.
        let stored = view(inner, "weight").or_else(|| view(inner, "kept_columns"));
        let taken = || view(outer, "weight").or_else(|| view(outer, "kept_weight"));
        let width = match view(inner, "kept_weight") {
            Some(_) => axis(taken(), 1),
            None => axis(stored, 0),
        };
        // A bias of another length is damage, which the check of the layer reports.
        let whole = view(inner, "bias").map(|shape| shape.iter().product());
        if let Some(width) = width.filter(|width| (1..pair.width).contains(width))
            && whole.is_none_or(|bias: usize| bias == width)
        {
            narrowed.insert(inner.to_string(), [d_input, width]);
            narrowed.insert(outer.to_string(), [width, d_output]);
        }
    });
    narrowed
}
