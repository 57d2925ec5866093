//! DeBERTa-v2 beyond parity: loading, layers, counts, compaction, results that inference keeps.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor};
use losparse::checkpoint::{LoadOptions, TensorSource, load_pretrained};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::linear::{Compressible, CompressibleLinear, LayerSelection, linear_names};
use losparse::models::deberta_v2::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
    DebertaV2Model,
};
use losparse::models::{
    AnySequenceClassifier, EncoderInput, FolderModel, LabelConfig, ModelConfig,
};

use super::deberta_parity::{expected, load};
use super::parity::{fixture, ints, parameters};

#[test]
fn a_new_classifier_keeps_the_pooler() {
    let options = LoadOptions { labels: Some(LabelConfig::numbered(5)), ..LoadOptions::default() };
    let (model, report) =
        AnySequenceClassifier::load(fixture("deberta_v2", "v3"), &Device::default(), &options)
            .unwrap();
    assert_eq!(report.newly_initialised, ["classifier.bias", "classifier.weight"]);
    assert_eq!(model.labels().num_labels(), 5);
}

/// Heads of pretraining and buffers are reported; any other unknown tensor is an error.
#[test]
fn what_old_checkpoints_hold_besides() {
    let (_, report) = load_pretrained::<DebertaV2ForSequenceClassification>(
        fixture("deberta_v2", "old_names"),
        &Device::default(),
        &LoadOptions::default(),
    )
    .unwrap();
    let unused = [
        "cls.predictions.bias",
        "deberta.embeddings.position_embeddings.weight",
        "deberta.embeddings.position_ids",
        "lm_predictions.lm_head.dense.weight",
        "mask_predictions.classifier.weight",
    ];
    assert_eq!(report.unused.len(), unused.len(), "{report}");
    assert!(unused.iter().all(|name| report.unused.iter().any(|found| found == name)), "{report}");
    // The head of another task is ignored, and a new one begun.
    let (_, report) = load_pretrained::<DebertaV2ForSequenceClassification>(
        fixture("deberta_v2", "answers"),
        &Device::default(),
        &LoadOptions::default(),
    )
    .unwrap();
    assert!(report.unused.iter().all(|name| name.starts_with("qa_outputs.")), "{report}");
    assert_eq!((report.unused.len(), report.newly_initialised.len()), (2, 4), "{report}");
    let (_, report) = load_pretrained::<DebertaV2ForQuestionAnswering>(
        fixture("deberta_v2", "v2_conv"),
        &Device::default(),
        &LoadOptions::default(),
    )
    .unwrap();
    let heads = ["classifier.", "pooler."];
    let of_a_head = |name: &String| heads.iter().any(|head| name.starts_with(head));
    assert!(report.unused.len() == 4 && report.unused.iter().all(of_a_head), "{report}");
    assert_eq!(report.newly_initialised.len(), 2, "{report}");
}

#[test]
fn layers_are_named_as_in_the_checkpoint_in_the_order_of_computation() {
    let model: DebertaV2ForSequenceClassification = load("v2_conv", &Device::default());
    let names = linear_names(&model);
    assert_eq!(names.len(), 3 * 6);
    assert_eq!(
        names[6..12],
        [
            "deberta.encoder.layer.1.attention.self.query_proj",
            "deberta.encoder.layer.1.attention.self.key_proj",
            "deberta.encoder.layer.1.attention.self.value_proj",
            "deberta.encoder.layer.1.attention.output.dense",
            "deberta.encoder.layer.1.intermediate.dense",
            "deberta.encoder.layer.1.output.dense",
        ]
    );
    let source = TensorSource::open(fixture("deberta_v2", "v2_conv")).unwrap();
    assert!(names.iter().all(|name| source.contains(&format!("{name}.weight"))));
}

