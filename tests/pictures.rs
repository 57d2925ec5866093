//! Pictures of models, runs and checkpoints by `inspect --plots`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cli::{Place, fails, json_lines, refs, stdout};

/// The SVG text of a picture, by its name.
type Pictures = Vec<(String, String)>;

/// Draws `folders` with further arguments.
fn draw(place: &Place, folders: &[&Path], more: &[&str]) -> Pictures {
    let to = place.path("pictures");
    let _ = fs::remove_dir_all(&to);
    let to = to.display().to_string();
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let args = [&["inspect"], &refs(&folders)[..], &["--plots", &to], more].concat();
    let files = &json_lines(&args)[0]["plots"];
    let files = files.as_array().unwrap().iter().map(|file| file.as_str().unwrap());
    files
        .map(|file| {
            let image = fs::read(file).unwrap();
            assert_eq!(&image[1..4], b"PNG", "{file}");
            let file = PathBuf::from(file);
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(file.with_extension("svg")).unwrap())
        })
        .collect()
}

fn names(pictures: &Pictures) -> Vec<&str> {
    pictures.iter().map(|(name, _)| name.as_str()).collect()
}

fn picture<'a>(pictures: &'a Pictures, name: &str) -> &'a str {
    &pictures.iter().find(|(known, _)| known == name).unwrap().1
}

