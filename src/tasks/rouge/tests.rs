use serde::Deserialize;

use super::*;
use crate::tasks::MetricKind;

const CASES: &str = include_str!("../../../tests/fixtures/rouge.json");

/// `[kind][precision, recall, F]`
type Scores = [[f64; 3]; 4];

#[derive(Deserialize)]
struct Cases {
    mean: Both,
    words: Vec<String>,
    stems: Vec<String>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Both {
    plain: Scores,
    stemmed: Scores,
}

#[derive(Deserialize)]
struct Pair {
    reference: String,
    prediction: String,
    #[serde(flatten)]
    scores: Both,
}

fn cases() -> Cases {
    serde_json::from_str(CASES).unwrap()
}

fn array(rouge: &Rouge) -> Scores {
    [rouge.rouge1, rouge.rouge2, rouge.rouge_l, rouge.rouge_lsum]
        .map(|score| [score.precision, score.recall, score.fmeasure])
}

fn assert_close(ours: &Rouge, theirs: &Scores, case: &str) {
    let ours = array(ours);
    for (kind, theirs) in MetricKind::ROUGE.iter().zip(theirs.iter().zip(&ours)) {
        for (there, here) in theirs.0.iter().zip(theirs.1) {
            assert!((here - there).abs() <= 1e-12, "{case}: {kind}: {here} here, {there} there");
        }
    }
}

#[test]
fn pairs_score_as_in_rouge_score() {
    let cases = cases();
    assert!(cases.pairs.len() > 300);
    for (stemming, mean) in [(false, &cases.mean.plain), (true, &cases.mean.stemmed)] {
        let mut scores = RougeScores::new(stemming);
        for pair in &cases.pairs {
            let rouge = scores.push(&pair.prediction, &pair.reference);
            let theirs = if stemming { &pair.scores.stemmed } else { &pair.scores.plain };
            assert_close(&rouge, theirs, &format!("{:?} / {:?}", pair.reference, pair.prediction));
        }
        assert_eq!(scores.len(), cases.pairs.len());
        assert_close(&scores.mean().unwrap(), mean, "mean");
        let report = scores.report().unwrap();
        assert_eq!(report.examples, cases.pairs.len());
        assert_eq!(report.values.keys().copied().collect::<Vec<_>>(), MetricKind::ROUGE);
        for (value, theirs) in report.values.values().zip(mean) {
            assert!((value - theirs[2]).abs() <= 1e-12);
        }
        assert_eq!(report.primary_value(), report.values[&MetricKind::Rouge2]);
    }
}

#[test]
fn words_have_nltks_stems() {
    let cases = cases();
    let split = |lines: &[String]| -> Vec<String> {
        lines.iter().flat_map(|line| line.split(' ').map(str::to_owned)).collect()
    };
    let (words, stems) = (split(&cases.words), split(&cases.stems));
    assert!(words.len() > 4000 && words.len() == stems.len());
    for (word, stem) in words.iter().zip(stems) {
        let mut ours = word.clone();
        porter::stem(&mut ours);
        assert_eq!(ours, stem, "stem of {word}");
    }
}

#[test]
fn examples_of_porters_paper() {
    // (word, stem after all steps)
    let examples = "caresses caress ponies poni cats cat feed feed agreed agre plastered plaster \
        motoring motor sing sing conflated conflat troubled troubl sized size hopping hop falling \
        fall filing file relational relat rational ration vietnamization vietnam formative form \
        electriciti electr goodness good replacement replac adoption adopt probate probat rate rate \
        cease ceas controlling control rolls roll generalizations gener oscillators oscil";
    let words: Vec<&str> = examples.split_whitespace().collect();
    for pair in words.chunks(2) {
        let mut ours = pair[0].to_owned();
        porter::stem(&mut ours);
        assert_eq!(ours, pair[1], "stem of {}", pair[0]);
    }
}

#[test]
fn words_that_are_no_words_are_left_alone() {
    for word in ["", "s", "as", "Running", "émigrés", "a b"] {
        let mut ours = word.to_owned();
        porter::stem(&mut ours);
        assert_eq!(ours, word);
    }
}

#[test]
fn summary_level_takes_the_union_over_lines() {
    // The example of section 3.2 of the paper: the union covers w1 w2 w3 w5, four of five words.
    // With the lines swapped, the texts as a whole have only w1 w3 w5 in common.
    let rouge = RougeScorer::new(false).score("w1 w3 w8 w9 w5\nw1 w2 w6 w7 w8", "w1 w2 w3 w4 w5");
    assert_eq!((rouge.rouge_lsum.recall, rouge.rouge_lsum.precision), (0.8, 0.4));
    assert_eq!((rouge.rouge_l.recall, rouge.rouge_l.precision), (0.6, 0.3));
}

#[test]
fn prediction_and_reference_trade_precision_and_recall() {
    let rouge = RougeScorer::new(true).score("the cat", "the cat sat on the mat");
    let back = RougeScorer::new(true).score("the cat sat on the mat", "the cat");
    assert_eq!((rouge.rouge1.precision, rouge.rouge1.recall), (1.0, 2.0 / 6.0));
    assert_eq!((back.rouge1.precision, back.rouge1.recall), (2.0 / 6.0, 1.0));
    assert_eq!(rouge.rouge1.fmeasure, back.rouge1.fmeasure);
}

#[test]
fn a_report_needs_pairs_and_one_of_rouges_metrics() {
    let empty = RougeScores::new(true);
    assert!(empty.is_empty());
    let message = empty.report().unwrap_err().to_string();
    assert!(message.contains("no summary was evaluated"), "{message}");
    let message = empty.clone().with_primary(MetricKind::F1).unwrap_err().to_string();
    assert!(message.contains("f1") && message.contains("rougeLsum"), "{message}");
    let mut scores = empty.with_primary(MetricKind::RougeL).unwrap();
    scores.push("a b c d", "a c");
    let report = scores.report().unwrap();
    assert!((report.primary_value() - 2.0 * 0.5 / 1.5).abs() < 1e-15, "{report}");
    assert_eq!(report.to_string(), "rouge1 0.6667, rouge2 0.0000, rougeL 0.6667, rougeLsum 0.6667");
}
