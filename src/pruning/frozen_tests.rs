//! Neurons that are pruned for good and passed over, against the same with all of the work done.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};

use super::{Curve, Importance, Pruner, PruningConfig, Reduction, Regrowth, Schedule};
use crate::decompose::{DecomposeConfig, Rank, decompose};
use crate::linear::{
    Compressible, CompressibleLinear, CompressibleLinearConfig, LayerSelection, LinearVisitor,
    to_vec,
};
use crate::optim::AdamWConfig;

/// Wide enough for kernels of its own, and a layer that is not.
#[derive(Module, Debug)]
struct Net {
    up: CompressibleLinear,
    down: CompressibleLinear,
    small: CompressibleLinear,
}

impl Compressible for Net {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        f("up", &mut self.up);
        f("down", &mut self.down);
        f("small", &mut self.small);
    }
}

impl Net {
    fn new(rank: usize) -> Self {
        let device = Device::flex();
        let net = Self {
            up: CompressibleLinearConfig::new(64, 48).init(&device),
            down: CompressibleLinearConfig::new(48, 48).init(&device),
            small: CompressibleLinearConfig::new(48, 6).init(&device),
        };
        let config = DecomposeConfig::new(Rank::Fixed(rank));
        let (net, _) = decompose(net, &LayerSelection::all(), config).unwrap();
        net.train()
    }

    /// `down` is used twice: for rows that are worth a kernel of its active columns, and for fewer.
    fn loss(&self, x: &Tensor<2>) -> Tensor<1> {
        let x = Tensor::from_inner(x.clone());
        let hidden = self.up.forward(x).tanh();
        let few = self.down.forward(hidden.clone().narrow(0, 0, 30)).square().mean();
        self.small.forward(self.down.forward(hidden)).square().mean() + few
    }
}

fn config(reduction: Reduction, importance: Importance) -> PruningConfig {
    let schedule = Schedule {
        initial_keep_ratio: 1.0,
        final_keep_ratio: 0.1,
        initial_warmup_steps: 2,
        final_warmup_steps: 4,
        total_steps: 20,
        interval: 3,
        curve: Curve::Cubic,
    };
    let regrowth = Regrowth::Frozen;
    PruningConfig { regrowth, reduction, importance, ..PruningConfig::new(schedule) }
}

struct Run {
    /// Whether the optimizer passes over neurons that are pruned for good.
    passes_over: bool,
    net: Net,
    pruner: Pruner,
    optimizer: ModuleOptimizer,
}

impl Run {
    fn new(net: Net, config: PruningConfig, passes_over: bool) -> Self {
        let pruner = config.init(&net).unwrap();
        let optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
        Self { passes_over, net, pruner, optimizer }
    }

    /// An update; elements of the gradients of `S`.
    fn step(mut self, x: &Tensor<2>) -> (Self, usize) {
        if !self.passes_over {
            self.pruner.announce(&mut self.net, false);
        }
        let gradients = GradientsParams::from_grads(self.net.loss(x).backward(), &self.net);
        let mut elements = 0;
        self.net.for_each_linear(&mut |_, linear| {
            let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("decomposed") };
            let gradient = gradients.get::<2>(layer.sparse.as_ref().unwrap().id).unwrap();
            elements += gradient.shape().num_elements();
        });
        let done = self.pruner.optimize(self.net, &mut self.optimizer, 3e-3, gradients).unwrap();
        (Self { net: done.0, ..self }, elements)
    }

    /// All parameters, importance and masks.
    fn state(&self) -> Vec<Vec<f32>> {
        let mut all = Vec::new();
        self.net.for_each_linear(&mut |_, linear| {
            let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("decomposed") };
            all.push(to_vec(layer.sparse.as_ref().unwrap().val()));
            all.push(to_vec(layer.bias.as_ref().unwrap().val()));
            if let Some(low_rank) = &layer.low_rank {
                all.push(to_vec(low_rank.left.val()));
                all.push(to_vec(low_rank.right.val()));
            }
        });
        for layer in self.pruner.importance() {
            all.extend([&layer.window, &layer.smoothed].map(|state| to_vec(state.val())));
            all.push(to_vec(layer.mask.as_ref().unwrap().param().val()));
        }
        all
    }

    /// Entries of `S` that are not zero.
    fn left(&self) -> usize {
        let kept = Pruner::kept(&self.net);
        kept.iter().zip([64, 48, 48]).map(|(layer, d_input)| layer.kept * d_input).sum()
    }

    /// The run as resumed from a checkpoint.
    fn resumed(&self, rank: usize, config: PruningConfig) -> Self {
        let fresh = Self::new(Net::new(rank), config, true);
        let mut net = fresh.net.load_record(self.net.clone().into_record());
        let pruner = fresh.pruner.load_record(self.pruner.clone().into_record());
        pruner.announce(&mut net, true);
        let optimizer = fresh.optimizer.from_bytes(self.optimizer.into_bytes().unwrap()).unwrap();
        Self { passes_over: true, net, pruner, optimizer }
    }
}

#[test]
fn what_is_passed_over_changes_nothing() {
    for (rank, reduction, importance) in [
        (4, Reduction::Mean, Importance::Sensitivity),
        (0, Reduction::Sum, Importance::SnipMomentum),
        (4, Reduction::Mean, Importance::Magnitude),
        (4, Reduction::Max, Importance::Sensitivity),
        (4, Reduction::Mean, Importance::Movement),
    ] {
        let config = config(reduction, importance);
        let net = Net::new(rank);
        let mut whole = Run::new(net.clone(), config, false);
        let mut passing = Run::new(net, config, true);
        let mut fewer = 0;
        for step in 0..config.schedule.total_steps {
            let x = Tensor::random([120, 64], Distribution::Normal(0.0, 1.0), &Device::flex());
            let left = passing.left();
            let (all, some);
            (whole, all) = whole.step(&x);
            (passing, some) = passing.step(&x);
            let place = format!("{importance:?}, {reduction:?}, step {step}");
            assert_eq!(whole.state(), passing.state(), "{place}");
            if some < all {
                assert_eq!(some, left, "{place}");
                fewer += 1;
            }
            if step % 4 == 3 {
                passing = passing.resumed(rank, config);
            }
        }
        // Criteria that look at every entry have whole gradients.
        let entries = reduction == Reduction::Max || importance == Importance::Movement;
        assert_eq!(fewer == 0, entries, "{importance:?}, {reduction:?}");
        assert!(whole.left() < 1_000, "{}", whole.left());
    }
}
