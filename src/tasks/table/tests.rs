use std::fs;
use std::path::PathBuf;

use super::*;
use crate::tasks::MetricKind;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn labelled() -> TableOptions {
    TableOptions {
        name: "review".into(),
        text: "text".into(),
        pair: None,
        target: TableTarget::Label { column: "label".into(), labels: None },
        format: None,
        quoting: None,
    }
}

fn scored() -> TableOptions {
    TableOptions { target: TableTarget::Score { column: "score".into() }, ..labelled() }
}

fn texts(data: &TextDataset) -> Vec<&str> {
    data.examples.iter().map(|example| example.text.as_str()).collect()
}

fn classes(data: &TextDataset) -> Vec<usize> {
    let class = |label| match label {
        Some(Label::Class(class)) => class,
        other => panic!("{other:?}"),
    };
    data.examples.iter().map(|example| class(example.label)).collect()
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn csv_tsv_and_jsonl_say_the_same() {
    let files = Files::new();
    let csv = files.write(
        "a.csv",
        "id,label,text,other\n1,pos,\"good, \"\"very\"\" good\",b\n2,neg,bad\ttext,c\n3,pos,ok,d\n",
    );
    let jsonl = files.write(
        "a.jsonl",
        r#"{"text": "good, \"very\" good", "label": "pos", "other": "b"}
{"label": "neg", "text": "bad\ttext", "other": "c"}

{"text": "ok", "label": "pos", "other": "d", "more": [1]}
"#,
    );
    let options = TableOptions { pair: Some("other".into()), ..labelled() };
    let data = options.read_train(&csv).unwrap();
    assert_eq!(texts(&data), ["good, \"very\" good", "bad\ttext", "ok"]);
    assert_eq!(classes(&data), [1, 0, 1]);
    assert_eq!(data.examples[1].pair.as_deref(), Some("c"));
    assert_eq!(data.task.labels(), ["neg", "pos"]);
    assert_eq!(data.task.metrics, [MetricKind::Accuracy, MetricKind::F1]);
    assert_eq!(options.read_train(&jsonl).unwrap(), data);

    let tsv = files.write("a.TSV", "text\tlabel\n\"quoted\" text\tpos\n\"x\tneg\n");
    let data = labelled().read_train(&tsv).unwrap();
    assert_eq!(texts(&data), ["\"quoted\" text", "\"x"]);
    let quoted = files.write("q.tsv", "text\tlabel\n\"a\tb\"\tpos\nc\tneg\n");
    let options = TableOptions { quoting: Some(true), ..labelled() };
    assert_eq!(texts(&options.read_train(&quoted).unwrap()), ["a\tb", "c"]);

    let unknown = files.write("a.data", "text,label\na,x\nb,y\n");
    assert!(error(labelled().read_train(&unknown)).contains("say which format"));
    let options = TableOptions { format: Some(TableFormat::Csv), ..labelled() };
    assert_eq!(texts(&options.read_train(&unknown).unwrap()), ["a", "b"]);
}

#[test]
fn labels_are_sorted_as_numbers_if_they_are() {
    let files = Files::new();
    let labels = |values: &str| {
        let rows: String = values.split(' ').map(|value| format!("t,{value}\n")).collect();
        let path = files.write("l.csv", format!("text,label\n{rows}"));
        labelled().read_train(path).unwrap().task.labels().to_vec()
    };
    assert_eq!(labels("10 9 -1 9"), ["-1", "9", "10"]);
    assert_eq!(labels("10 9 x"), ["10", "9", "x"]);
    let json = "{\"text\":\"a\",\"label\":10}\n{\"text\":\"b\",\"label\":9}\n";
    let data = labelled().read_train(files.write("l.jsonl", json)).unwrap();
    assert_eq!(data.task.labels(), ["9", "10"]);
    assert_eq!(classes(&data), [1, 0]);
    let json = "{\"text\":\"a\",\"label\":true}\n{\"text\":\"b\",\"label\":false}\n";
    let data = labelled().read_train(files.write("l.jsonl", json)).unwrap();
    assert_eq!(data.task.labels(), ["false", "true"]);
}

#[test]
fn given_labels_keep_their_order() {
    let files = Files::new();
    let path = files.write("a.csv", "text,label\na,neg\nb,pos\n");
    let target = |labels: &[&str]| TableTarget::Label {
        column: "label".into(),
        labels: Some(labels.iter().map(|label| label.to_string()).collect()),
    };
    let options = TableOptions { target: target(&["pos", "neutral", "neg"]), ..labelled() };
    let data = options.read_train(&path).unwrap();
    assert_eq!(classes(&data), [2, 0]);
    assert_eq!(data.task.metrics, [MetricKind::Accuracy]);
    let options = TableOptions { target: target(&["pos", "neutral"]), ..labelled() };
    let message = error(options.read_train(&path));
    assert!(message.contains("line 2") && message.contains("\"neg\""), "{message}");
}

#[test]
fn evaluation_uses_the_tasks_labels() {
    let files = Files::new();
    let train = labelled().read_train(files.write("t.csv", "text,label\na,x\nb,y\n")).unwrap();
    let dev = files.write("d.csv", "text,label\nc,y\n");
    let data = labelled().read_eval(&dev, &train.task).unwrap();
    assert_eq!((classes(&data), &data.task), (vec![1], &train.task));
    let dev = files.write("d.csv", "label,text\ny,c\n z ,d\n");
    let message = error(labelled().read_eval(&dev, &train.task));
    assert!(message.contains("d.csv: line 3: column \"label\": label \"z\""), "{message}");
    assert!(message.contains("x, y"), "{message}");
    let message = error(scored().read_eval(&dev, &train.task));
    assert!(message.contains("do not go together"), "{message}");

    let plain = files.write("p.csv", "text\nonly text\n");
    let data = labelled().read_unlabeled(&plain, &train.task).unwrap();
    assert_eq!(texts(&data), ["only text"]);
    assert_eq!(data.examples[0].label, None);
}

#[test]
fn scores_are_finite_numbers() {
    let files = Files::new();
    let data = scored().read_train(files.write("s.csv", "text,score\na,-1.5\nb, 2e-1\n")).unwrap();
    let scores: Vec<_> = data.examples.iter().map(|example| example.label).collect();
    assert_eq!(scores, [Some(Label::Score(-1.5)), Some(Label::Score(0.2))]);
    assert_eq!(data.task, Task::regression("review"));
    for (value, what) in [
        ("x", "\"x\" is not a number"),
        ("", "\"\" is not a number"),
        ("nan", "\"nan\" is not a finite number"),
        ("1e39", "\"1e39\" is not a finite number"),
    ] {
        let path = files.write("s.csv", format!("text,score\na,1\n\nb,{value}\n"));
        let message = error(scored().read_train(path));
        assert!(message.contains("s.csv: line 4: column \"score\""), "{message}");
        assert!(message.contains(what), "{message}");
    }
    let json = "{\"text\":\"a\",\"score\":3}\n{\"text\":\"b\",\"score\":\"0.5\"}\n";
    let data = scored().read_train(files.write("s.jsonl", json)).unwrap();
    assert_eq!(data.examples[0].label, Some(Label::Score(3.0)));
    assert_eq!(data.examples[1].label, Some(Label::Score(0.5)));
    let json = "{\"text\":\"a\",\"score\":null}\n";
    let message = error(scored().read_train(files.write("s.jsonl", json)));
    assert!(message.contains("line 1: column \"score\": no score"), "{message}");
}

#[test]
fn broken_files_are_explained() {
    let files = Files::new();
    let fail = |name: &str, text: &[u8]| error(labelled().read_train(files.write(name, text)));
    for (name, text, what) in [
        ("a.csv", &b""[..], "no rows"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,labels\na,b\n", "no column \"label\"; the columns are: text, labels"),
        ("a.csv", b"text,label\na,b\nc\n", "line 3: 1 fields, but 2 columns (text, label)"),
        ("a.csv", b"text,label\na,b\n\xff,c\n", "line 3 is not UTF-8"),
        ("a.jsonl", b"{\"text\":\"a\",\"label\":1}\n\xff\n", "line 2 is not UTF-8"),
        ("a.csv", b"text,label\na,b\nc, \n", "line 3: column \"label\": no label"),
        ("a.csv", b"text,label\na,b\nc,b\n", "is \"b\" in every row"),
        ("a.jsonl", b"{\"text\":\"a\",\"label\":1}\n{\"text\":\n", "line 2: not a JSON object"),
        ("a.jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("a.jsonl", b"{\"text\":\"a\",\"l\":1}\n", "line 1: no column \"label\"; the columns are"),
        ("a.jsonl", b"{\"text\":5,\"label\":1}\n", "line 1: column \"text\": 5 is not a string"),
        ("a.jsonl", b"{\"text\":\"a\",\"label\":[1]}\n", "[1] is not a string or number"),
        ("a.jsonl", b"{\"text\":\"a\",\"label\":null}\n", "line 1: column \"label\": no label"),
    ] {
        let message = fail(name, text);
        assert!(message.contains(what), "{what:?} not in {message:?}");
        assert!(message.contains(name), "{message}");
    }
    assert!(error(labelled().read_train("missing.csv")).contains("missing.csv"));
}

#[test]
fn options_come_from_a_file() {
    let options: TableOptions =
        serde_json::from_str(r#"{"name": "r", "text": "t", "target": {"score": {"column": "s"}}}"#)
            .unwrap();
    assert_eq!(options.target, TableTarget::Score { column: "s".into() });
    let typo = r#"{"name": "r", "txt": "t", "target": {"score": {"column": "s"}}}"#;
    assert!(serde_json::from_str::<TableOptions>(typo).is_err());
}
