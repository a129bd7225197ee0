#!/usr/bin/env python3
"""What the server adds to its HTTP stack: a model that does next to nothing, beside an echo.
serve_overhead.py OUTGROW_BINARY ECHO_BINARY [--rounds 9] [--seconds 2] [--columns 4]

The echo is `cargo build --release -p outgrow-serve --example echo`. The model is linear, of one row of a few numbers. One
client on one connection that is kept alive asks one after the other, for some seconds each, in turns; of the medians of all
rounds the median is told, with the least and the greatest. Binary tensors and JSON."""
import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def median_us(binary, url, model, seconds, flags):
    command = [binary, "bench", "serve", url, "--model", model, "--warm-up", "0.3", "--seconds", str(seconds), "--json", *flags]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert not found["errors"] and not found["refused"], found
    return found["latency_ms"]["p50"] * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outgrow")
    parser.add_argument("echo")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--columns", type=int, default=4)
    args = parser.parse_args()
    outgrow, echo = (str(pathlib.Path(path).resolve()) for path in (args.outgrow, args.echo))
    with tempfile.TemporaryDirectory() as folder:
        columns = [f"x{i}" for i in range(args.columns)] + ["y"]
        rows = [[float((i * j) % 7) for j in range(len(columns))] for i in range(8)]
        manifest = pathlib.Path(folder) / "m.toml"
        manifest.write_text(
            f'name = "line"\n[data]\nsource = "rows"\ncolumns = {json.dumps(columns)}\nlabel = "y"\n'
            f'rows = {rows}\ntest = {{ rows = {rows} }}\n[model]\nname = "linear"\n[train]\nepochs = 1\nbatch = 4\n')
        subprocess.run([outgrow, "train", str(manifest), "--out", f"{folder}/run", "--cache", f"{folder}/cache", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        port = free_port()
        servers = [subprocess.Popen([echo, str(port), str(args.columns)]),
                   subprocess.Popen([outgrow, "serve", f"{folder}/run", "--http", "127.0.0.1:0", "--json", "--quiet"],
                                    stdout=subprocess.PIPE, text=True)]
        try:
            served = json.loads(servers[1].stdout.readline())["http"]
            time.sleep(0.3)
            print("| body | echo, us | served, us | added, us |\n|---|---|---|---|")
            for name, flags in [("binary", []), ("JSON", ["--json-body"])]:
                pairs = [(median_us(outgrow, f"http://127.0.0.1:{port}", "echo", args.seconds, flags),
                          median_us(outgrow, served, "line", args.seconds, flags)) for _ in range(args.rounds)]
                columns = [[a for a, _ in pairs], [b for _, b in pairs], [b - a for a, b in pairs]]
                told = (f"{statistics.median(c):.1f} ({min(c):.1f} to {max(c):.1f})" for c in columns)
                print(f"| {name} | {' | '.join(told)} |")
        finally:
            for server in servers:
                server.kill()
                server.wait()


if __name__ == "__main__":
    main()
