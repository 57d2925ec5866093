//! AdamW against Burn's, and of some columns alone.

use std::collections::HashMap;

use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Distribution, TensorData};

use super::*;
use crate::kernels::SparseGradient;

fn random(shape: [usize; 2]) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// The same arithmetic, so equal to the last bit; a view and a fresh state among them.
#[test]
fn equals_burns_to_the_last_bit() {
    let settings = AdamWConfig { beta_1: 0.85, beta_2: 0.98, epsilon: 1e-6, weight_decay: 0.03 };
    let optimizer = settings.build();
    for shape in [[3, 5], [300, 517]] {
        let start = random(shape);
        let (mut ours, mut burns) = ((start.clone(), None), (start.clone(), None));
        for step in 0..4 {
            let gradient = match step {
                2 => random([shape[1], shape[0]]).swap_dims(0, 1),
                _ => random(shape),
            };
            let rate = 1e-2 / f64::from(step + 1);
            ours = optimizer.step(rate, ours.0, gradient.clone(), ours.1);
            burns = optimizer.burns.step(rate, burns.0, gradient, burns.1);
        }
        ours.0.into_data().assert_eq(&burns.0.into_data(), true);
        let (ours, burns) = (ours.1.unwrap().momentum, burns.1.unwrap().momentum);
        assert_eq!(ours.time, burns.time);
        ours.moment_1.into_data().assert_eq(&burns.moment_1.into_data(), true);
        ours.moment_2.into_data().assert_eq(&burns.moment_2.into_data(), true);
    }
}

#[test]
fn weights_that_something_else_holds_are_not_changed() {
    let start = random([40, 30]);
    let before = start.to_data();
    let optimizer = AdamWConfig::new().build();
    let (after, _) = optimizer.step(1e-2, start.clone(), random([40, 30]), None);
    start.into_data().assert_eq(&before, true);
    assert_ne!(after.into_data(), before);
}

/// A matrix that is trained with some columns.
struct Trained {
    model: Linear,
    optimizer: ModuleOptimizer,
    steps: u64,
}

impl Trained {
    fn new(start: &Tensor<2>) -> Self {
        let [d_input, d_output] = start.dims();
        let config = LinearConfig::new(d_input, d_output).with_bias(false);
        let mut model: Linear = config.init(&Device::flex().autodiff());
        model.weight = model.weight.map(|_| Tensor::from_inner(start.clone()).require_grad());
        let optimizer = AdamWConfig::new().init();
        Self { model, optimizer, steps: 0 }
    }

    /// An update with the step's own gradient; the sums.
    fn step(&mut self, columns: Option<ActiveNeurons>, gathered: bool) -> Option<Vec<f32>> {
        let dims = self.model.weight.dims();
        let values: Vec<f32> = (0..dims[0] * dims[1])
            .map(|at| ((at as u64 * 7919 + self.steps * 104_729) % 1009) as f32 / 500.0 - 1.0)
            .collect();
        self.steps += 1;
        let gradient: Tensor<2> = Tensor::from_data(TensorData::new(values, dims), &Device::flex());
        let gradient = match &columns {
            Some(columns) if gathered => state::take(gradient, columns),
            _ => gradient,
        };
        let id = self.model.weight.id;
        let mut gradients = GradientsParams::new();
        gradients.register(id, gradient);
        let request = Request { columns: columns.map(Arc::new), sums: true };
        let requests = HashMap::from([(id, request)]);
        let (model, mut sums) =
            step_with(&mut self.optimizer, 1e-2, self.model.clone(), gradients, requests);
        self.model = model;
        sums.remove(&id).flatten()
    }

    fn weight(&self) -> Vec<f32> {
        self.model.weight.val().inner().into_data().try_into_vec().unwrap()
    }

    /// The training as resumed from a checkpoint.
    fn resumed(&self) -> Self {
        let bytes = self.optimizer.into_bytes().unwrap();
        let fresh: ModuleOptimizer = AdamWConfig::new().init();
        let optimizer = fresh.from_bytes(bytes).unwrap();
        Self { model: self.model.clone(), optimizer, steps: self.steps }
    }
}

