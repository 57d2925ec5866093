//! Gathers generated texts and scores them.

use std::sync::Arc;

use super::GeneratedTexts;
use crate::inspect::Answers;
use crate::tasks::summarization::{SummarizationExample, SummarizationSettings};
use crate::tasks::{MetricKind, MetricReport, PhonemeScores, RougeScores, Task, TextTokenizer};
use crate::train::job::Evaluator;
use crate::{Error, Result};

/// Gathers generated texts and scores them: summaries by ROUGE, pronunciations by phonemes.
#[derive(Debug, Clone)]
pub struct GenerationEvaluator {
    task: Task,
    use_stemmer: bool,
    tokenizer: Arc<TextTokenizer>,
    /// Reference texts; empty if there are none.
    references: Arc<Vec<String>>,
    texts: Vec<Option<String>>,
    tokens: usize,
    seconds: f64,
}

impl GenerationEvaluator {
    /// Makes an evaluator of the texts generated for `examples`.
    ///
    /// # Errors
    /// If some have a reference and others have none.
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
            texts: vec![None; examples.len()],
            tokens: 0,
            seconds: 0.0,
        })
    }

    /// The text generated for each document.
    ///
    /// # Errors
    /// If one is missing.
    pub fn texts(&self) -> Result<Vec<&str>> {
        let each = self.texts.iter().enumerate().map(|(at, text)| {
            let missing =
                || Error::Training(format!("no text was generated for document {}", at + 1));
            text.as_deref().ok_or_else(missing)
        });
        each.collect()
    }

    /// Tokens generated, without padding, and the seconds that took.
    pub fn speed(&self) -> (usize, f64) {
        (self.tokens, self.seconds)
    }
}

impl Evaluator<GeneratedTexts> for GenerationEvaluator {
    fn clear(&mut self) {
        self.texts.fill(None);
        (self.tokens, self.seconds) = (0, 0.0);
    }

    fn push(&mut self, output: &GeneratedTexts) -> Result<()> {
        let texts = output.texts.as_ref();
        let texts = texts.map_err(|message| Error::Training(message.clone()))?;
        for (&at, tokens) in output.examples.iter().zip(texts) {
            let text = self.tokenizer.decode(tokens)?;
            let Some(slot) = self.texts.get_mut(at) else {
                return Err(Error::Training(format!("there is no document {at}")));
            };
            *slot = Some(text.trim().to_string());
            // The decoder starts from the first token; it is not generated.
            self.tokens += tokens.len().saturating_sub(1);
        }
        self.seconds += output.seconds;
        Ok(())
    }

    fn report(&self) -> Result<MetricReport> {
        let primary = self.task.primary;
        let pairs = self.texts()?.into_iter().zip(self.references.iter());
        if MetricKind::PHONEMES.contains(&primary) {
            let mut scores = PhonemeScores::new(primary)?;
            pairs.for_each(|(phonemes, reference)| {
                scores.push(phonemes, reference);
            });
            return scores.report();
        }
        let mut scores = RougeScores::new(self.use_stemmer).with_primary(primary)?;
        pairs.for_each(|(text, reference)| {
            scores.push(text, reference);
        });
        scores.report()
    }

    fn primary(&self) -> String {
        self.task.primary.to_string()
    }

    fn answers(&self) -> Answers {
        let predictions = self.texts.iter().flatten().cloned().collect();
        Answers { logits: vec![], predictions }
    }

    fn note(&self) -> Option<String> {
        let (tokens, seconds) = self.speed();
        speed_note(self.texts.len(), tokens, seconds)
    }
}

/// One line for people on how fast `count` texts with `tokens` tokens in all were generated; `None`
/// without tokens.
pub fn speed_note(count: usize, tokens: usize, seconds: f64) -> Option<String> {
    let speed = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
    let mean = tokens as f64 / count.max(1) as f64;
    (tokens > 0).then(|| {
        format!("written: {count} texts of {mean:.1} tokens on average, {speed:.0} tokens a second")
    })
}
