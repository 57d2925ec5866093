//! Multiplies matrices once for each line, so that `sgemm.py` can alternate it with the `sgemm` of others.
//!
//! `sgemm_server` prints `ready`. It answers `run 128 768 3072` (rows, inputs, outputs) with wall-clock and
//! CPU milliseconds of a product with a weight that is already packed.

mod server;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;

use losparse::bench::PackedLinear;
use losparse::linear::CompressibleLinearConfig;
use server::Clock;

struct Product {
    weight: PackedLinear,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Product {
    fn new([rows, d_input, d_output]: [usize; 3]) -> Result<Self, Box<dyn Error>> {
        let device = losparse::device::open("flex")?;
        let linear = CompressibleLinearConfig::new(d_input, d_output).init(&device);
        let weight = PackedLinear::new(&linear).ok_or("not a layer on flex")?;
        let input = (0..rows * d_input).map(|at| (at * 7919 % 1000) as f32 / 1000.0).collect();
        Ok(Self { weight, input, output: vec![0.0; rows * d_output] })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut products = HashMap::new();
    server::serve(|word, rest| {
        let sizes: Result<Vec<usize>, _> = rest.split(' ').map(str::parse).collect();
        let Ok(sizes) = <[usize; 3]>::try_from(sizes?) else {
            return Err(format!("`{word} {rest}` is not like `run 128 768 3072`").into());
        };
        let product = match products.entry(sizes) {
            Entry::Occupied(product) => product.into_mut(),
            Entry::Vacant(product) => product.insert(Product::new(sizes)?),
        };
        let clock = Clock::start()?;
        product.weight.forward(&product.input, &mut product.output);
        let [wall, cpu] = clock.stop()?;
        Ok(format!("{wall} {cpu}"))
    })
}
