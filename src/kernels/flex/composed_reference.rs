//! The kernels and their gradients composed of Burn's own operations: what tests compare those of `flex` with.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, IndexingUpdateOp, Shape, Slice, TensorData};

use super::active_neurons::{ActiveNeurons, SparseGradient};
use super::attention::AttentionSettings;
use super::dropout::DropoutMask;
use super::neuron_plan::NeuronPlan;
use super::positions::PositionSettings;
use super::residual_norm::NormSettings;

/// `(Φ(x) + x φ(x)) · grad`.
pub(super) fn gelu_gradient<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x.clone(), std::f32::consts::FRAC_1_SQRT_2.into());
    let shifted = B::float_add_scalar(B::float_erf(scaled), 1f32.into());
    let cumulative = B::float_mul_scalar(shifted, 0.5f32.into());
    let exponent = B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), (-0.5f32).into());
    let root = (2.0 * std::f32::consts::PI).sqrt();
    let density = B::float_mul_scalar(B::float_exp(exponent), (1.0 / root).into());
    B::float_mul(B::float_add(cumulative, B::float_mul(x, density)), grad)
}

/// See [`NeuronPlan::outputs`].
pub(super) fn neuron_outputs<B: Backend>(
    hidden: FloatTensor<B>,
    bias: FloatTensor<B>,
    plan: &NeuronPlan,
) -> FloatTensor<B> {
    let tokens = hidden.shape()[0];
    let (kept, rank, d_output) = (plan.neurons.len(), plan.rank, plan.d_output);
    let columns = |from: usize, to: usize| {
        let slices = [Slice::from(0..tokens), Slice::from(from..to)];
        B::float_slice(hidden.clone(), &slices)
    };
    let output = match rank {
        0 => zeros::<B>([tokens, d_output], &hidden),
        _ => {
            let spread = values::<B>(plan.spread.clone(), [rank, d_output], &hidden);
            B::float_matmul(columns(kept, kept + rank), spread)
        }
    };
    let output = B::float_add(output, B::float_reshape(bias, Shape::new([1, d_output])));
    if kept == 0 {
        return output;
    }
    let neurons: Vec<i32> = plan.neurons.iter().map(|&neuron| neuron as i32).collect();
    let neurons = B::int_from_data(TensorData::new(neurons, [kept]), &hidden.device());
    B::float_select_assign(output, 1, neurons, columns(0, kept), IndexingUpdateOp::Add)
}

/// `R·L + S`; the rank may be 0.
pub(super) fn weight<B: Backend>(
    sparse: FloatTensor<B>,
    right: FloatTensor<B>,
    left: FloatTensor<B>,
) -> FloatTensor<B> {
    match left.shape()[0] {
        0 => sparse,
        _ => B::float_add(B::float_matmul(right, left), sparse),
    }
}

/// Gradients of `right`, `left` and `sparse`, of that of [`weight`].
pub(super) fn weight_gradients<B: Backend>(
    [right, left]: [FloatTensor<B>; 2],
    columns: Option<&ActiveNeurons>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let [right, left] = match left.shape()[0] {
        0 => [right, left],
        _ => [
            B::float_matmul(grad.clone(), B::float_transpose(left)),
            B::float_matmul(B::float_transpose(right), grad.clone()),
        ],
    };
    [right, left, sparse_gradient::<B>(columns, grad)]
}

/// The gradient of `S` as `columns` asks for it.
fn sparse_gradient<B: Backend>(
    columns: Option<&ActiveNeurons>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let Some(columns) = columns else { return grad };
    let [rows, count] = [grad.shape()[0], columns.active.len()];
    match (columns.gradient, count) {
        (SparseGradient::Whole, _) => grad,
        (SparseGradient::Active, _) => {
            let mask = values::<B>(columns.mask(), [1, columns.width()], &grad);
            B::float_mul(grad, mask)
        }
        (SparseGradient::Gathered, 0) => zeros::<B>([rows, 0], &grad),
        (SparseGradient::Gathered, _) => {
            let active: Vec<i32> = columns.active.iter().map(|&column| column as i32).collect();
            let active = B::int_from_data(TensorData::new(active, [count]), &grad.device());
            B::float_select(grad, 1, active)
        }
    }
}

/// See [`super::operations::ActiveDense`].
pub(super) fn active_dense_gradients<B: Backend>(
    [x, sparse, right, left]: [FloatTensor<B>; 4],
    columns: &ActiveNeurons,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 5] {
    let whole = weight::<B>(sparse, right.clone(), left.clone());
    let of_x = B::float_matmul(grad.clone(), B::float_transpose(whole));
    let of_weight = B::float_matmul(B::float_transpose(x), grad.clone());
    let [right, left, sparse] = weight_gradients::<B>([right, left], Some(columns), of_weight);
    [of_x, sparse, right, left, column_sums::<B>(grad)]
}

