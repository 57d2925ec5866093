//! The `losparse` command, run as users run it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

pub(super) use super::place::{Place, reviews};

const COMMANDS: [&str; 9] = [
    "quickstart",
    "compress",
    "finetune",
    "evaluate",
    "predict",
    "inspect",
    "study",
    "quantize",
    "bench",
];

pub(super) fn losparse(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_losparse"));
    command.args(args);
    for variable in ["LOSPARSE_DEVICE", "LOSPARSE_DTYPE", "LOSPARSE_THREADS"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    losparse(args).output().unwrap()
}

/// Standard output of a run that must succeed.
pub(super) fn stdout(args: &[&str]) -> String {
    let output = run(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}\n{err}", output.status);
    out
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn json_lines(args: &[&str]) -> Vec<Value> {
    let out = stdout(&[args, &["--json"]].concat());
    out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Checks that a run fails with exit code, without panic, and with a message that has all of
/// `parts`.
pub(super) fn fails(args: &[&str], code: i32, parts: &[&str]) {
    let output = run(args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert!(message.contains("error: "), "{args:?}: {message}");
    assert!(!message.contains("panicked"), "{args:?}: {message}");
    for part in parts {
        assert!(message.contains(part), "{args:?}: no {part:?} in: {message}");
    }
}

pub(super) fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn help_of_every_command() {
    let top = stdout(&["--help"]);
    for command in COMMANDS {
        assert!(top.contains(&format!("\n  {command} ")), "{command} in\n{top}");
        let help = stdout(&[command, "--help"]);
        assert!(help.contains(&format!("Usage: losparse {command}")), "{help}");
        assert!(help.contains("--device <DEVICE>") && help.contains("LOSPARSE_DEVICE"), "{help}");
        assert!(help.contains("Example"), "{help}");
        let long = help.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{command}");
    }
    let help = stdout(&["compress", "--help"]);
    for part in [
        "\nData:\n",
        "\nCompression:\n",
        "\nTraining:\n",
        "\nRun:\n",
        "\nMachine and output:\n",
        "[default: 0.2]",
        "[default: three quarters of the ratio;",
        "[default: 5e-5; when compressing 2e-4",
        "[default: enough for 100 updates, 3 to 40]",
        "[default: sensitivity]",
        "--layers <PATTERN>",
    ] {
        assert!(help.contains(part), "no {part:?} in\n{help}");
    }
    assert!(!stdout(&["finetune", "--help"]).contains("--ratio"));
    assert!(stdout(&["--version"]).starts_with("losparse "));
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::shared();
    fails(&["shrink"], 2, &["shrink"]);
    fails(&["inspect"], 2, &["MODEL"]);
    fails(&["inspect", "x", "--device", "tpu"], 2, &["'tpu'", "--device", "no such device"]);
    fails(&["bench", "x", "--threads", "0"], 2, &["--threads", "at least 1"]);
    fails(&["inspect", "x", "--threads", "100000"], 2, &["--threads", "cores", "at most"]);
    fails(&["study", "x", "--threads", "two"], 2, &["--threads", "not a whole number"]);
    let output = losparse(&["inspect", "x"]).env("LOSPARSE_THREADS", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    fails(&["compress", &place.arg("model")], 2, &["--output"]);
    fails(&["compress", "m", "-o", "x", "--keep", "worst"], 2, &["--keep", "best", "last"]);
    fails(&["compress", "m", "-o", "x", "--resume", "--overwrite"], 2, &["--overwrite"]);
    let output = losparse(&["inspect", "x"]).env("LOSPARSE_DEVICE", "tpu").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// The largest number of threads that a process has at a time.
#[cfg(target_os = "linux")]
fn most_threads(mut command: Command) -> usize {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
    let tasks = format!("/proc/{}/task", child.id());
    let mut most = 0;
    loop {
        most = most.max(fs::read_dir(&tasks).map_or(0, |tasks| tasks.count()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return most;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_more_threads_compute_than_asked_for() {
    let place = Place::new();
    let model = place.arg("model");
    let bench = ["bench", &model, "--batch", "8", "--length", "16", "--repeat", "200"];
    let mut beside = Vec::new();
    for threads in 1..=3 {
        // The threads of the pool, and the one that waits for them.
        let mut command = losparse(&bench);
        command.args(["--threads", &threads.to_string()]);
        assert_eq!(most_threads(command), threads + 1);
        let mut command = losparse(&bench);
        command.env("LOSPARSE_THREADS", threads.to_string());
        assert_eq!(most_threads(command), threads + 1);
        // Also the threads of Burn's training, which wait for each other and the pool.
        let output = format!("small-{threads}");
        let run = place.run("compress", &output, &["--epochs", "2"]);
        let mut command = losparse(&refs(&run));
        command.args(["--threads", &threads.to_string()]);
        beside.push(most_threads(command) - threads);
    }
    assert!(beside.iter().all(|&count| count == beside[0] && count < 12), "{beside:?}");
}

#[test]
fn settings_that_cannot_be_are_named() {
    let place = Place::shared();
    let with = |more: &[&str], parts: &[&str]| {
        fails(&refs(&place.run("compress", "never", more)), 1, parts);
        assert!(!place.path("never").exists(), "{more:?} left something behind");
    };
    with(&["--ratio", "1.7"], &["option --ratio", "1.7"]);
    with(&["--ratio", "0.1", "--low-rank-ratio", "0.2"], &["option --low-rank-ratio"]);
    with(&["--weight-decay=-1"], &["option --weight-decay"]);
    with(&["--epochs", "0"], &["option --epochs"]);
    with(&["--recipe", "no/such.toml"], &["no/such.toml"]);
    place.write("bad.toml", "[training]\nepoch = 3\n");
    with(&["--recipe", &place.arg("bad.toml")], &["bad.toml", "epoch"]);
    let model = place.arg("model");
    let output = place.arg("never");
    let args = ["compress", model.as_str(), "-o", &output];
    fails(&args, 1, &["option --task", "missing"]);
    fails(&[&args[..], &["--task", "sst3"]].concat(), 1, &["option --task", "sst3", "sst2"]);
    let unknown = [&args[..], &["--task", "sst3", "--data", &model]].concat();
    fails(&unknown, 1, &["option --task", "sst3", "sst2"]);
    let absent = [&args[..], &["--task", "sst2", "--data", "no/such"]].concat();
    fails(&absent, 1, &["no/such"]);
    // The user's own tables would be ignored beside GLUE's files.
    for option in ["--dev", "--train", "--text"] {
        let both = [&args[..], &["--task", "rte", "--data", &model, option, "mine.tsv"]].concat();
        fails(&both, 1, &[&format!("option {option}"), "one or the other"]);
    }
    with(&["--doc-stride", "8"], &["option --doc-stride", "squad"]);
    with(&["--num-beams", "3"], &["option --num-beams", "summarization"]);
    let dev = place.arg("dev.csv");
    let own = ["evaluate", &model, "--dev", &dev, "--text", "review", "--label", "mood"];
    fails(&[&own[..], &["--num-beams", "3"]].concat(), 1, &["option --num-beams", "classifies"]);
    fails(&[&own[..], &["--max-length", "4096"]].concat(), 1, &["option --max-length", "4096"]);
    with(&["--final-warmup-steps", "1"], &["option --final-warmup-steps", "at least 2"]);
}

#[test]
fn damaged_models_are_refused() {
    let place = Place::shared();
    for command in ["inspect", "predict", "bench", "evaluate"] {
        fails(&[command, "no/such/folder"], 1, &["no/such/folder: no such folder"]);
    }
    let broken = place.copy("truncated");
    let weights = broken.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fails(&["inspect", &place.arg("truncated")], 1, &["model.safetensors"]);
    fs::write(&weights, b"").unwrap();
    fails(&["inspect", &place.arg("truncated")], 1, &["model.safetensors"]);

    let nan = place.copy("nan");
    let mut bytes = bytes.clone();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(nan.join("model.safetensors"), bytes).unwrap();
    fails(&["predict", &place.arg("nan"), "good"], 1, &["layer ", "NaN"]);

    let other = place.copy("other");
    fs::write(other.join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    fails(&["inspect", &place.arg("other")], 1, &["architecture not supported: gpt2", "bert"]);
    fs::write(other.join("config.json"), "{").unwrap();
    fails(&["inspect", &place.arg("other")], 1, &["config.json"]);

    let mute = place.copy("mute");
    fs::remove_file(mute.join("vocab.txt")).unwrap();
    fails(&["predict", &place.arg("mute"), "good"], 1, &["tokenizer.json"]);
    let talkative = place.copy("talkative");
    let mut file = fs::OpenOptions::new().append(true).open(talkative.join("vocab.txt")).unwrap();
    write!(file, "\nword\nwords").unwrap();
    fails(&["predict", &place.arg("talkative"), "good"], 1, &["15 tokens", "13"]);
}

#[test]
fn quoted_tables_and_files_of_any_name_are_read_as_told() {
    let place = Place::new();
    let row = |line: &str| line.split_once(',').map(|(text, mood)| format!("\"{text}\"\t{mood}\n"));
    let quoted: String = reviews(24).lines().filter_map(row).collect();
    place.write("quoted.txt", &quoted);
    place.write("plain.csv", reviews(24));
    let (model, file) = (place.arg("model"), place.arg("quoted.txt"));
    let read = ["predict", &model, "--file", &file, "--text", "review"];
    fails(&read, 1, &["quoted.txt", "format"]);
    let told = [&read[..], &["--format", "tsv", "--quoting"]].concat();
    let plain = place.arg("plain.csv");
    let expected = json_lines(&["predict", &model, "--file", &plain, "--text", "review"]);
    assert_eq!(json_lines(&told), expected);
    let columns = ["--text", "review", "--label", "mood"];
    let evaluate = |file: &str, more: &[&str]| {
        json_lines(&[&["evaluate", &model, "--dev", file], &columns[..], more].concat())
    };
    let metrics = |lines: Vec<Value>| lines[0]["metrics"].clone();
    let found = metrics(evaluate(&file, &["--format", "tsv", "--quoting=true"]));
    assert_eq!(found, metrics(evaluate(&plain, &[])));
    fails(&[&read[..], &["--format", "xls"]].concat(), 2, &["xls", "csv"]);
}

#[test]
fn unusable_data_is_refused() {
    let place = Place::shared();
    place.write("empty.csv", "");
    place.write("constant.csv", "review,mood\ngood,up\n");
    place.write("strange.csv", "review,mood\ngood,sideways\n");
    let train = |file: &str, parts: &[&str]| {
        let mut args = place.run("finetune", "never-data", &[]);
        let at = args.iter().position(|word| word == "--train").unwrap() + 1;
        args[at] = place.arg(file);
        fails(&refs(&args), 1, parts);
    };
    train("empty.csv", &["empty.csv", "no rows"]);
    train("absent.csv", &["absent.csv"]);
    train("constant.csv", &["constant.csv", "two"]);
    let mut args = place.run("finetune", "never-data", &[]);
    let at = args.iter().position(|word| word == "mood").unwrap();
    args[at] = "stars".into();
    fails(&refs(&args), 1, &["train.csv", "no column \"stars\"", "review, mood"]);

    let model = place.arg("model");
    let evaluate = |file: &str, parts: &[&str]| {
        let file = place.arg(file);
        let args = ["evaluate", &model, "--dev", &file, "--text", "review", "--label", "mood"];
        fails(&args, 1, parts);
    };
    evaluate("empty.csv", &["empty.csv", "no rows"]);
    evaluate("strange.csv", &["line 2", "sideways", "down, up"]);
    fails(&["evaluate", &model], 1, &["option --task", "missing"]);
    let empty = place.arg("empty.csv");
    fails(&["predict", &model, "--file", &empty, "--text", "x"], 1, &["no rows"]);
    fails(&["predict", &model], 1, &["no text given"]);
    fails(&["predict", &model, "a", "b", "--pair", "c"], 1, &["option --pair"]);
    fails(&["bench", &model, "--length", "25"], 1, &["option --length", "24"]);
    fails(&["bench", &model, "--length", "8", "--repeat", "0"], 1, &["option --repeat"]);
    fails(&["inspect", &model, "--layers", "decoder.*"], 1, &["decoder.*", "matches no layer"]);
}

#[test]
fn predictions_from_arguments_lines_and_files_agree() {
    let place = Place::shared();
    let model = place.arg("model");
    let answers = json_lines(&["predict", &model, "the film is good", "dull"]);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1]["text"], "dull");
    let both = &answers[0]["probabilities"];
    let sum = both["up"].as_f64().unwrap() + both["down"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-9, "{both}");
    let label = answers[0]["label"].as_str().unwrap();
    assert_eq!(answers[0]["probability"], both[label]);

    let mut child = losparse(&["predict", &model, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"the film is good\ndull\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, answers);

    place.write("texts.jsonl", "{\"a\": \"the film is good\"}\n{\"a\": \"dull\"}\n");
    let file = place.arg("texts.jsonl");
    assert_eq!(json_lines(&["predict", &model, "--file", &file, "--text", "a"]), answers);
    let table = stdout(&["predict", &model, "the film is good", "--pair", "it is great"]);
    assert!(table.starts_with("label  probability  text\n"), "{table}");
    assert!(table.contains("the film is good | it is great"), "{table}");
}

#[test]
fn a_model_is_tuned_compressed_and_used() {
    let place = Place::new();
    let tuned = place.run("finetune", "tuned", &["--epochs", "2", "--json"]);
    let events: Vec<Value> =
        stdout(&refs(&tuned)).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let kinds = |kind: &str| events.iter().filter(|e| e["event"] == kind).count();
    assert_eq!(kinds("step"), 24);
    assert_eq!(kinds("evaluation"), 2);
    assert_eq!(events.last().unwrap()["event"], "done");
    fails(&refs(&tuned), 1, &["tuned", "--resume", "--overwrite"]);

    let more = "--epochs 4 --ratio 0.4 --low-rank-ratio 0.2 --interval 2 --storage f32";
    let more: Vec<&str> = more.split(' ').collect();
    let mut compress = place.run("compress", "small", &more);
    compress[1] = place.arg("tuned/model");
    let summary = stdout(&refs(&compress));
    assert!(summary.contains("compacted") && summary.contains("on disk"), "{summary}");
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("small/report.json")).unwrap()).unwrap();
    assert!(report["agreement"]["largest_logit_difference"].as_f64().unwrap() < 1e-4, "{report}");

    // A run's folder stands for the model in it.
    let small = place.arg("small");
    let inspected = &json_lines(&["inspect", &small])[0];
    let ratio = inspected["linear_ratio"].as_f64().unwrap();
    assert!((0.2..0.6).contains(&ratio), "{ratio}");
    assert_eq!(inspected["layers"].as_array().unwrap().len(), 12);
    assert_eq!(inspected["bytes"], report["bytes"]);
    let queries = stdout(&["inspect", &small, "--layers", "self.query,!layer.0.**"]);
    assert!(queries.contains("selected: 1 of 12 layers"), "{queries}");

    let dev = place.arg("dev.csv");
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    let result = &json_lines(&[&["evaluate", &small][..], &data].concat())[0]["result"];
    assert_eq!(*result, report["compacted"][0]);
    let answer = &json_lines(&["predict", &small, "the film is good"])[0];
    assert!(["up", "down"].contains(&answer["label"].as_str().unwrap()), "{answer}");
    let tuned = place.arg("tuned");
    let sizes = ["--batch", "2", "--length", "8", "--repeat", "3", "--threads", "1"];
    let times = &json_lines(&[&["bench", &tuned, &small][..], &sizes].concat())[0];
    assert_eq!((&times["repetitions"], &times["threads"]), (&json!(3), &json!(1)));
    assert_eq!(times["contestants"][0]["speedup"], json!(1.0));
    assert_eq!(times["contestants"].as_array().unwrap().len(), 2);
    assert!(Path::new(&small).join("recipe.toml").is_file());
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::shared();
    let mut args = place.run("compress", "dry", &["--dry-run"]);
    let plan = stdout(&refs(&args));
    // Needs come first, and few lines are enough.
    let parts = ["expected time: ", "asking the teacher: ", "expected memory: ", "model: "];
    let places = parts.map(|part| plan.find(part));
    assert!(places[0] == Some(0) && places.is_sorted(), "{plan}");
    assert!(plan.contains("compressed layers: 12 (** 12), rank 1; --json"), "{plan}");
    assert!(plan.lines().count() < 12, "{plan}");
    assert!(!place.path("dry").exists());
    let plan = json_lines(&refs(&args)).remove(0);
    args.pop();
    let layers = plan["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 12);
    assert_eq!(layers[0]["rank"], json!(1));
    assert_eq!((&plan["total_steps"], &plan["eval_steps"]), (&json!(36), &json!(12)));
    let schedule = &plan["schedule"];
    let warmups = [&schedule["initial_warmup_steps"], &schedule["final_warmup_steps"]];
    assert_eq!(warmups, [&json!(4), &json!(13)]);
    let kept = plan["keep_ratios"].as_array().unwrap();
    assert_eq!(kept[0], json!([4, 1.0]));
    assert_eq!(kept.last().unwrap()[0], json!(35));
    // Rank 1 is much of these small matrices: 7 of 64 weights; S has the rest of a fifth.
    assert!((kept.last().unwrap()[1].as_f64().unwrap() - (0.2 - 7.0 / 64.0)).abs() < 1e-9);
    // At least weights, gradients and two moments.
    let parameters = plan["trained_parameters"].as_u64().unwrap();
    assert!(plan["expected_memory_bytes"].as_u64().unwrap() > 16 * parameters);
    let seconds = |name: &str| plan[name].as_f64().unwrap();
    let updates = 36.0 * seconds("seconds_per_step");
    let expected = updates + seconds("teacher_seconds");
    assert!(updates > 0.0 && seconds("teacher_seconds") > 0.0);
    assert!((seconds("expected_seconds") - expected).abs() < 1e-9);
    assert!(!place.path("dry").exists());
}

/// Runs `args` and sends Ctrl-C after the first line of JSON with `sign`. Returns what the run
/// prints then.
#[cfg(unix)]
fn interrupted(args: &[String], sign: &str) -> String {
    let mut child =
        losparse(&refs(args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains(sign)));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    lines.by_ref().for_each(|line| drop(line.unwrap()));
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("error: interrupted: by Ctrl-C"), "{message}");
    message
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly_and_the_run_goes_on() {
    let place = Place::new();
    let args = place.run("compress", "long", &["--epochs", "60", "--interval", "2", "--json"]);
    // A checkpoint is there, so the run can be resumed.
    let message = interrupted(&args, "\"checkpoint\"");
    let hint = message.lines().find_map(|line| line.strip_prefix("go on with: losparse "));
    let hint: Vec<&str> = hint.expect(&message).split(' ').collect();
    assert_eq!(hint.last(), Some(&"--resume"));
    let done: Value = serde_json::from_str(stdout(&hint).lines().last().unwrap()).unwrap();
    assert_eq!(done["report"]["training"]["resumed"], json!(true));
    assert_eq!(done["report"]["training"]["steps"], json!(720));
    let mut whole: Vec<String> = args.clone();
    whole[3] = place.arg("whole");
    stdout(&refs(&whole));
    let weights = |run: &str| fs::read(place.path(run).join("model/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("long"), "the weights differ");
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_the_first_checkpoint_loses_nothing() {
    let place = Place::new();
    // The only evaluation is at the end, so there is no checkpoint yet.
    let args = place.run("compress", "early", &["--epochs", "60", "--eval-steps", "720", "--json"]);
    let message = interrupted(&args, "\"step\"");
    assert!(message.contains("go on with: losparse "), "{message}");
    let done = stdout(&["compress", "--resume", "-o", &place.arg("early"), "--json"]);
    let done: Value = serde_json::from_str(done.lines().last().unwrap()).unwrap();
    assert_eq!(done["report"]["training"]["resumed"], json!(true));
    let mut whole = args;
    whole[3] = place.arg("whole");
    stdout(&refs(&whole));
    let weights = |run: &str| fs::read(place.path(run).join("model/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("early"), "the weights differ");
}
