//! Generation against Hugging Face's `generate` (fixtures by `fixtures/bart_parity.py`), and by a
//! real model in the folder that `LOSPARSE_SHARED` names. Cases of `generate.json` that exercise
//! each option (padded batches of five examples; the script checks that options change the output):
//!
//! | option | cases |
//! |---|---|
//! | greedy; `num_beams` | `greedy…`; 2 to 6: `beams…` |
//! | `max_length`; `max_new_tokens`; neither | `greedy, short`; `greedy, ngrams, long`; `greedy` |
//! | `min_length`; `min_new_tokens` | `greedy, min_length`; `greedy, min_new_tokens` |
//! | `length_penalty` | 3, −1, 0: `beams, penalty …`; 2: `beams, early` |
//! | `early_stopping` | `true`: `beams, early`; `"never"`: `beams, never…`; `false`: the others |
//! | `no_repeat_ngram_size` | 1, 2: `greedy, ngrams…`; 3: `beams, ngrams of 3` |
//! | `forced_bos_token_id`; `forced_eos_token_id` | `greedy, forced`; `beams, forced end` |
//! | several at once, as for summaries | `beams, summary` |
//! | `num_return_sequences` | `beams, many returned` |
//! | `eos_token_id`, several | `beams, several ends` |
//! | `decoder_start_token_id` | `beams, other start` |
//! | `pad_token_id`, with `scale_embedding` | `… pad 0` |
//! | `generation_config.json`, and settings before it | `the model's own settings…` |
//!
//! Further tests check that other examples and calls leave no trace, and that compaction keeps the
//! output.

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{LoadOptions, SaveOptions, TensorSource};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::generation::{Generated, GenerationConfig};
use losparse::linear::{Compressible, CompressibleLinear, LayerSelection};
use losparse::models::{AnySeq2Seq, EncoderInput, FolderModel, Seq2SeqInput};
use serde::Deserialize;

use super::parity::{fixture, folder_from};

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) settings: GenerationConfig,
    pub(super) input_ids: Vec<Vec<i64>>,
    pub(super) attention_mask: Vec<Vec<i64>>,
    pub(super) output_ids: Vec<Vec<u32>>,
    scores: Option<Vec<f32>>,
}

pub(super) fn cases() -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(fixture("bart", "generate.json")).unwrap())
        .unwrap()
}

fn rows(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), device)
}

pub(super) fn input(ids: &[Vec<i64>], mask: &[Vec<i64>], device: &Device) -> EncoderInput {
    EncoderInput::new(rows(ids, device)).with_attention_mask(rows(mask, device))
}

pub(super) fn load(name: &str, device: &Device) -> (AnySeq2Seq, GenerationConfig) {
    let folder = fixture("bart", name);
    let (model, report) = AnySeq2Seq::load(&folder, device, &LoadOptions::default()).unwrap();
    assert!(report.newly_initialised.is_empty() && report.unused.is_empty(), "{report}");
    (model, GenerationConfig::from_folder(&folder).unwrap())
}

pub(super) fn tokens(outputs: &[Vec<Generated>]) -> Vec<Vec<u32>> {
    outputs.iter().flatten().map(|output| output.tokens.clone()).collect()
}

#[test]
fn every_setting_gives_the_tokens_and_scores_of_hugging_face() {
    let device = Device::default();
    let (mut scored, mut worst) = (0, 0f32);
    for case in cases() {
        let (model, defaults) = load(&case.model, &device);
        let input = input(&case.input_ids, &case.attention_mask, &device);
        let found = model.generate(&input, &case.settings.or(&defaults)).unwrap();
        assert_eq!(tokens(&found), case.output_ids, "{}", case.name);
        let scores = found.iter().flatten().filter_map(|output| output.score);
        for (found, expected) in scores.zip(case.scores.iter().flatten()) {
            let deviation = (found - expected).abs();
            assert!(deviation <= 1e-5, "{}: score differs by {deviation}", case.name);
            (scored, worst) = (scored + 1, worst.max(deviation));
        }
    }
    assert!(scored > 80, "{scored} scores");
    println!("{scored} scores, worst deviation {worst:.1e}");
}

#[test]
fn an_example_is_decoded_alone_as_in_a_batch_and_again_as_before() {
    let device = Device::default();
    let (model, defaults) = load("generate_ending", &device);
    for case in cases().into_iter().filter(|case| case.model == "generate_ending") {
        let config = case.settings.or(&defaults);
        let all = input(&case.input_ids, &case.attention_mask, &device);
        let before = tokens(&model.generate(&all, &config).unwrap());
        let mut alone = Vec::new();
        for (ids, mask) in case.input_ids.iter().zip(&case.attention_mask) {
            let length = mask.iter().sum::<i64>() as usize;
            let input = EncoderInput::new(rows(&[ids[..length].to_vec()], &device));
            alone.extend(tokens(&model.generate(&input, &config).unwrap()));
        }
        assert_eq!(alone, before, "{}", case.name);
        assert_eq!(tokens(&model.generate(&all, &config).unwrap()), before, "{}", case.name);
    }
}

