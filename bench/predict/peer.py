"""The service that people write first: the same network in PyTorch behind Flask, one gunicorn worker per core.

MODEL names the .safetensors file with the weights. JSON: {"instances": [[784 numbers], …]} → {"predictions": [{"probabilities",
"label"}, …]}; with application/octet-stream: rows of 784 little-endian floats → rows of 10.
"""

import json
import os
import struct

import numpy
import torch
from flask import Flask, Response, request

torch.set_num_threads(1)  # a thread more in each of the two processes only makes both slower


def load_weights(path):
    """Tensors of a safetensors file, in the file's order."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            tensors[name] = torch.from_numpy(numpy.frombuffer(data[begin:end], "<f4").reshape(info["shape"]).copy())
    return tensors


def build(tensors):
    """784-128-128-10 with ReLU; a kernel stands as [inputs, units] in the file, as Keras has it."""
    kernels = [t for t in tensors.values() if t.ndim == 2]
    biases = [t for t in tensors.values() if t.ndim == 1]
    layers = []
    for kernel, bias in zip(kernels, biases):
        linear = torch.nn.Linear(*kernel.shape)
        linear.weight.data, linear.bias.data = kernel.T.contiguous(), bias
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(dim=1)).eval()


app = Flask(__name__)
model = build(load_weights(os.environ["MODEL"]))


@app.post("/predict")
def predict():
    with torch.inference_mode():
        if request.content_type == "application/octet-stream":
            rows = torch.from_numpy(numpy.frombuffer(request.get_data(), "<f4").reshape(-1, 784).copy())
            return Response(model(rows).numpy().tobytes(), content_type="application/octet-stream")
        probabilities = model(torch.tensor(request.get_json()["instances"], dtype=torch.float32))
        labels = probabilities.argmax(dim=1).tolist()
    return {"predictions": [{"probabilities": p, "label": k} for p, k in zip(probabilities.tolist(), labels)]}
