use std::path::Path;

use super::*;
use crate::tasks::TextTokenizer;
use crate::tasks::squad::{QaDataset, encode_windows};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    version_2: bool,
    n_best: usize,
    max_answer_length: usize,
    threshold: f64,
    example: usize,
    start: Vec<Vec<f32>>,
    end: Vec<Vec<f32>>,
    text: String,
    score_diff: Option<f64>,
    candidates: Vec<(String, f64)>,
}

/// Answers, candidates and null scores equal those of `utils_qa.py` (`fixtures/squad.py`).
#[test]
fn answers_equal_transformers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let data = QaDataset::read(fixtures.join("squad/train-v2.0.json")).unwrap();
    let tokenizer = TextTokenizer::from_folder(fixtures.join("tokenizer/uncased"), 24).unwrap();
    let settings = QaSettings { doc_stride: 6, ..QaSettings::default() };
    let windows = encode_windows(&tokenizer, &data.examples, &settings).unwrap();
    let text = std::fs::read_to_string(fixtures.join("squad/answers.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 6 * 13);
    for (number, case) in cases.into_iter().enumerate() {
        let settings = QaSettings {
            doc_stride: 6,
            n_best: case.n_best,
            max_answer_length: case.max_answer_length,
            version_2_with_negative: case.version_2,
            null_score_diff_threshold: case.threshold,
        };
        let logits = case.start.into_iter().zip(case.end);
        let logits: Vec<WindowLogits> =
            logits.map(|(start, end)| WindowLogits { start, end }).collect();
        let own: Vec<&QaWindow> = windows.iter().filter(|w| w.example == case.example).collect();
        assert_eq!(own.len(), logits.len());
        let pairs: Vec<(&QaWindow, &WindowLogits)> = own.into_iter().zip(&logits).collect();
        let found = best_answer(&data.examples[case.example], &pairs, &settings);
        assert_eq!(found.text, case.text, "case {number}");
        assert_eq!(found.score_diff, case.score_diff, "case {number}");
        assert_eq!(found.candidates.len(), case.candidates.len(), "case {number}");
        for (found, (text, probability)) in found.candidates.iter().zip(&case.candidates) {
            assert_eq!(&found.text, text, "case {number}");
            assert!((found.probability - probability).abs() < 1e-9, "case {number}");
        }
    }
}
