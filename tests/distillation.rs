//! Compression with a teacher: the dense model itself, fine-tuned first or not, or another one.

use std::fs;
use std::sync::{Arc, Mutex};

use losparse::inspect::{RunReport, WarningKind};
use losparse::train::{
    Approximate, DistillationRecipe, Event, Recipe, RunOptions, compress, finetune,
};

use super::cli::{fails, losparse, refs};
use super::place::Place;
use super::run_folders::{copy, options, recipe, resuming, stopped_after, weights};
use super::training::without_dropout;

/// The recipe with a distillation from the dense model.
fn taught(place: &Place) -> Recipe {
    Recipe { distillation: Some(DistillationRecipe::default()), ..recipe(place, "") }
}

/// As [`taught`], for a model that needs a new head, so is fine-tuned first.
fn from_new_head(place: &Place) -> Recipe {
    Recipe { new_head: true, ..taught(place) }
}

/// Options that stop the run at the update of this number, counted over both trainings.
fn stopping_at(place: &Place, output: &str, number: usize) -> RunOptions {
    let options = options(place, output, None);
    let (request, seen) = (options.interrupt.clone(), Mutex::new(0));
    let observer = Arc::new(move |event: &Event| {
        if let (Event::Step { .. }, Ok(mut seen)) = (event, seen.lock()) {
            *seen += 1;
            if *seen == number {
                request.stop("by the test");
            }
        }
    });
    RunOptions { observer, ..options }
}

#[test]
fn a_model_without_a_head_is_fine_tuned_first_and_compared_with() {
    let place = without_dropout();
    let recipe = from_new_head(&place);
    let report = compress(&recipe, &options(&place, "small", None)).unwrap();
    let dense = place.path("small/dense");
    assert!(dense.join("model/model.safetensors").is_file());
    let baseline = report.baseline.unwrap();
    assert!(report.starting.is_empty() && !baseline.metrics.is_empty());
    assert_eq!(report.model, place.arg("model"));
    let saved = Recipe::read(place.path("small/recipe.toml")).unwrap();
    assert_eq!(saved.model, Some(place.path("model")));
    assert!(saved.new_head);
    // Its own learning rate, the same passes over the data.
    let tuned = Recipe::read(dense.join("recipe.toml")).unwrap();
    assert_eq!((tuned.training.learning_rate, tuned.training.epochs), (Some(5e-5), Some(1)));
    assert!(tuned.method.is_none() && tuned.distillation.is_none());
    let teacher = report.training.teacher.as_ref().unwrap();
    assert!(teacher.fine_tuned_first && teacher.folder.is_none());
    assert_eq!((teacher.weight, teacher.temperature), (1.0, 2.0));
    let before = RunReport::read(dense.join("report.json")).unwrap().training;
    assert_eq!(report.training.dense_seconds, Some(before.seconds));
    assert_eq!(before.teacher, None);
    assert_eq!(report.method.unwrap().approximate, Some(Approximate::Weights));
    // A model with a head is its own teacher, and leaves no dense model of an earlier run behind.
    let again = RunOptions { overwrite: true, ..options(&place, "small", None) };
    let own = compress(&taught(&place), &again).unwrap().training;
    assert!(!dense.exists());
    assert!(!own.teacher.unwrap().fine_tuned_first && own.dense_seconds.is_none());
}