/// Counts from shapes; none of these models is allocated.
#[test]
fn published_models_have_as_many_parameters() {
    #[derive(serde::Deserialize)]
    struct Published {
        config: serde_json::Value,
        parameters: BTreeMap<String, usize>,
    }
    let text = std::fs::read_to_string(fixture("deberta_v2", "published.json")).unwrap();
    let models: BTreeMap<String, Published> = serde_json::from_str(&text).unwrap();
    assert_eq!(models.len(), 7);
    let device = Device::default();
    for (name, Published { config, parameters: counts }) in models {
        let config = DebertaV2Config::from_json(&config.to_string(), Path::new(&name)).unwrap();
        for (kind, expected) in counts {
            let found = match kind.as_str() {
                "bare" => parameters(&DebertaV2Model::new(&config, &device)),
                "qa" => parameters(&DebertaV2ForQuestionAnswering::new(&config, &device)),
                _ => parameters(&DebertaV2ForSequenceClassification::new(&config, &device)),
            };
            println!("{name}, {kind}: {found} parameters");
            assert_eq!(found, expected, "{name}, {kind}");
        }
    }
}

/// Multiplies every parameter.
struct Scale(f64);

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor * self.0)
    }
}

/// Inference keeps projections of positions, never those of other weights, and for all lengths.
#[test]
fn kept_projections_are_those_of_the_weights() {
    let device = Device::default();
    let host = |tensor: Tensor<2>| tensor.into_data().try_into_vec::<f32>().unwrap();
    for name in ["v3", "own"] {
        let long = EncoderInput::new(ints(&expected(name), "input_ids", &device).unwrap());
        let short = EncoderInput::new(long.input_ids.clone().narrow(1, 0, 3));
        let fresh = || load::<DebertaV2ForSequenceClassification>(name, &device);
        let model = fresh();
        let first = host(model.forward(long.clone()));
        assert_eq!(host(model.forward(long.clone())), first);
        assert_eq!(host(model.forward(short.clone())), host(fresh().forward(short)));
        let changed = host(model.map(&mut Scale(1.1)).forward(long.clone()));
        assert_eq!(changed, host(fresh().map(&mut Scale(1.1)).forward(long)));
        assert_ne!(changed, first);
    }
}

/// Every layer's position projections go through the compressed layers, shared or not.
#[test]
fn compacted_models_compute_what_the_training_form_does() {
    let device = Device::default();
    for name in ["v3", "own", "v2_conv"] {
        let model: DebertaV2ForSequenceClassification = load(name, &device);
        let ids = ints(&expected(name), "input_ids", &device).unwrap();
        let dense = model.forward(EncoderInput::new(ids.clone()));
        let config = DecomposeConfig::new(Rank::Fixed(2));
        let (mut model, _) = decompose(model, &LayerSelection::all(), config).unwrap();
        let decomposed = model.forward(EncoderInput::new(ids.clone()));
        assert!(largest_difference(&decomposed, &dense) < 1e-5);
        // Two thirds of the neurons of every layer are pruned.
        model.for_each_linear_mut(&mut |_, linear| {
            let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("decomposed") };
            let sparse = layer.sparse.take().unwrap().val();
            let pruned = Tensor::<1, Int>::arange(0..sparse.dims()[1] as i64, &device);
            let pruned = pruned.remainder_scalar(3).greater_elem(0).unsqueeze::<2>();
            let pruned = pruned.expand(sparse.dims());
            layer.sparse = Some(Param::from_tensor(sparse.mask_fill(pruned, 0.0)));
        });
        let pruned = model.forward(EncoderInput::new(ids.clone()));
        assert!(largest_difference(&pruned, &dense) > 1e-2, "pruning changes the model");
        let (small, report) = compact(model);
        assert!(report.iter().all(|layer| layer.state.name() == "compact"), "{report:?}");
        for _ in 0..2 {
            let logits = small.forward(EncoderInput::new(ids.clone()));
            assert!(largest_difference(&logits, &pruned) < 1e-5);
        }
    }
}

fn largest_difference(a: &Tensor<2>, b: &Tensor<2>) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar()
}
