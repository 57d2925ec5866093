//! Text generation as a job: summaries of documents, pronunciations of words. Models train by teacher
//! forcing and are evaluated by the texts they generate.

mod batches;
mod evaluator;

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use serde_json::{Map, json};

use self::batches::{GenerationBatch, GenerationData};
pub use self::evaluator::{GenerationEvaluator, speed_note};
use super::classification::encoder_input;
use super::hold_out::{Splits, tell_of_split};
use super::{EvalSplit, Job, Loaded, Prepared, Start, StoredColumns, TrainableModel};
use super::{collect_answers, tell_skipped};
use crate::generation::GenerationConfig;
use crate::inspect::Machine;
use crate::models::{AnySeq2Seq, FolderModel, Seq2SeqInput, language_model_loss};
use crate::tasks::summarization::{self, SummarizationExample, SummarizationSettings};
use crate::tasks::{Split, SummarizationDataset, TextTokenizer};
use crate::train::{Interrupt, Observer, Recipe, TaskRecipe};
use crate::{Error, Result};

/// Texts generated from documents.
#[derive(Debug, Clone, Copy)]
pub struct TextGeneration;

impl Job for TextGeneration {
    type Model = AnySeq2Seq;
    type Evaluator = GenerationEvaluator;

    fn prepare(recipe: &Recipe, device: &Device, observer: &dyn Observer) -> Result<Loaded<Self>> {
        let asked = recipe.task.summarization();
        let splits = Splits::read(recipe, observer, read_examples, |e| e.document.clone())?;
        tell_skipped(observer, "train", splits.skipped[0], "rows");
        tell_skipped(observer, "dev", splits.skipped[1], "rows");
        let (dev_name, Splits { train, dev, held_out, .. }) = (splits.dev_name(), splits);
        let mut settings = SummarizationSettings::default();
        let mut own = GenerationConfig::default();
        let (model, start) =
            Start::load_with(recipe, None, device, observer, |folder, model: &AnySeq2Seq| {
                own = GenerationConfig::from_folder(folder)?;
                settings = asked.settings(&own, model.max_length())?;
                Ok(settings.max_source_length)
            })?;
        let task = summarization::task(&recipe.task.name, settings.metrics);
        let [seen, new] = [&train, &dev].map(|set| set.iter());
        fn document(example: &SummarizationExample) -> &str {
            &example.document
        }
        tell_of_split(observer, (&dev_name, &task), seen.map(document), new.map(document));
        let generation = Arc::new(settings.generation(&own));
        model.check_generation(&generation)?;
        check_memory(&model, &generation, recipe.training.eval_batch_size.min(dev.len()))?;
        let training_generation = Arc::new(GenerationConfig {
            num_beams: Some(asked.training_num_beams.unwrap_or(settings.num_beams)),
            ..(*generation).clone()
        });

        let data = |examples: &[SummarizationExample], generation: &Arc<GenerationConfig>| {
            GenerationData::new(examples, &start.tokenizer, &settings, generation.clone())
        };
        let mut train = data(&train, &generation)?;
        train.label_smoothing = asked.label_smoothing.unwrap_or(0.0);
        let split = |examples: &[SummarizationExample], generation| -> Result<_> {
            Ok(EvalSplit {
                name: dev_name.clone(),
                source: data(examples, generation)?.batches(),
                evaluator: GenerationEvaluator::new(&task, examples, &start.tokenizer, &settings)?,
            })
        };
        let few = asked.training_eval_examples.unwrap_or(dev.len()).min(dev.len());
        let cheaper = few < dev.len() || training_generation.num_beams != generation.num_beams;
        let while_training = match cheaper {
            true => Some(split(&dev[..few], &training_generation)?),
            false => None,
        };
        let dev = vec![split(&dev, &generation)?];
        let columns = StoredColumns::of(&recipe.task);
        let about = Map::from_iter([
            ("summarization".to_string(), json!(settings)),
            ("columns".to_string(), json!(columns)),
        ]);
        let train = train.batches();
        // Every token of the vocabulary is equally likely.
        let blind_loss = (model.vocab_size().max(1) as f64).ln();
        let prepared =
            Prepared { start, task, about, train, dev, while_training, held_out, blind_loss };
        Ok((model, prepared))
    }
}

fn read_examples(task: &TaskRecipe, split: Split) -> Result<(Vec<SummarizationExample>, usize)> {
    task.read_summaries(split).map(|data| (data.examples, data.skipped))
}

/// Texts that a model generated for a batch.
#[derive(Debug, Clone)]
pub struct GeneratedTexts {
    /// Index of each document.
    pub examples: Vec<usize>,
    /// Tokens generated for each document, empty in training; or what went wrong.
    pub texts: Result<Vec<Vec<u32>>, String>,
    /// Seconds that generating took.
    pub seconds: f64,
}

impl TrainableModel for AnySeq2Seq {
    type Batch = GenerationBatch;
    type Output = GeneratedTexts;

    /// Computes the loss of teacher forcing and generates nothing.
    fn forward_loss(&self, batch: GenerationBatch) -> (Tensor<1>, GeneratedTexts) {
        let nothing = GeneratedTexts { examples: vec![], texts: Ok(vec![]), seconds: 0.0 };
        let Some(labels) = batch.labels else {
            return (Tensor::zeros([1], &batch.documents.input_ids.device()), nothing);
        };
        let input = Seq2SeqInput::new(encoder_input(&batch.documents));
        let logits = self.forward(self.teacher_forced(input, labels.clone()));
        (language_model_loss(logits, labels, batch.label_smoothing), nothing)
    }

