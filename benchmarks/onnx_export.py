#!/usr/bin/env python3
"""Exported models in ONNX Runtime: trains LeNet on MNIST, exports it, and counts the test samples that ONNX Runtime gets
right, beside Outgrow's own count; then small models of every kind, whose files `onnx.checker` must accept and ONNX
Runtime must run for batches of 1 and of 5.

usage: onnx_export.py OUTGROW_BINARY [--epochs N]

Needs `onnx`, `onnxruntime` and `numpy`, and $OUTGROW_DATA/mnist."""
import argparse, gzip, json, os, subprocess, sys, tempfile

import numpy as np
import onnx
import onnxruntime

DATA = '[data]\nsource = "idx"\nimages = "mnist/train-images-idx3-ubyte.gz"\nlabels = "mnist/train-labels-idx1-ubyte.gz"\n' \
    'test = { images = "mnist/t10k-images-idx3-ubyte.gz", labels = "mnist/t10k-labels-idx1-ubyte.gz" }\n'
GLYPHS = '[data]\nsource = "synthetic:glyphs"\nsamples = 200\ntest = { samples = 50 }\n'
TEXT = '[data]\nsource = "text"\nfiles = "text.txt"\ncontext = 16\n'
TABLE = '[data]\nsource = "csv"\nfiles = "table.csv"\nlabel = "y"\ntask = "classify"\n'
STEPS = "[train]\nsteps = 3\nbatch = 10\n"
SMALL = {
    "mlp": GLYPHS + '[model]\nname = "mlp"\nhidden = [20, 20]\ndropout = 0.2\n' + STEPS,
    "resnet18": GLYPHS + '[model]\nname = "resnet18"\nstem = "small"\n' + STEPS,
    "resnet50": GLYPHS + '[model]\nname = "resnet50"\nstem = "small"\n' + STEPS,
    "layers": GLYPHS + '[model]\nlayers = [{ conv = 4, kernel = 3, stride = 2, padding = 1 }, { batch_norm = true }, '
    '{ activation = "gelu" }, { avg_pool = 2 }, { residual = [{ conv = 4, kernel = 3, padding = "same" }] }, '
    '{ activation = "silu" }, { global_avg_pool = true }, { layer_norm = true }, { dense = 10, activation = "softmax" }]\n' + STEPS,
    "gpt": TEXT + '[model]\nname = "gpt"\nlayers = 2\nheads = 2\nwidth = 16\n' + STEPS,
    "logistic": TABLE + 'clean = [{ one_hot = { columns = "text" } }]\n[model]\nname = "logistic"\n' + STEPS,
    "wide-deep": TABLE + 'clean = [{ hash = { columns = ["c"], buckets = 16 } }]\n'
    '[model]\nname = "wide-deep"\nhidden = [8]\nembedding = 4\n' + STEPS,
}


def outgrow(binary, folder, *args):
    command = [binary, *args, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def export(binary, folder, name, manifest):
    """Trains and exports; the result of training and a session of ONNX Runtime."""
    write(folder, f"{name}.toml", manifest)
    result = outgrow(binary, folder, "run", f"{name}.toml", "--out", name, "--quiet")
    outgrow(binary, folder, "export", name, f"{name}.onnx")
    path = os.path.join(folder, f"{name}.onnx")
    onnx.checker.check_model(path, full_check=True)
    return result, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def idx(name, header):
    with gzip.open(os.path.join(os.environ["OUTGROW_DATA"], "mnist", name)) as file:
        return np.frombuffer(file.read()[header:], np.uint8)


def lenet(binary, folder, epochs):
    manifest = DATA + '[model]\nname = "lenet"\n' + f"[train]\nepochs = {epochs}\nbatch = 64\n"
    result, session = export(binary, folder, "lenet", manifest)
    images = (idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28) * np.float32(1 / 255)).astype(np.float32)
    labels = idx("t10k-labels-idx1-ubyte.gz", 8)
    answers = np.concatenate([session.run(None, {"image": images[i : i + 500]})[0] for i in range(0, len(images), 500)])
    theirs = int((answers.argmax(1) == labels).sum())
    ours = round(result["test"]["accuracy"] * len(labels))
    print(f"| LeNet on MNIST, {epochs} epochs | {ours} of {len(labels)} | {theirs} of {len(labels)} | {'equal' if ours == theirs else 'DIFFERS'} |")
    return ours == theirs


def small(binary, folder, name):
    _, session = export(binary, folder, name, SMALL[name])
    for batch in (1, 5):
        feeds = {}
        for value in session.get_inputs():
            shape = [extent if isinstance(extent, int) else batch for extent in value.shape]
            numbers = np.random.default_rng(1).random(shape)
            feeds[value.name] = numbers.astype(np.float32) if "float" in value.type else (numbers * 2).astype(np.int32)
        (answer,) = session.run(None, feeds)
        assert answer.shape[0] == batch and np.isfinite(answer).all(), (name, batch, answer.shape)
    print(f"| {name} | | batches of 1 and 5 | accepted and run |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outgrow")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    binary = os.path.abspath(args.outgrow)
    print("| model | Outgrow, right | ONNX Runtime | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "text.txt", "the quick brown fox jumps over the lazy dog. " * 40)
        write(folder, "table.csv", "a,b,c,y\n" + "".join(f"{i % 7},{i % 5},{'xyz'[i % 3]},{i % 2}\n" for i in range(200)))
        equal = lenet(binary, folder, args.epochs)
        for name in SMALL:
            small(binary, folder, name)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