/// A decomposed model with half of the neurons of every `S`, and the same model compacted.
fn pruned_and_compact(model: AnySeq2Seq) -> (AnySeq2Seq, AnySeq2Seq) {
    let config = DecomposeConfig::new(Rank::Budget(0.25));
    let (mut model, _) = decompose(model, &LayerSelection::all(), config).unwrap();
    model.for_each_linear_mut(&mut |_, linear| {
        let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("decomposed") };
        let sparse = layer.sparse.as_ref().unwrap().val();
        let [_, neurons] = sparse.dims();
        let size: Vec<f32> = sparse.clone().abs().sum_dim(0).try_into_vec_as().unwrap();
        let mut sorted = size.clone();
        sorted.sort_by(f32::total_cmp);
        let threshold = sorted[neurons * 6 / 10];
        let mask: Vec<f32> = size.iter().map(|s| f32::from(u8::from(*s >= threshold))).collect();
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [1, neurons]), &sparse.device());
        layer.sparse = Some(Param::from_tensor(sparse * mask));
    });
    let (small, report) = compact(model.clone());
    assert!(report.iter().all(|layer| layer.elements <= layer.d_input * layer.d_output));
    (model, small)
}

/// Number of examples whose tokens differ; each must be a tie.
fn ties(pruned: &AnySeq2Seq, inputs: &EncoderInput, a: &[Generated], b: &[Generated]) -> usize {
    const TIE: f32 = 1e-4;
    let mut ties = 0;
    for (at, (a, b)) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| a.tokens != b.tokens) {
        let gap = match (a.score, b.score) {
            (Some(a), Some(b)) => (a - b).abs(),
            _ => {
                let same = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b).count();
                let one = |ids: &Tensor<2, Int>| ids.clone().narrow(0, at, 1);
                let mut encoder = EncoderInput::new(one(&inputs.input_ids));
                encoder.attention_mask = inputs.attention_mask.as_ref().map(one);
                let prefix: Vec<i64> = a.tokens[..same].iter().map(|t| i64::from(*t)).collect();
                let prefix = rows(&[prefix], &inputs.input_ids.device());
                let input = Seq2SeqInput::new(encoder).with_decoder_input_ids(prefix);
                let logits: Vec<f32> = pruned
                    .forward(input)
                    .narrow(1, same - 1, 1)
                    .into_data()
                    .try_into_vec()
                    .unwrap();
                (logits[a.tokens[same] as usize] - logits[b.tokens[same] as usize]).abs()
            }
        };
        assert!(gap < TIE, "example {at}: {:?} and {:?}, gap {gap}", a.tokens, b.tokens);
        ties += 1;
    }
    ties
}

fn first(outputs: Vec<Vec<Generated>>) -> Vec<Generated> {
    outputs.into_iter().map(|mut outputs| outputs.remove(0)).collect()
}

#[test]
fn a_compact_model_generates_what_its_pruned_form_does_and_survives_its_file() {
    let device = Device::default();
    for name in ["generate_random", "generate_ending"] {
        let (model, defaults) = load(name, &device);
        let (pruned, small) = pruned_and_compact(model);
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("small");
        small.save(&folder, &SaveOptions::default()).unwrap();
        let names = TensorSource::open(&folder).unwrap();
        let shared: Vec<&str> =
            names.names().filter(|n| n.contains("embed_tokens") || n.contains("shared")).collect();
        assert_eq!(shared, ["model.shared.weight"], "one matrix, stored once");
        assert!(!names.contains("lm_head.weight"));
        let (loaded, report) = AnySeq2Seq::load(&folder, &device, &LoadOptions::default()).unwrap();
        assert!(report.compressed_layers > 0, "{report}");

        for case in cases().into_iter().filter(|case| case.model == name) {
            let config = case.settings.or(&defaults);
            let input = input(&case.input_ids, &case.attention_mask, &device);
            let expected = first(pruned.generate(&input, &config).unwrap());
            for small in [&small, &loaded] {
                let found = first(small.generate(&input, &config).unwrap());
                assert_eq!(ties(&pruned, &input, &expected, &found), 0, "{}", case.name);
            }
        }
    }
}

