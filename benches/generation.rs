//! Tokens a second of a generation: a model of `bart-base`'s shape with random weights, 256 tokens
//! of source, 64 new tokens. `generation.py` measures the same with PyTorch.
//!
//! ```text
//! cargo bench --bench generation            # all
//! cargo bench --bench generation -- 8x6     # batch 8, 6 beams
//! ```

use std::time::Instant;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use losparse::Result;
use losparse::generation::{CachedDecoder, GenerationConfig, generate};
use losparse::models::EncoderInput;
use losparse::models::bart::{BartConfig, BartForConditionalGeneration, DecoderContext};

const SOURCE: usize = 256;
const NEW_TOKENS: usize = 64;

/// The same model, reading every token anew for each next one.
struct Uncached<'a>(&'a BartForConditionalGeneration);

struct Read {
    /// `[rows, source, d_model]`
    encoded: Tensor<3>,
    rows: Vec<Vec<i64>>,
}

impl CachedDecoder for Uncached<'_> {
    type Cache = Read;

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn max_length(&self) -> usize {
        self.0.max_length()
    }

    fn start(&self, input: &EncoderInput, beams: usize, _max_length: usize) -> Result<Read> {
        let model = &self.0.model;
        let embedded = model.shared.forward(input.input_ids.clone());
        let encoded = model.encoder.forward(embedded, None, false, |_, _| {});
        let [batch, source, d_model] = encoded.dims();
        let encoded = encoded.unsqueeze_dim::<4>(1).repeat_dim(1, beams).reshape([
            batch * beams,
            source,
            d_model,
        ]);
        Ok(Read { encoded, rows: vec![Vec::new(); batch * beams] })
    }

    fn step(&self, tokens: &[u32], read: &mut Read) -> Tensor<2> {
        read.rows.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(i64::from(token)));
        let device = read.encoded.device();
        let shape = [read.rows.len(), read.rows[0].len()];
        let ids = Tensor::<2, Int>::from_data(TensorData::new(read.rows.concat(), shape), &device);
        let later = Tensor::<2, Bool>::tril_mask([shape[1], shape[1]], 0, &device);
        let context = DecoderContext {
            encoder_hidden_states: read.encoded.clone(),
            encoder_mask: None,
            mask: Tensor::<4>::zeros([1, 1, shape[1], shape[1]], &device)
                .mask_fill(later.unsqueeze::<4>(), f32::MIN),
        };
        let embedded = self.0.model.shared.forward(ids);
        let states = self.0.model.decoder.forward(embedded, &context, |_, _| {});
        let last = states.narrow(1, shape[1] - 1, 1);
        self.0.logits(last).reshape([shape[0] as i64, -1])
    }

    fn reorder(&self, parents: &[usize], read: &mut Read) {
        read.rows = parents.iter().map(|&parent| read.rows[parent].clone()).collect();
    }
}

fn main() {
    let config = BartConfig {
        d_model: 768,
        encoder_layers: 6,
        decoder_layers: 6,
        encoder_ffn_dim: 3072,
        decoder_ffn_dim: 3072,
        encoder_attention_heads: 12,
        decoder_attention_heads: 12,
        ..BartConfig::default()
    };
    let asked: Vec<String> = std::env::args().filter(|arg| arg.contains('x')).collect();
    let device = Device::default();
    device.seed(1);
    let model = BartForConditionalGeneration::new(&config, &device);
    println!("{:>5} {:>5} {:>8} {:>10} {:>9}", "batch", "beams", "cache", "tokens/s", "seconds");
    for (batch, beams) in [(1, 1), (1, 6), (8, 1), (8, 6)] {
        if !asked.is_empty() && !asked.iter().any(|a| a.ends_with(&format!("{batch}x{beams}"))) {
            continue;
        }
        let ids: Vec<i64> = (0..batch * SOURCE).map(|i| (i * 7919 % 50_000 + 4) as i64).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, SOURCE]), &device);
        let input = EncoderInput::new(ids);
        let settings = GenerationConfig {
            num_beams: Some(beams),
            max_new_tokens: Some(NEW_TOKENS),
            min_new_tokens: Some(NEW_TOKENS),
            ..GenerationConfig::default()
        };
        let defaults = serde_json::to_value(&config).expect("a configuration");
        let defaults = serde_json::from_value(defaults).expect("its tokens");
        let settings = settings.or(&defaults);
        measure("yes", batch, beams, || generate(&model, &input, &settings));
        // 48 rows of the whole text at every token would take minutes.
        if batch * beams <= 8 {
            measure("no", batch, beams, || generate(&Uncached(&model), &input, &settings));
        }
    }
}

/// The best of three runs after one to warm up; without a cache one run.
fn measure<T>(cache: &str, batch: usize, beams: usize, run: impl Fn() -> Result<T>) {
    let runs = if cache == "yes" { 4 } else { 1 };
    let seconds = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run().expect("a generation");
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let rate = (batch * NEW_TOKENS) as f64 / seconds;
    println!("{batch:>5} {beams:>5} {cache:>8} {rate:>10.1} {seconds:>9.2}");
}
