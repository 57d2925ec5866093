//! Documents and their target texts, as batches.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::checkpoint::checksum::sha256;
use crate::generation::GenerationConfig;
use crate::tasks::summarization::{SummarizationExample, SummarizationSettings};
use crate::tasks::{EncodedExample, Example, TextBatch, TextTokenizer};
use crate::train::job::batches::{BatchSource, digest};
use crate::{Error, Result};

/// Tokenized documents and target texts.
pub(super) struct GenerationData {
    documents: Vec<EncodedExample>,
    /// One for each document, or none at all.
    pub targets: Vec<EncodedExample>,
    pad_id: u32,
    pub label_smoothing: f64,
    generation: Arc<GenerationConfig>,
}

impl GenerationData {
    pub fn new(
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
            targets: targets.encode_examples(&summaries)?,
            pad_id: tokenizer.pad_id(),
            label_smoothing: 0.0,
            generation,
        })
    }

    /// Batches the documents by length, padded to the longest of each batch.
    pub fn batches(self) -> BatchSource<GenerationBatch> {
        let lengths = self.documents.iter().map(|document| document.input_ids.len()).collect();
        let digest = [digest(&self.documents), digest(&self.targets)].concat();
        let make = move |indices: &[usize], device: &Device| {
            let documents: Vec<_> = indices.iter().map(|&at| &self.documents[at]).collect();
            let targets: Option<Vec<&[u32]>> = indices
                .iter()
                .map(|&at| self.targets.get(at).map(|target| target.input_ids.as_slice()))
                .collect();
            Ok(GenerationBatch {
                documents: TextBatch::new(&documents, self.pad_id, device)?,
                labels: targets.map(|targets| labels(&targets, device)),
                label_smoothing: self.label_smoothing,
                generation: self.generation.clone(),
                examples: indices.to_vec(),
            })
        };
        BatchSource { lengths, digest: sha256(digest.as_bytes()), collate: Arc::new(make) }
    }
}

/// Labels `[batch, longest]`; −100 fills each row behind its text.
fn labels(targets: &[&[u32]], device: &Device) -> Tensor<2, Int> {
    let longest = targets.iter().map(|target| target.len()).max().unwrap_or(0);
    let mut ids = vec![-100_i32; targets.len() * longest];
    for (row, target) in ids.chunks_mut(longest.max(1)).zip(targets) {
        row.iter_mut().zip(*target).for_each(|(id, &token)| *id = token as i32);
    }
    Tensor::from_data(TensorData::new(ids, [targets.len(), longest]), device)
}

/// A batch of documents on a device, with the settings of generation.
#[derive(Debug, Clone)]
pub struct GenerationBatch {
    /// Tokens of the documents.
    pub documents: TextBatch,
    /// Tokens of the target texts `[batch, target]`, −100 behind their ends; `None` without targets.
    pub labels: Option<Tensor<2, Int>>,
    /// Share of the target probability spread over all tokens.
    pub label_smoothing: f64,
    /// Settings of generation.
    pub generation: Arc<GenerationConfig>,
    /// Index of each document in the data set.
    pub examples: Vec<usize>,
}
