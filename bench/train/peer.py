#!/usr/bin/python3
"""PyTorch's side of bench-train; the same conversation as train.c, with the weights that our side wrote.

    peer.py NET THREADS BATCH DATA_FOLDER WEIGHTS
"""

import copy
import json
import pathlib
import sys
import time

import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import load_weights  # noqa: E402
from torch_nets import build, load_labels, load_x  # noqa: E402


class Trainer:
    def __init__(self, net, batch, folder, weights):
        self.initial = build(net, load_weights(weights))
        self.x, self.label, self.batch = load_x(net, folder), load_labels(net, folder), batch
        self.rows = len(self.x) // batch * batch

    def loss(self, net, index):
        at = index * self.batch % self.rows
        return cross_entropy(net(self.x[at:at + self.batch]), self.label[at:at + self.batch])

    def run(self, steps):
        net = copy.deepcopy(self.initial)
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.001, eps=1e-7)
        wall, cpu = time.perf_counter(), time.process_time()
        for index in range(steps):
            loss = self.loss(net, index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": loss.item()}


def say(answer):
    print(json.dumps(answer), flush=True)


def main():
    net, threads, batch, folder, weights = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.set_flush_denormal(True)
    trainer = Trainer(net, int(batch), folder, weights)
    say({"ready": True, "loss": trainer.loss(trainer.initial, 0).item()})
    for line in sys.stdin:
        say(trainer.run(int(line.split()[1])))


main()
