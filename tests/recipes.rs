//! The recipes of `models/recipes`: each is parsed and planned, as in a dry run, for a model of the
//! true shape and the true number of examples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use losparse::linear::Compressible;
use losparse::models::ModelConfig;
use losparse::models::bart::{BartConfig, BartForConditionalGeneration};
use losparse::models::bert::{BertConfig, BertForQuestionAnswering, BertForSequenceClassification};
use losparse::models::deberta_v2::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
};
use losparse::pruning::Phase;
use losparse::train::{JobKind, Outline, Recipe, outline};

/// Training examples of each task. SQuAD has a few more windows than these questions.
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

const GLUE: [&str; 8] = ["mnli", "rte", "qnli", "mrpc", "qqp", "sst2", "cola", "stsb"];

/// Recipes with published ratios, learning rates and schedules.
const PUBLISHED: [&str; 4] = [
    "bart-large/cnn_dailymail-40",
    "bart-large/xsum-40",
    "bert-base/squad-50",
    "deberta-v3-base/mnli-20",
];

/// Recipes of all published rows and of PLATON's tasks, as `model/task-percent`.
fn expected() -> Vec<String> {
    let mut names = vec!["bert-base/squad-50".to_string()];
    for task in GLUE {
        names.push(format!("bert-base/{task}-20"));
        names.extend([20, 10].map(|percent| format!("deberta-v3-base/{task}-{percent}")));
    }
    names.extend([5, 10, 20, 30, 40, 50].map(|p| format!("deberta-v3-base/squad-{p}")));
    for task in ["xsum", "cnn_dailymail"] {
        names.extend([50, 40, 30].map(|percent| format!("bart-large/{task}-{percent}")));
    }
    names.sort();
    names
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All files, by their names without extension.
fn recipes() -> BTreeMap<String, Recipe> {
    let folder = here("models/recipes");
    let mut recipes = BTreeMap::new();
    for model in ["bart-large", "bert-base", "deberta-v3-base"] {
        for entry in std::fs::read_dir(folder.join(model)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            recipes.insert(format!("{model}/{name}"), Recipe::read(&path).unwrap());
        }
    }
    recipes
}

/// `model`, `task` and `percent` of a name.
fn parts(name: &str) -> (&str, &str, f64) {
    let (model, rest) = name.split_once('/').unwrap();
    let (task, percent) = rest.rsplit_once('-').unwrap();
    (model, task, percent.parse().unwrap())
}

/// A published `config.json` from the fixtures.
fn config<C: ModelConfig>(file: &str, model: &str) -> C {
    let text = std::fs::read_to_string(here("tests/fixtures").join(file)).unwrap();
    let models: serde_json::Value = serde_json::from_str(&text).unwrap();
    C::from_json(&models[model]["config"].to_string(), Path::new(file)).unwrap()
}

/// Counts parameters that have been given values.
#[derive(Default)]
struct Allocated(usize);

impl ModuleVisitor for Allocated {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += usize::from(param.is_initialized());
    }
}

/// The outline of a run of `recipe` with `model`, which may create none of the model's weights.
fn planned<M: Compressible>(recipe: &Recipe, model: &M, examples: usize) -> Outline {
    let outline = outline(recipe, model, examples).unwrap();
    let mut allocated = Allocated::default();
    model.visit(&mut allocated);
    assert_eq!(allocated.0, 0);
    outline
}

