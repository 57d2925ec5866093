//! Answers a question from a text with the model of a folder, dense or compressed.
//!
//! `cargo run --release --example squad -- FOLDER "question" "text that holds the answer"`.
//! `LOSPARSE_DEVICE` names the device (default `auto`).

use std::error::Error;

use losparse::checkpoint::LoadOptions;
use losparse::models::{AnyQuestionAnswerer, FolderModel};
use losparse::tasks::squad::{self, QaExample, QaSettings};
use losparse::train::{answer_questions, model_tokenizer};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, question, context] = arguments.as_slice() else {
        return Err("give a model folder, a question and a text".into());
    };
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "auto".to_string());
    let device = losparse::device::open(&name)?;

    let (model, report) = AnyQuestionAnswerer::load(folder, &device, &LoadOptions::default())?;
    println!("{report}");
    // Settings of the training if losparse wrote the folder, otherwise SQuAD's usual ones.
    let mut about = model.config_json()?["losparse"].take();
    let settings: QaSettings = match about["question_answering"].take() {
        Value::Null => QaSettings::default(),
        stored => serde_json::from_value(stored)?,
    };
    // Longer texts are read in overlapping windows.
    let length = about["max_length"].as_u64().map_or(384, |length| length as usize);
    let tokenizer = model_tokenizer(folder.as_ref(), &model, length.min(model.max_length()))?;
    let example = QaExample {
        id: "1".to_string(),
        question: question.clone(),
        context: context.as_str().into(),
        answers: vec![],
    };
    let task = squad::task("squad", settings.version_2_with_negative);
    let answered =
        answer_questions(&model, &tokenizer, &task, vec![example], settings, 8, &device)?;
    for answer in answered.predictions()? {
        println!("{}", if answer.text.is_empty() { "(no answer)" } else { &answer.text });
        for candidate in answer.candidates.iter().take(3) {
            println!("{:>6.1}%  {}", 100.0 * candidate.probability, candidate.text);
        }
    }
    Ok(())
}
