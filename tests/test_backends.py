"Other engines: faster or slower, but never another answer."
import json
import pickle
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import transformers as tf
from kit import command, installed, named_processor, noise
from tiny_models import architectures, headed, make_folder, seeded_encoder

import auditus.models.onnx as engine
from auditus import (AudioArray, AudioClassifier, AudioEmbedding, AudioNotFoundError, AudioPipeline, ModelNotFoundError,
                     SettingError, load_model)
from auditus.models import base, sessions
from auditus.models.sessions import is_installed
from auditus.extract import extract, load

backends = [pytest.param(b, marks=pytest.mark.skipif(not is_installed(b), reason=f'{b} is not installed'))
            for b in ('onnx', 'openvino')]
every = [*architectures, *(f'head-{k}' for k in headed)]
# a recording of these holds for the length of its example only, or OpenVINO gets it wrong; it is found out
refused = {('speech-to-text', 'openvino'), ('sew', 'openvino'), ('sew', 'onnx')}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "Converted networks are kept in a folder of the test's own."
    monkeypatch.setattr(engine, 'cache_folder', lambda: tmp_path/'cache')
    return tmp_path/'cache'


def cosine(a, b): return (a*b).sum(-1)/np.linalg.norm(a, axis=-1)/np.linalg.norm(b, axis=-1)


common = {'ast', 'wav2vec2-layer', 'head-hubert', 'sew'}  # the others take minutes in all


@pytest.mark.parametrize('backend', backends)
@pytest.mark.parametrize('name', [pytest.param(n, marks=pytest.mark.arithmetic if n in common else pytest.mark.slow) for n in every])
def test_every_architecture_says_the_same(name, backend, shallow, rng):
    folder = shallow(name)
    if (name, backend) in refused:
        with pytest.raises(SettingError, match=f"can not be served by backend='{backend}': its frames differ"):
            load_model(folder, backend=backend)
        return
    plain, other = AudioEmbedding(folder, batch_size=3), AudioEmbedding(folder, batch_size=3, backend=backend)
    xs = [AudioArray(noise(rng, s, plain.sr), plain.sr) for s in (1., 2.3, .5, 2.3, 6.1)]
    together = other(xs)
    for x, frames, reference in zip(xs, together, plain(xs)):
        assert frames.shape == reference.shape and np.abs(frames-reference).max() < 1e-4*max(1, np.abs(reference).max())
        assert np.abs(frames-other(x)).max() < 1e-5 and cosine(frames.mean(0), reference.mean(0)) > .999999
    a, b = plain.model.forward([x.a for x in xs[:2]]), other.model.forward([x.a for x in xs[:2]])
    for k in ('pooled', 'logits'):
        one, two = getattr(a, k), getattr(b, k)
        assert (one is None) == (two is None) and (one is None or (one-two).abs().max() < 1e-4)
    model = other.model
    assert (model.sr, model.context, model.frame_dim, model.pooled_dim, model.labels, model.min_samples) == tuple(
        getattr(plain.model, k) for k in ('sr', 'context', 'frame_dim', 'pooled_dim', 'labels', 'min_samples')) and model.backend == backend


@pytest.mark.parametrize('backend', backends)
def test_passes_side_by_side_give_the_same_bits(backend, shallow, rng, tmp_path):
    "However many threads there are, and however long the run."
    folder = shutil.copytree(shallow('ast'), tmp_path/'ast')  # a model that nobody else has loaded
    pipe, threads = AudioPipeline(folder, backend=backend, batch_size=1, window=None), set()
    xs, session = [AudioArray(noise(rng, .5+i/7, 16000), 16000) for i in range(16)], pipe.model.session
    session.at_once = 1
    alone = pipe(xs)
    assert not pipe.model.is_divided
    session.at_once = 3
    for _ in range(2):  # the second time it is divided from the second batch on
        np.testing.assert_array_equal(pipe(xs), alone)
        assert pipe.model.is_divided and pipe.model.session is session and session.beside.at_once == 1
    run = type(pipe.model).run
    def noting(self, *args):
        threads.add(threading.current_thread().name)
        return run(self, *args)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(type(pipe.model), 'run', noting)
        list(pipe.stream(xs))
    assert len(threads) > 1


