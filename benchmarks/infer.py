#!/usr/bin/env python3
"""Times batches of ONNX models beside ONNX Runtime and OpenVINO, alternating between the three, and prints Markdown tables:
medians with their spread and the ratio to the faster of the two; then the time from the file to a model that is ready.
infer.py OUTGROW_BINARY PEERS_SCRIPT_FOLDER MODEL_FOLDER --python PYTHON [--models mlp,resnet18-cifar,resnet50,mobilenet_v2,gpt]
    [--precision f32] [--rounds 3] [--seconds 4] [--threads 2] [--kernel-path NAME] [--only-load]

PEERS_SCRIPT_FOLDER holds `ort_infer.py` and `ov_infer.py`, which are run by PYTHON (with torch, torchvision, onnxruntime and
openvino): the first exports the models that MODEL_FOLDER does not hold yet, with random weights and an open batch. Both print
JSON objects of `model`, `batch` (1, 8 and 32), `precision` and `ms`, the median of some seconds. Outgrow's side is `outgrow
bench infer`. With `--precision bf16`, it is OpenVINO's bf16 alone that is compared with: ONNX Runtime has none on
processors. Run it on an idle machine: absolute times differ between machines and hours."""
import argparse
import json
import pathlib
import statistics
import subprocess

from speed import spread, warn_of_load

MODELS = ["mlp", "resnet18-cifar", "resnet50", "mobilenet_v2", "gpt"]
BATCHES = [1, 8, 32]
NAMES = {"ours": "Outgrow", "ort": "ONNX Runtime", "ov": "OpenVINO"}
# Milliseconds from the file to a session, as each peer is usually opened: in a process of its own, but for the import.
ORT_LOAD = """
import sys, time, onnxruntime as ort
options = ort.SessionOptions(); options.intra_op_num_threads = int(sys.argv[2])
start = time.perf_counter(); ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print((time.perf_counter() - start) * 1e3)"""
OV_LOAD = """
import sys, time, openvino as ov
start = time.perf_counter(); core = ov.Core()
core.compile_model(core.read_model(sys.argv[1]), "CPU", {"INFERENCE_PRECISION_HINT": sys.argv[3], "INFERENCE_NUM_THREADS": int(sys.argv[2]), "PERFORMANCE_HINT": "LATENCY"})
print((time.perf_counter() - start) * 1e3)"""


def output(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stderr}\n{done.stdout}")
    return done.stdout


def objects(command):
    return [json.loads(line) for line in output(command).splitlines() if line.startswith("{")]


def peer_ms(script, model, args):
    """By batch."""
    found = objects([args.python, pathlib.Path(args.peers) / script, args.folder, args.threads, model])
    return {one["batch"]: one["ms"] for one in found if one.get("precision", "f32") == args.precision}


def own(model, batch, args):
    command = [args.binary, "bench", "infer", pathlib.Path(args.folder) / f"{model}.onnx", "--batch", batch]
    command += ["--seconds", args.seconds, "--threads", args.threads, "--precision", args.precision, "--json", "--quiet"]
    if args.kernel_path:
        command += ["--kernel-path", args.kernel_path]
    return objects(command)[-1]


def compare_times(args, peers):
    print("| model | batch | " + " | ".join(f"{NAMES[name]}, ms" for name in ["ours", *peers]) + " | samples/s | faster peer / Outgrow |")
    print("|---" * (len(peers) + 5) + "|")
    ratios, loads, peaks = [], {}, {}
    for model in args.models.split(","):
        times = {name: {batch: [] for batch in BATCHES} for name in ["ours", *peers]}
        for _ in range(args.rounds):
            warn_of_load(args.threads)
            # ONNX Runtime's side first: it exports the model.
            for name, script in peers.items():
                for batch, ms in peer_ms(script, model, args).items():
                    times[name][batch].append(ms)
            for batch in BATCHES:
                found = own(model, batch, args)
                times["ours"][batch].append(found["ms"])
                peaks[model, batch] = found["process_peak_mib"]
        for batch in BATCHES:
            medians = {name: statistics.median(of[batch]) for name, of in times.items()}
            ratio = min(medians[name] for name in peers) / medians["ours"]
            ratios.append(ratio)
            cells = " | ".join(spread(times[name][batch]) for name in ["ours", *peers])
            print(f"| {model} | {batch} | {cells} | {batch * 1e3 / medians['ours']:.4g} | {ratio:.2f} |", flush=True)
    print(f"\nLeast ratio {min(ratios):.2f}, median {statistics.median(ratios):.2f}. Most memory of a process, MiB: " + ", ".join(f"{model} at {batch}: {mib}" for (model, batch), mib in peaks.items() if batch == BATCHES[-1]) + ".")


def compare_loads(args, peers):
    print("\n| model | " + " | ".join(f"{NAMES[name]} ready, ms" for name in ["ours", *peers]) + " | ONNX Runtime / Outgrow |")
    print("|---" * (len(peers) + 3) + "|")
    code = {"ort": ORT_LOAD, "ov": OV_LOAD}
    for model in args.models.split(","):
        file = pathlib.Path(args.folder) / f"{model}.onnx"
        times = {name: [] for name in ["ours", *peers]}
        for _ in range(args.rounds + 2):
            for name in peers:
                times[name].append(float(output([args.python, "-c", code[name], file, args.threads, args.precision]).split()[-1]))
            times["ours"].append(own(model, 1, argparse.Namespace(**{**vars(args), "seconds": 0.01}))["load_ms"])
        ratio = f"{statistics.median(times['ort']) / statistics.median(times['ours']):.2f}" if "ort" in peers else ""
        print(f"| {model} | " + " | ".join(spread(times[name]) for name in times) + f" | {ratio} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("peers", metavar="PEERS_SCRIPT_FOLDER")
    parser.add_argument("folder", metavar="MODEL_FOLDER")
    parser.add_argument("--python", required=True, help="the interpreter that has the peers")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement of Outgrow; the peers take about 4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kernel-path", help="of Outgrow")
    parser.add_argument("--only-load", action="store_true")
    args = parser.parse_args()
    peers = {"ort": "ort_infer.py", "ov": "ov_infer.py"} if args.precision == "f32" else {"ov": "ov_infer.py"}
    if not args.only_load:
        compare_times(args, peers)
    compare_loads(args, peers)


if __name__ == "__main__":
    main()
