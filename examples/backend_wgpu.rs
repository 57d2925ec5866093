//! The whole pipeline on any GPU, with WGSL through wgpu.
//!
//! `cargo run --release --features wgpu --example backend_wgpu`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("wgpu")
}
