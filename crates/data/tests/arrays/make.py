"""Writes the files of this folder with NumPy and PyArrow; the tests know what they hold."""

import json
import zlib
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.feather

n = np.arange(12)
x = np.stack([n / 4, n % 3, -n], 1)
image = (np.arange(12 * 2 * 4 * 3) % 251).astype("uint8").reshape(12, 2, 4, 3)
y = n % 3

np.savez_compressed("packed.npz", x=x, y=y.astype("int64"))
np.savez("stored.npz", x=np.asfortranarray(x.astype("float32")), y=y.astype("uint8"))
np.savez_compressed("fortran.npz", x=np.asfortranarray(x), y=y.astype(">i2"))
np.savez_compressed(
    "images.npz", x_train=image, y_train=y[:, None], x_test=image[:5].transpose(0, 3, 1, 2), y_test=y[:5, None]
)

png = b"\x89PNG\r\n\x1a\n" + b"".join(
    len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    for kind, body in [
        (b"IHDR", (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])),
        (b"IDAT", zlib.compress(bytes([0, 7, 9]))),
        (b"IEND", b""),
    ]
)
table = pa.table(
    {
        "i": pa.array([*range(11), None], pa.int8()),
        "f": pa.array(np.where(n == 3, np.nan, n / 2), pa.float64()),
        "t": pa.array(n * 1000, pa.timestamp("ms")),
        "d": pa.array([Decimal(int(k)) / 4 for k in n], pa.decimal128(10, 2)),
        "word": pa.array([f"w{k % 2}" for k in n]).dictionary_encode(),
        "label": pa.array([["no", "yes"][k % 2] for k in n], pa.large_string()),
        "list": pa.array([[k] for k in n.tolist()]),
    }
)
pa.feather.write_feather(table, "table.feather")  # compressed by LZ4
pa.feather.write_feather(table, "zstd.feather", compression="zstd", chunksize=5)
with pa.ipc.new_stream("stream.arrow", table.schema) as out:
    out.write_table(table, max_chunksize=5)
features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
images = pa.table(
    {"image": pa.array([{"bytes": png, "path": None}] * 4), "label": pa.array([0, 1, 0, 1], pa.int64())}
).replace_schema_metadata({"huggingface": json.dumps(features)})
with pa.ipc.new_file("images.arrow", images.schema) as out:
    out.write_table(images)
