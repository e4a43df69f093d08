"""How long a whole run of `extract` takes beside the model's own forward passes: python -m benchmarks.extract [--files 200] [--models birdnet ast]

Blocks of files alternate: a run of `extract`, then the same windows, loaded beforehand, through the network alone.
Nothing is downloaded: `ast` is the default architecture with seeded weights, saved locally.
"""
import argparse
import tempfile
import time
import warnings
from functools import update_wrapper
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import AudioPipeline
from auditus.collect import collect
from auditus.extract import extract

sr = 32000
seconds = 1., 10.  # shortest and longest recording


def make_sounds(folder, files, rng):
    "Recordings as ogg: noise with a moving tone in it, of different lengths."
    for i in range(files):
        n = round(rng.uniform(*seconds)*sr)
        t = np.arange(n)/sr
        wave = .05*rng.standard_normal(n)+.2*np.sin(2*np.pi*(1000*t+200*np.sin(3*t)))
        with sf.SoundFile(folder/f'{i:04}.ogg', 'w', sr, 1) as f:
            for at in range(0, n, sr): f.write(wave[at:at+sr].astype(np.float32))


def ast_folder(folder):
    "The default AST with seeded weights, as a checkpoint."
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel
    torch.manual_seed(0)
    ASTModel(ASTConfig()).save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    return folder


class Timed:
    "Adds up the time spent in a callable."
    def __init__(self, f):
        self.f, self.seconds = f, 0.
        update_wrapper(self, f)  # callers may ask for the signature
    def __call__(self, *args, **kwargs):
        began = time.perf_counter()
        try: return self.f(*args, **kwargs)
        finally: self.seconds += time.perf_counter()-began


def network_of(model):
    "What does the arithmetic: where it hangs, and by which name."
    return (model.net, 'forward') if hasattr(model, 'net') else (model.interpreter, 'invoke')


def compare(pipe, files, scratch, blocks=8):
    "Seconds of `extract` and of the network alone, block by block."
    owner, name = network_of(pipe.model)
    times = []
    for b, block in enumerate(np.array_split([i.at for i in collect(files)], blocks)):
        began = time.perf_counter()
        extract(list(block), scratch/f'{b}', pipe, progress=False)
        whole = time.perf_counter()-began
        waves = [w.wave for path in block for w in pipe.iter_windows(path)]
        timed = Timed(getattr(owner, name))
        setattr(owner, name, timed)
        try: list(pipe.embedding.embed_waves(iter(waves)))
        finally: delattr(owner, name)
        times.append((whole, timed.seconds, len(waves)))
    return np.array(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=200)
    parser.add_argument('--models', nargs='+', default=['birdnet', 'ast'], choices=['birdnet', 'ast'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    scratch = Path(tempfile.mkdtemp())
    sounds = scratch/'sounds'
    sounds.mkdir()
    make_sounds(sounds, args.files, np.random.default_rng(0))
    for name in args.models:
        pipe = AudioPipeline(ast_folder(scratch/'ast') if name == 'ast' else name, window='auto' if name == 'ast' else 3)
        pipe(str(sounds/'0000.ogg'))  # loaded and warm
        times = compare(pipe, sounds, scratch/f'out-{name}')
        ratios = times[:, 0]/times[:, 1]
        print(f'{name}: {args.files} files, {int(times[:, 2].sum())} windows, extract {times[:, 0].sum():.1f} s, network {times[:, 1].sum():.1f} s, '
              f'ratio {times[:, 0].sum()/times[:, 1].sum():.3f} (blocks {ratios.min():.3f} to {ratios.max():.3f})', flush=True)


if __name__ == '__main__': main()