/// The sum of the numbers after each of `words` in a legend.
fn counted(picture: &str, words: &[&str]) -> usize {
    let after = |word: &&str| -> usize {
        let Some((_, rest)) = picture.split_once(&format!("{word}: ")) else { return 0 };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    words.iter().map(after).sum()
}

const RUN: [&str; 8] =
    ["--ratio", "0.4", "--low-rank-ratio", "0.2", "--epochs", "2", "--interval", "2"];

#[test]
fn pictures_of_a_model_are_of_the_layers_asked_for() {
    let place = Place::new();
    let model = place.path("model");
    // A dense model keeps all neurons; each kind of its 12 layers is drawn once.
    let pictures = draw(&place, &[&model], &[]);
    assert_eq!(names(&pictures), ["spectra"]);
    let spectra = picture(&pictures, "spectra");
    assert_eq!(spectra.matches("layer.1.").count(), 0, "{spectra}");
    assert_eq!(spectra.matches("self.query").count(), 1, "{spectra}");
    let pictures = draw(&place, &[&model], &["--layers", "self.query,self.key,!layer.0.**"]);
    let spectra = picture(&pictures, "spectra");
    let drawn = |word: &str| spectra.matches(word).count();
    assert_eq!((drawn("query"), drawn("key"), drawn("dense")), (1, 1, 0));
    // Layers beyond one panel are all drawn.
    let pictures = draw(&place, &[&model], &["--layers", "**"]);
    let spectra = picture(&pictures, "spectra");
    for block in 0..2 {
        for part in ["attention.self.query", "attention.output.dense", "intermediate.dense"] {
            let name = format!("{block}.{part}");
            assert!(spectra.contains(&name), "no {name} in {spectra}");
        }
    }
    let [model, other] = [model, place.path("other")].map(|path| path.display().to_string());
    fails(&["inspect", &model, &model], 1, &["only --plots compares several"]);
    fails(&["inspect", &model, "--plots", &other, "--layers", "x"], 1, &["matches no layer"]);
    fails(&["inspect", &model, &model, "--plots", &other], 1, &["report.json"]);
}

#[test]
fn pictures_of_runs_and_checkpoints_are_of_the_layers_asked_for() {
    let place = Place::new();
    stdout(&refs(&place.run("compress", "small", &RUN)));
    let alone = ["--method", "itp", "--ratio", "0.4", "--epochs", "2", "--interval", "2"];
    stdout(&refs(&place.run("compress", "itp", &alone)));
    let [small, itp] = ["small", "itp"].map(|name| place.path(name));
    let all = ["schedule", "kept", "importance-before", "importance", "spectra"];
    // The run drew the same pictures, and its report shows them.
    let report = fs::read_to_string(small.join("report.md")).unwrap();
    let pictures = draw(&place, &[&small], &[]);
    assert_eq!(names(&pictures), all);
    for (name, drawn) in &pictures {
        let file = format!("plots/{name}.svg");
        assert!(report.contains(&format!("]({file})")), "{report}");
        assert_eq!(&fs::read_to_string(small.join(file)).unwrap(), drawn, "{name}");
    }
    let schedule = picture(&pictures, "schedule");
    for part in ["keep ratio of S", "training loss", "accuracy before"] {
        assert!(schedule.contains(part), "no {part:?} in {schedule}");
    }
    // Four matrices of 16 neurons in each block, and 32 and 16 of the feed-forward network.
    let [before, after] = ["importance-before", "importance"].map(|n| picture(&pictures, n));
    assert_eq!((counted(before, &["LoSparse"]), counted(after, &["kept", "pruned"])), (224, 224));

    // Pictures of chosen layers.
    let queries = ["--layers", "self.query"];
    let pictures = draw(&place, &[&small], &queries);
    assert_eq!(names(&pictures), all);
    assert_eq!(counted(picture(&pictures, "importance-before"), &["LoSparse"]), 32);
    let spectra = picture(&pictures, "spectra");
    assert!(spectra.matches("self.query").count() == 2 && !spectra.contains("dense"), "{spectra}");
    assert!(spectra.contains("of the result"), "{spectra}");
    let checkpoints = fs::read_dir(small.join("checkpoints")).unwrap();
    let checkpoint = checkpoints.map(|entry| entry.unwrap().path()).max().unwrap();
    let pictures = draw(&place, &[&checkpoint], &queries);
    assert_eq!(names(&pictures), all[1..]);
    assert_eq!(counted(picture(&pictures, "importance"), &["kept", "pruned"]), 32);
    let spectra = picture(&pictures, "spectra");
    assert!(spectra.matches("self.query").count() == 2 && !spectra.contains("dense"), "{spectra}");

    // Two runs compared.
    let pictures = draw(&place, &[&itp, &small], &[]);
    assert_eq!(names(&pictures), ["importance"]);
    let both = picture(&pictures, "importance");
    assert_eq!((counted(both, &["ITP"]), counted(both, &["LoSparse"])), (224, 224));
    let both = draw(&place, &[&itp, &small], &queries);
    assert_eq!(counted(picture(&both, "importance"), &["ITP", "LoSparse"]), 64);
    let twice = draw(&place, &[&itp, &itp], &[]);
    assert!(picture(&twice, "importance").contains("ITP, itp"));
}

#[test]
fn a_report_compares_with_the_dense_model() {
    let place = Place::new();
    stdout(&refs(&place.run("finetune", "tuned", &["--epochs", "1"])));
    let tuned = place.path("tuned").display().to_string();
    let with = [&RUN[..], &["--baseline", &tuned]].concat();
    let told = stdout(&refs(&place.run("compress", "small", &with)));
    let read = |name: &str| fs::read_to_string(place.path("small").join(name)).unwrap();
    for text in [told, read("report.md"), read("report.html")] {
        assert!(text.contains("dense, fine-tuned"), "{text}");
    }
    let json = |output: &str| -> Value {
        let file = fs::read(place.path(output).join("report.json")).unwrap();
        serde_json::from_slice(&file).unwrap()
    };
    assert_eq!(json("small")["baseline"]["metrics"], json("tuned")["trained"]);
    // A compressed model as baseline is an error before anything is done.
    let small = place.path("small").display().to_string();
    let wrong = place.run("compress", "other", &["--baseline", &small]);
    fails(&refs(&wrong), 1, &["report.json", "run of `finetune`"]);
    assert!(!place.path("other").exists());
}