/// Sums over rows: `[width]`.
pub(super) fn column_sums<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let width = values.shape()[1];
    B::float_reshape(B::float_sum_dim(values, 0), Shape::new([width]))
}

/// One attention, composed.
struct Heads<'a, B: Backend> {
    /// `[batch, heads, length, width]`
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    /// `[batch, heads, queries, keys]`: before and after dropout.
    probabilities: FloatTensor<B>,
    kept: FloatTensor<B>,
    /// Factors of dropout.
    factors: Option<FloatTensor<B>>,
    settings: &'a AttentionSettings,
}

impl<'a, B: Backend> Heads<'a, B> {
    fn new(inputs: [FloatTensor<B>; 4], settings: &'a AttentionSettings) -> Self {
        let [query, key, value, bias] = inputs;
        let split = |rows: FloatTensor<B>| split::<B>(rows, settings.heads);
        let [query, key, value] = [split(query), split(key), split(value)];
        let scores = B::float_matmul(query.clone(), B::float_swap_dims(key.clone(), 2, 3));
        let mut scores = B::float_mul_scalar(scores, settings.scale.into());
        if let Some(mask) = &settings.mask {
            let added = values::<B>(mask.values.clone(), mask.dims, &scores);
            scores = B::float_add(scores, added);
        }
        if bias.shape().num_elements() > 0 {
            scores = B::float_add(scores, bias);
        }
        let shape = scores.shape();
        let probabilities = B::softmax(scores, 3);
        let rows = shape[0] * shape[1] * shape[2];
        let factors = factors::<B>(settings.dropout, [rows, shape[3]], &probabilities);
        let factors = factors.map(|factors| B::float_reshape(factors, shape));
        let kept = drop_out::<B>(probabilities.clone(), factors.as_ref());
        Self { query, key, value, probabilities, kept, factors, settings }
    }

    /// Gradients of query, key, value and scores.
    fn gradients(self, grad: FloatTensor<B>) -> [FloatTensor<B>; 4] {
        let grad = split::<B>(grad, self.settings.heads);
        let value = B::float_matmul(B::float_swap_dims(self.kept, 2, 3), grad.clone());
        let dropped = B::float_matmul(grad, B::float_swap_dims(self.value, 2, 3));
        let gradients = drop_out::<B>(dropped, self.factors.as_ref());
        // ∂scores = P ∘ (∂P − Σ P ∘ ∂P)
        let weighted = B::float_mul(gradients, self.probabilities.clone());
        let along = B::float_sum_dim(weighted.clone(), 3);
        let mut scores = B::float_sub(weighted, B::float_mul(self.probabilities, along));
        if let Some(mask) = self.settings.mask.as_ref().filter(|mask| mask.replaces) {
            // Nothing flows back to a score that the mask replaces.
            let seen = mask.values.iter().map(|&added| f32::from(added > f32::MIN)).collect();
            scores = B::float_mul(scores.clone(), values::<B>(seen, mask.dims, &scores));
        }
        let scaled = B::float_mul_scalar(scores.clone(), self.settings.scale.into());
        let query = B::float_matmul(scaled.clone(), self.key);
        let key = B::float_matmul(B::float_swap_dims(scaled, 2, 3), self.query);
        [merge::<B>(query), merge::<B>(key), merge::<B>(value), scores]
    }
}

/// See [`AttentionSettings`].
pub(super) fn attention<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &AttentionSettings,
) -> FloatTensor<B> {
    let Heads { kept, value, .. } = Heads::<B>::new(inputs, settings);
    merge::<B>(B::float_matmul(kept, value))
}

/// See [`AttentionSettings`].
pub(super) fn attention_gradients<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &AttentionSettings,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 4] {
    let bias = inputs[3].clone();
    let [query, key, value, scores] = Heads::<B>::new(inputs, settings).gradients(grad);
    let bias = if bias.shape().num_elements() > 0 { scores } else { bias };
    [query, key, value, bias]
}