@pytest.mark.parametrize('backend', backends)
def test_a_broken_sound_among_passes_side_by_side(backend, shallow, rng, tmp_path):
    "What came before it comes out."
    pipe = AudioPipeline(shutil.copytree(shallow('ast'), tmp_path/'ast'), backend=backend, batch_size=1)
    xs = [AudioArray(noise(rng, 1., 16000), 16000) for _ in range(20)]
    pipe.model.session.at_once = 2
    def sounds():
        yield from xs
        yield 'nothing.wav'
    out = []
    with pytest.raises(AudioNotFoundError, match='nothing.wav'):
        for y in pipe.stream(sounds()): out.append(y)
    assert len(out) == 20 and pipe.model.is_divided


@pytest.mark.parametrize('backend', backends)
def test_a_second_start_converts_nothing_and_reads_no_weights(backend, shallow, cache, rng, monkeypatch, tmp_path):
    shutil.copytree(shallow('ast'), tmp_path/'ast')
    x = AudioArray(noise(rng, 3., 16000), 16000)
    first = AudioPipeline(tmp_path/'ast', backend=backend)(x)
    assert len(list(cache.iterdir())) == 1 and not any(f.name.startswith('.') for f in cache.iterdir())
    def fail(*args, **kwargs): raise AssertionError('converted again')
    for f in ('to_onnx', 'to_openvino'): monkeypatch.setattr(engine, f, fail)
    monkeypatch.setattr(tf.ASTModel, 'from_pretrained', fail)
    shutil.copytree(tmp_path/'ast', tmp_path/'moved')
    again = AudioPipeline(tmp_path/'moved', backend=backend)
    assert np.array_equal(again(x), first) and pickle.loads(pickle.dumps(again)).model is again.model
    monkeypatch.undo()
    monkeypatch.setattr(engine, 'cache_folder', lambda: cache)
    # other weights are another network
    make_folder(architectures['ast'], tmp_path/'other', seed=1, num_hidden_layers=1)
    assert not np.allclose(AudioPipeline(tmp_path/'other', backend=backend)(x), first)
    assert len(list(cache.iterdir())) == 2


def test_an_exported_file_opens_anywhere(shallow, rng, tmp_path, monkeypatch):
    for name in ('ast', 'head-wav2vec2', 'whisper', 'clap-fusion', 'wav2vec2-bert'):
        model = load_model(shallow(name))
        model.export(tmp_path/name/'model.onnx')
        waves = [noise(rng, 1.3, model.sr), noise(rng, 1.3, model.sr)]
        reference = model.forward(waves)
        for backend in ('auto', 'onnx', 'openvino'):
            other = load_model(tmp_path/name/'model.onnx', backend=backend)
            out = other.forward(waves)
            assert (out.frames-reference.frames).abs().max() < 1e-4*reference.frames.abs().max().clamp(min=1)
            assert torch.equal(out.mask, reference.mask) and other.labels == model.labels
            assert other.context == model.context
        assert [p.name for p in (tmp_path/name).iterdir()] == ['model.onnx']
    pipe = AudioPipeline(tmp_path/'ast'/'model.onnx')
    pipe.save(tmp_path/'saved')
    x = AudioArray(noise(rng, 2., 16000), 16000)
    assert np.array_equal(AudioPipeline.load(tmp_path/'saved')(x), pipe(x))
    assert AudioClassifier(tmp_path/'head-wav2vec2'/'model.onnx')(x)[0]['label'] in ('yes', 'no', 'stop')


