#!/usr/bin/env python3
"""Small tables by the template of `outgrow init`, source and label filled in and nothing else, beside scikit-learn's
models at their defaults and RealMLP-TD-S of pytabkit, on the same test rows for several seeds of the split.
tables.py OUTGROW_BINARY [--only NAMES] [--seeds 5] [--made] [--without pytabkit]

Tables are written with pandas' default index. A quarter of the rows is for testing; Outgrow gets it as a test set of its
own, and like pytabkit sets a fifth of the rest aside to choose the epoch by. scikit-learn's linear models and MLP get
scaled inputs (and the MLP a scaled target), medians for missing numbers and 0/1 columns for texts. Times are of `outgrow
run` with all that belongs to it, and of `fit` elsewhere, on two threads. `--made` adds two larger tables that are made up.

Needs scikit-learn and pandas; vega_datasets for cars and seattle-weather, pytabkit (and so torch) for its RealMLP."""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "2")

import numpy
import pandas
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.filterwarnings("ignore")


def of_sklearn(load):
    def make():
        table = load(as_frame=True).frame
        return table, "target"

    return make


def cars():
    from vega_datasets import data

    # Without what is to be predicted a row teaches nothing.
    table = data.cars().dropna(subset=["Miles_per_Gallon"]).reset_index(drop=True)
    table["Year"] = table["Year"].astype(str)
    return table, "Miles_per_Gallon"


def weather():
    from vega_datasets import data

    table = data.seattle_weather()
    table["date"] = table["date"].astype(str)
    return table, "weather"


def made_classes():
    features, target = datasets.make_classification(
        6400, 20, n_informative=10, n_classes=4, n_clusters_per_class=3, random_state=0
    )
    return named(features, target)


def made_numbers():
    features, target = datasets.make_friedman1(20_000, 12, noise=1.0, random_state=0)
    return named(features, target)


def named(features, target):
    table = pandas.DataFrame(features, columns=[f"x{i}" for i in range(features.shape[1])])
    return table.assign(target=target), "target"


# name: the table, whether classes are predicted
TABLES = {
    "breast-cancer": (of_sklearn(datasets.load_breast_cancer), True),
    "wine": (of_sklearn(datasets.load_wine), True),
    "digits": (of_sklearn(datasets.load_digits), True),
    "diabetes": (of_sklearn(datasets.load_diabetes), False),
    "cars": (cars, False),
    "seattle-weather": (weather, True),
}
MADE = {"made-4800": (made_classes, True), "made-15000": (made_numbers, False)}


def useful(table, label):
    """The columns without texts that nearly every row has of its own, which the template leaves out too."""
    texts = table.drop(columns=label).select_dtypes(exclude="number")
    return table.drop(columns=[name for name in texts if 2 * texts[name].nunique() > len(table)])


