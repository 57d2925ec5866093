//! BART against Hugging Face's implementation (fixtures by `fixtures/bart_parity.py`). Cases that
//! exercise each option:
//!
//! | option | cases |
//! |---|---|
//! | `scale_embedding` | `scaled`, `regression` |
//! | `encoder_layers`, `decoder_layers`, `*_ffn_dim` that differ | `uneven`, `one_head` |
//! | `*_attention_heads` that differ, one head | `uneven`; `one_head` |
//! | `activation_function` | `base` (gelu), `scaled` (relu), `uneven` (gelu_new), `one_head` (silu), `decoder_mask` (gelu_fast), `half` (tanh), `two_ends` (gelu_pytorch_tanh) |
//! | `dropout`, `attention_dropout`, `activation_dropout`, `classifier_dropout` | `smoothed`, `two_ends`; that they act: unit tests |
//! | `pad_token_id`, `eos_token_id`, `bos_token_id`, `decoder_start_token_id` | `tokens`, `regression` |
//! | `d_model` | `wide` |
//! | `max_position_embeddings`, reached | `long`, `wide` |
//! | `final_logits_bias` | `bias`, `long` |
//! | label smoothing; −100 | `smoothed`, `bias`; all with a language model |
//! | the decoder's padding mask, also where a token sees padding alone; its tokens given | `decoder_mask`; `bare` |
//! | no mask, with padding attended to | `one_head`, `multi_label` |
//! | `num_labels`, `problem_type` | `classes`, `two_ends`, `regression`, `multi_label` |
//! | the end token twice in an input: the last decides | `two_ends` |
//! | half precision; another tied name, version marks | `half`; `old_names` |
//! | bare model, its decoder reading the input | `bare`; `bare_shifted` |
//! | products worth a packed weight, in training too | `wide` |
//!
//! For generation, which also takes several `eos_token_id`, see `bart_generation.rs`.

use burn::tensor::{Device, Tensor};
use losparse::models::bart::{
    BartConfig, BartForConditionalGeneration, BartForSequenceClassification, BartModel,
};
use losparse::models::{Seq2SeqInput, Seq2SeqOutput, language_model_loss};

use super::parity::{Pass, cases, compare, fixture, parameters, report};

fn no_dropout(config: &mut BartConfig) {
    (config.dropout, config.attention_dropout) = (0.0, 0.0);
    (config.activation_dropout, config.classifier_dropout) = (0.0, 0.0);
}

fn input(pass: &Pass<'_>) -> Seq2SeqInput {
    let mut input = Seq2SeqInput::new(pass.input());
    input.decoder_input_ids = pass.ints("decoder_input_ids");
    input.decoder_attention_mask = pass.ints("decoder_attention_mask");
    input
}

fn check_states(output: Seq2SeqOutput, pass: &Pass<'_>) {
    let states = [output.encoder_hidden_states, output.decoder_hidden_states];
    assert!(states.iter().all(Option::is_some));
    let [encoder, decoder] = states;
    pass.check_all(encoder, "encoder_hidden_states");
    pass.check_all(decoder, "decoder_hidden_states");
    pass.check_all(output.encoder_attentions, "encoder_attentions");
    pass.check_all(output.decoder_attentions, "decoder_attentions");
    pass.check_all(output.cross_attentions, "cross_attentions");
}

fn write(model: &BartForConditionalGeneration, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let labels = pass.ints("labels").unwrap();
    let mut input = input(pass);
    if input.decoder_input_ids.is_none() {
        input = model.teacher_forced(input, labels.clone());
    }
    let output = model.model.forward(input);
    let logits = model.logits(output.last_hidden_state.clone());
    pass.check(logits.clone(), "logits");
    check_states(output, pass);
    let smoothing = pass.expected.read("smoothing").map_or(0.0, |s| f64::from(s[0]));
    Some(language_model_loss(logits, labels, smoothing))
}

fn classify(model: &BartForSequenceClassification, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let input = input(pass);
    let input_ids = input.encoder.input_ids.clone();
    let output = model.model.forward(input.clone());
    let logits = model.logits(output.last_hidden_state.clone(), input_ids);
    pass.check(logits.clone(), "logits");
    pass.check(model.forward(input.encoder), "logits");
    check_states(output, pass);
    Some(model.loss(logits, pass.labels(&model.config().labels)))
}

fn bare(model: &BartModel, pass: &Pass<'_>) -> Option<Tensor<1>> {
    let output = model.forward(input(pass));
    pass.check(output.last_hidden_state.clone(), "last_hidden_state");
    pass.check(output.encoder_last_hidden_state.clone(), "encoder_last_hidden_state");
    check_states(output, pass);
    None
}

#[test]
fn bart_of_every_configuration() {
    let mut rows = Vec::new();
    for (name, class) in cases("bart") {
        let folder = fixture("bart", &name);
        rows.push(match class.as_str() {
            "BartForConditionalGeneration" => compare(&folder, no_dropout, write),
            "BartForSequenceClassification" => compare(&folder, no_dropout, classify),
            "BartModel" => compare(&folder, no_dropout, bare),
            other => panic!("{name}: {other}"),
        });
    }
    report("BART", &rows);
}

/// Counts from shapes; no published model is allocated.
#[test]
fn published_models_have_as_many_parameters_as_hugging_face_says() {
    #[derive(serde::Deserialize)]
    struct Published {
        config: BartConfig,
        head: String,
        parameters: usize,
    }
    let text = std::fs::read_to_string(fixture("bart", "counts.json")).unwrap();
    let published: std::collections::BTreeMap<String, Published> =
        serde_json::from_str(&text).unwrap();
    assert!(published.len() >= 6);
    let device = Device::default();
    for (name, Published { config, head, parameters: expected }) in published {
        let found = match head.as_str() {
            // `final_logits_bias` is a constant.
            "BartForConditionalGeneration" => {
                let model = BartForConditionalGeneration::new(&config, &device);
                parameters(&model) - config.vocab_size
            }
            _ => parameters(&BartForSequenceClassification::new(&config, &device)),
        };
        println!("{name}, {head}: {found} parameters");
        assert_eq!(found, expected, "{name}");
    }
}
