use std::fs;

use super::*;

/// The folder of the official files, if `LOSPARSE_SHARED` names one.
fn shared() -> Option<PathBuf> {
    let Some(shared) = std::env::var_os("LOSPARSE_SHARED") else {
        crate::say_skipped("LOSPARSE_SHARED is not set");
        return None;
    };
    Some(Path::new(&shared).join("data/glue"))
}

/// A folder with small files of a task in the official layout.
fn folder(name: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let task = root.path().join(name);
    fs::create_dir(&task).unwrap();
    for (file, text) in files {
        fs::write(task.join(file), text).unwrap();
    }
    root
}

fn summary(dataset: &TextDataset) -> Vec<(&str, Option<&str>, Option<Label>)> {
    let examples = dataset.examples.iter();
    examples.map(|example| (&*example.text, example.pair.as_deref(), example.label)).collect()
}

fn class(index: usize) -> Option<Label> {
    Some(Label::Class(index))
}

#[test]
fn official_files_have_their_counts() {
    let Some(glue) = shared() else { return };
    // Examples of train and dev, and of class 1 in dev (by `cut | sort | uniq -c`).
    for (task, train, dev, ones) in [
        (GlueTask::Sst2, 67_349, 872, 444),
        (GlueTask::Mrpc, 3_667, 408, 279),
        (GlueTask::Rte, 2_490, 277, 131),
        (GlueTask::Stsb, 5_749, 1_500, 0),
    ] {
        let data = task.load(&glue, Split::Train).unwrap();
        assert_eq!((data.len(), data.skipped), (train, 0), "{task}");
        let data = task.load(&glue, Split::Dev).unwrap();
        assert_eq!((data.len(), data.skipped), (dev, 0), "{task}");
        let found = data.examples.iter().filter(|example| example.label == class(1)).count();
        assert_eq!(found, ones, "{task}");
        assert!(data.examples.iter().all(|example| !example.text.is_empty()));
        assert!(data.examples.iter().all(|e| e.pair.is_some() == (task != GlueTask::Sst2)));
    }
    let rte = GlueTask::Rte.load(glue.join("RTE"), Split::Dev).unwrap();
    assert_eq!(rte.examples[0].pair.as_deref(), Some("Christopher Reeve had an accident."));
    assert_eq!(rte.examples[0].label, class(1));
    let mrpc = GlueTask::Mrpc.load(&glue, Split::Train).unwrap();
    assert!(mrpc.examples[0].text.contains(r#"called " the witness " ,"#));
    let stsb = GlueTask::Stsb.load(&glue, Split::Train).unwrap();
    assert_eq!(stsb.examples[0].label, Some(Label::Score(5.0)));
    let scores = stsb.examples.iter().map(|example| match example.label {
        Some(Label::Score(score)) => score,
        other => panic!("{other:?}"),
    });
    assert!(scores.into_iter().all(|score| (0.0..=5.0).contains(&score)));
}

#[test]
fn cola_has_no_header() {
    let root = folder(
        "CoLA",
        &[
            (
                "train.tsv",
                "gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThe \"x\" laughed\n",
            ),
            ("test.tsv", "index\tsentence\n0\tBill whistled.\n"),
        ],
    );
    let data = GlueTask::Cola.load(root.path(), Split::Train).unwrap();
    assert_eq!(
        summary(&data),
        [("Our friends won't buy this.", None, class(1)), ("The \"x\" laughed", None, class(0))]
    );
    assert_eq!(data.task.labels(), ["unacceptable", "acceptable"]);
    let test = GlueTask::Cola.load(root.path(), Split::Test).unwrap();
    assert_eq!(summary(&test), [("Bill whistled.", None, None)]);
}

#[test]
fn qqp_skips_and_counts_broken_rows() {
    let rows = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n\
                1\t2\t3\tWhy?\tWhat for?\t1\n\
                4\t5\t6\tcut off here\n\
                \"7\t8\t9\tOne \"quote?\tTwo?\t0\n\
                too\tmany\tcolumns\tin\tthis\tone\t0\n";
    let root = folder("QQP", &[("train.tsv", rows)]);
    let data = GlueTask::Qqp.load(root.path(), Split::Train).unwrap();
    let expected =
        [("Why?", Some("What for?"), class(1)), ("One \"quote?", Some("Two?"), class(0))];
    assert_eq!(summary(&data), expected);
    assert_eq!(data.skipped, 2);
}

#[test]
fn mnli_has_two_evaluations_and_unlabelled_rows() {
    let parse = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t\
                 sentence1_parse\tsentence2_parse\tsentence1\tsentence2";
    let row = |labels: &str, text: &str| {
        format!(
            "0\t1\t1n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)\t{text}\thypothesis\t{labels}\n"
        )
    };
    let train = format!("{parse}\tlabel1\tgold_label\n{}", row("neutral\tneutral", "t"));
    let dev_header = format!("{parse}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n");
    let matched = dev_header.clone()
        + &row("neutral\tneutral\tneutral\tneutral\tentailment\tcontradiction", "m")
        + &row("neutral\tneutral\tentailment\tentailment\tcontradiction\t-", "no majority");
    let mismatched = dev_header + &row("a\tb\tc\td\te\tentailment", "mm");
    let test = format!("{parse}\n{}", row("", "x").replace("\t\n", "\n"));
    let root = folder(
        "MNLI",
        &[
            ("train.tsv", &train),
            ("dev_matched.tsv", &matched),
            ("dev_mismatched.tsv", &mismatched),
            ("test_mismatched.tsv", &test),
        ],
    );
    let load = |split| GlueTask::Mnli.load(root.path(), split).unwrap();
    let pair = Some("hypothesis");
    assert_eq!(summary(&load(Split::Train)), [("t", pair, class(1))]);
    assert_eq!(summary(&load(Split::Dev)), [("m", pair, class(2))]);
    assert_eq!(load(Split::Dev).skipped, 1);
    assert_eq!(summary(&load(Split::DevMismatched)), [("mm", pair, class(0))]);
    assert_eq!(summary(&load(Split::TestMismatched)), [("x", pair, None)]);
    assert_eq!(GlueTask::Mnli.dev_splits(), [Split::Dev, Split::DevMismatched]);
    let error = GlueTask::Rte.load(root.path(), Split::DevMismatched).unwrap_err().to_string();
    assert!(error.contains("only mnli"), "{error}");
}

#[test]
fn qnli_and_wnli_are_read() {
    let root = folder(
        "qnli",
        &[("dev.tsv", "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tnot_entailment\n")],
    );
    let data = GlueTask::Qnli.load(root.path(), Split::Dev).unwrap();
    assert_eq!(summary(&data), [("Who?", Some("He."), class(1))]);

    let rows = "index\tsentence1\tsentence2\tlabel\r\n0\tA \"b\" c.\tD.\t0\r\n1\tE.\tF.\t1\r\n";
    let root = folder("wnli", &[("dev.tsv", rows)]);
    let data = GlueTask::Wnli.load(root.path(), Split::Dev).unwrap();
    let expected = [("A \"b\" c.", Some("D."), class(0)), ("E.", Some("F."), class(1))];
    assert_eq!(summary(&data), expected);
}

#[test]
fn folders_are_found_in_any_spelling() {
    let rows = "sentence\tlabel\nfine\t1\n";
    for name in ["SST-2", "sst2", "SST2", "sst-2", "Sst_2"] {
        let root = folder(name, &[("dev.tsv", rows)]);
        for path in [root.path().to_path_buf(), root.path().join(name)] {
            let data = GlueTask::Sst2.load(&path, Split::Dev).unwrap();
            assert_eq!(summary(&data), [("fine", None, class(1))]);
        }
        let error = GlueTask::Sst2.load(root.path(), Split::Train).unwrap_err().to_string();
        assert!(error.contains("neither train.tsv nor SST-2/train.tsv"), "{error}");
        // The folder of another task is not taken for this one's.
        let error = GlueTask::Stsb.load(root.path(), Split::Dev).unwrap_err().to_string();
        assert!(error.contains("STS-B/dev.tsv"), "{error}");
    }
    let error = GlueTask::Sst2.load("no-such-folder", Split::Dev).unwrap_err().to_string();
    assert!(error.contains("no-such-folder"), "{error}");
}

#[test]
fn broken_files_name_file_and_line() {
    let fail = |task: GlueTask, text: &str| {
        let root = folder(task.name(), &[("dev.tsv", text)]);
        task.load(root.path(), Split::Dev).unwrap_err().to_string()
    };
    let error = fail(GlueTask::Sst2, "sentence\tlabel\nok\t1\nbad\t2\n");
    assert!(error.contains("dev.tsv: line 3: column \"label\": \"2\" is none of 0, 1"), "{error}");
    let error = fail(GlueTask::Rte, "index\tsentence1\tsentence2\tlabel\n0\ta\tb\n");
    assert!(error.contains("line 2: 3 fields, but 4 columns"), "{error}");
    let error = fail(GlueTask::Wnli, "index\tsentence1\tlabel\n0\ta\t1\n");
    assert!(error.contains("no column \"sentence2\""), "{error}");
    let sts = "sentence1\tsentence2\tscore\na\tb\tNaN\n";
    let error = fail(GlueTask::Stsb, sts);
    assert!(error.contains("line 2: column \"score\": \"NaN\" is not a finite number"), "{error}");
    let error = fail(GlueTask::Qqp, "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\n");
    assert!(error.contains("none of 1 rows is usable"), "{error}");
}

#[test]
fn tasks_have_their_names_labels_and_metrics() {
    for task in GlueTask::ALL {
        assert_eq!(task.to_string().parse::<GlueTask>().unwrap(), task);
        assert_eq!(task.layout().folder.parse::<GlueTask>().unwrap(), task);
        task.task().validate().unwrap();
    }
    let metrics = |task: GlueTask| task.task().metrics;
    assert_eq!(metrics(GlueTask::Cola), [MetricKind::Matthews]);
    assert_eq!(metrics(GlueTask::Mrpc), [MetricKind::Accuracy, MetricKind::F1]);
    assert_eq!(metrics(GlueTask::Stsb), [MetricKind::Pearson, MetricKind::Spearman]);
    assert_eq!(metrics(GlueTask::Rte), [MetricKind::Accuracy]);
    assert_eq!(GlueTask::Mnli.task().labels(), ["entailment", "neutral", "contradiction"]);
    assert_eq!(GlueTask::Stsb.task().num_labels(), 1);
    let error = "squad".parse::<GlueTask>().unwrap_err().to_string();
    assert!(error.contains("cola, sst2"), "{error}");
}
