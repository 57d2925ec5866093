"""Makes a small BART to start from: random weights, and a byte-level tokenizer of the training data.

    pip install torch transformers tokenizers
    python xsum_start.py XSUM/train.jsonl START
"""

import json
import pathlib
import sys

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BartConfig, BartForConditionalGeneration

data, folder = map(pathlib.Path, sys.argv[1:])
folder.mkdir(parents=True)
rows = [json.loads(line) for line in data.open()]
tokenizer = ByteLevelBPETokenizer()
special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
texts = [row[column] for row in rows for column in ("document", "summary")]
tokenizer.train_from_iterator(texts, vocab_size=4000, special_tokens=special, show_progress=False)
tokenizer.save_model(str(folder))  # vocab.json and merges.txt
torch.manual_seed(1)
config = BartConfig(
    vocab_size=tokenizer.get_vocab_size(),
    d_model=128,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=512,
    decoder_ffn_dim=512,
    max_position_embeddings=256,
    forced_eos_token_id=2,
)
BartForConditionalGeneration(config).save_pretrained(folder)
