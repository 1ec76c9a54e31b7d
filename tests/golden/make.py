#!/usr/bin/python3
"""Writes the golden vectors beside it: what PyTorch computes for small networks, in float64, rounded to float32.

    /usr/bin/python3 tests/golden/make.py          # needs Debian's python3-torch (1.13.0); gives the same bytes each time

Each file is one network, read by tests/unit/learn/test_golden.c, which builds the same one:

    param/NAME          initial weights, in our layouts and names
    x, label            one batch
    train, infer        probabilities in training (batch statistics) and in inference
    loss, grad/NAME     of the mean cross-entropy
    losses/OPTIMISER    the losses of ten steps on that batch, each before its update
    after/OPTIMISER     all weights behind them, one after another in the order of param/

losses.safetensors is one Dense layer under each loss: param/head/kernel, param/head/bias, x, label, target, truth, row_weight, weight,
and, by the loss's name, loss/NAME and grad/NAME, the gradient of the kernel.

The test allows 1e-5 of a tensor's largest number for one pass, and a normalised mean square error of 1e-7 behind ten steps.

PyTorch's parameters are computed from ours, so that gradients and optimisers act on our layouts. Where the two differ:

    Dense       kernel [in, out]; PyTorch has [out, in]
    Conv        NHWC, kernel [height, width, in / groups, out]; PyTorch NCHW, [out, in / groups, height, width]
    LSTM        gates i, f, g, o on both sides; one bias, where PyTorch adds two: its second stays 0 and is not trained
    GRU         gates z, r, h; PyTorch r, z, n. The reset gate acts behind the product on both sides; two biases, ours [2, 3·units]
    BatchNorm   moving = momentum·moving + (1 − momentum)·batch with the biased variance, as Keras has it; PyTorch's momentum is
                the other weight and its running variance the unbiased one, so the moments are kept here
    RMSprop     ε stands outside the root, as in PyTorch; Keras has it inside
    AdamW       decays kernels only: two parameter groups
"""

import json
import pathlib
import struct

import numpy
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.stateless import functional_call

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 10
MOMENTUM = 0.9  # of moving averages, as Keras counts
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, alpha=0.9, eps=1e-7),
    "adam": lambda p: torch.optim.Adam(p, lr=0.005, eps=1e-7),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.005, eps=1e-7, weight_decay=0.1),
}


class Net:
    """Weights by our names, a batch, and forward(net, w, x, training) → logits."""

    def __init__(self, name, seed, shapes, x, classes, forward):
        self.name, self.forward = name, forward
        draw = numpy.random.RandomState(seed)
        self.initial = {p: draw.uniform(-0.6, 0.6, shape) + (1 if p.endswith(("/gamma", "/moving_variance")) else 0) for p, shape in shapes.items()}
        self.x = x(draw)
        self.label = torch.from_numpy(numpy.arange(len(self.x)) * 2 % classes)

    def weights(self):
        """Fresh leaves, rounded to what the file holds; averages are not trained."""
        return {p: torch.tensor(v.astype("f4").astype("f8"), requires_grad="/moving_" not in p) for p, v in self.initial.items()}

    def loss(self, w):
        return F.cross_entropy(self.forward(w, self.x, True), self.label)


def normal(*shape):
    return lambda draw: torch.from_numpy(draw.standard_normal(shape).astype("f4").astype("f8"))


def dense(w, name, x):
    return F.linear(x, w[name + "/kernel"].T, w.get(name + "/bias"))


# ---- the networks ----

def mlp(w, x, training):
    h = F.relu(dense(w, "one", x))
    h = F.gelu(dense(w, "two", h))
    return dense(w, "head", torch.tanh(dense(w, "three", h)))


def conv(w, name, x, **how):
    return F.conv2d(x, w[name + "/kernel"].permute(3, 2, 0, 1), w[name + "/bias"], **how)


def cnn(w, x, training):
    h = F.max_pool2d(F.relu(conv(w, "one", x.permute(0, 3, 1, 2), padding="same")), 2)
    h = F.silu(conv(w, "two", h, groups=2, dilation=2))
    return dense(w, "head", h.permute(0, 2, 3, 1).flatten(1))


def cell(kind, x, units, flat):
    """torch.lstm or torch.gru, what nn.LSTM and nn.GRU call: one layer, one direction, from a state of zeros."""
    start = torch.zeros(1, len(x), units, dtype=torch.float64)
    state = (start, start) if kind is torch.lstm else start
    return kind(x, state, flat, True, 1, 0.0, True, False, True)[0]