def scaled(model):
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (texts, make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    return make_pipeline(columns, model)


def peers(classes, seed, without):
    """Name and model of each peer."""
    if classes:
        models = {
            "linear": scaled(LogisticRegression()),
            "MLP": scaled(MLPClassifier(random_state=seed)),
            "boosting": HistGradientBoostingClassifier(random_state=seed),
        }
    else:
        mlp = scaled(MLPRegressor(random_state=seed))
        models = {
            "linear": scaled(Ridge()),
            "MLP": TransformedTargetRegressor(mlp, transformer=StandardScaler()),
            "boosting": HistGradientBoostingRegressor(random_state=seed),
        }
    if "pytabkit" not in without:
        from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

        make = RealMLP_TD_S_Classifier if classes else RealMLP_TD_S_Regressor
        models["pytabkit"] = make(random_state=seed, n_threads=2, device="cpu")
    return models


def score(classes, predicted, target):
    """Percent of wrong answers, or the root of the mean squared error: less is better."""
    predicted, target = numpy.asarray(predicted), numpy.asarray(target)
    if classes:
        return 100 * float(numpy.mean(predicted.astype(str) != target.astype(str)))
    return float(numpy.sqrt(numpy.mean((predicted.astype(float) - target) ** 2)))


def by_peer(model, name, train, test, label):
    train, test = useful(train, label), test[useful(train, label).columns]
    x, y, x_test = train.drop(columns=label), train[label], test.drop(columns=label)
    if name in ("boosting", "pytabkit"):
        texts = list(x.select_dtypes(exclude="number"))
        for column in texts:
            kinds = pandas.CategoricalDtype(sorted(x[column].dropna().unique()))
            x, x_test = x.assign(**{column: x[column].astype(kinds)}), x_test.assign(**{column: x_test[column].astype(kinds)})
    if name == "pytabkit":
        medians = x.median(numeric_only=True)
        x, x_test = x.fillna(medians), x_test.fillna(medians)
    started = time.monotonic()
    model.fit(x, y)
    return model.predict(x_test), time.monotonic() - started


def outgrow(binary, folder, label, seed, settings):
    """What the template predicts for the test rows, in which time, and its own result."""
    manifest = folder / "outgrow.toml"
    subprocess.run([binary, "init", "--template", "csv", "--force", str(manifest)], check=True, capture_output=True)
    text = manifest.read_text()
    for key, value in [("files", "train.csv"), ("label", label)]:
        before = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
        text = text.replace(before, f'{key} = "{value}"')
    manifest.write_text(text)
    command = [binary, "run", str(manifest), "--fresh", "--json", "--threads", "2", "--out", str(folder / "run")]
    own = [f"seed={seed}", 'data.test={ files = "test.csv" }', "data.split={ validation = 0.2 }"]
    command += [part for setting in own + settings for part in ("--set", setting)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}\n{done.stdout}")
    predict = [binary, "predict", str(folder / "run"), str(folder / "test.csv"), "--json"]
    answers = json.loads(subprocess.run(predict, check=True, capture_output=True, text=True).stdout)
    value = lambda one: one["class"] if "class" in one else next(iter(one["values"].values()))
    return [value(one) for one in answers["predictions"]], seconds


def measure(args, name, make, classes):
    """Scores and seconds of each system over the seeds."""
    table, label = make()
    results = {}
    for seed in range(args.seeds):
        train, test = train_test_split(
            table, test_size=0.25, random_state=seed, stratify=table[label] if classes else None
        )
        train, test = train.reset_index(drop=True), test.reset_index(drop=True)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            train.to_csv(folder / "train.csv")
            test.to_csv(folder / "test.csv")
            ours, seconds = outgrow(args.binary, folder, label, seed, args.set)
        results.setdefault("Outgrow", []).append((score(classes, ours, test[label]), seconds))
        for peer, model in peers(classes, seed, args.without).items():
            predicted, seconds = by_peer(model, peer, train, test, label)
            results.setdefault(peer, []).append((score(classes, predicted, test[label]), seconds))
    return results, len(train)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--only", type=lambda names: names.split(","))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--without", type=lambda names: names.split(","), default=[])
    parser.add_argument("--set", action="append", default=[], help="a key of Outgrow's manifest, to try something")
    args = parser.parse_args()
    tables = {**TABLES, **(MADE if args.made or args.only else {})}
    ranks, heading = {}, None
    for name, (make, classes) in tables.items():
        if args.only and name not in args.only:
            continue
        results, rows = measure(args, name, make, classes)
        systems = list(results)
        if heading is None:
            heading = ["table", "rows", "measure"] + systems + [f"seconds of {s}" for s in ("Outgrow", "pytabkit") if s in systems]
            print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
        means = {system: numpy.mean([one for one, _ in runs]) for system, runs in results.items()}
        for system in systems:
            rank = 1 + sum(other < means[system] for other in means.values())
            ties = sum(other == means[system] for other in means.values()) - 1
            ranks.setdefault(system, []).append(rank + ties / 2)
        cells = [f"{means[s]:.2f} ± {numpy.std([one for one, _ in results[s]]):.2f}" for s in systems]
        cells += [f"{numpy.mean([t for _, t in results[s]]):.2f}" for s in ("Outgrow", "pytabkit") if s in systems]
        print(f"| {name} | {rows} | {'error, %' if classes else 'RMSE'} | {' | '.join(cells)} |", flush=True)
    if heading:
        cells = [f"{numpy.mean(of):.2f}" for of in ranks.values()]
        print(f"| mean rank | | | {' | '.join(cells)} |{' |' * (len(heading) - 3 - len(cells))}")


if __name__ == "__main__":
    main()
