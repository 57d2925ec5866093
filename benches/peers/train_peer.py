"""Does a training step of the published form in PyTorch for each line `run`; see turns.py.

    train_peer.py published|no-pruner FOLDER BATCH LENGTH RATIO

FOLDER holds a dense classifier. A step is forward and backward pass, AdamW and, with the pruner,
importance kept per entry and, every ten steps, selection over all entries. `loss` answers with the loss of
the first step.
"""

import os
import sys

import torch
import transformers.utils.logging
from transformers import AutoModelForSequenceClassification

import turns

LOW_RANK = 0.05


class Published(torch.nn.Module):
    """The published layer in training: the low-rank products, the product with the sparse part, a sum."""

    def __init__(self, layer):
        super().__init__()
        weight = layer.weight.data
        d_output, d_input = weight.shape
        rank = -int(-LOW_RANK * d_output * d_input // (d_output + d_input))
        u, s, v = torch.svd_lowrank(weight, rank, niter=2)
        root = s.sqrt()
        self.left = torch.nn.Parameter(u * root)
        self.right = torch.nn.Parameter(root[:, None] * v.T)
        self.sparse = torch.nn.Parameter(weight - self.left.data @ self.right.data)
        self.bias = layer.bias

    def forward(self, x):
        linear = torch.nn.functional.linear
        return linear(linear(x, self.right), self.left) + linear(x, self.sparse, self.bias)


class Trainer:
    def __init__(self, form, folder, batch, length, ratio):
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.manual_seed(7)
        batch, length, self.ratio = int(batch), int(length), float(ratio)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).train()
        self.layers = []
        for name, layer in list(self.model.named_modules()):
            if isinstance(layer, torch.nn.Linear) and ".encoder.layer." in f".{name}":
                parent, child = name.rsplit(".", 1)
                made = Published(layer)
                setattr(self.model.get_submodule(parent), child, made)
                self.layers.append(made)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.0)
        ids = [1000 + 7919 * i % 20000 for i in range(batch * length)]
        self.ids = torch.tensor(ids).reshape(batch, length)
        self.labels = torch.arange(batch) % 2
        self.prunes, self.number, self.losses = form == "published", 0, []
        self.window = [torch.zeros_like(layer.sparse) for layer in self.layers] if self.prunes else []
        self.smoothed = [torch.zeros_like(window) for window in self.window]

    def step(self):
        loss = self.model(self.ids, labels=self.labels).loss
        loss.backward()
        self.optimizer.step()
        if self.prunes:
            self.prune()
        self.optimizer.zero_grad()
        self.losses.append(loss.item())

    @torch.no_grad()
    def prune(self):
        at = self.number % 10
        for layer, window, smoothed in zip(self.layers, self.window, self.smoothed):
            if at == 0:
                smoothed.mul_(0.85).add_(window, alpha=0.15)
                window.copy_((layer.sparse * layer.sparse.grad).abs())
            else:
                sample = (layer.sparse * layer.sparse.grad).abs()
                window.copy_((window * at + sample) / (at + 1))
        if at == 0:
            scores = [smoothed.mean(1, keepdim=True) for smoothed in self.smoothed]
            each = [s.expand_as(layer.sparse) for s, layer in zip(scores, self.layers)]
            entries = torch.cat([score.reshape(-1) for score in each])
            count = int(len(entries) * (1 - (self.ratio - LOW_RANK)))
            threshold = torch.kthvalue(entries, count)[0].item()
            for score, layer in zip(each, self.layers):
                layer.sparse.masked_fill_(score < threshold, 0.0)
        self.number += 1


def commands():
    trainer = Trainer(*sys.argv[1:])

    def run():
        wall, cpu, _ = turns.timed(trainer.step)
        return f"{wall} {cpu}"

    def loss():
        if not trainer.losses:
            trainer.step()
        return str(trainer.losses[0])

    return {"run": run, "loss": loss}


if __name__ == "__main__":
    turns.serve(commands)
