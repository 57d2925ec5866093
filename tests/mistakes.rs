//! Makes each mistake and compares what the program prints with `docs/mistakes.md`.
//! `LOSPARSE_REWRITE=1` writes the page again.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Output;

use super::cli::{Place, losparse, text};

const PAGE: &str = "docs/mistakes.md";

const HEAD: &str = "\
# What mistakes get

Every row is what the program says, exit code and all; `cargo test --release --test tests mistakes` makes
each mistake and compares (`LOSPARSE_REWRITE=1` writes this page anew). `…` stands for settings that are in
order: of a small BERT in `model` and tables of reviews, `train.csv` and `dev.csv` with the columns `review`
and `mood`. Exit codes: 1 an error, nothing done or half-written; 2 wrong usage; 3 the run came to its end
and its result is kept, but is not what was asked for, as the report says too; 130 stopped by Ctrl-C.

| mistake | command | exit | what it says |
|---|---|---:|---|
";

/// Good settings of a short run.
const ORDER: &str = "--train train.csv --dev dev.csv --text review --label mood --max-length 12 \
                     --batch-size 8";
/// Good settings of an evaluation.
const DEV: &str = "--dev dev.csv --text review --label mood";

/// A mistake and the command that makes it. `…` in the command stands for [`ORDER`], in `evaluate`
/// for [`DEV`].
const MISTAKES: [(&str, &str); 49] = [
    ("a missing model folder", "compress no/such -o out …"),
    ("a truncated `model.safetensors`", "compress truncated -o out …"),
    ("a weight that is NaN", "compress nan -o out …"),
    ("another architecture", "compress gpt2 -o out …"),
    ("no tokenizer", "evaluate mute …"),
    ("no data", "compress model -o out"),
    ("an unknown task", "compress model -o out --task sst3 --data glue"),
    ("a missing data folder", "compress model -o out --task sst2 --data glue"),
    ("a missing data file", "finetune model -o out … --train no.csv"),
    ("an empty table", "finetune model -o out … --train empty.csv"),
    ("a missing column", "finetune model -o out … --label stars"),
    ("a table with another separator", "finetune model -o out … --train semicolons.csv"),
    ("no example to train on", "finetune model -o out … --max-train-examples 0"),
    (
        "a file sorted by label, cut",
        "finetune model -o out … --train sorted.csv --max-train-examples 4",
    ),
    ("a label that the task lacks", "evaluate model … --dev strange.csv"),
    ("too few rows to hold some out", "finetune model -o out … --dev- --train two.csv"),
    ("an input longer than the model takes", "finetune model -o out … --max-length 512"),
    ("an option of another kind of task", "compress model -o out … --doc-stride 8"),
    ("a ratio beyond 1", "compress model -o out … --ratio 1.7"),
    ("a share that is not a number", "compress model -o out … --ratio fifth"),
    ("a ratio too small for rank 1", "compress model -o out … --ratio 0.01"),
    (
        "a low-rank part larger than the ratio",
        "compress model -o out … --ratio 0.1 --low-rank-ratio 0.2",
    ),
    ("a pattern that matches no layer", "compress model -o out … --layers decoder.*"),
    ("no update", "compress model -o out … --epochs 0"),
    ("too few updates to prune in", "compress model -o out … --epochs 1 --batch-size 48"),
    ("too few updates for the interval", "compress model -o out … --epochs 1 --interval 40"),
    (
        "a warmup as long as the training",
        "compress model -o out … --epochs 1 --final-warmup-steps 12",
    ),
    ("a misspelt setting in a recipe", "compress model -o out … --recipe misspelt.toml"),
    ("a setting in a recipe that is not a number", "finetune model -o out … --recipe nan.toml"),
    ("the folder of another run", "finetune model -o done …"),
    ("replacing the run that made the model", "finetune done -o done … --overwrite"),
    ("a model where the result would be", "compress own/model -o own …"),
    ("the quickstart in the folder of another run", "quickstart -o done"),
    ("a dry run into such a folder", "finetune model -o done … --dry-run"),
    ("two places of data", "evaluate model … --data glue"),
    ("a study in the folder of a run", "study grid.toml -o done"),
    ("a model of a run that was not done", "predict begun good"),
    ("a run that has no model yet", "evaluate stopped …"),
    ("a checkpoint in place of a model", "inspect done/checkpoints/step-00000012"),
    ("columns for a task that has none", "finetune model -o out … --task squad"),
    ("nothing to resume", "finetune model -o never … --resume"),
    ("resuming with other settings", "finetune model -o done … --epochs 1 --seed 7 --resume"),
    ("an unknown option", "compress model -o out … --rate 0.2"),
    (
        "scores of extreme size",
        "finetune model -o out … --label- --score stars --train huge.csv --dev stars.csv --new-head \
         --epochs 1",
    ),
    (
        "pruned single weights, which stay stored",
        "compress model -o out … --epochs 1 --structure unstructured",
    ),
    ("no text", "predict model"),
    ("texts without a column", "compress model -o out --no-training --unlabelled train.csv"),
    (
        "an option of a training without one",
        "compress model -o out --no-training --unlabelled train.csv --epochs 3",
    ),
    (
        "data for an evaluation without labels",
        "compress model -o out --no-training --unlabelled train.csv --label mood",
    ),
];

