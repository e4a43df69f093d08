"""Seconds to the first result in a fresh process: `AudioPipeline` beside transformers by hand, AST-base on disk.

    python -m benchmarks.first
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

root = Path(__file__).resolve().parents[1]
quiet = "import warnings; warnings.simplefilter('ignore')\n"
make = """
import torch, transformers as tf
torch.manual_seed(0)
tf.ASTModel(tf.ASTConfig()).save_pretrained({folder!r})
tf.ASTFeatureExtractor().save_pretrained({folder!r})
"""
ours = "from auditus import AudioPipeline\nAudioPipeline({folder!r})({sound!r})"
converted = "from auditus import AudioPipeline\nAudioPipeline({folder!r}, backend='openvino')({sound!r})"
by_hand = """
import numpy as np, soundfile as sf, torch
from transformers import AutoFeatureExtractor, AutoModel
extractor, model = AutoFeatureExtractor.from_pretrained({folder!r}), AutoModel.from_pretrained({folder!r}).eval()
wave, sr = sf.read({sound!r}, dtype='float32')
wave = np.interp(np.arange(0, len(wave), sr/16000), np.arange(len(wave)), wave)
with torch.no_grad(): model(**extractor(wave, sampling_rate=16000, return_tensors='pt')).last_hidden_state.mean(1)
"""


def main():
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': f'{folder}/cache'}
        known = dict(folder=f'{folder}/ast', sound=str(root/'test_files'/'speech_like.wav'))
        def seconds(code):
            began = time.perf_counter()
            subprocess.run([sys.executable, '-c', quiet+code.format(**known)], check=True, capture_output=True, env=env)
            return time.perf_counter()-began
        seconds(make)
        ways = {'transformers by hand': by_hand, 'auditus': ours, 'auditus, openvino': converted}
        for code in ways.values(): seconds(code)  # files are in the system's cache, and converted
        took = {k: [] for k in ways}
        for _ in range(5):
            for k, code in ways.items(): took[k].append(seconds(code))
        for k, s in took.items(): print(f'{k}: {sorted(s)[2]:.2f} s ({min(s):.2f} to {max(s):.2f})')


if __name__ == '__main__': main()
