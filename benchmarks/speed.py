#!/usr/bin/env python3
"""Times training steps beside PyTorch's, or beside another Outgrow's, alternating between the two, and prints a Markdown
table of medians, their spread, and ratios.
speed.py OUTGROW_BINARY PEERS_SCRIPT_FOLDER [--work mnist,mlp,lenet,resnet18,gpt] [--mode eager,compile] [--precision f32] [--rounds 3] [--seconds 10] [--threads 2]
speed.py OUTGROW_BINARY --before OUTGROW_BINARY [...]

Outgrow's side is `outgrow bench train WORK`, and what it trains stands in its help. PEERS_SCRIPT_FOLDER holds
torch_train.py, which times the same models, batches and optimisers and prints JSON objects with `epoch_s` (work `mnist`)
or `step_ms`; of several modes the faster one counts in each round. (With `--precision bf16`, its modes are `bf16,compile-bf16`.) `mnist` reads $OUTGROW_DATA/mnist. Run it on an idle
machine: absolute times differ between machines and hours."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

WORK = ["mnist", "mlp", "lenet", "resnet18", "gpt"]


def milliseconds(command):
    """The least of the times that a command prints, one JSON object a line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}\n{done.stdout}")
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return min(found["epoch_s"] * 1e3 if "epoch_s" in found else found["step_ms"] for found in results)


def time_torch(folder, work, args):
    command = [sys.executable, str(pathlib.Path(folder) / "torch_train.py"), "--work", work, "--mode", args.mode]
    return milliseconds(command + ["--threads", str(args.threads), "--seconds", str(args.seconds)])


def time_outgrow(binary, work, args):
    command = [binary, "bench", "train", work, "--json", "--quiet", "--precision", args.precision]
    return milliseconds(command + ["--threads", str(args.threads), "--seconds", str(args.seconds)])


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
    parser.add_argument("--mode", default="eager", help="of PyTorch, one or several")
    parser.add_argument("--precision", default="f32", help="of Outgrow")
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
        for _ in range(args.rounds):
            warn_of_load(args.threads)
            ours.append(time_outgrow(args.binary, work, args))
            if args.before:
                theirs.append(time_outgrow(args.before, work, args))
            else:
                theirs.append(time_torch(args.peers, work, args))
        ratio = statistics.median(theirs) / statistics.median(ours)
        unit = "epoch" if work == "mnist" else "step"
        print(f"| {work} ({unit}) | {spread(ours)} | {spread(theirs)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
