"""The networks of nets.h in PyTorch, with weights from our own side's file.

Keras's and PyTorch's parameters differ in these ways, which build() undoes: a Dense kernel is [inputs, units] here and [units,
inputs] there; a convolution's is [height, width, in, out] and [out, in, height, width]; images are NHWC and NCHW, so the first
Dense behind a convolution reads its inputs in another order; an LSTM's bias is one vector and two that are added, of which the
second stays 0; attention's three projections are one matrix.
"""

import numpy
import torch
from torch import nn


class LstmNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 128, num_layers=2, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class TransformerNet(nn.Module):
    def __init__(self, places):
        super().__init__()
        self.words = nn.Embedding(8000, 128)
        self.register_buffer("places", places)
        self.blocks = nn.Sequential(*[nn.TransformerEncoderLayer(128, 4, 512, dropout=0, batch_first=True) for _ in range(2)])
        self.head = nn.Linear(128, 2)

    def forward(self, ids):
        return self.head(self.blocks(self.words(ids) + self.places).mean(1))


def tensor(array):
    return torch.from_numpy(numpy.array(array, "f4"))


def set_dense(linear, w, name):
    linear.weight.data, linear.bias.data = tensor(w[name + "/kernel"].T), tensor(w[name + "/bias"])


def build_mlp(w):
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    for at, name in ((0, "dense1"), (2, "dense2"), (4, "head")):
        set_dense(net[at], w, name)
    return net


def build_cnn(w):
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10))
    for at, name in ((0, "conv1"), (3, "conv2")):
        net[at].weight.data, net[at].bias.data = tensor(w[name + "/kernel"].transpose(3, 2, 0, 1)), tensor(w[name + "/bias"])
    net[7].weight.data = tensor(w["dense/kernel"].reshape(5, 5, 64, 128).transpose(3, 2, 0, 1).reshape(128, 1600))
    net[7].bias.data = tensor(w["dense/bias"])
    set_dense(net[9], w, "head")
    return net


def build_lstm(w):
    net = LstmNet()
    for layer in (0, 1):
        for ours, theirs in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"), ("bias", "bias_ih")):
            getattr(net.lstm, f"{theirs}_l{layer}").data = tensor(w[f"lstm{layer + 1}/{ours}"].T)  # gates i, f, g, o on both sides
        second = getattr(net.lstm, f"bias_hh_l{layer}")
        second.data.zero_()
        second.requires_grad_(False)
    set_dense(net.head, w, "head")
    return net


def build_transformer(w):
    net = TransformerNet(tensor(w["places/positions"]))
    net.words.weight.data = tensor(w["words/embeddings"])
    for number, block in enumerate(net.blocks, 1):
        of = {name.split("/", 1)[1]: w[name] for name in w if name.startswith(f"block{number}/")}
        parts = [f"attention/{p}" for p in ("query", "key", "value")]
        block.self_attn.in_proj_weight.data = tensor(numpy.concatenate([of[p + "/kernel"].T for p in parts]))
        block.self_attn.in_proj_bias.data = tensor(numpy.concatenate([of[p + "/bias"] for p in parts]))
        for linear, name in ((block.self_attn.out_proj, "attention/output"), (block.linear1, "wide"), (block.linear2, "narrow")):
            set_dense(linear, of, name)
        for norm, name in ((block.norm1, "norm1"), (block.norm2, "norm2")):
            norm.weight.data, norm.bias.data = tensor(of[name + "/gamma"]), tensor(of[name + "/beta"])
    set_dense(net.head, w, "head")
    return net


BUILDERS = {"mlp": build_mlp, "cnn": build_cnn, "lstm": build_lstm, "transformer": build_transformer}
X_SHAPE = {"mlp": (784,), "cnn": (1, 28, 28), "lstm": (28, 28), "transformer": (64,)}


def build(name, weights):
    """The network with our side's weights, which load_weights gives."""
    return BUILDERS[name](weights)


def load_x(name, folder):
    """All rows of the network's data file as it wants them; token ids as PyTorch's embedding wants them."""
    if name == "transformer":
        return torch.from_numpy(numpy.fromfile(f"{folder}/tokens.i32", "<i4").astype("i8").reshape(-1, 64))
    return torch.from_numpy(numpy.fromfile(f"{folder}/images.f32", "<f4").reshape(-1, *X_SHAPE[name]))


def load_labels(name, folder):
    file = "token_labels.i32" if name == "transformer" else "labels.i32"
    return torch.from_numpy(numpy.fromfile(f"{folder}/{file}", "<i4").astype("i8"))
