use std::sync::Arc;

use losparse::checkpoint::TensorSource;
use losparse::device::open;
use losparse::inspect::{RunReport, SplitMetrics};
use losparse::models::AnyModel;
use losparse::tasks::summarization::SummarizationExample;
use losparse::tasks::{MetricKind, Split};
use losparse::train::{Silent, TextGenerator};

use super::*;
use crate::cli::opened::Opened;

/// Largest size of a built-in model with its data, bytes.
const LARGEST: [(Model, usize); 2] =
    [(Model::MovieSentiment, 6_000_000), (Model::G2pBart, 3_000_000)];

fn args(model: Model, output: PathBuf) -> Args {
    Args { output, model, ratio: None, seed: None }
}

/// Unpacks a model's files; returns the model, its folder and the recipe.
fn unpacked(model: Model, folder: &Path) -> (&'static BuiltIn, PathBuf, Recipe) {
    let built_in = model.built_in();
    let start = folder.join(built_in.name);
    unpack(built_in, &start).unwrap();
    let recipe = args(model, folder.join("out")).recipe(built_in, &start).unwrap();
    (built_in, start, recipe)
}

#[test]
fn what_is_built_in_is_small_and_whole() {
    for (model, largest) in LARGEST {
        let built_in = model.built_in();
        let bytes: usize = built_in.files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= largest, "{}: {bytes} bytes", built_in.name);
        let names: Vec<&str> = built_in.files.iter().map(|(name, _)| *name).collect();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "train.tsv", "dev.tsv"] {
            assert!(names.contains(&name), "{}: {name}", built_in.name);
        }
        let recipe = Recipe::parse(built_in.recipe).unwrap();
        recipe.validate().unwrap();
        assert!(recipe.method.is_some());
    }
}

#[test]
fn no_held_out_word_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let (_, _, recipe) = unpacked(Model::G2pBart, folder.path());
    let words = |split| -> std::collections::HashSet<String> {
        let data = recipe.task.read_summaries(split).unwrap();
        data.examples.into_iter().map(|example| example.document).collect()
    };
    let (train, dev) = (words(Split::Train), words(Split::Dev));
    assert_eq!(dev.len(), 2000);
    assert!(train.len() >= 20_000 && train.is_disjoint(&dev));
}

#[test]
fn letters_and_phonemes_survive_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let (_, start, recipe) = unpacked(Model::G2pBart, folder.path());
    let opened = Opened::load(&start, &open("flex").unwrap()).unwrap();
    let tokenizer = opened.tokenizer(40).unwrap();
    let encoding = tokenizer.encode("o'clock", None).unwrap();
    assert_eq!(encoding.get_tokens(), ["o", "'", "c", "l", "o", "c", "k", "</s>"]);
    for split in [Split::Train, Split::Dev] {
        for example in recipe.task.read_summaries(split).unwrap().examples {
            let phonemes = example.summary.unwrap();
            for text in [&example.document, &phonemes] {
                let encoding = tokenizer.encode(text, None).unwrap();
                assert!(!encoding.get_tokens().iter().any(|token| token == "<unk>"), "{text}");
                assert!(encoding.len() <= 40, "{text}");
            }
            let ids = tokenizer.encode(&phonemes, None).unwrap().get_ids().to_vec();
            assert_eq!(tokenizer.decode(&ids).unwrap(), phonemes);
        }
    }
}

#[test]
fn the_built_in_speller_spells() {
    let folder = tempfile::tempdir().unwrap();
    let (_, start, recipe) = unpacked(Model::G2pBart, folder.path());
    let device = open("flex").unwrap();
    let opened = Opened::load(&start, &device).unwrap();
    opened.check_head().unwrap();
    assert_eq!(opened.task().unwrap().unwrap().primary, MetricKind::WordAccuracy);
    let AnyModel::Seq2Seq(model) = &opened.model else { panic!("not a text-to-text model") };
    let (settings, own) = opened.summarization(&recipe.task, &|_| ()).unwrap();
    assert_eq!(
        (settings.num_beams, settings.max_length, settings.no_repeat_ngram_size),
        (1, 32, 0)
    );
    let tokenizer = &opened.tokenizer(settings.max_source_length).unwrap();
    let (settings, own, device) = (&settings, &own, &device);
    let summarizer = TextGenerator { model, tokenizer, settings, own, batch_size: 3, device };
    let words =
        [("cat", "K AE1 T"), ("spelling", "S P EH1 L IH0 NG"), ("notion", "N OW1 SH AH0 N")];
    let example = |(word, phonemes): (&str, &str)| SummarizationExample {
        document: word.into(),
        summary: Some(phonemes.into()),
    };
    let examples = words.map(example);
    let done = summarizer.generate(&examples, &Silent, &Interrupt::default()).unwrap();
    assert_eq!(done.texts().unwrap(), words.map(|(_, phonemes)| phonemes));
}

