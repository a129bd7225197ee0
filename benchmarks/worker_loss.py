#!/usr/bin/env python3
"""How long after one worker is killed the others have ended. Linux only.
worker_loss.py OUTGROW_BINARY [--workers 3] [--rounds 20] [--transports shm,tcp,tcp-plain] [--seed 1]

A run of processes of one machine trains an MLP with a checkpoint after every second step. At a random moment one of them,
the first included, gets SIGKILL; the time goes to the end of the last of the others. What they said and that the same
command then goes on to the same bits is for the tests (crates/outgrow/tests/workers_lost.rs)."""
import argparse
import os
import pathlib
import random
import signal
import statistics
import subprocess
import tempfile
import time

MANIFEST = """seed = 5
data = { source = "synthetic:glyphs", samples = 4000 }
model = { name = "mlp", hidden = [512, 512] }
train = { steps = 1000000, batch = 64, micro_shards = 4, checkpoint_every_steps = 2 }
"""
FLAGS = {"shm": ["--transport", "shm"], "tcp": ["--transport", "tcp"], "tcp-plain": ["--transport", "tcp", "--no-tls"]}


def children(parent):
    found = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(process) for process in found.split()]


def alive(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended_after(binary, folder, workers, transport, dice):
    """Seconds, and whether the first worker was the one that was killed."""
    command = [binary, "train", str(folder / "m.toml"), "--quiet", "--threads", "1", "--fresh", "--workers", str(workers)]
    command += ["--out", str(folder / "run"), "--cache", str(folder / "cache"), *FLAGS[transport]]
    with open(os.devnull, "w") as nothing:
        first = subprocess.Popen(command, stdout=nothing, stderr=nothing)
    all_of_them = []
    while len(all_of_them) < workers:
        all_of_them = [first.pid, *children(first.pid)]
        time.sleep(0.001)
    # They work by then, whatever the moment.
    time.sleep(dice.uniform(0.7, 2.0))
    victim = dice.randrange(workers)
    if not all(alive(process) for process in all_of_them):
        raise SystemExit(f"{transport}: the run ended by itself: {' '.join(command)}")
    os.kill(all_of_them[victim], signal.SIGKILL)
    start = time.perf_counter()
    others = [process for at, process in enumerate(all_of_them) if at != victim]
    while any(alive(process) for process in others):
        time.sleep(0.0005)
        if time.perf_counter() - start > 60:
            raise SystemExit(f"{transport}: a worker outlives another by a minute")
    seconds = time.perf_counter() - start
    first.wait()
    return seconds, victim == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20, help="for each transport")
    parser.add_argument("--transports", default=",".join(FLAGS))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    print("| transport | rounds | first worker killed in | others ended after | longest |\n|---|---|---|---|---|")
    for transport in args.transports.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "m.toml").write_text(MANIFEST)
            rounds = [ended_after(args.binary, folder, args.workers, transport, dice) for _ in range(args.rounds)]
        times = [1e3 * seconds for seconds, _ in rounds]
        row = [transport, str(len(rounds)), str(sum(first for _, first in rounds))]
        row += [f"{statistics.median(times):.0f} ms", f"{max(times):.0f} ms"]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
