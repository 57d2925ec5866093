//! Random folders of tiny models against transformers (fixture by `fixtures/differential.py`).
//! Architectures, configurations, tokenizers and their files, tables of labels and storage formats
//! vary. Probabilities equal those of transformers, or loading the folder is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use half::{bf16, f16};
use losparse::checkpoint::LoadOptions;
use losparse::models::{AnySequenceClassifier, FolderModel, ProblemType};
use losparse::tasks::Example;
use losparse::train::{Interrupt, model_tokenizer, predict_logits};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::torch_file::torch_file;

/// Largest difference of a probability or score: both sides compute in f32, in different orders.
const TOLERANCE: f64 = 1e-4;

/// Parts of the errors for folders that transformers loads and this library rejects, and the
/// reasons.
const REFUSED: [(&str, &str); 0] = [];

#[derive(Deserialize)]
struct Fixture {
    inputs: Vec<(String, Option<String>)>,
    /// Names of tensors.
    names: Vec<Vec<String>>,
    folders: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    tokenizer: String,
    config: Map<String, Value>,
    /// Index in [`Fixture::names`].
    names: usize,
    shapes: Vec<Vec<usize>>,
    storage: Storage,
    max_length: usize,
    /// Indices of [`Fixture::inputs`].
    inputs: Vec<usize>,
    answers: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Storage {
    dtype: Option<String>,
    shards: Option<usize>,
    bin: bool,
    /// Encoded in the tensors' names.
    old_names: bool,
}

/// Tokenizer files that the folders share.
#[derive(Deserialize)]
struct Tokenizers {
    shared: BTreeMap<String, Value>,
    cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct TokenizerCase {
    name: String,
    files: BTreeMap<String, Value>,
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Values as the fixture's script computes them: splitmix64 of the name's FNV-1a hash, as multiples
/// of 1/256, which every storage format holds exactly.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let fold = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let norm = (name.ends_with(".weight") || name.ends_with(".gamma")) && shape.len() == 1;
    let value = |at: u64| {
        let mut z = state.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let byte = ((z ^ (z >> 31)) >> 56) as f32;
        if norm { 0.5 + (byte / 2.0).floor() / 256.0 } else { (byte - 128.0) / 256.0 }
    };
    (1..=shape.iter().product::<usize>() as u64).map(value).collect()
}

impl Folder {
    fn write(&self, folder: &Path, fixture: &Fixture, tokenizers: &Tokenizers) {
        let case = tokenizers.cases.iter().find(|case| case.name == self.tokenizer).unwrap();
        for (name, content) in &case.files {
            let named = content.as_str().and_then(|text| text.strip_prefix('@'));
            let content = named.map_or(content, |name| &tokenizers.shared[name]);
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(folder.join(name), text).unwrap();
        }
        let config = Value::Object(self.config.clone()).to_string();
        fs::write(folder.join("config.json"), config).unwrap();
        let names = &fixture.names[self.names];
        let tensors: Vec<_> = names.iter().zip(&self.shapes).collect();
        if self.storage.bin {
            let values = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice(), values(n, s)));
            let bytes = torch_file(values);
            fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
            return;
        }
        let Some(shards) = self.storage.shards else {
            return self.write_safetensors(&folder.join("model.safetensors"), &tensors);
        };
        let mut map = Map::new();
        for shard in 0..shards {
            let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
            let part: Vec<_> = tensors.iter().skip(shard).step_by(shards).copied().collect();
            map.extend(part.iter().map(|(name, _)| ((*name).clone(), file.clone().into())));
            self.write_safetensors(&folder.join(file), &part);
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    fn write_safetensors(&self, path: &Path, tensors: &[(&String, &Vec<usize>)]) {
        let bytes: Vec<(Dtype, Vec<u8>)> = tensors
            .iter()
            .map(|(name, shape)| {
                let values = values(name, shape).into_iter();
                match self.storage.dtype.as_deref() {
                    None => (Dtype::F32, values.flat_map(f32::to_le_bytes).collect()),
                    Some("F16") => {
                        let halves = values.flat_map(|v| f16::from_f32(v).to_le_bytes());
                        (Dtype::F16, halves.collect())
                    }
                    Some(_) => {
                        let halves = values.flat_map(|v| bf16::from_f32(v).to_le_bytes());
                        (Dtype::BF16, halves.collect())
                    }
                }
            })
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape), (dtype, bytes))| {
            (name.as_str(), TensorView::new(*dtype, (*shape).clone(), bytes).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    /// Probabilities or scores of all inputs.
    fn answers(&self, folder: &Path, fixture: &Fixture) -> losparse::Result<Vec<Vec<f64>>> {
        let device = Device::default();
        let (model, report) =
            AnySequenceClassifier::load(folder, &device, &LoadOptions::default())?;
        assert!(report.newly_initialised.is_empty(), "{report}");
        let tokenizer = model_tokenizer(folder, &model, self.max_length)?;
        let examples: Vec<Example> = self
            .inputs
            .iter()
            .map(|&at| {
                let (text, pair) = fixture.inputs[at].clone();
                Example { text, pair, label: None }
            })
            .collect();
        let encoded = tokenizer.encode_examples(&examples)?;
        let (pad, never) = (tokenizer.pad_id(), Interrupt::default());
        let logits = predict_logits(&model, &encoded, pad, 8, &device, &never)?;
        let kind = model.labels().problem_type();
        Ok(logits.iter().map(|row| answer(kind, row)).collect())
    }
}

fn answer(kind: ProblemType, logits: &[f32]) -> Vec<f64> {
    let logits = logits.iter().map(|logit| f64::from(*logit));
    match kind {
        ProblemType::Regression => logits.collect(),
        ProblemType::MultiLabelClassification => {
            logits.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
        }
        ProblemType::SingleLabelClassification => {
            let powers: Vec<f64> = logits.map(f64::exp).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
    }
}

#[test]
fn folders_drawn_at_random_answer_as_in_transformers() {
    let fixture: Fixture = read("differential.json");
    let tokenizers: Tokenizers = read("tokenizer_files.json");
    let (mut worst, mut refused, mut wrong) = (0.0_f64, vec![], vec![]);
    for (at, folder) in fixture.folders.iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        folder.write(place.path(), &fixture, &tokenizers);
        let what = || {
            let kind = &folder.config["model_type"];
            format!("folder {at}: {kind}, tokenizer {}", folder.tokenizer)
        };
        let found = match folder.answers(place.path(), &fixture) {
            Ok(found) => found,
            Err(error) => {
                let error = error.to_string();
                match REFUSED.iter().find(|(words, _)| error.contains(words)) {
                    Some((_, reason)) => refused.push(format!("{}: {reason}", what())),
                    None => wrong.push(format!("{}: {error}", what())),
                }
                continue;
            }
        };
        let shape = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
        if shape(&found) != shape(&folder.answers) {
            wrong.push(format!("{}: {found:?}, expected {:?}", what(), folder.answers));
            continue;
        }
        let pairs = found.iter().flatten().zip(folder.answers.iter().flatten());
        // Scores may be large; probabilities are at most 1.
        let difference = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
        worst = worst.max(difference);
        if difference > TOLERANCE {
            wrong.push(format!(
                "{}: differs by {difference:.1e}: {:?} {:?} {:?}",
                what(),
                folder.config,
                found,
                folder.answers
            ));
        }
    }
    let count = fixture.folders.len();
    println!("{count} folders, {} refused, within {worst:.1e}", refused.len());
    refused.iter().for_each(|line| println!("refused: {line}"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 300 && refused.len() * 20 <= count);
}

/// The folders exercise every architecture and everything that the script varies.
#[test]
fn the_folders_are_of_all_kinds() {
    let fixture: Fixture = read("differential.json");
    let count = |is: &dyn Fn(&Folder) -> bool| fixture.folders.iter().filter(|f| is(f)).count();
    for kind in AnySequenceClassifier::SUPPORTED {
        assert!(count(&|folder| folder.config["model_type"] == *kind) >= 50, "{kind}");
    }
    for dtype in ["F16", "BF16"] {
        assert!(count(&|folder| folder.storage.dtype.as_deref() == Some(dtype)) >= 20, "{dtype}");
    }
    assert!(count(&|folder| folder.storage.shards.is_some()) >= 20);
    assert!(count(&|folder| folder.storage.bin) >= 20);
    assert!(count(&|folder| folder.storage.old_names) >= 20);
    for kind in ["multi_label_classification", "regression"] {
        assert!(count(&|f| f.config.get("problem_type") == Some(&kind.into())) >= 10, "{kind}");
    }
    let tokenizers: std::collections::BTreeSet<&str> =
        fixture.folders.iter().map(|folder| folder.tokenizer.as_str()).collect();
    assert!(tokenizers.len() >= 100, "{}", tokenizers.len());
}
