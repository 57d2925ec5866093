//! Summarizes texts with the model of a folder, dense or compressed.
//!
//! `cargo run --release --example summarize -- FOLDER "first text" "second text" …`.
//! `LOSPARSE_DEVICE` names the device (default `auto`).

use std::error::Error;

use losparse::checkpoint::LoadOptions;
use losparse::generation::GenerationConfig;
use losparse::models::{AnySeq2Seq, FolderModel};
use losparse::tasks::summarization::{SummarizationExample, SummarizationSettings};
use losparse::train::{
    Evaluator, Interrupt, Silent, TextGenerationRecipe, TextGenerator, model_tokenizer,
};
use serde_json::Value;

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

    let (model, report) = AnySeq2Seq::load(&folder, &device, &LoadOptions::default())?;
    println!("{report}");
    // Special tokens and the model's own search settings.
    let own = GenerationConfig::from_folder(&folder)?;
    // Settings of the training if losparse wrote the folder, otherwise defaults that fit the model.
    let settings: SummarizationSettings =
        match model.config_json()?["losparse"]["summarization"].take() {
            Value::Null => TextGenerationRecipe::default().settings(&own, model.max_length())?,
            stored => serde_json::from_value(stored)?,
        };
    let tokenizer = model_tokenizer(folder.as_ref(), &model, settings.max_source_length)?;

    let summarizer = TextGenerator {
        model: &model,
        tokenizer: &tokenizer,
        settings: &settings,
        own: &own,
        batch_size: 8,
        device: &device,
    };
    let example = |document: &String| SummarizationExample {
        document: document.clone(),
        // With a reference here, `done.report()` gives ROUGE.
        summary: None,
    };
    let examples: Vec<SummarizationExample> = texts.iter().map(example).collect();
    let done = summarizer.generate(&examples, &Silent, &Interrupt::default())?;
    for summary in done.texts()? {
        println!("{summary}");
    }
    if let Some(speed) = done.note() {
        println!("({speed})");
    }
    Ok(())
}
