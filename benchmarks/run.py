"""What this machine can do, and how near `auditus` and its peers come to it: one table, in some minutes.

Every contender hears the same recording in turn, in an order drawn by lot, round after round until the model's time is
up; ratios are those of a round, and their median and spread over all rounds are shown.

    python -m benchmarks.run                          all models, a quarter of an hour at most
    python -m benchmarks.run --models ast --minutes 3 --write
"""
import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import load_model
from benchmarks.peers import clmr, contenders
from benchmarks.processor import gflop, heading, roof
from benchmarks.sounds import write_sounds

models = 'birdnet', 'yamnet', 'clmr', 'whisper', 'clap', 'wav2vec2', 'hubert', 'ast'
single, several = 5., (2., 3., 4., 6., 8.)  # seconds of a recording, and of those that are given together
columns = 'model', 'load', 'who', 'ms a second of sound', 'ratio to the best peer', 'share of the roof', 'cosine to auditus in float32'


def arithmetic(name, folder):
    "GFLOP for a second of sound, as torch counts them, and how many seconds a pass is at least; None where torch can't run it."
    from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
    if name == 'yamnet': return None
    model = load_model('clmr', checkpoint=clmr(folder)) if name == 'clmr' else load_model('birdnet' if name == 'birdnet' else str(folder/name), backend='torch')
    seconds = model.context or (model.token_samples or 10*model.sr)/model.sr
    waves = [.1*np.random.default_rng(0).standard_normal(round(seconds*model.sr)).astype(np.float32)]
    # packed weights hide from torch's counter, and it stumbles over weights that are made of others
    model = getattr(model, 'unpacked', None) and model.unpacked() or model
    for m in filter(is_parametrized, model.net.modules() if model.net is not None else ()):
        remove_parametrizations(m, 'weight')
    return gflop(model.forward, waves)/seconds, seconds if model.context or model.token_samples else 0.


def cosine(a, b): return float(((a*b).sum(-1)/np.linalg.norm(a, axis=-1)/np.linalg.norm(b, axis=-1)).min())


def clock(running, loads, window, seconds, rng, least=2, most=30):
    "Seconds of each contender, round by round, and what each gave; `loads` are lists of paths by name."
    took, gave = {(l, k): [] for l in loads for k in running}, {}
    began = time.perf_counter()
    for r in range(most):
        if r >= least and time.perf_counter()-began > seconds: break
        for load, paths in loads.items():
            for k in rng.permutation(list(running)):
                at = time.perf_counter()
                y = running[k](paths, window)
                took[load, k].append(time.perf_counter()-at)
                if y is not None: gave[load, k] = y
    return {k: np.array(v) for k, v in took.items()}, gave


def compare(name, folder, loads, seconds, roofs, rng, chosen):
    "Rows of the table for one model."
    began = time.perf_counter()
    running = {}
    for k, make in contenders(name, folder, chosen).items():
        try:
            running[k] = make()
            running[k](loads['one'][:1], window := 3. if name == 'birdnet' else None)  # loaded, converted, warm
        except Exception as e:
            running.pop(k, None)
            print(f'{name} without {k}: {type(e).__name__}: {e}', file=sys.stderr)
    if not running: return []
    took, gave = clock(running, loads, window, seconds-(time.perf_counter()-began), rng)
    work, ours = arithmetic(name, folder), next(iter(running))
    rows = []
    for (load, k), t in took.items():
        durations = [sf.info(p).duration for p in loads[load]]
        peers = [p for p in running if not p.startswith('auditus')]
        best = took[load, min(peers, key=lambda p: np.median(took[load, p]))] if peers else None
        ratio = '' if best is None else f'{np.median(best/t):.2f} ({(best/t).min():.2f} to {(best/t).max():.2f})'
        share = ''
        if work and k.startswith('auditus'):
            # what has a length of its own hears it to the end
            heard = sum(np.ceil(d/work[1])*work[1] if work[1] else d for d in durations)
            share = f'{100*work[0]*heard/np.median(t)/roofs["bfloat16" if "bfloat16" in k else "float32"]:.0f} %'
        pairs = [(a, b) for a, b in zip(gave.get((load, k), []), gave.get((load, ours), [])) if a.shape == b.shape]
        same = f'{min(cosine(a, b) for a, b in pairs):.7f}' if pairs else ''
        rows.append((name, load, k, f'{1000*np.median(t)/sum(durations):.1f}', ratio, share, same))
    return rows


def write(lines, about):
    "Put the table into RESULTS.md, in the section of this kind of processor."
    path, mark, following = Path(__file__).with_name('RESULTS.md'), f'## On {heading()}\n', '## Whole runs\n'
    text = path.read_text(encoding='utf-8')
    start = text.index(mark if mark in text else following)
    end = text.index('\n## ', start)+1 if mark in text else start
    path.write_text(f'{text[:start]}{mark}\n{about}\n\n'+'\n'.join(lines)+f'\n\n{text[end:]}', encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', default=models, choices=models)
    parser.add_argument('--minutes', type=float, default=13, help='all models together; each is heard twice at least')
    parser.add_argument('--only', nargs='*', help='contenders')
    parser.add_argument('--write', action='store_true', help='put the table into RESULTS.md')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    import transformers as tf
    tf.utils.logging.set_verbosity_error()
    rng, folder, began = np.random.default_rng(0), Path(tempfile.mkdtemp()), time.perf_counter()
    os.environ['HF_HOME'] = str(folder/'cache')
    loads = {'one': write_sounds(folder/'one', [single], rng), 'folder': write_sounds(folder/'folder', several, rng)}
    roofs = {dtype: roof(dtype) for dtype in ('float32', 'bfloat16')}
    about = f'`python -m benchmarks.run {" ".join(a for a in sys.argv[1:] if a != "--write")}`'.replace(' `', '`')
    about += f': large matrices are multiplied at {roofs["float32"]:.0f} GFLOP/s in float32, {roofs["bfloat16"]:.0f} in bfloat16.'
    lines = ['| '+' | '.join(columns)+' |', '|'+'---|'*len(columns)]
    print(heading(), about, '', *lines, sep='\n', flush=True)
    for i, name in enumerate(args.models):
        # what a model doesn't use is left to the others
        left = 60*args.minutes-(time.perf_counter()-began)
        for row in compare(name, folder, loads, left/(len(args.models)-i), roofs, rng, args.only):
            lines.append('| '+' | '.join(row)+' |')
            print(lines[-1], flush=True)
    print(f'\n{(time.perf_counter()-began)/60:.1f} minutes')
    if args.write: write(lines, about)


if __name__ == '__main__': main()
