//! losparse makes transformers smaller and faster with LoSparse ([Li et al., ICML
//! 2023](https://arxiv.org/abs/2306.11222)): every weight matrix becomes a low-rank part plus a sparse
//! part, `W ≈ L·R + S`, and whole neurons of `S` are pruned while the model is fine-tuned. Nothing sparse
//! is left at the end, only smaller dense matrices. Built on [Burn](https://burn.dev).
//!
//! ```text
//!  decompose    W → L·R + S by truncated SVD: nothing is lost yet        decompose   algorithm 1
//!      │        (for inputs that were measured, of W·C)
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
//! Layers to compress have the type [`linear::CompressibleLinear`], and the module names them.
//!
//! ```
//! use burn::{module::Module, optim::GradientsParams, tensor::Tensor};
//! use losparse::prelude::*;
//!
//! #[derive(Module, Debug)]
//! struct Model { linear: CompressibleLinear }
//! compressible!(Model { linear });
//!
//! # fn main() -> losparse::Result<()> {
//! let device = losparse::device::open("auto")?.autodiff();
//! let model = Model { linear: CompressibleLinearConfig::new(32, 64).init(&device) };
//! let low_rank = DecomposeConfig::new(Rank::Budget(0.05)); // 5% of the weights in L and R
//! let (mut model, _) = decompose(model, &LayerSelection::all(), low_rank)?;
//! let mut pruner = PruningConfig::new(Schedule::new(0.15, 40)).init(&model)?; // to 15% of S
//! let mut optimizer = AdamWConfig::new().init();
//! for _ in 0..40 {
//!     let output = model.linear.forward(Tensor::<2>::ones([1, 32], &device));
//!     let gradients = GradientsParams::from_grads(output.square().mean().backward(), &model);
//!     (model, _) = pruner.optimize(model, &mut optimizer, 1e-3, gradients)?;
//! }
//! let (small, report) = compact(model);
//! assert!(small.linear.weight_elements() < 32 * 64 / 4, "{report:?}");
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
//! | compute in 8-bit integers | [`quantize`](mod@quantize) |
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

#[cfg(feature = "flex")]
#[doc(hidden)]
pub mod bench;
pub mod checkpoint;
pub mod compact;
pub mod decompose;
pub mod device;
pub mod error;
pub mod files;
pub mod generation;
pub mod inspect;
pub mod kernels;
pub mod linear;
pub mod models;
mod ops;
pub mod optim;
#[cfg(feature = "plots")]
pub mod plots;
pub mod precision;
pub mod prelude;
pub mod pruning;
pub mod quantize;
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
