#!/usr/bin/env python3
"""What FTRL-proximal and LAMB, which PyTorch lacks, make of the optimiser tests' data, as JSON on standard output.
paper_golden.py > crates/train/src/optim/golden_papers.json

Written from the papers, with 50 decimal digits and the whole history of a run in place of running state. Data, shapes
and learning rates are those of crates/train/src/optim/check.rs. Needs nothing but Python; the tests read only the
result."""
import json
from decimal import Decimal, getcontext

getcontext().prec = 50
STEPS = 20
TENSORS = [range(0, 6), range(6, 8)]


def datum(step, index):
    if step > 0 and index == 7:
        return Decimal(0)
    mixed = ((step * 31 + index + 1) * 2_654_435_761) >> 7 & 1023
    return Decimal(int(mixed - 511.5)) / 512


def lr_at(lr, step):
    return Decimal(lr) * (1 - Decimal(step - 1) / 40)


def ftrl(indices, lr, beta, l1, l2):
    """McMahan et al. 2013, equation (1): after each step, the w that minimises sum(g) w + 1/2 sum(sigma (w - w_s)^2)
    + l1 |w|, where the sum of sigma is the inverse of the learning rate of section 3.1, and l2 w^2 / 2 of algorithm 1.
    Each sigma is of the rate alpha of its step; the last rate stands for the sum of them, as in algorithm 1."""
    beta, l1, l2 = Decimal(beta), Decimal(l1), Decimal(l2)
    result = []
    for index in indices:
        weights, gradients, sigmas = [datum(0, index)], [], []
        for step in range(1, STEPS + 1):
            alpha = lr_at(lr, step)
            before = sum(g * g for g in gradients).sqrt() if gradients else Decimal(0)
            gradients.append(datum(step, index))
            after = sum(g * g for g in gradients).sqrt()
            sigmas.append((after - before) / alpha)
            slope = sum(gradients) - sum(s * w for s, w in zip(sigmas, weights))
            curvature = (beta + after) / alpha + l2
            # The subgradient of slope w + curvature w^2 / 2 + l1 |w| holds zero at w = 0, or on one side of it.
            if abs(slope) <= l1:
                weights.append(Decimal(0))
            else:
                weights.append(-(slope - l1 if slope > 0 else slope + l1) / curvature)
        result.append(float(weights[-1]))
    return result


def lamb(indices, lr, beta1, beta2, eps, weight_decay):
    """You et al. 2020, algorithm 2, with phi the identity; the means written out as weighted sums of all gradients."""
    beta1, beta2, eps, weight_decay = map(Decimal, (beta1, beta2, eps, weight_decay))
    norm = lambda v: sum(x * x for x in v).sqrt()
    x = [datum(0, index) for index in indices]

    def mean(values, beta):
        weights = [beta ** (len(values) - 1 - i) for i in range(len(values))]
        return sum(w * v for w, v in zip(weights, values)) / sum(weights)

    for step in range(1, STEPS + 1):
        update = []
        for place, index in enumerate(indices):
            g = [datum(s, index) for s in range(1, step + 1)]
            r = mean(g, beta1) / (mean([v * v for v in g], beta2).sqrt() + eps)
            update.append(r + weight_decay * x[place])
        scale = lr_at(lr, step) * norm(x) / norm(update)
        x = [w - scale * u for w, u in zip(x, update)]
    return [float(w) for w in x]


# name of the case: optimiser, learning rate at the start, options
CASES = {
    "ftrl": (ftrl, "0.1", ("1", "0", "0")),
    "ftrl-options": (ftrl, "0.1", ("0.5", "0.5", "0.2")),
    "ftrl-no-beta": (ftrl, "0.1", ("0", "0", "0")),
    "lamb": (lamb, "0.02", ("0.9", "0.999", "1e-6", "0.01")),
    "lamb-options": (lamb, "0.02", ("0.7", "0.9", "0.01", "0")),
}

if __name__ == "__main__":
    run = lambda optimizer, lr, options: [optimizer(t, lr, *options) for t in TENSORS]
    lines = [f'  "{name}": {json.dumps(run(*case))}' for name, case in CASES.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