fn columns(active: &[usize], width: usize) -> ActiveNeurons {
    let mask: Vec<f32> = (0..width).map(|at| f32::from(active.contains(&at))).collect();
    ActiveNeurons { gradient: SparseGradient::Gathered, ..ActiveNeurons::of_mask(&mask) }
}

/// The columns `active` of `values: [_, width]`.
fn taken(values: &[f32], width: usize, active: &[usize]) -> Vec<f32> {
    values.chunks(width).flat_map(|row| active.iter().map(|&at| row[at])).collect()
}

/// Fewer and fewer columns, resumed from a checkpoint after every step: to the last bit they are as if all
/// were updated, and the others stay as they were.
#[test]
fn columns_that_are_left_are_updated_as_among_all() {
    let (rows, width) = (130, 37);
    let start = random([rows, width]);
    let (mut all, mut some) = (Trained::new(&start), Trained::new(&start));
    let left: [&[usize]; 6] =
        [&[1, 2, 3, 5, 8, 13, 21, 34], &[1, 3, 21, 34], &[1, 3, 21, 34], &[34], &[], &[]];
    assert_eq!(all.step(None, false), some.step(None, false));
    let mut frozen = some.weight();
    for (at, active) in left.into_iter().enumerate() {
        let sums = all.step(None, false).unwrap();
        // A layer that gathers no gradient has one of all columns.
        let gathered = at != 2;
        let some_sums = some.step(Some(columns(active, width)), gathered).unwrap();
        assert_eq!(some_sums, taken(&sums, width, active), "{active:?}");
        some = some.resumed();
        let (expected, found) = (all.weight(), some.weight());
        assert_eq!(taken(&found, width, active), taken(&expected, width, active), "{active:?}");
        let others: Vec<usize> = (0..width).filter(|at| !active.contains(at)).collect();
        assert_eq!(taken(&found, width, &others), taken(&frozen, width, &others));
        assert_ne!(expected, found);
        frozen = found;
    }
    // All again: the others go on from moments of zero.
    let before = some.weight();
    some.step(None, false);
    let changed = before.iter().zip(some.weight()).filter(|(before, after)| *before != after);
    assert!(changed.count() > rows * width * 9 / 10);
}

/// The sums equal those of a separate pass, on any number of threads.
#[test]
fn sums_equal_those_of_their_own_pass() {
    let (start, gradient) = (random([300, 70]), random([300, 70]));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trained = Trained::new(&start);
            let id = trained.model.weight.id;
            let mut gradients = GradientsParams::new();
            gradients.register(id, gradient.clone());
            let requests = HashMap::from([(id, Request { columns: None, sums: true })]);
            let (model, sums) =
                step_with(&mut trained.optimizer, 1e-2, trained.model, gradients, requests);
            (model.weight.val().inner(), sums[&id].clone().unwrap())
        })
    };
    let (weight, sums) = run(1);
    let own = crate::kernels::passes::absolute_product_sums(&weight, &gradient).unwrap();
    assert_eq!(own.into_data().try_into_vec::<f32>().unwrap(), sums);
    assert_eq!(run(3).1, sums);
}

/// On other backends than `flex`, and where Burn's own arithmetic is all there is.
#[test]
fn the_composed_form_updates_the_same_columns() {
    let optimizer = AdamWConfig::new().build();
    let (start, active) = (random([20, 9]), columns(&[0, 4, 8], 9));
    let gradient = state::take(random([20, 9]), &active);
    let columns = Some(Arc::new(active.clone()));
    let run = |fused: bool| {
        let request = Request { columns: columns.clone(), sums: false };
        let (start, gradient) = (start.clone(), gradient.clone());
        let (tensor, state) = match fused {
            true => optimizer.fused(1e-2, start, &gradient, None, &request).unwrap_or_else(|_| {
                panic!("whole tensors on flex are updated in one pass");
            }),
            false => {
                let (tensor, state) =
                    optimizer.composed(1e-2, start, gradient, None, columns.clone());
                (tensor, state.unwrap())
            }
        };
        (tensor.into_data(), state.momentum.moment_2.into_data())
    };
    let (ours, burns) = (run(true), run(false));
    ours.0.assert_eq(&burns.0, true);
    ours.1.assert_eq(&burns.1, true);
}
