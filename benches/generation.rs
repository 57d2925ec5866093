//! Tokens a second of a generation: a model of `bart-base`'s shape with random weights, dense and
//! compact at 30%, 256 tokens of source, 64 new tokens.
//!
//! ```text
//! cargo bench --bench generation            # all
//! cargo bench --bench generation -- 8x6     # batch 8, 6 beams
//! ```
//!
//! With `serve` it runs what lines of its input ask for, so that `generation.py` can let it take turns
//! with PyTorch.

#[path = "generation/models.rs"]
mod models;

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use losparse::Result;
use losparse::generation::{CachedDecoder, GenerationConfig, generate};
use losparse::models::EncoderInput;
use losparse::models::bart::{BartForConditionalGeneration, DecoderContext};

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
        let states = self.0.model.decoder.forward(embedded, &context, false, |_, _| {});
        let last = states.narrow(1, shape[1] - 1, 1);
        self.0.logits(last).reshape([shape[0] as i64, -1])
    }

    fn reorder(&self, parents: &[usize], read: &mut Read) {
        read.rows = parents.iter().map(|&parent| read.rows[parent].clone()).collect();
    }
}

/// A generation that can be asked for by a line such as `30% cached 8x6`.
struct Asked {
    compact: bool,
    cached: bool,
    batch: usize,
    beams: usize,
}

impl Asked {
    fn parse(line: &str) -> Option<Self> {
        let [form, cache, shape] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (batch, beams) = shape.split_once('x')?;
        Some(Self {
            compact: form != "dense",
            cached: cache == "cached",
            batch: batch.parse().ok()?,
            beams: beams.parse().ok()?,
        })
    }
}

/// Both forms of the model; the compact one made when it is first asked for.
struct Models {
    dense: BartForConditionalGeneration,
    compact: std::cell::OnceCell<BartForConditionalGeneration>,
    device: Device,
}

impl Models {
    fn new() -> Self {
        let device = Device::default();
        Self { dense: models::dense(&device), compact: Default::default(), device }
    }

    /// Wall-clock and CPU seconds.
    fn run(&self, asked: &Asked) -> Result<[f64; 2]> {
        let Asked { batch, beams, .. } = *asked;
        let model = match asked.compact {
            true => self.compact.get_or_init(|| models::compact(&self.dense)),
            false => &self.dense,
        };
        let ids: Vec<i64> = (0..batch * SOURCE).map(|i| (i * 7919 % 50_000 + 4) as i64).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, SOURCE]), &self.device);
        let mask = Tensor::<2, Int>::ones([batch, SOURCE], &self.device);
        let input = EncoderInput::new(ids).with_attention_mask(mask);
        let settings = GenerationConfig {
            num_beams: Some(beams),
            max_new_tokens: Some(NEW_TOKENS),
            min_new_tokens: Some(NEW_TOKENS),
            ..GenerationConfig::default()
        };
        let defaults = serde_json::to_value(model.config()).expect("a configuration");
        let defaults = serde_json::from_value(defaults).expect("its tokens");
        let settings = settings.or(&defaults);
        let (start, cpu) = (Instant::now(), cpu_seconds());
        match asked.cached {
            true => generate(model, &input, &settings).map(drop)?,
            false => generate(&Uncached(model), &input, &settings).map(drop)?,
        }
        Ok([start.elapsed().as_secs_f64(), cpu_seconds() - cpu])
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "serve") {
        return serve(&Models::new());
    }
    let models = Models::new();
    let shapes: Vec<&String> = arguments.iter().filter(|a| a.contains('x')).collect();
    println!("model cache  batch x beams  tokens/s  seconds  CPU seconds");
    for (batch, beams) in [(1, 1), (1, 6), (8, 1), (8, 6)] {
        let shape = format!("{batch}x{beams}");
        if !shapes.is_empty() && !shapes.iter().any(|asked| asked.ends_with(&shape)) {
            continue;
        }
        for form in ["dense", "30%"] {
            for cache in ["cached", "uncached"] {
                // 48 rows of the whole text at every token would take minutes.
                if cache == "cached" || batch * beams <= 8 {
                    measure(&models, &format!("{form} {cache} {shape}"))?;
                }
            }
        }
    }
    Ok(())
}

/// The best of three runs after one to warm up; without a cache one run.
fn measure(models: &Models, line: &str) -> Result<()> {
    let asked = Asked::parse(line).expect("a line of this program's");
    let mut best = [f64::INFINITY; 2];
    for _ in 0..if asked.cached { 4 } else { 1 } {
        let taken = models.run(&asked)?;
        best = if taken[0] < best[0] { taken } else { best };
    }
    let rate = (asked.batch * NEW_TOKENS) as f64 / best[0];
    println!("{line:24} {rate:>10.1} {:>9.2} {:>9.2}", best[0], best[1]);
    Ok(())
}

/// Answers every line with wall-clock and CPU seconds.
fn serve(models: &Models) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut answer = |text: &str| {
        writeln!(out, "{text}").and_then(|()| out.flush()).expect("somebody who reads");
    };
    answer("ready");
    for line in std::io::stdin().lock().lines().map_while(|line| line.ok()) {
        match Asked::parse(&line) {
            Some(asked) => {
                let [wall, cpu] = models.run(&asked)?;
                answer(&format!("{wall} {cpu}"));
            }
            None => answer("not like `dense cached 8x6`"),
        }
    }
    Ok(())
}

/// CPU time of all threads, from Linux's `/proc`; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let times = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e9
}
