//! Files of questions: read, cut into windows, answered, scored.

use std::path::Path;
use std::sync::OnceLock;

use losparse::Result;
use losparse::tasks::TextTokenizer;
use losparse::tasks::squad::{
    QaDataset, QaExample, QaSettings, QaWindow, WindowLogits, best_answer, encode_windows, score,
    task,
};
use losparse::train::{TaskRecipe, read_split};
use serde_json::json;

use super::files::Files;
use super::input::Input;
use super::{Outcome, outcome, seeds};

const KEYS: [&str; 12] = [
    "data",
    "paragraphs",
    "context",
    "qas",
    "id",
    "question",
    "answers",
    "answer_start",
    "text",
    "is_impossible",
    "plausible_answers",
    "title",
];

fn seed() -> Files {
    let questions = json!([
        {"id": "a", "question": "is the film good", "is_impossible": false,
            "answers": [{"text": "very good", "answer_start": 12}, {"text": "good", "answer_start": 17}]},
        {"id": "b", "question": "is 東京 dull", "answers": [], "is_impossible": true,
            "plausible_answers": [{"text": "bad", "answer_start": 3}]},
    ]);
    let file = json!({"version": "v2.0", "data": [{"title": "t", "paragraphs": [
        {"context": "the film is very good, 東京 e\u{301} 😀 is the great film and the dull",
            "qas": questions}]}]});
    Files::of([("dev.json", file.to_string().as_bytes())])
}

/// A file of questions, changed or made of the input. Windows have a text's tokens in order, and
/// answers are of its characters.
pub fn squad(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let settings = QaSettings {
        doc_stride: usize::from(input.byte() % 16),
        n_best: 1 + usize::from(input.byte() % 4),
        max_answer_length: 1 + usize::from(input.byte() % 8),
        version_2_with_negative: input.flag(),
        null_score_diff_threshold: f64::from(input.byte()) / 64.0 - 1.0,
    };
    let length = 6 + usize::from(input.byte() % 24);
    let split = if input.flag() { "train" } else { "dev" };
    let mut files = seed();
    files.edit(&mut input, &KEYS, |_| true);
    let (_scratch, folder) = files.folder("data");
    outcome(read(&folder, split, length, &settings))
}

fn read(folder: &Path, split: &str, length: usize, settings: &QaSettings) -> Result<()> {
    let file = folder.join("dev.json");
    let recipe = TaskRecipe {
        name: if settings.version_2_with_negative { "squad_v2" } else { "squad" }.into(),
        train: Some(file.clone()),
        dev: Some(file.clone()),
        ..TaskRecipe::default()
    };
    let set = read_split(&recipe, split)?;
    let all = QaDataset::read(&file)?;
    assert_eq!(set.len() + set.skipped, all.len() + all.skipped, "questions went missing");
    let windows = encode_windows(&tokenizer(length), &set.examples, settings)?;
    let mut predictions = Vec::new();
    for (at, example) in set.examples.iter().enumerate() {
        let own: Vec<&QaWindow> = windows.iter().filter(|window| window.example == at).collect();
        assert!(!own.is_empty(), "a question without a window");
        own.iter().for_each(|window| check(window, example, length, split));
        let logits: Vec<WindowLogits> = own.iter().map(|window| logits(window)).collect();
        let pairs: Vec<_> = own.iter().copied().zip(&logits).collect();
        let answer = best_answer(example, &pairs, settings);
        for candidate in answer.candidates.iter().filter(|found| found.end > found.start) {
            let count = candidate.end - candidate.start;
            let text: String = example.context.chars().skip(candidate.start).take(count).collect();
            assert_eq!(text, candidate.text, "an answer from elsewhere");
        }
        predictions.push(answer);
    }
    let task = task("squad", settings.version_2_with_negative);
    let report = score(&task, &set.examples, &predictions, settings.version_2_with_negative)?;
    let text = report.to_string();
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    Ok(())
}

/// A window's tokens are within bounds, in order, and hold the answer they say they hold.
fn check(window: &QaWindow, example: &QaExample, length: usize, split: &str) {
    assert!(window.input_ids.len() <= length, "{} tokens", window.input_ids.len());
    assert_eq!(window.context.len(), window.offsets.len());
    assert!(window.context.end <= window.input_ids.len());
    let characters = example.context.chars().count();
    let mut before = 0;
    for &(start, end) in &window.offsets {
        assert!(before <= start && start <= end && end <= characters, "{:?}", window.offsets);
        before = start;
    }
    let Some(answer) = example.answers.first().filter(|_| split == "train") else { return };
    let begin = answer.start.expect("an answer to learn from has a place");
    if window.answer != (0, 0) {
        let (first, last) = window.answer;
        assert!(window.context.contains(&first) && window.context.contains(&last));
        let (first, last) = (first - window.context.start, last - window.context.start);
        let end = begin + answer.text.chars().count();
        assert!(first <= last, "an answer that ends before it begins");
        assert!(window.offsets[first].0 <= begin && window.offsets[last].1 >= end);
    }
}

/// Some logits for a window, with ties.
fn logits(window: &QaWindow) -> WindowLogits {
    let value = |at: usize, id: &u32| ((at * 7 + *id as usize * 3) % 11) as f32 - 5.0;
    let start = window.input_ids.iter().enumerate().map(|(at, id)| value(at, id)).collect();
    let end = window.input_ids.iter().enumerate().map(|(at, id)| value(at + 3, id)).collect();
    WindowLogits { start, end }
}

fn tokenizer(length: usize) -> TextTokenizer {
    static TOKENIZER: OnceLock<TextTokenizer> = OnceLock::new();
    let tokenizer = TOKENIZER.get_or_init(|| {
        let json = seeds::tokenizer_json().to_string();
        TextTokenizer::from_bytes(json.as_bytes(), None, 16).expect("a valid tokenizer")
    });
    tokenizer.clone().with_max_length(length).expect("room for text")
}
