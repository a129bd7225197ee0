#!/usr/bin/env python3
"""Models exported by PyTorch with random weights: `outgrow infer` beside ONNX Runtime, batch 1 and batch 5 from one file, and
transformers at two lengths of sequences, from the same file too.

    python benchmarks/onnx_models.py FOLDER [--outgrow PATH] [--only NAME,...] [--exporter old|new|both]

Needs torch, torchvision, onnx, onnxscript, onnxruntime and numpy; and transformers for the models whose names begin with
`hf-`. Exports what FOLDER does not hold yet, by TorchScript (old) and torch.export (new), runs both on the same random inputs
and prints, for each model, batch size and length, the greatest difference of any output relative to its greatest number.
"""
import argparse, contextlib, io, json, subprocess, sys, warnings
from pathlib import Path

import numpy as np
import torch
import torchvision

LIMIT = 1e-4
BATCHES = (1, 5)
# Of sequences: the length that is exported and another one.
LENGTHS = (16, 27)
VISION = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "vgg11",
          "densenet121", "vit_b_16"]
SEQUENCES = ["gpt2", "bert", "lstm", "hf-gpt2", "hf-bert"]


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


class Bert(torch.nn.Module):
    """Two layers of an encoder as in BERT, with embeddings of tokens, places and segments, and a pooler. What the mask leaves
    out is not attended to."""

    def __init__(self, vocab=97, context=32, width=64, heads=4, layers=2):
        super().__init__()
        self.heads = heads
        self.tokens, self.places = torch.nn.Embedding(vocab, width), torch.nn.Embedding(context, width)
        self.segments, self.norm = torch.nn.Embedding(2, width), torch.nn.LayerNorm(width, eps=1e-12)
        self.blocks = torch.nn.ModuleList()
        for _ in range(layers):
            linear = {name: torch.nn.Linear(width, width) for name in ("query", "key", "value", "out")}
            self.blocks.append(torch.nn.ModuleDict({
                **linear, "norm1": torch.nn.LayerNorm(width, eps=1e-12), "norm2": torch.nn.LayerNorm(width, eps=1e-12),
                "up": torch.nn.Linear(width, 4 * width), "down": torch.nn.Linear(4 * width, width)}))
        self.pooler = torch.nn.Linear(width, width)

    def forward(self, tokens, mask, segments):
        batch, length = tokens.shape
        places = torch.arange(length, device=tokens.device)
        x = self.norm(self.tokens(tokens) + self.places(places) + self.segments(segments))
        # As BERT was written first: what does not count is far below all that does.
        far = (1.0 - mask[:, None, None, :].to(x.dtype)) * -10000.0
        for block in self.blocks:
            query, key, value = (block[name](x).view(batch, length, self.heads, -1).transpose(1, 2) for name in ("query", "key", "value"))
            scores = query @ key.transpose(2, 3) / (query.shape[-1] ** 0.5) + far
            y = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(batch, length, -1)
            x = block["norm1"](x + block["out"](y))
            x = block["norm2"](x + block["down"](torch.nn.functional.gelu(block["up"](x))))
        return x, torch.tanh(self.pooler(x[:, 0]))


