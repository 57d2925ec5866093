use std::fs;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn texts(data: &SummarizationDataset) -> Vec<(&str, Option<&str>)> {
    data.examples.iter().map(|one| (one.document.as_str(), one.summary.as_deref())).collect()
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn csv_tsv_and_jsonl_say_the_same() {
    let files = Files::new();
    let options = SummarizationOptions::default();
    let jsonl = "{\"id\": 1, \"document\": \"Two\\nlines, \\\"so\\\"\", \"summary\": \"é\"}\n\n\
        {\"summary\": \"s\", \"document\": \"d\"}\n";
    let csv = "id,document,summary\n1,\"Two\nlines, \"\"so\"\"\",é\n2,d,s\n";
    let tsv = "summary\tdocument\né\t\"Two\nlines, \"\"so\"\"\"\ns\td\n";
    let expected = [("Two\nlines, \"so\"", Some("é")), ("d", Some("s"))];
    for (name, text, quoting) in
        [("a.jsonl", jsonl, None), ("a.csv", csv, None), ("a.tsv", tsv, Some(true))]
    {
        let options = SummarizationOptions { quoting, ..options.clone() };
        let path = files.write(name, text);
        let data = options.read(&path).unwrap();
        assert_eq!(texts(&data), expected, "{name}");
        let data = options.read_documents(&path).unwrap();
        assert_eq!(texts(&data), expected.map(|(document, _)| (document, None)), "{name}");
    }
    let path = files.write("a.txt", jsonl);
    assert!(error(options.read(&path)).contains("a.txt: not a .csv"));
    let options = SummarizationOptions { format: Some(TableFormat::Jsonl), ..options };
    assert_eq!(options.read(&path).unwrap().len(), 2);
}

#[test]
fn other_columns_by_name() {
    let files = Files::new();
    let path = files.write("a.csv", "id,article,highlights\n1,text,\"one\ntwo\"\n");
    let data = SummarizationOptions::cnn_dailymail().read(&path).unwrap();
    assert_eq!(texts(&data), [("text", Some("one\ntwo"))]);
    let message = error(SummarizationOptions::default().read(&path));
    let wanted = "a.csv: no column \"document\"; the columns are: id, article, highlights";
    assert!(message.ends_with(wanted), "{message}");
}

#[test]
fn empty_rows_are_skipped_unless_only_documents_are_read() {
    let files = Files::new();
    let path = files.write("a.csv", "document,summary\n,s\nd, \nd,s\n");
    let options = SummarizationOptions::default();
    let data = options.read(&path).unwrap();
    assert_eq!((texts(&data), data.skipped), (vec![("d", Some("s"))], 2));
    assert_eq!(options.read_documents(&path).unwrap().len(), 3);
    let path = files.write("b.csv", "document,summary\n,s\n");
    let message = error(options.read(&path));
    assert!(message.contains("none of 1 rows has both a \"document\""), "{message}");
}

#[test]
fn broken_files_name_line_and_column() {
    let files = Files::new();
    let options = SummarizationOptions::default();
    let good = "{\"document\": \"d\", \"summary\": \"s\"}\n";
    for (line, wanted) in [
        ("{\"document\": \"d\"}", "line 2: no column \"summary\"; the columns are: document"),
        ("{\"document\": \"d\", \"summary\": 3}", "line 2: column \"summary\": 3 is not a string"),
        (
            "{\"document\": [\"d\"], \"summary\": \"s\"}",
            "line 2: column \"document\": [\"d\"] is not",
        ),
        ("{\"document\": \"d\"", "line 2: not a JSON object"),
    ] {
        let path = files.write("a.jsonl", &format!("{good}{line}\n"));
        let message = error(options.read(&path));
        assert!(message.contains("a.jsonl: ") && message.contains(wanted), "{message}");
    }
    let path = files.write("a.tsv", "document\tsummary\nd\ts\n\nd\n");
    let message = error(options.read(&path));
    assert!(message.contains("line 4: 1 fields, but 2 columns"), "{message}");
}

#[test]
fn splits_are_found_by_their_usual_names() {
    let files = Files::new();
    let folder = files.0.path();
    let options = SummarizationOptions::default();
    let message = error(options.find(folder, Split::Dev));
    assert!(message.contains("no dev.*, validation.*, valid.*, val.* (jsonl"), "{message}");
    files.write("train.csv", "document,summary\nd,s\nd,s\n");
    let validation = files.write("validation.jsonl", "{\"document\":\"d\",\"summary\":\"s\"}\n");
    let test = files.write("test.tsv", "document\tsummary\nd\ts\n");
    assert_eq!(options.load(folder, Split::Train).unwrap().len(), 2);
    assert_eq!(options.find(folder, Split::Dev).unwrap(), validation);
    assert_eq!(options.find(folder, Split::Test).unwrap(), test);
    files.write("dev.csv", "document,summary\nd,s\n");
    let message = error(options.load(folder, Split::Dev));
    assert!(message.contains("dev.csv and validation.jsonl could each be"), "{message}");
    assert!(error(options.find(folder, Split::TestMismatched)).contains("no TestMismatched"));
    assert!(error(options.find(folder.join("none"), Split::Test)).contains("none: "));
}

#[test]
fn options_are_read_from_toml() {
    let options: SummarizationOptions = toml::from_str("document = \"body\"").unwrap();
    let expected = SummarizationOptions { document: "body".into(), ..Default::default() };
    assert_eq!(options, expected);
    assert!(toml::from_str::<SummarizationOptions>("documents = \"body\"").is_err());
    let text = toml::to_string(&options).unwrap();
    assert_eq!(toml::from_str::<SummarizationOptions>(&text).unwrap(), options);
}

#[test]
fn the_published_files_are_read() {
    let Some(shared) = std::env::var_os("LOSPARSE_SHARED") else {
        crate::say_skipped("LOSPARSE_SHARED does not say where XSum is");
        return;
    };
    let folder = PathBuf::from(shared).join("data/xsum");
    let options = SummarizationOptions::default();
    for (split, count) in [(Split::Train, 1000), (Split::Test, 250)] {
        let data = options.load(&folder, split).unwrap();
        assert_eq!(data.len() + data.skipped, count);
        let usual = data.examples.iter().filter(|one| {
            one.summary.as_ref().is_some_and(|summary| summary.len() < one.document.len())
        });
        assert!(usual.count() > count * 95 / 100);
    }
    assert!(error(options.load(&folder, Split::Dev)).contains("no dev.*"));
}
