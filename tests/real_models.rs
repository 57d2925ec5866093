//! Real models in the folder that `LOSPARSE_MODELS` names against Hugging Face's implementation
//! (fixtures by `fixtures/real_parity.py`), on 50 pairs of sentences of STS-B in padded batches of
//! 10. Compares logits, and channels of all hidden states of all tokens. Without attention maps, so
//! the kernels of inference compute them.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use losparse::checkpoint::{LoadOptions, PretrainedModel, TensorSource, load_pretrained};
use losparse::models::bert::BertForSequenceClassification;
use losparse::models::deberta_v2::DebertaV2ForSequenceClassification;
use losparse::models::mpnet::MpnetForSequenceClassification;
use losparse::models::{EncoderInput, LabelConfig};
use losparse::tasks::{GlueTask, Split, TextTokenizer};

use super::parity::{device, distance, fixture, folder_from, ints};

const TOLERANCE: f32 = 1e-4;
const BATCHES: usize = 5;

fn folder(name: &str) -> Option<PathBuf> {
    let folder = folder_from("LOSPARSE_MODELS")?.join(name);
    if !folder.is_dir() {
        super::say_skipped(&format!("no {}", folder.display()));
        return None;
    }
    Some(folder)
}

/// A model of three labels, and the parameters that it reports as newly initialised.
fn load<M: PretrainedModel>(folder: &Path, device: &Device) -> (M, Vec<String>) {
    let options = LoadOptions { labels: Some(LabelConfig::numbered(3)), ..LoadOptions::default() };
    let (model, report) = load_pretrained(folder, device, &options).unwrap();
    (model, report.newly_initialised)
}

/// Weights that need no file: multiples of 2⁻¹², the same in every language; no bias.
fn fix(linear: &mut Linear) {
    let [columns, rows] = linear.weight.dims();
    let device = linear.weight.device();
    let value = |at: usize| ((at * 7919 % 1009) as f32 - 504.0) / 4096.0;
    let values: Vec<f32> = (0..rows * columns).map(value).collect();
    // Turned from PyTorch's orientation to Burn's.
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device);
    linear.weight = Param::from_tensor(matrix.transpose());
    linear.bias = Some(Param::from_tensor(Tensor::zeros([rows], &device)));
}

/// Compares the hidden states and logits that `run` returns.
fn compare(name: &str, folder: &Path, run: impl Fn(EncoderInput) -> (Vec<Tensor<3>>, Tensor<2>)) {
    let device = device();
    let file = fixture("real", &format!("{name}.safetensors"));
    let expected = TensorSource::open(file).unwrap();
    let [layers, count] = expected.shape("channels").unwrap() else { panic!("two axes") };
    let channels = expected.read_int("channels").unwrap();
    let mut worst = [0f32; 2];
    let (mut pairs, mut tokens) = (0, 0);
    for batch in 0..BATCHES {
        let name = |field: &str| format!("{batch}.{field}");
        let ints = |field: &str| ints(&expected, &name(field), &device);
        let mask = expected.read_int(&name("attention_mask")).unwrap();
        let mut input = EncoderInput::new(ints("input_ids").unwrap()).with_hidden_states();
        input.attention_mask = ints("attention_mask");
        input.token_type_ids = ints("token_type_ids");
        let (states, logits) = run(input);

        assert_eq!(states.len(), *layers);
        let mut found = Vec::new();
        for (state, channels) in states.into_iter().zip(channels.chunks(*count)) {
            let [_, _, hidden] = state.dims();
            let state = state.try_into_vec_as::<f32>().unwrap();
            let shown = state.chunks(hidden).zip(&mask).filter(|(_, shown)| **shown == 1);
            for (token, _) in shown {
                found.extend(channels.iter().map(|channel| token[*channel as usize]));
            }
        }
        let states = distance(&found, &expected.read(&name("states")).unwrap());
        pairs += logits.dims()[0];
        let logits = logits.try_into_vec_as::<f32>().unwrap();
        let logits = distance(&logits, &expected.read(&name("logits")).unwrap());
        worst = [worst[0].max(states), worst[1].max(logits)];
        tokens += mask.iter().filter(|shown| **shown == 1).count();
    }
    let [states, logits] = worst;
    println!(
        "{name}: {pairs} pairs, {tokens} tokens: hidden states within {states:.1e}, logits within \
         {logits:.1e}"
    );
    assert!(states <= TOLERANCE && logits <= TOLERANCE, "{name}");
    assert_eq!(pairs, 50);
    check_tokens(name, folder, &expected);
}

