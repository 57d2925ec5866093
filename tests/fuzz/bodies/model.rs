//! Model folders: weights, configuration, and a text through what they make.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{LoadOptions, SaveOptions, TensorSource};
use losparse::generation::GenerationConfig;
use losparse::models::{AnyModel, EncoderInput, FolderModel, Seq2SeqInput};
use losparse::tasks::Example;
use losparse::tasks::squad::{QaAnswer, QaExample, QaSettings, task};
use losparse::train::{Interrupt, answer_questions, model_tokenizer, predict_logits};
use losparse::{Error, Result};
use serde_json::Value;

use super::files::{Files, scratch};
use super::input::Input;
use super::{Outcome, outcome, seeds};

/// Keys of `config.json` and `generation_config.json` that readers know, beside those of the seeds.
const KEYS: [&str; 44] = [
    "architectures",
    "model_type",
    "num_labels",
    "label2id",
    "id2label",
    "problem_type",
    "classifier_dropout",
    "is_decoder",
    "add_cross_attention",
    "position_embedding_type",
    "is_encoder_decoder",
    "tie_word_embeddings",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "init_std",
    "attention_dropout",
    "activation_dropout",
    "attention_head_size",
    "cls_dropout",
    "pooler_hidden_size",
    "pooler_hidden_act",
    "conv_act",
    "hidden_act",
    "activation_function",
    "quantization_config",
    "torch_dtype",
    "dtype",
    "losparse",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "max_new_tokens",
    "min_new_tokens",
    "num_return_sequences",
    "do_sample",
    "forced_bos_token_id",
    "num_beams",
    "suppress_tokens",
    "type_vocab_size",
    "pad_token_id",
    "eos_token_id",
    "tokenizer_class",
];

/// Whether a file holds weights.
fn is_weights(name: &str) -> bool {
    name.contains(".safetensors") || name.starts_with("pytorch_model")
}

/// A folder whose weights are those of the input. What still loads answers as it is saved again, and
/// as before if the file has kept its checksum.
pub fn weights(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let seed = input.below(seeds::models().len());
    let mut files = seeds::models()[seed].clone();
    if input.flag() {
        forget_checksum(&mut files);
    }
    files.edit(&mut input, &["weight_map", "metadata"], is_weights);
    let (_scratch, folder) = files.folder("model");
    let answer = answer(&folder);
    if let Ok((model, values)) = &answer {
        if largest_weight(&folder) < 100.0 {
            let odd = values.iter().find(|value| !value.is_finite());
            assert!(odd.is_none(), "weights of ordinary size, but an answer of {odd:?}");
        }
        if is_summed(&files) {
            assert_eq!(values, untouched(seed), "other answers from a file with a checksum");
        }
        saved_again(model, &folder, values);
    }
    outcome(answer)
}

/// A folder whose configuration is that of the input.
pub fn config(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let mut files = input.choose(seeds::models()).clone();
    files.edit(&mut input, &KEYS, |name| name.ends_with("config.json"));
    let (_scratch, folder) = files.folder("model");
    let answer = answer(&folder);
    if let Ok((model, values)) = &answer {
        saved_again(model, &folder, values);
    }
    outcome(answer)
}

/// Removes the weights' checksum, without which changed ones are looked into.
fn forget_checksum(files: &mut Files) {
    let text = files.0.get_mut("config.json").expect("a configuration");
    let mut config: Value = serde_json::from_slice(text).expect("JSON");
    if let Some(about) = config.get_mut("losparse").and_then(Value::as_object_mut) {
        about.remove("sha256");
    }
    *text = config.to_string().into_bytes();
}

/// Whether the folder says what its weights' checksum is.
fn is_summed(files: &Files) -> bool {
    let config = files.0.get("config.json").map(|text| String::from_utf8_lossy(text));
    config.is_some_and(|text| text.contains("sha256"))
}

/// Returns the answer of an unchanged seed's model.
fn untouched(seed: usize) -> &'static Vec<f32> {
    static ANSWERS: OnceLock<Vec<Vec<f32>>> = OnceLock::new();
    let answers = ANSWERS.get_or_init(|| {
        let answers = seeds::models().iter().map(|files| {
            let (_scratch, folder) = files.folder("model");
            answer(&folder).expect("a seed is valid").1
        });
        answers.collect()
    });
    &answers[seed]
}

