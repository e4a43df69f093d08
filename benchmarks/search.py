"""Finding the nearest of a million vectors: how often a graph finds what looking at all of them finds, and how fast.

Rows of 768 dims around 10,000 seeded centres, with noise of a tenth of the centres' spread; random rows have no neighbours to find.

    python -m benchmarks.search --rows 1000000
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from auditus.search import SoundIndex

dim, centres = 768, 10_000


def around(middles, n, rng):
    "Rows around the centres, made in pieces."
    X = np.empty((n, dim), np.float32)
    for at in range(0, n, 2**15):
        part = X[at:at+2**15]
        part[:] = middles[rng.integers(0, len(middles), len(part))]
        part += .1*rng.standard_normal(part.shape, dtype=np.float32)
    return X


def clock(f, times):
    "Median seconds."
    took = []
    for _ in range(times):
        began = time.perf_counter()
        f()
        took.append(time.perf_counter()-began)
    return np.median(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--queries', type=int, default=200)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((centres, dim), dtype=np.float32)
    X, queries = around(middles, args.rows, rng), around(middles, args.queries, rng)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    table = pa.table({'file': [f'{i:07}.ogg' for i in range(args.rows)], 'start': np.zeros(args.rows),
                      'end': np.ones(args.rows)})
    began = time.perf_counter()
    index = SoundIndex.build((X, table), exact_up_to=args.rows//10)
    built = time.perf_counter()-began
    del X
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder)/'index')
        del index
        began = time.perf_counter()
        index = SoundIndex.open(Path(folder)/'index')
        opened = time.perf_counter()-began
        wanted, _ = index.neighbours(queries, 10, exact=True)
        found, _ = index.neighbours(queries, 10)
        recall = np.mean([len({*a} & {*b})/10 for a, b in zip(found.tolist(), wanted.tolist())])
        one = queries[:1]
        slow, fast = clock(lambda: index.neighbours(one, 10, exact=True), 5), clock(lambda: index.neighbours(one, 10), 50)
    print(f'{args.rows:,} rows of {dim} dims: built in {built:.0f} s, opened in {opened:.3f} s, recall@10 {recall:.4f}, '
          f'one query {1000*fast:.2f} ms, all rows {1000*slow:.0f} ms, ratio {slow/fast:.0f}')


if __name__ == '__main__': main()
