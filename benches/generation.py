"""The measurement of generation.rs with PyTorch's `generate`.

    python benches/generation.py [8x6 ...]
"""

import sys
import time

import torch
from transformers import BartConfig, BartForConditionalGeneration

SOURCE, NEW_TOKENS = 256, 64


def main():
    torch.set_num_threads(2)
    torch.manual_seed(1)
    config = BartConfig(
        d_model=768, encoder_layers=6, decoder_layers=6, encoder_ffn_dim=3072,
        decoder_ffn_dim=3072, encoder_attention_heads=12, decoder_attention_heads=12)
    model = BartForConditionalGeneration(config).eval()
    print(f"{'batch':>5} {'beams':>5} {'cache':>8} {'tokens/s':>10} {'seconds':>9}")
    for batch, beams in ((1, 1), (1, 6), (8, 1), (8, 6)):
        if sys.argv[1:] and f"{batch}x{beams}" not in sys.argv[1:]:
            continue
        ids = (torch.arange(batch * SOURCE) * 7919 % 50_000 + 4).reshape(batch, SOURCE)
        for cache in (True, False):
            if not cache and batch * beams > 8:
                continue
            best = float("inf")
            for _ in range(4 if cache else 1):
                start = time.perf_counter()
                with torch.inference_mode():
                    model.generate(
                        ids, attention_mask=torch.ones_like(ids), num_beams=beams,
                        max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, use_cache=cache,
                        do_sample=False)
                best = min(best, time.perf_counter() - start)
            rate = batch * NEW_TOKENS / best
            print(f"{batch:>5} {beams:>5} {'yes' if cache else 'no':>8} {rate:>10.1f} {best:>9.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
