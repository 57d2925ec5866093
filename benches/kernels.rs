//! Times compact layers, GELU and a BERT on `flex` against the same composed of Burn's operations.
//!
//! `cargo bench --bench kernels`. The contestants of a line alternate in one run; compare within lines
//! only. Compact layers keep the neurons that a trained model kept at a ratio of 20%
//! (`benches/peers/kept.py`).

#[path = "peers/kept.rs"]
mod kept;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::module::linear;
use burn::tensor::{Device, Distribution, Int, Tensor, activation};
use losparse::Result;
use losparse::inspect::latency::{Contestant, Repetitions, measure};
use losparse::linear::{CompactLinear, Compressible, CompressibleLinear};
use losparse::models::bert::{BertConfig, BertModel};
use losparse::models::{Activation, EncoderInput};

fn main() -> Result<()> {
    let device = losparse::device::open("flex")?;
    println!(
        "linear layers of BERT-base's sizes, each with the median share of kept neurons of its size"
    );
    let trained = kept::bert_base(20);
    for dims in [[768, 768], [768, 3072], [3072, 768]] {
        let layer = kept::typical(&trained, dims);
        for tokens in [16, 64, 512, 2048] {
            layers(&layer, tokens, &device)?;
        }
    }
    println!("GELU");
    for tokens in [64, 2048] {
        gelu(tokens, &device)?;
    }
    println!("BERT-base, with few words");
    for shape in [[1, 16], [1, 64], [8, 64]] {
        bert(&trained, shape, &device)?;
    }
    Ok(())
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.05), device)
}

/// Random weights of a layer that keeps these neurons beside a low-rank share of 5%.
fn compacted(layer: &kept::Layer, device: &Device) -> CompactLinear {
    let ([d_input, d_output], kept) = (layer.dims, &layer.kept);
    let rank = (d_input * d_output).div_ceil(20 * (d_input + d_output));
    let low_rank = (random([d_input, rank], device), random([rank, d_output - kept.len()], device));
    let folded = random([d_input, kept.len()], device);
    let bias = random([d_output], device);
    CompactLinear::new(folded, Some(low_rank), Some(bias), kept, d_output)
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

fn layers(layer: &kept::Layer, tokens: usize, device: &Device) -> Result<()> {
    let [d_input, d_output] = layer.dims;
    let input = random([tokens, d_input], device);
    let dense = Linear {
        weight: Param::from_tensor(random([d_input, d_output], device)),
        bias: Some(Param::from_tensor(random([d_output], device))),
    };
    let compact = compacted(layer, device);
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
        contestant("ours", || drop(Activation::Gelu.forward(y.clone() + 0.0))),
        contestant("the addition in both", || drop(x.clone() + 0.0)),
    ];
    report(&format!("{tokens}x1536"), contestants, [1, tokens], device)
}

fn bert(trained: &[kept::Layer], shape: [usize; 2], device: &Device) -> Result<()> {
    let config = BertConfig { vocab_size: 1000, ..BertConfig::default() };
    let dense = BertModel::new(&config, true, device).valid();
    let (mut compact, mut layers) = (dense.clone(), trained.iter());
    compact.for_each_linear_mut(&mut |_, linear| {
        let layer = layers.next().expect("as many layers");
        assert_eq!(layer.dims, linear.dims());
        *linear = CompressibleLinear::Compact(compacted(layer, device));
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
