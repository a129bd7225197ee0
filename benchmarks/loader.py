#!/usr/bin/env python3
"""Images a second from CIFAR-10's JPEG files to normalised batches, beside PyTorch's DataLoader with torchvision.

usage: loader.py OUTGROW_BINARY PEERS_SCRIPT_FOLDER [--rounds N]

Both read $OUTGROW_DATA/cifar10/train-*.parquet (50,000 images) and make shuffled batches of 128: decode, random crop with
a border of 4, random horizontal flip, normalise. PyTorch decodes every image in every epoch (torch_loader.py of the
folder, with 2 worker processes). Outgrow decodes once, into checksummed shards, and then loads from those; the table has
the first epoch with all of the preparation in it, the later ones, and ten epochs together. The two alternate."""
import argparse, json, os, re, shutil, statistics, subprocess, sys, tempfile

MANIFEST = """
[data]
source = "parquet"
files = "cifar10/train-*.parquet"
image = "img"
label = "label"
split = { validation = 0, test = 0 }
normalize = { mean = [0.49, 0.48, 0.45], std = [0.25, 0.24, 0.26] }
augment = { crop = { padding = 4 }, flip = "horizontal" }
task = "classify"
[model]
name = "resnet18"
[train]
epochs = 1
batch = 128
"""


def outgrow(binary, folder):
    """Images a second: of the first epoch with preparation, of later epochs, of ten epochs with preparation."""
    manifest, cache = os.path.join(folder, "m.toml"), os.path.join(folder, "cache")
    with open(manifest, "w") as file:
        file.write(MANIFEST)
    shutil.rmtree(cache, ignore_errors=True)
    command = [binary, "data", "bench", manifest, "--data", os.environ["OUTGROW_DATA"], "--cache", cache, "--epochs", "10"]
    done = subprocess.run([*command, "--threads", "2", "--json"], check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    images, prepare, epochs = result["samples"] / 10, result["prepare_seconds"], result["epoch_seconds"]
    first = images / (prepare + epochs[0])
    return first, images * 9 / sum(epochs[1:]), images * 10 / (prepare + sum(epochs))


def torch(folder):
    """Images a second with 2 worker processes."""
    script = os.path.join(folder, "torch_loader.py")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    return float(re.search(r"workers 2 ([\d.]+)", done.stdout).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outgrow")
    parser.add_argument("peers")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ours, theirs = [], []
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(outgrow(args.outgrow, folder))
        theirs.append(torch(args.peers))
        print(f"round {number + 1}: {ours[-1]}, PyTorch {theirs[-1]:.0f}", file=sys.stderr)
    reference = statistics.median(theirs)
    spread = lambda values: f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
    print("| work | images/s | against PyTorch |\n|---|---|---|")
    print(f"| PyTorch DataLoader, 2 workers, every epoch | {spread(theirs)} | 1 |")
    names = ["first epoch, preparation included", "each later epoch", "ten epochs, preparation included"]
    for name, values in zip(names, zip(*ours)):
        print(f"| Outgrow, {name} | {spread(values)} | {statistics.median(values) / reference:.1f} |")


if __name__ == "__main__":
    main()
