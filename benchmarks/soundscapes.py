"""A Kaggle night: soundscapes of a minute in windows of 5 s through AST-base, from files to Parquet, and what 700 of them would take.

The checkpoint is a real architecture with seeded weights, saved locally; starting, loading and converting count.

    python -m benchmarks.soundscapes --ways "openvino float32" "torch bfloat16"
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peers import checkpoint
from benchmarks.sounds import write_sounds

asked_for = 700  # files of a night
seconds, window = 60., 5.


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=100)
    parser.add_argument('--ways', nargs='+', default=['torch float32', 'openvino float32', 'torch bfloat16', 'openvino bfloat16'], help='backend and dtype')
    args = parser.parse_args()
    rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    write_sounds(folder/'sounds', [seconds]*args.files, rng)
    model = checkpoint('ast', folder)
    env = os.environ | {'HF_HOME': str(folder/'cache')}
    for way in args.ways:
        backend, dtype = way.split()
        out = folder/way.replace(' ', '-')
        began = time.perf_counter()
        subprocess.run([sys.executable, '-c', 'from auditus.cli import app; app()', 'embed', str(folder/'sounds'), '--model', model, '--window', str(window), '--backend', backend,
                        '--dtype', dtype, '-o', str(out)], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = time.perf_counter()-began
        windows = args.files*round(seconds/window)
        print(f'{way}: {args.files} files, {windows} windows in {took:.0f} s, {1000*took/windows:.0f} ms a window; {asked_for} files: {took*asked_for/args.files/60:.0f} minutes', flush=True)


if __name__ == '__main__': main()
