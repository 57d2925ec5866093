//! Measures ways to compress a sentence encoder without training: how well cosines of mean-pooled sentences
//! follow people's scores (Spearman, STS-B's development set) at several ratios. Sentences of STS-B's
//! training set are seen, no scores.
//!
//! `cargo run --release --example without_training -- MODEL GLUE_FOLDER [RATIO…]`, with a BERT encoder.

use std::error::Error;
use std::time::Instant;

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, load_pretrained};
use losparse::linear::LayerSelection;
use losparse::models::EncoderInput;
use losparse::models::bert::BertForQuestionAnswering;
use losparse::prelude::*;
use losparse::tasks::{EncodedExample, Example, GlueTask, Label, Split, TextBatch, TextTokenizer};

/// Sentences that layers are fitted to.
const SEEN: usize = 512;

/// Its head is not looked at.
type Encoder = BertForQuestionAnswering;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, data, ratios @ ..] = arguments.as_slice() else {
        return Err("give a model folder and the folder of GLUE's data".into());
    };
    let ratios: Vec<f64> = match ratios {
        [] => vec![0.5, 0.3, 0.2, 0.1],
        given => given.iter().map(|ratio| ratio.parse()).collect::<Result<_, _>>()?,
    };
    let device = losparse::device::open("auto")?;
    let (model, _) = load_pretrained::<Encoder>(folder, &device, &LoadOptions::default())?;
    let tokenizer = TextTokenizer::from_folder(folder, 128)?;
    let sentences = |split, count| -> losparse::Result<(Vec<EncodedExample>, Vec<f64>)> {
        let mut examples = GlueTask::Stsb.load(data, split)?.examples;
        examples.truncate(count);
        let score = |example: &Example| match example.label {
            Some(Label::Score(score)) => f64::from(score),
            _ => f64::NAN,
        };
        let scores = examples.iter().map(score).collect();
        let sentence = |text: String| Example { text, pair: None, label: None };
        let texts: Vec<Example> = examples
            .into_iter()
            .flat_map(|example| [Some(example.text), example.pair])
            .flatten()
            .map(sentence)
            .collect();
        Ok((tokenizer.encode_examples(&texts)?, scores))
    };
    let (seen, _) = sentences(Split::Train, SEEN / 2)?;
    let (dev, scores) = sentences(Split::Dev, usize::MAX)?;
    let all = LayerSelection::all();
    let show = |model: &Encoder| -> Result<f64, Box<dyn Error>> {
        Ok(100.0 * spearman(&cosines(model, &dev, &device)?, &scores))
    };
    let feed = |model: &Encoder| {
        seen.iter().try_for_each(|text| {
            model.encode(input(text, &device)?);
            Ok(())
        })
    };
    println!("dense: {:.1}", show(&model)?);
    for ratio in ratios {
        let config = DecomposeConfig::new(Rank::Within(ratio)).with_sparse(false);
        let (plain, _) = decompose(model.clone(), &all, config)?;
        let calibration = Calibration::measure(&model, &all, feed)?;
        let (at_once, _) = decompose_for_inputs(model.clone(), &all, config, &calibration)?;
        println!("{ratio}: SVD of weights {:.1}, for inputs {:.1}", show(&plain)?, show(&at_once)?);
        for kept in [0.0, 0.1, 0.25, 0.5] {
            let config =
                SequentialConfig::new(ratio).with_low_rank_ratio(Some((1.0 - kept) * ratio));
            let started = Instant::now();
            let (small, layers) = decompose_in_order(model.clone(), &all, config, feed)?;
            let seconds = started.elapsed().as_secs_f64();
            let error = layers.iter().map(|layer| layer.error).sum::<f64>() / layers.len() as f64;
            let (small, _) = compact(small);
            println!(
                "{ratio}: in order, {kept} of it kept neurons {:.1} (mean error {error:.3}, {seconds:.0} s)",
                show(&small)?
            );
        }
    }
    Ok(())
}

fn input(text: &EncodedExample, device: &Device) -> losparse::Result<EncoderInput> {
    let batch = TextBatch::new(&[text], 0, device)?;
    Ok(EncoderInput::new(batch.input_ids).with_token_type_ids(batch.token_type_ids))
}

/// The cosine of each pair of sentences.
fn cosines(
    model: &Encoder,
    sentences: &[EncodedExample],
    device: &Device,
) -> losparse::Result<Vec<f64>> {
    let pooled = |text| -> losparse::Result<Vec<f32>> {
        let states = model.encode(input(text, device)?).last_hidden_state;
        Ok(states.mean_dim(1).into_data().iter::<f32>().collect())
    };
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let pairs = sentences.chunks_exact(2).map(|pair| {
        let [a, b] = [pooled(&pair[0])?, pooled(&pair[1])?];
        Ok(dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt())
    });
    pairs.collect()
}

/// Pearson's correlation of ranks.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let [a, b] = [ranks(a), ranks(b)];
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let count = |test: &dyn Fn(f64) -> bool| values.iter().filter(|value| test(**value)).count();
    let rank = |value: f64| {
        let (below, same) = (count(&|v| v < value), count(&|v| v == value));
        below as f64 + (same as f64 - 1.0) / 2.0
    };
    values.iter().map(|value| rank(*value)).collect()
}
