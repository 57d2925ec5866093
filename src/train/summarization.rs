//! Summarization as a job: trained by teacher forcing, evaluated by what the model writes.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Map, json};

use super::classification::encoder_input;
use super::data::{BatchSource, digest};
use super::evaluate::collect_answers;
use super::hold_out::{HELD_OUT, hold_out, tell_held_out, tell_shared};
use super::job::{EvalSplit, Job, Loaded, Prepared, Start, tell_skipped};
use super::{Evaluator, Interrupt, Observer, Recipe, StoredColumns, TaskRecipe, TrainableModel};
use crate::checkpoint::checksum::sha256;
use crate::generation::GenerationConfig;
use crate::inspect::{Answers, Machine};
use crate::models::{AnySeq2Seq, Seq2SeqInput};
use crate::tasks::summarization::{self, SummarizationExample, SummarizationSettings};
use crate::tasks::{EncodedExample, Example, MetricKind, MetricReport, PhonemeScores, RougeScores};
use crate::tasks::{Split, SummarizationDataset, Task, TextBatch, TextTokenizer};
use crate::{Error, Result};

/// Summaries of documents.
#[derive(Debug, Clone, Copy)]
pub struct Summarization;

impl Job for Summarization {
    type Model = AnySeq2Seq;
    type Evaluator = SummaryEvaluator;

    fn prepare(
        recipe: &Recipe,
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<Loaded<AnySeq2Seq, SummaryEvaluator>> {
        let asked = recipe.task.summarization();
        let mut held_out = None;
        let (train, dev) = match recipe.task.dev_share() {
            Some(share) => {
                let (train, dev) = read_and_hold_out(recipe, share)?;
                held_out = Some(dev.len());
                tell_held_out(observer, dev.len(), train.len(), recipe.training.seed);
                (train, dev)
            }
            None => {
                (recipe.task.read_summaries(Split::Train)?, recipe.task.read_summaries(Split::Dev)?)
            }
        };
        tell_skipped(observer, "train", train.skipped, "rows");
        tell_skipped(observer, "dev", dev.skipped, "rows");
        let [seen, new] = [&train, &dev].map(|set| set.examples.iter());
        let document = |example: &SummarizationExample| example.document.clone();
        tell_shared(observer, "dev", seen.map(document), new.map(document));
        let mut settings = SummarizationSettings::default();
        let mut own = GenerationConfig::default();
        let (model, start) =
            Start::load_with(recipe, None, device, observer, |folder, model: &AnySeq2Seq| {
                own = GenerationConfig::from_folder(folder)?;
                settings = asked.settings(&own, AnySeq2Seq::max_length(model))?;
                Ok(settings.max_source_length)
            })?;
        let task = summarization::task(&recipe.task.name, settings.metrics);
        let generation = Arc::new(settings.generation(&own));
        model.check_generation(&generation)?;
        check_memory(&model, &generation, recipe.training.eval_batch_size.min(dev.len()))?;
        let training_generation = Arc::new(GenerationConfig {
            num_beams: Some(asked.training_num_beams.unwrap_or(settings.num_beams)),
            ..(*generation).clone()
        });

        let data = |examples: &[SummarizationExample], generation: &Arc<GenerationConfig>| {
            SummaryData::new(examples, &start.tokenizer, &settings, generation.clone())
        };
        let mut train = data(&train.examples, &generation)?;
        train.label_smoothing = asked.label_smoothing.unwrap_or(0.0);
        let split = |examples: &[SummarizationExample], generation| -> Result<_> {
            Ok(EvalSplit {
                name: held_out.map_or("dev", |_| HELD_OUT).to_string(),
                source: data(examples, generation)?.batches(),
                evaluator: SummaryEvaluator::new(&task, examples, &start.tokenizer, &settings)?,
            })
        };
        let few = asked.training_eval_examples.unwrap_or(dev.len()).min(dev.len());
        let cheaper = few < dev.len() || training_generation.num_beams != generation.num_beams;
        let while_training = match cheaper {
            true => Some(split(&dev.examples[..few], &training_generation)?),
            false => None,
        };
        let dev = vec![split(&dev.examples, &generation)?];
        let columns = StoredColumns::of(&recipe.task);
        let about = Map::from_iter([
            ("summarization".to_string(), json!(settings)),
            ("columns".to_string(), json!(columns)),
        ]);
        let train = train.batches();
        // As likely as any token of the vocabulary.
        let blind_loss = (model.vocab_size().max(1) as f64).ln();
        let prepared =
            Prepared { start, task, about, train, dev, while_training, held_out, blind_loss };
        Ok((model, prepared))
    }
}

/// The documents to train on, and those held out to evaluate on; no document is in both.
fn read_and_hold_out(
    recipe: &Recipe,
    share: f64,
) -> Result<(SummarizationDataset, SummarizationDataset)> {
    let task = &recipe.task;
    let whole = TaskRecipe { max_train_examples: None, ..task.clone() };
    let whole = whole.read_summaries(Split::Train)?;
    let document = |example: &SummarizationExample| (0, example.document.clone());
    let parts = hold_out(whole.examples, share, recipe.training.seed, document)?;
    let mut train = SummarizationDataset { examples: parts.train, skipped: whole.skipped };
    let mut dev = SummarizationDataset { examples: parts.dev, skipped: 0 };
    train.truncate(task.max_train_examples.unwrap_or(usize::MAX));
    dev.truncate(task.max_eval_examples.unwrap_or(usize::MAX));
    Ok((train, dev))
}

/// Tokenized documents and summaries.
struct SummaryData {
    documents: Vec<EncodedExample>,
    /// As many, or none at all.
    summaries: Vec<EncodedExample>,
    pad_id: u32,
    label_smoothing: f64,
    generation: Arc<GenerationConfig>,
}

impl SummaryData {
    fn new(
        examples: &[SummarizationExample],
        tokenizer: &TextTokenizer,
        settings: &SummarizationSettings,
        generation: Arc<GenerationConfig>,
    ) -> Result<Self> {
        let example = |text: &str| Example { text: text.to_string(), pair: None, label: None };
        let up_to = |option: &str, tokens: usize| {
            let tokenizer = tokenizer.clone().with_max_length(tokens);
            let message = || format!("{tokens} tokens leave no room for text");
            tokenizer.map_err(|_| Error::option(option, message()))
        };
        let sources = up_to("max_source_length", settings.max_source_length)?;
        let targets = up_to("max_target_length", settings.max_target_length)?;
        let documents: Vec<Example> = examples.iter().map(|e| example(&e.document)).collect();
        let summaries = examples.iter().map(|e| e.summary.as_deref().map(example));
        let summaries: Vec<Example> = summaries.collect::<Option<_>>().unwrap_or_default();
        Ok(Self {
            documents: sources.encode_examples(&documents)?,
            summaries: targets.encode_examples(&summaries)?,
            pad_id: tokenizer.pad_id(),
            label_smoothing: 0.0,
            generation,
        })
    }

