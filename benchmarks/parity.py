#!/usr/bin/env python3
"""Compares the loss of each training step with PyTorch's, from the same initial weights on the same batches, by SGD
with momentum; fails when one differs by more than the model's tolerance.
parity.py OUTGROW_BINARY [--models mlp,lenet,resnet18] [--steps N] [--batch N] [--threads 2] [--each]

Needs torch, torchvision, safetensors and numpy."""
import argparse
import pathlib
import tempfile

import torch
from safetensors.torch import save_file

import outgrow

# model: steps, samples of a batch, learning rate, largest relative difference of a loss
CASES = {
    "mlp": (50, 32, 0.003, 1e-3),
    "lenet": (50, 32, 0.01, 1e-3),
    "resnet18": (20, 32, 0.002, 1e-2),
}
MOMENTUM = 0.9


def torch_losses(model, images, labels, steps, batch, lr):
    pixels = (torch.tensor(images, dtype=torch.float32) / 255 - 0.5) / 0.25
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels
    labels = torch.tensor(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM)
    losses = []
    for step in range(steps):
        part = slice(step * batch, (step + 1) * batch)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pixels[part]), labels[part])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compare(name, args, folder):
    steps, batch, lr, tolerance = CASES[name]
    steps, batch = args.steps or steps, args.batch or batch
    make, model, shape = outgrow.MODELS[name]
    images, labels = outgrow.make_data(folder, steps * batch, shape)
    peer = make()
    weights = {k: v.contiguous() for k, v in peer.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(weights, folder / "weights.safetensors")
    train = f"steps = {steps}, batch = {batch}, lr = {lr}, shuffle = false, log_every_steps = 1"
    train += f', optimizer = {{ name = "momentum", momentum = {MOMENTUM} }}'
    channels = 1 if len(shape) == 2 else shape[0]
    data = f"{outgrow.IDX}, normalize = {{ mean = {[0.5] * channels}, std = {[0.25] * channels} }}"
    text = outgrow.manifest(model, train, data, folder / "weights.safetensors")
    _, lines = outgrow.run_outgrow(args.binary, folder, text, threads=args.threads)
    ours = [line["loss"] for line in lines if line["split"] == "train"]
    theirs = torch_losses(peer, images, labels, steps, batch, lr)
    if len(ours) != steps:
        raise SystemExit(f"{name}: {steps} steps, but {len(ours)} losses in metrics.jsonl")
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, theirs)]
    if args.each:
        for step, (a, b, difference) in enumerate(zip(ours, theirs, differences), 1):
            print(f"  step {step}: Outgrow {a:.7f}, PyTorch {b:.7f}, difference {difference:.1e}")
    worst = max(range(steps), key=differences.__getitem__)
    verdict = "agrees" if differences[worst] <= tolerance else "DIFFERS"
    print(
        f"| {name} | {steps} | {theirs[0]:.4f} | {theirs[-1]:.4f} | {ours[-1]:.4f} "
        f"| {differences[worst]:.1e} (step {worst + 1}) | {tolerance:.0e} | {verdict} |",
        flush=True,
    )
    return differences[worst] <= tolerance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", metavar="OUTGROW_BINARY")
    parser.add_argument("--models", default=",".join(CASES))
    parser.add_argument("--steps", type=int, help="in place of the model's own number")
    parser.add_argument("--batch", type=int, help="in place of the model's own size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--each", action="store_true", help="print every step")
    args = parser.parse_args()
    outgrow.set_torch(args.threads)
    print("| model | steps | first loss | last, PyTorch | last, Outgrow | largest difference | allowed | |")
    print("|---|---|---|---|---|---|---|---|")
    agreed = True
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            agreed &= compare(name, args, pathlib.Path(folder))
    raise SystemExit(0 if agreed else 1)


if __name__ == "__main__":
    main()
