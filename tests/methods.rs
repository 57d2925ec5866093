//! Methods and criteria by name on the command line.

use std::fs;

use losparse::pruning::{Curve, Importance, Regrowth};
use losparse::train::Recipe;
use serde_json::Value;

use super::cli::{Place, fails, refs, stdout};

fn report(place: &Place, output: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(output).join("report.json")).unwrap()).unwrap()
}

fn recipe(place: &Place, output: &str) -> Recipe {
    Recipe::read(place.path(output).join("recipe.toml")).unwrap()
}

#[test]
fn criteria_and_schedules_are_options() {
    let place = Place::new();
    let options = ["--importance", "snip-momentum", "--curve", "cosine", "--min-kept", "0.1"];
    let more = ["--max-kept", "0.3", "--ratio", "0.3", "--method", "losparse", "--interval", "2"];
    let published = ["--teacher", "none", "--approximate", "weights"];
    let args = place.run("compress", "small", &[&options[..], &more, &published].concat());
    stdout(&refs(&args));
    let method = recipe(&place, "small").method.unwrap();
    assert_eq!((method.importance, method.curve), (Importance::SnipMomentum, Curve::Cosine));
    assert_eq!((method.beta1, method.low_rank_ratio), (Some(0.9), Some(0.05)));
    let report = report(&place, "small");
    let pruning = &report["method"]["pruning"];
    assert_eq!(pruning["importance"], "snip_momentum");
    assert_eq!(pruning["schedule"]["curve"], "cosine");
    for layer in report["account"]["layers"].as_array().unwrap() {
        let [kept, groups] = ["kept", "groups"].map(|key| layer[key].as_u64().unwrap() as f64);
        let share = kept / groups;
        assert!((0.1..=0.3).contains(&share), "{layer}");
    }
}

#[test]
fn methods_are_options_and_losparse_has_both_its_parts() {
    let place = Place::new();
    let once = place.run("compress", "once", &["--method", "one-shot", "--ratio", "0.3"]);
    stdout(&refs(&once));
    let method = recipe(&place, "once").method.unwrap();
    assert_eq!((method.low_rank_ratio, method.curve), (Some(0.0), Curve::OneShot));
    assert_eq!((method.importance, method.regrowth), (Importance::Magnitude, Regrowth::Frozen));
    let text = fs::read_to_string(place.path("once/report.md")).unwrap();
    assert!(text.contains("one-shot magnitude pruning"), "{text}");

    // Below a ratio of 0.1, low-rank parts that keep weights are by default half of it.
    let wide = Place::wide(64);
    let tiny = ["--ratio", "0.06", "--interval", "2"];
    stdout(&refs(&wide.run("compress", "tiny", &tiny)));
    assert_eq!(recipe(&wide, "tiny").method.unwrap().low_rank_ratio, Some(0.045));
    let published = [&tiny[..], &["--approximate", "weights"]].concat();
    stdout(&refs(&wide.run("compress", "published", &published)));
    assert_eq!(recipe(&wide, "published").method.unwrap().low_rank_ratio, Some(0.03));
    let tiny = report(&wide, "tiny");
    assert!(tiny["method"]["pruning"].is_object());
    let layers = tiny["account"]["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().map(|layer| layer[key].as_f64().unwrap()).sum::<f64>();
    let stored = sum("stored_elements") / sum("dense_elements");
    assert!(stored <= 0.07, "{stored}");

    let refused = |more: &[&str], part: &str| {
        fails(&refs(&place.run("compress", "never", more)), 1, &[part]);
        assert!(!place.path("never").exists());
    };
    let equal = ["--method", "losparse", "--ratio", "0.05", "--low-rank-ratio", "0.05"];
    refused(&equal, "option --low-rank-ratio: 0.05 leaves nothing of the ratio 0.05");
    refused(&["--method", "losparse", "--rank", "0"], "option --rank: 0 leaves out");
    // Rank 1 is more than that.
    let tiny = "option --ratio: 0.01 is less than low-rank parts of these layers take, 10";
    refused(&["--ratio", "0.01"], tiny);
    refused(&["--ratio", "0.01", "--method", "low-rank"], tiny);
    refused(&["--ratio", "0.01", "--dry-run"], tiny);
    // No option silently turns a method into another one.
    for (method, more, option) in [
        ("itp", ["--rank", "4"], "rank"),
        ("itp", ["--importance", "movement"], "importance"),
        ("low-rank", ["--low-rank-ratio", "0.1"], "low_rank_ratio"),
        ("movement", ["--importance", "magnitude"], "importance"),
        ("one-shot", ["--curve", "cubic"], "curve"),
        ("one-shot", ["--regrowth", "allowed"], "regrowth"),
    ] {
        let part = format!("option --{}: with this the method is", option.replace('_', "-"));
        refused(&[&["--method", method], &more[..]].concat(), &part);
    }
    // The bounds are on the sparse part, 0.15 of the weights here.
    let capped = |bound: [&'static str; 2]| {
        [&["--ratio", "20%", "--low-rank-ratio", "5%", "--dry-run"][..], &bound].concat()
    };
    stdout(&refs(&place.run("compress", "capped", &capped(["--max-kept", "0.15"]))));
    refused(&capped(["--max-kept", "0.14"]), "option --max-kept");
    refused(&capped(["--min-kept", "0.18"]), "option --min-kept");
    // A new ratio does not turn a recipe's method into another one.
    let file = place.path("recipe.toml");
    fs::write(&file, "[method]\nratio = 0.2\nlow_rank_ratio = 0.06\n").unwrap();
    let recipe = file.display().to_string();
    refused(
        &["--recipe", &recipe, "--ratio", "0.05"],
        "option low_rank_ratio: 0.06 leaves nothing",
    );
}

#[test]
fn a_head_of_another_task_is_left_behind() {
    let place = Place::new();
    let starting = |output: &str, more: &[&str]| {
        stdout(&refs(&place.run("finetune", output, more)));
        report(&place, output)["starting"].as_array().unwrap().len()
    };
    // The model's own head is evaluated before training; a new head would not be.
    assert_eq!(starting("own", &["--epochs", "1"]), 1);
    assert_eq!(starting("new", &["--epochs", "1", "--new-head"]), 0);
    assert!(recipe(&place, "new").new_head && !recipe(&place, "own").new_head);
    let text = ["--new-head", "--task", "xsum"];
    fails(&refs(&place.run("finetune", "never", &text)), 1, &["option --new-head"]);
}
