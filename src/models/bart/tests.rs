//! Tests beyond the comparison with Hugging Face: dropout, training, names, bad files.

use std::path::Path;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor};

use super::{BartConfig, BartForConditionalGeneration, BartForSequenceClassification};
use crate::linear::linear_names;
use crate::models::{EncoderInput, ModelConfig, Seq2SeqInput};
use crate::models::{language_model_loss, shift_tokens_right};

fn config(fields: serde_json::Value) -> BartConfig {
    let mut config = serde_json::json!({
        "vocab_size": 23, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12, "max_position_embeddings": 9, "dropout": 0.0, "init_std": 0.5,
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn ids(device: &Device) -> Tensor<2, Int> {
    Tensor::from_ints([[5, 6, 7, 8, 2], [9, 10, 2, 1, 1]], device)
}

fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    let (a, b): (Vec<f32>, Vec<f32>) = (a.try_into_vec_as().unwrap(), b.try_into_vec_as().unwrap());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_dropout_acts_in_training_only() {
    let device = Device::default();
    for (field, acts) in [
        ("init_std", false),
        ("dropout", true),
        ("attention_dropout", true),
        ("activation_dropout", true),
        ("classifier_dropout", true),
    ] {
        let config = config(serde_json::json!({ field: 0.5 }));
        let model = BartForSequenceClassification::new(&config, &device.clone().autodiff());
        let training = model.forward(EncoderInput::new(ids(&device.clone().autodiff())));
        let plain = model.valid().forward(EncoderInput::new(ids(&device)));
        let moved = distance(training.inner(), plain) > 1e-4;
        assert_eq!(moved, acts, "{field}");
    }
}

#[test]
fn the_embedding_stays_one_matrix_while_it_is_trained() {
    let device = Device::default().autodiff();
    let config = config(serde_json::json!({}));
    let mut model = BartForConditionalGeneration::new(&config, &device);
    let before = model.clone();
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.1).init();
    let labels = Tensor::<2, Int>::from_ints([[4, 5, 2], [6, 2, -100]], &device);
    let mut losses = Vec::new();
    for _ in 0..5 {
        let input = Seq2SeqInput::new(EncoderInput::new(ids(&device)));
        let logits = model.forward(model.teacher_forced(input, labels.clone()));
        let loss = language_model_loss(logits, labels.clone(), 0.0);
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        assert!(gradients.get::<2>(model.final_logits_bias.id).is_none(), "a constant");
        model = optimizer.step(1e-2, model, gradients);
    }
    assert!(losses[4] < losses[0] - 0.1, "{losses:?}");
    assert_eq!(model.num_params(), before.num_params());
    assert_eq!(distance(model.final_logits_bias.val(), before.final_logits_bias.val()), 0.0);
    let (old, new) = (before.model.shared.weight(), model.model.shared.weight());
    assert!(distance(old.clone(), new.clone()) > 1e-3);
    // Head and both inputs compute with the trained matrix.
    let model = model.valid();
    let state = Tensor::<3>::ones([1, 1, 8], &device.clone().without_autodiff());
    let logits = model.logits(state);
    let expected = new.inner().sum_dim(1).reshape([1, 1, 23]);
    assert!(distance(logits, expected) < 1e-5);
}

#[test]
fn labels_are_shifted_right_behind_the_start_token() {
    let device = Device::default();
    let labels = Tensor::<2, Int>::from_ints([[4, 5, 2], [6, -100, -100]], &device);
    let shifted = shift_tokens_right(labels, 1, 7).into_data().convert::<i64>();
    assert_eq!(shifted.try_into_vec::<i64>().unwrap(), [7, 4, 5, 7, 6, 1]);
    let single = Tensor::<2, Int>::from_ints([[4], [5]], &device);
    let shifted = shift_tokens_right(single, 1, 7).into_data().convert::<i64>();
    assert_eq!(shifted.try_into_vec::<i64>().unwrap(), [7, 7]);
}

#[test]
fn layers_have_hugging_faces_names_in_the_order_of_computation() {
    let model = BartForConditionalGeneration::new(
        &config(serde_json::json!({ "decoder_layers": 2 })),
        &Device::default(),
    );
    let names = linear_names(&model);
    assert_eq!(names.len(), 6 + 2 * 10);
    let attention =
        |of: &str| ["q_proj", "k_proj", "v_proj", "out_proj"].map(|p| format!("{of}.{p}"));
    let decoder = "model.decoder.layers.0";
    let mut expected: Vec<String> = attention("model.encoder.layers.0.self_attn").to_vec();
    expected.extend(["model.encoder.layers.0.fc1", "model.encoder.layers.0.fc2"].map(String::from));
    expected.extend(attention(&format!("{decoder}.self_attn")));
    expected.extend(attention(&format!("{decoder}.encoder_attn")));
    expected.extend([format!("{decoder}.fc1"), format!("{decoder}.fc2")]);
    assert_eq!(names[..16], expected);
}

#[test]
#[should_panic(expected = "end token")]
fn a_sequence_without_an_end_token_cannot_be_classified() {
    let device = Device::default();
    let model = BartForSequenceClassification::new(&config(serde_json::json!({})), &device);
    let ids = Tensor::<2, Int>::from_ints([[5, 2], [6, 7]], &device);
    model.forward(EncoderInput::new(ids));
}

#[test]
fn a_file_that_leaves_fields_out_is_bart_large() {
    let path = Path::new("config.json");
    let read = BartConfig::from_json("{}", path).unwrap();
    assert_eq!(read, BartConfig::default());
    assert_eq!(read.labels().num_labels(), 3);
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(BartConfig::from_json(&text, path).unwrap(), read);
    let labelled = BartConfig::from_json(r#"{"id2label": {"0": "no", "1": "yes"}}"#, path).unwrap();
    assert_eq!(labelled.labels().num_labels(), 2);
}

#[test]
fn fields_that_cannot_be_are_named() {
    for (text, field) in [
        (r#"{"encoder_attention_heads": 7}"#, "encoder_attention_heads: 7 does not divide"),
        (r#"{"decoder_attention_heads": 0}"#, "decoder_attention_heads: must not be 0"),
        (r#"{"d_model": 0}"#, "d_model"),
        (r#"{"encoder_layerdrop": 0.1}"#, "encoder_layerdrop: 0.1 is not supported"),
        (r#"{"decoder_layerdrop": 0.1}"#, "decoder_layerdrop: 0.1 is not supported"),
        (r#"{"activation_dropout": 1.0}"#, "activation_dropout"),
        (r#"{"activation_function": "geglu"}"#, "activation_function"),
        (r#"{"tie_word_embeddings": false}"#, "tie_word_embeddings"),
        (r#"{"is_encoder_decoder": false}"#, "is_encoder_decoder"),
        (r#"{"pad_token_id": null}"#, "pad_token_id"),
        (r#"{"eos_token_id": [2, 60000]}"#, "eos_token_id: 60000 is not below"),
        (r#"{"init_std": -1.0}"#, "init_std"),
    ] {
        let error = BartConfig::from_json(text, Path::new("config.json")).unwrap_err().to_string();
        assert!(error.contains(field), "{text}: {error}");
    }
}