    /// Batches by length of the documents, padded to the longest of them.
    fn batches(self) -> BatchSource<SummaryBatch> {
        let lengths = self.documents.iter().map(|document| document.input_ids.len()).collect();
        let digest = [digest(&self.documents), digest(&self.summaries)].concat();
        let make = move |indices: &[usize], device: &Device| {
            let documents: Vec<_> = indices.iter().map(|&at| &self.documents[at]).collect();
            let summaries: Option<Vec<&[u32]>> = indices
                .iter()
                .map(|&at| self.summaries.get(at).map(|summary| summary.input_ids.as_slice()))
                .collect();
            Ok(SummaryBatch {
                documents: TextBatch::new(&documents, self.pad_id, device)?,
                labels: summaries.map(|summaries| labels(&summaries, device)),
                label_smoothing: self.label_smoothing,
                generation: self.generation.clone(),
                examples: indices.to_vec(),
            })
        };
        BatchSource { lengths, digest: sha256(digest.as_bytes()), collate: Arc::new(make) }
    }
}

/// `[batch, longest]`, −100 behind the end of each.
fn labels(summaries: &[&[u32]], device: &Device) -> Tensor<2, Int> {
    let longest = summaries.iter().map(|summary| summary.len()).max().unwrap_or(0);
    let mut ids = vec![-100_i32; summaries.len() * longest];
    for (row, summary) in ids.chunks_mut(longest.max(1)).zip(summaries) {
        row.iter_mut().zip(*summary).for_each(|(id, &token)| *id = token as i32);
    }
    Tensor::from_data(TensorData::new(ids, [summaries.len(), longest]), device)
}

/// Documents on a device, and how they are summarized.
#[derive(Debug, Clone)]
pub struct SummaryBatch {
    /// The documents' tokens.
    pub documents: TextBatch,
    /// `[batch, target]`: the reference summaries' tokens, −100 behind their ends; `None` where
    /// there are no references.
    pub labels: Option<Tensor<2, Int>>,
    /// Share of the target probability that is spread over all tokens.
    pub label_smoothing: f64,
    /// How summaries are generated.
    pub generation: Arc<GenerationConfig>,
    /// Index of each document.
    pub examples: Vec<usize>,
}

/// What a model wrote.
#[derive(Debug, Clone)]
pub struct SummaryOutput {
    /// Index of each document.
    pub examples: Vec<usize>,
    /// The tokens of each document's summary, none in training; or what went wrong.
    pub summaries: Result<Vec<Vec<u32>>, String>,
    /// Seconds it took.
    pub seconds: f64,
}

impl TrainableModel for AnySeq2Seq {
    type Batch = SummaryBatch;
    type Output = SummaryOutput;

