//! Disentangled self-attention: content to content, content to position, position to content.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Bool, Device, Int, Tensor, activation::softmax};

use super::relative::shear;
use super::{DebertaV2Config, RelativePositions};
use crate::kept::{Kept, Sources};
use crate::kernels::layers::{self, Heads};
use crate::kernels::{RelativeScores, Sequences};
use crate::linear::{CompressibleLinear, SharedInput};
use crate::models::bert::BertSelfOutput;
use crate::models::init;
use crate::precision::matmul;

/// `DebertaV2Attention`: self-attention and its output projection, which is BERT's.
#[derive(Module, Debug)]
pub struct DebertaV2Attention {
    /// `attention.self`.
    pub self_attention: DisentangledSelfAttention,
    /// `attention.output`.
    pub output: BertSelfOutput,
}

/// `DisentangledSelfAttention` (He et al. 2021, eq. 4).
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
    projected: Kept<ProjectedPositions>,
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
            output: BertSelfOutput::new(&config.bert(), device),
        }
    }

    /// Attends within each sequence; also gives the probabilities `[batch, heads, length, length]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `masked`: `[batch, 1, length, length]`, true where a query does not attend to a key
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        masked: Option<&Tensor<4, Bool>>,
        positions: Option<&RelativePositions>,
    ) -> (Tensor<3>, Tensor<4>) {
        let (context, probabilities) =
            self.self_attention.forward(hidden_states.clone(), masked, positions);
        (self.output.forward(context, hidden_states), probabilities)
    }

    /// [`DebertaV2Attention::forward`] without the probabilities, in fewer operations where there
    /// are such; also takes the mask as it is added to the scores, `[batch, 1, length, length]`.
    pub(super) fn forward_fused(
        &self,
        hidden_states: Tensor<3>,
        masks: Option<(&Tensor<4, Bool>, &Tensor<4>)>,
        positions: Option<&RelativePositions>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let states = hidden_states.clone();
        let context = self.self_attention.context(states, masks, positions, sequences);
        self.output.forward(context, hidden_states)
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
            projected: Kept::default(),
        }
    }

    /// The heads' outputs side by side, and the probabilities `[batch, heads, length, length]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `masked`: `[batch, 1, length, length]`, true where a query does not attend to a key
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        masked: Option<&Tensor<4, Bool>>,
        positions: Option<&RelativePositions>,
    ) -> (Tensor<3>, Tensor<4>) {
        self.attend(self.project(hidden_states), masked, positions)
    }

    /// The heads' outputs side by side.
    fn context(
        &self,
        hidden_states: Tensor<3>,
        masks: Option<(&Tensor<4, Bool>, &Tensor<4>)>,
        positions: Option<&RelativePositions>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let projected = self.project(hidden_states);
        if !layers::fuses_attention(&projected[0]) {
            assert!(sequences.is_none(), "sequences only where attention is fused");
            return self.attend(projected, masks.map(|(masked, _)| masked), positions).0;
        }
        let bias = positions.and_then(|positions| {
            let [query, key, _] = projected.each_ref();
            let tables = self.project_positions(positions);
            let fused = self.fused_position_scores([query, key], &tables, positions, sequences);
            fused.or_else(|| {
                let [query, key] = [query, key].map(|projected| self.heads(projected.clone()));
                self.position_scores(query * self.scale(), key, tables, positions)
            })
        });
        let (masked, added) = masks.unzip();
        let settings = Heads {
            count: self.num_attention_heads,
            scale: self.scale(),
            dropout: &self.dropout,
            mask_replaces: true,
            sequences,
        };
        match layers::attention(projected.each_ref(), added, bias.as_ref(), settings) {
            Some(context) => context,
            None if sequences.is_some() => unreachable!("sequences only where attention is fused"),
            None => self.attend(projected, masked, positions).0,
        }
    }

    /// Queries, keys and values, `[batch, length, hidden_size]`.
    fn project(&self, hidden_states: Tensor<3>) -> [Tensor<3>; 3] {
        let layers = [&self.query_proj, &self.key_proj, &self.value_proj];
        self.projections.forward(layers, hidden_states)
    }

    /// `[batch, length, hidden_size]` → `[batch, heads, length, head_size]`.
    fn heads(&self, projected: Tensor<3>) -> Tensor<4> {
        let [batch, length, _] = projected.dims();
        projected.reshape([batch, length, self.num_attention_heads, self.head_size]).swap_dims(1, 2)
    }

    fn attend(
        &self,
        projected: [Tensor<3>; 3],
        masked: Option<&Tensor<4, Bool>>,
        positions: Option<&RelativePositions>,
    ) -> (Tensor<3>, Tensor<4>) {
        let [batch, length, hidden_size] = projected[0].dims();
        let [query, key, value] = projected.map(|projected| self.heads(projected));
        // Scaling the queries costs less than scaling the scores.
        let query = query * self.scale();
        let mut scores = matmul(query.clone(), key.clone().transpose());
        if let Some(added) =
            positions.and_then(|p| self.position_scores(query, key, self.project_positions(p), p))
        {
            scores = scores + added;
        }
        if let Some(masked) = masked {
            let min = scores.dtype().finfo().map_or(f64::from(f32::MIN), |info| info.min);
            // Not added as in BERT: nothing may flow back through the rows of padding.
            let masked = masked.clone().expand(scores.dims());
            scores = scores.mask_fill(masked, min);
        }
        let probabilities = softmax(scores, 3);
        // As Hugging Face returns them: after dropout.
        let probabilities = self.dropout.forward(probabilities);
        let context = matmul(probabilities.clone(), value);
        // [batch, heads, length, head_size] → [batch, length, hidden_size]
        (context.swap_dims(1, 2).reshape([batch, length, hidden_size]), probabilities)
    }

    /// Multiplies the scores.
    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.scale_square as f64).sqrt()
    }

    /// Content → position and position → content, added to the scores `[batch, heads, length,
    /// length]`; queries are scaled already.
    fn position_scores(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        projected: ProjectedPositions,
        positions: &RelativePositions,
    ) -> Option<Tensor<4>> {
        // Column j − i + length − 1 of row i: the difference i − j, descending.
        let of_queries = projected
            .keys
            .map(|keys| shear(matmul(query, self.position_heads(keys, &positions.descending))));
        // Here rows are keys: column i − j + length − 1 of row j.
        let of_keys = projected.queries.map(|queries| {
            shear(matmul(key, self.position_heads(queries, &positions.ascending))).transpose()
        });
        match (of_queries, of_keys) {
            (Some(of_queries), Some(of_keys)) => Some(of_queries + of_keys),
            (of_queries, of_keys) => of_queries.or(of_keys),
        }
    }

    /// The same in one operation, where there is one, of `[batch, length, hidden_size]`.
    fn fused_position_scores(
        &self,
        inputs: [&Tensor<3>; 2],
        projected: &ProjectedPositions,
        positions: &RelativePositions,
        sequences: Option<&Arc<Sequences>>,
    ) -> Option<Tensor<4>> {
        let rows = |table: &Option<Tensor<2>>, rows: &Tensor<1, Int>| {
            table.clone().map(|table| table.select(0, rows.clone()))
        };
        let keys = rows(&projected.keys, &positions.descending);
        let queries = rows(&projected.queries, &positions.ascending);
        if keys.is_none() && queries.is_none() {
            return None;
        }
        let tables = [keys.as_ref(), queries.as_ref()];
        let heads = (self.num_attention_heads, self.scale());
        layers::position_scores(inputs, tables, heads, sequences)
    }

    /// What a fused kernel adds to the scores.
    pub(super) fn relative_scores(&self, positions: &RelativePositions) -> RelativeScores {
        let projected = self.project_positions(positions);
        let rows = |rows: &Tensor<1, Int>| -> Vec<usize> {
            rows.to_data().iter::<i64>().map(|row| row as usize).collect()
        };
        RelativeScores {
            keys: projected.keys.map(|table| (table, rows(&positions.descending))),
            queries: projected.queries.map(|table| (table, rows(&positions.ascending))),
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
                Some(projection) => projection.forward(embeddings) * self.scale(),
                None => self.query_proj.forward(embeddings) * self.scale(),
            });
            ProjectedPositions { keys, queries }
        })
    }

    /// Rows of projected positions for every difference: `[rows, hidden_size]` →
    /// `[1, heads, head_size, 2·length]`.
    fn position_heads(&self, projected: Tensor<2>, rows: &Tensor<1, Int>) -> Tensor<4> {
        let count = rows.dims()[0];
        projected
            .select(0, rows.clone())
            .reshape([1, count, self.num_attention_heads, self.head_size])
            .permute([0, 2, 3, 1])
    }
}
