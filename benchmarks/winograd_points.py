#!/usr/bin/env python3
"""What the points of Winograd's algorithm cost in accuracy: the error of tiles of a 3x3 convolution computed in float32,
beside that of a plain sum in float32, as a Markdown table. Numbers are normal; the error is a root mean square against
float64. Needs numpy.
winograd_points.py [--channels 64,256] [--tiles 200]"""
import argparse

import numpy

WINDOW = 3
# name: points besides infinity; tiles have one row fewer
POINTS = {
    "2x2: 0, 1, -1": (0, 1, -1),
    "4x4: 0, 1, -1, 2, -2": (0, 1, -1, 2, -2),
    "4x4: 0, 1/2, -1/2, 3/2, -3/2": (0, 0.5, -0.5, 1.5, -1.5),
    "4x4: 0, 3/4, -3/4, 3/2, -3/2": (0, 0.75, -0.75, 1.5, -1.5),
    "6x6: 0, 1, -1, 2, -2, 1/2, -1/2": (0, 1, -1, 2, -2, 0.5, -0.5),
}


def transforms(points, tile):
    """The matrices of results, weights and source (Toom and Cook), with infinity as the last point."""
    count = tile + WINDOW - 1
    finite = numpy.array(points, dtype=float)
    others = [[q for j, q in enumerate(points) if j != i] for i in range(count - 1)]
    scale = [numpy.prod([p - q for q in rest]) for p, rest in zip(points, others)]
    results, weights, source = numpy.zeros((tile, count)), numpy.zeros((count, WINDOW)), numpy.zeros((count, count))
    results[:, :-1] = finite ** numpy.arange(tile)[:, None]
    weights[:-1] = finite[:, None] ** numpy.arange(WINDOW) / numpy.array(scale)[:, None]
    results[-1, -1] = weights[-1, -1] = 1
    for i, rest in enumerate(others + [list(points)]):
        polynomial = numpy.poly(rest)[::-1]
        source[i, : len(polynomial)] = polynomial
    return results, weights, source


def apply(matrix, values):
    """`matrix values matrix^T` over the last two dimensions, each product and sum rounded to float32."""

    def rows(values):
        out = numpy.zeros(values.shape[:-2] + (len(matrix), values.shape[-1]), numpy.float32)
        for i, k in zip(*numpy.nonzero(matrix)):
            out[..., i, :] += numpy.float32(matrix[i, k]) * values[..., k, :]
        return out

    return numpy.swapaxes(rows(numpy.swapaxes(rows(values), -1, -2)), -1, -2)


def errors(points, channels, tiles):
    """Root mean squares of the errors: by these points, and of a plain sum."""
    tile = len(points) + 2 - WINDOW
    extent = tile + WINDOW - 1
    random = numpy.random.default_rng(0)
    source = random.standard_normal((tiles, channels, extent, extent)).astype(numpy.float32)
    weights = random.standard_normal((channels, WINDOW, WINDOW)).astype(numpy.float32)
    right, plain = numpy.zeros((tiles, tile, tile)), numpy.zeros((tiles, tile, tile), numpy.float32)
    for channel in range(channels):
        for i in range(WINDOW):
            for j in range(WINDOW):
                part = source[:, channel, i : i + tile, j : j + tile]
                right += part.astype(float) * float(weights[channel, i, j])
                plain += part * weights[channel, i, j]
    to_results, to_weights, to_source = transforms(points, tile)
    products = numpy.zeros((tiles, extent, extent), numpy.float32)
    for u, v in zip(apply(to_weights, weights), numpy.moveaxis(apply(to_source, source), 1, 0)):
        products += u * v
    result = apply(to_results, products)
    return [numpy.sqrt(numpy.mean((found - right) ** 2)) for found in (result, plain)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", default="64,256")
    parser.add_argument("--tiles", type=int, default=200)
    args = parser.parse_args()
    channels = [int(n) for n in args.channels.split(",")]
    print("| tiles and points | " + " | ".join(f"{n} channels, times a plain sum's error" for n in channels) + " |")
    print("|---|" + "---|" * len(channels))
    for name, points in POINTS.items():
        pairs = [errors(points, n, args.tiles) for n in channels]
        print(f"| {name} | " + " | ".join(f"{ours / plain:.2f}" for ours, plain in pairs) + " |")


if __name__ == "__main__":
    main()
