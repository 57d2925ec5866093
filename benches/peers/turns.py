"""Common parts of the scripts in this folder: contestants that alternate, each in its own process.

A contestant answers lines: `run` with wall-clock and CPU milliseconds (and whatever else a script asks
for), `memory` with its peak resident size in MB. Its process is stopped while another runs, so that none of
its threads spins, waits or cleans up in another's time.
"""

import argparse
import atexit
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ["torch", "transformers", "onnxruntime", "openvino", "nncf", "numpy"]


def parser(description, rounds=15):
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--threads", type=int, default=os.cpu_count())
    made.add_argument(
        "--wait-policy", default="unset", choices=["unset", "active", "passive"],
        help="OMP_WAIT_POLICY of PyTorch: what its threads do between operations",
    )
    made.add_argument("--json", help="where the result goes (default: results/ beside the models)")
    return made


def environment(args):
    """Of a contestant: so many threads, whichever library starts them."""
    made = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for library in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        made[f"{library}_NUM_THREADS"] = str(args.threads)
    made.pop("OMP_WAIT_POLICY", None)
    if args.wait_policy != "unset":
        made["OMP_WAIT_POLICY"] = args.wait_policy.upper()
    return made


def machine():
    """The processor with its AVX-512 flags, the load, and versions."""
    name, flags = platform.machine(), []
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
            if line.startswith("flags"):
                flags = [flag for flag in line.split() if flag.startswith(("avx2", "avx512"))]
    except OSError:
        pass
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "flags": flags,
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": versions,
        "date": datetime.date.today().isoformat(),
    }


def announce(args):
    """Prints and gives the machine; warns if others use it."""
    found = machine()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    print(f"{found['processor']}, {found['cores']} cores, {' '.join(found['flags'])}")
    print(f"{versions}; load {found['load'][0]}")
    print(f"{args.threads} threads, OMP_WAIT_POLICY {args.wait_policy}, {args.rounds} rounds")
    if found["load"][0] > 0.5:
        print(f"warning: a load of {found['load'][0]} before the first contestant: not idle")
    sys.stdout.flush()
    return found


alive = []


@atexit.register
def end_all():
    for process in alive:
        process.kill()


class Contestant:
    """A process that answers lines, stopped while it is not asked."""

    def __init__(self, command, environment):
        pipe = subprocess.PIPE
        self.name = " ".join(map(str, command))
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=pipe, stdout=pipe, text=True, env=environment
        )
        alive.append(self.process)
        self.read("ready")
        self.process.send_signal(signal.SIGSTOP)

    def read(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise SystemExit(f"`{self.name}` answered `{line}`; see its message above")
        return line

    def ask(self, what):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.read()
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def run(self, what="run"):
        return [float(number) for number in self.ask(what).split()]

    def memory(self):
        return float(self.ask("memory"))

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()
        alive.remove(self.process)


def python(script, *arguments):
    """The command of a contestant written in Python."""
    return [sys.executable, HERE / script, *arguments]


def order(names, number):
    """Contestants of a round: each round from another one on, every other round backwards, so that
    nobody always follows the same."""
    at = number % len(names)
    turned = names[at:] + names[:at]
    return turned[::-1] if number % 2 else turned


def measure(contestants, rounds, what="run", warmup=2):
    """All answers of every contestant."""
    names = list(contestants)
    answers = {name: [] for name in names}
    for number in range(-warmup, rounds):
        for name in order(names, number):
            time.sleep(0.005)
            answer = contestants[name].run(what)
            if number >= 0:
                answers[name].append(answer)
    return answers


def summary(answers, column):
    """Median and best of a column, and the median of the first contestant's time over the
    contestant's in the same round."""
    first = next(iter(answers.values()))
    made = {}
    for name, rows in answers.items():
        values = [row[column] for row in rows]
        speeds = [a[column] / b[column] for a, b in zip(first, rows) if b[column] > 0]
        made[name] = {
            "median": statistics.median(values),
            "best": min(values),
            "speed": statistics.median(speeds) if speeds else None,
        }
    return made


def rows_of(answers):
    """A row a contestant: wall clock and CPU time."""
    wall, cpu = summary(answers, 0), summary(answers, 1)
    return [
        {
            "contestant": name,
            "ms": wall[name]["median"],
            "best_ms": wall[name]["best"],
            "speed": wall[name]["speed"],
            "cpu_ms": cpu[name]["median"],
            "cpu_speed": cpu[name]["speed"],
        }
        for name in answers
    ]


def deviation(value, between):
    """How far a value is outside of two others, as a share of the nearer one; 0 within."""
    low, high = between
    if low <= value <= high:
        return 0.0
    near = low if value < low else high
    return value / near - 1


def save(args, folder, name, result):
    """Writes a result as JSON; gives the path."""
    path = pathlib.Path(args.json) if args.json else pathlib.Path(folder) / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)
    print(f"written to {path}")
    return path


def serve(commands):
    """Answers lines on standard input: the first word is looked up in `commands`, the rest is its
    argument. What libraries print goes to the other stream."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    commands = {"memory": lambda: f"{peak_memory():.1f}", **commands()}
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        answer = commands[word](*([rest] if rest else []))
        print(answer, file=answers, flush=True)


def peak_memory():
    """The greatest resident size so far in MB."""
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def timed(work):
    """What `work` gives, with wall-clock and CPU milliseconds before it."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu), result
