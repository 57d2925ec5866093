//! Tests the inputs of `predict` and the moment of its answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};

use serde_json::Value;

use super::cli::{fails, losparse, refs, stdout, text};
use super::place::Place;

/// A run with an open standard input and its lines of standard output.
fn start(args: &[&str]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut child = losparse(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, input, output)
}

/// A whole run with this standard input.
fn with_input(args: &[&str], input: &[u8]) -> Output {
    let (child, mut stdin, mut out) = start(args);
    stdin.write_all(input).unwrap();
    drop(stdin);
    let mut stdout = Vec::new();
    out.read_to_end(&mut stdout).unwrap();
    Output { stdout, ..child.wait_with_output().unwrap() }
}

fn texts(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    let text = |line: &str| serde_json::from_str::<Value>(line).expect(line)["text"].take();
    lines.lines().map(text).collect()
}

#[test]
fn there_are_as_many_answers_as_lines() {
    let place = Place::shared();
    let predict = ["predict", &place.arg("model"), "--json"];
    let input = "\u{feff}good film\r\n\r\n   \ndull\tfilm\tis\nbad";
    let output = with_input(&predict, input.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(texts(&output), ["good film", "", "   ", "dull", "bad"]);
    // Also as a table, and with blank lines at the end.
    let output = with_input(&predict[..2], b"good\n\n\n");
    assert_eq!(text(&output.stdout).lines().count(), 4, "{}", text(&output.stdout));
    for nothing in ["", "\u{feff}"] {
        let output = with_input(&predict, nothing.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("no text given"), "{}", text(&output.stderr));
    }
}

/// Each text is sent only after the answer before, so a run that waits for the end of its input
/// hangs here.
#[test]
fn lines_are_answered_as_they_come() {
    let place = Place::shared();
    for args in [&["--json"][..], &[]] {
        let model = place.arg("model");
        let (mut child, mut input, mut output) = start(&[&["predict", &model], args].concat());
        let mut line = String::new();
        for (number, word) in ["good", "", "bad"].into_iter().enumerate() {
            writeln!(input, "{word}").unwrap();
            if number == 0 && args.is_empty() {
                output.read_line(&mut line).unwrap();
                assert_eq!(line, "label  probability  text\n");
            }
            line.clear();
            output.read_line(&mut line).unwrap();
            assert!(line.contains(word) && line.contains("0."), "{line}");
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

/// Reads the first `count` answers to an endless input.
fn read_some(args: &[&str], count: usize) -> Output {
    let (child, mut input, mut output) = start(args);
    // The thread ends with the program.
    let endless = std::thread::spawn(move || while input.write_all(b"good film\n").is_ok() {});
    let mut line = String::new();
    for _ in 0..count {
        line.clear();
        output.read_line(&mut line).unwrap();
    }
    drop(output);
    let output = child.wait_with_output().unwrap();
    endless.join().unwrap();
    output
}

#[test]
fn a_reader_that_has_enough_ends_an_endless_run_quietly() {
    let place = Place::shared();
    let model = place.arg("model");
    for args in [&["predict", &model, "--json"][..], &["predict", &model]] {
        let output = read_some(args, 3);
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
    }
}

/// Peak memory of a process so far, KiB.
#[cfg(target_os = "linux")]
fn most_memory(child: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A text that stays in memory takes about 300 bytes with its tokens and answer.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_stream() {
    const BLOCK: usize = 20_000;
    let place = Place::shared();
    let model = place.arg("model");
    let (mut child, mut input, mut output) = start(&["predict", &model, "--json"]);
    let lines = "the film is very very good\n".repeat(BLOCK);
    let blocks = 6;
    let writer = std::thread::spawn(move || {
        (0..blocks).for_each(|_| input.write_all(lines.as_bytes()).unwrap());
    });
    let mut line = String::new();
    let mut read = |count: usize| {
        for _ in 0..count {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0);
        }
    };
    read(BLOCK);
    let before = most_memory(&child);
    read((blocks - 2) * BLOCK);
    let grown = most_memory(&child) - before;
    read(BLOCK);
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    let kept = (blocks - 2) * BLOCK * 300 / 1024;
    assert!(grown < kept / 2, "{grown} KiB more than {before} KiB");
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let place = Place::shared();
    let model = place.arg("model");
    let predict = ["predict", &model, "good"];
    let with = |more: &[&str], parts: &[&str]| fails(&[&predict[..], more].concat(), 1, parts);
    for count in ["0", "65537", "18446744073709551615"] {
        with(&["--batch-size", count], &["option --batch-size", count, "65536"]);
    }
    with(&["--max-length", "18446744073709551615"], &["option --max-length", "24"]);
    with(&["--max-length", "3"], &["option --max-length", "3 tokens"]);
    let bench = ["bench", &model, "--length", "8", "--repeat", "1"];
    let with = |more: &[&str], parts: &[&str]| fails(&[&bench[..], more].concat(), 1, parts);
    with(&["--batch", "0"], &["option --batch"]);
    with(&["--batch", "18446744073709551615"], &["option --batch"]);
    with(&["--warmup", "18446744073709551615"], &["option --warmup"]);
    with(&["--new-tokens", "0"], &["option --new-tokens"]);
    with(&["--new-tokens", "3"], &["option --new-tokens", "writes no texts"]);
    let (dev, columns) = (place.arg("dev.csv"), ["--text", "review", "--label", "mood"]);
    let evaluate = [&["evaluate", &model, "--dev", &dev], &columns[..]].concat();
    fails(&[&evaluate[..], &["--batch-size", "0"]].concat(), 1, &["option --batch-size"]);
    fails(&[&evaluate[..], &["--max-length", "0"]].concat(), 1, &["option --max-length"]);
}

#[test]
fn texts_are_single_or_pairs_as_the_model_was_trained() {
    let place = Place::new();
    let answers = |run: &str, more: &[&str], input: &[u8]| {
        let output = with_input(&[&["predict", &place.arg(run), "--json"], more].concat(), input);
        let lines = text(&output.stdout).lines().map(String::from).collect::<Vec<_>>();
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect(line));
        let said = match output.status.code() {
            Some(0) => String::new(),
            _ => text(&output.stderr),
        };
        (lines.map(|line| line["pair"].clone()).collect::<Vec<_>>(), said)
    };
    stdout(&refs(&place.run("finetune", "single", &["--epochs", "1"])));
    let (pairs, said) = answers("single", &[], b"good\tfilm\n");
    assert_eq!((pairs, said.as_str()), (vec![Value::Null], ""));
    let (pairs, said) = answers("single", &["good", "--pair", "film"], b"");
    assert!(pairs.is_empty() && said.contains("option --pair: the model was trained on single"));

    for file in ["train.csv", "dev.csv"] {
        let rows = std::fs::read_to_string(place.path(file)).unwrap();
        let with_second = |row: &str| match row.split_once(',') {
            Some(("review", mood)) => format!("review,second,{mood}\n"),
            Some((review, mood)) => format!("{review},the film,{mood}\n"),
            None => String::new(),
        };
        place.write(file, rows.lines().map(with_second).collect::<String>());
    }
    stdout(&refs(&place.run("finetune", "pairs", &["--epochs", "1", "--pair", "second"])));
    let (pairs, said) = answers("pairs", &[], b"good\tfilm\ndull\tfilm\n");
    assert_eq!((pairs, said.as_str()), (vec!["film".into(); 2], ""));
    let (_, said) = answers("pairs", &["good"], b"");
    assert!(said.contains("option --pair: missing: text 1 stands alone"), "{said}");
    let dev = place.arg("dev.csv");
    let alone = ["--dev", &dev, "--text", "second", "--label", "mood"];
    fails(
        &[&["evaluate", &place.arg("single")][..], &alone, &["--pair", "review"]].concat(),
        1,
        &["option --pair: the model was trained on single texts"],
    );
    let (pairs, _) = answers("pairs", &["--file", &place.arg("dev.csv")], b"");
    assert_eq!(pairs, vec![Value::from("the film"); 24]);
}

/// Every line is answered, or has an error in its place.
#[test]
fn a_line_without_an_answer_ends_nothing() {
    let place = Place::new();
    for file in ["train.csv", "dev.csv"] {
        let rows = std::fs::read_to_string(place.path(file)).unwrap();
        let rows = rows.replace(',', ",the film,").replacen("the film", "second", 1);
        place.write(file, rows);
    }
    stdout(&refs(&place.run("finetune", "pairs", &["--epochs", "1", "--pair", "second"])));
    let alone = "stands alone, and the model was trained on pairs of texts";
    let ask = |model: &str, more: &[&str], input: &[u8]| {
        let output = with_input(&[&["predict", &place.arg(model)], more].concat(), input);
        assert_eq!(output.status.code(), Some(1));
        let lines = text(&output.stdout).lines().map(String::from).collect::<Vec<_>>();
        (lines, text(&output.stderr))
    };
    let input = b"good\tfilm\ndull\n\nb\xe9\tfilm\ndull\tfilm";
    let (lines, said) = ask("pairs", &["--json"], input);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    for (at, error) in [(1, alone), (2, alone), (3, "not UTF-8")] {
        assert_eq!(lines[at]["line"], Value::from(at + 1));
        assert!(lines[at]["error"].as_str().unwrap().starts_with(error), "{lines:?}");
    }
    for at in [0, 4] {
        assert_eq!(lines[at]["pair"], "film");
        assert!(lines[at]["label"].is_string());
    }
    assert!(said.contains("3 of 5 lines got no answer; the first: line 2: stands alone"), "{said}");
    let (lines, _) = ask("pairs", &[], input);
    let begin = |line: &String| line.split_whitespace().next().unwrap().to_string();
    assert_eq!(lines.iter().filter(|line| begin(line) == "error").count(), 3, "{lines:?}");
    assert_eq!(lines.len(), 6);
    assert!(lines[2].contains("line 2: stands alone"), "{lines:?}");
    // Nothing at all can be answered.
    let (lines, said) = ask("pairs", &["--json"], b"dull\n");
    assert_eq!(lines.len(), 1);
    assert!(said.contains("1 of 1 lines got no answer"), "{said}");
    let (lines, said) = ask("model", &[], b"dull\nb\xe9\ngood\n");
    assert_eq!(lines.len(), 4);
    assert!(said.contains("line 2: not UTF-8"), "{said}");
}

/// A head for tokens or for choices is called as one for texts is.
#[test]
fn a_head_of_another_kind_answers_nothing_about_texts() {
    let place = Place::new();
    for (name, head) in [("tokens", "ForTokenClassification"), ("choices", "ForMultipleChoice")] {
        let config = place.copy(name).join("config.json");
        let changed = std::fs::read_to_string(&config).unwrap();
        let changed = changed.replace("ForSequenceClassification", head);
        std::fs::write(config, changed).unwrap();
        let model = place.arg(name);
        let left = format!("the trained head of Bert{head} is left behind");
        fails(&["predict", &model, "good"], 1, &["no trained head", &left]);
        let dev = place.arg("dev.csv");
        let evaluate = ["evaluate", &model, "--dev", &dev, "--text", "review", "--label", "mood"];
        fails(&evaluate, 1, &["no trained head", &left]);
        // Training makes another one.
        let mut args = place.run("finetune", &format!("{name}-run"), &["--epochs", "1"]);
        args[1] = model;
        let output = losparse(&refs(&args)).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success() && said.contains(&left), "{said}");
        assert!(said.contains("newly initialised: classifier.bias"), "{said}");
    }
}
