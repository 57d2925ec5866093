#!/usr/bin/env python3
"""Cuts all-MiniLM-L6-v2 down to the small BERT from which the quickstart model is fine-tuned.

    python3 make_start.py MINILM_FOLDER OUT_FOLDER     (needs numpy, safetensors, tokenizers)

Cuts, all read off the weights and data/train.tsv, nothing random but the new head (seeded):
- vocabulary: WordPieces that occur in the training sentences, most frequent first, and single
  characters, so that any text in Latin letters still splits into known pieces;
- layers: LAYERS of the six;
- width: the HIDDEN dimensions with the largest squared LayerNorm gains. Each kept dimension keeps
  its own gain and bias, so the residual stream is a plain selection of MiniLM's (384 keeps all);
- heads and feed-forward neurons: those with the largest norms of what they read and write.
"""
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

VOCAB = 6500
HIDDEN = 384
LAYERS = (0, 1)
NEURONS = 384
POSITIONS = 128
HEAD_SIZE = 32  # MiniLM's
LABELS = ("negative", "positive")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DATA = Path(__file__).resolve().parent / "data"


def cut_vocabulary(tokenizer: Tokenizer, tokens: list, size: int) -> list:
    """Ids of the pieces to keep, ascending: the order MiniLM has them in."""
    lines = (DATA / "train.tsv").read_text("utf-8").splitlines()[1:]
    encoded = tokenizer.encode_batch([line.split("\t")[0] for line in lines])
    counts = Counter(i for e in encoded for i in e.ids)
    keep = {tokens.index(token) for token in SPECIAL}
    for i, token in enumerate(tokens):
        character = token[2:] if token.startswith("##") and len(token) == 3 else token
        if len(character) == 1 and (ord(character) < 128 or counts[i]):
            keep.add(i)
    for i, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(keep) >= size:
            break
        keep.add(i)
    return sorted(keep)


def cut_tokenizer(source: dict, tokens: list, keep: list) -> dict:
    """tokenizer.json with the kept pieces renumbered, no padding and no truncation."""
    new = {tokens[i]: n for n, i in enumerate(keep)}
    result = dict(source, truncation=None, padding=None)
    result["model"] = dict(source["model"], vocab=new)
    result["added_tokens"] = [dict(t, id=new[t["content"]]) for t in source["added_tokens"]]
    for name, token in result["post_processor"]["special_tokens"].items():
        token["ids"] = [new[name]]
    return result


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest scores, ascending; equal scores in their order."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def layer_norm(w: dict, source: str, dims: np.ndarray) -> dict:
    return {part: w[f"{source}.LayerNorm.{part}"][dims] for part in ("weight", "bias")}


def cut_layer(w: dict, source: str, dims: np.ndarray) -> dict:
    """One encoder layer, names relative to the layer. Linear weights are [out, in]."""
    value = w[source + "attention.self.value.weight"]
    output = w[source + "attention.output.dense.weight"]
    heads = value.shape[0] // HEAD_SIZE
    split_v = value.reshape(heads, HEAD_SIZE, -1)
    split_o = output.reshape(-1, heads, HEAD_SIZE).transpose(1, 0, 2)
    kept_heads = largest(np.linalg.norm(split_o @ split_v, axis=(1, 2)), HIDDEN // HEAD_SIZE)
    rows = (kept_heads[:, None] * HEAD_SIZE + np.arange(HEAD_SIZE)).ravel()
    up, down = w[source + "intermediate.dense.weight"], w[source + "output.dense.weight"]
    neurons = largest(np.linalg.norm(up, axis=1) * np.linalg.norm(down, axis=0), NEURONS)

    out = {}
    for name in ("query", "key", "value"):
        part = f"attention.self.{name}."
        out[part + "weight"] = w[source + part + "weight"][np.ix_(rows, dims)]
        out[part + "bias"] = w[source + part + "bias"][rows]
    cuts = {
        "attention.output.dense.": (dims, rows),
        "intermediate.dense.": (neurons, dims),
        "output.dense.": (dims, neurons),
    }
    for part, (outputs, inputs) in cuts.items():
        out[part + "weight"] = w[source + part + "weight"][np.ix_(outputs, inputs)]
        out[part + "bias"] = w[source + part + "bias"][outputs]
    for part in ("attention.output", "output"):
        for name, value in layer_norm(w, source + part, dims).items():
            out[f"{part}.LayerNorm.{name}"] = value
    return out


def cut_weights(w: dict, keep: list) -> dict:
    """All tensors of the small BERT with a two-label head, under Hugging Face's names."""
    norms = ["embeddings.LayerNorm"]
    for layer in LAYERS:
        norms += [f"encoder.layer.{layer}.{p}.LayerNorm" for p in ("attention.output", "output")]
    dims = largest(sum(np.square(w[name + ".weight"], dtype=np.float64) for name in norms), HIDDEN)

    out = {}
    for name, rows in (("word", keep), ("position", range(POSITIONS)), ("token_type", range(2))):
        name = f"embeddings.{name}_embeddings.weight"
        out[name] = w[name][np.ix_(list(rows), dims)]
    for name, value in layer_norm(w, "embeddings", dims).items():
        out[f"embeddings.LayerNorm.{name}"] = value
    for n, layer in enumerate(LAYERS):
        for name, value in cut_layer(w, f"encoder.layer.{layer}.", dims).items():
            out[f"encoder.layer.{n}.{name}"] = value
    random = np.random.Generator(np.random.PCG64(0))
    out["pooler.dense.weight"] = random.normal(0.0, 0.02, (HIDDEN, HIDDEN))
    out["pooler.dense.bias"] = np.zeros(HIDDEN)
    out = {"bert." + name: value for name, value in out.items()}
    out["classifier.weight"] = random.normal(0.0, 0.02, (len(LABELS), HIDDEN))
    out["classifier.bias"] = np.zeros(len(LABELS))
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def config(vocab_size: int) -> dict:
    return {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": HIDDEN,
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "initializer_range": 0.02,
        "intermediate_size": NEURONS,
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "model_type": "bert",
        "num_attention_heads": HIDDEN // HEAD_SIZE,
        "num_hidden_layers": len(LAYERS),
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    }


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: make_start.py MINILM_FOLDER OUT_FOLDER")
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    weights = load_file(source / "model.safetensors")
    weights = {name.removeprefix("bert."): value for name, value in weights.items()}
    keep = cut_vocabulary(tokenizer, tokens, VOCAB)
    tensors = cut_weights(weights, keep)

    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config(len(keep)), indent=2) + "\n"
    (out / "config.json").write_text(text, "utf-8")
    (out / "vocab.txt").write_text("".join(tokens[i] + "\n" for i in keep), "utf-8")
    original = json.loads((source / "tokenizer.json").read_text("utf-8"))
    cut = cut_tokenizer(original, tokens, keep)
    text = json.dumps(cut, ensure_ascii=False, separators=(",", ":"))
    (out / "tokenizer.json").write_text(text, "utf-8")
    total = sum(t.size for t in tensors.values())
    linear = sum(t.size for k, t in tensors.items() if ".layer." in k and t.ndim == 2)
    print(f"{len(keep)} pieces, {total:,} parameters, {linear:,} of them in compressible linears")


if __name__ == "__main__":
    main()
