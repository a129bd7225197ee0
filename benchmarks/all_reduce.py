#!/usr/bin/env python3
"""Sums of f32 vectors over two processes of one machine, beside Open MPI's.

usage: all_reduce.py ALL_REDUCE_SPEED PEERS_SCRIPT_FOLDER [--rounds N]

The first is the program of `cargo build --release -p outgrow-runtime --example all_reduce_speed`. The Python that runs
this needs `mpi4py` and `numpy`, and `mpirun` must be there. The two alternate, each with the middle of many sums after
barriers; the table has medians over the rounds, with their spread. Both go through shared memory."""
import argparse, json, os, re, statistics, subprocess, sys

# Of the whole vector, as in training: half of that from each of the two workers.
PIECE = 256 << 10


def ours(program):
    """Microseconds by the bytes of a vector."""
    done = subprocess.run([program, "2", str(PIECE)], check=True, capture_output=True, text=True)
    found = re.findall(r"^\s*(\d+)\s+canonical\s+\d+ \|\s+([\d.]+) us", done.stdout, re.MULTILINE)
    return {int(size): float(us) for size, us in found}


def open_mpi(folder):
    script = os.path.join(folder, "mpi_allreduce.py")
    command = ["mpirun", "--allow-run-as-root", "-n", "2", sys.executable, script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["bytes"]: line["us"] for line in lines}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("peers")
    arguments.add_argument("--rounds", type=int, default=9)
    args = arguments.parse_args()
    rounds = [(ours(args.program), open_mpi(args.peers)) for _ in range(args.rounds)]

    def cell(times):
        return f"{statistics.median(times):,.1f} us ({min(times):,.1f} to {max(times):,.1f})"

    print("| bytes | Outgrow, in the order of the tree | Open MPI | times as fast |\n|---|---|---|---|")
    for size in sorted(rounds[0][0]):
        mine, theirs = [r[0][size] for r in rounds], [r[1][size] for r in rounds]
        ratio = statistics.median(theirs) / statistics.median(mine)
        print(f"| {size:,} | {cell(mine)} | {cell(theirs)} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
