"""Clips of long recordings against the same seconds as files of their own: `extract`, with a model that does next to nothing.

    python -m benchmarks.clips --clips 10000 --files 100

One recording of an hour is made of noise in each format; the others are links to it, which `extract` takes for recordings of
their own by their names. Clips lie anywhere, in the order of a table that is sorted by file and time. Both runs are timed
in turns, by the processor's time, which other work beside it moves less than a clock's.
"""
import argparse
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import AudioPipeline
from auditus.core import Clip
from auditus.extract import extract

from .memory import Loudness

sr, seconds = 32000, 5.


def make(folder, ext, files, clips, minutes):
    "The recordings, the clips, and the same seconds as files."
    rng, long = np.random.default_rng(0), folder/f'0.{ext}'
    noise = rng.normal(0, .05, sr*60).astype(np.float32)
    with sf.SoundFile(long, 'w', sr, 1) as f:
        for _ in range(minutes): f.write(noise)
    for i in range(1, files): os.link(long, folder/f'{i}.{ext}')
    cuts = sorted((str(folder/f'{rng.integers(files)}.{ext}'), float(s))
                  for s in rng.uniform(0, minutes*60-seconds, clips).round(2))
    short = folder/'short'
    short.mkdir()
    sf.write(short/f'0.{ext}', noise[:round(seconds*sr)], sr)
    for i in range(1, clips): shutil.copy(short/f'0.{ext}', short/f'{i}.{ext}')
    return [Clip(p, s, s+seconds) for p, s in cuts], sorted(map(str, short.iterdir()))


def timed(sounds, out):
    began = time.process_time()
    done = extract(sounds, out, AudioPipeline(Loudness()), progress=False)
    assert not done.errors and done.rows == len(sounds), done
    return time.process_time()-began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', type=int, default=1000)
    parser.add_argument('--files', type=int, default=10)
    parser.add_argument('--minutes', type=int, default=60)
    parser.add_argument('--blocks', type=int, default=3)
    parser.add_argument('--formats', nargs='+', default=['wav', 'flac', 'ogg', 'mp3'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    for ext in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            clips, files = make(Path(folder), ext, args.files, args.clips, args.minutes)
            found = [[timed(s, Path(folder)/f'{name}{b}.parquet') for name, s in (('clips', clips), ('files', files))] for b in range(args.blocks)]
            ratios, (c, f) = sorted(a/b for a, b in found), np.median(found, axis=0)*1000/args.clips
            print(f'{ext}: {c:.1f} ms a clip, {f:.1f} ms a file, ratio {ratios[len(ratios)//2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})', flush=True)


if __name__ == '__main__': main()
