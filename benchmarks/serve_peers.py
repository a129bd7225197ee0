#!/usr/bin/env python3
"""Serves one architecture with Outgrow and behind other servers, puts each under the same load, and prints Markdown tables:
latencies at some numbers of connections, and the requests per second of which 99 of 100 are answered within a target.
serve_peers.py OUTGROW_BINARY OUTGROW_MODEL MODEL.onnx PEERS_SCRIPT --peer mlserver=PYTHON --peer litserve=PYTHON [--seconds 2]
    [--connections 1,8,64,512] [--target-ms 5] [--only-latency] [--only-rate]

OUTGROW_MODEL is what Outgrow serves: MODEL.onnx, or a run of an MLP 784-512-512-10 (examples/mnist-mlp.toml); MODEL.onnx is
the same architecture of an input `x` of [batch, 1, 28, 28]. PEERS_SCRIPT NAME MODEL.onnx PORT serves it
behind a peer: `litserve` and `rayserve` take {"data": [784 numbers]}, `mlserver` the Open Inference Protocol. PYTHON is the
interpreter in which that peer is installed, with `onnxruntime`. All are asked by `outgrow bench serve` over HTTP connections
that are kept alive, for one image of the same random numbers as JSON; Outgrow also by binary tensors. A rate is searched
for in an open loop, from what the closed loop with 64 connections came to. Run it on an idle machine: the load shares it."""
import argparse
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

PATHS = {"litserve": "/predict", "rayserve": "/", "mlserver": "/v2/models/mlp/infer", "Outgrow": "/v2/models/mlp/infer"}


def free_port():
    """A port that is free, and so are the two behind it: one of the peers takes three."""
    while True:
        try:
            sockets = [socket.socket() for _ in range(3)]
            sockets[0].bind(("127.0.0.1", 0))
            port = sockets[0].getsockname()[1]
            for i, other in enumerate(sockets[1:], 1):
                other.bind(("127.0.0.1", port + i))
            return port
        except (OSError, OverflowError):
            continue
        finally:
            for s in sockets:
                s.close()


def measure(binary, port, flags):
    command = [binary, "bench", "serve", f"http://127.0.0.1:{port}", "--json", "--quiet", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found.get("errors"), found
    return found


def wait_for(binary, port, flags, process):
    """Until a first request is answered."""
    end = time.monotonic() + 90
    while True:
        try:
            return measure(binary, port, [*flags, "--warm-up", "0", "--seconds", "0.1"])
        except (RuntimeError, AssertionError) as error:
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"the server does not answer: {error}")
            time.sleep(0.3)


def own_body(port, numbers):
    """The request for a model of one input, by what it says of itself."""
    end = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/mlp") as answer:
                tensor = json.load(answer)["inputs"][0]
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    shape = [1 if n < 0 else n for n in tensor["shape"]]
    return {"inputs": [{"name": tensor["name"], "shape": shape, "datatype": "FP32", "data": numbers}]}


class Case:
    """A server and how it is asked."""

    def __init__(self, name, command, path, body, folder):
        self.name, self.port = name, free_port()
        log = open(f"{folder}/{name.replace(' ', '-')}.log", "wb")
        command = [str(part).replace("PORT", str(self.port)) for part in command]
        # A group of its own: some of them start more processes.
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        if path:
            file = pathlib.Path(folder) / f"{name}.json"
            file.write_text(json.dumps(body(self.port)))
            self.flags = ["--path", path, "--body", str(file)]
        else:
            self.flags = ["--model", "mlp"]

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outgrow")
    parser.add_argument("own", metavar="OUTGROW_MODEL")
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("script", metavar="PEERS_SCRIPT")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--connections", default="1,8,64,512")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--target-ms", default="5")
    parser.add_argument("--only-latency", action="store_true")
    parser.add_argument("--only-rate", action="store_true")
    args = parser.parse_args()
    outgrow, model, own_model = (str(pathlib.Path(path).resolve()) for path in (args.outgrow, args.model, args.own))
    numbers = [random.Random(0).random() for _ in range(784)]
    # As a float32 has them.
    numbers = [float(f"{x:.9g}") for x in numbers]
    protocol = {"inputs": [{"name": "x", "shape": [1, 784], "datatype": "FP32", "data": numbers}]}
    serve = [outgrow, "serve", f"mlp={own_model}", "--http", "127.0.0.1:PORT"]
    cases = [("Outgrow JSON", serve, PATHS["Outgrow"], lambda port: own_body(port, numbers)), ("Outgrow binary", serve, None, None)]
    for peer in args.peer:
        name, python = peer.split("=", 1)
        body = protocol if name == "mlserver" else {"data": numbers}
        cases.append((name, [python, args.script, name, model, "PORT"], PATHS[name], lambda port, body=body: body))
    connections = [int(n) for n in args.connections.split(",")]
    latencies, rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, command, path, body in cases:
            case = Case(name, command, path, body, folder)
            try:
                wait_for(outgrow, case.port, case.flags, case.process)
                time_flags = ["--seconds", str(args.seconds), "--warm-up", "0.5"]
                cells = []
                for n in [] if args.only_rate else connections:
                    found = measure(outgrow, case.port, [*case.flags, *time_flags, "--connections", str(n)])
                    at = found["latency_ms"]
                    cells.append(f"{at['p50']:.3g} / {at['p99']:.3g} ms, {found['requests_per_s']:.0f}/s")
                latencies.append((name, cells))
                if not args.only_latency:
                    search = ["--find-rate", "--target-ms", args.target_ms]
                    found = measure(outgrow, case.port, [*case.flags, *time_flags, *search])
                    rate = found["found_rate"]
                    p99 = found["latency_ms"]["p99"] if rate else None
                    cores = found.get("own_cores")
                    rates.append((name, rate, p99, cores))
            finally:
                case.close()
    if latencies and not args.only_rate:
        print("| server | " + " | ".join(f"{n} connection{'s' * (n > 1)}" for n in connections) + " |")
        print("|---" * (len(connections) + 1) + "|")
        for name, cells in latencies:
            print(f"| {name} | {' | '.join(cells)} |")
    if rates:
        print(f"\n| server | requests/s with 99 of 100 within {args.target_ms} ms | p99 there | cores of the load |")
        print("|---|---|---|---|")
        for name, rate, p99, cores in rates:
            print(f"| {name} | {rate:.0f} | {p99:.2f} ms | {cores:.2f} |" if rate else f"| {name} | none | | |")


if __name__ == "__main__":
    main()
