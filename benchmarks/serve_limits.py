#!/usr/bin/env python3
"""What a server does at its limits, in four parts that print Markdown, each with what it is to show and whether it does.
serve_limits.py OUTGROW_BINARY batching MODEL.onnx [--target-ms 100] [--seconds 4]
serve_limits.py OUTGROW_BINARY overload MODEL.onnx [--target-ms 100] [--seconds 60] [--capacity PER_S]
serve_limits.py OUTGROW_BINARY swaps MODEL [MODEL] [--swaps 200] [--rate PER_S] [--rounds 3]
serve_limits.py OUTGROW_BINARY soak MODEL [MODEL] [--seconds 1800] [--rate 50]

batching: the highest rate of which 99 of 100 requests are answered within the target, one row a batch and with batching.
overload: three times the rate that the model bears, for a minute; then half of it. Goodput is what is answered within the
    target, of requests that ask for it (--timeout-ms). Memory is what the server holds.
swaps: two versions of a model take turns while it is asked; latencies beside those of the same load without swaps.
soak: for half an hour requests in binary and JSON, of one row and of several, bodies that are no requests, clients that go
    away, versions that take turns, and a second model that comes and goes; memory and open files over time.
All loads are open loops of `outgrow bench serve`, of one row in binary data. Run it on an idle machine: the load shares it."""
import argparse
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time


