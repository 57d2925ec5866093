//! losparse makes transformers smaller and faster with LoSparse ([Li et al., ICML
//! 2023](https://arxiv.org/abs/2306.11222)): every weight matrix becomes a low-rank part plus a sparse
//! part, `W ≈ L·R + S`, and whole neurons of `S` are pruned while the model is fine-tuned. Nothing sparse
//! is left at the end, only smaller dense matrices. Built on [Burn](https://burn.dev).
//!
//! ```text
//!  decompose    W → L·R + S by truncated SVD: nothing is lost yet        decompose   algorithm 1
//!      │
//!  train        each update scores the neurons of S by |s · ∂loss/∂s|    pruning     eq. 5–7
//!  and prune    and zeroes those below one threshold for the whole
//!      │        model; the share kept falls on a cubic curve             Schedule    eq. 9
//!  compact      kept neurons fold into dense rows of L·R + S,            compact
//!      │        the others keep L·R alone
//!  save         a folder in Hugging Face's layout, or a Burn record      checkpoint
//!      │
//!  run          on a CPU or a GPU, without the pretrained model          models
//! ```
//!
//! At step `t` of `T` updates, between the warmup `t_i` and the final phase `t_f`, the share of `S` that
//! is kept is `p(t) = p_final + (p₀ − p_final)·(1 − (t − t_i)/(T − t_i − t_f))³`
//! ([`pruning::Schedule::keep_ratio`]). The threshold is the score below which the other neurons lie
//! ([`pruning::threshold`]).
//!
//! # Example
//!
//! Layers that can be compressed are of type [`linear::CompressibleLinear`]; the module names them.
//!
//! ```
//! use burn::optim::{AdamWConfig, GradientsParams};
//! use burn::{module::Module, tensor::Tensor};
//! use losparse::prelude::*;
//!
//! #[derive(Module, Debug)]
//! struct Mlp(CompressibleLinear);
//! impl Compressible for Mlp {
//!     fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
//!         f("linear", &mut self.0);
//!     }
//! }
//!
//! # fn main() -> losparse::Result<()> {
//! let device = losparse::device::open("auto")?.autodiff();
//! let mut model = Mlp(CompressibleLinear::new(32, 64, &device));
//! let parts = DecomposeConfig { rank: Rank::Budget(0.05), sparse: true };
//! decompose(&mut model, &LayerSelection::all(), parts)?; // 5% of the weights in L and R
//! let mut pruner = Pruner::new(&model, PruningConfig::new(Schedule::new(0.15, 40)))?; // 15% of S
//! let mut optimizer = AdamWConfig::new().init();
//! for _ in 0..40 {
//!     let loss = model.0.forward(Tensor::<2>::ones([1, 32], &device)).square().mean();
//!     let gradients = GradientsParams::from_grads(loss.backward(), &model);
//!     (model, _) = pruner.optimize(model, &mut optimizer, 1e-3, gradients)?;
//! }
//! let (small, report) = compact(model);
//! assert!(small.0.weight_elements() < 32 * 64 / 4, "{report:?}");
//! # Ok(())
//! # }
//! ```
//!
//! Pretrained models are loaded with [`checkpoint::load_pretrained`]; `examples/` in the repository shows
//! how, and how to compress a module of your own. The `losparse` command does all of it on a model folder
//! and a table of data: its pages are the repository's `README.md` and `losparse --help`.
//!
//! # Where to begin
//!
//! | to … | start at |
//! |---|---|
//! | compress a Burn module of your own | [`prelude`], [`linear::Compressible`] |
//! | read the method | [`decompose`], [`pruning`], [`compact`] |
//! | load or save Hugging Face models | [`checkpoint`] |
//! | add an architecture | [`models`] |
//! | add a fused operation | [`kernels`] |
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `flex` (default) | CPU backend in pure Rust, with fused kernels for AVX2 and AVX-512 |
//! | `ndarray` | second CPU backend |
//! | `wgpu`, `vulkan`, `metal`, `webgpu`, `cuda`, `rocm` | GPU backends |
//! | `train` (default) | `tasks` and `train`: data, tokenizers, metrics, training, evaluation |
//! | `plots` (default) | `plots` and `study`: figures, HTML reports, grids of runs |
//! | `cli` (default) | the `losparse` command |
//! | `tui` | Burn's training dashboard |
//!
//! At least one backend is needed. For the method and the models alone:
//! `losparse = { version = "0.1", default-features = false, features = ["flex"] }`.
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod checkpoint;
pub mod compact;
pub mod decompose;
pub mod device;
pub mod error;
pub mod files;
pub mod generation;
pub mod inspect;
mod kept;
pub mod kernels;
pub mod linear;
pub mod models;
pub mod optim;
#[cfg(feature = "flex")]
#[doc(hidden)]
pub mod parts;
#[cfg(feature = "plots")]
pub mod plots;
pub mod precision;
pub mod prelude;
pub mod pruning;
mod random;
#[cfg(feature = "plots")]
pub mod study;
#[cfg(feature = "train")]
pub mod tasks;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};

/// Reports a skipped test on stderr, since libtest hides what a passing test prints.
#[cfg(test)]
pub(crate) fn say_skipped(why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("stderr can be written to");
}