other_model = """
import numpy as np, torch
from auditus import AudioModel, ModelFrames
from auditus.models.base import Graph

class Weighted(AudioModel):
    "The absolute samples of a tenth of a second, weighted."
    sr, min_samples, frame_dim = 1000, 100, 4
    def __init__(self, name):
        self.name, self.net = str(name), torch.nn.Linear(100, 4).requires_grad_(False)
        self.net.weight.normal_(generator=torch.Generator().manual_seed(0))
    def forward(self, waves, layer=-1):
        n = min(map(len, waves))//100
        cut = torch.from_numpy(np.stack([w[:100*n].reshape(n, 100) for w in waves])).abs()
        frames = self.net(cut) if self.session is None else self.session({'cut': cut})[0]
        return ModelFrames(frames, torch.ones(frames.shape[:2], dtype=torch.bool))
    def graph(self): return Graph(self.net, [{'cut': torch.rand(n, 10-n, 100)} for n in (2, 1, 3)], ['frames'])
    def describe(self): return {'kind': 'weighted', 'frame_dim': self.frame_dim}
    @classmethod
    def from_description(cls, name, path, about, device):
        model = cls.__new__(cls)
        model.name, model.net, model.frame_dim = name, None, about['frame_dim']
        return model
"""


def test_a_model_of_another_package_exports_and_opens_again(tmp_path, rng, monkeypatch):
    info = tmp_path/'package'/'weighted-1.0.dist-info'
    info.mkdir(parents=True)
    (info/'METADATA').write_text('Metadata-Version: 2.1\nName: weighted\nVersion: 1.0\n')
    (info/'entry_points.txt').write_text('[auditus.models]\nweighted = weighted_model:Weighted\n')
    (tmp_path/'package'/'weighted_model.py').write_text(other_model)
    with monkeypatch.context() as installed:
        installed.syspath_prepend(tmp_path/'package')
        plain = load_model('weighted')
        plain.export(tmp_path/'model.onnx')
        opened = load_model(tmp_path/'model.onnx')
        waves = [noise(rng, .55, 1000), noise(rng, .55, 1000)]
        frames = plain.forward(waves).frames
        assert type(opened) is type(plain) and opened.net is None and frames.shape == (2, 5, 4)
        assert (opened.forward(waves).frames-frames).abs().max() < 1e-5
        assert np.allclose(AudioPipeline(tmp_path/'model.onnx')((waves[0], 1000)),
                           AudioPipeline(plain)((waves[0], 1000)), atol=1e-5)
        (info/'entry_points.txt').write_text('[auditus.models]\n')
        del opened
    base._loaded.clear()
    base._last[0] = None
    with pytest.raises(ModelNotFoundError, match="of the kind 'weighted', which this auditus does not know"):
        load_model(tmp_path/'model.onnx')


