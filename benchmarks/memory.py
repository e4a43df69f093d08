"""Peak memory of `extract`, for one long recording and for many short ones.

Each case runs in a process of its own, whose peak resident size is what the operating system counted.
The long recording is a sparse wav; the many are hard to keep small on disk otherwise, so they are tenths of a second
at 8 kHz, heard by a model that does next to nothing: what is measured is the machinery.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from auditus.models.base import AudioModel, ModelFrames


class Loudness(AudioModel):
    "The level of a wave."
    name, sr, frame_dim = 'loudness', 8000, 64
    def forward(self, waves, layer=-1):
        level = np.array([[np.sqrt((w**2).mean())]*64 for w in waves], np.float32)
        return ModelFrames(level[:, None], np.ones((len(waves), 1), bool))


def one_case(source, out, model, window):
    "Embed a source, and say how much memory the process came to."
    import resource
    import warnings

    from auditus import AudioPipeline
    from auditus.extract import extract
    warnings.simplefilter('ignore')
    began = time.perf_counter()
    done = extract(source, out, AudioPipeline(Loudness() if model == 'loudness' else model, window=window),
                   progress=False)
    print(json.dumps({'files': done.files, 'rows': done.rows, 'errors': len(done.errors),
                      'seconds': round(time.perf_counter()-began, 1),
                      'peak_mb': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)}))


def run_case(name, source, model, window):
    "Run one case in a process of its own."
    with tempfile.TemporaryDirectory() as out:
        code = f'from benchmarks.memory import one_case; one_case({str(source)!r}, {out+"/out"!r}, {model!r}, {window!r})'
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    print(f'{name}: {done.stdout.strip().splitlines()[-1]}', flush=True)


def sparse_wav(path, seconds, sr=48000):
    "Silence that takes no room on disk."
    with wave.open(str(path), 'wb') as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(sr)
        f.setnframes(seconds*sr)
        f.writeframes(b'')
    size = seconds*sr*2
    with open(path, 'r+b') as f:  # the header that was written speaks of no samples
        f.seek(4)
        f.write((36+size).to_bytes(4, 'little'))
        f.seek(40)
        f.write(size.to_bytes(4, 'little'))
        f.truncate(44+size)


def many_wavs(folder, n, rng, sr=8000):
    "Short noises, a thousand in a folder."
    data = (rng.normal(0, 1000, sr//10)).astype('<i2').tobytes()
    for i in range(n):
        path = folder/f'{i//1000:03}'/f'{i:06}.wav'
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), 'wb') as f:
            f.setnchannels(1)
            f.setsampwidth(2)
            f.setframerate(sr)
            f.writeframes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--many', type=int, nargs='*', default=[1_000, 10_000, 100_000], help='numbers of short files')
    parser.add_argument('--minutes', type=int, nargs='*', default=[1, 360], help='lengths of the long recording')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in args.minutes:
            path = Path(scratch)/f'{minutes}.wav'
            sparse_wav(path, minutes*60)
            run_case(f'{minutes} min, birdnet, 3 s windows', path, 'birdnet', 3.)
        for n in args.many:
            folder = Path(scratch)/f'{n}'
            many_wavs(folder, n, np.random.default_rng(0))
            run_case(f'{n:,} files of 0.1 s, loudness', folder, 'loudness', 1.)


if __name__ == '__main__': main()
