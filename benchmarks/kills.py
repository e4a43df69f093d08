"""Kill what is being saved, at any moment, and look whether something is lost: `python -m benchmarks.kills --times 100`.

Each of four operations is killed by SIGKILL so many times, at moments spread evenly over how long it takes: `SoundIndex.save`, `Probe.save`
and `AudioPipeline.save` over a saved one, and a run of `extract`. After each kill the old one or the new one must open, whole, the next save
must succeed, and in the end nothing may lie about. A run of `extract` is gone on with, and must come to the table of an unbroken run.
"""
import argparse
import os
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import AudioPipeline, SoundIndex
from auditus.extract import extract, load
from auditus.finetune import Probe


def small_model(folder):
    "A small wav2vec2 with seeded weights."
    import torch
    import transformers as tf
    torch.manual_seed(0)
    tf.utils.logging.disable_progress_bar()
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                 conv_dim=(32,)*7, num_conv_pos_embeddings=16,
                 num_conv_pos_embedding_groups=4)
    tf.Wav2Vec2Model(tf.Wav2Vec2Config(**sizes)).save_pretrained(folder)
    tf.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def write_sounds(folder, n):
    "Short noises in two sub-folders."
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder/'ab'[i % 2]/f'{i:03}.wav'
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, rng.normal(0, .1 if i % 2 else .01, rng.integers(4000, 16000)), 16000)
    return folder


def in_child(work):
    "Run something in a forked process; gives its number."
    pid = os.fork()
    if pid: return pid
    try:
        with open(os.devnull, 'w') as nothing: os.dup2(nothing.fileno(), 2)
        work()
    finally: os._exit(0)


def seconds_of(work):
    "How long something takes in a process of its own: the longest of three times."
    took = []
    for _ in range(3):
        began = time.perf_counter()
        os.waitpid(in_child(work), 0)
        took.append(time.perf_counter()-began)
    return max(took)


def kill(work, after_s):
    "Begin something in a process of its own, and kill it; says whether it was still at work."
    pid = in_child(work)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def kill_saves(name, at, times, first, second, opened, same):
    "Kill saves over a saved one; `first` and `second` are what is saved by turns."
    folder = at/f'saved-{name}'/name
    folder.parent.mkdir()
    first.save(folder)
    took, old, killed, lost = seconds_of(lambda: second.save(folder)), second, 0, 0
    for i in range(times):
        new = first if old is second else second
        killed += kill(lambda: new.save(folder), took*(i+1)/times)
        found = opened(folder)
        if same(found, new): old = new
        elif not same(found, old): lost += 1
    first.save(folder)
    left = [p.name for p in folder.parent.iterdir() if p.name != name]
    ok = not lost and not left and same(opened(folder), first)
    print(f'{name:14} {times} kills, {killed} of them in the midst of {took:.2f} s: {lost} lost, {len(left)} left lying about', flush=True)
    return ok


def kill_runs(at, times, sounds, pipe):
    "Kill runs of `extract`; each is gone on with, and killed again, until it is done."
    extract(sounds, at/'straight', pipe, progress=False)
    wanted, killed, wrong, runs = load(at/'straight'), 0, 0, 0
    took = seconds_of(lambda: extract(sounds, at/'run', pipe, resume=False, progress=False))
    while runs < times:
        shutil.rmtree(at/'run', ignore_errors=True)
        shutil.rmtree(at/'run.auditus', ignore_errors=True)
        for i in range(4):
            killed += kill(lambda: extract(sounds, at/'run', pipe, progress=False), took*((runs*7) % times+1)/times)
            runs += 1
        extract(sounds, at/'run', pipe, progress=False)
        found = load(at/'run')
        wrong += not (np.array_equal(found[0], wanted[0]) and found[1].equals(wanted[1]))
    print(f'extract        {runs} kills, {killed} of them in the midst of {took:.2f} s: {wrong} tables of {runs//4} differ', flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--times', type=int, default=100)
    times = parser.parse_args().times
    warnings.simplefilter('ignore')
    import torch
    torch.set_num_threads(1)  # as in a forked process: with other numbers of threads the last bits differ
    with tempfile.TemporaryDirectory() as at:
        at = Path(at)
        import auditus.collect
        auditus.collect.files_per_part = 4
        pipe, sounds = AudioPipeline(small_model(at/'model')), write_sounds(at/'sounds', 60)
        other = AudioPipeline(at/'model', pooling='max')
        indexes = [SoundIndex.build(sounds, p, cache=at/'cache', progress=False) for p in (pipe, other)]
        probes = [Probe(p, cache=at/'cache', progress=False).fit(sounds) for p in (pipe, other)]
        ok = [kill_saves('index', at, times, *indexes, SoundIndex.open, lambda a, b: np.array_equal(a.X, b.X)),
              kill_saves('probe', at, times, *probes, Probe.load,
                         lambda a, b: np.array_equal(a.scores_of(indexes[0].X), b.scores_of(indexes[0].X))),
              kill_saves('pipeline', at, times, pipe, other, AudioPipeline.load, lambda a, b: a.pooling == b.pooling),
              kill_runs(at, times, sounds, pipe)]
        print('nothing was lost' if all(ok) else 'SOMETHING WAS LOST')
        raise SystemExit(not all(ok))


if __name__ == '__main__': main()