def mib(pid):
    """What a process holds of memory now, in MiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


class Server:
    def __init__(self, binary, models, *flags):
        command = [binary, "serve", *models, "--http", "127.0.0.1:0", "--json", "--quiet", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.binary = binary
        self.url = json.loads(self.process.stdout.readline())["http"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def mib(self):
        return mib(self.process.pid)

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def load(self, *flags):
        command = [self.binary, "bench", "serve", self.url, "--json", "--quiet", *map(str, flags)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    def post(self, path, body):
        connection = http.client.HTTPConnection(self.url.split("://")[1], timeout=120)
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return answer.status, said


    def swap(self, name, i):
        """Puts one of two versions in the place of the other."""
        config = json.dumps({"version_policy": {"specific": {"versions": [1 + i % 2]}}})
        status, said = self.post(f"/v2/repository/models/{name}/load", {"parameters": {"config": config}})
        assert status == 200, said


def repository(folder, name, models):
    """Two versions of a model as a folder that servers take."""
    versions = [pathlib.Path(models[i % len(models)]) for i in range(2)]
    for number, model in enumerate(versions, 1):
        at = pathlib.Path(folder) / name / str(number)
        if model.is_dir():
            shutil.copytree(model / "model" if (model / "model").is_dir() else model, at)
        else:
            at.mkdir(parents=True)
            shutil.copy(model, at / "model.onnx")


class Watch:
    """The most memory that a server holds while this is open."""

    def __init__(self, server):
        self.server, self.most, self.over = server, 0.0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, self.server.mib())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def verdict(holds):
    return "yes" if holds else "NO"


def batching(args):
    print(f"| ResNet-18, 99 of 100 within {args.target_ms:g} ms | requests/s | p50, ms | p99, ms | closed loop, 16 connections |")
    print("|---|---|---|---|---|")
    found = {}
    for name, flags in [("one row a batch", ["--batch-rows-max", "1"]), ("dynamic batches", [])]:
        with Server(args.outgrow, [args.models[0]], *flags) as server:
            closed = server.load("--connections", 16, "--seconds", args.seconds)
            at = server.load("--find-rate", "--target-ms", args.target_ms, "--seconds", args.seconds)
            found[name] = at["found_rate"] or 0.0
            late = at.get("latency_ms", {"p50": float("nan"), "p99": float("nan")})
            print(f"| {name} | {found[name]:.1f} | {late['p50']:.1f} | {late['p99']:.1f} | {closed['requests_per_s']:.1f} |", flush=True)
    one, many = found.values()
    print(f"\nBatches bear {many / one if one else float('inf'):.2f} times as much.")


def overload(args):
    target = ["--target-ms", args.target_ms, "--timeout-ms", int(args.target_ms)]
    with Server(args.outgrow, [args.models[0]]) as server:
        capacity = args.capacity or server.load("--find-rate", *target, "--seconds", 4)["found_rate"]
        before = server.mib()
        with Watch(server) as watch:
            found = server.load("--rate", 3 * capacity, *target, "--connections", 512, "--seconds", args.seconds, "--warm-up", 2)
        half = ["--rate", capacity / 2, *target]
        first = server.load(*half, "--warm-up", 0, "--seconds", 2)
        after = server.load(*half, "--warm-up", 0, "--seconds", 5)
        goodput = found["goodput_per_s"]
        in_time = found["within_target"] / max(found["answered"], 1)
        print("| | | to show | holds |\n|---|---|---|---|")
        print(f"| capacity: 99 of 100 within {args.target_ms:g} ms | {capacity:.1f}/s | | |")
        print(f"| asked for | {found['arrived'] / found['seconds']:.1f}/s for {found['seconds']:.0f} s | | |")
        print(f"| goodput | {goodput:.1f}/s, {goodput / capacity:.1%} of capacity | at least 95% | {verdict(goodput >= 0.95 * capacity)} |")
        print(f"| answered within the deadline, of those answered | {in_time:.2%}, p99 {found['latency_ms']['p99']:.1f} ms | 99% | {verdict(in_time >= 0.99)} |")
        print(f"| refused | {found['refused']} {json.dumps(found['refusals'])}, errors {json.dumps(found['errors'])}, unsent {found['unsent']} | no error | {verdict(not found['errors'])} |")
        print(f"| memory before, most, after | {before:.0f}, {watch.most:.0f}, {server.mib():.0f} MiB | bounded | {verdict(watch.most < before + 128)} |")
        for name, part in [("half of capacity, first 2 s after", first), ("and 5 s more", after)]:
            told = f"{part['within_target'] / part['arrived']:.2%} in time, p99 {part['latency_ms']['p99']:.1f} ms, {part['refused']} refused"
            print(f"| {name} | {told} | {'' if part is first else '99%'} | {'' if part is first else verdict(part['within_target'] >= 0.99 * part['arrived'])} |")
        print(f"| cores of the load | {found['own_cores']:.2f} | | |")


def swaps(args):
    with tempfile.TemporaryDirectory() as folder:
        repository(folder, "m", args.models)
        with Server(args.outgrow, [folder]) as server:
            name = "m"

            def swap(i):
                server.swap(name, i)

            for i in range(4):
                swap(i)
            load = ["--model", name, "--rate", args.rate, "--warm-up", 0.5]
            settled, files = [], server.files()
            without, during, done, failed = [], [], 0, 0
            start_mib = server.mib()
            each = -(-args.swaps // args.rounds)
            times = []
            for _ in range(args.rounds):
                found = server.load(*load, "--seconds", args.seconds)
                without.append(found["latency_ms"]["p99"])
                # As long as the swaps take: an interval of measurements after another.
                over = threading.Event()
                results = []

                def ask():
                    while not over.is_set():
                        results.append(server.load(*load[:-1], 0.1, "--seconds", args.seconds))

                asking = threading.Thread(target=ask)
                asking.start()
                time.sleep(0.7)
                for i in range(each):
                    begun = time.monotonic()
                    swap(done + i)
                    times.append(time.monotonic() - begun)
                done += each
                over.set()
                asking.join()
                during.extend(found["latency_ms"]["p99"] for found in results[:-1] or results)
                failed += sum(found["refused"] + sum(found["errors"].values()) + found["unsent"] for found in results)
                settled.append(server.mib())
            ratio = statistics.median(during) / statistics.median(without)
            print("| | | to show | holds |\n|---|---|---|---|")
            print(f"| swaps | {done}, {statistics.median(times) * 1e3:.0f} ms each | | |")
            print(f"| requests | {args.rate:g}/s, {failed} failed | none failed | {verdict(not failed)} |")
            print(f"| p99 without | {statistics.median(without):.2f} ms ({min(without):.2f} to {max(without):.2f}) | | |")
            print(f"| p99 with swaps | {statistics.median(during):.2f} ms ({min(during):.2f} to {max(during):.2f}), {ratio:.2f} times | 1.5 times | {verdict(ratio <= 1.5)} |")
            print(f"| memory before, after each round | {start_mib:.0f}; {', '.join(f'{m:.0f}' for m in settled)} MiB | where it was | {verdict(settled[-1] < settled[0] + 8)} |")
            print(f"| open files before, after | {files}, {server.files()} | where it was | {verdict(server.files() <= files)} |")


def soak(args):
    over = threading.Event()
    counts = {"requests": 0, "refused": 0, "errors": 0, "bodies that are none": 0, "clients gone": 0, "swaps": 0, "loads": 0}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        repository(folder, "m", args.models)
        repository(folder, "other", args.models)
        with Server(args.outgrow, [folder]) as server:

            def again(pause, work):
                def loop():
                    i = 0
                    while not over.is_set():
                        try:
                            work(i)
                        except Exception as problem:
                            wrong.append(repr(problem))
                        i += 1
                        over.wait(pause)

                thread = threading.Thread(target=loop)
                thread.start()
                return thread

            def ask(*flags):
                def work(_):
                    found = server.load("--model", "m", "--rate", args.rate, "--warm-up", 0, "--seconds", 10, *flags)
                    counts["requests"] += found["answered"]
                    counts["refused"] += found["refused"]
                    counts["errors"] += sum(found["errors"].values()) + found["unsent"]

                return work

            def nonsense(i):
                bodies = [b"{", b"[" * 10000, b'{"inputs":[{"name":"x","shape":[1,-1],"datatype":"FP32","data":[1e999]}]}', os.urandom(2000)]
                connection = http.client.HTTPConnection(server.url.split("://")[1], timeout=60)
                connection.request("POST", "/v2/models/m/infer", bodies[i % len(bodies)])
                answer = connection.getresponse()
                answer.read()
                connection.close()
                assert 400 <= answer.status < 500, answer.status
                counts["bodies that are none"] += 1

            def gone(i):
                host, port = server.url.split("://")[1].split(":")
                with socket.create_connection((host, int(port)), timeout=60) as connection:
                    connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n" + b"{" * (i % 5000))
                counts["clients gone"] += 1

            def swap(i):
                server.swap("m", i)
                counts["swaps"] += 1

            def other(i):
                status, said = server.post(f"/v2/repository/models/other/{'load' if i % 2 else 'unload'}", {})
                assert status == 200, said
                counts["loads"] += i % 2

            works = [(0, ask()), (0, ask("--json-body")), (0, ask("--batch", 5)), (0.3, nonsense), (0.2, gone), (1, swap), (2, other)]
            threads = [again(pause, work) for pause, work in works]
            begun, seen = time.monotonic(), []
            while time.monotonic() - begun < args.seconds:
                time.sleep(min(5, args.seconds / 40))
                seen.append((server.mib(), server.files()))
            over.set()
            for thread in threads:
                thread.join()
    # Of the second quarter, when all has been there once, and of the last.
    quarter = len(seen) // 4
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    print("| | | to show | holds |\n|---|---|---|---|")
    print(f"| what came in {args.seconds:.0f} s | {', '.join(f'{n} {name}' for name, n in counts.items())} | no error | {verdict(not counts['errors'] and not wrong)} |")
    # Of memory the median; files come and go with the connections of the loads, so of these the most.
    for i, (name, of, slack) in enumerate([("memory, MiB", statistics.median, 8), ("open files, most", max, 4)]):
        before, after = (of([one[i] for one in part]) for part in (early, late))
        told = f"{before:.0f} in the second quarter, {after:.0f} in the last; {min(one[i] for one in seen):.0f} to {max(one[i] for one in seen):.0f} in all"
        print(f"| {name} | {told} | does not grow | {verdict(after - before <= slack)} |")
    for problem in wrong[:5]:
        print(f"\n{problem}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outgrow")
    parser.add_argument("part", choices=["batching", "overload", "swaps", "soak"])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--target-ms", type=float, default=100)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--capacity", type=float)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.outgrow = str(pathlib.Path(args.outgrow).resolve())
    args.seconds = args.seconds or {"batching": 4, "overload": 60, "swaps": 3, "soak": 1800}[args.part]
    args.rate = args.rate or {"soak": 50}.get(args.part, 1000)
    {"batching": batching, "overload": overload, "swaps": swaps, "soak": soak}[args.part](args)


if __name__ == "__main__":
    main()
