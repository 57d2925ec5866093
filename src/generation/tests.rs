//! A generation over a decoder that is a table: what follows depends on the last token alone.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{CachedDecoder, EarlyStopping, Generated, GenerationConfig, TokenIds, generate};
use crate::Result;
use crate::models::EncoderInput;

/// Row `i`: probabilities of what follows token `i`.
struct Table(Vec<Vec<f32>>);

/// The tokens of every row: what a cache must follow through every change of places.
struct History(Vec<Vec<u32>>);

impl CachedDecoder for Table {
    type Cache = History;
    type Input = EncoderInput;

    fn examples(input: &EncoderInput) -> usize {
        input.input_ids.dims()[0]
    }

    fn vocab_size(&self) -> usize {
        self.0.len()
    }

    fn max_length(&self) -> usize {
        20
    }

    fn start(&self, input: &EncoderInput, beams: usize, _max_length: usize) -> Result<History> {
        Ok(History(vec![Vec::new(); input.input_ids.dims()[0] * beams]))
    }

    fn step(&self, tokens: &[u32], cache: &mut History) -> Tensor<2> {
        assert_eq!(tokens.len(), cache.0.len());
        cache.0.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
        let logits: Vec<f32> = tokens
            .iter()
            .flat_map(|&token| self.0[token as usize].iter().map(|p| p.ln()))
            .collect();
        let shape = [tokens.len(), self.vocab_size()];
        Tensor::from_data(TensorData::new(logits, shape), &Device::default())
    }

    fn reorder(&self, parents: &[usize], cache: &mut History) {
        cache.0 = parents.iter().map(|&parent| cache.0[parent].clone()).collect();
    }
}

/// 0 start, 1 end. Greedy takes 2 (0.5), then can only go on by 4 (0.3 · 0.5 …); the better 3 (0.4)
/// ends at once.
fn table() -> Table {
    Table(vec![
        vec![0.05, 0.05, 0.5, 0.4, 1e-9],
        vec![0.2, 0.2, 0.2, 0.2, 0.2],
        vec![0.1, 0.1, 0.25, 0.25, 0.3],
        vec![0.01, 0.9, 0.03, 0.03, 0.03],
        vec![0.1, 0.5, 0.1, 0.2, 0.1],
    ])
}

fn run(settings: GenerationConfig) -> Vec<Vec<Generated>> {
    let defaults = GenerationConfig {
        decoder_start_token_id: Some(0),
        eos_token_id: Some(TokenIds::One(1)),
        max_length: Some(8),
        ..GenerationConfig::default()
    };
    let ids = Tensor::<2, Int>::zeros([2, 1], &Device::default());
    generate(&table(), &EncoderInput::new(ids), &settings.or(&defaults)).unwrap()
}

#[test]
fn greedy_takes_the_likeliest_token_and_beams_the_likeliest_text() {
    let greedy = run(GenerationConfig::default());
    assert_eq!(greedy[0][0], Generated { tokens: vec![0, 2, 4, 1], score: None });
    assert_eq!(greedy[0], greedy[1]);

    let config = GenerationConfig {
        num_beams: Some(2),
        num_return_sequences: Some(2),
        length_penalty: Some(0.0),
        early_stopping: Some(EarlyStopping::Never),
        ..GenerationConfig::default()
    };
    for example in run(config) {
        let tokens: Vec<&[u32]> = example.iter().map(|output| output.tokens.as_slice()).collect();
        assert_eq!(tokens, [&[0, 3, 1][..], &[0, 2, 4, 1]]);
        for (output, probability) in example.iter().zip([0.4f32 * 0.9, 0.5 * 0.3 * 0.5]) {
            assert!((output.score.unwrap() - probability.ln()).abs() < 1e-5);
        }
    }
}

#[test]
fn the_greatest_length_ends_a_text() {
    let config = GenerationConfig { max_new_tokens: Some(2), ..GenerationConfig::default() };
    assert_eq!(run(config.clone())[1][0].tokens, [0, 2, 4]);
    let beams = GenerationConfig { num_beams: Some(3), min_length: Some(8), ..config };
    assert_eq!(run(beams)[1][0].tokens.len(), 3);
}
