//! `losparse compress`: compresses a model while it is trained for a task.

use std::path::{Path, PathBuf};

use losparse::Error;
use losparse::decompose::Approximate;
use losparse::train::MethodRecipe;

use super::global::GlobalArgs;
use super::options::method::MethodArgs;
use super::run::{RunArgs, TrainArgs};
use super::untrained::NoTraining;

#[derive(clap::Args)]
#[command(
    override_usage = "\
losparse compress [OPTIONS] <MODEL> --output <FOLDER>
       losparse compress [OPTIONS] --recipe <FILE> --output <FOLDER>
       losparse compress --resume --output <FOLDER>
       losparse compress <MODEL> --output <FOLDER> --no-training --unlabelled <FILE>",
    after_help = "\
Examples:
  For a GLUE task, to 20% of the weights:
    losparse compress bert-base-uncased -o small --task rte --data glue --ratio 0.2
  For question answering, to 30%:
    losparse compress bert-base-uncased -o small --task squad --data squad --ratio 0.3
  On your own data:
    losparse compress my-model -o small --train train.csv --dev dev.csv --text review --label stars
  A recipe with one setting changed; first see what it would do:
    losparse compress --recipe recipe.toml --epochs 5 --dry-run
  Feed-forward layers only, without the first block:
    losparse compress my-model -o small --task sst2 --data glue \\
        --layers 'intermediate.dense,layer.*.output.dense,!layer.0.**'
  As published, without a teacher:
    losparse compress my-model -o small --task sst2 --data glue --teacher none --approximate weights
  In minutes, without training or labels; whatever the model is for:
    losparse compress my-model -o small --no-training --unlabelled texts.txt --ratio 0.5
  Go on after Ctrl-C, a signal or a crash:
    losparse compress -o small --resume

The result, FOLDER/model, loads without the model it was made from."
)]
pub struct Args {
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Compress without training, to low-rank parts that keep each layer's outputs on the texts of
    /// --unlabelled; with --dev, or --task and --data, the result is evaluated
    #[arg(long, help_heading = "Compression", requires = "unlabelled", conflicts_with_all = OF_TRAINING)]
    #[cfg_attr(feature = "tui", arg(conflicts_with = "tui"))]
    no_training: bool,
    /// Texts for --no-training, some hundred: one a line, a pair divided by a tab; or a .csv, .tsv or .jsonl
    /// file with --text (and --pair, or --document), or SQuAD's .json
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Data",
        display_order = 4,
        requires = "no_training"
    )]
    unlabelled: Option<PathBuf>,
    /// Run of `finetune` on the same task; the report compares the result with it [default: the
    /// fine-tuning that came first, if there was one]
    #[arg(long, value_name = "FOLDER|report.json", help_heading = "Run")]
    baseline: Option<PathBuf>,
}

/// Options that say nothing without a training.
const OF_TRAINING: [&str; 45] = [
    "recipe",
    "new_head",
    "dry_run",
    "resume",
    "baseline",
    "train",
    "max_train_examples",
    "teacher",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "lr_decay",
    "lr_warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "bucket_batches",
    "seed",
    "eval_steps",
    "save_steps",
    "eval_batch_size",
    "early_stopping_patience",
    "keep",
    "max_target_length",
    "label_smoothing",
    "training_num_beams",
    "training_eval_examples",
    "method",
    "rank",
    "approximate",
    "importance",
    "beta1",
    "beta2",
    "reduction",
    "structure",
    "regrowth",
    "initial_warmup_steps",
    "final_warmup_steps",
    "interval",
    "curve",
    "min_kept",
    "max_kept",
];

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        if let (true, Some(texts)) = (self.no_training, &self.unlabelled) {
            return self.run_untrained(texts, global);
        }
        if self.unlabelled.is_some() {
            let message =
                "is for a compression without training; add --no-training, or leave it out";
            return Err(Error::option("unlabelled", message).into());
        }
        let mut recipe = self.train.recipe()?;
        self.train.run.check_command(&recipe, true)?;
        if !self.train.run.has_recipe()? {
            recipe = recipe.recommended();
        }
        self.method.apply(recipe.method.get_or_insert_default())?;
        let baseline = self.baseline.as_deref();
        self.train.run.run(recipe, baseline, global, losparse::train::compress)
    }

    fn run_untrained(&self, texts: &Path, global: &GlobalArgs) -> anyhow::Result<()> {
        let RunArgs { model, output, storage, overwrite, .. } = &self.train.run;
        let missing = "missing; give the folder of the model to compress";
        let model = model.as_ref().ok_or_else(|| Error::option("MODEL", missing))?;
        let output = output.as_ref().ok_or_else(|| Error::option("output", "missing"))?;
        let mut method =
            MethodRecipe { approximate: Approximate::Outputs, ..MethodRecipe::default() };
        self.method.apply(&mut method)?;
        let (storage, overwrite) = (storage.unwrap_or_default(), *overwrite);
        let task = &self.train.task;
        NoTraining { model, output, overwrite, storage, texts, method, task }.run(global)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, Command};

    /// Options of a compression without training; an option added to `compress` is in one of the lists.
    const WITHOUT_TRAINING: [&str; 37] = [
        "name",
        "data",
        "dev",
        "text",
        "pair",
        "label",
        "labels",
        "score",
        "format",
        "quoting",
        "max_length",
        "max_eval_examples",
        "doc_stride",
        "max_answer_length",
        "n_best",
        "version_2_with_negative",
        "null_score_diff_threshold",
        "document",
        "preset",
        "num_beams",
        "length_penalty",
        "min_summary_length",
        "max_summary_length",
        "no_repeat_ngram_size",
        "early_stopping",
        "summary",
        "use_stemmer",
        "text_metrics",
        "model",
        "output",
        "storage",
        "overwrite",
        "ratio",
        "low_rank_ratio",
        "layers",
        "no_training",
        "unlabelled",
    ];

    #[test]
    fn every_option_is_for_a_training_or_does_without() {
        let command = Args::augment_args(Command::new("compress"));
        let ids = command.get_arguments().map(|arg| arg.get_id().as_str());
        let mut ids: Vec<&str> = ids.filter(|id| *id != "tui").collect();
        let mut known = [&OF_TRAINING[..], &WITHOUT_TRAINING].concat();
        ids.sort_unstable();
        known.sort_unstable();
        assert_eq!(ids, known);
    }
}