    /// The loss of teacher forcing; nothing is generated.
    fn forward_loss(&self, batch: SummaryBatch) -> (Tensor<1>, SummaryOutput) {
        let nothing = SummaryOutput { examples: vec![], summaries: Ok(vec![]), seconds: 0.0 };
        let Some(labels) = batch.labels else {
            return (Tensor::zeros([1], &batch.documents.input_ids.device()), nothing);
        };
        let input = Seq2SeqInput::new(encoder_input(&batch.documents));
        let logits = self.forward(self.teacher_forced(input, labels.clone()));
        (self.loss(logits, labels, batch.label_smoothing), nothing)
    }

    fn evaluate_batch(&self, batch: SummaryBatch) -> (Tensor<1>, SummaryOutput) {
        let started = Instant::now();
        let generated = self.generate(&encoder_input(&batch.documents), &batch.generation);
        let summaries = generated.map(|examples| {
            let best = examples.into_iter().map(|mut outputs| match outputs.is_empty() {
                true => vec![],
                false => outputs.swap_remove(0).tokens,
            });
            best.collect()
        });
        let output = SummaryOutput {
            examples: batch.examples.clone(),
            summaries: summaries.map_err(|error| error.to_string()),
            seconds: started.elapsed().as_secs_f64(),
        };
        (self.forward_loss(batch).0, output)
    }
}

/// Gathers a model's summaries, and scores them by ROUGE; or pronunciations, by their phonemes.
#[derive(Debug, Clone)]
pub struct SummaryEvaluator {
    task: Task,
    use_stemmer: bool,
    tokenizer: Arc<TextTokenizer>,
    /// The references; empty if there are none.
    references: Arc<Vec<String>>,
    summaries: Vec<Option<String>>,
    tokens: usize,
    seconds: f64,
}

impl SummaryEvaluator {
    /// An evaluator of summaries of `examples`.
    ///
    /// # Errors
    /// If only some have a reference.
    pub fn new(
        task: &Task,
        examples: &[SummarizationExample],
        tokenizer: &TextTokenizer,
        settings: &SummarizationSettings,
    ) -> Result<Self> {
        let references: Vec<String> = examples.iter().filter_map(|e| e.summary.clone()).collect();
        if !references.is_empty() && references.len() < examples.len() {
            let message = "some documents have a reference summary and others have none";
            return Err(Error::option("summary", message));
        }
        Ok(Self {
            task: task.clone(),
            use_stemmer: settings.use_stemmer,
            tokenizer: Arc::new(tokenizer.clone()),
            references: Arc::new(references),
            summaries: vec![None; examples.len()],
            tokens: 0,
            seconds: 0.0,
        })
    }

    /// The summary of every document.
    ///
    /// # Errors
    /// If the model has not seen every document.
    pub fn summaries(&self) -> Result<Vec<&str>> {
        let each = self.summaries.iter().enumerate().map(|(at, summary)| {
            let missing = || Error::Training(format!("document {} was not summarized", at + 1));
            summary.as_deref().ok_or_else(missing)
        });
        each.collect()
    }

    /// Tokens generated, those of batches' padding not counted, and the seconds it took.
    pub fn speed(&self) -> (usize, f64) {
        (self.tokens, self.seconds)
    }
}

impl Evaluator<SummaryOutput> for SummaryEvaluator {
    fn clear(&mut self) {
        self.summaries.fill(None);
        (self.tokens, self.seconds) = (0, 0.0);
    }

