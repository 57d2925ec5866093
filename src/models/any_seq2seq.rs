//! Text-to-text models, by the architecture that a folder's `config.json` names.

use burn::tensor::{Int, Tensor};

use super::any::{any_model, await_values};
use super::bart::BartForConditionalGeneration;
use super::{EncoderInput, FolderModel, Seq2SeqInput};
use crate::Result;
use crate::generation::{Generated, GenerationConfig, generate};

any_model! {
    /// A model of any supported architecture that writes a text given another. `forward` gives
    /// logits `[batch, target, vocab_size]`.
    AnySeq2Seq(Seq2SeqInput) -> Tensor<3> {
        /// `model_type` `bart`.
        Bart(BartForConditionalGeneration),
    }
    run: |model, input_ids| {
        // The decoder reads the source as well.
        let input = Seq2SeqInput::new(EncoderInput::new(input_ids.clone()));
        let logits = model.forward(model.teacher_forced(input, input_ids));
        let [batch, target, vocabulary] = logits.dims();
        // [batch, 1, vocabulary] → [batch, vocabulary]: the last position needs all others.
        await_values(logits.narrow(1, target - 1, 1).reshape([batch, vocabulary]))
    }
}

/// Runs an expression on whichever model it is.
macro_rules! each {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            AnySeq2Seq::Bart($model) => $body,
        }
    };
}

impl AnySeq2Seq {
    /// The input with the decoder reading what it needs to predict `labels`, `[batch, target]`.
    pub fn teacher_forced(&self, input: Seq2SeqInput, labels: Tensor<2, Int>) -> Seq2SeqInput {
        each!(self, model => model.teacher_forced(input, labels))
    }

    /// Generates outputs for every example: see [`generate`].
    ///
    /// # Errors
    /// As [`generate`].
    pub fn generate(
        &self,
        input: &EncoderInput,
        config: &GenerationConfig,
    ) -> Result<Vec<Vec<Generated>>> {
        each!(self, model => generate(model, input, config))
    }

    /// Checks that the model can generate so.
    ///
    /// # Errors
    /// If a setting is impossible or not supported; the message names it.
    pub fn check_generation(&self, config: &GenerationConfig) -> Result<()> {
        config.resolve(self.vocab_size(), self.max_length()).map(|_| ())
    }

    /// Bytes that a generation for `texts` texts remembers at its greatest length: keys, values,
    /// logits and candidates of every hypothesis.
    ///
    /// # Errors
    /// As [`Self::check_generation`].
    pub fn generation_bytes(&self, config: &GenerationConfig, texts: usize) -> Result<f64> {
        let tokens = self.vocab_size();
        let settings = config.resolve(tokens, self.max_length())?;
        let [layers, size] =
            each!(self, model => [model.config().decoder_layers, model.config().d_model]);
        let beams = settings.num_beams as f64;
        let remembered = (2 * layers * size) as f64 * settings.max_length as f64;
        let candidates = (4.0 * beams).min(tokens as f64);
        Ok(4.0 * texts as f64 * beams * (remembered + tokens as f64 + 2.0 * candidates))
    }
}