#[test]
fn both_trainings_are_resumed_and_a_finished_one_is_kept() {
    let place = without_dropout();
    let recipe = from_new_head(&place);
    compress(&recipe, &options(&place, "whole", None)).unwrap();
    let [whole, dense] = ["whole", "whole/dense"].map(|run| weights(&place, run));
    // 12 updates each; concurrent tests share the random numbers of new heads, so the dense model is
    // that of the whole run where weights are compared.
    for number in [1, 5, 12] {
        let run = format!("run-{number}");
        copy(&place.path("whole"), &place.path(&run));
        let again = RunOptions { overwrite: true, ..stopping_at(&place, &run, number) };
        assert!(compress(&recipe, &again).unwrap_err().to_string().contains("by the test"));
        assert!(weights(&place, &format!("{run}/dense")) == dense);
        let report = compress(&recipe, &resuming(&place, &run, None)).unwrap();
        assert!(report.training.resumed && report.baseline.is_some());
        assert!(weights(&place, &run) == whole, "stopped after {number}");
    }
    let stopped = compress(&recipe, &stopping_at(&place, "early", 7)).unwrap_err().to_string();
    assert!(stopped.contains("by the test"), "{stopped}");
    assert!(!place.path("early/dense/report.json").exists());
    compress(&recipe, &resuming(&place, "early", None)).unwrap();
    let report = fs::read_to_string(place.path("early/dense/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["training"]["resumed"], true);
    // Another seed is another dense model.
    let mut other = recipe.clone();
    other.training.seed = 7;
    let again = RunOptions { overwrite: true, ..options(&place, "whole", None) };
    compress(&other, &again).unwrap();
    let tuned = Recipe::read(place.path("whole/dense/recipe.toml")).unwrap();
    assert_eq!(tuned.training.seed, 7);
}

#[test]
fn a_teacher_changes_what_is_learned_and_is_not_changed_itself() {
    let place = without_dropout();
    let plain = recipe(&place, "");
    let teacher = Some(place.path("teacher/model"));
    finetune(&plain, &options(&place, "teacher", None)).unwrap();
    let named = DistillationRecipe { teacher, ..DistillationRecipe::default() };
    let named = Recipe { distillation: Some(named), ..plain.clone() };
    let off = DistillationRecipe { weight: 0.0, ..DistillationRecipe::default() };
    let off = Recipe { distillation: Some(off), ..plain.clone() };
    for (recipe, output) in
        [(&plain, "plain"), (&taught(&place), "self"), (&named, "named"), (&off, "off")]
    {
        compress(recipe, &options(&place, output, None)).unwrap();
    }
    let [plain, own, other, off] =
        ["plain", "self", "named", "off"].map(|output| weights(&place, output));
    assert!(plain != own && plain != other && own != other);
    assert!(plain == off);
    // Also of a fine-tuning.
    finetune(&named, &options(&place, "tuned", None)).unwrap();
    assert!(weights(&place, "tuned") != weights(&place, "teacher"));
    // The same again, stopped and resumed; then with a teacher that has changed meanwhile.
    for output in ["again", "changed"] {
        stopped_after(5, &named, &place, output);
    }
    compress(&named, &resuming(&place, "again", None)).unwrap();
    assert!(weights(&place, "again") == other);
    let own = RunOptions { overwrite: true, ..options(&place, "teacher", None) };
    let error = finetune(&named, &own).unwrap_err().to_string();
    assert!(error.contains("would be replaced, and the run needs it"), "{error}");
    fs::copy(
        place.path("tuned/model/model.safetensors"),
        place.path("teacher/model/model.safetensors"),
    )
    .unwrap();
    let error = compress(&named, &resuming(&place, "changed", None)).unwrap_err().to_string();
    assert!(error.contains("the teacher has changed"), "{error}");
}

/// Nothing of an earlier run is lost, and nothing is begun, where the teacher cannot be one.
#[test]
fn a_teacher_is_checked_before_anything_is_written() {
    let place = without_dropout();
    let plain = recipe(&place, "");
    compress(&plain, &options(&place, "run", None)).unwrap();
    let before = fs::read(place.path("run/report.json")).unwrap();
    let overwriting =
        |output: &str| RunOptions { overwrite: true, ..options(&place, output, None) };
    // Other labels than the task's; a name on the command line does not make them its own.
    place.copy("other");
    let config = fs::read_to_string(place.path("other/config.json")).unwrap();
    place.write("other/config.json", config.replace("\"down\"", "\"entailment\""));
    let mut named = plain.clone();
    let teacher = Some(place.path("other"));
    named.distillation = Some(DistillationRecipe { teacher, ..DistillationRecipe::default() });
    named.task.labels = Some(vec!["down".into(), "up".into()]);
    let error = compress(&named, &overwriting("run")).unwrap_err().to_string();
    assert!(error.contains("option teacher") && error.contains("other"), "{error}");
    compress(&named, &options(&place, "new", None)).unwrap_err();
    assert!(!place.path("new").exists());
    // The dense model within the output folder.
    let mut within = from_new_head(&place);
    compress(&within, &options(&place, "small", None)).unwrap();
    within.model = Some(place.path("small/dense/model"));
    let error = compress(&within, &overwriting("small")).unwrap_err().to_string();
    assert!(error.contains("would be replaced, and the run needs it"), "{error}");
    assert!(place.path("small/report.json").is_file());
    assert_eq!(fs::read(place.path("run/report.json")).unwrap(), before);
}

/// Options whose observer is `act`.
fn observed(
    place: &Place,
    output: &str,
    act: impl Fn(&Event) + Send + Sync + 'static,
) -> RunOptions {
    RunOptions { observer: Arc::new(act), ..options(place, output, None) }
}

#[test]
fn a_named_teacher_is_read_once_and_asked_only_if_there_is_something_to_learn() {
    let place = without_dropout();
    let plain = recipe(&place, "");
    finetune(&plain, &options(&place, "teacher", None)).unwrap();
    let folder = place.path("teacher/model");
    let teacher = Some(folder.clone());
    let named = DistillationRecipe { teacher, ..DistillationRecipe::default() };
    let named = Recipe { distillation: Some(named), ..plain };
    let moved = place.path("elsewhere");
    let (from, to) = (folder.clone(), moved.clone());
    let taking_away = move |event: &Event| {
        if matches!(event, Event::Stage { name } if name == "Evaluating the model as it is") {
            fs::rename(&from, &to).unwrap();
        }
    };
    let report = compress(&named, &observed(&place, "small", taking_away)).unwrap();
    let told = report.training.teacher.unwrap();
    assert_eq!(told.folder, Some(place.arg("teacher/model")));
    fs::rename(&moved, &folder).unwrap();
    let before = weights(&place, "small");
    let stages: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = stages.clone();
    let noting = move |event: &Event| {
        if let Event::Stage { name } = event {
            seen.lock().unwrap().push(name.clone());
        }
    };
    let again = RunOptions { resume: true, ..observed(&place, "small", noting) };
    compress(&named, &again).unwrap();
    let stages = stages.lock().unwrap();
    assert!(!stages.iter().any(|stage| stage.contains("teacher")), "{stages:?}");
    assert!(stages.iter().any(|stage| stage == "Saving" || stage.contains("saving")), "{stages:?}");
    assert!(weights(&place, "small") == before);
}

/// The distance from the teacher is no loss on the labels, by which a divergence is told.
#[test]
fn a_large_distance_from_the_teacher_is_no_divergence() {
    let place = without_dropout();
    let mut recipe = taught(&place);
    recipe.distillation.as_mut().unwrap().weight = 1e6;
    let losses: Arc<Mutex<Vec<f64>>> = Arc::default();
    let seen = losses.clone();
    let noting = move |event: &Event| {
        if let Event::Step { loss, .. } = event {
            seen.lock().unwrap().push(*loss);
        }
    };
    let report = compress(&recipe, &observed(&place, "small", noting)).unwrap();
    let losses = losses.lock().unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    let blind = std::f64::consts::LN_2;
    assert!(last > 2.0 * first.max(blind), "from {first} to {last}");
    assert!(report.history_loss.iter().all(|(_, loss)| *loss < 2.0 * blind));
    assert!(report.warnings.iter().all(|warning| warning.kind != WarningKind::Diverged));
}

/// A teacher with its labels in another order says the same.
#[test]
fn labels_of_a_teacher_are_matched_by_name() {
    let place = without_dropout();
    let plain = recipe(&place, "");
    finetune(&plain, &options(&place, "teacher", None)).unwrap();
    let mut turned = plain.clone();
    turned.task.labels = Some(vec!["up".into(), "down".into()]);
    turned.model = Some(place.path("teacher/model"));
    turned.training.learning_rate = Some(1e-30);
    finetune(&turned, &options(&place, "turned", None)).unwrap();
    for (teacher, output) in [("teacher", "by-first"), ("turned", "by-second")] {
        let teacher = Some(place.path(teacher).join("model"));
        let taught = DistillationRecipe { teacher, ..DistillationRecipe::default() };
        let recipe = Recipe { distillation: Some(taught), ..plain.clone() };
        compress(&recipe, &options(&place, output, None)).unwrap();
    }
    let [first, second] = ["by-first", "by-second"].map(|output| weights(&place, output));
    assert!(first == second);
}

#[test]
fn misuse_of_a_teacher_is_named() {
    let place = Place::shared();
    let output = tempfile::tempdir().unwrap();
    for (teacher, parts) in [
        ("nowhere".to_string(), ["teacher", "nowhere"]),
        (place.arg("train.csv"), ["teacher", "train.csv"]),
    ] {
        let folder = output.path().join("out").display().to_string();
        let mut args = place.run("compress", "unused", &[]);
        let at = args.iter().position(|word| word == "-o").unwrap();
        args[at + 1] = folder;
        args.extend(["--teacher".into(), teacher]);
        fails(&refs(&args), 1, &parts);
        assert!(!output.path().join("out").exists(), "found before anything is written");
    }
}

#[test]
fn without_a_recipe_the_command_takes_the_recommended_way() {
    let place = Place::new();
    let run = |output: &str, more: &[&str]| {
        let args = place.run("compress", output, more);
        losparse(&refs(&args)).output().unwrap();
    };
    run("small", &["--epochs", "1"]);
    let recipe = Recipe::read(place.path("small/recipe.toml")).unwrap();
    assert_eq!(recipe.distillation, Some(DistillationRecipe::default()));
    let method = recipe.method.unwrap();
    assert_eq!(method.low_rank_ratio, Some(0.15));
    let text = fs::read_to_string(place.path("small/recipe.toml")).unwrap();
    assert!(text.contains("approximate = \"outputs\""), "{text}");
    let plain = ["--epochs", "1", "--teacher", "none", "--approximate", "weights"];
    run("plain", &plain);
    let recipe = Recipe::read(place.path("plain/recipe.toml")).unwrap();
    assert_eq!(recipe.distillation.unwrap().weight, 0.0);
    assert_eq!(recipe.method.unwrap().low_rank_ratio, Some(0.05));
}

/// Inference keeps packed weights of a model that was applied; they must not take inputs from the layers that listen.
#[test]
fn a_model_that_was_applied_before_is_measured_as_any() {
    use burn::tensor::{Int, Tensor};
    use losparse::checkpoint::LoadOptions;
    use losparse::decompose::{
        Calibration, DecomposeConfig, Rank, decompose, decompose_for_inputs,
    };
    use losparse::linear::LayerSelection;
    use losparse::models::{AnySequenceClassifier, EncoderInput, FolderModel};

    let device = losparse::device::open("flex").unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");
    let (model, _) = AnySequenceClassifier::load(folder, &device, &LoadOptions::default()).unwrap();
    let ids = Tensor::<2, Int>::from_ints([[2, 50, 900, 31, 77, 1200, 5, 3]], &device);
    let forward = |model: &AnySequenceClassifier| {
        model.forward(EncoderInput::new(ids.clone()));
        Ok(())
    };
    forward(&model).unwrap();
    let (all, config) = (LayerSelection::all(), DecomposeConfig::new(Rank::Fixed(4)));
    let calibration = Calibration::measure(&model, &all, forward).unwrap();
    let (_, fitted) = decompose_for_inputs(model.clone(), &all, config, &calibration).unwrap();
    let (_, plain) = decompose(model, &all, config).unwrap();
    assert_eq!(fitted.len(), plain.len());
    for (fitted, plain) in fitted.iter().zip(&plain) {
        assert!(fitted.residual > plain.residual, "{}: its inputs were not seen", fitted.name);
    }
}