other_engine = """
import torch
tried = []
class Session:
    "What torch computes, and a note of what for."
    def __init__(self, graph, off):
        self.network, self.off = graph.network, off
    def __call__(self, inputs, outputs=None):
        tried.append({k: tuple(v.shape) for k, v in inputs.items()})
        given = [torch.as_tensor(v) for v in inputs.values()]
        with torch.no_grad(): found = [(1+self.off)*o for o in self.network(*given)]
        return found if all(isinstance(v, torch.Tensor) for v in inputs.values()) else [o.numpy() for o in found]
def mine(make, dtype, device, off=0.):
    model = make()
    model.session = Session(model.graph(), off)
    return model
def wrong(make, dtype, device): return mine(make, dtype, device, .01)
def odd(make, dtype, device): raise OSError('no licence')
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    "Another package with three engines, as pip would have installed it; what it was called with."
    info = tmp_path/'package'/'other_engine-1.0.dist-info'
    info.mkdir(parents=True)
    (info/'METADATA').write_text('Metadata-Version: 2.1\nName: other_engine\nVersion: 1.0\n')
    (info/'entry_points.txt').write_text('[auditus.backends]\n'+''.join(f'{n} = other_engine:{n}\n' for n in ('mine', 'wrong', 'odd', 'gone')))
    (tmp_path/'package'/'other_engine.py').write_text(other_engine)
    monkeypatch.syspath_prepend(tmp_path/'package')
    import other_engine as package
    yield package.tried
    sys.modules.pop('other_engine')


def test_an_engine_of_another_package_runs_every_kind_of_model(planted, shallow, rng, tmp_path):
    from graphs import spectrogram_tflite
    known = {}
    if installed('ai-edge-litert'):
        path = spectrogram_tflite(tmp_path/'own.tflite', rng, samples=4000)
        known[path] = dict(sr=8000, pooled='embedding', logits='classes', activation='softmax')
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv1d(1, 6, 400, 160), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    for name, settings, rate in ((shallow('wav2vec2-layer'), {}, 16000), (shallow('head-hubert'), {}, 16000), (module, dict(target_sr=8000), 8000),
                                 *((path, given, 8000) for path, given in known.items())):
        x = AudioArray(noise(rng, 1.2, rate), rate)
        plain = AudioPipeline(name, **settings)(x)
        n = len(planted)
        pipe = AudioPipeline(name, backend='mine', **settings)
        assert np.abs(pipe(x)-plain).max() < 1e-4 and len(planted) > n and pipe.model.backend == 'mine'
        assert len({*map(str, planted[n:])}) >= 2  # it was tried on several lengths or batches, and then ran
    loaded = load_model(shallow('wav2vec2-layer'), backend='mine')
    assert pickle.loads(pickle.dumps(loaded)) is loaded and load_model(shallow('wav2vec2-layer'), backend='mine') is loaded


def test_an_engine_of_another_package_that_says_something_else_is_refused(planted, shallow):
    folder = shallow('wav2vec2-layer')
    with pytest.raises(SettingError, match=r"backend='wrong': its frames differ from torch's by \d\.\de-0[23] for inputs of .*\. Use backend='torch'"):
        AudioPipeline(folder, backend='wrong').dim
    with pytest.raises(SettingError, match=r"backend='odd' can not run this model \(OSError: no licence\): use backend='torch'"): load_model(folder, backend='odd')
    with pytest.raises(SettingError, match="backend='gone' is registered as other_engine:gone, which can not be imported"): load_model(folder, backend='gone')
    with pytest.raises(SettingError, match="`backend` must be one of .*'gone', 'mine', 'odd', 'wrong'; got 'abacus'"): load_model(folder, backend='abacus')


def test_files_that_are_no_model_of_ours(shallow, tmp_path):
    with pytest.raises(ModelNotFoundError, match='there is no file'): load_model(tmp_path/'gone.onnx')
    (tmp_path/'text.onnx').write_text('no graph')
    with pytest.raises(ModelNotFoundError, match='can not be opened by ONNX Runtime'): load_model(tmp_path/'text.onnx')
    import onnx
    model = load_model(shallow('ast'))
    model.export(tmp_path/'a.onnx')
    graph = onnx.load(tmp_path/'a.onnx')
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path/'b.onnx')
    with pytest.raises(SettingError, match='does not say for which rate it was made'): load_model(tmp_path/'b.onnx')
    for kind in ('other', ['a', 'list'], None):  # not known, or no name at all
        onnx.helper.set_model_props(graph, {'auditus': json.dumps({'kind': kind})})
        onnx.save(graph, tmp_path/'c.onnx')
        with pytest.raises(ModelNotFoundError, match=re.escape(f'of the kind {kind!r}')): load_model(tmp_path/'c.onnx')
    with pytest.raises(SettingError, match='ends in .onnx'): model.export(tmp_path/'model.bin')
    with pytest.raises(SettingError, match='is converted from float32'):
        load_model(shallow('ast'), dtype='bfloat16').export(tmp_path/'d.onnx')
    with pytest.raises(SettingError, match='is exported from torch'):
        load_model(tmp_path/'a.onnx').export(tmp_path/'d.onnx')


@pytest.mark.parametrize('backend', backends)
def test_sample_cnn(backend, rng, tmp_path):
    torch.save({f'encoder.{k}': v for k, v in seeded_encoder().items()} | {'fc.weight': torch.randn(50, 512)*.05, 'fc.bias': torch.zeros(50)}, tmp_path/'clmr.pt')
    x = AudioArray(noise(rng, 9., 22050), 22050)
    plain, other = (AudioPipeline('clmr', checkpoint=tmp_path/'clmr.pt', backend=b) for b in ('torch', backend))
    assert np.abs(plain(x)-other(x)).max() < 1e-4 and other.model.backend == backend
    a, b = (AudioClassifier('clmr', checkpoint=tmp_path/'clmr.pt', backend=b).predict_proba(x)
            for b in ('torch', backend))
    assert np.abs(a-b).max() < 1e-4
    plain.model.export(tmp_path/'clmr.onnx')
    assert np.abs(AudioPipeline(tmp_path/'clmr.onnx', backend=backend)(x)-plain(x)).max() < 1e-4
    assert load_model(tmp_path/'clmr.onnx').labels == plain.model.labels


def test_auto_takes_what_is_there(shallow, monkeypatch, rng):
    folder, x = shallow('hubert-group'), AudioArray(noise(rng, 1., 16000), 16000)
    reference = AudioPipeline(folder)(x)
    for missing, wanted in (((), 'openvino'), (('openvino',), 'torch'), (('openvino', 'onnxruntime'), 'torch')):
        monkeypatch.setattr(sessions, 'find_spec', lambda p: None if p in missing else True)
        base._loaded.clear()
        pipe = AudioPipeline(folder, backend='auto')
        assert pipe.model.backend == wanted and np.abs(pipe(x)-reference).max() < 1e-4
        assert pipe.model.precision == 'float32'
    with pytest.raises(SettingError, match=r"needs the package openvino, which is not installed: pip install 'auditus\[openvino\]'"):
        load_model(folder, backend='openvino')
    for missing, wanted in (((), 'onnx'), (('onnxruntime',), 'openvino'), (('openvino', 'onnxruntime'), 'torch')):
        monkeypatch.setattr(sessions, 'find_spec', lambda p: None if p in missing else True)
        base._loaded.clear()
        assert AudioPipeline('birdnet', backend='auto').model.backend == wanted
    monkeypatch.undo()


def test_auto_goes_on_where_an_engine_is_wrong(shallow):
    with pytest.warns(UserWarning, match="backend='auto' goes on without openvino"): assert load_model(shallow('speech-to-text'), backend='auto').backend == 'torch'


@pytest.mark.parametrize('settings,message', [
    (dict(backend='abacus'), '`backend` must be one of'),
    (dict(backend='onnx', dtype='bfloat16'), 'computes in float32 or int8'),
    (dict(backend='openvino', dtype='float16'), 'computes in float32 or bfloat16'),
    (dict(dtype='int4'), '`dtype` must be one of'),
    (dict(backend='onnx', layer=1), 'gives its last layer only'),
    (dict(backend='openvino', layer='mean'), 'gives its last layer only'),
])
def test_settings(settings, message, shallow, tmp_path):
    # before any file is read
    with pytest.raises(SettingError, match=message): AudioEmbedding(shallow('wav2vec2-layer'), **settings).model
    with pytest.raises(SettingError, match="backend='onnx' computes in float32 or int8"):
        load_model('birdnet', backend='onnx', dtype='bfloat16')


def test_the_cache_that_can_not_be_written(shallow, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('in the way')
    monkeypatch.setattr(engine, 'cache_folder', lambda: tmp_path/'file'/'cache')
    with pytest.raises(SettingError, match='Set HF_HOME'): load_model(shallow('sew'), backend='onnx')


def rows(pipe, xs): return np.stack([pipe(x) for x in xs])


@pytest.mark.arithmetic
@pytest.mark.parametrize('settings', [dict(backend='openvino', dtype='bfloat16'), dict(dtype='bfloat16'),
                                      dict(dtype='auto')])
def test_bfloat16_stays_near(settings, shallow, rng):
    if settings.get('backend') == 'openvino':
        pytest.importorskip('openvino')
        if named_processor():
            pytest.skip('OpenVINO asks the processor itself, and half of it believes what the environment says')
    # with weights drawn at random it says little: see test_real for Whisper's own
    for name in ('ast', 'wav2vec2-layer', 'whisper'):
        xs = [AudioArray(noise(rng, s, 16000)*rng.uniform(.1, 1), 16000) for s in (1., 2., 3.)]
        a, b = (rows(AudioPipeline(shallow(name), **s), xs) for s in ({}, settings))
        assert cosine(a, b).min() > .9 and np.isfinite(b).all()


def test_int8_is_offered(shallow, rng):
    x = AudioArray(noise(rng, 2., 16000), 16000)
    reference = AudioPipeline(shallow('ast'))(x)
    for settings in (dict(dtype='int8'), dict(dtype='int8', backend='onnx')):
        pipe = AudioPipeline(shallow('ast'), **settings)
        assert .9 < cosine(pipe(x), reference) and not np.array_equal(pipe(x), reference)
        assert pipe.model.precision == 'int8'


@pytest.mark.parametrize('name', ['wavlm-group', 'wavlm-layer', 'wav2vec2-bert', 'speech-to-text'])
def test_int8_leaves_out_layers_whose_weights_are_read_and_not_called(name, shallow, rng, monkeypatch):
    x = AudioArray(noise(rng, 2., 16000), 16000)
    pipe = AudioPipeline(shallow(name), dtype='int8')
    assert cosine(pipe(x), AudioPipeline(shallow(name))(x)) > .99
    assert any('quantized' in type(m).__module__ for m in pipe.model.net.modules())
    if not name.startswith('wavlm'): return
    monkeypatch.setattr('auditus.models.arithmetic._read_elsewhere', {})
    with pytest.raises(SettingError, match="dtype='int8' does not fit: .*TypeError"):
        load_model(shallow(name), dtype='int8', device='cpu')


@pytest.mark.parametrize('backend', backends)
def test_extract_and_the_commands_take_a_backend(backend, shallow, sounds, tmp_path):
    folder = shallow('ast')
    extract(sounds, tmp_path/'a', AudioPipeline(folder, backend=backend, window=5))
    assert extract(sounds, tmp_path/'a', AudioPipeline(folder, window=5), backend=backend,
                   dtype='float32').parts_done == 0
    extract(sounds, tmp_path/'b', AudioPipeline(folder, window=5))
    assert np.abs(load(tmp_path/'a')[0]-load(tmp_path/'b')[0]).max() < 1e-4
    done = command('embed', sounds/'chirp.ogg', '-m', folder, '--backend', backend, '-o', tmp_path/'c.parquet')
    assert done.exit_code == 0, done.stderr
    settings = json.loads(__import__('pyarrow.parquet').parquet.read_schema(tmp_path/'c.parquet').metadata[b'auditus'])
    assert settings['backend'] == backend and settings['dtype'] == 'float32'
    done = command('classify', sounds/'chirp.ogg', '-m', shallow('head-ast'), '--backend', backend, '--dtype',
                   'float32')
    assert done.exit_code == 0, done.stderr


def test_openvino_tells_nobody():
    "Its telemetry would fork this process and send each import and conversion to its maker."
    pytest.importorskip('openvino')
    told = subprocess.run([sys.executable, '-c', """