/// A run of the command on a little of the data, from the built-in files to what is printed.
struct ShortRun {
    built_in: &'static BuiltIn,
    report: RunReport,
    ratio: f64,
    /// The table, and what the small model says.
    printed: [String; 2],
    output: PathBuf,
    _folder: tempfile::TempDir,
}

impl ShortRun {
    fn new(model: Model, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (built_in, start, mut recipe) = unpacked(model, folder.path());
        recipe.task.max_train_examples = Some(96);
        recipe.task.max_eval_examples = Some(40);
        recipe.training.seed = seed;
        recipe.training.epochs = Some(2);
        recipe.training.batch_size = 16;
        let method = recipe.method.as_mut().unwrap();
        (method.initial_warmup_steps, method.final_warmup_steps) = (Some(1), Some(6));
        method.interval = Some(2);
        let ratio = method.ratio;
        let (device, output) = (open("flex").unwrap(), folder.path().join("out"));
        let options = RunOptions {
            output: output.clone(),
            resume: false,
            overwrite: true,
            baseline: None,
            tui: false,
            device: device.clone(),
            device_name: "flex".into(),
            command: String::new(),
            observer: Arc::new(Silent),
            interrupt: Interrupt::default(),
        };
        let report = compress(&recipe, &options).unwrap();
        let small = output.join("model");
        let outcome = Outcome::new(built_in, &recipe, &report, [&start, &small], &device).unwrap();
        let printed = [outcome.table(), outcome.try_out(&Interrupt::default())].map(Result::unwrap);
        Self { built_in, report, ratio, printed, output, _folder: folder }
    }

    /// Checks results that every run must have.
    fn check(&self) {
        let Self { report, ratio, printed: [table, said], .. } = self;
        assert_eq!(report.agreement.as_ref().unwrap().examples, 40);
        assert!(report.account.linear_ratio() < ratio + 0.03, "{}", report.account.linear_ratio());
        assert!(table.contains("faster"), "{table}");
        for (_, what) in self.built_in.metrics {
            assert!(table.contains(what), "{what} is not in\n{table}");
        }
        for text in self.built_in.texts {
            assert!(said.contains(text), "{text} is not in\n{said}");
        }
        let next = args(Model::default(), self.output.clone()).next(self.built_in);
        assert!(next.contains(self.built_in.own_columns), "{next}");
    }

    /// The order of every compact layer's outputs, which tells the kept neurons.
    fn orders(&self) -> Vec<Vec<i64>> {
        let source = TensorSource::open(self.output.join("model")).unwrap();
        let names = source.names().filter(|name| name.ends_with(".order"));
        names.map(|name| source.read_int(name).unwrap()).collect()
    }
}

fn metric(splits: &[SplitMetrics], metric: MetricKind) -> f64 {
    splits[0].metrics.values[&metric]
}

#[test]
fn the_built_in_classifier_is_compressed_and_another_seed_prunes_other_neurons() {
    let run = ShortRun::new(Model::MovieSentiment, 1);
    run.check();
    let before = metric(&run.report.starting, MetricKind::Accuracy);
    assert!(before > 0.7, "{before}");
    let other = ShortRun::new(Model::MovieSentiment, 2);
    assert!(!run.orders().is_empty());
    assert_ne!(run.orders(), other.orders());
}

#[test]
fn the_built_in_speller_is_compressed() {
    let run = ShortRun::new(Model::G2pBart, 1);
    run.check();
    let [table, said] = &run.printed;
    assert!(table.contains("words a second"), "{table}");
    // The built-in model gets more than half of the words right; so few updates spoil it.
    let before = metric(&run.report.starting, MetricKind::WordAccuracy);
    assert!(before > 0.5, "{before}");
    assert!(metric(&run.report.compacted, MetricKind::PhonemeErrorRate) > 0.0);
    assert_eq!(run.report.trained[0].metrics.primary, MetricKind::WordAccuracy);
    assert_eq!(said.lines().count(), 1 + run.built_in.texts.len(), "{said}");
    assert!(said.contains("W EH1 R W UH2 L F"), "{said}");
}
