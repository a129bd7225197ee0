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


if __name__ == "__main__":
    lines = [f'  "{name}": {json.dumps(run(*case))}' for name, case in CASES.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
