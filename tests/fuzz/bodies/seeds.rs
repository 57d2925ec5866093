//! Tiny valid model folders that inputs change.

use std::path::Path;
use std::sync::OnceLock;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use losparse::checkpoint::{PretrainedModel, SaveOptions, StorageDtype, save_pretrained};
use losparse::linear::{
    CompactLinear, Compressible, CompressibleLinear, InputCompactLinear, LowRank,
    LowRankSparseLinear,
};
use losparse::models::ModelConfig;
use losparse::models::bart::{BartForConditionalGeneration, BartForSequenceClassification};
use losparse::models::bert::{BertForQuestionAnswering, BertForSequenceClassification};
use losparse::models::deberta_v2::DebertaV2ForSequenceClassification;
use losparse::models::mpnet::MpnetForSequenceClassification;
use losparse::models::roberta::RobertaForSequenceClassification;
use serde_json::{Value, json};

use super::files::{Files, scratch};

/// The words of every seed's tokenizer, by their ids.
pub const WORDS: [&str; 13] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "very", "good", "great",
    "bad", "dull",
];

/// Model folders of every architecture, head and state of layers. Their order is part of the corpus.
pub fn models() -> &'static [Files] {
    static MODELS: OnceLock<Vec<Files>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let bert = || build(BertForSequenceClassification::new, bert_config());
        vec![
            saved(&bert(), StorageDtype::F32),
            saved(&compressed(bert()), StorageDtype::F32),
            saved(&compressed(bert()), StorageDtype::Int8),
            saved(
                &build(RobertaForSequenceClassification::new, roberta_config()),
                StorageDtype::F16,
            ),
            saved(&build(MpnetForSequenceClassification::new, mpnet_config()), StorageDtype::Bf16),
            saved(
                &build(DebertaV2ForSequenceClassification::new, deberta_config()),
                StorageDtype::F32,
            ),
            generator(),
            saved(&build(BartForSequenceClassification::new, bart_config()), StorageDtype::F32),
            saved(&build(BertForQuestionAnswering::new, bert_config()), StorageDtype::F32),
            pytorch(),
            sharded(),
        ]
    })
}

/// A tokenizer of [`WORDS`] that ends texts with `[SEP]`.
pub fn tokenizer_json() -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
    let special = |id: usize| {
        json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let token = |id: usize| json!({"id": WORDS[id], "ids": [id], "tokens": [WORDS[id]]});
    let piece = |id: &str, type_id: usize| json!({"Sequence": {"id": id, "type_id": type_id}});
    let mark =
        |id: usize, type_id: usize| json!({"SpecialToken": {"id": WORDS[id], "type_id": type_id}});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [mark(2, 0), piece("A", 0), mark(3, 0)],
            "pair": [mark(2, 0), piece("A", 0), mark(3, 0), piece("B", 1), mark(3, 1)],
            "special_tokens": {"[CLS]": token(2), "[SEP]": token(3)}},
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    })
}

fn bert_config() -> Value {
    json!({"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 12, "max_position_embeddings": 16, "type_vocab_size": 2,
        "id2label": {"0": "down", "1": "up"}, "label2id": {"down": 0, "up": 1},
        "pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02, "problem_type": "single_label_classification"})
}

fn roberta_config() -> Value {
    let mut config = bert_config();
    config["max_position_embeddings"] = json!(18);
    config["num_hidden_layers"] = json!(1);
    config["type_vocab_size"] = json!(1);
    config["problem_type"] = json!("multi_label_classification");
    config
}

fn mpnet_config() -> Value {
    let mut config = bert_config();
    config["max_position_embeddings"] = json!(18);
    config["num_hidden_layers"] = json!(1);
    config["relative_attention_num_buckets"] = json!(32);
    config
}

fn deberta_config() -> Value {
    let mut config = bert_config();
    let more = json!({"relative_attention": true, "position_buckets": 4,
        "max_relative_positions": -1, "pos_att_type": "c2p|p2c", "share_att_key": true,
        "norm_rel_ebd": "layer_norm", "position_biased_input": true, "conv_kernel_size": 3,
        "conv_groups": 2, "conv_act": "gelu", "embedding_size": 6, "pooler_dropout": 0.0,
        "pooler_hidden_act": "gelu", "num_hidden_layers": 1});
    for (name, value) in more.as_object().expect("fields") {
        config[name] = value.clone();
    }
    config
}

fn bart_config() -> Value {
    json!({"vocab_size": 13, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12, "max_position_embeddings": 16, "pad_token_id": 0,
        "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3,
        "activation_function": "gelu", "scale_embedding": true, "dropout": 0.1,
        "id2label": {"0": "a", "1": "b", "2": "c"}})
}

fn build<M: PretrainedModel>(new: fn(&M::Config, &Device) -> M, config: Value) -> M {
    let config = M::Config::from_json(&config.to_string(), Path::new("config.json"));
    new(&config.expect("a valid configuration"), &Device::default()).map(&mut Fixed(0))
}

/// Gives every parameter the same values in every process.
struct Fixed(usize);

impl ModuleMapper for Fixed {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let value = |_| {
                self.0 += 1;
                (self.0 as f32 * 0.7).sin() * 0.4
            };
            let values: Vec<f32> = (0..shape.num_elements()).map(value).collect();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}

fn matrix(rows: usize, columns: usize) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|at| (at as f32 * 1.3).sin() * 0.4).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::default())
}

