//! The whole pipeline on an NVIDIA GPU, with CUDA.
//!
//! `cargo run --release --features cuda --example backend_cuda`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("cuda")
}