/// See [`PositionSettings`].
pub(super) fn position_scores<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &PositionSettings,
) -> FloatTensor<B> {
    let [query, key, keys, queries] = inputs;
    let added = |rows: FloatTensor<B>, table: FloatTensor<B>| {
        let table = B::float_swap_dims(positions::<B>(table, settings.heads), 2, 3);
        shear::<B>(B::float_matmul(split::<B>(rows, settings.heads), table))
    };
    let empty = |table: &FloatTensor<B>| table.shape().num_elements() == 0;
    let of_keys = (!empty(&keys)).then(|| {
        let scores = added(query.clone(), keys);
        B::float_mul_scalar(scores, settings.scale.into())
    });
    let of_queries = (!empty(&queries)).then(|| B::float_swap_dims(added(key, queries), 2, 3));
    match (of_keys, of_queries) {
        (Some(of_keys), Some(of_queries)) => B::float_add(of_keys, of_queries),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => {
            let [batch, length] = [query.shape()[0], query.shape()[1]];
            zeros::<B>([batch, settings.heads, length, length], &query)
        }
    }
}

/// See [`PositionSettings`].
pub(super) fn position_gradients<B: Backend>(
    inputs: [FloatTensor<B>; 4],
    settings: &PositionSettings,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 4] {
    let [query, key, keys, queries] = inputs;
    let heads = settings.heads;
    // Gradients of rows and table, from the gradient of their scores.
    let gradients = |rows: FloatTensor<B>, table: FloatTensor<B>, grad: FloatTensor<B>| {
        if table.shape().num_elements() == 0 {
            return [B::float_mul_scalar(rows, 0f32.into()), table];
        }
        let grad = unshear::<B>(grad);
        let of_rows = B::float_matmul(grad.clone(), positions::<B>(table.clone(), heads));
        let of_table = B::float_matmul(B::float_swap_dims(grad, 2, 3), split::<B>(rows, heads));
        // [batch, heads, rows, width] → [rows, heads · width]
        let of_table = merge::<B>(B::float_sum_dim(of_table, 0));
        [merge::<B>(of_rows), B::float_reshape(of_table, table.shape())]
    };
    let scaled = B::float_mul_scalar(grad.clone(), settings.scale.into());
    let [query, keys] = gradients(query, keys, scaled);
    let [key, queries] = gradients(key, queries, B::float_swap_dims(grad, 2, 3));
    [query, key, keys, queries]
}

/// A table `[rows, heads · width]` as `[1, heads, rows, width]`.
fn positions<B: Backend>(table: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let [rows, size] = [table.shape()[0], table.shape()[1]];
    split::<B>(B::float_reshape(table, Shape::new([1, rows, size])), heads)
}

/// The differences of each row's pairs: `[batch, heads, length, 2·length]` to
/// `[batch, heads, length, length]`, each row taken from a column further left than the one above.
fn shear<B: Backend>(products: FloatTensor<B>) -> FloatTensor<B> {
    let shape = products.shape();
    let [batch, heads, length] = [shape[0], shape[1], shape[2]];
    let flat = B::float_reshape(products, Shape::new([batch, heads, 2 * length * length]));
    let all = [Slice::from(0..batch), Slice::from(0..heads)];
    let from = length - 1;
    let shorter = Slice::from(from..from + length * (2 * length - 1));
    let flat = B::float_slice(flat, &[all[0], all[1], shorter]);
    let rows = B::float_reshape(flat, Shape::new([batch, heads, length, 2 * length - 1]));
    let length = Slice::from(0..length);
    B::float_slice(rows, &[all[0], all[1], length, length])
}

/// [`shear`]'s gradient.
fn unshear<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    let shape = grad.shape();
    let [batch, heads, length] = [shape[0], shape[1], shape[2]];
    let all = [Slice::from(0..batch), Slice::from(0..heads)];
    let rows = zeros::<B>([batch, heads, length, 2 * length - 1], &grad);
    let square = Slice::from(0..length);
    let flat = zeros::<B>([batch, heads, 2 * length * length], &grad);
    let rows = B::float_slice_assign(rows, &[all[0], all[1], square, square], grad);
    let shorter = length * (2 * length - 1);
    let rows = B::float_reshape(rows, Shape::new([batch, heads, shorter]));
    let place = Slice::from(length - 1..length - 1 + shorter);
    let flat = B::float_slice_assign(flat, &[all[0], all[1], place], rows);
    B::float_reshape(flat, Shape::new([batch, heads, length, 2 * length]))
}

/// `[batch, length, heads · width]` to `[batch, heads, length, width]`.
fn split<B: Backend>(rows: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let shape = rows.shape();
    let [batch, length, size] = [shape[0], shape[1], shape[2]];
    let rows = B::float_reshape(rows, Shape::new([batch, length, heads, size / heads]));
    B::float_swap_dims(rows, 1, 2)
}

