"""Writes which neurons a trained model kept; every benchmark reads that file.

    python benches/peers/kept.py MODEL kept-20.json --keep 0.15 --note "how MODEL was made"
    python benches/peers/kept.py MODEL kept-bart-30.json --keep 0.25 --like bart --note "..."

MODEL is a folder that `losparse compress` wrote (or a checkpoint, in training form). The file holds its layers in
the order of computation, neurons as a bitmap in hexadecimal, bit `i mod 8` of byte `i / 8` for neuron `i`. `--like`
carries the shares that MODEL's layers kept over to another size, by place in the stack; neurons are chosen at
random, and one exponent for all layers makes the total right. Needs numpy and safetensors (and torch, by safetensors).
"""

import argparse
import json
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
# Projections of a layer by their names in BERT, MPNet, DeBERTa and BART.
PARTS = [
    ["attention.self.query", "attention.attn.q", "attention.self.query_proj", "self_attn.q_proj"],
    ["attention.self.key", "attention.attn.k", "attention.self.key_proj", "self_attn.k_proj"],
    ["attention.self.value", "attention.attn.v", "attention.self.value_proj", "self_attn.v_proj"],
    ["attention.output.dense", "attention.attn.o", "self_attn.out_proj"],
    ["encoder_attn.q_proj"], ["encoder_attn.k_proj"],
    ["encoder_attn.v_proj"], ["encoder_attn.out_proj"],
    ["intermediate.dense", "fc1"],
    ["output.dense", "fc2"],
]
PART_OF = {name: at for at, names in enumerate(PARTS) for name in names}
LAYER = re.compile(r"(encoder|decoder)\.layers?\.(\d+)\.(.+)$")


def place(name):
    """Stack, layer and projection: what layers are ordered by; None for what is not compressed."""
    found = LAYER.search(name)
    if not found or found[3] not in PART_OF:
        return None
    return (found[1] == "decoder", int(found[2]), PART_OF[found[3]])


def stored(folder):
    """Place → (name, inputs, mask of kept neurons) of a folder's layers."""
    import torch
    from safetensors import safe_open

    layers = {}
    with safe_open(pathlib.Path(folder) / "model.safetensors", "pt") as file:
        names = set(file.keys())
        for tensor in names:
            name, _, suffix = tensor.rpartition(".")
            at = place(name)
            if at is None or suffix not in ("kept_weight", "kept_columns", "sparse", "weight"):
                continue
            if suffix == "kept_columns":
                raise SystemExit(f"{name}: columns were pruned, not neurons")
            value = file.get_tensor(tensor)
            if suffix == "weight":
                # Stored dense, since nearly all of its neurons are kept.
                mask = torch.ones(value.shape[0], dtype=torch.bool)
            elif suffix == "sparse":
                mask = value.abs().amax(1) > 0
            else:
                order = f"{name}.order"
                if order in names:
                    mask = file.get_tensor(order) < value.shape[0]
                else:
                    others = file.get_tensor(f"{name}.left").shape[0]
                    mask = torch.arange(value.shape[0] + others) < value.shape[0]
            layers[at] = (name, value.shape[1], mask.tolist())
    return dict(sorted(layers.items()))


def shapes(like):
    """Place → (outputs, inputs) of the layers of BERT-base or BART-base."""
    stacks = {"bert": [(False, 12, [0, 1, 2, 3, 8, 9])],
              "bart": [(False, 6, [0, 1, 2, 3, 8, 9]), (True, 6, list(range(10)))]}[like]
    sizes = {8: (3072, 768), 9: (768, 3072)}
    return {(stack, layer, part): sizes.get(part, (768, 768))
            for stack, depth, parts in stacks for layer in range(depth) for part in parts}


def carried_over(layers, like, keep):
    """Layers of another model that keep shares like these layers'."""
    import numpy

    depths = {}
    for stack, layer, _ in layers:
        depths[stack] = max(depths.get(stack, 0), layer + 1)
    target = shapes(like)
    target_depths = {}
    for stack, layer, _ in target:
        target_depths[stack] = max(target_depths.get(stack, 0), layer + 1)
    pruned = {}
    for stack, layer, part in target:
        source = (stack, layer * depths[stack] // target_depths[stack], part)
        mask = layers[source][2]
        # As if of one neuron more, of which half is kept: no layer is quite empty or full.
        pruned[stack, layer, part] = 1 - (sum(mask) + 0.5) / (len(mask) + 1)

    def counts(exponent):
        return {at: round(target[at][0] * (1 - share**exponent)) for at, share in pruned.items()}

    total = sum(d_output * d_input for d_output, d_input in target.values())
    low, high = 1e-3, 1e3
    for _ in range(100):
        middle = (low * high) ** 0.5
        kept = sum(count * target[at][1] for at, count in counts(middle).items())
        low, high = (low, middle) if kept > keep * total else (middle, high)
    random, made = numpy.random.default_rng(7), {}
    for at, count in counts(low).items():
        mask = numpy.zeros(target[at][0], dtype=bool)
        mask[random.permutation(target[at][0])[:count]] = True
        part = PARTS[at[2]][-1 if like == "bart" else 0]
        stack = "decoder" if at[0] else "encoder"
        name = f"{stack}.layer{'s' if like == 'bart' else ''}.{at[1]}.{part}"
        made[at] = (name, target[at][1], mask.tolist())
    return made


def bitmap(mask):
    return bytes(
        sum(1 << bit for bit, kept in enumerate(mask[at : at + 8]) if kept)
        for at in range(0, len(mask), 8)
    ).hex()


def read(path, keep):
    """Layers of a file in order, each as (outputs, inputs, indices of kept neurons).

    Fails if the share that is kept of all weights is more than 1% off `keep`."""
    content = json.loads(pathlib.Path(path).read_text())
    layers = []
    for layer in content["layers"]:
        bits = bytes.fromhex(layer["kept"])
        kept = [at for at in range(layer["d_output"]) if bits[at // 8] >> (at % 8) & 1]
        layers.append((layer["d_output"], layer["d_input"], kept))
    share = sum(len(kept) * d_input for _, d_input, kept in layers)
    share /= sum(d_output * d_input for d_output, d_input, _ in layers)
    assert abs(share / keep - 1) <= 0.01, f"{path} keeps {share:.4%} of the weights, not {keep:.2%}"
    return layers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--keep", type=float, required=True, help="share of weights in kept neurons")
    parser.add_argument("--like", choices=["bert", "bart"])
    parser.add_argument("--note", required=True, help="how the model was made")
    args = parser.parse_args()
    layers = stored(args.model)
    if args.like:
        layers = carried_over(layers, args.like, args.keep)
    lines = [
        json.dumps({"name": name, "d_output": len(mask), "d_input": d_input, "kept": bitmap(mask)})
        for name, d_input, mask in layers.values()
    ]
    head = {"keep": args.keep, "note": args.note, "carried_over": args.like}
    text = json.dumps(head)[:-1] + ', "layers": [\n' + ",\n".join(lines) + "\n]}\n"
    out = args.out if args.out.parent != pathlib.Path(".") else HERE / args.out
    temporary = out.with_suffix(".part")
    temporary.write_text(text)
    read(temporary, args.keep)
    temporary.replace(out)
    shares = [sum(mask) / len(mask) for _, _, mask in layers.values()]
    print(f"{out}: {len(layers)} layers, {min(shares):.1%} to {max(shares):.1%} of their neurons kept")


if __name__ == "__main__":
    main()
