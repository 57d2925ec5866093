//! Attaches the method to a Burn module whose code does not change.
//!
//! `L`, `R` and `S` are trained in place of `W`, `S` can be scored and masked through the weight's own id,
//! and everything merges back into plain `Linear` weights. The model gets neither smaller nor faster, since
//! its layers stay `Linear` with weights of full size. For that, build it from `CompressibleLinear`, as
//! `compress_mlp` does.
//!
//! `cargo run --release --example reparameterize`

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor, activation::relu};
use losparse::decompose::{Rank, reparameterize};
use losparse::linear::LayerSelection;

/// A plain Burn module that does not use losparse.
#[derive(Module, Debug)]
struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        Self {
            up: LinearConfig::new(16, 64).init(device),
            down: LinearConfig::new(64, 1).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down.forward(relu(self.up.forward(x)))
    }
}

fn main() -> losparse::Result<()> {
    let device = losparse::device::open("auto")?;
    device.seed(7);
    let training = device.clone().autodiff();
    let mut model = Mlp::new(&training);
    let x = Tensor::<2>::random([256, 16], Distribution::Normal(0.0, 1.0), &training);
    // The formula to learn: a product of two inputs plus the sine of a third.
    let column = |at: usize| x.clone().narrow(1, at, 1);
    let y = column(0) * column(1) + column(2).sin();

    let dense = model.clone();
    let report;
    (model, report) = reparameterize(model, &LayerSelection::new(["up"]), Rank::Fixed(4))?;
    for layer in &report {
        let share = 100.0 * layer.residual;
        println!("{}: rank {}, {share:.0}% of W left in S", layer.name, layer.rank);
    }
    let change = (dense.forward(x.clone()) - model.forward(x.clone())).abs().max();
    println!("largest change of outputs by attaching: {:.1e}", change.into_scalar::<f32>());

    let mut optimizer = AdamWConfig::new().init();
    for step in 0..300 {
        let loss = (model.forward(x.clone()) - y.clone()).square().mean();
        if step % 100 == 0 || step == 299 {
            println!("step {step}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        // Importance by hand, `|s · ∂loss/∂s|` averaged over each neuron, at one step only.
        let scores = gradients
            .get::<2>(model.up.weight.id)
            .map(|gradient| (model.up.weight.base().inner() * gradient).abs().mean_dim(0));
        model = optimizer.step(1e-2, model, gradients);
        if let (150, Some(scores)) = (step, scores) {
            let mask = scores.clone().greater_equal(scores.mean_dim(1)).float();
            let kept = mask.clone().sum().into_scalar::<f32>();
            println!("step {step}: kept {kept} of 64 neurons of S (their training goes on)");
            model = model.map(&mut MaskSparse { path: Vec::new(), mask });
        }
    }

    let trained = model.valid();
    let merged = trained.clone().materialize();
    let x = x.inner();
    let change = (trained.forward(x.clone()) - merged.forward(x)).abs().max();
    println!("largest change of outputs by merging: {:.1e}", change.into_scalar::<f32>());
    println!("parameters: {} while training, {} merged", trained.num_params(), merged.num_params());
    Ok(())
}

/// Multiplies the stored weight of `up`, which is `S`, by a mask over its neurons.
struct MaskSparse {
    path: Vec<String>,
    mask: Tensor<2>,
}

impl ModuleMapper for MaskSparse {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path != ["up", "weight"] {
            return param;
        }
        let shape: [usize; D] = std::array::from_fn(|at| self.mask.dims()[at]);
        let mask = self.mask.clone().reshape(shape);
        param.map(|sparse| {
            let required = sparse.is_require_grad();
            Tensor::from_inner(sparse.inner() * mask).set_require_grad(required)
        })
    }
}
