//! Generates with a BART once for each line, so that `generation.py` can alternate it with other programs.
//!
//! `generation_server FOLDER` prints `ready`. It answers `run cached 8x6` (batch 8, 6 beams; `uncached`
//! reads all tokens again for each next one) with wall-clock and CPU milliseconds, `tokens cached 8x6` with
//! the tokens, `memory` with the peak resident size in MB. The source has 256 tokens,
//! `4 + 7919 i mod 50000`; 64 are generated.

mod server;

use std::error::Error;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use losparse::Result;
use losparse::checkpoint::{LoadOptions, load_pretrained};
use losparse::generation::{CachedDecoder, Generated, GenerationConfig, generate};
use losparse::models::bart::{BartForConditionalGeneration, DecoderContext};
use losparse::models::{EncoderInput, ForwardContext};
use server::Clock;

const SOURCE: usize = 256;
const NEW_TOKENS: usize = 64;

/// The same model without a cache: it reads all tokens again for each next one.
struct Uncached<'a>(&'a BartForConditionalGeneration);

struct Read {
    /// `[rows, source, d_model]`
    encoded: Tensor<3>,
    rows: Vec<Vec<i64>>,
}

impl CachedDecoder for Uncached<'_> {
    type Cache = Read;
    type Input = EncoderInput;

    fn examples(input: &EncoderInput) -> usize {
        input.input_ids.dims()[0]
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn max_length(&self) -> usize {
        self.0.max_length()
    }

    fn start(&self, input: &EncoderInput, beams: usize, _max_length: usize) -> Result<Read> {
        let model = &self.0.model;
        let embedded = model.shared.forward(&input.input_ids, None);
        let encoded = model.encoder.forward(embedded, &ForwardContext::default(), |_, _| {});
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
        let mask = Tensor::<4>::zeros([1, 1, shape[1], shape[1]], &device)
            .mask_fill(later.unsqueeze::<4>(), f32::MIN);
        let context = DecoderContext {
            encoder_hidden_states: read.encoded.clone(),
            cross: ForwardContext::default(),
            own: ForwardContext::new(Some(mask)),
        };
        let embedded = self.0.model.shared.forward(&ids, None);
        let states = self.0.model.decoder.forward(embedded, &context, |_, _| {});
        let last = states.narrow(1, shape[1] - 1, 1);
        self.0.logits(last).reshape([shape[0] as i64, -1])
    }

    fn reorder(&self, parents: &[usize], read: &mut Read) {
        read.rows = parents.iter().map(|&parent| read.rows[parent].clone()).collect();
    }
}

/// A request such as `cached 8x6`.
struct Asked {
    cached: bool,
    batch: usize,
    beams: usize,
}

impl Asked {
    fn parse(words: &str) -> Option<Self> {
        let (cache, shape) = words.split_once(' ')?;
        let (batch, beams) = shape.split_once('x')?;
        let (batch, beams) = (batch.parse().ok()?, beams.parse().ok()?);
        Some(Self { cached: cache == "cached", batch, beams })
    }
}

struct Server {
    model: BartForConditionalGeneration,
    defaults: GenerationConfig,
    device: Device,
}

impl Server {
    fn generate(&self, asked: &Asked) -> Result<Vec<Vec<Generated>>> {
        let Asked { cached, batch, beams } = *asked;
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
        let settings = settings.or(&self.defaults);
        match cached {
            true => generate(&self.model, &input, &settings),
            false => generate(&Uncached(&self.model), &input, &settings),
        }
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("give FOLDER")?;
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "flex".to_string());
    let device = losparse::device::open(&name)?;
    let (model, _) = load_pretrained(&folder, &device, &LoadOptions::default())?;
    let defaults = GenerationConfig::from_folder(&folder)?;
    let server = Server { model, defaults, device };
    server::serve(|word, rest| {
        let asked = Asked::parse(rest).ok_or("not like `run cached 8x6`")?;
        let clock = Clock::start()?;
        let generated = server.generate(&asked)?;
        let [wall, cpu] = clock.stop()?;
        match word {
            "run" => Ok(format!("{wall} {cpu}")),
            "tokens" => {
                let best = generated.iter().filter_map(|outputs| outputs.first());
                let tokens: Vec<&Vec<u32>> = best.map(|output| &output.tokens).collect();
                Ok(serde_json::to_string(&tokens)?)
            }
            other => Err(format!("`{other}` is not run, tokens or memory").into()),
        }
    })
}
