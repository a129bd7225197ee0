#!/usr/bin/env python3
"""What PyTorch's optimisers make of the optimiser tests' data in f64, as JSON on standard output.
optimizer_golden.py > crates/train/src/optim/golden.json

Data, shapes and learning rates are those of crates/train/src/optim/check.rs. Needs PyTorch; the tests read only the
result."""
import json

import torch

STEPS = 20
SHAPES = [(2, 3), (2,)]

# name of the case: optimiser, learning rate at the start, options
CASES = {
    "sgd": (torch.optim.SGD, 0.05, {}),
    "sgd-decay": (torch.optim.SGD, 0.05, dict(weight_decay=0.1)),
    "momentum": (torch.optim.SGD, 0.02, dict(momentum=0.9)),
    "momentum-dampening": (torch.optim.SGD, 0.02, dict(momentum=0.8, dampening=0.3, weight_decay=0.1)),
    "nesterov": (torch.optim.SGD, 0.02, dict(momentum=0.9, nesterov=True)),
    "nesterov-decay": (torch.optim.SGD, 0.02, dict(momentum=0.5, nesterov=True, weight_decay=0.1)),
    "adagrad": (torch.optim.Adagrad, 0.05, {}),
    "adagrad-options": (
        torch.optim.Adagrad,
        0.05,
        dict(lr_decay=0.1, initial_accumulator_value=0.5, eps=0.001, weight_decay=0.1),
    ),
    "rmsprop": (torch.optim.RMSprop, 0.01, {}),
    "rmsprop-options": (torch.optim.RMSprop, 0.01, dict(alpha=0.9, eps=0.01, weight_decay=0.1)),
    "rmsprop-centered-momentum": (torch.optim.RMSprop, 0.01, dict(alpha=0.9, momentum=0.7, centered=True)),
    "adam": (torch.optim.Adam, 0.01, {}),
    "adam-options": (torch.optim.Adam, 0.01, dict(betas=(0.3, 0.9), eps=0.001, weight_decay=0.1)),
    "adamw": (torch.optim.AdamW, 0.01, {}),
    "adamw-options": (torch.optim.AdamW, 0.01, dict(betas=(0.8, 0.95), eps=0.001, weight_decay=0.3)),
}

# The same with two groups of parameters: the second tensor at a quarter of the rate and without decay.
GROUPS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, dict(momentum=0.9)),
    "nesterov": (torch.optim.SGD, dict(momentum=0.9, nesterov=True)),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}
GROUPS_LR, GROUPS_FACTOR, GROUPS_DECAY = 0.02, 0.25, 0.2


def datum(step, index):
    if step > 0 and index == 7:
        return 0.0
    mixed = ((step * 31 + index + 1) * 2_654_435_761) >> 7 & 1023
    return int(mixed - 511.5) / 512.0


def tensors_at(step):
    flat = torch.tensor([datum(step, index) for index in range(8)], dtype=torch.float64)
    return [part.reshape(shape) for part, shape in zip(flat.split([6, 2]), SHAPES)]


def run(optimizer, lr, options):
    params = [torch.nn.Parameter(x.clone()) for x in tensors_at(0)]
    optimizer = optimizer(params, lr=lr, **options)
    for step in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = lr * (1.0 - (step - 1) / 40.0)
        for param, grad in zip(params, tensors_at(step)):
            param.grad = grad
        optimizer.step()
    return [param.detach().flatten().tolist() for param in params]


def run_groups(optimizer, options):
    params = [torch.nn.Parameter(x.clone()) for x in tensors_at(0)]
    groups = [
        dict(params=[params[0]], factor=1.0, weight_decay=GROUPS_DECAY),
        dict(params=[params[1]], factor=GROUPS_FACTOR, weight_decay=0.0),
    ]
    optimizer = optimizer(groups, lr=GROUPS_LR, **options)
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = GROUPS_LR * (1.0 - (step - 1) / 40.0) * group["factor"]
        for param, grad in zip(params, tensors_at(step)):
            param.grad = grad
        optimizer.step()
    return [param.detach().flatten().tolist() for param in params]


if __name__ == "__main__":
    results = {name: run(*case) for name, case in CASES.items()}
    results |= {f"{name}-groups": run_groups(*case) for name, case in GROUPS.items()}
    lines = [f'  "{name}": {json.dumps(result)}' for name, result in results.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