def lstm_layer(w, name, x, reverse=False):
    units = w[name + "/recurrent_kernel"].shape[0]
    flat = [w[name + "/kernel"].T, w[name + "/recurrent_kernel"].T, w[name + "/bias"], torch.zeros(4 * units, dtype=torch.float64)]
    y = cell(torch.lstm, x.flip(1) if reverse else x, units, flat)
    return y.flip(1) if reverse else y


def lstm(w, x, training):
    both = [lstm_layer(w, "one/forward", x), lstm_layer(w, "one/backward", x, reverse=True)]
    return dense(w, "head", lstm_layer(w, "two", torch.cat(both, 2))[:, -1])


def gru_layer(w, name, x):
    units = w[name + "/recurrent_kernel"].shape[0]

    def gates(t):  # z, r, h → r, z, n along the last dimension
        return torch.cat([t[..., units:2 * units], t[..., :units], t[..., 2 * units:]], -1)

    flat = [gates(w[name + "/kernel"]).T, gates(w[name + "/recurrent_kernel"]).T, gates(w[name + "/bias"][0]), gates(w[name + "/bias"][1])]
    return cell(torch.gru, x, units, flat)


def gru(w, x, training):
    return dense(w, "head", gru_layer(w, "two", gru_layer(w, "one", x))[:, -1])


def batch_norm(w, x, training):
    h = dense(w, "one", x)
    mean, variance = w["norm/moving_mean"], w["norm/moving_variance"]
    h = F.batch_norm(h, mean.clone(), variance.clone(), w["norm/gamma"], w["norm/beta"], training=training, eps=1e-3)
    return dense(w, "head", F.relu(h))


def move_averages(w, x):
    with torch.no_grad():
        h = dense(w, "one", x)
        for kept, now in (("norm/moving_mean", h.mean(0)), ("norm/moving_variance", h.var(0, unbiased=False))):
            w[kept].mul_(MOMENTUM).add_(now, alpha=1 - MOMENTUM)


def layer_norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[name + "/gamma"], w[name + "/beta"], 1e-5)


def heads(w, name, x, padding, causal):
    width = x.shape[2]
    inner = [f"{name}/{p}" for p in ("query", "key", "value")]
    parts = {"in_proj_weight": torch.cat([w[p + "/kernel"].T for p in inner]), "in_proj_bias": torch.cat([w[p + "/bias"] for p in inner]),
             "out_proj.weight": w[name + "/output/kernel"].T, "out_proj.bias": w[name + "/output/bias"]}
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
    module = nn.MultiheadAttention(width, 2, batch_first=True).double()
    return functional_call(module, parts, (x, x, x), {"key_padding_mask": padding, "need_weights": False, "attn_mask": mask})[0]


def attention(w, ids, training):
    x = F.embedding(ids, w["words/embeddings"]) + w["places/positions"]
    padding = ids == 0
    x = x + heads(w, "see", layer_norm(w, "norm1", x), padding, False)
    x = x + heads(w, "past", layer_norm(w, "norm2", x), padding, True)
    count = (~padding).sum(1, keepdim=True)
    return dense(w, "head", (x * ~padding[..., None]).sum(1) / count)


def texts(draw):
    """Ids from 1 to 8 with 0 behind each row's end."""
    ids = draw.randint(1, 9, (4, 5))
    return torch.from_numpy(numpy.where(numpy.arange(5) < numpy.array([[5], [3], [1], [4]]), ids, 0))


def dense_shapes(name, inputs, units):
    return {name + "/kernel": (inputs, units), name + "/bias": (units,)}


def cell_shapes(name, inputs, units, gates):
    return {name + "/kernel": (inputs, gates * units), name + "/recurrent_kernel": (units, gates * units),
            name + "/bias": (2, gates * units) if gates == 3 else (gates * units,)}


def heads_shapes(name, width):
    return {k: v for p in ("query", "key", "value", "output") for k, v in dense_shapes(f"{name}/{p}", width, width).items()}


