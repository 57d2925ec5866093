use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, TensorData};

use super::*;
use crate::models::bert::BertForSequenceClassification;
use crate::models::deberta_v2::DebertaV2ForSequenceClassification;
use crate::models::mpnet::MpnetForSequenceClassification;
use crate::models::{AnySequenceClassifier, Labels, ModelConfig};

const LENGTHS: [usize; 4] = [9, 4, 1, 7];
/// One more than the longest, as where lengths are rounded up.
const LENGTH: usize = 10;

fn config<C: ModelConfig>(own: serde_json::Value) -> C {
    let mut config = serde_json::json!({
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 16, "num_labels": 3,
        "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    });
    config.as_object_mut().unwrap().append(&mut own.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn models(device: &Device) -> Vec<(&'static str, AnySequenceClassifier)> {
    let bert = BertForSequenceClassification::new(&config(serde_json::json!({})), device);
    let mpnet = config(serde_json::json!({"pad_token_id": 1}));
    let mpnet = MpnetForSequenceClassification::new(&mpnet, device);
    let deberta = |own: serde_json::Value| {
        let mut all = serde_json::json!({
            "relative_attention": true, "position_buckets": 6, "pos_att_type": "c2p|p2c",
            "norm_rel_ebd": "layer_norm", "position_biased_input": false,
        });
        all.as_object_mut().unwrap().append(&mut own.as_object().unwrap().clone());
        let model = DebertaV2ForSequenceClassification::new(&config(all), device);
        AnySequenceClassifier::DebertaV2(model)
    };
    vec![
        ("bert", AnySequenceClassifier::Bert(bert)),
        ("mpnet", AnySequenceClassifier::Mpnet(mpnet)),
        ("deberta", deberta(serde_json::json!({"share_att_key": true}))),
        ("deberta, own", deberta(serde_json::json!({"pos_att_type": "p2c"}))),
        ("deberta, absolute", deberta(serde_json::json!({"relative_attention": false}))),
        ("deberta, convolution", deberta(serde_json::json!({"conv_kernel_size": 3}))),
    ]
}

fn input(device: &Device) -> EncoderInput {
    let ids: Vec<i64> =
        (0..LENGTHS.len() * LENGTH).map(|at| ((at * at * 31 + at * 7) % 45 + 5) as i64).collect();
    let mask = LENGTHS.iter().flat_map(|&tokens| (0..LENGTH).map(move |at| i64::from(at < tokens)));
    let ints = |values: Vec<i64>| {
        let values = TensorData::new(values, [LENGTHS.len(), LENGTH]);
        Tensor::<2, Int>::from_data(values, device)
    };
    EncoderInput::new(ints(ids)).with_attention_mask(ints(mask.collect()))
}

struct Gradients<'a>(&'a GradientsParams, Vec<Vec<f32>>);

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.0.get::<D>(param.id);
        self.1.push(gradient.map_or(Vec::new(), |grad| grad.try_into_vec_as().unwrap()));
    }
}

/// Logits and the gradients of all parameters.
fn run(model: &AnySequenceClassifier, input: EncoderInput) -> Vec<Vec<f32>> {
    let logits = model.forward(input);
    let labels = Tensor::from_ints([0, 1, 2, 1], &logits.device());
    let loss = model.loss(logits.clone(), Labels::Classes(labels));
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let mut all = Gradients(&gradients, vec![logits.inner().try_into_vec_as().unwrap()]);
    model.visit(&mut all);
    all.1
}

/// Values are of size 1 and behind a few dozen products of up to 64 terms; what differs is how many
/// rows are summed together, so roundings of some units of 1.2e-7.
#[test]
fn padding_that_is_not_computed_changes_nothing() {
    let device = Device::flex().autodiff();
    for (name, model) in models(&device) {
        let sequences = Arc::new(Sequences::new(&LENGTHS, LENGTH));
        let expected = run(&model, input(&device));
        let found = run(&model, input(&device).with_sequences(Some(sequences.clone())));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{name} {at}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{name} {at}: {found}, {expected}");
            }
        }
        assert!(expected.iter().flatten().any(|value| value.abs() > 0.1), "{name}");
        // Elsewhere it is computed: where states are asked for, and in inference.
        let with = |input: EncoderInput| input.with_sequences(Some(sequences.clone()));
        let embedded = Tensor::random([4, LENGTH, 8], Distribution::Default, &device);
        assert!(with(input(&device)).unpadded(&embedded).is_some());
        assert!(with(input(&device)).with_hidden_states().unpadded(&embedded).is_none());
        assert!(with(input(&device)).with_attentions().unpadded(&embedded).is_none());
        assert!(with(input(&device)).unpadded(&embedded.inner()).is_none());
    }
}
