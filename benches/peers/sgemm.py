"""Times bare f32 matrix products of PyTorch (MKL), with three ways of waiting, and of losparse.

    cargo build --release --example sgemm_server
    python benches/peers/sgemm.py target/release/examples/sgemm_server

Products of a layer's shapes show what a library gets out of this processor: if PyTorch reaches fewer GFLOP/s
here than on another processor, all ratios to it are greater here. Each way of waiting (OMP_WAIT_POLICY unset,
ACTIVE, PASSIVE) is a process of its own, and so is losparse; they alternate. Models call
torch.nn.functional.linear, computed by MKL, which chooses its kernels by the processor's maker. oneDNN's product
in the same PyTorch and NumPy's (OpenBLAS), which choose by its flags, are timed too. With `--oversleep` contestants
in Python sleep a little before each product, as between other operations of a model, so that threads that do not
spin must be woken.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import turns

# Rows (tokens), inputs, outputs.
SHAPES = [
    (rows, *sizes)
    for rows in (128, 1024, 4096)
    for sizes in ((768, 768), (768, 3072), (3072, 768), (768, 2304))
]


def commands():
    """The process of a library: `torch`, `onednn` or `numpy`."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    library, pause = os.environ["LIBRARY"], float(os.environ["PAUSE"])
    products = {}

    def product(rows, d_input, d_output):
        x, weight = torch.randn(rows, d_input), torch.randn(d_output, d_input)
        bias = torch.zeros(d_output)
        if library == "numpy":
            x, weight = x.numpy(), weight.numpy()
            return lambda: x @ weight.T
        if library == "onednn":
            x, weight, bias = x.to_mkldnn(), weight.to_mkldnn(), bias.to_mkldnn()
            return lambda: torch._C._nn.mkldnn_linear(x, weight, bias)
        return lambda: torch.nn.functional.linear(x, weight, bias)

    @torch.inference_mode()
    def run(words):
        if words not in products:
            products[words] = product(*map(int, words.split()))
        if pause:
            time.sleep(pause)
        wall, cpu, _ = turns.timed(products[words])
        return f"{wall} {cpu}"

    def about():
        text = torch.__config__.show() + torch.__config__.parallel_info()
        return json.dumps([line.strip() for line in text.splitlines() if line.strip()])

    return {"run": run, "about": about}


def main():
    parser = turns.parser(__doc__.splitlines()[0], rounds=31)
    parser.add_argument("server", help="the built example sgemm_server")
    parser.add_argument("--oversleep", type=float, default=0.0, help="seconds before each product")
    args = parser.parse_args()
    found = turns.announce(args)
    running = {}
    kinds = [("torch", policy) for policy in ("unset", "active", "passive")]
    for library, policy in [*kinds, ("onednn", "unset"), ("numpy", "unset")]:
        env = turns.environment(argparse.Namespace(threads=args.threads, wait_policy=policy))
        env |= {"PAUSE": str(args.oversleep), "LIBRARY": library}
        name = f"torch, {policy}" if library == "torch" else library
        running[name] = turns.Contestant(turns.python("sgemm.py", "--serve"), env)
    running["ours"] = turns.Contestant([args.server], turns.environment(args))
    about = json.loads(running["torch, unset"].ask("about"))
    for line in about:
        if any(word in line for word in ("Math Kernel", "MKL-DNN", "CPU capability")):
            print(f"  {line}")
    result = {"script": "sgemm", "threads": args.threads, "rounds": args.rounds, "machine": found,
              "oversleep": args.oversleep, "about": about, "shapes": []}
    print("| rows × inputs × outputs | " + " | ".join(f"{name}, GFLOP/s" for name in running) + " |")
    print("|---|" + "---:|" * len(running), flush=True)
    totals = {name: [] for name in running}
    for shape in SHAPES:
        words = " ".join(map(str, shape))
        answers = turns.measure(running, args.rounds, f"run {words}")
        operations = 2e-6 * shape[0] * shape[1] * shape[2]
        rates = {name: operations / statistics.median(row[0] for row in rows)
                 for name, rows in answers.items()}
        for name, rate in rates.items():
            totals[name].append(rate)
        result["shapes"].append({"shape": shape, "gflops": rates})
        print(f"| {' × '.join(map(str, shape))} | "
              + " | ".join(f"{rate:.0f}" for rate in rates.values()) + " |", flush=True)
    print("| median | " + " | ".join(f"{statistics.median(r):.0f}" for r in totals.values()) + " |")
    for contestant in running.values():
        contestant.close()
    turns.save(args, pathlib.Path("."), "sgemm.json", result)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        turns.serve(commands)
    else:
        main()
