//! Question answering, by the architecture that a folder's `config.json` names.

use burn::tensor::Tensor;

use super::EncoderInput;
use super::any::{any_model, await_values};
use super::bert::BertForQuestionAnswering;
use super::deberta_v2::DebertaV2ForQuestionAnswering;
use super::mpnet::MpnetForQuestionAnswering;
use super::roberta::RobertaForQuestionAnswering;

any_model! {
    /// An extractive question answerer of any supported architecture. `forward` gives the logits
    /// of the answer's first and last token, `[batch, length]` each.
    AnyQuestionAnswerer(EncoderInput) -> (Tensor<2>, Tensor<2>) {
        /// `model_type` `bert`.
        Bert(BertForQuestionAnswering),
        /// `model_type` `roberta`.
        Roberta(RobertaForQuestionAnswering),
        /// `model_type` `mpnet`.
        Mpnet(MpnetForQuestionAnswering),
        /// `model_type` `deberta-v2`, which DeBERTa-v3 has too.
        DebertaV2(DebertaV2ForQuestionAnswering),
    }
    run: |model, input_ids| {
        let (start, end) = model.forward(EncoderInput::new(input_ids));
        await_values(start)?;
        await_values(end)
    }
}
