"""Lets contestants take turns on one machine and prints their times and speeds.

    cargo build --release --example forward_server
    python benches/peers/models.py OUT
    python benches/peers/peers.py OUT target/release/examples/forward_server --batch 1 8 32

Every round runs every contestant once, each round from another one on; speed is the median over rounds
of PyTorch dense's time over the contestant's in the same round. CPU time (of all threads) is given too:
on a machine that others use, it says more than wall-clock time.

Needs torch, transformers, safetensors, onnx, onnxscript, onnxruntime.
"""

import argparse
import os
import statistics
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", help="the folder that models.py wrote")
    parser.add_argument("server", help="the built example forward_server")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--architecture", default="bert", choices=["bert", "deberta"])
    parser.add_argument("--ratios", type=int, nargs="+", default=[20, 10])
    everything = ["deployed", "onnx", "ours", "dense"]
    parser.add_argument("--contestants", nargs="+", default=everything, choices=everything)
    return parser.parse_args()


args = arguments()
# Before torch: waiting threads sleep instead of taking the next contestant's time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402
import transformers  # noqa: E402

import contestants  # noqa: E402
import models  # noqa: E402

transformers.logging.set_verbosity_error()


def machine():
    flags = ""
    name = "unknown"
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.split(":")[1].strip()
        if line.startswith("flags"):
            flags = " ".join(f for f in line.split() if f.startswith(("avx2", "avx512f", "avx512_v")))
    return f"{name}, {os.cpu_count()} cores, {flags}; load {os.getloadavg()[0]:.1f}"


def check(made, batch):
    """Logits against PyTorch's from the same weights."""
    ids = made["PyTorch dense"].ids
    for name, contestant in made.items():
        ratio = next((r for r in args.ratios if f"{r}%" in name), 100)
        reference = contestants.PyTorch(models.make(ratio / 100, args.architecture)[0], ids).logits()
        logits = contestant.logits()
        error = max(abs(a - b) for a, b in zip(logits, reference, strict=True))
        size = max(abs(b) for b in reference)
        print(f"  logits of {name}: within {error:.1e} of PyTorch's (largest {size:.2f})")
        if "int8" not in name:
            assert error < 1e-4, name


def measure(made):
    names = list(made)
    wall, cpu = ({name: [] for name in names} for _ in range(2))
    for number in range(-2, args.rounds):
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            time.sleep(0.005)
            taken = made[name].run()
            if number >= 0:
                wall[name].append(taken[0])
                cpu[name].append(taken[1])
    return wall, cpu


def report(wall, cpu):
    first = next(iter(wall))

    def speeds(times, name):
        return statistics.median(a / b for a, b in zip(times[first], times[name]))

    print("| contestant | median ms | best ms | speed | CPU ms | speed by CPU time |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in wall:
        middle, best = statistics.median(wall[name]), min(wall[name])
        used = statistics.median(cpu[name])
        print(
            f"| {name} | {middle:.1f} | {best:.1f} | ×{speeds(wall, name):.2f} "
            f"| {used:.1f} | ×{speeds(cpu, name):.2f} |"
        )


def main():
    torch.set_num_threads(args.threads)
    print(machine())
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for batch in args.batch:
        shape = f"batch {batch}, {args.length} tokens"
        print(f"\n{args.architecture}, {shape}, {args.threads} threads, {args.rounds} rounds")
        made = contestants.all_of(args, batch, contestants.input_ids(batch, args.length))
        check(made, batch)
        wall, cpu = measure(made)
        report(wall, cpu)
        for name, contestant in made.items():
            if hasattr(contestant, "memory"):
                print(f"  {name}: at most {contestant.memory():.0f} MB")
            contestant.close()
        print(f"  load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
