//! Recipes and studies, and what a run of them would do.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use losparse::study::{Study, states};
use losparse::train::{Recipe, plan};
use losparse::{Error, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::edits::edit_json;
use super::files::{Files, scratch};
use super::input::Input;
use super::{Outcome, outcome, seeds};

const KEYS: [&str; 54] = [
    "provenance",
    "model",
    "new_head",
    "labels",
    "dev_share",
    "lr_warmup_share",
    "initial_warmup_share",
    "storage",
    "task",
    "method",
    "training",
    "name",
    "data",
    "train",
    "dev",
    "text",
    "pair",
    "label",
    "score",
    "document",
    "summary",
    "format",
    "quoting",
    "max_length",
    "doc_stride",
    "max_answer_length",
    "n_best",
    "version_2_with_negative",
    "null_score_diff_threshold",
    "max_train_examples",
    "max_eval_examples",
    "summarization",
    "ratio",
    "low_rank_ratio",
    "rank",
    "layers",
    "interval",
    "importance",
    "beta1",
    "regrowth",
    "initial_warmup_steps",
    "final_warmup_steps",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "lr_decay",
    "lr_warmup_steps",
    "max_grad_norm",
    "bucket_batches",
    "seed",
    "eval_steps",
    "low_rank_share",
    "keep_models",
];

fn seed() -> Value {
    json!({
        "new_head": false, "storage": "f32",
        "task": {"name": "mood", "text": "text", "label": "label", "max_length": 8},
        "method": {"ratio": 0.5, "layers": ["*"], "interval": 1},
        "training": {"epochs": 1, "batch_size": 4, "gradient_accumulation": 1,
            "learning_rate": 1e-3, "lr_decay": "cosine", "lr_warmup_steps": 1,
            "weight_decay": 0.01, "max_grad_norm": 1.0, "bucket_batches": 1, "seed": 3,
            "eval_steps": 2, "save_steps": 1, "eval_batch_size": 4, "keep": "last",
            "early_stopping_patience": 2},
    })
}

fn study_seed() -> Value {
    json!({
        "keep_models": true, "base": seed(),
        "grid": [{"method": ["dense", "losparse", "itp"], "ratio": [0.5, 0.25], "seed": [1, 2]},
            {"learning_rate": [1e-3], "low_rank_share": [0.5, 1.0], "task": ["mood", {"name": "b"}]}],
    })
}

/// A recipe or a study, changed or made of the input. What is taken is the same once it is written
/// and read again; now and then it is planned on a tiny model.
pub fn recipe(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let scratch = scratch();
    let file = scratch.path().join("file.toml");
    let kind = input.byte() % 8;
    let is_study = kind % 2 == 1;
    let text = match kind / 2 {
        0 => input.rest().to_vec(),
        _ => {
            let mut value = if is_study { study_seed() } else { seed() };
            edit_json(&mut value, &mut input, &KEYS);
            let Ok(table) = toml::Table::try_from(value) else { return Err("no TOML".into()) };
            toml::to_string(&table).expect("a table is TOML").into_bytes()
        }
    };
    std::fs::write(&file, text).expect("a file");
    match is_study {
        true => outcome(study(&file, scratch.path())),
        false => outcome(one(&file, kind == 6)),
    }
}

fn one(file: &Path, planned: bool) -> Result<()> {
    let recipe = Recipe::read(file)?;
    recipe.validate()?;
    written_again(&recipe);
    let resolved = recipe.resolved();
    assert_eq!(resolved.resolved(), resolved, "resolved twice, other settings");
    resolved.validate().expect("valid settings stay so when they are written out");
    written_again(&resolved);
    if planned { in_place(recipe, file).map(drop) } else { Ok(()) }
}

fn written_again(recipe: &Recipe) {
    let text = recipe.to_toml();
    let again = Recipe::parse(&text).expect("a recipe that was written can be read");
    assert_eq!(&again, recipe, "other settings after writing");
}

/// Plans a run of the recipe with the tiny model and data.
fn in_place(mut recipe: Recipe, file: &Path) -> Result<losparse::train::Plan> {
    // More is slow, and that is no fault.
    if recipe.training.batch_size * recipe.training.gradient_accumulation > 1 << 12 {
        return Err(Error::format(file, "too much for a plan in no time"));
    }
    let place = place();
    recipe.model = Some(place.path().join("model"));
    recipe.task.data = None;
    recipe.task.train = Some(place.path().join("train.csv"));
    recipe.task.dev = Some(place.path().join("train.csv"));
    plan(&recipe, &Device::default())
}

/// A folder with a tiny model and data.
fn place() -> &'static TempDir {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = scratch();
        let mut files = Files::of([(
            "train.csv",
            b"text,label,score\nthe film is good,up,1\nvery dull,down,2\ngreat,up,3\nbad,down,4\n\
              good,up,1\nthe bad film,down,0\n",
        )]);
        for (name, bytes) in &seeds::models()[0].0 {
            files.0.insert(format!("model/{name}"), bytes.clone());
        }
        files.write(place.path());
        place
    })
}

fn study(file: &Path, folder: &Path) -> Result<()> {
    let study = Study::read(file)?;
    assert_eq!(study, Study::read(file).expect("as before"), "other runs at the second reading");
    for (at, run) in study.runs.iter().enumerate() {
        written_again(&run.recipe);
        let twice = study.runs[..at].iter().any(|known| known.folder == run.folder);
        assert!(!twice, "two runs in one folder, {}", run.folder);
        assert!(Path::new(&run.folder).components().count() == 1, "{:?}", run.folder);
    }
    assert_eq!(states(&study, folder)?.len(), study.runs.len());
    Ok(())
}