    fn evaluate_batch(&self, batch: GenerationBatch) -> (Tensor<1>, GeneratedTexts) {
        let started = Instant::now();
        let generated = self.generate(&encoder_input(&batch.documents), &batch.generation);
        let texts = generated.map(|examples| {
            let best = examples.into_iter().map(|mut outputs| match outputs.is_empty() {
                true => vec![],
                false => outputs.swap_remove(0).tokens,
            });
            best.collect()
        });
        let output = GeneratedTexts {
            examples: batch.examples.clone(),
            texts: texts.map_err(|error| error.to_string()),
            seconds: started.elapsed().as_secs_f64(),
        };
        (self.forward_loss(batch).0, output)
    }

    fn soft_targets(_: &GeneratedTexts, _: &[usize]) -> Result<Vec<Vec<f32>>> {
        Err(Error::option("teacher", "models that write texts cannot be taught yet"))
    }

    /// Texts are not taught: 0.
    fn distance_to_targets(_: &GeneratedTexts, _: &[&[f32]], _: f64) -> Tensor<1> {
        Tensor::zeros([1], &Device::default())
    }
}

impl TaskRecipe {
    /// Reads the documents of a split, `train` or `dev`, with their target texts.
    ///
    /// # Errors
    /// If the file is missing, damaged or empty.
    pub fn read_summaries(&self, split: Split) -> Result<SummarizationDataset> {
        let (name, file, most) = match split {
            Split::Train => ("train", &self.train, self.max_train_examples),
            _ => ("dev", &self.dev, self.max_eval_examples),
        };
        let options = self.summarization_options();
        let mut data = match (file, &self.data) {
            (Some(file), _) => options.read(file)?,
            (None, Some(folder)) => options.load(folder, split)?,
            (None, None) => {
                let message = "missing: a CSV, TSV or JSON lines file (or `data` for the folder of \
                               both)";
                return Err(Error::option(name, message));
            }
        };
        data.truncate(most.unwrap_or(usize::MAX));
        if data.is_empty() {
            return Err(Error::option(name, "holds no example"));
        }
        Ok(data)
    }
}

/// Checks that this machine has the memory to generate `texts` texts at once.
///
/// # Errors
/// If it does not, the error names the number of beams. Also if a setting of generation is impossible
/// or not supported.
pub fn check_memory(model: &AnySeq2Seq, generation: &GenerationConfig, texts: usize) -> Result<()> {
    static MEMORY: LazyLock<u64> = LazyLock::new(|| Machine::here("").memory_bytes);
    let needed = model.generation_bytes(generation, texts)?;
    if *MEMORY > 0 && needed > f64::from(1 << 30).max(*MEMORY as f64) {
        let gigabytes = |bytes: f64| bytes / f64::from(1 << 30);
        let message = format!(
            "{} beams of {texts} texts at once need {:.0} GiB of this machine's {:.0}; lower \
             num_beams or batch_size",
            generation.num_beams.unwrap_or(1),
            gigabytes(needed),
            gigabytes(*MEMORY as f64)
        );
        return Err(Error::option("num_beams", message));
    }
    Ok(())
}

/// A model with all it needs to generate texts.
#[derive(Debug)]
pub struct TextGenerator<'a> {
    /// The model.
    pub model: &'a AnySeq2Seq,
    /// Its tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Lengths and beam search.
    pub settings: &'a SummarizationSettings,
    /// The model's own generation settings, with its special tokens.
    pub own: &'a GenerationConfig,
    /// Documents in a batch.
    pub batch_size: usize,
    /// The device that the model is on.
    pub device: &'a Device,
}

impl TextGenerator<'_> {
    /// Generates a text for each of `examples`. The evaluator that is returned holds the texts, and
    /// their scores if there are references.
    ///
    /// # Errors
    /// If a setting is impossible for the model, a text cannot be tokenized, the device fails, or
    /// the run is stopped.
    pub fn generate(
        &self,
        examples: &[SummarizationExample],
        observer: &dyn Observer,
        interrupt: &Interrupt,
    ) -> Result<GenerationEvaluator> {
        let generation = Arc::new(self.settings.generation(self.own));
        self.model.check_generation(&generation)?;
        check_memory(self.model, &generation, self.batch_size.min(examples.len()))?;
        let task = summarization::task("summarization", self.settings.metrics);
        let evaluator = GenerationEvaluator::new(&task, examples, self.tokenizer, self.settings)?;
        let mut data = GenerationData::new(examples, self.tokenizer, self.settings, generation)?;
        // Without target texts no loss is computed.
        data.targets = Vec::new();
        let (source, size) = (data.batches(), self.batch_size);
        collect_answers(self.model, &source, evaluator, size, self.device, observer, interrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Silent;

    #[test]
    fn no_document_is_both_trained_and_evaluated_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.csv");
        // Forty documents, each twice.
        let rows = (0..80).map(|at| format!("document {},summary {at}\n", at % 40));
        std::fs::write(&file, "document,summary\n".to_string() + &rows.collect::<String>())
            .unwrap();
        let task = TaskRecipe {
            name: "summarization".into(),
            train: Some(file),
            max_eval_examples: Some(7),
            ..TaskRecipe::default()
        };
        let recipe = Recipe { task, ..Recipe::default() };
        let document = |example: &SummarizationExample| example.document.clone();
        let splits = Splits::read(&recipe, &Silent, read_examples, document).unwrap();
        let Splits { train, dev, .. } = splits;
        assert_eq!((train.len(), dev.len()), (72, 7));
        let held = |document: &str| dev.iter().any(|example| example.document == document);
        assert!(!train.iter().any(|example| held(&example.document)));
    }
}
