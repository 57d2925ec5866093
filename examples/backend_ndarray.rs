//! The whole pipeline on the CPU, with Burn's `ndarray` backend.
//!
//! `cargo run --release --features ndarray --example backend_ndarray`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("ndarray")
}
