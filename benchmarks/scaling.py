#!/usr/bin/env python3
"""What a second worker adds to a training step, beside PyTorch DDP's over Gloo, alternating between the two.
scaling.py OUTGROW_BINARY [PEERS_SCRIPT_FOLDER] [--work mlp,resnet18] [--rounds 5] [--seconds 6] [--transports threads,shm]

PEERS_SCRIPT_FOLDER holds torch_ddp.py, which prints JSON objects with `work`, `workers` and `samples_per_s`. Each worker
has one thread, and a batch of 64 (MLP 784-512-512-10) or 16 images of 3x32x32 (ResNet-18, small stem), by SGD with
momentum: with two workers a step has twice as many samples. Efficiency is samples a second with two workers over twice
those with one; Outgrow's are all samples over `train_seconds`, with everything in it. With one worker the two micro-shards
of two workers' batch are one. "Two apart" are two runs of one worker at the same time that have nothing to do with each
other: what the machine leaves of two cores' speed. Run it on an idle machine of two cores."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import outgrow
from speed import warn_of_load

# work: samples a worker, and steps of a run for each second of --seconds
WORK = {"mlp": (64, 300), "resnet18": (16, 3)}

# two runs that have nothing to do with each other
APART = "two apart"


def start(binary, work, workers, transport, seconds, folder, out="run"):
    """Begins a run."""
    batch, rate = WORK[work]
    _, model, shape = outgrow.MODELS[work]
    if not (folder / "images").exists():
        outgrow.make_data(folder, batch * 40, shape)
    steps = max(10, int(rate * seconds))
    train = f'steps = {steps}, batch = {batch * workers}, micro_shards = {workers}, lr = 0.01, optimizer = "momentum"'
    file = folder / f"{out}.toml"
    file.write_text(outgrow.manifest(model, train))
    command = [binary, "train", str(file), "--json", "--fresh", "--quiet", "--threads", "1", "--out", str(folder / out)]
    command += ["--cache", str(folder / "cache"), "--data", str(folder)]
    if workers > 1:
        command += ["--workers", str(workers), "--transport", transport]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(run):
    """The result of a run that was begun."""
    output, errors = run.communicate()
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(run.args)} failed with {run.returncode}:\n{errors}\n{output}")
    return json.loads(output.strip().splitlines()[-1])


def ours(binary, work, workers, transport, seconds, folder):
    """The result of a run."""
    return end(start(binary, work, workers, transport, seconds, folder))


def apart(binary, work, seconds, folder):
    """Samples a second of two runs at the same time."""
    runs = [start(binary, work, 1, "", seconds, folder, out) for out in ("one", "other")]
    return sum(end(run)["samples_per_s"] for run in runs)


def theirs(folder):
    """Samples a second by work and number of workers; what fails is said, and left out."""
    command = [sys.executable, str(pathlib.Path(folder) / "torch_ddp.py"), "2"]
    # Without it Gloo looks for the address of this machine's name, which may have none.
    environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        print(f"warning: {' '.join(command)} failed with {done.returncode}: {done.stderr[-300:]}", file=sys.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["work"], line["workers"]): line["samples_per_s"] for line in lines if "samples_per_s" in line}


def cell(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("peers", metavar="PEERS_SCRIPT_FOLDER", nargs="?")
    parser.add_argument("--work", default=",".join(WORK))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of each of Outgrow's runs, about")
    parser.add_argument("--transports", default="threads,shm")
    args = parser.parse_args()
    works, transports = args.work.split(","), args.transports.split(",")
    speeds, overlaps = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            warn_of_load(2)
            for work in works:
                place = pathlib.Path(folder) / work
                place.mkdir(exist_ok=True)
                for name, workers in [("alone", 1)] + [(transport, 2) for transport in transports]:
                    result = ours(args.binary, work, workers, name, args.seconds, place)
                    speeds.setdefault((work, name), []).append(result["samples_per_s"])
                    overlaps.setdefault((work, name), []).append(result.get("overlap") or 0.0)
                speeds.setdefault((work, APART), []).append(apart(args.binary, work, args.seconds, place))
            if args.peers:
                for (work, workers), speed in theirs(args.peers).items():
                    speeds.setdefault((work, "DDP alone" if workers == 1 else "DDP"), []).append(speed)
    print("| work | workers | samples/s | efficiency | the second worker adds to a step | overlap | times DDP |")
    print("|---|---|---|---|---|---|---|")
    for work in works:
        for name in ["alone", *transports, APART, *(["DDP alone", "DDP"] if args.peers else [])]:
            values = speeds.get((work, name))
            first = speeds.get((work, "DDP alone" if name.startswith("DDP") else "alone"))
            if not values or not first:
                continue
            two = name not in ("alone", "DDP alone")
            pairs = [both / (2 * one) for both, one in zip(values, first)]
            step = lambda speed, workers: WORK[work][0] * workers / speed * 1e3
            added = [step(both, 2) - step(one, 1) for both, one in zip(values, first)]
            row = [work, ("Outgrow, " if "DDP" not in name else "") + name, cell(values)]
            row += [cell(pairs, 2), f"{cell(added, 3)} ms"] if two else ["", ""]
            row += [f"{statistics.median(overlaps[work, name]):.2f}" if (work, name) in overlaps and two else ""]
            ddp = speeds.get((work, "DDP"))
            row += [f"{statistics.median(values) / statistics.median(ddp):.2f}" if ddp and two else ""]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
