//! Classifies texts with the model of a folder, dense or compressed.
//!
//! `cargo run --release --example load_bundle -- FOLDER "first text" "second text" …`.
//! `LOSPARSE_DEVICE` names the device (default `auto`).

use std::error::Error;

use burn::tensor::activation::softmax;
use losparse::checkpoint::LoadOptions;
use losparse::models::{AnySequenceClassifier, EncoderInput, FolderModel, ProblemType};
use losparse::tasks::batch::{EncodedExample, TextBatch};
use losparse::tasks::tokenize::TextTokenizer;
use losparse::tasks::{Example, metrics::argmax};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), texts) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        return Err("give a model folder and at least one text".into());
    };
    if texts.is_empty() {
        return Err("give at least one text after the folder".into());
    }
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "auto".to_string());
    let device = losparse::device::open(&name)?;

    let (model, report) = AnySequenceClassifier::load(&folder, &device, &LoadOptions::default())?;
    println!("{report}");
    let tokenizer = TextTokenizer::from_folder(&folder, model.max_length())?;
    let example = |text: &String| Example { text: text.clone(), pair: None, label: None };
    let examples: Vec<Example> = texts.iter().map(example).collect();
    let encoded = tokenizer.encode_examples(&examples)?;
    let references: Vec<&EncodedExample> = encoded.iter().collect();
    let batch = TextBatch::new(&references, tokenizer.pad_id(), &device)?;

    let input = EncoderInput::new(batch.input_ids)
        .with_attention_mask(batch.attention_mask)
        .with_token_type_ids(batch.token_type_ids);
    let logits = model.forward(input);
    let classes = model.labels().problem_type() == ProblemType::SingleLabelClassification;
    let scores = if classes { softmax(logits, 1) } else { logits };
    let width = scores.dims()[1];
    let scores: Vec<f32> = scores.try_into_vec_as()?;
    let names = model.labels().names();
    for (text, row) in texts.iter().zip(scores.chunks(width)) {
        if classes {
            let best = argmax(row);
            println!("{:>6.1}%  {}  {text}", 100.0 * row[best], names[best]);
        } else {
            println!("{row:.3?}  {text}");
        }
    }
    Ok(())
}
