#!/usr/bin/env python3
"""Fine-tuning of an imported model: torchvision's resnet18 with a stem for small images and random
weights, exported as ONNX, trained by Outgrow on
CIFAR-10 beside PyTorch: the loss of each of 20 steps, on the same batches in the same order, by SGD with momentum. Then
the same with a new last layer, and with that layer alone trained (which must leave every other weight as it was).

usage: onnx_finetune.py OUTGROW_BINARY [--threads 2] [--each]

Needs torch, torchvision, onnx, pyarrow and pillow, and $OUTGROW_DATA/cifar10."""
import argparse
import io
import os
import pathlib
import tempfile

import numpy
import pyarrow.parquet
import torch
from PIL import Image
from safetensors.numpy import load_file

import outgrow
from parity import MOMENTUM, torch_losses

STEPS, BATCH, LR, TOLERANCE = 20, 32, 0.002, 1e-2


def cifar(folder):
    """The first images of CIFAR-10 as IDX files in `folder`, and as arrays."""
    table = pyarrow.parquet.read_table(pathlib.Path(os.environ["OUTGROW_DATA"]) / "cifar10/train-00000-of-00001.parquet")
    rows = table.slice(0, STEPS * BATCH)
    decode = lambda cell: numpy.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")).transpose(2, 0, 1)
    images = numpy.stack([decode(cell) for cell in rows["img"].to_pylist()])
    labels = numpy.array(rows["label"].to_pylist())
    outgrow.write_idx(folder / "images", images)
    outgrow.write_idx(folder / "labels", labels.astype(numpy.uint8))
    return images, labels


def export(model, path):
    """As a training script would: batch normalisation is kept apart from the convolutions."""
    model.eval()
    example = torch.randn(2, 3, 32, 32)
    kept = torch.onnx.TrainingMode.PRESERVE
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        model, (example,), path, dynamo=False, training=kept, do_constant_folding=False,
        input_names=["image"], output_names=["logits"], dynamic_axes=axes, opset_version=17,
    )
    model.train()


def train(args, folder, model, steps=STEPS):
    data = f"{outgrow.IDX}, normalize = {{ mean = {[0.5] * 3}, std = {[0.25] * 3} }}"
    rest = f"steps = {steps}, batch = {BATCH}, lr = {LR}, shuffle = false, log_every_steps = 1"
    rest += f', optimizer = {{ name = "momentum", momentum = {MOMENTUM} }}'
    _, lines = outgrow.run_outgrow(args.binary, folder, outgrow.manifest(model, rest, data), threads=args.threads)
    return [line["loss"] for line in lines if line["split"] == "train"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--each", action="store_true", help="print every step")
    args = parser.parse_args()
    outgrow.set_torch(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        images, labels = cifar(folder)
        peer = outgrow.resnet18()
        export(peer, folder / "resnet18.onnx")
        ours = train(args, folder, '{ name = "onnx", file = "resnet18.onnx" }')
        theirs = torch_losses(peer, images, labels, STEPS, BATCH, LR)
        differences = [abs(a - b) / abs(b) for a, b in zip(ours, theirs)]
        if args.each:
            for step, row in enumerate(zip(ours, theirs, differences), 1):
                print("  step {}: Outgrow {:.7f}, PyTorch {:.7f}, difference {:.1e}".format(step, *row))
        worst = max(differences)
        print(f"resnet18 from ONNX on CIFAR-10, {STEPS} steps: loss {theirs[0]:.4f} to {theirs[-1]:.4f} (PyTorch), "
              f"{ours[-1]:.4f} (Outgrow); largest relative difference {worst:.1e} (step {differences.index(worst) + 1})")
        head = train(args, folder, '{ name = "onnx", file = "resnet18.onnx", head = "new" }', 5)
        print(f"with a new head: loss {head[0]:.4f} to {head[-1]:.4f} in 5 steps")
        alone = '{ name = "onnx", file = "resnet18.onnx", trainable = ["fc.*"] }'
        losses = train(args, folder, alone, 5)
        print(f"with the head alone trained: loss {losses[0]:.4f} to {losses[-1]:.4f} in 5 steps")
    raise SystemExit(0 if len(ours) == STEPS and worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
