"""Runs PyTorch's `generate` once for each line; see turns.py and `generation_server.rs`.

    generation_peer.py FOLDER

`score [[..], ..]` answers with the log-probabilities of sequences' tokens, for the same sources.
"""

import json
import os
import sys

import torch
import transformers.utils.logging
from transformers import BartForConditionalGeneration

import turns

SOURCE, NEW_TOKENS = 256, 64


def commands():
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = BartForConditionalGeneration.from_pretrained(sys.argv[1]).eval()

    def source(batch):
        return (torch.arange(batch * SOURCE) * 7919 % 50_000 + 4).reshape(batch, SOURCE)

    @torch.inference_mode()
    def generate(words):
        cache, shape = words.split(" ")
        batch, beams = map(int, shape.split("x"))
        ids = source(batch)
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beams, max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS, use_cache=cache == "cached", do_sample=False)

    def run(words):
        wall, cpu, _ = turns.timed(lambda: generate(words))
        return f"{wall} {cpu}"

    @torch.inference_mode()
    def score(sequences):
        rows = torch.tensor(json.loads(sequences))
        logits = model(source(len(rows)), decoder_input_ids=rows[:, :-1]).logits
        taken = logits.log_softmax(-1).gather(2, rows[:, 1:, None]).squeeze(2)
        # The last token is forced.
        return json.dumps(taken[:, :-1].tolist())

    return {"run": run, "score": score, "tokens": lambda words: json.dumps(generate(words).tolist())}


if __name__ == "__main__":
    turns.serve(commands)
