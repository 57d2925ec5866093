//! The recipes of `models/recipes` are possible, and as their sources have them.

use std::path::Path;

use losparse::train::{JobKind, Recipe, keep_ratio};

/// Training examples of each recipe's data.
const EXAMPLES: [(&str, usize); 11] = [
    ("xsum", 204_045),
    ("cnn_dailymail", 287_113),
    ("squad", 87_599),
    ("mnli", 392_702),
    ("qqp", 363_846),
    ("qnli", 104_743),
    ("sst2", 67_349),
    ("stsb", 5_749),
    ("cola", 8_551),
    ("mrpc", 3_668),
    ("rte", 2_490),
];

fn read(name: &str) -> Recipe {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/recipes");
    Recipe::read(folder.join(format!("{name}.toml"))).unwrap()
}

#[test]
fn every_recipe_is_possible() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/recipes");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    assert_eq!(files.count(), EXAMPLES.len());
    for (name, examples) in EXAMPLES {
        let recipe = read(name);
        recipe.validate().unwrap();
        assert_eq!(recipe.task.name, name);
        assert!(recipe.provenance.is_some(), "{name}");
        let (method, training) = (recipe.method.clone().unwrap(), &recipe.training);
        let batches = examples.div_ceil(training.batch_size);
        let total_steps = batches * training.epochs / training.gradient_accumulation;
        let keep = keep_ratio(&method, &[]).unwrap().unwrap();
        method.pruning(total_steps, keep).validate().unwrap();
        let again = Recipe::parse(&recipe.resolved().to_toml()).unwrap();
        assert_eq!(again, recipe.resolved(), "{name}");
    }
}

#[test]
fn summarization_recipes_are_the_published_ones() {
    for name in ["xsum", "cnn_dailymail"] {
        let recipe = read(name);
        assert_eq!(recipe.task.kind(), JobKind::Summarization);
        let settings = recipe.task.summarization().settings(&Default::default(), 1024).unwrap();
        assert_eq!((settings.max_source_length, settings.max_target_length), (256, 128));
        assert_eq!((settings.num_beams, settings.max_length), (6, 128));
        let method = recipe.method.unwrap();
        assert!((method.ratio - method.low_rank_ratio() - 0.05).abs() < 1e-12);
    }
    let columns = read("cnn_dailymail").task.summarization_options();
    assert_eq!((columns.document.as_str(), columns.summary.as_str()), ("article", "highlights"));
}
