//! A folder with a tiny model and data for tests that run the command.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use losparse::checkpoint::{PretrainedModel, SaveOptions, save_pretrained};
use losparse::models::LabelConfig;
use losparse::models::bert::{BertConfig, BertForSequenceClassification};
use tempfile::TempDir;

const WORDS: [&str; 8] = ["the", "film", "is", "very", "good", "great", "bad", "dull"];

/// A folder with a tiny random model, `model`, and the data files `train.csv` and `dev.csv`.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self::wide(16)
    }

    /// A place whose model has hidden states of this width.
    pub(super) fn wide(width: usize) -> Self {
        let model = BertForSequenceClassification::new(&config(width), &Device::default());
        Self::of(&model.map(&mut Scattered(1)), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    }

    /// A place with this model, whose vocabulary is 13 tokens, of which these are the first.
    pub(super) fn of<M: PretrainedModel>(model: &M, special: [&str; 5]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        save_pretrained(model, place.path("model"), &SaveOptions::default()).unwrap();
        let vocabulary = [&special[..], &WORDS].concat();
        place.write("model/vocab.txt", vocabulary.join("\n"));
        // The data is the same for every model.
        place.write("model/tokenizer_config.json", r#"{"tokenizer_class": "BertTokenizer"}"#);
        place.write("train.csv", reviews(96));
        place.write("dev.csv", reviews(24));
        place
    }

    /// The shared place of all tests that only read.
    pub(super) fn shared() -> &'static Self {
        static PLACE: OnceLock<Place> = OnceLock::new();
        PLACE.get_or_init(Self::new)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// A copy of the model folder, for tests that damage its files.
    pub(super) fn copy(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(self.path("model")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy
    }

    /// Arguments of a short run on the place's own data.
    pub(super) fn run<'a>(&self, command: &'a str, output: &str, more: &[&'a str]) -> Vec<String> {
        let mut args: Vec<String> = vec![command.into(), self.arg("model"), "-o".into()];
        args.extend([self.arg(output), "--train".into(), self.arg("train.csv")]);
        args.extend(["--dev".into(), self.arg("dev.csv")]);
        args.extend(
            ["--text", "review", "--label", "mood", "--max-length", "12"].map(String::from),
        );
        args.extend(["--batch-size", "8", "--lr", "5e-3"].map(String::from));
        if !more.contains(&"--epochs") {
            args.extend(["--epochs", "3"].map(String::from));
        }
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }
}

/// Sets matrices to small numbers that are the same in every place. The device's random generator
/// would not be: concurrent tests share it.
struct Scattered(u64);

impl ModuleMapper for Scattered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D < 2 {
            return param;
        }
        param.map(|tensor| {
            let shape = tensor.shape();
            let mut next = || {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.07
            };
            let values: Vec<f32> = (0..shape.num_elements()).map(|_| next()).collect();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}

fn config(width: usize) -> BertConfig {
    BertConfig {
        vocab_size: WORDS.len() + 5,
        hidden_size: width,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 2 * width,
        max_position_embeddings: 24,
        labels: LabelConfig::named(["down", "up"]),
        ..BertConfig::default()
    }
}

/// Reviews whose label is decided by their last word.
pub(super) fn reviews(count: usize) -> String {
    let row = |at: usize| {
        let filler = WORDS[at / 4 % 4];
        let label = if at % 4 < 2 { "up" } else { "down" };
        format!("the {filler} film is {},{label}\n", WORDS[4 + at % 4])
    };
    (0..count).fold("review,mood\n".to_string(), |text, at| text + &row(at))
}