/// The tokenizer's ids and types of the same pairs, read from `LOSPARSE_SHARED`.
fn check_tokens(name: &str, folder: &Path, expected: &TensorSource) {
    let Some(shared) = folder_from("LOSPARSE_SHARED") else { return };
    let tokenizer = TextTokenizer::from_folder(folder, 128).unwrap();
    let dev = GlueTask::Stsb.load(shared.join("data/glue"), Split::Dev).unwrap();
    let chosen: Vec<_> = dev.examples.into_iter().step_by(30).take(50).collect();
    let encoded = tokenizer.encode_examples(&chosen).unwrap();
    for (batch, pairs) in encoded.chunks(10).enumerate() {
        let read = |field: &str| expected.read_int(&format!("{batch}.{field}"));
        let padded = |values: &[u32], length: usize, pad: u32| -> Vec<i64> {
            let mut values: Vec<i64> = values.iter().map(|id| i64::from(*id)).collect();
            values.resize(length, i64::from(pad));
            values
        };
        let (ids, types) = (read("input_ids").unwrap(), read("token_type_ids").ok());
        let length = ids.len() / pairs.len();
        for (at, pair) in pairs.iter().enumerate() {
            let row = at * length..(at + 1) * length;
            let pad = tokenizer.pad_id();
            let found = padded(&pair.input_ids, length, pad);
            assert_eq!(found, ids[row.clone()], "{name}: pair {at} of batch {batch}");
            if let Some(types) = &types {
                let found = padded(&pair.token_type_ids, length, 0);
                assert_eq!(found, types[row], "{name}: types of pair {at} of batch {batch}");
            }
        }
    }
}

#[test]
fn real_minilm_on_50_pairs() {
    let Some(folder) = folder("minilm-l6") else { return };
    let (mut model, new) = load::<BertForSequenceClassification>(&folder, &device());
    assert_eq!(new, ["classifier.bias", "classifier.weight"]);
    fix(&mut model.classifier);
    compare("minilm-l6", &folder, |input| {
        let output = model.bert.forward(input);
        (output.hidden_states.unwrap(), model.logits(output.pooler_output.unwrap()))
    });
}

#[test]
fn real_mpnet_on_50_pairs() {
    let Some(folder) = folder("mpnet-base") else { return };
    let (mut model, new) = load::<MpnetForSequenceClassification>(&folder, &device());
    assert_eq!(new.len(), 4, "{new:?}");
    fix(&mut model.classifier.dense);
    fix(&mut model.classifier.out_proj);
    compare("mpnet-base", &folder, |input| {
        let output = model.encode(input);
        (output.hidden_states.unwrap(), model.classifier.forward(output.last_hidden_state))
    });
}

/// A model with the head of its checkpoint.
#[test]
fn real_deberta_on_50_pairs() {
    let Some(folder) = folder("deberta-v3-xsmall") else { return };
    let (device, options) = (device(), LoadOptions::default());
    let (model, report) =
        load_pretrained::<DebertaV2ForSequenceClassification>(&folder, &device, &options).unwrap();
    assert!(report.newly_initialised.is_empty(), "{report}");
    compare("deberta-v3-xsmall", &folder, |input| {
        let output = model.deberta.forward(input);
        (output.hidden_states.unwrap(), model.logits(output.last_hidden_state))
    });
}