#[test]
fn impossible_settings_are_errors_that_name_them() {
    let device = Device::default();
    let (model, defaults) = load("generate_random", &device);
    let ids = vec![vec![5i64, 6, 2]];
    let ask = |model: &AnySeq2Seq, ids: &[Vec<i64>], settings: &str, device: &Device| {
        let settings: GenerationConfig = serde_json::from_str(settings).unwrap();
        let input = EncoderInput::new(rows(ids, device));
        model.generate(&input, &settings.or(&defaults)).unwrap_err().to_string()
    };
    for (settings, words) in [
        (r#"{"do_sample": true}"#, ["do_sample", "not supported"]),
        (r#"{"repetition_penalty": 1.3}"#, ["repetition_penalty", "not supported"]),
        (r#"{"num_beams": 0}"#, ["num_beams", "0"]),
        (r#"{"num_beams": 2, "num_return_sequences": 3}"#, ["num_return_sequences", "num_beams"]),
        (r#"{"max_length": 1}"#, ["max_length", "at least 2"]),
        (r#"{"max_new_tokens": 40}"#, ["max_length", "more than the 27"]),
        (r#"{"forced_bos_token_id": 29}"#, ["forced_bos_token_id", "29 tokens"]),
    ] {
        let message = ask(&model, &ids, settings, &device);
        assert!(words.iter().all(|word| message.contains(word)), "{settings}: {message}");
    }
    let long = vec![vec![5i64; 27]];
    let message = ask(&model, &long, "{}", &device);
    assert!(message.contains("27 tokens") && message.contains("26"), "{message}");
    let training = device.autodiff();
    let (model, _) = load("generate_random", &training);
    let message = ask(&model, &ids, "{}", &training);
    assert!(message.contains("model.valid()"), "{message}");
    assert!(
        serde_json::from_str::<GenerationConfig>(r#"{"early_stopping": "often"}"#)
            .unwrap_err()
            .to_string()
            .contains("never")
    );
}

/// `g2p-bart-us` spells 100 words: dense as recorded, greedy and with 6 beams; pruned and compact
/// models agree.
#[test]
fn a_real_model_spells_what_hugging_face_spells() {
    #[derive(Deserialize)]
    struct Word {
        word: String,
        input_ids: Vec<i64>,
        output_ids: Vec<u32>,
    }
    let Some(folder) = folder_from("LOSPARSE_SHARED").map(|f| f.join("models/g2p-bart-us")) else {
        return;
    };
    let device = Device::default();
    let (model, report) = AnySeq2Seq::load(&folder, &device, &LoadOptions::default()).unwrap();
    assert!(report.unused.is_empty() && report.newly_initialised.is_empty(), "{report}");
    let defaults = GenerationConfig::from_folder(&folder).unwrap();
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, Vec<Word>> =
        serde_json::from_str(&text).unwrap();
    let (pruned, small) = pruned_and_compact(model.clone());
    for (search, beams) in [("greedy", 1), ("beam6", 6)] {
        let words = &expected[search];
        assert_eq!(words.len(), 100);
        let settings = GenerationConfig {
            max_new_tokens: Some(50),
            num_beams: Some(beams),
            ..GenerationConfig::default()
        };
        let config = settings.or(&defaults);
        let longest = words.iter().map(|word| word.input_ids.len()).max().unwrap();
        let padded = |values: &dyn Fn(&Word) -> Vec<i64>| -> Vec<Vec<i64>> {
            let mut rows: Vec<Vec<i64>> = words.iter().map(values).collect();
            rows.iter_mut().for_each(|row| row.resize(longest, 0));
            rows
        };
        let ids = padded(&|word| word.input_ids.clone());
        let mask = padded(&|word| vec![1; word.input_ids.len()]);
        let all = input(&ids, &mask, &device);
        let found = first(model.generate(&all, &config).unwrap());
        let wrong: Vec<&str> = words
            .iter()
            .zip(&found)
            .filter(|(word, found)| word.output_ids != found.tokens)
            .map(|(word, _)| word.word.as_str())
            .collect();
        assert!(wrong.is_empty(), "{search}: {wrong:?}");
        for word in &words[..10] {
            let alone = EncoderInput::new(rows(std::slice::from_ref(&word.input_ids), &device));
            let found = first(model.generate(&alone, &config).unwrap());
            assert_eq!(found[0].tokens, word.output_ids, "{search}: {} alone", word.word);
        }

        let masked = first(pruned.generate(&all, &config).unwrap());
        let folded = first(small.generate(&all, &config).unwrap());
        let changed = found.iter().zip(&masked).filter(|(a, b)| a.tokens != b.tokens).count();
        let ties = ties(&pruned, &all, &masked, &folded);
        println!(
            "{search}: 100 of 100 as recorded; compact as pruned but for {ties} ties; pruning \
             changed {changed}"
        );
    }
}
