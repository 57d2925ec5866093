"""Times training steps of the published form in PyTorch, with and without its pruner, and of losparse.

    cargo build --release --example training_server
    python benches/peers/models.py OUT
    python benches/peers/training.py OUT target/release/examples/training_server --batch 16

A step is forward pass, backward pass, AdamW, importance and, every ten steps, selection. Contestants
alternate step by step. A contestant's time is the mean over all rounds, a multiple of ten, so that each has done
the same number of selections. Before that, first losses from the same weights and without dropout must be equal.
The peak resident size is that of a process that only trains.

Needs torch, transformers and safetensors.
"""

import json
import os
import pathlib
import statistics
import tempfile

import turns

INTERVAL = 10
FORMS = {
    "published form with its pruner": "published",
    "published form, no pruner": "no-pruner",
    "ours, regrowth allowed": "allowed",
    "ours, frozen": "frozen",
    "ours, dense": "dense",
}


def arguments():
    parser = turns.parser(__doc__.splitlines()[0], rounds=2 * INTERVAL)
    parser.add_argument("models", type=pathlib.Path, help="the folder that models.py wrote")
    parser.add_argument("server", help="the built example training_server")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--forms", nargs="+", default=list(FORMS.values()), choices=FORMS.values())
    args = parser.parse_args()
    if args.rounds % INTERVAL:
        parser.error(f"--rounds is to be a multiple of {INTERVAL}: each window has one selection")
    return args


def contestant(args, form, folder):
    shape = [folder, args.batch, args.length, args.ratio]
    if form in ("published", "no-pruner"):
        command = turns.python("train_peer.py", form, *shape)
    else:
        command = [args.server, *shape, form]
    return turns.Contestant(command, turns.environment(args))


def without_dropout(folder, to):
    """The same model with all dropout probabilities 0."""
    for path in folder.iterdir():
        if path.name != "config.json":
            (to / path.name).symlink_to(path.resolve())
    config = json.loads((folder / "config.json").read_text())
    for key in config:
        if "dropout" in key:
            config[key] = 0.0
    (to / "config.json").write_text(json.dumps(config))
    return to


def check(args, names):
    """The first step's loss of every contestant, which must be the same."""
    losses = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = without_dropout(args.models / "dense", pathlib.Path(temporary))
        for name in names:
            made = contestant(args, FORMS[name], folder)
            losses[name] = float(made.ask("loss"))
            made.close()
    first = next(iter(losses.values()))
    for name, loss in losses.items():
        print(f"  first loss without dropout of {name}: {loss:.7f}", flush=True)
        # Some thousand additions in f32.
        assert abs(loss - first) <= 1e-5 * max(1, abs(first)), f"{name} starts elsewhere: {losses}"
    return losses


def main():
    args = arguments()
    result = {"script": "training", "threads": args.threads, "wait_policy": args.wait_policy,
              "rounds": args.rounds, "machine": turns.announce(args), "batch": args.batch,
              "length": args.length, "ratio": args.ratio}
    names = [name for name, form in FORMS.items() if form in args.forms]
    print(f"BERT-base, batch {args.batch}, {args.length} tokens, to {args.ratio:.0%}")
    losses = check(args, names)
    running = {name: contestant(args, FORMS[name], args.models / "dense") for name in names}
    answers = turns.measure(running, args.rounds)
    first = statistics.mean(row[0] for row in answers[names[0]])
    medians = turns.summary(answers, 0)
    rows = []
    print("| contestant | mean ms a step | speed | median | passes | update | at most MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, steps in answers.items():
        mean = [statistics.mean(column) for column in zip(*steps)]
        row = {"contestant": name, "ms": mean[0], "speed": first / mean[0], "cpu_ms": mean[1],
               "median_ms": medians[name]["median"], "first_loss": losses[name],
               "memory_mb": running[name].memory()}
        parts = ["", ""]
        if len(mean) > 2:
            row["passes_ms"], row["update_ms"] = mean[2:4]
            parts = [f"{mean[2]:.0f}", f"{mean[3]:.0f}"]
        rows.append(row)
        print(
            f"| {name} | {row['ms']:.0f} | ×{row['speed']:.2f} | {row['median_ms']:.0f} "
            f"| {parts[0]} | {parts[1]} | {row['memory_mb']:.0f} |", flush=True)
    for made in running.values():
        made.close()
    result |= {"rows": rows, "load_after": os.getloadavg()[0]}
    print(f"load afterwards {result['load_after']:.1f}")
    turns.save(args, args.models, f"training-{args.batch}.json", result)


if __name__ == "__main__":
    main()
