"""A labelling session with an oracle in the place of ears: what comes out of 60 judgements, and what a million rows cost.

Nights and real sounds in noise are made by `benchmarks.nights`. What comes out is what was judged yes, and what nobody judged
and scores 0.5 or more. Beside it: as many judgements of rows that chance picks, and no judgements at all, the rows most like
the examples, as many as there are calls (which nobody would know).

    python -m benchmarks.review nights --folder kept --models birdnet yamnet.tflite
    python -m benchmarks.review mixed --folder kept --models birdnet yamnet.tflite
    python -m benchmarks.review million
"""
import argparse
import json
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.metrics import average_precision_score

from auditus import AudioPipeline
from auditus.extract import extract
from auditus.review import Session
from benchmarks import nights

windows = {'birdnet': 3.}  # s; of YAMNet three of its own
kinds = 'birds', 'mammals', 'elec', 'tabla'
plans = {'session': ['similar', 'uncertain', 'top', 'uncertain', 'top', 'uncertain'],
         'uncertain': ['similar']+['uncertain']*5,
         'top': ['similar']+['top']*5, 'random': ['random']*6}


def made(folder, make):
    "Make sounds once: a folder with `sounds`, `examples` and where the calls are."
    if not (folder/'truth.json').exists(): (folder/'truth.json').write_text(json.dumps(make(folder)))
    return json.loads((folder/'truth.json').read_text())


def night(seed):
    def make(folder):
        nights.examples(folder/'examples', seed)
        return nights.night(folder/'sounds', seed)
    return make


def sessions(folder, model, truth, plan, seed):
    "Judge ten clips, learn, and again."
    table = folder/f'{Path(model).stem}.parquet'
    if not table.exists():
        extract(folder/'sounds', table, AudioPipeline(model, window=windows.get(model, 2.88), progress=False))
    with tempfile.TemporaryDirectory() as passing:
        s = Session(table, folder/'sounds', passing, seed=seed)
        calls = [s.rows.containing(s.rows.numbers[f], a, b) for f, a, b in truth]
        has_call = np.zeros(len(s), bool)
        has_call[[r for rows in calls for r in rows]] = True
        s.add('call', folder/'examples')
        alone = s.likeness('call')
        order = np.argsort(-alone, kind='stable')[:has_call.sum()]
        base = report('scores alone', calls, has_call, np.isin(np.arange(len(s)), order), alone)
        for by in plans[plan]:
            for clip in s.next(10, 'call', by): s.judge(clip, 'call', bool(has_call[s.rows.locate(clip)]))
            s.learn()
        out = np.zeros(len(s), bool)
        out[[s.rows.locate(r) for r in s.found('call', .5)]] = True
        return base, report(plan, calls, has_call, out, s.score('call')['score'].to_numpy())


def report(name, calls, has_call, out, scores):
    recall = np.mean([out[rows].any() for rows in calls])
    return name, recall, has_call[out].mean() if out.any() else 0., average_precision_score(has_call, scores)


def compare(cases, models):
    for model in models:
        found = {}
        for name, folder, make, seed in cases:
            truth = made(folder, make)
            for plan in plans:
                base, result = sessions(folder, model, truth, plan, seed)
                for key, *values in (base, result): found.setdefault(key, {})[name] = values
        for key, values in found.items():
            mean = np.mean([*values.values()], 0)
            each = '; '.join(f'{n} {r:.2f} {p:.2f} {ap:.2f}' for n, (r, p, ap) in values.items())
            print(f'{Path(model).stem}, {key}: recall {mean[0]:.2f}, precision {mean[1]:.2f}, average precision {mean[2]:.2f} ({each})', flush=True)


def million(folder, n, dim=1024):
    "What each step costs; the vectors are mapped from a file."
    X, rng = np.lib.format.open_memmap(folder/'X.npy', 'w+', np.float32, (n, dim)), np.random.default_rng(0)
    for at in range(0, n, 50_000): X[at:at+50_000] = rng.standard_normal((min(50_000, n-at), dim), dtype=np.float32)
    X[::2000, :8] += 2.5
    X.flush()
    X, at = np.load(folder/'X.npy', mmap_mode='r'), np.arange(n)
    table = pa.table({'file': [f'{i//1200:04}.wav' for i in range(n)], 'start': at % 1200*3., 'end': at % 1200*3.+3})
    def clock(what, f):
        began = time.perf_counter()
        result = f()
        used = next(l.split()[1] for l in open('/proc/self/status') if l.startswith('RssAnon'))
        print(f'{what}: {time.perf_counter()-began:.3f} s, {int(used)//1024} MB', flush=True)
        return result
    s = clock('open', lambda: Session((X, table), folder=folder/'session'))
    s.add('call', [X[i] for i in range(0, 10_000, 2000)])
    clock('the first clips', lambda: s.next(1, 'call'))
    for clip in s.next(60, 'call'): s.judge(clip, 'call', s.rows.locate(clip) % 2000 == 0)
    clock('fit, and the scores of all rows', lambda: s.learn())
    clock('fit again', lambda: s.learn())
    for by in 'top', 'uncertain', 'random', 'threshold', 'diverse':
        [clip] = clock(f'the first, {by}', lambda: s.next(1, 'call', by))
        clock('a judgement', lambda: s.judge(clip, 'call', s.rows.locate(clip) % 2000 == 0))
        clock('the next', lambda: s.next(1, 'call', by))
    clock('the table of scores', lambda: s.score('call'))
    clock('report', lambda: s.report())
    print(f'peak, mapped pages included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024} MB')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['nights', 'mixed', 'million'])
    parser.add_argument('--folder', type=Path, help='for sounds and tables; without it, one that is removed')
    parser.add_argument('--models', nargs='+', default=['birdnet'])
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--rows', type=int, default=1_000_000)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as passing:
        folder = args.folder or Path(passing)
        if args.what == 'million': return million(Path(passing), args.rows)
        if args.what == 'nights': cases = [(f'seed {i}', folder/f'night{i}', night(i), i) for i in range(args.seeds)]
        else:
            cases = [(k, folder/k, lambda to, k=k: nights.mixed(to, k, 0, hours=.5, each=40, n_others=120), 0)
                     for k in kinds]
        for _, at, _, _ in cases: at.mkdir(parents=True, exist_ok=True)
        compare(cases, args.models)


if __name__ == '__main__': main()
