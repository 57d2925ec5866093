"""Runs CTranslate2's beam search once for each line; see turns.py and `generation_peer.py`.

    ctranslate_peer.py FOLDER NUMBERS

FOLDER holds a BART model of transformers, NUMBERS is `float32` or `int8`. The converted model is kept in
FOLDER/ctranslate2-NUMBERS. Its tokens are named by their ids.
"""

import json
import os
import pathlib
import sys
import tempfile

import ctranslate2
import transformers
from tokenizers import Tokenizer, models

import turns

SOURCE, NEW_TOKENS = 256, 64


def converted(folder, numbers):
    to = folder / f"ctranslate2-{numbers}"
    if not to.exists():
        config = transformers.AutoConfig.from_pretrained(folder)
        words = Tokenizer(models.WordLevel({str(i): i for i in range(config.vocab_size)}, unk_token="3"))
        ends = {name: str(getattr(config, f"{name}_id")) for name in ("bos_token", "eos_token", "pad_token")}
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="3", **ends)
        with tempfile.TemporaryDirectory() as named:
            # The converter asks for settings that transformers has given up.
            config.normalize_before, config.normalize_embedding = False, True
            config.save_pretrained(named)
            for file in ("generation_config.json", "model.safetensors"):
                os.symlink((folder / file).resolve(), f"{named}/{file}")
            tokenizer.save_pretrained(named)
            ctranslate2.converters.TransformersConverter(named).convert(str(to), quantization=numbers)
    return str(to)


def commands():
    threads = int(os.environ["OMP_NUM_THREADS"])
    folder, numbers = pathlib.Path(sys.argv[1]), sys.argv[2]
    model = ctranslate2.Translator(
        converted(folder, numbers), compute_type=numbers, inter_threads=1, intra_threads=threads)

    def generate(words):
        batch, beams = map(int, words.split(" ")[1].split("x"))
        ids = [[str(i * 7919 % 50_000 + 4) for i in range(row * SOURCE, (row + 1) * SOURCE)] for row in range(batch)]
        results = model.translate_batch(
            ids, beam_size=beams, max_decoding_length=NEW_TOKENS, min_decoding_length=NEW_TOKENS)
        return [[int(token) for token in result.hypotheses[0]] for result in results]

    def run(words):
        wall, cpu, _ = turns.timed(lambda: generate(words))
        return f"{wall} {cpu}"

    return {"run": run, "tokens": lambda words: json.dumps(generate(words))}


if __name__ == "__main__":
    turns.serve(commands)
