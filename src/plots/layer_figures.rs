//! Pictures of a model: singular values, and what is kept where.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Axis, Figure, Mark, Panel, Point, Series};
use crate::decompose::singular_values;
use crate::inspect::ModelAccount;
use crate::linear::{Compressible, to_vec};
use crate::{Error, Result};

/// Most lines in one panel: so many colours there are.
const MOST: usize = 8;
/// Most layers whose singular values one picture has room for.
const MOST_LAYERS: usize = 12 * MOST;

/// Singular values of one layer's weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Full name of the layer.
    pub name: String,
    /// Singular values, largest first.
    pub values: Vec<f32>,
}

/// Singular values of the weights that the layers called `names` compute with.
///
/// # Errors
/// If an SVD does not converge, or there are more layers than a picture has room for.
pub fn spectra<M: Compressible>(model: &M, names: &[String]) -> Result<Vec<Spectrum>> {
    if names.len() > MOST_LAYERS {
        let message = format!(
            "{} layers are more than the {MOST_LAYERS} whose singular values one picture has room \
             for; choose fewer",
            names.len()
        );
        return Err(Error::option("layers", message));
    }
    let mut weights = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        if names.iter().any(|wanted| wanted == name) {
            weights.push((name.to_string(), linear.dims(), to_vec(linear.effective_weight())));
        }
    });
    let spectrum = |(name, [rows, columns], values): (String, [usize; 2], Vec<f32>)| {
        let values = singular_values(&values, rows, columns)
            .ok_or_else(|| Error::layer(&name, "its SVD does not converge"))?;
        Ok(Spectrum { name, values })
    };
    weights.into_par_iter().map(spectrum).collect()
}

/// Of the layers called `names`, in a model's order, those to look at: all of a few, else each kind
/// once, from the middle of the model.
pub fn telling_layers(names: &[String]) -> Vec<String> {
    if names.len() <= MOST {
        return names.to_vec();
    }
    let mut kinds: Vec<(String, Vec<&String>)> = Vec::new();
    for name in names {
        let kind = kind_of(name).0;
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, members)) => members.push(name),
            None => kinds.push((kind, vec![name])),
        }
    }
    let middle = kinds.iter().map(|(_, members)| members[members.len() / 2].clone());
    middle.take(MOST).collect()
}

/// A layer's name without the number of its block, and that number.
fn kind_of(name: &str) -> (String, Option<usize>) {
    let mut block = None;
    let parts = name.split('.').filter(|part| match part.parse() {
        Ok(number) => {
            block.get_or_insert(number);
            false
        }
        Err(_) => true,
    });
    (parts.collect::<Vec<_>>().join("."), block)
}

/// The parts that all of `names` begin with, up to a dot.
fn common_prefix(names: &[&str]) -> usize {
    let Some(first) = names.first() else { return 0 };
    let ends = first.match_indices('.').map(|(at, _)| at + 1);
    ends.take_while(|&end| names.iter().all(|n| n.get(..end) == first.get(..end)))
        .last()
        .unwrap_or(0)
}

/// `series` in as few panels like `panel` as there are colours for, none much fuller than another;
/// dashed ones, which others are compared with, in each.
pub(crate) fn in_panels(series: Vec<Series>, panel: &Panel) -> Vec<Panel> {
    let (dashed, series): (Vec<Series>, Vec<Series>) =
        series.into_iter().partition(|series| series.mark == Mark::Dashed);
    let count = series.len().div_ceil(MOST).max(1);
    let share = series.len().div_ceil(count).max(1);
    let panel = |series: &[Series]| Panel {
        series: series.iter().chain(&dashed).cloned().collect(),
        ..panel.clone()
    };
    series.chunks(share).map(panel).collect()
}

/// The singular values of some layers over their index (as figure 2 of Li et al. 2023).
pub fn spectra_figure(title: &str, spectra: &[Spectrum]) -> Figure {
    let names: Vec<&str> = spectra.iter().map(|spectrum| spectrum.name.as_str()).collect();
    let prefix = common_prefix(&names);
    let series = spectra.iter().map(|spectrum| {
        let values = spectrum.values.iter().enumerate();
        let points = values.map(|(at, value)| Point::new((at + 1) as f64, f64::from(*value)));
        Series::new(&spectrum.name[prefix..], Mark::Line, points.collect())
    });
    let panel = Panel {
        x_label: "index".into(),
        y_label: "singular value".into(),
        x: Axis::Whole,
        from_zero: true,
        ..Panel::default()
    };
    Figure { title: title.into(), panels: in_panels(series.collect(), &panel) }
}