import sys
from auditus.models import onnx
onnx._import_openvino().Core()
import openvino.tools.ovc.telemetry_utils as utils
assert 'openvino_telemetry' not in sys.modules, 'telemetry was loaded'
assert utils.tm.__name__.endswith('telemetry_stub'), utils.tm.__name__
"""], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]


def test_signals_find_their_stack_when_models_on_openvino_have_come_and_gone(shallow, tmp_path):
    "Each core of OpenVINO sets a stack for signals and unmaps it when it goes: with several, the last signal ended the process."
    pytest.importorskip('openvino')
    if not sys.platform.startswith('linux'): pytest.skip('looks into /proc')
    told = subprocess.run([sys.executable, '-c', """
import ctypes, gc, os, signal, sys
from auditus import load_model
class Stack(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]
held = [load_model(f, backend='openvino') for f in sys.argv[1:]]
while held:
    held.pop(0)
    load_model.__globals__.get('_last', [None])[0] = None
    gc.collect()
stack = Stack()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
spans = [[int(x, 16) for x in line.split()[0].split('-')] for line in open('/proc/self/maps')]
assert not stack.at or any(a <= stack.at < b for a, b in spans), 'the stack for signals is gone'
signal.signal(signal.SIGUSR1, lambda *_: print('heard', flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
""", *(str(shallow(n)) for n in ('ast', 'wav2vec2-layer'))], capture_output=True, text=True)
    assert told.returncode == 0 and 'heard' in told.stdout, told.stderr[-2000:]
