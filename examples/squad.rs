//! Answers a question out of a text with the model of a folder, dense or compressed.
//!
//! `cargo run --release --example squad -- FOLDER "question" "text that holds the answer"`; the
//! device is `auto`, or what `LOSPARSE_DEVICE` names.

use std::error::Error;

use losparse::checkpoint::LoadOptions;
use losparse::models::AnyQuestionAnswerer;
use losparse::tasks::squad::{self, QaExample, QaSettings};
use losparse::train::{answer_questions, model_tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, question, context] = arguments.as_slice() else {
        return Err("give a model folder, a question and a text".into());
    };
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "auto".to_string());
    let device = losparse::device::open(&name)?;

    let (model, report) = AnyQuestionAnswerer::load(folder, &device, &LoadOptions::default())?;
    println!("{report}");
    // Longer texts are read in windows that overlap.
    let tokenizer = model_tokenizer(folder.as_ref(), &model, model.max_length().min(384))?;
    let example = QaExample {
        id: "1".to_string(),
        question: question.clone(),
        context: context.as_str().into(),
        answers: vec![],
    };
    let task = squad::task("squad", false);
    let settings = QaSettings::default();
    let answered =
        answer_questions(&model, &tokenizer, &task, vec![example], settings, 8, &device)?;
    for answer in answered.predictions()? {
        println!("{}", answer.text);
        for candidate in answer.candidates.iter().take(3) {
            println!("{:>6.1}%  {}", 100.0 * candidate.probability, candidate.text);
        }
    }
    Ok(())
}
