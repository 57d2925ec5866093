//! The whole pipeline on a Mac's GPU, with Metal.
//!
//! `cargo run --release --features metal --example backend_metal`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("metal")
}
