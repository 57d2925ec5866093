"""Training steps in turns: the published code's form in PyTorch, with and without its pruner, and ours.

    cargo build --release --example training_server
    python benches/peers/models.py OUT
    python benches/peers/training.py OUT/dense target/release/examples/training_server --batch 16

A step is forward pass, backward pass, AdamW, importance and, every ten steps, selection. Every round
runs ten steps of each contestant; a contestant's time is the mean step of a round, its speed the median
over rounds of the first contestant's time over its own in the same round.

Needs torch and transformers.
"""

import argparse
import os
import statistics
import subprocess
import time

STEPS = 10


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a dense classifier in Hugging Face's layout")
    parser.add_argument("server", help="the built example training_server")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--forms", nargs="+", default=["allowed", "frozen", "dense"])
    return parser.parse_args()


args = arguments()
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402
from transformers import AutoModelForSequenceClassification  # noqa: E402

LOW_RANK = 0.05


class Published(torch.nn.Module):
    """The published layer in training: the low-rank products, the product with the sparse part, a sum."""

    def __init__(self, layer):
        super().__init__()
        weight = layer.weight.data
        d_output, d_input = weight.shape
        rank = -int(-LOW_RANK * d_output * d_input // (d_output + d_input))
        u, s, v = torch.svd_lowrank(weight, rank, niter=2)
        root = s.sqrt()
        self.left = torch.nn.Parameter(u * root)
        self.right = torch.nn.Parameter(root[:, None] * v.T)
        self.sparse = torch.nn.Parameter(weight - self.left.data @ self.right.data)
        self.bias = layer.bias

    def forward(self, x):
        linear = torch.nn.functional.linear
        return linear(linear(x, self.right), self.left) + linear(x, self.sparse, self.bias)


class PyTorch:
    """Published form; `prunes`: with importance kept per entry, and selection over all entries."""

    def __init__(self, prunes):
        torch.manual_seed(7)
        self.model = AutoModelForSequenceClassification.from_pretrained(args.model).train()
        self.layers = []
        for name, layer in list(self.model.named_modules()):
            if isinstance(layer, torch.nn.Linear) and ".encoder.layer." in f".{name}":
                parent, child = name.rsplit(".", 1)
                made = Published(layer)
                setattr(self.model.get_submodule(parent), child, made)
                self.layers.append(made)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.0)
        ids = [1000 + 7919 * i % 20000 for i in range(args.batch * args.length)]
        self.ids = torch.tensor(ids).reshape(args.batch, args.length)
        self.labels = torch.arange(args.batch) % 2
        self.prunes, self.number = prunes, 0
        self.window = [torch.zeros_like(layer.sparse) for layer in self.layers] if prunes else []
        self.smoothed = [torch.zeros_like(layer.sparse) for layer in self.layers] if prunes else []

    def step(self):
        start = time.perf_counter()
        loss = self.model(self.ids, labels=self.labels).loss
        loss.backward()
        self.optimizer.step()
        if self.prunes:
            self.prune()
        self.optimizer.zero_grad()
        return 1e3 * (time.perf_counter() - start)

    @torch.no_grad()
    def prune(self):
        at = self.number % 10
        for layer, window, smoothed in zip(self.layers, self.window, self.smoothed):
            if at == 0:
                smoothed.mul_(0.85).add_(window, alpha=0.15)
                window.copy_((layer.sparse * layer.sparse.grad).abs())
            else:
                sample = (layer.sparse * layer.sparse.grad).abs()
                window.copy_((window * at + sample) / (at + 1))
        if at == 0:
            scores = [smoothed.mean(1, keepdim=True) for smoothed in self.smoothed]
            each = [s.expand_as(layer.sparse) for s, layer in zip(scores, self.layers)]
            entries = torch.cat([score.reshape(-1) for score in each])
            count = int(len(entries) * (1 - (args.ratio - LOW_RANK)))
            threshold = torch.kthvalue(entries, count)[0].item()
            for score, layer in zip(each, self.layers):
                layer.sparse.masked_fill_(score < threshold, 0.0)
        self.number += 1

    def memory(self):
        return None


class Ours:
    """This crate, in a process of its own that waits for its turn."""

    def __init__(self, form):
        shape = [str(args.batch), str(args.length), str(args.ratio)]
        environment = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [args.server, args.model, *shape, form],
            stdin=pipe, stdout=pipe, text=True, env=environment,
        )
        assert self.process.stdout.readline().strip() == "ready"
        self.updates = []

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def step(self):
        whole, _, update, _ = map(float, self.ask("run").split())
        self.updates.append(update)
        return whole

    def memory(self):
        return float(self.ask("memory"))


def main():
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"batch {args.batch}, {args.length} tokens, to {args.ratio:.0%}, {args.rounds} rounds")
    contestants = {
        "published form with its pruner": PyTorch(True),
        "published form, no pruner": PyTorch(False),
    }
    contestants |= {f"ours, {form}": Ours(form) for form in args.forms}
    times = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant.step()
    for _ in range(args.rounds):
        for name, contestant in contestants.items():
            times[name].append(statistics.mean(contestant.step() for _ in range(args.steps)))
    first = next(iter(times))
    print("| contestant | ms a step | speed | optimizer and pruning, ms | greatest memory, MB |")
    print("|---|---:|---:|---:|---:|")
    for name, contestant in contestants.items():
        middle = statistics.median(times[name])
        speed = statistics.median(a / b for a, b in zip(times[first], times[name]))
        updates = getattr(contestant, "updates", None)
        update = f"{statistics.mean(updates):.0f}" if updates else ""
        memory = contestant.memory()
        memory = f"{memory:.0f}" if memory else ""
        print(f"| {name} | {middle:.0f} | ×{speed:.2f} | {update} | {memory} |")
    print(f"load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