def nets():
    yield Net("mlp", 1, {**dense_shapes("one", 5, 7), **dense_shapes("two", 7, 6), **dense_shapes("three", 6, 5), **dense_shapes("head", 5, 3)},
              normal(6, 5), 3, mlp)
    yield Net("cnn", 2, {"one/kernel": (3, 3, 2, 4), "one/bias": (4,), "two/kernel": (2, 2, 2, 6), "two/bias": (6,), **dense_shapes("head", 12, 3)},
              normal(3, 8, 7, 2), 3, cnn)
    yield Net("lstm", 3, {**cell_shapes("one/forward", 3, 3, 4), **cell_shapes("one/backward", 3, 3, 4), **cell_shapes("two", 6, 3, 4),
                          **dense_shapes("head", 3, 3)}, normal(3, 4, 3), 3, lstm)
    yield Net("gru", 4, {**cell_shapes("one", 3, 4, 3), **cell_shapes("two", 4, 3, 3), **dense_shapes("head", 3, 3)}, normal(3, 4, 3), 3, gru)
    yield Net("batch_norm", 5, {"one/kernel": (5, 6), "norm/gamma": (6,), "norm/beta": (6,), "norm/moving_mean": (6,), "norm/moving_variance": (6,),
                                **dense_shapes("head", 6, 3)}, normal(7, 5), 3, batch_norm)
    yield Net("attention", 6, {"words/embeddings": (9, 4), "places/positions": (5, 4), "norm1/gamma": (4,), "norm1/beta": (4,), **heads_shapes("see", 4),
                               "norm2/gamma": (4,), "norm2/beta": (4,), **heads_shapes("past", 4), **dense_shapes("head", 4, 3)}, texts, 3, attention)


# ---- what is written ----

def ten_steps(net, make):
    w = net.weights()
    trained = {p: v for p, v in w.items() if v.requires_grad}
    kernels = [v for p, v in trained.items() if p.endswith("kernel")]
    others = [v for p, v in trained.items() if not p.endswith("kernel")]
    optimiser = make([{"params": kernels}, {"params": others, **({"weight_decay": 0} if make is OPTIMISERS["adamw"] else {})}])
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = net.loss(w)
        loss.backward()
        if net.name == "batch_norm":
            move_averages(w, net.x)
        optimiser.step()
        losses.append(loss.item())
    return losses, numpy.concatenate([v.detach().numpy().ravel() for v in w.values()])


def tensors(net):
    w = net.weights()
    out = {f"param/{p}": v.detach() for p, v in w.items()}
    out["x"], out["label"] = net.x, net.label
    with torch.no_grad():
        out["train"], out["infer"] = (F.softmax(net.forward(w, net.x, training), 1) for training in (True, False))
    loss = net.loss(w)
    loss.backward()
    out["loss"] = loss.detach()
    out.update({f"grad/{p}": v.grad for p, v in w.items() if v.requires_grad})
    for name, make in OPTIMISERS.items():
        losses, after = ten_steps(net, make)
        out[f"losses/{name}"], out[f"after/{name}"] = numpy.array(losses), after
    return {k: numpy.asarray(v) for k, v in out.items()}


def write(path, arrays, meta):
    header, data = {"__metadata__": meta}, b""
    for name, a in arrays.items():
        raw = a.astype("<f4" if a.dtype.kind == "f" else "<i4").tobytes()
        header[name] = {"dtype": "F32" if a.dtype.kind == "f" else "I32", "shape": list(a.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def losses():
    """Each loss of one Dense layer, with what can be said of it: smoothing 0.2, weights, delta 0.7."""
    draw = numpy.random.RandomState(7)
    x, kernel, bias, target = (torch.from_numpy(draw.standard_normal(s).astype("f4").astype("f8")) for s in ((6, 4), (4, 3), (3,), (6, 3)))
    row_weight, weight, truth = (torch.from_numpy(draw.random_sample(s).astype("f4").astype("f8")) for s in ((6,), (6, 3), (6, 3)))
    label = torch.from_numpy(numpy.arange(6) * 2 % 3)
    soft = truth * 0.8 + 0.1
    made = {
        "sparse_categorical_crossentropy": lambda z: (F.cross_entropy(z, label, reduction="none", label_smoothing=0.2) * row_weight).mean(),
        "binary_crossentropy": lambda z: F.binary_cross_entropy_with_logits(z, soft, weight=weight),
        "mse": lambda z: F.mse_loss(z, target),
        "mae": lambda z: F.l1_loss(z, target),
        "huber": lambda z: F.huber_loss(z, target, delta=0.7),
    }
    out = {"param/head/kernel": kernel, "param/head/bias": bias, "x": x, "label": label, "target": target, "truth": truth,
           "row_weight": row_weight, "weight": weight}
    for name, loss_of in made.items():
        w = kernel.clone().requires_grad_()
        loss = loss_of(x @ w + bias)
        loss.backward()
        out[f"loss/{name}"], out[f"grad/{name}"] = loss.detach(), w.grad
    return {k: v.numpy() for k, v in out.items()}


def main():
    torch.set_num_threads(1)
    meta = {"torch": torch.__version__, "made_by": "tests/golden/make.py"}
    write(HERE / "losses.safetensors", losses(), meta)
    for net in nets():
        path = HERE / f"{net.name}.safetensors"
        write(path, tensors(net), meta)
        print(f"{path.name}: {path.stat().st_size} bytes")


main()
