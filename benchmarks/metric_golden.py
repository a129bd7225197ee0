#!/usr/bin/env python3
"""Writes what scikit-learn makes of random and degenerate answers: metric_golden.py > crates/train/src/metric/golden.json

Answers and targets are float32, as a model gives them. Where a metric is not defined (one class, one sample), it is null."""
import json
import sys
import warnings

import numpy
from sklearn import metrics

warnings.simplefilter("ignore")
random = numpy.random.default_rng(1)


def defined(value):
    return None if value is None or not numpy.isfinite(value) else float(value)


def of_classes(targets, logits):
    """`logits` is [samples, classes]."""
    logits = logits.astype(numpy.float64)
    classes = list(range(logits.shape[1]))
    predicted = logits.argmax(axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))
    found = {
        "f1": metrics.f1_score(targets, predicted, average="macro", zero_division=0),
        "f1_weighted": metrics.f1_score(targets, predicted, average="weighted", zero_division=0),
        "precision": metrics.precision_score(targets, predicted, average="macro", zero_division=0),
        "recall": metrics.recall_score(targets, predicted, average="macro", zero_division=0),
    }
    probability = numpy.exp(logs)
    if probability.min() > 1e-12:
        # A smaller one is cut by scikit-learn.
        found["log_loss"] = metrics.log_loss(targets, probability, labels=classes)
    if len(classes) == 2:
        both = len(set(targets.tolist())) == 2
        found["auc"] = metrics.roc_auc_score(targets, logits[:, 1] - logits[:, 0]) if both else None
    return {name: defined(value) for name, value in found.items()}


def case(name, task, width, targets, answers, found):
    flat = lambda array: [float(x) for x in numpy.asarray(array, numpy.float32).ravel()]
    case = {"name": name, "task": task, "width": width, "targets": flat(targets), "answers": flat(answers), "metrics": found}
    if task == "binary":
        both = len(set(numpy.asarray(targets).tolist())) == 2
        areas = {"auc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
        case["ranking"] = {name: float(of(targets, numpy.ravel(answers))) if both else None for name, of in areas.items()}
    return case


def classes(name, targets, logits):
    targets, logits = numpy.asarray(targets), numpy.asarray(logits, numpy.float32)
    yield case(name, "class", logits.shape[1], targets, logits, of_classes(targets, logits))
    if logits.shape[1] == 2:
        one = (logits[:, 1:] - logits[:, :1]).astype(numpy.float32)
        both = numpy.concatenate([numpy.zeros_like(one), one], axis=1)
        yield case(f"{name}, by one logit", "binary", 1, targets, one, of_classes(targets, both))


def numbers(name, targets, answers):
    targets, answers = (numpy.asarray(array, numpy.float32) for array in (targets, answers))
    wide = [array.astype(numpy.float64).reshape(len(array), -1) for array in (targets, answers)]
    found = {
        "rmse": numpy.sqrt(((wide[0] - wide[1]) ** 2).mean()),
        "mae": metrics.mean_absolute_error(*wide),
        "r2": metrics.r2_score(*wide) if len(targets) > 1 else None,
    }
    found = {key: defined(value) for key, value in found.items()}
    yield case(name, "number", wide[0].shape[1], targets, answers, found)


def main():
    cases = []
    for samples in (1, 2, 7, 60):
        for width in (2, 3, 10):
            targets = random.integers(0, width, samples)
            cases += classes(f"{samples} random samples of {width} classes", targets, random.normal(size=(samples, width)))
        for width in (1, 3):
            targets = random.normal(size=(samples, width)) * 10
            cases += numbers(f"{samples} random samples of {width} numbers", targets, targets + random.normal(size=targets.shape))
    logits = random.normal(size=(40, 3))
    cases += classes("a class that is absent", random.integers(0, 2, 40), logits)
    cases += classes("a class that is absent and never predicted", random.integers(0, 2, 40), logits - [0, 0, 100])
    cases += classes("one class only", numpy.zeros(40, int), random.normal(size=(40, 2)))
    cases += classes("all ties", random.integers(0, 2, 40), numpy.zeros((40, 2)))
    cases += classes("scores with ties", random.integers(0, 2, 40), random.integers(0, 3, (40, 2)))
    cases += classes("all wrong", numpy.arange(40) % 3, numpy.eye(3)[(numpy.arange(40) + 1) % 3] * 5)
    cases += classes("all right", numpy.arange(40) % 3, numpy.eye(3)[numpy.arange(40) % 3] * 5)
    cases += classes("very sure and wrong", numpy.arange(40) % 2, numpy.eye(2)[(numpy.arange(40) + 1) % 2] * 20)
    cases += numbers("targets that are all the same", numpy.full(20, 3.5), random.normal(size=20))
    cases += numbers("the same, predicted exactly", numpy.full(20, 3.5), numpy.full(20, 3.5))
    cases += numbers("the mean", numpy.arange(20), numpy.full(20, 9.5))
    cases += numbers("a mean far larger than the spread", 1e6 + numpy.arange(30) % 7, 1e6 + numpy.arange(30) % 5)
    cases += numbers("a number that is always the same among others", numpy.stack([numpy.full(20, 2.0), numpy.arange(20)], 1),
                     random.normal(size=(20, 2)))
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
