"""Classifiers of BERT-base's or DeBERTa-v3-base's shape to measure: the same weights as a dense Hugging Face folder, as a
compact folder of this crate and as matrices for the published deployed form.

Weights are random. Which neurons are kept is uneven as after a global selection on a trained model:
importance is log-normal from layer to layer (sigma 0.8) and from neuron to neuron (sigma 1), and one
threshold over all layers, weighted by row length, keeps the share asked for.
"""

import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

LOW_RANK = 0.05


def bert():
    names = ["attention.self.query", "attention.self.key", "attention.self.value"]
    return BertForSequenceClassification(BertConfig(num_labels=2)), "bert", names


def deberta():
    """DeBERTa-v3-base, but for a vocabulary of 32,000 (the speed does not depend on it)."""
    config = DebertaV2Config(
        vocab_size=32000,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
        position_biased_input=False,
        num_labels=2,
    )
    names = ["attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"]
    return DebertaV2ForSequenceClassification(config), "deberta", names


ARCHITECTURES = {"bert": bert, "deberta": deberta}
OTHER_NAMES = ["attention.output.dense", "intermediate.dense", "output.dense"]


def select(shapes, keep, generator):
    """Kept neurons of every layer."""
    scores, lengths = {}, []
    for name, (d_output, d_input) in shapes.items():
        scale = torch.randn((), generator=generator) * 0.8
        scores[name] = torch.exp(scale + torch.randn(d_output, generator=generator))
        lengths.append(torch.full((d_output,), d_input))
    flat, lengths = torch.cat(list(scores.values())), torch.cat(lengths).double()
    order = flat.argsort(descending=True)
    within = lengths[order].cumsum(0) <= keep * lengths.sum()
    threshold = flat[order[int(within.sum()) - 1]]
    return {name: (s >= threshold).nonzero().flatten() for name, s in scores.items()}


def parts(weight, kept, generator):
    """L, R and S's kept rows: pruned rows of the weight become low-rank, kept ones stay."""
    d_output, d_input = weight.shape
    rank = math.ceil(LOW_RANK * d_output * d_input / (d_output + d_input))
    std = (0.02 / math.sqrt(rank)) ** 0.5
    left = torch.randn(d_output, rank, generator=generator) * std
    right = torch.randn(rank, d_input, generator=generator) * std
    sparse = weight[kept] - left[kept] @ right
    return left, right, sparse


def make(ratio, architecture="bert", seed=7):
    """The dense model, and the parts of every compressed layer."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model, prefix, names = ARCHITECTURES[architecture]()
    model.eval()
    if ratio >= 1:
        return model, {}
    layers = {}
    for i in range(model.config.num_hidden_layers):
        for name in names + OTHER_NAMES:
            name = f"{prefix}.encoder.layer.{i}.{name}"
            layers[name] = model.get_submodule(name)
    shapes = {name: layer.weight.shape for name, layer in layers.items()}
    kept = select(shapes, ratio - LOW_RANK, generator)
    compressed = {}
    with torch.no_grad():
        for name, layer in layers.items():
            layer.bias.normal_(0, 0.02, generator=generator)
            left, right, sparse = parts(layer.weight, kept[name], generator)
            weight = left @ right
            weight[kept[name]] += sparse
            layer.weight.copy_(weight)
            compressed[name] = (kept[name], left, right, sparse)
    return model, compressed


def compact_tensors(model, compressed):
    """The tensors of the folded form, and their number of weights over the dense number."""
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
    stored = dense = 0
    for name, (kept, left, right, _) in compressed.items():
        weight = tensors.pop(f"{name}.weight")
        d_output = weight.shape[0]
        other = torch.ones(d_output, dtype=torch.bool)
        other[kept] = False
        order = torch.empty(d_output, dtype=torch.int64)
        order[kept] = torch.arange(len(kept))
        order[other] = torch.arange(len(kept), d_output)
        new = {
            "kept_weight": weight[kept].contiguous(),
            "right": right.contiguous(),
            "left": left[other].contiguous(),
        }
        stored += sum(t.numel() for t in new.values())
        dense += weight.numel()
        tensors.update({f"{name}.{k}": v for k, v in new.items()} | {f"{name}.order": order})
    return tensors, stored / dense


def main():
    """models.py OUT [bert | deberta]: folders OUT/dense, OUT/dense-20, OUT/compact-20, OUT/dense-10 and
    OUT/compact-10."""
    out = pathlib.Path(sys.argv[1])
    architecture = sys.argv[2] if len(sys.argv) > 2 else "bert"
    for ratio in (1, 0.2, 0.1):
        model, compressed = make(ratio, architecture)
        name = "" if ratio >= 1 else f"-{round(100 * ratio)}"
        model.save_pretrained(out / f"dense{name}")
        if not compressed:
            continue
        tensors, measured = compact_tensors(model, compressed)
        folder = out / f"compact{name}"
        folder.mkdir(parents=True, exist_ok=True)
        config = json.loads((out / f"dense{name}" / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        shares = [len(k) / l.shape[0] for k, l, _, _ in compressed.values()]
        nominal = ratio - LOW_RANK
        rows = sum(len(k) * r.shape[1] for k, _, r, _ in compressed.values())
        total = sum(l.shape[0] * r.shape[1] for _, l, r, _ in compressed.values())
        print(
            f"{folder}: kept {100 * rows / total:.3f}% of the weights (asked for {100 * nominal:.0f}%), "
            f"by layer {100 * min(shares):.1f}% to {100 * max(shares):.1f}%; "
            f"folded, {100 * measured:.2f}% of the linear weights are stored"
        )


if __name__ == "__main__":
    main()
