#!/usr/bin/env python3
"""Times training steps beside PyTorch's, or beside another Outgrow's, alternating between the two, and prints a Markdown
table of medians, their spread, and ratios.
speed.py OUTGROW_BINARY PEERS_SCRIPT_FOLDER [--work mnist,mlp,lenet,resnet18] [--rounds 3] [--seconds 10] [--threads 2]
speed.py OUTGROW_BINARY --before OUTGROW_BINARY [...]

PEERS_SCRIPT_FOLDER holds torch_train.py, which prints JSON objects with `epoch_s` (work `mnist`) or `step_ms`. `mnist`
is a whole epoch of 60,000 samples through 784-10-10 by batches of 32 and Adam, and reads $OUTGROW_DATA/mnist; the others
are steps by SGD with momentum: mlp 784-512-512-10 and lenet on batches of 128, resnet18 (small stem) on batches of 32
images of 3x32x32. Outgrow's time is `train_seconds` over the steps (or epochs) of a run, with everything in it: reading
batches too. Run it on an idle machine: absolute times differ between machines and hours."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import outgrow

# work: samples of a batch, and steps of Outgrow's run for each second of --seconds
WORK = {"mnist": (32, None), "mlp": (128, 150), "lenet": (128, 60), "resnet18": (32, 1)}
MNIST_EPOCHS = 4


def time_torch(folder, work, args):
    script = pathlib.Path(folder) / "torch_train.py"
    command = [sys.executable, str(script), "--work", work, "--mode", "eager"]
    command += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["epoch_s"] * 1e3 if work == "mnist" else result["step_ms"]


def time_outgrow(binary, work, args, folder):
    batch, rate = WORK[work]
    if work == "mnist":
        data = 'source = "idx", images = "mnist/train-images-idx3-ubyte.gz", labels = "mnist/train-labels-idx1-ubyte.gz"'
        model = '{ layers = [{ flatten = true }, { dense = 10, activation = "relu" }, { dense = 10, activation = "softmax" }] }'
        train = f'epochs = {MNIST_EPOCHS}, batch = {batch}, optimizer = "adam", lr = 0.001'
        text = outgrow.manifest(model, train, data)
        result, _ = outgrow.run_outgrow(binary, folder, text, data=os.environ["OUTGROW_DATA"], threads=args.threads)
        return result["train_seconds"] / MNIST_EPOCHS * 1e3
    _, model, shape = outgrow.MODELS[work]
    if not (folder / "images").exists():
        outgrow.make_data(folder, batch * 20, shape)
    steps = max(20, int(rate * args.seconds))
    train = f'steps = {steps}, batch = {batch}, lr = 0.01, optimizer = "momentum"'
    result, _ = outgrow.run_outgrow(binary, folder, outgrow.manifest(model, train), threads=args.threads)
    return result["train_seconds"] / result["steps"] * 1e3


def warn_of_load(threads):
    """Says so on standard error when more runs here than the measurement itself."""
    load = os.getloadavg()[0]
    if load > threads + 1:
        print(f"warning: the load of the last minute is {load:.1f}: these times say little", file=sys.stderr)


def spread(times):
    return f"{statistics.median(times):.4g} ({min(times):.4g} to {max(times):.4g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("peers", metavar="PEERS_SCRIPT_FOLDER", nargs="?")
    parser.add_argument("--before", metavar="OUTGROW_BINARY", help="an earlier Outgrow to compare with, not PyTorch")
    parser.add_argument("--work", default=",".join(WORK))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement, about")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if (args.peers is None) == (args.before is None):
        parser.error("either PEERS_SCRIPT_FOLDER or --before is needed")
    other = "before" if args.before else "PyTorch"
    print(f"| work | Outgrow, ms | {other}, ms | {other} / Outgrow |")
    print("|---|---|---|---|")
    for work in args.work.split(","):
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.rounds):
                warn_of_load(args.threads)
                ours.append(time_outgrow(args.binary, work, args, pathlib.Path(folder)))
                if args.before:
                    theirs.append(time_outgrow(args.before, work, args, pathlib.Path(folder)))
                else:
                    theirs.append(time_torch(args.peers, work, args))
        ratio = statistics.median(theirs) / statistics.median(ours)
        unit = "epoch" if work == "mnist" else "step"
        print(f"| {work} ({unit}) | {spread(ours)} | {spread(theirs)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
