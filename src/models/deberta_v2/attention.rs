//! Disentangled self-attention: content to content, content to position, position to content.

use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Device, Tensor};

use super::{DebertaV2Config, RelativePositions};
use crate::linear::{CompressibleLinear, SharedInput};
use crate::models::bert::BertSelfOutput;
use crate::models::{Attended, init};
use crate::ops::{ForwardContext, Heads, RelativeScores};
use crate::ops::{Memo, Sources};

/// `DebertaV2Attention`: self-attention and its output projection, which is BERT's.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2Attention {
    /// `attention.self`.
    pub self_attention: DisentangledSelfAttention,
    /// `attention.output`.
    pub output: BertSelfOutput,
}

/// `DisentangledSelfAttention` (He et al. 2021, eq. 4).
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DisentangledSelfAttention {
    /// `[hidden_size, hidden_size]`; with `share_att_key` also of positions.
    pub query_proj: CompressibleLinear,
    /// `[hidden_size, hidden_size]`; with `share_att_key` also of positions.
    pub key_proj: CompressibleLinear,
    /// `[hidden_size, hidden_size]`.
    pub value_proj: CompressibleLinear,
    /// `[hidden_size, hidden_size]`: keys of positions, for `c2p` without `share_att_key`.
    pub pos_key_proj: Option<Linear>,
    /// `[hidden_size, hidden_size]`: queries of positions, for `p2c` without `share_att_key`.
    pub pos_query_proj: Option<Linear>,
    /// Dropout of the positions' embeddings.
    pub pos_dropout: Dropout,
    /// Dropout of the probabilities.
    pub dropout: Dropout,
    content_to_position: bool,
    position_to_content: bool,
    num_attention_heads: usize,
    head_size: usize,
    /// The scores are divided by the root of this.
    scale_square: usize,
    #[module(skip)]
    projections: SharedInput,
    #[module(skip)]
    projected: Memo<ProjectedPositions>,
}

/// A layer's projections of embeddings of relative positions, `[rows, hidden_size]` each.
#[derive(Debug, Clone)]
struct ProjectedPositions {
    /// For content → position.
    keys: Option<Tensor<2>>,
    /// For position → content, scaled.
    queries: Option<Tensor<2>>,
}

impl DebertaV2Attention {
    /// A freshly initialised block.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        Self {
            self_attention: DisentangledSelfAttention::new(config, device),
            output: BertSelfOutput::new(&config.bert(), config.hidden_size, device),
        }
    }

    /// Attends within each sequence; also returns the probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub(super) fn forward(
        &self,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> Attended {
        let (attended, probabilities) =
            self.self_attention.forward(hidden_states.clone(), context, relative);
        (self.output.forward(attended, hidden_states), probabilities)
    }
}

impl DisentangledSelfAttention {
    /// Freshly initialised projections.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let (size, std) = (config.hidden_size, config.initializer_range);
        let (c2p, p2c) = (config.content_to_position(), config.position_to_content());
        let relative = config.relative_attention;
        let projection = || init::compressible(size, size, std, device);
        let own = |part: bool| {
            (part && relative && !config.share_att_key)
                .then(|| init::linear(size, size, std, device))
        };
        Self {
            query_proj: projection(),
            key_proj: projection(),
            value_proj: projection(),
            pos_key_proj: own(c2p),
            pos_query_proj: own(p2c),
            pos_dropout: init::dropout(config.hidden_dropout_prob),
            dropout: init::dropout(config.attention_probs_dropout_prob),
            content_to_position: c2p && relative,
            position_to_content: p2c && relative,
            num_attention_heads: config.num_attention_heads,
            head_size: config.head_size(),
            // Hugging Face counts the parts named even without relative attention.
            scale_square: config.head_size() * (1 + usize::from(c2p) + usize::from(p2c)),
            projections: SharedInput::default(),
            projected: Memo::default(),
        }
    }

    /// The heads' outputs side by side, and the probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub(super) fn forward(
        &self,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> Attended {
        let layers = [&self.query_proj, &self.key_proj, &self.value_proj];
        let projected = self.projections.forward(layers, hidden_states);
        self.heads().attend(projected, context, relative)
    }

    pub(super) fn heads(&self) -> Heads<'_> {
        Heads {
            count: self.num_attention_heads,
            scale: 1.0 / (self.scale_square as f64).sqrt(),
            dropout: &self.dropout,
        }
    }

    /// Content → position and position → content, which are added to the scores.
    pub(crate) fn relative_scores(&self, positions: &RelativePositions) -> RelativeScores {
        let ProjectedPositions { keys, queries } = self.project_positions(positions);
        RelativeScores {
            keys: keys.map(|table| (table, positions.descending.clone())),
            queries: queries.map(|table| (table, positions.ascending.clone())),
        }
    }

    fn project_positions(&self, positions: &RelativePositions) -> ProjectedPositions {
        let sources = || {
            let sources = Sources::default().and_tensor(&positions.embeddings)?;
            let sources = sources.and(&self.query_proj)?.and(&self.key_proj)?;
            sources.and(&self.pos_query_proj)?.and(&self.pos_key_proj)
        };
        let sources = if positions.lasting { sources() } else { None };
        self.projected.get(sources, || {
            let embeddings = self.pos_dropout.forward(positions.embeddings.clone());
            let keys = self.content_to_position.then(|| match &self.pos_key_proj {
                Some(projection) => projection.forward(embeddings.clone()),
                None => self.key_proj.forward(embeddings.clone()),
            });
            let queries = self.position_to_content.then(|| match &self.pos_query_proj {
                Some(projection) => projection.forward(embeddings) * self.heads().scale,
                None => self.query_proj.forward(embeddings) * self.heads().scale,
            });
            ProjectedPositions { keys, queries }
        })
    }
}