class First(torch.nn.Module):
    """A model of `transformers` that takes a mask and answers with a tensor, and not with a record of several."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, mask):
        return self.model(input_ids=tokens, attention_mask=mask, return_dict=False)[0]


class Lstm(torch.nn.Module):
    """A classifier of token sequences."""

    def __init__(self, vocab=50, width=32, hidden=48, classes=7):
        super().__init__()
        self.tokens = torch.nn.Embedding(vocab, width)
        self.lstm = torch.nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(2 * hidden, classes)

    def forward(self, tokens):
        return self.head(self.lstm(self.tokens(tokens))[0][:, -1])


def masked(n, length):
    """Of each sequence at least its first half counts."""
    counts = torch.randint(length // 2, length + 1, (n, 1))
    return (torch.arange(length) < counts).long()


def build(name):
    """The model, and what makes its inputs for a batch, and a length where it is of sequences."""
    torch.manual_seed(1)
    # The fused attention of evaluation has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    if name == "gpt2":
        return Gpt().eval(), lambda n, length: (torch.randint(0, 97, (n, length)),)
    if name == "bert":
        return Bert().eval(), lambda n, length: (torch.randint(0, 97, (n, length)), masked(n, length), torch.randint(0, 2, (n, length)))
    if name == "lstm":
        return Lstm().eval(), lambda n, length: (torch.randint(0, 50, (n, length)),)
    if name.startswith("hf-"):
        import transformers
        sizes = dict(vocab_size=97, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256, max_position_embeddings=32)
        if name == "hf-bert":
            model = transformers.BertModel(transformers.BertConfig(**sizes))
        else:
            sizes = dict(vocab_size=97, n_embd=64, n_layer=2, n_head=4, n_positions=32, bos_token_id=None, eos_token_id=None)
            model = transformers.GPT2Model(transformers.GPT2Config(**sizes, use_cache=False))
        return First(model).eval(), lambda n, length: (torch.randint(0, 97, (n, length)), masked(n, length))
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        # Fresh running statistics would hide a mistake in them.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    if name == "vit_b_16":
        torch.nn.init.normal_(model.heads.head.weight, std=0.02)
    return model.eval(), lambda n, _: (torch.randn(n, 3, 224, 224),)


def export(name, exporter, file):
    model, sample = build(name)
    inputs = sample(2, LENGTHS[0])
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "new":
            dims = {0: torch.export.Dim("batch", min=1, max=64)}
            if name in SEQUENCES:
                dims[1] = torch.export.Dim("sequence", min=2, max=32)
            shapes = tuple(dims for _ in inputs)
            torch.onnx.export(model, inputs, str(file), dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            names = [f"input{i}" for i in range(len(inputs))]
            axes = {0: "batch", 1: "sequence"} if name in SEQUENCES else {0: "batch"}
            torch.onnx.export(model, inputs, str(file), dynamo=False, input_names=names, dynamic_axes=dict.fromkeys(names, axes))


def compare(name, file, outgrow, folder):
    """The greatest difference for each batch and length."""
    import onnxruntime
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    _, sample = build(name)
    differences = []
    for length in LENGTHS if name in SEQUENCES else (0,):
        for batch in BATCHES:
            torch.manual_seed(batch + length)
            given = {info.name: x.numpy() for info, x in zip(session.get_inputs(), sample(batch, length))}
            want = session.run(None, given)
            command = [outgrow, "infer", file, "--json"]
            files = []
            for i, x in enumerate(given.values()):
                files.append(folder / f"{file.stem}.in{i}.npy")
                np.save(files[-1], x)
                command += ["--input", files[-1]]
            outputs = [folder / f"{file.stem}.out{i}.npy" for i in range(len(want))]
            command += [part for output in outputs for part in ("--output", output)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode != 0:
                raise RuntimeError(run.stderr.strip()[:2000])
            worst = 0.0
            for output, expected, told in zip(outputs, want, json.loads(run.stdout)["outputs"]):
                assert told["shape"] == list(expected.shape), (told, expected.shape)
                worst = max(worst, float(np.abs(np.load(output) - expected).max() / np.abs(expected).max()))
            differences.append(worst)
            for path in files + outputs:
                path.unlink()
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outgrow", default="target/release/outgrow")
    parser.add_argument("--only", default=",".join([*VISION, *SEQUENCES]))
    parser.add_argument("--exporter", default="both", choices=["old", "new", "both"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    exporters = ["old", "new"] if args.exporter == "both" else [args.exporter]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}; limit {LIMIT:g}\n")
    columns = [f"batch {b}" for b in BATCHES] + [f"batch {b}, length {LENGTHS[1]}" for b in BATCHES]
    print(f"| model | exporter | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    bad = 0
    for name in args.only.split(","):
        for exporter in exporters:
            file = args.folder / f"{name}.{exporter}.onnx"
            start = f"| {name} | {exporter} |"
            try:
                if not file.exists():
                    export(name, exporter, file)
            except Exception as error:  # what an exporter cannot do is no fault of the importer
                print(start, "not exported:", str(error).splitlines()[0][:90], "|" * len(columns), flush=True)
                continue
            try:
                differences = compare(name, file, args.outgrow, args.folder)
                bad += not all(d <= LIMIT for d in differences)
                cells = [f"{d:.1e}" + ("" if d <= LIMIT else " (too far)") for d in differences]
                print(start, " | ".join(cells + [""] * (len(columns) - len(cells))), "|", flush=True)
            except Exception as error:
                bad += 1
                print(start, str(error).replace("\n", " "), "|" * len(columns), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
