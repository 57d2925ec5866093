"""Generations of generation.rs and of PyTorch's `generate`, which take turns: a model of `bart-base`'s
shape with random weights, 256 tokens of source, 64 new tokens.

    cargo bench --bench generation --no-run        # prints SERVER
    python benches/generation.py SERVER [8x6 ...] [--rounds 7] [--threads 2] [--uncached]

Speed is the median over rounds of PyTorch's time over the contestant's in the same round, by wall clock
and by CPU time (of all threads): on a machine that others use, the latter says more, most of all with
one thread, which waits for no other.
"""

import argparse
import os
import statistics
import subprocess
import time

# Before torch: waiting threads sleep instead of taking others' time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from transformers import BartConfig, BartForConditionalGeneration  # noqa: E402

SOURCE, NEW_TOKENS = 256, 64


class PyTorch:
    def __init__(self):
        torch.manual_seed(1)
        config = BartConfig(
            d_model=768, encoder_layers=6, decoder_layers=6, encoder_ffn_dim=3072,
            decoder_ffn_dim=3072, encoder_attention_heads=12, decoder_attention_heads=12)
        self.model = BartForConditionalGeneration(config).eval()

    @torch.inference_mode()
    def run(self, cached, batch, beams):
        ids = (torch.arange(batch * SOURCE) * 7919 % 50_000 + 4).reshape(batch, SOURCE)
        wall, cpu = time.perf_counter(), time.process_time()
        self.model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beams, max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS, use_cache=cached, do_sample=False)
        return time.perf_counter() - wall, time.process_time() - cpu


class Ours:
    def __init__(self, process, form):
        self.process, self.form = process, form

    def run(self, cached, batch, beams):
        cache = "cached" if cached else "uncached"
        self.process.stdin.write(f"{self.form} {cache} {batch}x{beams}\n")
        self.process.stdin.flush()
        wall, cpu = self.process.stdout.readline().split()
        return float(wall), float(cpu)


def measure(contestants, cached, batch, beams, rounds):
    names = list(contestants)
    taken = {name: [] for name in names}
    for number in range(rounds):
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            time.sleep(0.05)
            taken[name].append(contestants[name].run(cached, batch, beams))
    first = taken[names[0]]
    for name, times in taken.items():
        wall, cpu = (statistics.median(t[i] for t in times) for i in (0, 1))
        best = min(t[0] for t in times)
        speed = [statistics.median(a[i] / b[i] for a, b in zip(first, times)) for i in (0, 1)]
        tokens = batch * NEW_TOKENS
        cache = "" if cached else ", no cache"
        print(
            f"| {batch} × {beams}{cache} | {name} | {tokens / wall:.1f} | {tokens / best:.1f} "
            f"| ×{speed[0]:.2f} | {cpu:.2f} | ×{speed[1]:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="the built benchmark `generation`")
    parser.add_argument("shapes", nargs="*", default=["1x1", "1x6", "8x1", "8x6"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--uncached", action="store_true", help="also without a cache, up to 8 rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process = subprocess.Popen(
        [args.server, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "RAYON_NUM_THREADS": str(args.threads)})
    assert process.stdout.readline().strip() == "ready"
    contestants = {
        "PyTorch": PyTorch(), "ours, dense": Ours(process, "dense"), "ours, 30%": Ours(process, "30%")}
    print(
        f"torch {torch.__version__}, threads: {args.threads}, rounds: {args.rounds}, "
        f"load {os.getloadavg()[0]:.1f}")
    for contestant in contestants.values():
        contestant.run(True, 1, 1)
    print("| batch × beams | | tokens/s (median) | best | speed | CPU s | speed by CPU time |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for shape in args.shapes:
        batch, beams = map(int, shape.split("x"))
        measure(contestants, True, batch, beams, args.rounds)
        if args.uncached and batch * beams <= 8:
            measure(contestants, False, batch, beams, 1)
    print(f"load afterwards {os.getloadavg()[0]:.1f}")
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main()
