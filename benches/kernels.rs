//! Compact layers, GELU and a small BERT on `flex` against what Burn's operations give.
//!
//! `cargo bench --bench kernels`. All contestants of a line take turns in one run; compare within
//! lines only.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::module::linear;
use burn::tensor::{Device, Distribution, Int, Tensor, activation};
use losparse::Result;
use losparse::inspect::latency::{Contestant, Repetitions, measure};
use losparse::kernels;
use losparse::linear::{CompactLinear, Compressible, CompressibleLinear};
use losparse::models::EncoderInput;
use losparse::models::bert::{BertConfig, BertModel};

fn main() -> Result<()> {
    let device = losparse::device::open("flex")?;
    println!("linear layers: 15% of neurons kept at random, rank 10");
    for [d_input, d_output] in [[384, 384], [384, 1536], [768, 768], [768, 3072], [3072, 768]] {
        for tokens in [16, 64, 512, 2048] {
            layers(d_input, d_output, tokens, &device)?;
        }
    }
    println!("GELU");
    for tokens in [64, 2048] {
        gelu(tokens, &device)?;
    }
    println!("BERT of MiniLM's size");
    for shape in [[1, 16], [1, 64], [8, 64], [32, 64]] {
        bert(shape, &device)?;
    }
    Ok(())
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.05), device)
}

/// 15% of the neurons, unevenly spread.
fn kept(d_output: usize) -> Vec<usize> {
    (0..d_output).filter(|neuron| (neuron * 7919 + 13) % 100 < 15).collect()
}

fn compacted(d_input: usize, d_output: usize, device: &Device) -> CompactLinear {
    let kept = kept(d_output);
    let low_rank = (random([d_input, 10], device), random([10, d_output - kept.len()], device));
    let folded = random([d_input, kept.len()], device);
    let bias = random([d_output], device);
    CompactLinear::new(folded, Some(low_rank), Some(bias), &kept, d_output)
}

/// The same layer of Burn's operations.
fn composed(layer: &CompactLinear, input: Tensor<2>) -> Option<Tensor<2>> {
    let hidden = linear(input, layer.first.val(), None);
    let kept = hidden.clone().narrow(1, 0, layer.kept);
    let code = hidden.narrow(1, layer.kept, layer.rank());
    let others = linear(code, layer.left.as_ref()?.val(), None);
    let output = Tensor::cat(vec![kept, others], 1).select(1, layer.order.as_ref()?.val());
    Some(output + layer.bias.as_ref()?.val().unsqueeze::<2>())
}

fn layers(d_input: usize, d_output: usize, tokens: usize, device: &Device) -> Result<()> {
    let input = random([tokens, d_input], device);
    let dense = Linear {
        weight: Param::from_tensor(random([d_input, d_output], device)),
        bias: Some(Param::from_tensor(random([d_output], device))),
    };
    let compact = compacted(d_input, d_output, device);
    let (x, y, z) = (input.clone(), input.clone(), input);
    let product = compact.first.val();
    let contestants: Vec<Contestant<'_>> = vec![
        contestant("dense", || drop(dense.forward(x.clone()))),
        contestant("compact, composed", || drop(composed(&compact, y.clone()))),
        contestant("compact", || drop(compact.forward(z.clone()))),
        contestant("its first product", || drop(linear(z.clone(), product.clone(), None))),
    ];
    report(&format!("{d_input}x{d_output}, {tokens} tokens"), contestants, [1, tokens], device)
}

fn gelu(tokens: usize, device: &Device) -> Result<()> {
    let x = random([tokens, 1536], device);
    let y = x.clone();
    let contestants: Vec<Contestant<'_>> = vec![
        contestant("Burn's", || drop(activation::gelu(x.clone() + 0.0))),
        contestant("ours", || drop(kernels::gelu(y.clone() + 0.0))),
        contestant("the addition in both", || drop(x.clone() + 0.0)),
    ];
    report(&format!("{tokens}x1536"), contestants, [1, tokens], device)
}

fn bert(shape: [usize; 2], device: &Device) -> Result<()> {
    let config = BertConfig {
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
        ..BertConfig::default()
    };
    let dense = BertModel::new(&config, true, device).valid();
    let mut compact = dense.clone();
    compact.for_each_linear_mut(&mut |_, layer| {
        let [d_input, d_output] = layer.dims();
        *layer = CompressibleLinear::Compact(compacted(d_input, d_output, device));
    });
    let input = || EncoderInput::new(Tensor::<2, Int>::ones(shape, device));
    let contestants: Vec<Contestant<'_>> = vec![
        contestant("dense", || drop(dense.forward(input()))),
        contestant("compact", || drop(compact.forward(input()))),
    ];
    report(&format!("{shape:?}"), contestants, shape, device)
}

fn contestant<'a>(name: &str, mut run: impl FnMut() + 'a) -> Contestant<'a> {
    let run = move || {
        run();
        Ok(())
    };
    (name.to_string(), Box::new(run))
}

fn report(
    title: &str,
    mut contestants: Vec<Contestant<'_>>,
    shape: [usize; 2],
    device: &Device,
) -> Result<()> {
    let repetitions = Repetitions { warmup: 5, measured: 31 };
    let report = measure(&mut contestants, repetitions, shape, device)?;
    print!("  {title}:");
    for line in report.contestants {
        print!("  {} {:.3} ms ×{:.2}", line.name, line.median_ms, line.speedup);
    }
    println!();
    Ok(())
}
