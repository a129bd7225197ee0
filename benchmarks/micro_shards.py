#!/usr/bin/env python3
"""What cutting a batch into micro-shards costs one worker.
micro_shards.py OUTGROW_BINARY [--work lenet,resnet18] [--shards 1,8] [--threads 2] [--rounds 5] [--seconds 5]

A batch in 8 micro-shards can be shared by up to 8 workers, with the same bits on any number of them; one worker computes
the 8 one after the other and adds up. Runs with each number of micro-shards take turns; the table has the median time of
a step with everything in it, its spread, and the median of the rounds' ratios to the first number."""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import outgrow
from speed import spread, warn_of_load

# work: samples of a batch, and steps of a run for each second of --seconds
WORK = {"mlp": (512, 40), "lenet": (512, 12), "resnet18": (64, 1)}


def step(binary, work, shards, threads, seconds, folder):
    """Milliseconds."""
    batch, rate = WORK[work]
    _, model, shape = outgrow.MODELS[work]
    if not (folder / "images").exists():
        outgrow.make_data(folder, batch * 10, shape)
    train = f'steps = {max(5, int(rate * seconds))}, batch = {batch}, micro_shards = {shards}, lr = 0.01, optimizer = "momentum"'
    file = folder / "outgrow.toml"
    file.write_text(outgrow.manifest(model, train))
    command = [binary, "train", str(file), "--json", "--fresh", "--quiet", "--threads", str(threads)]
    command += ["--out", str(folder / "run"), "--cache", str(folder / "cache"), "--data", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return 1e3 * batch / json.loads(done.stdout.strip().splitlines()[-1])["samples_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("--work", default="lenet,resnet18")
    parser.add_argument("--shards", default="1,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each run, about")
    args = parser.parse_args()
    works, shards = args.work.split(","), [int(number) for number in args.shards.split(",")]
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            warn_of_load(args.threads)
            for work in works:
                place = pathlib.Path(folder) / work
                place.mkdir(exist_ok=True)
                for number in shards:
                    took = step(args.binary, work, number, args.threads, args.seconds, place)
                    times.setdefault((work, number), []).append(took)
    print("| work, batch | micro-shards | a step, ms | times the first |\n|---|---|---|---|")
    for work in works:
        for number in shards:
            values = times[work, number]
            ratio = statistics.median(mine / first for mine, first in zip(values, times[work, shards[0]]))
            print(f"| {work}, {WORK[work][0]} | {number} | {spread(values)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