/// Share of neurons (or columns) kept in each compressed layer, by block and kind.
pub fn kept_figure(title: &str, account: &ModelAccount) -> Figure {
    let mut kinds: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for (at, layer) in account.selected().enumerate() {
        let (kind, block) = kind_of(&layer.name);
        let share = layer.kept as f64 / layer.groups.max(1) as f64;
        kinds.entry(kind).or_default().push(Point::new(block.unwrap_or(at) as f64, share));
    }
    let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let prefix = common_prefix(&names);
    let series =
        kinds.iter().map(|(kind, points)| Series::new(&kind[prefix..], Mark::Dots, points.clone()));
    let panel = Panel {
        x_label: "block".into(),
        y_label: "neurons kept".into(),
        x: Axis::Whole,
        y: Axis::Percent,
        from_zero: true,
        ..Panel::default()
    };
    Figure { title: title.into(), panels: in_panels(series.collect(), &panel) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use burn::module::Module;
    use burn::tensor::{Device, Tensor, TensorData};

    use crate::inspect::LinearAccount;
    use crate::linear::{CompressibleLinear, CompressibleLinearConfig};

    #[derive(Module, Debug)]
    struct One {
        layer: CompressibleLinear,
    }

    impl Compressible for One {
        fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
            f("layer", &mut self.layer);
        }
    }

    #[test]
    fn singular_values_of_a_scaled_permutation_are_its_scales() {
        let device = Device::default();
        let mut layer = CompressibleLinearConfig::new(2, 3).init(&device);
        if let CompressibleLinear::Dense(linear) = &mut layer {
            let values = TensorData::new(vec![0.0f32, -4.0, 0.0, 3.0, 0.0, 0.0], [2, 3]);
            linear.weight = crate::linear::leaf(Tensor::from_data(values, &device));
        }
        let found = spectra(&One { layer }, &["layer".to_string()]).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].values[0] - 4.0).abs() < 1e-5 && (found[0].values[1] - 3.0).abs() < 1e-5);
        assert_eq!(found[0].values.len(), 2);
    }

    #[test]
    fn every_layer_asked_for_is_drawn() {
        let values = vec![2.0, 1.0];
        let spectra = |count| -> Vec<Spectrum> {
            let names = (0..count).map(|at| format!("layer.{at}.query"));
            names.map(|name| Spectrum { name, values: values.clone() }).collect()
        };
        let sizes = |count| -> Vec<usize> {
            let figure = spectra_figure("spectra", &spectra(count));
            figure.panels.iter().map(|panel| panel.series.len()).collect()
        };
        assert_eq!((sizes(8), sizes(12), sizes(17)), (vec![8], vec![6, 6], vec![6, 6, 5]));
        let figure = spectra_figure("spectra", &spectra(12));
        assert_eq!(figure.panels[1].series[5].name, "11.query");
        assert!(spectra_figure("spectra", &[]).is_empty());
        let layer = CompressibleLinearConfig::new(2, 3).init(&Device::default());
        let names = vec![String::new(); 97];
        let message = super::spectra(&One { layer }, &names).unwrap_err().to_string();
        assert!(message.contains("97 layers are more than the 96"), "{message}");
    }

    #[test]
    fn kinds_and_blocks_are_told_apart() {
        let names: Vec<String> = (0..6)
            .flat_map(|n| ["query", "key"].map(|kind| format!("encoder.layer.{n}.self.{kind}")))
            .collect();
        let chosen = telling_layers(&names);
        assert_eq!(chosen, ["encoder.layer.3.self.query", "encoder.layer.3.self.key"]);
        assert_eq!(telling_layers(&names[..3]), names[..3]);
        let layers = names.iter().enumerate();
        let layers = layers.map(|(at, name)| LinearAccount::planned(name, [8, 10], 1, at % 5));
        let account = ModelAccount { layers: layers.collect(), other_elements: 0 };
        let figure = kept_figure("kept", &account);
        let series = &figure.panels[0].series;
        assert_eq!(series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["key", "query"]);
        assert_eq!(series[0].points[2], Point::new(2.0, 0.0));
        assert_eq!(series[1].points[4], Point::new(4.0, 0.3));
    }
}