    fn push(&mut self, output: &SummaryOutput) -> Result<()> {
        let summaries = output.summaries.as_ref();
        let summaries = summaries.map_err(|message| Error::Training(message.clone()))?;
        for (&at, tokens) in output.examples.iter().zip(summaries) {
            let text = self.tokenizer.decode(tokens)?;
            let Some(slot) = self.summaries.get_mut(at) else {
                return Err(Error::Training(format!("there is no document {at}")));
            };
            *slot = Some(text.trim().to_string());
            // The first token is given.
            self.tokens += tokens.len().saturating_sub(1);
        }
        self.seconds += output.seconds;
        Ok(())
    }

    fn report(&self) -> Result<MetricReport> {
        let primary = self.task.primary;
        let pairs = self.summaries()?.into_iter().zip(self.references.iter());
        if MetricKind::PHONEMES.contains(&primary) {
            let mut scores = PhonemeScores::new(primary)?;
            pairs.for_each(|(phonemes, reference)| {
                scores.push(phonemes, reference);
            });
            return scores.report();
        }
        let mut scores = RougeScores::new(self.use_stemmer).with_primary(primary)?;
        pairs.for_each(|(summary, reference)| {
            scores.push(summary, reference);
        });
        scores.report()
    }

    fn primary(&self) -> String {
        self.task.primary.to_string()
    }

    fn answers(&self) -> Answers {
        let predictions = self.summaries.iter().flatten().cloned().collect();
        Answers { logits: vec![], predictions }
    }

    fn note(&self) -> Option<String> {
        let (tokens, seconds) = self.speed();
        speed_note(self.summaries.len(), tokens, seconds)
    }
}

/// Tells people how fast `count` texts of so many `tokens` were written; nothing of none.
pub fn speed_note(count: usize, tokens: usize, seconds: f64) -> Option<String> {
    let speed = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
    let mean = tokens as f64 / count.max(1) as f64;
    (tokens > 0).then(|| {
        format!("written: {count} texts of {mean:.1} tokens on average, {speed:.0} tokens a second")
    })
}

/// An error if writing `texts` texts at once would take more memory than this machine has.
///
/// # Errors
/// Names the number of beams, and a setting that is impossible or not supported.
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

/// A model with all that summarizing takes.
#[derive(Debug)]
pub struct Summarizer<'a> {
    /// The model.
    pub model: &'a AnySeq2Seq,
    /// Its tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Lengths and search.
    pub settings: &'a SummarizationSettings,
    /// The model's own settings of generation, with its special tokens.
    pub own: &'a GenerationConfig,
    /// Documents in a batch.
    pub batch_size: usize,
    /// The device that the model is on.
    pub device: &'a Device,
}

impl Summarizer<'_> {
    /// Summarizes `examples`: the summaries, and their scores where there are references, are the
    /// evaluator's to tell.
    ///
    /// # Errors
    /// If a setting is impossible for the model, a text cannot be tokenized, the device fails, or
    /// the run is stopped.
    pub fn summarize(
        &self,
        examples: &[SummarizationExample],
        observer: &dyn Observer,
        interrupt: &Interrupt,
    ) -> Result<SummaryEvaluator> {
        let generation = Arc::new(self.settings.generation(self.own));
        self.model.check_generation(&generation)?;
        check_memory(self.model, &generation, self.batch_size.min(examples.len()))?;
        let task = summarization::task("summarization", self.settings.metrics);
        let evaluator = SummaryEvaluator::new(&task, examples, self.tokenizer, self.settings)?;
        let mut data = SummaryData::new(examples, self.tokenizer, self.settings, generation)?;
        // No loss is asked for.
        data.summaries = Vec::new();
        let (source, size) = (data.batches(), self.batch_size);
        collect_answers(self.model, &source, evaluator, size, self.device, observer, interrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let share = recipe.task.resolved().dev_share.unwrap();
        let (train, dev) = read_and_hold_out(&recipe, share).unwrap();
        assert_eq!((train.len(), dev.len()), (72, 7));
        let held = |document: &str| dev.examples.iter().any(|example| example.document == document);
        assert!(!train.examples.iter().any(|example| held(&example.document)));
    }
}