fn plan(name: &str, recipe: &Recipe) -> Outline {
    let (model, task, _) = parts(name);
    let (_, examples) = *EXAMPLES.iter().find(|(known, _)| *known == task).unwrap();
    let device = Device::default();
    match (model, recipe.task.kind()) {
        ("bert-base", JobKind::Classification) => {
            let model = BertForSequenceClassification::new(&BertConfig::default(), &device);
            planned(recipe, &model, examples)
        }
        ("bert-base", JobKind::QuestionAnswering) => {
            let model = BertForQuestionAnswering::new(&BertConfig::default(), &device);
            planned(recipe, &model, examples)
        }
        ("deberta-v3-base", kind) => {
            let config: DebertaV2Config = config("deberta_v2/published.json", model);
            if kind == JobKind::QuestionAnswering {
                let model = DebertaV2ForQuestionAnswering::new(&config, &device);
                return planned(recipe, &model, examples);
            }
            assert_eq!(kind, JobKind::Classification);
            let model = DebertaV2ForSequenceClassification::new(&config, &device);
            planned(recipe, &model, examples)
        }
        ("bart-large", JobKind::TextGeneration) => {
            let config: BartConfig = config("bart/counts.json", model);
            let model = BartForConditionalGeneration::new(&config, &device);
            planned(recipe, &model, examples)
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn there_is_a_recipe_for_every_published_row() {
    let recipes = recipes();
    assert_eq!(recipes.keys().cloned().collect::<Vec<_>>(), expected());
    let readme = std::fs::read_to_string(here("models/recipes/README.md")).unwrap();
    for (name, recipe) in recipes {
        recipe.validate().unwrap();
        let again = Recipe::parse(&recipe.resolved().to_toml()).unwrap();
        assert_eq!(again, recipe.resolved(), "{name}");
        let (model, task, percent) = parts(&name);
        assert_eq!(recipe.task.name, task);
        let method = recipe.method.clone().unwrap();
        assert!((method.ratio - percent / 100.0).abs() < 1e-12, "{name}");
        assert_eq!((method.beta1, method.beta2), (Some(0.85), 1.0), "{name}");
        assert_eq!(recipe.training.bucket_batches, 1, "{name}");
        assert_eq!(recipe.training.weight_decay, 0.0, "{name}");
        let published = PUBLISHED.contains(&name.as_str());
        let provenance = if published { "published" } else { "chosen" };
        assert_eq!(recipe.provenance.as_deref(), Some(provenance), "{name}");
        // The README lists the recipe with its model, in bold if it is published.
        let about = |section: &&str| section.starts_with(&format!("`{model}`"));
        let sections: String = readme.split("\n## ").filter(about).collect();
        let listed = format!("`{}`", name.split_once('/').unwrap().1);
        assert!(sections.contains(&listed), "{name} is not in the README");
        assert_eq!(sections.contains(&format!("**{listed}**")), published, "{name}");
    }
}

#[test]
fn every_recipe_fits_the_true_model_and_data() {
    for (name, recipe) in recipes() {
        let plan = plan(&name, &recipe);
        let (model, _, percent) = parts(&name);
        let layers = if model == "bart-large" { 192 } else { 72 };
        assert_eq!(plan.layers.len(), layers, "{name}");
        assert!(plan.patterns.iter().all(|pattern| pattern.layers == layers), "{name}");

        // The low-rank part has its share, up to rounding ranks up.
        let method = recipe.method.as_ref().unwrap();
        let (mut low_rank, mut dense) = (0, 0);
        for layer in &plan.layers {
            low_rank += layer.rank * (layer.d_input + layer.d_output);
            dense += layer.d_input * layer.d_output;
        }
        let share = low_rank as f64 / dense as f64;
        let over = share - method.low_rank_ratio();
        assert!((0.0..0.003).contains(&over), "{name}: {share}");

        let pruning = plan.pruning.unwrap();
        let schedule = pruning.schedule;
        let (total, last) = (plan.segments.total_steps, plan.segments.total_steps - 1);
        let kept = percent / 100.0 - method.low_rank_ratio();
        assert!((schedule.final_keep_ratio - kept).abs() < 1e-12, "{name}");
        assert_eq!((schedule.total_steps, schedule.keep_ratio(0)), (total, 1.0), "{name}");
        assert_eq!(schedule.keep_ratio(last), schedule.final_keep_ratio, "{name}");
        let falling = (0..total).filter(|&step| schedule.phase(step) == Phase::Falling).count();
        assert!(falling > total / 10, "{name}: falls over {falling} of {total} updates");
        let warmup = recipe.training.lr_warmup_steps.unwrap_or(total / 10);
        assert!(warmup < total / 2, "{name}");
        assert!(plan.segments.count() >= recipe.training.epochs.unwrap(), "{name}");
    }
}

/// Rank and number of layers of each shape `[d_input, d_output]`.
fn ranks(name: &str) -> BTreeMap<[usize; 2], (usize, usize)> {
    let mut ranks = BTreeMap::new();
    for layer in plan(name, &recipes()[name]).layers {
        let found = ranks.entry([layer.d_input, layer.d_output]).or_insert((layer.rank, 0));
        assert_eq!(found.0, layer.rank, "{name}: {}", layer.name);
        found.1 += 1;
    }
    ranks
}

#[test]
fn ranks_are_those_of_the_true_shapes() {
    for name in ["deberta-v3-base/mnli-20", "bert-base/squad-50"] {
        let bases = [([768, 768], (20, 48)), ([768, 3072], (31, 12)), ([3072, 768], (31, 12))];
        assert_eq!(ranks(name), BTreeMap::from(bases), "{name}");
    }
    let half = ranks("deberta-v3-base/squad-5");
    assert_eq!((half[&[768, 768]].0, half[&[768, 3072]].0), (10, 16));
    // 0.35·1024/2 and 0.35·1024·4096/5120, rounded up.
    let large = [([1024, 1024], (180, 144)), ([1024, 4096], (287, 24)), ([4096, 1024], (287, 24))];
    assert_eq!(ranks("bart-large/xsum-40"), BTreeMap::from(large));
}

/// Updates of the whole training and of the schedule's warmups, if all of them are published.
#[test]
fn published_schedules() {
    for (name, updates, warmups, interval) in [
        ("deberta-v3-base/mnli-20", 12_272, [675, 3_375], 10),
        ("bert-base/squad-50", 54_750, [5_400, 27_000], 10),
        ("bart-large/xsum-40", 76_524, [12_800, 51_200], 100),
        ("bart-large/cnn_dailymail-40", 107_676, [12_800, 51_200], 100),
    ] {
        let schedule = plan(name, &recipes()[name]).pruning.unwrap().schedule;
        assert_eq!(schedule.total_steps, updates, "{name}");
        let found = [schedule.initial_warmup_steps, schedule.final_warmup_steps];
        assert_eq!((found, schedule.interval), (warmups, interval), "{name}");
    }
}

#[test]
fn summarization_recipes_are_the_published_ones() {
    for (name, recipe) in recipes().into_iter().filter(|(name, _)| name.starts_with("bart-large")) {
        let settings = recipe.task.summarization().settings(&Default::default(), 1024).unwrap();
        assert_eq!((settings.max_source_length, settings.max_target_length), (256, 128), "{name}");
        assert_eq!((settings.num_beams, settings.max_length), (6, 128), "{name}");
        let columns = recipe.task.summarization_options();
        let expected = match recipe.task.name.as_str() {
            "xsum" => ("document", "summary"),
            _ => ("article", "highlights"),
        };
        assert_eq!((columns.document.as_str(), columns.summary.as_str()), expected);
    }
}
