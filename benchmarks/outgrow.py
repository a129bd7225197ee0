"""What the comparison scripts share: data files, manifests, runs of Outgrow, and PyTorch's side of the models."""
import json
import os
import pathlib
import struct
import subprocess

import numpy
import torch
from torch import nn


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def lenet():
    return nn.Sequential(
        *[nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)],
    )


def resnet18():
    import torchvision

    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


# name: PyTorch's model, the same in a manifest, the shape of a sample
MODELS = {
    "mlp": (mlp, '{ name = "mlp", hidden = [512, 512] }', (28, 28)),
    "lenet": (lenet, '{ name = "lenet" }', (28, 28)),
    "resnet18": (resnet18, '{ name = "resnet18", stem = "small" }', (3, 32, 32)),
}


def write_idx(path, array):
    """An array of bytes as an IDX file."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    pathlib.Path(path).write_bytes(header + numpy.ascontiguousarray(array, numpy.uint8).tobytes())


def make_data(folder, samples, shape, seed=1):
    """Images of ten classes, each a pattern of 4x4 blocks under noise, as `images` and `labels` in `folder`."""
    random = numpy.random.default_rng(seed)
    blocks = random.integers(0, 256, (10, *shape[:-2], shape[-2] // 4, shape[-1] // 4))
    patterns = blocks.repeat(4, axis=-1).repeat(4, axis=-2)
    labels = random.integers(0, 10, samples)
    labels[:10] = range(10)  # so that every class occurs, and classes are numbered alike
    noise = random.integers(0, 256, (samples, *shape))
    images = ((3 * patterns[labels] + noise) // 4).astype(numpy.uint8)
    write_idx(folder / "images", images)
    write_idx(folder / "labels", labels.astype(numpy.uint8))
    return images, labels


# the data that make_data writes, in a manifest
IDX = 'source = "idx", images = "images", labels = "labels"'


def manifest(model, train, data=IDX, weights=None):
    """The text of a manifest; sections are given as the insides of inline tables."""
    model = model.rstrip(" }") + (f', weights = "{weights}" }}' if weights else " }")
    return f"seed = 1\ndata = {{ {data} }}\nmodel = {model}\ntrain = {{ {train} }}\n"


def run_outgrow(binary, folder, text, data=None, threads=2):
    """Runs a manifest anew; gives the final JSON object and the lines of metrics.jsonl."""
    file = folder / "outgrow.toml"
    file.write_text(text)
    command = [binary, "run", str(file), "--json", "--fresh", "--threads", str(threads), "--out", str(folder / "run")]
    command += ["--cache", str(folder / "cache"), "--data", str(data or folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}\n{done.stdout}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    metrics = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return result, [json.loads(line) for line in metrics]


def set_torch(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
