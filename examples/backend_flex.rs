//! The whole pipeline on the CPU, with Burn's `flex` backend (the default).
//!
//! `cargo run --release --example backend_flex`

mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    common::run("flex")
}
