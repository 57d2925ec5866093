//! The whole pipeline on a GPU with Vulkan, compiled to SPIR-V.
//!
//! `cargo run --release --features vulkan --example backend_vulkan`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("vulkan")
}
