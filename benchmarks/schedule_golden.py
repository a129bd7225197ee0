#!/usr/bin/env python3
"""What PyTorch's learning-rate schedulers give over 12 steps, as JSON on standard output.
schedule_golden.py > crates/train/src/schedule/golden.json

Needs PyTorch; the tests in crates/train/src/schedule read only the result."""
import json
import math

import torch
from torch.optim import lr_scheduler as torch_lr

STEPS, LR, WARMUP = 12, 0.2, 4


def warm_up(optimizer):
    return torch_lr.LinearLR(optimizer, start_factor=1 / (WARMUP + 1), total_iters=WARMUP)


def cosine_after_warm_up(optimizer):
    cosine = torch_lr.CosineAnnealingLR(optimizer, T_max=STEPS - WARMUP - 1)
    return torch_lr.SequentialLR(optimizer, [warm_up(optimizer), cosine], milestones=[WARMUP])


def one_cycle(**options):
    # A momentum cycle would need an optimiser with momentum.
    return lambda optimizer: torch_lr.OneCycleLR(
        optimizer, max_lr=LR, total_steps=STEPS, cycle_momentum=False, **options
    )


def coslog(optimizer):
    # Holzmüller, Grinsztajn, Steinwart 2024: four cycles, each twice as long as the one before.
    rate = lambda step: (1 - math.cos(2 * math.pi * math.log2(1 + 15 * step / STEPS))) / 2
    return torch_lr.LambdaLR(optimizer, rate)


CASES = {
    "constant-warmup": warm_up,
    "step": lambda optimizer: torch_lr.StepLR(optimizer, step_size=3, gamma=0.5),
    "cosine": lambda optimizer: torch_lr.CosineAnnealingLR(optimizer, T_max=STEPS - 1, eta_min=0.01),
    "cosine-warmup": cosine_after_warm_up,
    "one-cycle": one_cycle(),
    "one-cycle-options": one_cycle(pct_start=0.4, div_factor=10, final_div_factor=100),
    "one-cycle-down": one_cycle(pct_start=0.0),
    "coslog": coslog,
}


def run(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, rates = make(optimizer), []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < STEPS:
            scheduler.step()
    return rates


if __name__ == "__main__":
    lines = [f'  "{name}": {json.dumps(run(make))}' for name, make in CASES.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
