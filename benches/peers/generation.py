"""Times generation of PyTorch, CTranslate2 and losparse, alternating: a model of `bart-base`'s shape, 256 tokens
of source, 64 new tokens, with and without a cache.

    cargo build --release --example generation_server
    python benches/peers/models.py OUT bart
    python benches/peers/generation.py OUT target/release/examples/generation_server

Speed is the median over rounds of PyTorch's time over the contestant's in the same round. Tokens in 32-bit floats are
first compared with PyTorch's from the same weights: equal or, at a tie, equally probable by PyTorch's own scores
(without beams at the first difference). Of tokens in 8-bit integers the share is printed that is PyTorch's: the model is
random, so that a token that differs changes all that follow.

Needs torch, transformers and safetensors, and ctranslate2 unless `--contestants` leaves it out. The contestants `int8`
take `dense-int8` and `compact-30-int8`, which `losparse quantize` writes.
"""

import json
import os
import pathlib

import turns

NEW_TOKENS = 64
# Tokens a second of PyTorch dense on an idle machine of two AVX-512 cores, with a cache.
PYTORCH = {"1x6": 20.3, "8x6": 30.4}
# Between log-probabilities in f32: what differs by less may be chosen either way.
TIE = 1e-3


def arguments():
    parser = turns.parser(__doc__.splitlines()[0])
    parser.add_argument("models", type=pathlib.Path, help="the folder that `models.py OUT bart` wrote")
    parser.add_argument("server", help="the built example generation_server")
    parser.add_argument("--shapes", nargs="+", default=["1x1", "1x6", "8x1", "8x6"],
                        help="batch x beams")
    parser.add_argument("--contestants", nargs="*", choices=["ctranslate", "int8"], default=["ctranslate", "int8"])
    parser.add_argument("--uncached-rounds", type=int, default=3, help="0: with a cache only")
    return parser.parse_args()


def check(args, running, caches):
    """Tokens against PyTorch's from the same weights, with a cache."""
    for name, path in (("ours, dense", "dense"), ("ours, 30%", "dense-30")):
        peer = turns.Contestant(
            turns.python("generation_peer.py", args.models / path), turns.environment(args))
        for shape in args.shapes:
            theirs = json.loads(peer.ask(f"tokens cached {shape}"))
            for words in (f"{cache} {shape}" for cache in caches):
                ours = json.loads(running[name].ask(f"tokens {words}"))
                compare(peer, f"{name}, {words}", ours, theirs)
        if path == "dense":
            inexact(args, running, peer)
        peer.close()


def inexact(args, running, peer):
    """Says how many tokens of those in other numbers, with a cache, are PyTorch's."""
    for name in running:
        if name not in ("PyTorch", "ours, dense") and "30%" not in name:
            for shape in args.shapes:
                theirs = json.loads(peer.ask(f"tokens cached {shape}"))
                found = json.loads(running[name].ask(f"tokens cached {shape}"))
                # CTranslate2 leaves the start token out, PyTorch ends with one that is forced.
                pairs = [pair for mine, row in zip(found, theirs, strict=True)
                         for pair in zip(mine[len(mine) - NEW_TOKENS:-1], row[len(row) - NEW_TOKENS:-1])]
                share = sum(mine == token for mine, token in pairs) / len(pairs)
                print(f"  tokens of {name}, {shape}: {share:.0%} are PyTorch's", flush=True)


def compare(peer, what, ours, theirs):
    differ = [at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    print(f"  tokens of {what}: {len(theirs) - len(differ)} of {len(theirs)} rows equal", flush=True)
    if not differ:
        return
    scores = [json.loads(peer.ask(f"score {json.dumps(rows)}")) for rows in (ours, theirs)]
    for at in differ:
        first = next(i for i, pair in enumerate(zip(ours[at], theirs[at])) if pair[0] != pair[1])
        if what.endswith("x1"):
            # The start token has no probability.
            mine, peers = (score[at][first - 1] for score in scores)
        else:
            mine, peers = (sum(score[at]) for score in scores)
        print(f"    row {at} from token {first} on: {mine:.6f} and PyTorch's {peers:.6f}")
        assert abs(mine - peers) < TIE, f"{what}: other tokens"


def main():
    args = arguments()
    result = {"script": "generation", "threads": args.threads, "wait_policy": args.wait_policy,
              "rounds": args.rounds, "machine": turns.announce(args), "shapes": []}
    env = turns.environment(args)
    running = {
        "PyTorch": turns.Contestant(turns.python("generation_peer.py", args.models / "dense"), env),
        "ours, dense": turns.Contestant([args.server, args.models / "dense"], env),
        "ours, 30%": turns.Contestant([args.server, args.models / "compact-30"], env),
    }
    if "int8" in args.contestants:
        for name, path in (("ours, dense in int8", "dense-int8"), ("ours, 30% in int8", "compact-30-int8")):
            running[name] = turns.Contestant([args.server, args.models / path], env)
    if "ctranslate" in args.contestants:
        for numbers in ("float32", "int8"):
            command = turns.python("ctranslate_peer.py", args.models / "dense", numbers)
            running[f"CTranslate2 {numbers}"] = turns.Contestant(command, env)
    caches = {"cached": args.rounds, "uncached": args.uncached_rounds}
    check(args, running, [cache for cache, rounds in caches.items() if rounds])
    print("| batch × beams | | tokens/s (median) | best | speed | CPU ms | speed by CPU time |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for cache, rounds in caches.items():
        for shape in args.shapes if rounds else []:
            tokens = int(shape.split("x")[0]) * NEW_TOKENS
            warmup = 1 if cache == "cached" else 0
            rows = turns.rows_of(turns.measure(running, rounds, f"run {cache} {shape}", warmup))
            for row in rows:
                row["tokens_per_second"] = 1e3 * tokens / row["ms"]
                print(
                    f"| {shape.replace('x', ' × ')}{', no cache' if cache != 'cached' else ''} "
                    f"| {row['contestant']} | {row['tokens_per_second']:.1f} "
                    f"| {1e3 * tokens / row['best_ms']:.1f} | ×{row['speed']:.2f} "
                    f"| {row['cpu_ms']:.0f} | ×{row['cpu_speed']:.2f} |", flush=True)
            if cache == "cached" and shape in PYTORCH:
                off = rows[0]["tokens_per_second"] / PYTORCH[shape] - 1
                rows[0]["reference_tokens_per_second"] = PYTORCH[shape]
                print(f"  PyTorch: known {PYTORCH[shape]} tokens/s: {off:+.0%}")
            result["shapes"].append({"shape": shape, "cache": cache, "rounds": rounds, "rows": rows})
            turns.save(args, args.models, "generation.json", result)
    for name, contestant in running.items():
        print(f"  {name}: at most {contestant.memory():.0f} MB")
        contestant.close()
    print(f"load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
