#!/usr/bin/env python3
"""Models exported by PyTorch with random weights: `outgrow infer` beside ONNX Runtime, batch 1 and batch 5 from one file.

    python benchmarks/onnx_models.py FOLDER [--outgrow PATH] [--only NAME,...] [--exporter old|new|both]

Needs torch, torchvision, onnx, onnxruntime and numpy. Exports what FOLDER does not hold yet, runs both on the same
random inputs and prints, for each model and batch size, the greatest difference relative to the greatest output.
"""
import argparse, contextlib, io, json, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import torch
import torchvision

LIMIT = 1e-4
BATCHES = (1, 5)
VISION = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "vgg11",
          "densenet121", "vit_b_16"]


class Gpt(torch.nn.Module):
    """Two blocks as in GPT-2, with learned positions and tied weights."""

    def __init__(self, vocab=97, context=32, width=64, heads=4, layers=2):
        super().__init__()
        self.heads = heads
        self.tokens, self.places = torch.nn.Embedding(vocab, width), torch.nn.Embedding(context, width)
        self.blocks = torch.nn.ModuleList()
        for _ in range(layers):
            self.blocks.append(torch.nn.ModuleDict({
                "norm1": torch.nn.LayerNorm(width), "qkv": torch.nn.Linear(width, 3 * width),
                "out": torch.nn.Linear(width, width), "norm2": torch.nn.LayerNorm(width),
                "up": torch.nn.Linear(width, 4 * width), "down": torch.nn.Linear(4 * width, width)}))
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, tokens):
        batch, length = tokens.shape
        x = self.tokens(tokens) + self.places(torch.arange(length, device=tokens.device))
        for block in self.blocks:
            split = block["qkv"](block["norm1"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = torch.nn.functional.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
            x = x + block["out"](y.transpose(1, 2).reshape(batch, length, -1))
            x = x + block["down"](torch.nn.functional.gelu(block["up"](block["norm2"](x)), approximate="tanh"))
        return self.norm(x) @ self.tokens.weight.T


class Lstm(torch.nn.Module):
    """A classifier of token sequences."""

    def __init__(self, vocab=50, width=32, hidden=48, classes=7):
        super().__init__()
        self.tokens = torch.nn.Embedding(vocab, width)
        self.lstm = torch.nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(2 * hidden, classes)

    def forward(self, tokens):
        return self.head(self.lstm(self.tokens(tokens))[0][:, -1])


def build(name):
    """The model, and what makes an input of it for a batch."""
    torch.manual_seed(1)
    # The fused attention of evaluation has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    if name == "gpt2":
        return Gpt().eval(), lambda n: torch.randint(0, 97, (n, 16))
    if name == "lstm":
        return Lstm().eval(), lambda n: torch.randint(0, 50, (n, 12))
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        # Fresh running statistics would hide a mistake in them.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    if name == "vit_b_16":
        torch.nn.init.normal_(model.heads.head.weight, std=0.02)
    return model.eval(), lambda n: torch.randn(n, 3, 224, 224)


def export(name, exporter, file):
    model, sample = build(name)
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "new":
            dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
            torch.onnx.export(model, (sample(2),), str(file), dynamo=True, dynamic_shapes=dynamic, verbose=False)
        else:
            torch.onnx.export(model, (sample(2),), str(file), dynamo=False, input_names=["input"],
                              output_names=["output"], dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})


def compare(name, file, outgrow, folder):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    _, sample = build(name)
    differences = []
    for batch in BATCHES:
        torch.manual_seed(batch)
        x = sample(batch).numpy()
        given, taken = folder / f"{file.stem}.in.npy", folder / f"{file.stem}.out.npy"
        np.save(given, x)
        want = session.run(None, {session.get_inputs()[0].name: x})[0]
        run = subprocess.run([outgrow, "infer", file, "--input", given, "--output", taken, "--json"], capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip()[:2000])
        assert json.loads(run.stdout)["outputs"][0]["shape"] == list(want.shape)
        got = np.load(taken)
        differences.append(float(np.abs(got - want).max() / np.abs(want).max()))
        given.unlink(), taken.unlink()
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outgrow", default="target/release/outgrow")
    parser.add_argument("--only", default=",".join([*VISION, "gpt2", "lstm"]))
    parser.add_argument("--exporter", default="both", choices=["old", "new", "both"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    exporters = ["old", "new"] if args.exporter == "both" else [args.exporter]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}; limit {LIMIT:g}")
    print(f"{'model':<20} {'exporter':<9}" + "".join(f" {'batch ' + str(b):>12}" for b in BATCHES))
    bad = 0
    for name in args.only.split(","):
        for exporter in exporters:
            file = args.folder / f"{name}.{exporter}.onnx"
            try:
                if not file.exists():
                    export(name, exporter, file)
            except Exception as error:  # what an exporter cannot do is no fault of the importer
                print(f"{name:<20} {exporter:<9} not exported: {str(error).splitlines()[0][:90]}", flush=True)
                continue
            try:
                differences = compare(name, file, args.outgrow, args.folder)
                fits = all(d <= LIMIT for d in differences)
                bad += not fits
                print(f"{name:<20} {exporter:<9}" + "".join(f" {d:>12.2e}" for d in differences) + ("" if fits else "  TOO FAR"), flush=True)
            except Exception as error:
                bad += 1
                print(f"{name:<20} {exporter:<9} {error}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