/// The words of a command, with `…` replaced. A later setting replaces the same one before;
/// `--name-` removes it.
fn words(command: &str) -> Vec<String> {
    let order = if command.starts_with("evaluate") { DEV } else { ORDER };
    let all = command.replace('…', order);
    let mut words: Vec<String> = Vec::new();
    for word in all.split_whitespace() {
        let name = word.strip_prefix("--").map(|name| name.trim_end_matches('-'));
        if let Some(at) = name.and_then(|name| words.iter().position(|w| *w == format!("--{name}")))
        {
            words.drain(at..at + 2);
        }
        if !word.ends_with('-') || !word.starts_with("--") {
            words.push(word.to_string());
        }
    }
    words
}

fn run(place: &Place, command: &str) -> Output {
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    losparse(&words).current_dir(place.path("")).output().unwrap()
}

/// A place with all files of the mistakes.
fn place() -> Place {
    let place = Place::new();
    let weights = |folder: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = place.copy(folder).join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    };
    weights("truncated", &|bytes| bytes.truncate(bytes.len() / 2));
    weights("nan", &|bytes| {
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    fs::write(place.copy("gpt2").join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    fs::remove_file(place.copy("mute").join("vocab.txt")).unwrap();
    place.write("empty.csv", "");
    place.write("strange.csv", "review,mood\ngood,sideways\n");
    place.write("semicolons.csv", super::place::reviews(8).replace(',', ";"));
    place.write("nan.toml", "[training]\nlearning_rate = nan\n");
    let rows = |text: &str, mood: &str| format!("{text},{mood}\n").repeat(4);
    place
        .write("sorted.csv", format!("review,mood\n{}{}", rows("bad", "down"), rows("good", "up")));
    place.write("two.csv", "review,mood\ngood,up\nbad,down\n");
    place.write("misspelt.toml", "[training]\nepoch = 3\n");
    let stars = |up: &str, down: &str| {
        let text = super::place::reviews(48).replace("mood", "stars");
        text.replace(",up", &format!(",{up}")).replace(",down", &format!(",{down}"))
    };
    place.write("huge.csv", stars("1e38", "-1e38"));
    place.write("stars.csv", stars("5", "1"));
    for folder in ["own", "begun"] {
        fs::create_dir(place.path(folder)).unwrap();
        place.copy(&format!("{folder}/model"));
    }
    place.write("begun/recipe.toml", "");
    fs::create_dir(place.path("stopped")).unwrap();
    place.write("stopped/recipe.toml", "");
    place.write("grid.toml", "[base]\nmodel = 'model'\n[grid]\nmethod = ['dense']\n");
    let done = run(&place, "finetune model -o done … --epochs 1");
    assert!(done.status.success(), "{}", text(&done.stderr));
    place
}

/// The message at the end: the error or the first warning, in one line.
fn told(output: &Output) -> String {
    let all = text(&output.stderr);
    let all = all.split("\n\nUsage:").next().unwrap_or_default();
    let from = all.find("error: ").or_else(|| all.find("warning: ")).unwrap_or(0);
    let said = &all[from..];
    let said = match said.starts_with("warning") {
        true => said.lines().next().unwrap_or_default(),
        false => said.trim_end(),
    };
    let line = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    line.join(" ").replace('|', r"\|").replace('`', "'")
}

/// Masks shares, which depend on the random model.
fn masked(told: String) -> String {
    match told.split_once('%') {
        Some((share, rest)) if rest.contains("asked for") => {
            let before = share.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            format!("{before}…%{rest}")
        }
        _ => told,
    }
}

#[test]
fn the_page_of_mistakes_is_true() {
    let place = place();
    let mut page = HEAD.to_string();
    for (mistake, command) in MISTAKES {
        let output = run(&place, command);
        let code = output.status.code().expect("no signal ends it");
        let told = masked(told(&output));
        assert!(code != 0 && !told.is_empty(), "{mistake}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{mistake}: {told}");
        assert_eq!(place.path("out").exists(), code == 3, "{mistake} left something behind");
        if code == 3 {
            fs::remove_dir_all(place.path("out")).unwrap();
        }
        let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(page, "| {mistake} | `{command}` | {code} | `{told}` |").unwrap();
    }
    let root = place.path("").display().to_string();
    assert!(!page.contains(root.trim_end_matches('/')), "a path of this machine in {page}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("LOSPARSE_REWRITE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &page).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    for (written, found) in committed.lines().zip(page.lines()) {
        assert_eq!(written, found, "LOSPARSE_REWRITE=1 writes {PAGE} anew");
    }
    assert_eq!(committed.lines().count(), page.lines().count(), "LOSPARSE_REWRITE=1 writes {PAGE}");
}
