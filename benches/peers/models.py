"""Makes models of BERT-base's, DeBERTa-v3-base's or BART-base's shape, with random weights.

    python benches/peers/models.py OUT [bert | deberta | bart]

OUT/dense is a Hugging Face model. For every ratio R (20 and 10; BART 30) the same weights come in three forms:
OUT/dense-R for Hugging Face, with low-rank rows for pruned neurons; OUT/training-R, losparse's `L·R + S`;
OUT/compact-R, folded. A twentieth of the weights is in the low-rank part. The kept neurons are those of a trained
model, from kept-R.json (kept-bart-R.json), which kept.py wrote.
"""

import json
import math
import pathlib
import sys

import torch
import transformers.utils.logging
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
)

import kept as kept_files

transformers.utils.logging.disable_progress_bar()

LOW_RANK = 0.05
SEED = 7


def bert():
    return BertForSequenceClassification(BertConfig(num_labels=2))


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
    return DebertaV2ForSequenceClassification(config)


def bart():
    """With random signs in the last normalisation: what it writes depends on what it has read. Otherwise
    tied embeddings would make each token predict itself."""
    config = BartConfig(
        d_model=768,
        encoder_layers=6,
        decoder_layers=6,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
    )
    model = BartForConditionalGeneration(config)
    with torch.no_grad():
        scale = model.model.decoder.layers[-1].final_layer_norm.weight
        scale.copy_(torch.randn(scale.shape).sign())
    return model


ARCHITECTURES = {"bert": bert, "deberta": deberta, "bart": bart}
RATIOS = {"bert": [20, 10], "deberta": [20, 10], "bart": [30]}


def linears(model):
    """The compressible layers by name, in the order of computation."""
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and kept_files.place(name) is not None:
            found[kept_files.place(name)] = (name, layer)
    return dict(found[place] for place in sorted(found))


def select(layers, ratio, architecture):
    """Kept neurons of every layer."""
    name = f"kept-{'bart-' if architecture == 'bart' else ''}{round(100 * ratio)}.json"
    chosen = kept_files.read(kept_files.HERE / name, ratio - LOW_RANK)
    selected = {}
    for (layer_name, layer), (d_output, d_input, kept) in zip(layers.items(), chosen, strict=True):
        found = tuple(layer.weight.shape)
        assert found == (d_output, d_input), f"{name}: {layer_name} is {found}"
        selected[layer_name] = torch.tensor(kept, dtype=torch.int64)
    return selected


def parts(weight, kept, generator):
    """L, R and S's kept rows: pruned rows of the weight become low-rank, kept ones stay."""
    d_output, d_input = weight.shape
    rank = math.ceil(LOW_RANK * d_output * d_input / (d_output + d_input))
    std = (weight.std().item() / math.sqrt(rank)) ** 0.5
    left = torch.randn(d_output, rank, generator=generator) * std
    right = torch.randn(rank, d_input, generator=generator) * std
    sparse = weight[kept] - left[kept] @ right
    return left, right, sparse


def make(ratio, architecture="bert"):
    """The dense model, and the parts of every compressed layer."""
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    model = ARCHITECTURES[architecture]().eval()
    if ratio >= 1:
        return model, {}
    layers = linears(model)
    kept = select(layers, ratio, architecture)
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


def training_tensors(tensors, compressed):
    """The tensors of `L·R + S`."""
    tensors = dict(tensors)
    for name, (kept, left, right, sparse) in compressed.items():
        whole = torch.zeros_like(tensors.pop(f"{name}.weight"))
        whole[kept] = sparse
        new = {"left": left.contiguous(), "right": right.contiguous(), "sparse": whole}
        tensors.update({f"{name}.{k}": v for k, v in new.items()})
    return tensors


def compact_tensors(tensors, compressed):
    """The tensors of the folded form, and their number of weights over the dense number."""
    tensors = dict(tensors)
    stored = dense = 0
    for name, (kept, left, right, _) in compressed.items():
        weight = tensors.pop(f"{name}.weight")
        d_output, d_input = weight.shape
        rank, others = right.shape[0], d_output - len(kept)
        other = torch.ones(d_output, dtype=torch.bool)
        other[kept] = False
        order = torch.empty(d_output, dtype=torch.int64)
        order[kept] = torch.arange(len(kept))
        order[other] = torch.arange(len(kept), d_output)
        if d_input * (len(kept) + rank) + rank * others < weight.numel():
            new = {
                "kept_weight": weight[kept].contiguous(),
                "right": right.contiguous(),
                "left": left[other].contiguous(),
            }
            tensors[f"{name}.order"] = order
        else:
            new = {"weight": weight}
        stored += sum(t.numel() for t in new.values())
        dense += weight.numel()
        tensors.update({f"{name}.{k}": v for k, v in new.items()})
    return tensors, stored / dense


def main():
    out = pathlib.Path(sys.argv[1])
    architecture = sys.argv[2] if len(sys.argv) > 2 else "bert"
    make(1, architecture)[0].save_pretrained(out / "dense")
    for percent in RATIOS[architecture]:
        model, compressed = make(percent / 100, architecture)
        dense = out / f"dense-{percent}"
        model.save_pretrained(dense)
        tensors = load_file(dense / "model.safetensors")
        compact, measured = compact_tensors(tensors, compressed)
        forms = {"training": training_tensors(tensors, compressed), "compact": compact}
        for form, tensors in forms.items():
            folder = out / f"{form}-{percent}"
            folder.mkdir(parents=True, exist_ok=True)
            config = json.loads((dense / "config.json").read_text())
            # The first version of the format, which has no checksum of the weights.
            config["losparse"] = {"format_version": 1}
            (folder / "config.json").write_text(json.dumps(config, indent=2))
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        shares = [len(kept) / left.shape[0] for kept, left, _, _ in compressed.values()]
        print(
            f"{out}, {percent}%: {100 * min(shares):.1f}% to {100 * max(shares):.1f}% of a layer's "
            f"neurons kept; folded, {100 * measured:.2f}% of the linear weights are stored"
        )


if __name__ == "__main__":
    main()
