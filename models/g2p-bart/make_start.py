#!/usr/bin/env python3
"""Makes the folder that training starts from: a small BART with random weights, and its tokenizer.

    pip install numpy safetensors
    python3 make_start.py START
"""
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, NEURONS, HEADS, LAYERS, POSITIONS = 128, 512, 4, 2, 40
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "'"]
PHONEMES = [*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012")]
TOKENS = [*SPECIAL, *LETTERS, *PHONEMES]


def tokenizer() -> dict:
    """A word becomes its letters; phonemes, in capitals, are divided by blanks."""
    end = {"id": "</s>", "ids": [SPECIAL.index("</s>")], "tokens": ["</s>"]}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    pair = {"Sequence": {"id": "B", "type_id": 1}}
    stop = [{"SpecialToken": {"id": "</s>", "type_id": type_id}} for type_id in (0, 1)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token_id, token in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[A-Z]+[0-2]?|[^A-Z\\s]"},
            "behavior": "Removed",
            "invert": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, stop[0]],
            "pair": [text, stop[0], pair, stop[1]],
            "special_tokens": {"</s>": end},
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {token: token_id for token_id, token in enumerate(TOKENS)},
            "unk_token": "<unk>",
        },
    }


def config() -> dict:
    return {
        "architectures": ["BartForConditionalGeneration"],
        "model_type": "bart",
        "vocab_size": len(TOKENS),
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": NEURONS,
        "decoder_ffn_dim": NEURONS,
        "activation_function": "gelu",
        "dropout": 0.05,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "init_std": 0.02,
        "scale_embedding": False,
        "max_position_embeddings": POSITIONS,
        "is_encoder_decoder": True,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
        # How to generate: greedily, phonemes may repeat.
        "forced_eos_token_id": 2,
        "max_length": 32,
        "min_length": 0,
        "num_beams": 1,
        "length_penalty": 1.0,
        "early_stopping": False,
        "no_repeat_ngram_size": 0,
    }


def weights() -> dict:
    random = np.random.Generator(np.random.PCG64(0))
    out = {}

    def normal(name: str, rows: int, columns: int, deviation: float) -> None:
        out[f"model.{name}"] = random.normal(0.0, deviation, (rows, columns))

    def linear(name: str, outputs: int, inputs: int) -> None:
        normal(f"{name}.weight", outputs, inputs, (2.0 / (outputs + inputs)) ** 0.5)
        out[f"model.{name}.bias"] = np.zeros(outputs)

    def norm(name: str) -> None:
        out[f"model.{name}.weight"] = np.ones(WIDTH)
        out[f"model.{name}.bias"] = np.zeros(WIDTH)

    normal("shared.weight", len(TOKENS), WIDTH, WIDTH**-0.5)
    for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        # BART's tables of positions have two rows that are never used.
        normal(f"{side}.embed_positions.weight", POSITIONS + 2, WIDTH, WIDTH**-0.5)
        norm(f"{side}.layernorm_embedding")
        for layer in (f"{side}.layers.{at}" for at in range(LAYERS)):
            for attention in attentions:
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{layer}.{attention}.{projection}", WIDTH, WIDTH)
                norm(f"{layer}.{attention}_layer_norm")
            linear(f"{layer}.fc1", NEURONS, WIDTH)
            linear(f"{layer}.fc2", WIDTH, NEURONS)
            norm(f"{layer}.final_layer_norm")
    out["final_logits_bias"] = np.zeros((1, len(TOKENS)))
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: make_start.py START")
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tensors = weights()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config(), indent=2) + "\n", "utf-8")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer(), indent=1) + "\n", "utf-8")
    # BART's own would be byte-level BPE.
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
             "pad_token": "<pad>", "unk_token": "<unk>"}
    (out / "tokenizer_config.json").write_text(json.dumps(named, indent=1) + "\n", "utf-8")
    total = sum(tensor.size for tensor in tensors.values())
    print(f"{len(TOKENS)} tokens, {total:,} parameters")


if __name__ == "__main__":
    main()
