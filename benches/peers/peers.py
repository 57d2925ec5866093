"""Times forward passes of PyTorch, the published deployed form, ONNX Runtime, OpenVINO and losparse, alternating.

    cargo build --release --example forward_server
    python benches/peers/models.py OUT
    python benches/peers/peers.py OUT target/release/examples/forward_server --batch 1 8 32

OUT is the folder that models.py wrote for an architecture (`--architecture deberta`: OUT/deberta of `models.py
OUT/deberta deberta`). `--scaling` times PyTorch dense and losparse at lengths 64 to 512 and batches 1 to 64, in a
few rounds.

Every round runs every contestant once, starting from a different one and in reverse every other round. Speed is the
median over rounds of PyTorch dense's time over the contestant's in the same round. CPU time (of all threads) is
given too. Logits are compared with PyTorch's from the same weights first.

The int8 forms of ours are `losparse quantize OUT/dense -o OUT/dense-int8`, and likewise of OUT/compact-20 and
OUT/compact-10.

Needs torch, transformers, safetensors, onnx, onnxscript, onnxruntime, openvino, nncf.
"""

import json
import os
import pathlib

import turns

EVERYTHING = ["onednn", "deployed", "onnx", "openvino", "dense", "training", "compact", "int8"]
# What peers are known to do on an idle machine of two AVX-512 cores, 128 tokens: milliseconds of
# PyTorch dense, and how much faster others are, each from the slowest to the fastest measured.
PYTORCH_MS = {
    "bert": {1: (119, 126), 8: (732, 761), 32: (2790, 2870)},
    "deberta": {1: (202, 202), 8: (1091, 1091), 32: (4419, 4419)},
}
SPEEDS = {
    "published form 20%": {1: (1.9, 2.1), 8: (1.9, 1.9), 32: (1.2, 1.2)},
    "published form 10%": {1: (2.2, 2.6), 8: (2.9, 2.9), 32: (1.5, 1.5)},
    "ONNX Runtime fp32": {1: (119 / 99, 126 / 99)},
    "ONNX Runtime int8": {1: (119 / 35, 126 / 35)},
}


def arguments():
    parser = turns.parser(__doc__.splitlines()[0])
    parser.add_argument("models", type=pathlib.Path, help="the folder that models.py wrote")
    parser.add_argument("server", help="the built example forward_server")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--length", type=int, nargs="+", default=[128])
    parser.add_argument("--architecture", default="bert", choices=["bert", "deberta"])
    parser.add_argument("--ratios", type=int, nargs="+", default=[20, 10])
    parser.add_argument("--contestants", nargs="*", default=EVERYTHING, choices=EVERYTHING)
    parser.add_argument("--scaling", action="store_true")
    args = parser.parse_args()
    if args.scaling:
        args.contestants = ["dense", "compact"]
        args.batch, args.length = [1, 4, 16, 64], [64, 128, 256, 512]
        args.rounds = min(args.rounds, 3)
    return args


def contestants(args, batch, length):
    """By name, in order, each with the folder of a dense model of the same weights; the first is what
    others are compared to."""
    env, folder = turns.environment(args), args.models

    def peer(kind, path, *rest):
        command = turns.python("forward_peer.py", kind, folder / path, batch, length, *rest)
        return turns.Contestant(command, env)

    def ours(path):
        return turns.Contestant([args.server, folder / path, batch, length], env)

    made = {"PyTorch dense": (peer("pytorch", "dense"), "dense")}
    if "onednn" in args.contestants:
        made["PyTorch dense by oneDNN"] = (peer("onednn", "dense"), "dense")
    for ratio in args.ratios if "deployed" in args.contestants else []:
        path = f"dense-{ratio}"
        made[f"published form {ratio}%"] = (
            peer("published", path, ratio, args.architecture), path)
    if "onnx" in args.contestants:
        for kind in ("fp32", "int8"):
            made[f"ONNX Runtime {kind}"] = (peer("onnx", "dense", kind), "dense")
    if "openvino" in args.contestants:
        for kind in ("fp32", "bf16", "int8"):
            made[f"OpenVINO {kind}"] = (peer("openvino", "dense", kind), "dense")
    if "dense" in args.contestants:
        made["ours, dense"] = (ours("dense"), "dense")
    for form in ("training", "compact"):
        for ratio in args.ratios if form in args.contestants else []:
            name = f"ours, {ratio}%" + (" in training form" if form == "training" else "")
            made[name] = (ours(f"{form}-{ratio}"), f"dense-{ratio}")
    if "int8" in args.contestants:
        for path, name in {"dense": "dense", **{f"compact-{r}": f"{r}%" for r in args.ratios}}.items():
            made[f"ours, {name} in int8"] = (ours(f"{path}-int8"), path.replace("compact", "dense"))
    return made


