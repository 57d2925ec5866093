use super::*;
use crate::pruning::Importance;

const BASE: &str = "[base]\nmodel = 'm'\n[base.task]\nname = 'rte'\ndata = 'glue'\n\
    [base.method]\nlow_rank_ratio = 0.02\n";

fn parse(grid: &str) -> Result<Study> {
    Study::parse(&format!("{BASE}[grid]\n{grid}"))
}

fn setting<'a>(run: &'a PlannedRun, axis: &str) -> Option<&'a str> {
    run.settings.iter().find(|(name, _)| name == axis).map(|(_, value)| value.as_str())
}

#[test]
fn a_grid_is_multiplied_out_and_says_each_run_once() {
    let grid = "method = ['dense', 'losparse', 'low-rank', 'movement']\nratio = [0.2, 0.1]\n\
        seed = [1, 2]\nlearning_rate = [1e-4, 5e-5]\n'method.beta1' = [0.5]\n";
    let study = parse(grid).unwrap();
    assert_eq!(study.axes, ["method", "ratio", "learning_rate", "method.beta1", "seed"]);
    // Dense has no ratio.
    assert_eq!(study.runs.len(), 4 + 3 * 2 * 2 * 2);
    let dense = &study.runs[0];
    assert!(dense.recipe.method.is_none());
    assert_eq!((setting(dense, "ratio"), setting(dense, "seed")), (None, Some("1")));
    let method = |name: &str| {
        let run = study.runs.iter().find(|run| setting(run, "method") == Some(name)).unwrap();
        run.recipe.method.clone().unwrap()
    };
    assert_eq!(
        (method("losparse").low_rank_ratio, method("losparse").beta1),
        (Some(0.02), Some(0.5))
    );
    assert_eq!(method("low-rank").low_rank_ratio, Some(0.2));
    assert_eq!(method("movement").importance, Importance::Movement);
    let folders: std::collections::HashSet<_> = study.runs.iter().map(|r| &r.folder).collect();
    assert_eq!(folders.len(), study.runs.len());
    let folder = &study.runs[4].folder;
    assert!(folder.starts_with("rte-m-losparse-0.2-s1-"), "{folder}");
    assert_eq!(parse(grid).unwrap(), study);
}

#[test]
fn dense_runs_of_a_task_are_done_before_those_compared_with_them() {
    let grid = "task = [{name = 'rte'}, {name = 'mrpc'}]\nmethod = ['losparse', 'dense']\n\
        ratio = [0.1]\nseed = [1, 2]\n";
    let runs = parse(grid).unwrap().runs;
    let order: Vec<(&str, bool)> = runs
        .iter()
        .map(|run| (run.recipe.task.name.as_str(), run.recipe.method.is_none()))
        .collect();
    let of = |task| [(task, true), (task, true), (task, false), (task, false)];
    assert_eq!(order, [of("rte"), of("mrpc")].concat());
}

#[test]
fn tasks_may_be_tables_and_the_low_rank_part_a_share() {
    let study = parse(
        "task = [{name = 'rte'}, {name = 'own', train = 't.csv', dev = 'd.csv'}]\n\
         low_rank_share = [0.5]\nratio = [0.1]\nmax_length = [64]\n",
    )
    .unwrap();
    assert_eq!(study.runs.len(), 2);
    let run = &study.runs[1];
    assert_eq!(run.recipe.method.as_ref().unwrap().low_rank_ratio, Some(0.05));
    assert_eq!(run.recipe.task.max_length, Some(64));
    assert_eq!(run.recipe.task.train.as_deref(), Some(Path::new("t.csv")));
    assert_eq!((setting(run, "task"), setting(run, "low_rank_share")), (Some("own"), Some("0.5")));
}

#[test]
fn other_settings_make_other_folders_and_the_same_the_same() {
    let folder = |text: &str| Study::parse(text).unwrap().runs[0].folder.clone();
    let base = format!("{BASE}[base.training]\nepochs = 3\nlearning_rate = 5e-5\n");
    let one = folder(&format!("{base}[grid]\nseed = [1]"));
    // Values derived from data and model differ from the first version's fixed defaults.
    assert_ne!(one, folder(&format!("{BASE}[grid]\nseed = [1]")));
    let longer = format!("{BASE}[base.training]\nepochs = 9\n[grid]\nseed = [1]");
    assert_ne!(one, folder(&longer));
    // However they are written: a default, the order of grids, where a setting comes from.
    for same in [
        format!("{base}seed = 1\n[grid]\nmax_length = [128]"),
        format!("{base}[[grid]]\n'training.seed' = [1]\n[[grid]]\nratio = [0.1]"),
        format!("{base}[grid]\nseed = [1]\nlow_rank_ratio = [0.02]\nmethod = ['losparse']"),
        base.replace("[base]", "[base]\nprovenance = 'chosen'") + "[grid]\nseed = [1]",
    ] {
        assert_eq!(folder(&same), one, "{same}");
    }
    // Once given, a run's folder is its folder: this one's is written down here.
    assert_eq!(one, "rte-m-losparse-0.2-s1-bc021e0a");
}

