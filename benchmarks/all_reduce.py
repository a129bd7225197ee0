#!/usr/bin/env python3
"""Sums of f32 vectors over two processes of one machine: shared memory beside Open MPI's, TCP beside Gloo's.

usage: all_reduce.py ALL_REDUCE_SPEED PEERS_SCRIPT_FOLDER [--rounds N]

The first is the program of `cargo build --release -p outgrow-runtime --example all_reduce_speed`. The Python that runs
this needs `mpi4py`, `numpy` and `torch`, and `mpirun` must be there; PEERS_SCRIPT_FOLDER holds mpi_allreduce.py, which
prints JSON objects with `bytes` and `us`. All take turns, each with the middle of many sums after barriers; the table has
medians over the rounds, with their spread. Run it on an idle machine of two cores."""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

from speed import warn_of_load

# Of the whole vector, as in training: half of that from each of the two workers.
PIECE = 256 << 10
PORT = 29811


def ours(program, transport):
    """Microseconds by the bytes of a vector, in the order of the tree and in that of a ring."""
    words = [transport] if transport != "shm" else []
    done = subprocess.run([program, *words, "2", str(PIECE)], check=True, capture_output=True, text=True)
    found = re.findall(r"^\s*(\d+)\s+(canonical|ring)\s+\d+ \|\s+([\d.]+) us", done.stdout, re.MULTILINE)
    return {(int(size), order): float(us) for size, order, us in found}


def open_mpi(folder):
    script = os.path.join(folder, "mpi_allreduce.py")
    command = ["mpirun", "--allow-run-as-root", "-n", "2", sys.executable, script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["bytes"]: line["us"] for line in lines}


def gloo(sizes):
    """The same from PyTorch's Gloo; this file is run again for each of its two workers."""
    environment = {"GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(PORT), **os.environ}
    command = [sys.executable, __file__, "--gloo", *map(str, sizes)]
    workers = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment) for rank in (0, 1)]
    output = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("Gloo's workers failed")
    return {int(size): us for size, us in json.loads(output[0]).items()}


def gloo_worker(*numbers):
    *sizes, rank = map(int, numbers)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    middle = {}
    for size in sizes:
        vector, times = torch.ones(size // 4), []
        for _ in range(3 + (12 if size > 1 << 24 else 60)):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(vector)
            times.append(time.perf_counter() - start)
        middle[size] = statistics.median(times[3:]) * 1e6
    dist.destroy_process_group()
    if rank == 0:
        print(json.dumps(middle))


def main():
    if sys.argv[1:2] == ["--gloo"]:
        return gloo_worker(*sys.argv[2:])
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("peers")
    arguments.add_argument("--rounds", type=int, default=9)
    args = arguments.parse_args()
    warn_of_load(2)
    rounds = []
    for _ in range(args.rounds):
        measured = {transport: ours(args.program, transport) for transport in ("shm", "tcp", "tls")}
        sizes = sorted({size for size, _ in measured["shm"]})
        rounds.append({**measured, "mpi": open_mpi(args.peers), "gloo": gloo(sizes)})

    def times(side, size):
        return [r[side].get(size, r[side].get((size, "canonical"))) for r in rounds]

    def cell(values):
        return f"{statistics.median(values):,.1f} us ({min(values):,.1f} to {max(values):,.1f})"

    names = {"shm": "shared memory", "tcp": "TCP", "tls": "TCP with TLS", "mpi": "Open MPI", "gloo": "Gloo"}
    print("| bytes | Outgrow, in the order of the tree | beside | times as fast | in the order of a ring |\n|---|---|---|---|---|")
    for size in sizes:
        for side, peer in (("shm", "mpi"), ("tcp", "gloo"), ("tls", "gloo")):
            mine, theirs = times(side, size), times(peer, size)
            ring = [r[side][size, "ring"] for r in rounds]
            ratio = statistics.median(their / my for their, my in zip(theirs, mine))
            print(f"| {size:,} | {names[side]}: {cell(mine)} | {names[peer]}: {cell(theirs)} | {ratio:.1f} | {cell(ring)} |")


if __name__ == "__main__":
    main()