def check(args, made, batch, length):
    """Logits against PyTorch's from the same weights; how far they are off."""
    references, errors = {}, {}
    for name, (contestant, path) in made.items():
        if path not in references:
            command = turns.python(
                "forward_peer.py", "pytorch", args.models / path, batch, length)
            reference = turns.Contestant(command, turns.environment(args))
            references[path] = json.loads(reference.ask("logits"))
            reference.close()
        logits = json.loads(contestant.ask("logits"))
        pairs = list(zip(logits, references[path], strict=True))
        errors[name] = max(abs(a - b) for a, b in pairs)
        size = max(abs(b) for _, b in pairs)
        print(f"  logits of {name}: within {errors[name]:.1e} of PyTorch's (largest {size:.2f})")
        if "int8" not in name and "bf16" not in name:
            assert errors[name] < 1e-4, f"{name}: logits differ from PyTorch's"
    return errors


def compare(args, rows, batch, length):
    """Adds what is known of peers to their rows; warns where they are more than 10% off."""
    if length != 128:
        return
    known = PYTORCH_MS[args.architecture].get(batch)
    for row in rows:
        if row["contestant"] == "PyTorch dense" and known:
            row["reference_ms"] = known
            off = turns.deviation(row["ms"], known)
            print(f"  PyTorch dense: {row['ms']:.0f} ms, known {known[0]} to {known[1]}: {off:+.0%}")
        between = SPEEDS.get(row["contestant"], {}).get(batch)
        if not between or args.architecture != "bert":
            continue
        off = turns.deviation(row["speed"], between)
        row["reference_speed"], row["deviation"] = between, off
        warning = "  warning: more than 10% off" if abs(off) > 0.1 else ""
        print(
            f"  {row['contestant']}: ×{row['speed']:.2f}, known ×{between[0]:.2f} to "
            f"×{between[1]:.2f}: {off:+.0%}{warning}")


def report(rows):
    print("| contestant | median ms | best ms | speed | CPU ms | speed by CPU time | at most MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['contestant']} | {row['ms']:.1f} | {row['best_ms']:.1f} | ×{row['speed']:.2f} "
            f"| {row['cpu_ms']:.1f} | ×{row['cpu_speed']:.2f} | {row['memory_mb']:.0f} |", flush=True)


def file_mb(args, name):
    """The size of the weights that a contestant of ours loads, in MB of 2²⁰ bytes."""
    paths = {"ours, dense": "dense", **{f"ours, {r}%": f"compact-{r}" for r in args.ratios}}
    paths |= {f"{ours} in int8": f"{path}-int8" for ours, path in paths.items()}
    path = args.models / paths.get(name, "") / "model.safetensors"
    return path.stat().st_size / 2**20 if name in paths else None


def main():
    args = arguments()
    result = {"script": "peers", "architecture": args.architecture, "threads": args.threads,
              "wait_policy": args.wait_policy, "rounds": args.rounds, "scaling": args.scaling,
              "machine": turns.announce(args), "shapes": []}
    for length in args.length:
        for batch in args.batch:
            print(f"\n{args.architecture}, batch {batch}, {length} tokens", flush=True)
            made = contestants(args, batch, length)
            # Of the same models in other shapes it is checked where they are compared with others.
            errors = {} if args.scaling else check(args, made, batch, length)
            running = {name: contestant for name, (contestant, _) in made.items()}
            warmup = 1 if args.scaling else 2
            rows = turns.rows_of(turns.measure(running, args.rounds, warmup=warmup))
            for row in rows:
                name = row["contestant"]
                row["memory_mb"], row["file_mb"] = running[name].memory(), file_mb(args, name)
                row["logits_error"] = errors.get(name)
            report(rows)
            compare(args, rows, batch, length)
            for contestant in running.values():
                contestant.close()
            load = os.getloadavg()[0]
            print(f"  load afterwards {load:.1f}")
            result["shapes"].append(
                {"batch": batch, "length": length, "load_after": load, "rows": rows})
            kind = "scaling" if args.scaling else "peers"
            sizes = "-".join(map(str, args.batch))
            turns.save(args, args.models, f"{kind}-{args.architecture}-{sizes}.json", result)


if __name__ == "__main__":
    main()