#[test]
fn a_grid_too_large_to_be_meant_is_refused_before_it_is_made() {
    let axis = |name: &str, count: usize| {
        let values: Vec<String> = (1..=count).map(|value| value.to_string()).collect();
        format!("{name} = [{}]\n", values.join(", "))
    };
    let names = ["seed", "epochs", "batch_size", "eval_steps"];
    let large: String = names.iter().map(|name| axis(name, 1000)).collect();
    let message = Study::parse(&format!("{BASE}[grid]\n{large}")).unwrap_err().to_string();
    for part in ["option grid", "1000000000000 combinations", "10000", "grid.", "has 1000"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    // More than can be counted; and in two grids, each of which would do.
    let names = ["max_length", "bucket_batches", "interval", "eval_batch_size"];
    let larger = names.iter().map(|name| axis(name, 100_000));
    let message =
        Study::parse(&format!("{BASE}[grid]\n{large}{}", larger.collect::<String>())).unwrap_err();
    assert!(message.to_string().contains("countless"), "{message}");
    let two = [axis("seed", 6000), axis("epochs", 6000)].map(|axis| format!("[[grid]]\n{axis}"));
    let message = Study::parse(&format!("{BASE}{}", two.concat())).unwrap_err().to_string();
    assert!(message.contains("12000 combinations"), "{message}");
}

#[test]
fn a_grid_of_many_seeds_is_made_at_once() {
    let seeds: Vec<String> = (0..3000).map(|seed| seed.to_string()).collect();
    let study = Study::parse(&format!("{BASE}[grid]\nseed = [{}]", seeds.join(", "))).unwrap();
    assert_eq!((study.runs.len(), study.axes), (3000, vec!["seed".to_string()]));
}

#[test]
fn several_grids_are_done_together_and_shared_runs_once() {
    let text = format!(
        "{BASE}[[grid]]\nmethod = ['losparse', 'itp', 'dense']\nratio = [0.2, 0.1]\n\
         [[grid]]\nbeta1 = [0.85, 0.5]\n[[grid]]\n'method.interval' = [20]\n"
    );
    let study = Study::parse(&text).unwrap();
    assert_eq!(study.axes, ["method", "ratio", "beta1", "method.interval"]);
    // The grids have five, two and one cells; the base's own is in the first two, and counts once.
    assert_eq!(study.runs.len(), 5 + 1 + 1);
    let place = |run: &PlannedRun| -> Vec<Option<String>> {
        study.axes.iter().map(|axis| setting(run, axis).map(String::from)).collect()
    };
    let words = |words: [&str; 4]| {
        words.map(|word| Some(word.to_string()).filter(|word| word != "–")).to_vec()
    };
    assert_eq!(place(&study.runs[0]), vec![Some("dense".into()), None, None, None]);
    assert_eq!(place(&study.runs[1]), words(["losparse", "0.2", "0.85", "–"]));
    assert_eq!(place(&study.runs[5]), words(["losparse", "0.2", "0.5", "–"]));
    assert_eq!(place(&study.runs[6]), words(["losparse", "0.2", "0.85", "20"]));
}

#[test]
fn tasks_of_one_name_are_told_apart_and_may_set_anything() {
    let study = parse(
        "task = [{name = 'rte', epochs = 10, training = {batch_size = 16}}, 'rte', {name = 'sst2', \
         epochs = 1, max_train_examples = 500}, {name = 'rte', data = 'elsewhere'}]\nseed = [1, 2]\n",
    )
    .unwrap();
    assert_eq!(study.runs.len(), 8);
    let tasks: Vec<&str> =
        study.runs.iter().step_by(2).map(|run| setting(run, "task").unwrap()).collect();
    assert_eq!(
        tasks,
        [
            "rte (data glue, batch size 16, epochs 10)",
            "rte (data glue, batch size 32, epochs –)",
            "sst2",
            "rte (data elsewhere, batch size 32, epochs –)",
        ]
    );
    let training = |at: usize| {
        let training = &study.runs[at].recipe.training;
        (training.epochs, training.batch_size, training.seed)
    };
    assert_eq!(
        (training(1), training(2), training(4)),
        ((Some(10), 16, 2), (None, 32, 1), (Some(1), 32, 1))
    );
    let message = parse("task = [{name = 'rte', epoch = 1}]").unwrap_err().to_string();
    assert!(message.contains("grid.task.epoch"), "{message}");
}

#[test]
fn losparse_keeps_a_rank_and_others_have_none() {
    let study = parse("method = ['losparse', 'itp', 'low-rank']\nrank = [4, 8]\n").unwrap();
    let ranks: Vec<_> = study.runs.iter().map(|run| setting(run, "rank")).collect();
    assert_eq!(ranks, [Some("4"), Some("8"), None, None]);
    let rank = |at: usize| study.runs[at].recipe.method.as_ref().unwrap().rank;
    assert_eq!((rank(0), rank(1), rank(2), rank(3)), (Some(4), Some(8), None, None));
    // A share on the grid stands in place of the base's rank.
    let base = BASE.replace("low_rank_ratio = 0.02", "rank = 8");
    let shares = Study::parse(&format!("{base}[grid]\nlow_rank_ratio = [0.02, 0.04]")).unwrap();
    let methods: Vec<_> = shares.runs.iter().map(|r| r.recipe.method.clone().unwrap()).collect();
    assert_eq!((methods[0].rank, methods[1].low_rank_ratio), (None, Some(0.04)));
}

#[test]
fn losparse_is_never_low_rank_or_pruning_alone() {
    for (grid, part) in [
        ("method = ['losparse']\nratio = [0.02]", "option low_rank_ratio: 0.02 leaves nothing"),
        ("method = ['losparse']\nrank = [0]", "option rank: 0 leaves out"),
        ("method = ['losparse']\nlow_rank_share = [1.0]", "option low_rank_ratio"),
    ] {
        let message = parse(grid).unwrap_err().to_string();
        assert!(message.contains(part), "{grid}: {message}");
    }
    // Where the base says nothing, half of a small ratio is left.
    let base = BASE.replace("low_rank_ratio = 0.02", "");
    let text = format!("{base}[grid]\nmethod = ['losparse']\nratio = [0.2, 0.05, 0.02]");
    let study = Study::parse(&text).unwrap();
    let shares = study.runs.iter().map(|run| run.recipe.method.as_ref().unwrap().low_rank_ratio);
    assert_eq!(shares.collect::<Vec<_>>(), [Some(0.05), Some(0.025), Some(0.01)]);
}

#[test]
fn what_a_run_writes_down_is_its_own() {
    let planned = parse("epochs = [3]").unwrap().runs.remove(0).recipe;
    // As runs write it: with the numbers of updates that followed from the data.
    let mut done = planned.clone();
    done.training.eval_steps = Some(78);
    done.training.lr_warmup_steps = Some(23);
    done.training.learning_rate = Some(1e-4);
    done.method.as_mut().unwrap().initial_warmup_steps = Some(29);
    assert!(identity::is_run_of(&planned, &done).unwrap());
    let given = parse("lr_warmup_steps = [10]").unwrap().runs.remove(0).recipe;
    assert!(!identity::is_run_of(&given, &done).unwrap());
    done.training.epochs = Some(4);
    assert!(!identity::is_run_of(&planned, &done).unwrap());
    done.training.epochs = None;
    assert!(!identity::is_run_of(&planned, &done).unwrap());
}

#[test]
fn a_run_is_known_by_its_settings_in_a_folder_of_another_name() {
    let place = tempfile::tempdir().unwrap();
    let study = parse("seed = [1, 2]").unwrap();
    let old = place.path().join("seed-1-old");
    std::fs::create_dir(&old).unwrap();
    // As a run writes it down.
    let mut recipe = study.runs[0].recipe.clone();
    recipe.training.learning_rate = Some(2e-4);
    std::fs::write(old.join("recipe.toml"), recipe.to_toml()).unwrap();
    let found = study.found_in(place.path()).unwrap();
    assert_eq!(found.runs[0].folder, "seed-1-old");
    assert_eq!(found.runs[1], study.runs[1]);
    // Its own folder comes first.
    std::fs::create_dir(place.path().join(&study.runs[0].folder)).unwrap();
    assert_eq!(study.found_in(place.path()).unwrap(), study);
}

#[test]
fn mistakes_are_named() {
    for (grid, part) in [
        ("sed = [1]", "grid.sed"),
        ("seed = 1", "grid.seed"),
        ("seed = []", "grid.seed"),
        ("seed = ['x']", "grid.seed"),
        ("method = ['best']", "grid.method"),
        ("'training.sed' = [1]", "grid.training.sed"),
    ] {
        let message = parse(grid).unwrap_err().to_string();
        assert!(message.contains(part), "{grid}: {message}");
    }
    let message = Study::parse(&format!("{BASE}[[grid]]\n[[grid]]\nsed = [1]")).unwrap_err();
    assert!(message.to_string().contains("grid[1].sed"), "{message}");
    let message = Study::parse(&format!("grid = 3\n{BASE}")).unwrap_err().to_string();
    assert!(message.contains("option grid"), "{message}");
    let message = Study::parse("[base]\nmodl = 'x'\n[grid]\n").unwrap_err().to_string();
    assert!(message.contains("base") && message.contains("modl"), "{message}");
}