/// The largest weight of a folder.
fn largest_weight(folder: &Path) -> f32 {
    let source = TensorSource::open(folder).expect("weights that loaded");
    let names: Vec<String> = source.names().map(String::from).collect();
    let tensors = names.iter().filter_map(|name| source.read(name).ok());
    tensors.flatten().fold(0.0, |most, weight| most.max(weight.abs()))
}

/// Saves a model that came from `folder` and checks that what was saved answers the same.
fn saved_again(model: &AnyModel, folder: &Path, values: &[f32]) {
    let scratch = scratch();
    let again = scratch.path().join("again");
    let options =
        SaveOptions { tokenizer_from: Some(folder.to_path_buf()), ..SaveOptions::default() };
    model.save(&again, &options).expect("a model that loaded can be saved");
    let (_, saved) = answer(&again).expect("a model that was saved can be used");
    // Not a number differs from itself.
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&saved), bits(values), "other answers after saving");
}

/// The model of a folder, and what it answers, as `losparse predict` would.
fn answer(folder: &Path) -> Result<(AnyModel, Vec<f32>)> {
    let options = LoadOptions::default();
    let (model, _) = AnyModel::load(folder, &Device::default(), &options)?;
    let values = logits(&model, folder)?;
    Ok((model, values))
}

fn logits(model: &AnyModel, folder: &Path) -> Result<Vec<f32>> {
    let device = Device::default();
    let tokenizer = model_tokenizer(folder, model, model.max_length().min(12))?;
    let text = "the film is very good and dull";
    match model {
        AnyModel::SequenceClassifier(model) => {
            let example = |text: &str, pair: Option<&str>| Example {
                text: text.into(),
                pair: pair.map(Into::into),
                label: None,
            };
            let examples =
                [example(text, None), example("bad", Some("great film")), example("", None)];
            let encoded = tokenizer.encode_examples(&examples)?;
            let never = Interrupt::default();
            let rows = predict_logits(model, &encoded, tokenizer.pad_id(), 2, &device, &never)?;
            let width = model.labels().names().len();
            assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == width), "{rows:?}");
            Ok(rows.concat())
        }
        AnyModel::QuestionAnswerer(model) => {
            let context = "the film is good, very good and great";
            let example = QaExample {
                id: "a".into(),
                question: "is the film good".into(),
                context: context.into(),
                answers: vec![QaAnswer { text: "good".into(), start: Some(12) }],
            };
            let settings = QaSettings { doc_stride: 1, ..QaSettings::default() };
            let (task, examples) = (task("squad", false), vec![example]);
            match answer_questions(model, &tokenizer, &task, examples, settings, 2, &device) {
                Ok(evaluator) => drop(evaluator),
                // A longer question than the model takes says nothing of its files.
                Err(Error::Option { .. }) => {}
                Err(error) => return Err(error),
            }
            let (start, end) = model.forward(EncoderInput::new(ids(&tokenizer, text, &device)?));
            Ok([values(start), values(end)].concat())
        }
        AnyModel::Seq2Seq(model) => {
            let generation = GenerationConfig::from_folder(folder)?;
            let ids = ids(&tokenizer, text, &device)?;
            let input = EncoderInput::new(ids.clone());
            let written = model.generate(&input, &generation)?;
            for text in written.iter().flatten() {
                tokenizer.decode(&text.tokens)?;
            }
            let input = model.teacher_forced(Seq2SeqInput::new(input), ids);
            Ok(values(model.forward(input)))
        }
    }
}

fn ids(
    tokenizer: &losparse::tasks::TextTokenizer,
    text: &str,
    device: &Device,
) -> Result<Tensor<2, Int>> {
    let encoding = tokenizer.encode(text, None)?;
    let ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
    let shape = [1, ids.len()];
    Ok(Tensor::from_data(TensorData::new(ids, shape), device))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().iter::<f32>().collect()
}