/// With layers in every state.
fn compressed<M: Compressible>(mut model: M) -> M {
    let mut at = 0;
    model.for_each_linear_mut(&mut |_, linear| {
        let [input, output] = linear.dims();
        let bias = linear.bias();
        let parameter = |bias: Option<Tensor<1>>| bias.map(Param::from_tensor);
        let left = |others| Some((matrix(input, 2), matrix(2, others)));
        *linear = match at % 8 {
            0 | 1 => CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
                (at % 8 == 0).then(|| LowRank {
                    right: Param::from_tensor(matrix(input, 2)),
                    left: Param::from_tensor(matrix(2, output)),
                }),
                Some(Param::from_tensor(linear.effective_weight())),
                parameter(bias),
            )),
            2 => CompressibleLinear::Compact(CompactLinear::new(
                matrix(input, 3),
                left(output - 3),
                bias,
                &[4, 0, 6],
                output,
            )),
            3 => CompressibleLinear::Compact(CompactLinear::new(
                matrix(input, 2),
                left(output - 2),
                bias,
                &[0, 1],
                output,
            )),
            4 => CompressibleLinear::Compact(CompactLinear::new(
                matrix(input, 2),
                None,
                bias,
                &[1, 5],
                output,
            )),
            5 => CompressibleLinear::InputCompact(InputCompactLinear::new(
                matrix(3, output),
                Some((matrix(input - 3, 2), matrix(2, output))),
                bias,
                &[7, 0, 2],
                input,
            )),
            6 => CompressibleLinear::InputCompact(InputCompactLinear::new(
                matrix(2, output),
                None,
                bias,
                &[1, 6],
                input,
            )),
            _ => linear.clone(),
        };
        at += 1;
    });
    model
}

/// The tokenizer is as its file says.
const TOKENIZER_CONFIG: &[u8] = br#"{"tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "[PAD]", "model_max_length": 16}"#;

/// A model's folder as this crate writes it, with the tokenizer.
fn saved<M: PretrainedModel>(model: &M, dtype: StorageDtype) -> Files {
    let from = Files::of([
        ("tokenizer.json", tokenizer_json().to_string().as_bytes()),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ]);
    let (_from, tokenizer) = from.folder("tokenizer");
    let scratch = scratch();
    let folder = scratch.path().join("model");
    let labels = model.config().labels().names();
    let task = json!({"name": "mood", "kind": {"type": "classification", "labels": labels},
        "metrics": ["accuracy"], "primary": "accuracy"});
    let options = SaveOptions {
        dtype,
        losparse: Some(json!({"format": 1, "task": task, "max_length": 12})),
        tokenizer_from: Some(tokenizer),
        ..SaveOptions::default()
    };
    save_pretrained(model, &folder, &options).expect("a model that can be saved");
    Files::read(&folder)
}

/// One that writes texts, with settings of generation.
fn generator() -> Files {
    let model = build(BartForConditionalGeneration::new, bart_config());
    let mut files = saved(&model, StorageDtype::F32);
    let generation = json!({"num_beams": 2, "max_length": 8, "min_length": 2,
        "early_stopping": true, "no_repeat_ngram_size": 2, "length_penalty": 0.8,
        "forced_eos_token_id": 3, "decoder_start_token_id": 3, "eos_token_id": 3,
        "pad_token_id": 0, "bos_token_id": 2});
    files.0.insert("generation_config.json".into(), generation.to_string().into());
    files
}

/// As PyTorch saved models.
fn pytorch() -> Files {
    Files::of([
        ("config.json", include_bytes!("../../fixtures/bert/bin/config.json")),
        ("pytorch_model.bin", include_bytes!("../../fixtures/bert/bin/pytorch_model.bin")),
        ("tokenizer.json", tokenizer_json().to_string().as_bytes()),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ])
}

/// In two files with an index.
fn sharded() -> Files {
    Files::of([
        ("config.json", include_bytes!("../../fixtures/bert/sharded_bin/config.json")),
        (
            "pytorch_model.bin.index.json",
            include_bytes!("../../fixtures/bert/sharded_bin/pytorch_model.bin.index.json"),
        ),
        (
            "pytorch_model-00001-of-00002.bin",
            include_bytes!("../../fixtures/bert/sharded_bin/pytorch_model-00001-of-00002.bin"),
        ),
        (
            "pytorch_model-00002-of-00002.bin",
            include_bytes!("../../fixtures/bert/sharded_bin/pytorch_model-00002-of-00002.bin"),
        ),
        ("tokenizer.json", tokenizer_json().to_string().as_bytes()),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ])
}
