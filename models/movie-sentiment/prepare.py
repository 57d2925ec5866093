#!/usr/bin/env python3
"""Writes data/train.tsv and data/dev.tsv (columns: sentence, label) beside this file.

Source: the movie-review sentences of the PyPI source package vaderSentiment 0.5 (MIT licence),
each with the mean of about 20 human ratings from -4 (most negative) to 4 (most positive).
The file names no film and no reviewer, so the split cannot follow them; it follows a hash of the
text instead: fixed for ever, and equal texts always fall on the same side.

Needs Python 3.8 or later with pip, nothing else: python3 prepare.py
"""
import hashlib
import html
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

PACKAGE = "vaderSentiment==0.5"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
TAR = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
TEXTS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 0.5  # sentences whose mean rating lies strictly inside (-0.5, 0.5) are left out
DEV_SIZE = 1500
NEAR_DUPLICATE = 0.7  # Jaccard overlap of word sets at which a training sentence is dropped


def download() -> bytes:
    """The source archive, fetched by pip and checked against its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "-d", folder, PACKAGE], check=True)
        (path,) = Path(folder).iterdir()
        data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE_SHA256:
        sys.exit(f"{path.name}: SHA-256 is {found}, expected {ARCHIVE_SHA256}")
    return data


def rated_sentences(archive: bytes) -> list:
    """(mean rating, sentence) for each of the 10,605 lines."""
    with zipfile.ZipFile(io.BytesIO(archive)) as outer:
        with tarfile.open(fileobj=io.BytesIO(outer.read(TAR)), mode="r:gz") as inner:
            text = inner.extractfile(TEXTS).read().decode("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    return [(float(rating), clean(sentence)) for _, rating, sentence in rows]


def clean(sentence: str) -> str:
    """HTML entities undone, typewriter quotes made plain, runs of blanks made one blank."""
    sentence = html.unescape(html.unescape(sentence)).replace("''", '"').replace("`", "'")
    return re.sub(r"\s+", " ", sentence).strip()


def words(sentence: str) -> list:
    return re.findall(r"[^\W_]+", sentence.lower())


def unique(rows: list) -> list:
    """One (label, sentence) per distinct word sequence; texts rated both ways are left out."""
    labels, first = {}, {}
    for label, sentence in rows:
        key = " ".join(words(sentence))
        labels.setdefault(key, set()).add(label)
        first.setdefault(key, (label, sentence))
    return [(key, *first[key]) for key in first if key and len(labels[key]) == 1]


def near_duplicates(train: list, dev: list) -> set:
    """Keys of training sentences that share most of their words with a dev sentence."""
    sets = [set(key.split()) for key, _, _ in dev]
    holding = {}
    for i, s in enumerate(sets):
        for word in s:
            holding.setdefault(word, []).append(i)
    found = set()
    for key, _, _ in train:
        own = set(key.split())
        shared = Counter(i for word in own for i in holding.get(word, ()))
        if any(n / (len(own) + len(sets[i]) - n) >= NEAR_DUPLICATE for i, n in shared.items()):
            found.add(key)
    return found


def write(path: Path, rows: list) -> None:
    lines = ["sentence\tlabel", *(f"{sentence}\t{label}" for _, label, sentence in rows)]
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
    temporary.replace(path)
    counts = Counter(label for _, label, _ in rows)
    print(f"{path.name}: {len(rows)} sentences, {dict(sorted(counts.items()))}")


def main() -> None:
    rated = rated_sentences(download())
    labelled = [("positive" if r > 0 else "negative", s) for r, s in rated if abs(r) >= NEUTRAL]
    rows = unique(labelled)
    rows.sort(key=lambda row: hashlib.sha256(row[0].encode("utf-8")).hexdigest())
    dev, train = rows[:DEV_SIZE], rows[DEV_SIZE:]
    near = near_duplicates(train, dev)
    train = [row for row in train if row[0] not in near]
    print(f"{len(rated)} rated, {len(labelled)} not neutral, {len(rows)} distinct, {len(near)} near")
    data = Path(__file__).resolve().parent / "data"
    data.mkdir(exist_ok=True)
    write(data / "train.tsv", train)
    write(data / "dev.tsv", dev)


if __name__ == "__main__":
    main()