/// [`split`] undone.
fn merge<B: Backend>(heads: FloatTensor<B>) -> FloatTensor<B> {
    let shape = heads.shape();
    let [batch, count, length, width] = [shape[0], shape[1], shape[2], shape[3]];
    let rows = B::float_swap_dims(heads, 1, 2);
    B::float_reshape(rows, Shape::new([batch, length, count * width]))
}

/// One dropout, residual and normalisation, composed.
struct Norm<B: Backend> {
    /// The rows with mean 0 and variance 1.
    normalised: FloatTensor<B>,
    /// `[rows, 1]`: the deviation that it was divided by.
    deviation: FloatTensor<B>,
    /// Factors of dropout.
    factors: Option<FloatTensor<B>>,
}

impl<B: Backend> Norm<B> {
    fn new(x: FloatTensor<B>, residual: FloatTensor<B>, settings: NormSettings) -> Self {
        let [rows, d] = [x.shape()[0], x.shape()[1]];
        let factors = factors::<B>(settings.dropout, [rows, d], &x);
        let sum = B::float_add(drop_out::<B>(x, factors.as_ref()), residual);
        let centred = B::float_sub(sum.clone(), B::float_mean_dim(sum, 1));
        let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
        let deviation = B::float_sqrt(B::float_add_scalar(variance, settings.epsilon.into()));
        Self { normalised: B::float_div(centred, deviation.clone()), deviation, factors }
    }
}

/// See [`NormSettings`].
pub(super) fn residual_norm<B: Backend>(
    [x, residual, gamma, beta]: [FloatTensor<B>; 4],
    settings: NormSettings,
) -> FloatTensor<B> {
    let row = Shape::new([1, x.shape()[1]]);
    let normalised = Norm::<B>::new(x, residual, settings).normalised;
    let scaled = B::float_mul(normalised, B::float_reshape(gamma, row.clone()));
    B::float_add(scaled, B::float_reshape(beta, row))
}

/// See [`NormSettings`].
pub(super) fn residual_norm_gradients<B: Backend>(
    [x, residual, gamma]: [FloatTensor<B>; 3],
    settings: NormSettings,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 4] {
    let row = Shape::new([1, x.shape()[1]]);
    let Norm { normalised, deviation, factors } = Norm::<B>::new(x, residual, settings);
    let of_gamma = column_sums::<B>(B::float_mul(grad.clone(), normalised.clone()));
    let of_beta = column_sums::<B>(grad.clone());
    // ∂s = (g − mean(g) − n · mean(g n)) / σ with g = grad · gamma and n normalised.
    let weighted = B::float_mul(grad, B::float_reshape(gamma, row));
    let mean = B::float_mean_dim(weighted.clone(), 1);
    let along = B::float_mean_dim(B::float_mul(weighted.clone(), normalised.clone()), 1);
    let centred = B::float_sub(weighted, mean);
    let across = B::float_sub(centred, B::float_mul(normalised, along));
    let of_residual = B::float_div(across, deviation);
    let of_x = drop_out::<B>(of_residual.clone(), factors.as_ref());
    [of_x, of_residual, of_gamma, of_beta]
}

/// Factors `[rows, columns]` of `mask`; `None`: nothing is dropped.
fn factors<B: Backend>(
    mask: DropoutMask,
    [rows, columns]: [usize; 2],
    like: &FloatTensor<B>,
) -> Option<FloatTensor<B>> {
    if mask.is_idle() {
        return None;
    }
    let row = |row: usize| {
        let mask = mask.row(row);
        (0..columns).map(move |column| mask.factor(column))
    };
    Some(values::<B>((0..rows).flat_map(row).collect(), [rows, columns], like))
}

fn drop_out<B: Backend>(
    values: FloatTensor<B>,
    factors: Option<&FloatTensor<B>>,
) -> FloatTensor<B> {
    match factors {
        Some(factors) => B::float_mul(values, factors.clone()),
        None => values,
    }
}

/// Values with the device and the precision of `like`.
pub(super) fn values<B: Backend>(
    values: Vec<f32>,
    shape: impl Into<Shape>,
    like: &FloatTensor<B>,
) -> FloatTensor<B> {
    let data = TensorData::new(values, shape.into()).convert_dtype(like.dtype());
    B::float_from_data(data, &like.device())
}

/// Zeros with the device and the precision of `like`.
pub(super) fn zeros<B: Backend>(shape: impl Into<Shape>, like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(shape.into(), &like.device(), FloatDType::from(like.dtype()))
}
