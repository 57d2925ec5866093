//! A user's own Burn model, compressed in seven lines.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, activation::gelu};
use losparse::prelude::*;

/// `[batch, 32]` → `[batch, 4]`.
#[derive(Module, Debug)]
pub struct Mlp {
    up: CompressibleLinear,
    down: CompressibleLinear,
    head: Linear,
}

impl Mlp {
    pub fn new(device: &Device) -> Self {
        Self {
            up: CompressibleLinearConfig::new(32, 128).init(device),
            down: CompressibleLinearConfig::new(128, 32).init(device),
            head: LinearConfig::new(32, 4).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.forward(self.down.forward(gelu(self.up.forward(x))))
    }
}

compressible!(Mlp { up, down }); // line 1 of 7

/// Trains `model` on `target(x)` while it is compressed; returns it before and after compaction.
pub fn compress(
    model: Mlp,
    steps: usize,
    x: Tensor<2>,
    target: Tensor<2>,
) -> losparse::Result<(Mlp, Mlp)> {
    let mut optimizer = AdamWConfig::new().init();
    let config = DecomposeConfig::new(Rank::Budget(0.05)); // 2
    let (mut model, _) = decompose(model, &LayerSelection::all(), config)?; // 3
    let schedule = Schedule::new(0.15, steps); // 4
    let mut pruner = PruningConfig::new(schedule).init(&model)?; // 5
    for _ in 0..steps {
        let loss = (model.forward(x.clone()) - target.clone()).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        (model, _) = pruner.optimize(model, &mut optimizer, 1e-3, gradients)?; // 6
    }
    let pruned = model.clone().valid();
    let (small, _) = compact(model); // 7
    Ok((pruned, small))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn a_users_model_gets_smaller_and_computes_the_same() {
        let device = losparse::device::open("flex").unwrap();
        device.seed(7);
        let training = device.clone().autodiff();
        let x = Tensor::random([64, 32], Distribution::Normal(0.0, 1.0), &training);
        let target = x.clone().narrow(1, 0, 4).tanh();
        let model = Mlp::new(&training);
        let loss = |model: &Mlp| -> f32 {
            let output = model.forward(x.clone().inner());
            (output - target.clone().inner()).square().mean().into_scalar()
        };
        let dense = model.clone().valid();
        let (pruned, small) = compress(model, 60, x.clone(), target.clone()).unwrap();

        assert!(loss(&small) < loss(&dense), "{} {}", loss(&small), loss(&dense));
        assert!(small.num_params() * 2 < dense.num_params(), "{}", small.num_params());
        let difference = pruned.forward(x.clone().inner()) - small.forward(x.inner());
        let difference = difference.abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
