"""How long a whole run of `extract` takes beside the model's own forward passes: python -m benchmarks.extract [--files 200] [--models birdnet ast] [--backend onnx]

Blocks of files alternate: a run of `extract`, then the same windows, loaded beforehand, through the network alone.
Nothing is downloaded: `ast` is the default architecture with seeded weights, saved locally.
"""
import argparse
import tempfile
import time
import warnings
from contextlib import contextmanager
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
    "Adds up the time spent in a callable: by the clock, and by the processor."
    def __init__(self, f):
        self.f, self.spent = f, np.zeros(2)
        update_wrapper(self, f, updated=())  # callers may ask for the signature
    def __call__(self, *args, **kwargs):
        began = now()
        try: return self.f(*args, **kwargs)
        finally: self.spent += now()-began


def now(): return np.array([time.perf_counter(), time.process_time()])


def network_of(model):
    "What does the arithmetic: where it hangs, and by which name."
    if model.session is not None: return model, 'session'
    if model.net is not None: return model.net, 'forward'
    return model.litert.interpreter, 'invoke'


@contextmanager
def timed(model):
    "Time the network within the block."
    owner, name = network_of(model)
    own = vars(owner).get(name)  # `None`: it is a method of its class
    found = Timed(getattr(owner, name))
    setattr(owner, name, found)
    try: yield found
    finally: delattr(owner, name) if own is None else setattr(owner, name, own)


def compare(pipe, files, scratch, blocks=8):
    "Seconds of `extract` and of the network alone, each by the clock and by the processor, block by block."
    times = []
    for b, block in enumerate(np.array_split([i.at for i in collect(files)], blocks)):
        began = now()
        extract(list(block), scratch/f'{b}', pipe, progress=False)
        whole = now()-began
        waves = [w.wave for path in block for w in pipe.iter_windows(path)]
        with timed(pipe.model) as network: list(pipe.embedding.run_sounds([waves]))
        times.append([*whole, *network.spent, len(waves)])
    return np.array(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=200)
    parser.add_argument('--models', nargs='+', default=['birdnet', 'ast'], choices=['birdnet', 'ast'])
    parser.add_argument('--backend', help="the engine, or 'auto'; without it, the model's own")
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    scratch = Path(tempfile.mkdtemp())
    sounds = scratch/'sounds'
    sounds.mkdir()
    make_sounds(sounds, args.files, np.random.default_rng(0))
    for name in args.models:
        pipe = AudioPipeline(ast_folder(scratch/'ast') if name == 'ast' else name,
                             window='auto' if name == 'ast' else 3, backend=args.backend)
        pipe(str(sounds/'0000.ogg'))  # loaded and warm
        times = compare(pipe, sounds, scratch/f'out-{name}')
        clock, busy = times[:, 0]/times[:, 2], times[:, 1]/times[:, 3]
        total = times.sum(0)
        print(f'{name} on {pipe.model.backend}: {args.files} files, {int(total[4])} windows; by the clock extract {total[0]:.1f} s, network {total[2]:.1f} s, '
              f'ratio {total[0]/total[2]:.3f} (blocks {clock.min():.3f} to {clock.max():.3f}); by the processor {total[1]:.1f} s, {total[3]:.1f} s, '
              f'ratio {total[1]/total[3]:.3f} ({busy.min():.3f} to {busy.max():.3f})', flush=True)


if __name__ == '__main__': main()
