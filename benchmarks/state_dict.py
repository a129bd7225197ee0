#!/usr/bin/env python3
"""A torchvision resnet18 state_dict, saved as safetensors, loaded by Outgrow and brought back: largest difference of the
outputs (Outgrow's model exported and run by ONNX Runtime, beside PyTorch), relative to the largest output.

usage: state_dict.py OUTGROW_BINARY"""
import json, os, subprocess, sys, tempfile

import numpy as np
import onnxruntime
import torch
import torchvision
from safetensors.torch import load_file, save_file

MANIFEST = """
[data]
source = "synthetic:glyphs"
samples = 20
size = [64, 64]
channels = 3
split = { validation = 0, test = 0 }
[model]
name = "resnet18"
weights = "resnet18.safetensors"
[train]
steps = 1
batch = 10
"""


def main():
    binary = os.path.abspath(sys.argv[1])
    torch.manual_seed(1)
    model = torchvision.models.resnet18(num_classes=10)
    # Running statistics that are not those of a fresh model.
    model.train()
    for _ in range(3):
        model(torch.randn(8, 3, 64, 64))
    model.eval()
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        save_file(state, path("resnet18.safetensors"))
        rng = np.random.default_rng(1)
        with open(path("m.toml"), "w") as file:
            file.write(MANIFEST)
        command = [binary, "export", "m.toml", "m.onnx", "--cache", "cache", "--json"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        session = onnxruntime.InferenceSession(path("m.onnx"), providers=["CPUExecutionProvider"])
        x = rng.standard_normal((5, 3, 64, 64)).astype(np.float32)
        ours = session.run(None, {session.get_inputs()[0].name: x})[0]
        with torch.no_grad():
            theirs = model(torch.from_numpy(x)).numpy()
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        print(f"state_dict -> Outgrow: largest relative difference of outputs {difference:.1e}")
        # And back: a trained model's weights in PyTorch.
        run = [binary, "run", "m.toml", "--cache", "cache", "--out", "r", "--json", "--quiet"]
        subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        back = load_file(path("r/model/weights.safetensors"))
        missing, unexpected = model.load_state_dict(back, strict=False)
        left = [name for name in missing if not name.endswith("num_batches_tracked")]
        print(f"Outgrow -> state_dict: missing {left}, unexpected {unexpected}")
        sys.exit(0 if difference < 1e-4 and not left and not unexpected else 1)


if __name__ == "__main__":
    main()
