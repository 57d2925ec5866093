use std::path::Path;

use super::*;
use crate::tasks::squad::QaDataset;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    data: String,
    tokenizer: String,
    max_length: usize,
    stride: usize,
    windows: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    example: usize,
    ids: Vec<u32>,
    types: Vec<u32>,
    context: (usize, usize),
    offsets: Vec<(usize, usize)>,
    answer: (usize, usize),
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tokenizer(name: &str, max_length: usize) -> TextTokenizer {
    TextTokenizer::from_folder(fixtures().join("tokenizer").join(name), max_length).unwrap()
}

/// Windows, offsets and labels equal those of `run_qa.py` (`fixtures/squad.py`).
#[test]
fn windows_equal_transformers() {
    let text = std::fs::read_to_string(fixtures().join("squad/windows.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let name = format!("{} {} {}", case.data, case.tokenizer, case.max_length);
        let data = QaDataset::read(fixtures().join("squad").join(&case.data)).unwrap();
        assert_eq!(data.skipped, 0, "{name}");
        let settings = QaSettings { doc_stride: case.stride, ..QaSettings::default() };
        let tokenizer = tokenizer(&case.tokenizer, case.max_length);
        let windows = encode_windows(&tokenizer, &data.examples, &settings).unwrap();
        assert_eq!(windows.len(), case.windows.len(), "{name}");
        for (found, expected) in windows.into_iter().zip(case.windows) {
            let expected = QaWindow {
                example: expected.example,
                input_ids: expected.ids,
                token_type_ids: expected.types,
                context: expected.context.0..expected.context.1,
                offsets: expected.offsets,
                answer: expected.answer,
            };
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn characters_of_bytes_are_whole() {
    let characters = Characters::of("aé東x");
    assert_eq!(characters.range((0, 1)), (0, 1));
    assert_eq!(characters.range((1, 3)), (1, 2));
    // Ranges that cut characters.
    assert_eq!(characters.range((2, 4)), (1, 3));
    assert_eq!(characters.range((4, 5)), (2, 3));
    assert_eq!(characters.range((0, 7)), (0, 4));
    assert_eq!(characters.range((7, 7)), (4, 4));
    assert_eq!(characters.range((0, 99)), (0, 4));
    assert_eq!(Characters::of("").range((0, 0)), (0, 0));
}

#[test]
fn questions_without_room_for_context_are_cut() {
    let example = |question: &str, context: &str| QaExample {
        id: "q7".into(),
        question: question.into(),
        context: context.into(),
        answers: vec![],
    };
    let settings = QaSettings { doc_stride: 2, ..QaSettings::default() };
    let tokenizer = tokenizer("uncased", 12);
    let long = "the cat ".repeat(20);
    // The question is cut to make room, if the overlap leaves any.
    let windows = encode_windows(&tokenizer, &[example(&long, &long)], &settings).unwrap();
    let ids = |text: &str| tokenizer.encode(text, None).unwrap().get_ids().to_vec();
    let question = &ids(&long)[1..5];
    assert!(windows.len() > 1);
    for window in &windows {
        assert!(window.input_ids.len() <= 12);
        assert_eq!(&window.input_ids[1..5], question);
        assert_eq!(window.context.start, 6, "[CLS] four tokens [SEP]");
    }
    let covered: Vec<usize> =
        windows.iter().flat_map(|window| &window.offsets).map(|offset| offset.0).collect();
    for word in 0..40 {
        assert!(covered.contains(&(word * 4)), "word {word}");
    }
    // A long question that fits is not cut.
    let whole =
        encode_windows(&tokenizer, &[example("the cat the cat the", "cat cat cat")], &settings);
    assert_eq!(whole.unwrap()[0].context.start, 7);
    let settings = QaSettings { doc_stride: 9, ..settings };
    let error = encode_windows(&tokenizer, &[example(&long, &long)], &settings).unwrap_err();
    assert!(error.to_string().contains("question q7"), "{error}");
    // An empty context is no error; it just holds no answer.
    let windows = encode_windows(&tokenizer, &[example("the cat", "")], &settings).unwrap();
    assert_eq!((windows.len(), windows[0].context.clone(), windows[0].answer), (1, 0..0, (0, 0)));
}
