#!/usr/bin/env python3
"""Trains every example for a few steps with two builds of Outgrow, or with one under other numbers of threads, and says
for which ones the weights are the same to the bit.
weights.py OUTGROW_BINARY [--before OUTGROW_BINARY] [--threads 2] [--before-threads 1] [--data FOLDER] [--only NAME,...]

An example keeps its manifest but for the length of training, and nothing is evaluated on test data. FOLDER (default:
$OUTGROW_DATA) holds the examples' data; without it only those that need none are run. Exits with 1 when any differ."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
# Steps of the examples that take long; the others take DEFAULT_STEPS.
STEPS = {"shakespeare-gpt": 120, "cifar10-resnet18": 8, "cifar10-resnet50": 3, "mnist-lenet": 100}
DEFAULT_STEPS = 400
NEED_NO_DATA = {"glyphs", "linear"}


def shortened(name):
    text = (EXAMPLES / f"{name}.toml").read_text()
    text = re.sub(r"^(steps|epochs) = \d+$", f"steps = {STEPS.get(name, DEFAULT_STEPS)}", text, flags=re.M)
    text = re.sub(r"^eval_every_\w+ = \d+\n", "", text, flags=re.M)
    text = re.sub(r"^test = .*\n", "", text, flags=re.M)
    return re.sub(r"validation = 0\.\d+", "validation = 0.005", text)


def weights(binary, name, folder, data, threads):
    manifest = folder / f"{name}.toml"
    manifest.write_text(shortened(name))
    command = [binary, "run", str(manifest), "--json", "--fresh", "--threads", str(threads)]
    command += ["--out", str(folder / name), "--cache", str(folder / "cache"), "--data", str(data or folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}\n{done.stdout}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["weights_sha256"], result["steps"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("--before", metavar="OUTGROW_BINARY", help="default: the same binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--before-threads", type=int, help="default: as --threads")
    parser.add_argument("--data", default=os.environ.get("OUTGROW_DATA"))
    parser.add_argument("--only", help="names of examples, by commas")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else sorted(file.stem for file in EXAMPLES.glob("*.toml"))
    differ = 0
    print("| example | steps | weights | before |")
    print("|---|---|---|---|")
    for name in names:
        if not args.data and name not in NEED_NO_DATA:
            continue
        # Each build prepares its own data: what is stored may differ between them.
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            now, steps = weights(args.binary, name, pathlib.Path(one), args.data, args.threads)
            before, _ = weights(
                args.before or args.binary, name, pathlib.Path(two), args.data, args.before_threads or args.threads
            )
        differ += now != before
        print(f"| {name} | {steps} | {now[:16]} | {'the same' if now == before else before[:16]} |", flush=True)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
