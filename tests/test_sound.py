"Sounds from file to window: what holds for any of them, what other libraries say, and what is refused."
import base64
import codecs
import copy
import io
import os
import pickle
import re
import socket
import tempfile
import threading
import zipfile
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import datasets
import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import soundfile as sf
import soxr
import torch
from sklearn.base import clone

from auditus import (AudioArray, AudioDecodeError, AudioInputError, AudioLoader, AudioNotFoundError,
                     AuditusError, ModelNotFoundError,
                     Pipeline, Resampling, SettingError, Transform, Windowing, Windows)
from auditus.core import as_rate, as_samples, is_many, stack
from auditus.sound.readers import block_samples
from auditus.show import as_flac, envelope, mel_db, plot_sound, plot_spectrogram, plot_waveform, player_html

matplotlib.use('Agg')
plt = pytest.importorskip('matplotlib.pyplot')


def tone(hz, sr, n, level=.5): return (level*np.sin(2*np.pi*hz*np.arange(n)/sr)).astype(np.float32)


def chord(sr, n, channels):
    "A pitch and a level of its own for each channel: `(n,)` or `(channels, n)`."
    a = np.stack([tone(440+40*c, sr, n, .5-.04*c) for c in range(channels)])
    return a[0] if channels == 1 else a


def noise(*shape, seed=0): return np.random.default_rng(seed).normal(0, .1, shape).astype(np.float32)


def encoded(a, sr, format='WAV', subtype=None, **how):
    "The bytes of a sound file, written a second at a time: libsndfile has crashed on long writes of ogg."
    out = io.BytesIO()
    with sf.SoundFile(out, 'w', sr, 1 if a.ndim == 1 else len(a), subtype, format=format, **how) as f:
        for i in range(0, a.shape[-1], sr): f.write(a.T[i:i+sr])
    return out.getvalue()


def put(path, data):
    "Write bytes to a path, and give the path."
    path.write_bytes(data)
    return path


def db(a): return 20*np.log10(np.sqrt(np.mean(np.square(a, dtype=float), -1))+1e-20)


def middle(a): return a[..., a.shape[-1]//4:3*a.shape[-1]//4]


def peak_hz(a, sr):
    "The loudest frequency, finer than a bin through zeros at the end."
    bins = 4*2**int(np.ceil(np.log2(len(a))))
    return np.abs(np.fft.rfft(a*np.hanning(len(a)), bins)).argmax()*sr/bins


def same(x, y): return x.sr == y.sr and x.shape == y.shape and np.array_equal(x.a, y.a)


# --- samples and rates

pcm = {'uint8': (128, 2**7), 'int16': (0, 2**15), 'int32': (0, 2**31)}


@pytest.mark.parametrize('dtype', pcm)
def test_pcm_has_full_scale_one(dtype):
    zero, full = pcm[dtype]
    info = np.iinfo(dtype)
    codes = np.linspace(info.min, info.max, 1001).round().astype(dtype)
    codes = np.r_[codes, np.array([zero], dtype)]
    a = as_samples(codes)
    assert a.dtype == np.float32 and a[0] == -1 and a[-1] == 0
    np.testing.assert_allclose(a, (codes.astype(float)-zero)/full, rtol=0, atol=2**-24)
    np.testing.assert_array_equal(a, as_samples(torch.from_numpy(codes)))
    np.testing.assert_array_equal(a, as_samples(codes.astype(np.dtype(dtype).newbyteorder('>'))))


@pytest.mark.parametrize('dtype,subtype', [('int16', 'PCM_16'), ('int32', 'PCM_32')])
def test_pcm_is_scaled_as_soundfile_does(dtype, subtype, rng):
    codes = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 1000, dtype)
    read, _ = sf.read(io.BytesIO(encoded(codes, 8000, 'WAV', subtype)), dtype='float32')
    np.testing.assert_allclose(as_samples(codes), read, rtol=0, atol=2**-24)


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64', 'longdouble'])
def test_floats_of_any_width(dtype):
    a = noise(3, 50).astype(dtype)
    b = as_samples(a.T[:50].T)  # a view of another order too
    assert b.dtype == np.float32 and b.flags.c_contiguous
    np.testing.assert_array_equal(b, a.astype(np.float32))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_float(dtype):
    t = torch.tensor([0., .5, -1.], dtype=dtype, requires_grad=True)
    assert as_samples(t).tolist() == [0., .5, -1.]


def test_lists_and_tables_columns():
    assert as_samples([0., .5]).tolist() == [0., .5]
    assert as_samples([[0., .5, 1.], [1., .25, 0.]]).shape == (2, 3)
    assert as_samples(pd.Series([.5, .25], index=[7, 3])).tolist() == [.5, .25]


def test_samples_given_are_not_changed(rng):
    for a in (noise(2, 9), rng.integers(-9, 9, 9, np.int16)):
        before = a.copy()
        as_samples(a)
        np.testing.assert_array_equal(a, before)


refused = {
    'int64': (np.arange(9), 'int64'), 'list of ints': ([1, 2], 'int64'),
    'uint16': (np.arange(9, dtype=np.uint16), 'uint16'),
    'int8': (np.arange(9, dtype=np.int8), 'int8'), 'bool': (np.ones(9, bool), 'bool'),
    'complex': (np.ones(9, complex), 'complex'),
    'tensor of int64': (torch.arange(9), 'int64'), 'str': ('abc', 'floats'), 'None': (None, 'object'),
    'ragged': ([[1., 2.], [1.]], 'one array'),
    'NaN': (np.array([0, np.nan, 1]), '1 of 3 samples'),
    'inf': (np.array([[0, np.inf], [-np.inf, 0]]), '2 of 4 samples'),
    'too large for float32': (np.array([0, 1e300]), '1 of 2 samples'),
    'a number': (1., '()'), 'empty': (np.zeros(0), 'at least one sample'),
    'empty channels': (np.zeros((2, 0)), 'at least one sample'),
    '3-D': (np.zeros((2, 3, 4)), '(2, 3, 4)'), 'transposed': (np.zeros((16000, 2)), 'transpose')}


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('name', refused)
def test_samples_refused(name):
    a, part = refused[name]
    with pytest.raises(AudioInputError, match=re.escape(part)): AudioArray(a, 16000)


def test_sparse_tensor_is_refused_in_our_words():
    with pytest.raises(AudioInputError): as_samples(torch.ones(5).to_sparse())


@pytest.mark.parametrize('sr', [1, 16000, 22050., 192000, np.int16(8000), np.int64(44100), np.uint32(48000),
                                np.float32(16000)])
def test_rates(sr):
    assert as_rate(sr) == sr and type(as_rate(sr)) is int and type(AudioArray([0.], sr).sr) is int


@pytest.mark.parametrize('sr', [0, -1, 22050.5, .5, True, False, None, '16000', np.nan, np.inf, np.True_,
                                16000+0j, [16000]])
def test_rates_refused(sr):
    with pytest.raises(AudioInputError, match='sampling rate'): as_rate(sr)
    with pytest.raises(AudioInputError, match='sampling rate'): AudioArray([0.], sr)
    if sr is not None:
        with pytest.raises(SettingError): AudioLoader(sr=sr)
    with pytest.raises(SettingError): Resampling(sr)


# --- AudioArray and Windows

@pytest.mark.parametrize('channels', [1, 2, 8])
def test_audioarray_is_its_samples(channels):
    a = chord(8000, 4000, channels)
    x = AudioArray(a, 8000)
    assert (x.shape, x.channels, len(x), x.duration, x.a.dtype) == (a.shape, channels, 4000, .5, np.float32)
    for i in (0, -1, slice(5), slice(10, 90, 7), [3, 1, 2]): np.testing.assert_array_equal(x[i], a[..., i])
    for i in ((..., slice(2, 4)), (0,)): np.testing.assert_array_equal(x[i], a[i])
    np.testing.assert_array_equal(np.asarray(x), a)
    assert np.asarray(x, dtype=float).dtype == float
    with pytest.raises(IndexError): x[4000]
    np.testing.assert_allclose(x.mono().a, np.atleast_2d(a.astype(float)).mean(0), atol=1e-7)
    assert x.mono().shape == (4000,) and (x.mono() is x) == (channels == 1)
    assert all(part in repr(x) for part in ('0.50 s', '4000', '8000',
                                            'mono' if channels == 1 else f'{channels} channels'))


def test_one_channel_is_mono_in_either_shape():
    x = AudioArray(noise(1, 1000), 8000)
    assert x.channels == 1 and len(x) == 1000 and x.mono().shape == (1000,)
    for step in (Resampling(16000), Windowing(.05)):
        flat, row = step(x.mono()), step(x)
        np.testing.assert_array_equal(np.ravel(row.a), np.ravel(flat.a))
        assert len(row) == len(flat)


@pytest.mark.parametrize('again', [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_sounds_and_windows(again):
    x = AudioArray(noise(2, 100), 8000)
    assert same(again(x), x)
    w, v = Windowing(.005)(x.mono()), again(Windowing(.005)(x.mono()))
    assert (v.starts, v.ends, v.sr, len(v)) == (w.starts, w.ends, w.sr, 3)
    np.testing.assert_array_equal(v.a, w.a)


def test_np_array_is_a_copy():
    x = AudioArray(noise(100), 8000)
    np.array(x)[:] = 9
    copy.deepcopy(x).a[:] = 9
    assert np.abs(x.a).max() < 1


def test_windows():
    w = Windows([np.ones(4, np.float32), np.full(2, 2, np.float32)], 2, [0., 1.], [2., 2.])
    assert w.a.tolist() == [[1, 1, 1, 1], [2, 2, 0, 0]]
    assert w.seconds.tolist() == [2, 1] and len(w) == 2
    assert isinstance(w[1], AudioArray) and w[1].sr == 2 and w[-1].a.tolist() == [2, 2]
    assert isinstance(w[1:], Windows) and (w[1:].starts, w[1:].ends, len(w[1:])) == ([1.], [2.], 1)
    assert len(w[2:]) == 0 and w[2:].a.size == 0 and '2 from 0 to 2 s' in repr(w)
    with pytest.raises(AudioInputError, match='2 waves, 1 starts'): Windows(w.waves, 2, [0.], [2., 2.])


# --- transforms and pipelines

steps = [AudioLoader(), AudioLoader(sr=16000, mono=False, truncated='keep', max_download_mb=3), Resampling(8000),
         Windowing(1.5, hop=.5, pad='wrap')]


@pytest.mark.parametrize('step', steps, ids=repr)
def test_settings_survive(step):
    for again in (clone(step), copy.deepcopy(step), pickle.loads(pickle.dumps(step)), eval(repr(step)),
                  type(step)(**step.get_params())):
        assert again is not step and type(again) is type(step)
        assert again.get_params() == step.get_params() and repr(again) == repr(step)


def test_set_params():
    loader = AudioLoader().set_params(sr=8000, mono=False)
    assert loader.get_params() == AudioLoader(sr=8000, mono=False).get_params()
    assert loader((noise(2, 1600), 16000)).shape == (2, 800)
    with pytest.raises(SettingError, match='no setting `rate`.*sr, mono'): loader.set_params(rate=1)


@pytest.mark.parametrize('step,bad', [(AudioLoader(), {'truncated': 'x'}), (Resampling(8000), {'target_sr': 0}),
                                      (Windowing(1.), {'window': -1})], ids=repr)
def test_a_refused_setting_leaves_the_old_one(step, bad):
    before = step.get_params()
    with pytest.raises(SettingError): step.set_params(**bad)
    assert step.get_params() == before


def length(x): return len(x)


def test_pipelines_are_chains_of_callables():
    loader, cut = AudioLoader(), Windowing(.01)
    pipe = loader >> Resampling(4000) >> cut >> length
    assert isinstance(pipe, Pipeline) and len(pipe) == 4 and pipe[0] is loader
    assert pipe((noise(800), 8000)) == length(cut(Resampling(4000)(loader((noise(800), 8000))))) == 10
    assert len(pipe[:2]((noise(800), 8000))) == 400
    assert repr(pipe) == 'AudioLoader() >> Resampling(target_sr=4000) >> Windowing(window=0.01) >> length'
    for again in (clone(pipe), pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)):
        assert repr(again) == repr(pipe) and again[0] is not loader and again((noise(800), 8000)) == 10
    before = (lambda sr: (noise(800), sr)) >> loader >> len
    assert before(8000) == 800 and before([8000, 4000]) == [800, 800]
    nested = (loader >> Resampling(4000)) >> (cut >> length)
    assert nested((noise(800), 8000)) == 10 and nested([(noise(800), 8000)]*2) == [10, 10]


@pytest.mark.parametrize('bad', [[], (), None, [3], [AudioLoader(), None], AudioLoader()])
def test_pipelines_refused(bad):
    with pytest.raises(SettingError, match='callables'): Pipeline(bad)
    with pytest.raises(SettingError): AudioLoader() >> 3


@pytest.mark.parametrize('make,names', [
    (lambda v: Windowing(v), [0, -1, np.nan, np.inf, True, None, '5']),
    (lambda v: Windowing(1, hop=v), [0, -1, np.nan, np.inf, True, '5']),
    (lambda v: Windowing(1, pad=v), ['reflect', 0, True]), (lambda v: AudioLoader(mono=v), ['yes', 1, None]),
    (lambda v: AudioLoader(truncated=v), ['ignore', None, True]),
    (lambda v: AudioLoader(max_download_mb=v), [0, -1, None, '9'])])
def test_settings_refused(make, names):
    for v in names:
        with pytest.raises(SettingError, match=re.escape(repr(v))) as e: make(v)
        assert isinstance(e.value, ValueError)


def test_kinds_of_errors():
    for ours, theirs in {AudioNotFoundError: FileNotFoundError, AudioDecodeError: AuditusError,
                         AudioInputError: ValueError,
                         ModelNotFoundError: OSError, SettingError: ValueError}.items():
        assert issubclass(ours, theirs) and issubclass(ours, AuditusError)


# --- one and many

@pytest.fixture(scope='module')
def fifty(tmp_path_factory):
    "50 paths; every sample of the i-th file is i/64."
    d = tmp_path_factory.mktemp('fifty')
    return [put(d/f'{i:02}.wav', encoded(np.full(40, i/64, np.float32), 8000)) for i in range(50)]


def texts(paths): return list(map(str, paths))


undecoded = datasets.Audio(decode=False)
manys = {
    'list': list, 'list of str': texts, 'generator': lambda ps: (p for p in ps), 'map': lambda ps: map(str, ps),
    'Series of str': lambda ps: pd.Series(texts(ps), dtype='string', index=range(9, 9+len(ps))),
    'Series of objects': lambda ps: pd.Series(texts(ps), dtype=object), 'Series of paths': pd.Series,
    'Series of categories': lambda ps: pd.Series(texts(ps), dtype='category'),
    'array of str': lambda ps: np.array(texts(ps)), 'array of objects': lambda ps: np.array(ps, dtype=object),
    'column': lambda ps: datasets.Dataset.from_dict({'path': texts(ps)})['path'],
    'column of dicts': lambda ps: datasets.Dataset.from_dict({'audio': texts(ps)}).cast_column('audio', undecoded)['audio'],
    'polars Series': lambda ps: pl.Series(texts(ps))}


@pytest.mark.parametrize('kind', manys)
def test_many_come_in_order(kind, fifty):
    xs = AudioLoader()(manys[kind](fifty))
    assert isinstance(xs, list) and [x.a[0]*64 for x in xs] == list(range(50))
    rows = (AudioLoader() >> np.asarray)(manys[kind](fifty))
    assert rows.shape == (50, 40) and (rows[:, -1]*64).tolist() == list(range(50))


@pytest.mark.parametrize('kind', manys)
def test_error_names_item_among_fifty(kind, fifty, tmp_path):
    words = put(tmp_path/'words.wav', b'no sound at all '*20)
    paths = fifty[:37]+[words]+fifty[38:]
    for step in (AudioLoader(), AudioLoader() >> Resampling(4000) >> len):
        with pytest.raises(AudioDecodeError, match='item 37.*words.wav') as e: step(manys[kind](paths))
        item = e.value.item['path'] if kind == 'column of dicts' else e.value.item
        assert e.value.index == 37 and str(item) == str(words)


def test_error_in_a_later_step_names_what_went_in(fifty, tmp_path):
    stereo = put(tmp_path/'stereo.wav', encoded(noise(2, 40), 8000))
    paths = fifty[:12]+[stereo]+fifty[13:]
    def refuse_loud(x):
        if x.channels > 1: raise AudioInputError('too wide')
        return x
    for step in (Windowing(1.), refuse_loud):
        with pytest.raises(AudioInputError, match='item 12.*stereo.wav') as e: (AudioLoader(mono=False) >> step)(paths)
        assert e.value.index == 12 and e.value.item == stereo
    with pytest.raises(AudioInputError) as e: (AudioLoader(mono=False) >> Windowing(1.))(stereo)
    assert e.value.index is None and 'item' not in str(e.value)


def test_results_come_as_they_are_made(fifty):
    results = (AudioLoader() >> len).each(iter([*fifty[:3], None]))
    assert [next(results) for _ in range(3)] == [40]*3
    with pytest.raises(AudioInputError): next(results)


def test_is_many(fifty):
    one = ['a.wav', Path('a.wav'), b'ab', bytearray(2), memoryview(b'ab'), io.BytesIO(b'ab'), {'path': 'a'},
           (noise(9), 8000),
           AudioArray(noise(9), 8000), Windowing(1.)(AudioArray(noise(9), 8000)), noise(9), noise(2, 9), torch.zeros(9),
           pd.Series([.1, .2]), pl.Series([.1]), pd.DataFrame({'path': ['a'], 'label': ['b']}),
           SimpleNamespace(get_all_samples=None), None, 3]
    assert not any(map(is_many, one))
    assert all(is_many(make(fifty)) for make in manys.values()) and is_many([])


@pytest.mark.parametrize('bare', [noise(900), noise(2, 900), torch.zeros(900), pd.Series([.1, .2]),
                                  pl.Series([.1, .2]), np.arange(9)],
                         ids=lambda b: f'{type(b).__module__}-{b.shape}')
def test_bare_numbers_are_refused(bare):
    with pytest.raises(AudioInputError, match='without a rate'): AudioLoader()(bare)
    with pytest.raises(AudioInputError, match='AudioArray'): Windowing(1.)(bare)
    with pytest.raises(AudioInputError, match='AudioArray'): Resampling(8000)(bare)


def test_list_of_numbers_is_refused():
    with pytest.raises(AudioInputError, match='item 0'): AudioLoader()([.1, .2])
    with pytest.raises(AudioInputError, match='item 0'): AudioLoader()([[.1, .2]])


def test_stack():
    assert stack([]) == [] and AudioLoader()([]) == []
    assert stack([noise(3), noise(3)]).shape == (2, 3) and isinstance(stack([noise(3), noise(4)]), list)
    assert torch.equal(stack([torch.zeros(3), torch.ones(3)]), torch.tensor([[0.]*3, [1.]*3]))
    assert stack([3, 4]) == [3, 4] and stack(['a']) == ['a']


@pytest.mark.parametrize('summary', [lambda x: x.a.max(), lambda x: pd.Series(x.a)], ids=['numpy scalar', 'Series'])
def test_steps_may_give_anything(summary, fifty):
    ys = (AudioLoader() >> summary)(fifty)
    assert len(ys) == 50 and all(np.ravel(y)[0]*64 == i for i, y in enumerate(ys))


class Twice(Transform):
    "A transform as a user writes one."
    def __init__(self, by=2): self.by = by
    def one(self, x): return AudioArray(x.a*self.by, x.sr)


def test_a_users_own_transform(fifty):
    assert repr(Twice(3)) == 'Twice(by=3)' and clone(Twice(3)).by == 3
    assert (AudioLoader() >> Twice() >> np.asarray)(fifty)[:, 0].tolist() == [i/32 for i in range(50)]
    with pytest.raises(NotImplementedError, match='Transform'): Transform()(3)


# --- resampling

def test_equal_rates_touch_nothing():
    x = AudioArray(noise(2, 100), 32000)
    assert Resampling(32000)(x) is x and Resampling(32000.)(x) is x and AudioLoader(sr=32000, mono=False)(x) is x


def test_aliases_vanish_and_the_band_stays():
    n = 4*32000
    high, low = (Resampling(16000)(AudioArray(tone(hz, 32000, n), 32000)).a for hz in (12000, 7000))
    assert db(middle(high)) < db(tone(12000, 32000, n))-100
    assert abs(db(middle(low))-db(tone(7000, 32000, n))) < .1
    assert abs(peak_hz(low, 16000)-7000) < 1


@pytest.mark.parametrize('source,target', [(32000, 16000), (44100, 16000), (16000, 48000), (8000, 44100),
                                           (192000, 16000)])
def test_resampling_by_formula(source, target):
    "A tone sampled at one rate becomes the tone sampled at the other: no delay, no gain."
    a = Resampling(target)(AudioArray(tone(1000, source, 2*source), source)).a
    assert np.abs(middle(a)-middle(tone(1000, target, 2*target))).max() < 1e-4


rates = 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000


def test_resampled_lengths_silence_and_linearity():
    for source in rates:
        for target in (8000, 16000, 22050, 32000, 48000):
            resampling = Resampling(target)
            for n in (50, 1000, 4801, 20011):
                x = resampling(AudioArray(np.zeros(n), source))
                assert abs(len(x)-n*target/source) <= 1 and x.sr == target and not x.a.any()
            a, b = noise(2, 4801, seed=1)
            mixed, alone = resampling(AudioArray(2*a-b/4, source)), [resampling(AudioArray(v, source)).a for v in (a, b)]
            np.testing.assert_allclose(mixed.a, 2*alone[0]-alone[1]/4, atol=2e-6)


@pytest.mark.parametrize('source,target', [(44100, 16000), (48000, 32000), (8000, 48000), (22050, 16000)])
def test_resampling_is_soxrs(source, target):
    for shape in ((1000,), (2, 44101), (8, 3001), (300000,)):
        a = noise(*shape)
        by_hand = np.stack([soxr.resample(c, source, target, quality='HQ') for c in np.atleast_2d(a)])
        x = Resampling(target)(AudioArray(a, source))
        np.testing.assert_array_equal(np.atleast_2d(x.a), by_hand)
        assert x.a.ndim == len(shape)


def test_too_short_to_resample():
    with pytest.raises(AudioInputError, match='too short'): Resampling(8000)(AudioArray([.5], 48000))
    with pytest.raises(AudioInputError): AudioLoader(sr=8000)(encoded(noise(1), 48000))


# --- windows

def test_windows_cover_what_they_can_reach(rng):
    for _ in range(300):
        sr, n = rng.choice([8000, 16000, 22050, 44100]), rng.integers(1, 20000)
        window = rng.uniform(1, 8000)/sr
        hop = rng.uniform(max(.1*window, 1/sr), 2*window)
        x = AudioArray(noise(n), sr)
        w = Windowing(window, hop=hop)(x)
        size = round(window*sr)
        starts = [s for s in (round(k*hop*sr) for k in range(int(n/hop/sr)+2)) if s < n]
        reach = np.zeros(n+size, bool)
        for s in starts: reach[s:s+size] = True
        covered = np.zeros(n, bool)
        for s, e, wave in zip(w.starts, w.ends, w.waves):
            s, e = round(s*sr), round(e*sr)
            covered[s:e] = True
            np.testing.assert_array_equal(wave, x.a[s:e])
        np.testing.assert_array_equal(covered, reach[:n])
        assert w.starts == [s/sr for s in starts[:len(w)]]
        assert all(len(wave) == size for wave in w.waves[:-1]) and 0 < len(w.waves[-1]) <= size
        assert (w.ends[-1] == n/sr) if reach[n-1] else (w.ends[-1] < n/sr)
        assert all(e < n/sr for e in w.ends[:-1])  # none starts after one that reached the end
        np.testing.assert_allclose(w.seconds*sr, [len(wave) for wave in w.waves])


@pytest.mark.parametrize('sr,window,hop', [(44100, 1., '1/10'), (44100, .5, '1/3'), (22050, .96, '123/1000'),
                                           (16000, .025, '1/100')])
def test_windows_do_not_drift_over_an_hour(sr, window, hop):
    "Counted in whole numbers, no start is more than half a sample from where it should be."
    n, hop = 3600*sr, Fraction(hop)
    w = Windowing(window, float(hop))(AudioArray(np.zeros(n, np.float32), sr))
    bounds = np.rint(np.stack([w.starts, w.ends], axis=1)*sr).astype(int)
    exact = np.arange(len(bounds))*hop.numerator*sr
    assert np.abs(bounds[:, 0]*hop.denominator-exact).max() <= hop.denominator/2
    assert bounds[-1, 1] == n and bounds[-2, 1] < n


@pytest.mark.parametrize('whole', [True, False], ids=['whole samples', 'any seconds'])
def test_touching_windows_concatenate_to_the_sound(whole, rng):
    "With `hop=None` windows touch: no sample is lost between two of them, and none comes twice."
    for _ in range(100):
        sr, n, size = rng.choice([16000, 22050, 44100]), rng.integers(1, 30000), rng.uniform(1, 5000)
        x = AudioArray(noise(n), sr)
        w = Windowing((round(size) if whole else size)/sr)(x)
        np.testing.assert_array_equal(np.concatenate(w.waves), x.a)
        assert w.starts[1:] == w.ends[:-1] and w.starts[0] == 0 and w.ends[-1] == n/sr


def test_gaps_between_windows():
    for n, ends in {9: [2, 6, 9], 10: [2, 6, 10], 11: [2, 6, 10], 12: [2, 6, 10], 13: [2, 6, 10, 13]}.items():
        w = Windowing(2, hop=4)(AudioArray(noise(n), 1))
        assert w.starts == [0, 4, 8, 12][:len(ends)] and w.ends == ends


pads = {None: [9, 10], 'zero': [9, 10, 0, 0], 'repeat': [9, 10, 9, 10], 'wrap': [9, 10, 1, 2]}


@pytest.mark.parametrize('pad', pads)
def test_pads(pad):
    w = Windowing(4, pad=pad)(AudioArray(np.arange(1., 11), 1))
    assert [v.tolist() for v in w.waves] == [[1, 2, 3, 4], [5, 6, 7, 8], pads[pad]]
    assert w.starts == [0, 4, 8] and w.ends == [4, 8, 10] and w.seconds.tolist() == [4, 4, 2]  # real audio only
    assert all(v.dtype == np.float32 for v in w.waves)
    exact = Windowing(4, pad=pad)(AudioArray(np.arange(1., 9), 1))
    assert exact.a.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize('pad,mode', [('zero', 'constant'), ('repeat', 'wrap'), ('wrap', 'wrap')])
def test_pads_are_numpys_where_one_window_holds_all(pad, mode):
    for n in (1, 3, 7):
        (padded,) = Windowing(8, pad=pad)(AudioArray(noise(n), 1)).waves
        np.testing.assert_array_equal(padded, np.pad(noise(n), (0, 8-n), mode=mode))


def test_drop():
    sound = AudioArray(np.arange(1., 11), 1)
    assert Windowing(4, pad='drop')(sound).a.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert len(Windowing(5, pad='drop')(sound)) == 2 and Windowing(4, hop=2, pad='drop')(sound).ends == [4, 6, 8, 10]
    with pytest.raises(AudioInputError, match="10 s are shorter.*pad='drop'"): Windowing(11, pad='drop')(sound)


def test_windows_of_stereo_are_refused():
    with pytest.raises(AudioInputError, match='2 channels.*mono'): Windowing(1)(AudioArray(noise(2, 100), 100))


# --- loading: every format, rate and number of channels

# the largest error that a code can make of a sample below 0.5; `None`: lossy, so only tone and level are kept
step_of = {
    'WAV': {'PCM_U8': 2**-7, 'PCM_16': 2**-15, 'PCM_24': 2**-23, 'PCM_32': 2**-24, 'FLOAT': 0, 'DOUBLE': 0,
            'ULAW': 2**-5, 'ALAW': 2**-5},
    'FLAC': {'PCM_S8': 2**-7, 'PCM_16': 2**-15, 'PCM_24': 2**-23}, 'OGG': {'VORBIS': None, 'OPUS': None},
    'MP3': {'MPEG_LAYER_III': None}}
opus_rates = 8000, 12000, 16000, 24000, 48000


def allowed(format, subtype, sr, channels):
    if subtype == 'OPUS': return sr in opus_rates
    return format != 'MP3' or (sr <= 48000 and channels <= 2)


@pytest.mark.parametrize('format,subtype,sr,channels',
                         [case for f, subs in step_of.items() for s in subs for r in rates for c in (1, 2, 8)
                                                        if allowed(*(case := (f, s, r, c)))])
def test_formats(format, subtype, sr, channels):
    n, step = sr//2+7, step_of[format][subtype]
    a = chord(sr, n, channels)
    data = encoded(a, sr, format, subtype)
    x = AudioLoader(mono=False)(data)
    assert x.shape == a.shape and x.sr == sr and x.a.dtype == np.float32
    if step is not None: assert np.abs(x.a-a).max() <= step
    # opus takes the last of eight for the low-frequency channel
    heard, sent = np.atleast_2d(x.a)[:7], np.atleast_2d(a)[:7]
    np.testing.assert_allclose(db(heard), db(sent), atol=.25)
    for c, channel in enumerate(heard): assert abs(peak_hz(channel, sr)-(440+40*c)) < 1
    m = AudioLoader()(data)
    assert m.shape == (n,) and m.sr == sr
    np.testing.assert_allclose(m.a, np.atleast_2d(x.a).mean(0), atol=1e-6)


kinds = ('WAV', 'PCM_16'), ('WAV', 'FLOAT'), ('FLAC', 'PCM_16'), ('OGG', 'VORBIS'), ('OGG', 'OPUS'), ('MP3', 'MPEG_LAYER_III')
every_kind = pytest.mark.parametrize('format,subtype', kinds)


@every_kind
@pytest.mark.parametrize('channels', [1, 2])
def test_samples_are_soundfiles(format, subtype, channels, tmp_path):
    "Also where a file is longer than a block."
    a = noise(channels, 2*block_samples+999) if channels > 1 else noise(block_samples+999)
    path = put(tmp_path/'a.bin', encoded(a, 48000, format, subtype))
    by_hand, _ = sf.read(path, dtype='float32', always_2d=True)
    x = AudioLoader(mono=False)(path)
    np.testing.assert_allclose(np.atleast_2d(x.a), by_hand.T, rtol=0, atol=1e-6 if format == 'MP3' else 0)
    np.testing.assert_allclose(AudioLoader()(path).a, by_hand.mean(1), rtol=0, atol=1e-6)


@every_kind
def test_inputs_are_equal(format, subtype, tmp_path):
    data = encoded(noise(2, 9000), 16000, format, subtype)
    path = put(tmp_path/f'a.{format.lower()}', data)
    for loader in (AudioLoader(), AudioLoader(mono=False), AudioLoader(sr=8000), AudioLoader(truncated='keep')):
        x = loader(path)
        ways = [str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), {'bytes': data},
                {'bytes': data, 'path': 'elsewhere.wav'}, {'path': str(path)}, {'path': path, 'bytes': None},
                put(tmp_path/'no_ending', data), put(tmp_path/'lying.wav', data)]
        for way in ways: assert same(loader(way), x), way
        with open(path, 'rb') as f:
            assert same(loader(f), x) and not f.closed
            f.seek(5)
            assert same(loader(f), x)  # from its start, wherever it stood
        with pytest.MonkeyPatch.context() as m:
            m.chdir(tmp_path)
            assert same(loader(path.name), x)


class Stream(io.RawIOBase):
    "A pipe: readable, once, from the start."
    def __init__(self, data): self.rest = io.BytesIO(data)
    def readable(self): return True
    def readinto(self, buffer): return self.rest.readinto(memoryview(buffer)[:1000])


def test_file_objects(tmp_path):
    data = encoded(noise(9000), 16000)
    x = AudioLoader()(data)
    assert same(AudioLoader()(Stream(data)), x) and same(AudioLoader()(io.BufferedReader(Stream(data))), x)
    with tempfile.NamedTemporaryFile() as f, tempfile.SpooledTemporaryFile() as g:
        for h in (f, g):
            h.write(data)
            assert same(AudioLoader()(h), x)
    with zipfile.ZipFile(tmp_path/'a.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('a.wav', data)
        with z.open('a.wav') as f: assert same(AudioLoader()(f), x)


def test_file_object_that_only_reads():
    "Bodies of downloads, and Python 3.10's SpooledTemporaryFile, have no `seekable`; the latter is at its end when it was written."
    data = encoded(noise(9000), 16000)
    assert same(AudioLoader()(SimpleNamespace(read=io.BytesIO(data).read)), AudioLoader()(data))
    at_end = io.BytesIO(data)
    at_end.seek(0, io.SEEK_END)
    assert same(AudioLoader()(SimpleNamespace(read=at_end.read, seek=at_end.seek)), AudioLoader()(data))


@pytest.mark.parametrize('name', ['ünï cödé 音 🐦.wav', 'with  spaces .wav', "quote'\".wav", '%20#?&.wav', '-n.wav'])
def test_names_of_files(name, tmp_path):
    path = put(tmp_path/name, encoded(noise(900), 8000))
    assert len(AudioLoader()(path)) == len(AudioLoader()(str(path))) == 900
    with pytest.raises(AudioNotFoundError, match=re.escape('gone '+name[:3])): AudioLoader()(tmp_path/('gone '+name))


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    put(tmp_path/'a.wav', encoded(noise(900), 8000))
    assert len(AudioLoader()('~/a.wav')) == 900


class Decoder:
    "What torchcodec's AudioDecoder looks like."
    def __init__(self, a, sr): self.a, self.sr = a, sr
    def get_all_samples(self): return SimpleNamespace(data=torch.from_numpy(self.a), sample_rate=self.sr)


@pytest.mark.parametrize('channels', [1, 2, 8])
def test_arrays_with_a_rate(channels):
    a = noise(channels, 1600)
    x = AudioArray(a, 16000)
    for way in ((a, 16000), (torch.from_numpy(a), np.int64(16000)), (a.tolist(), 16000.),
                {'array': a, 'sampling_rate': 16000}, x,
                {'array': a.astype(float), 'sampling_rate': 16000, 'path': 'nowhere.wav'}, Decoder(a, 16000)):
        assert same(AudioLoader(mono=False)(way), x)
        mono, low = AudioLoader()(way), AudioLoader(sr=8000)(way)
        np.testing.assert_allclose(mono.a, a.mean(0), atol=1e-7)
        assert same(low, Resampling(8000)(mono)) and low.shape == (800,)
        assert AudioLoader(sr=8000, mono=False)(way).shape == ((channels, 800) if channels > 1 else (800,))
    assert AudioLoader()([Decoder(a, 16000)]*2)[1].sr == 16000
    pcm16 = AudioLoader()(((a*2**15).round().astype(np.int16), 16000))
    np.testing.assert_allclose(pcm16.a, a.mean(0), atol=2**-15)


@pytest.mark.parametrize('mono', [True, False])
@pytest.mark.parametrize('format,subtype,source,target,seconds', [
    ('WAV', 'PCM_16', 44100, 16000, 7), ('WAV', 'PCM_24', 8000, 48000, 1), ('WAV', 'FLOAT', 22050, 16000, .01),
    ('FLAC', 'PCM_16', 96000, 32000, 3.1), ('OGG', 'VORBIS', 32000, 16000, 8.5), ('OGG', 'OPUS', 48000, 32000, 6),
    ('MP3', 'MPEG_LAYER_III', 44100, 48000, 6.5)])
def test_loading_at_a_rate_is_loading_and_resampling(format, subtype, source, target, seconds, mono):
    for channels in (1, 2, 8) if format in ('WAV', 'FLAC') else (1, 2):
        a = noise(channels, round(seconds*source)) if channels > 1 else noise(round(seconds*source))
        data = encoded(a, source, format, subtype)
        for truncated in ('raise', 'keep'):
            low = AudioLoader(sr=target, mono=mono, truncated=truncated)(data)
            assert same(low, Resampling(target)(AudioLoader(mono=mono, truncated=truncated)(data)))
        if channels == 1 and format != 'MP3':
            np.testing.assert_array_equal(low.a, soxr.resample(sf.read(io.BytesIO(data), dtype='float32')[0],
                                                               source, target))
        assert same(AudioLoader(sr=source, mono=mono)(data), AudioLoader(mono=mono)(data))


vbr = {'format': 'MP3', 'subtype': 'MPEG_LAYER_III', 'bitrate_mode': 'VARIABLE', 'compression_level': .3}


def without_xing(mp3):
    "Take away the frame that counts the others, and thereby the length."
    assert b'Xing' in mp3[:64]
    return mp3[mp3.index(mp3[:2], 4):]


@pytest.mark.parametrize('shape', ['even', 'quiet first', 'loud first'])
def test_mp3_without_a_length(shape):
    "The decoder then guesses a length from the first frame; neither is a long guess a fault, nor may a short one cut the sound."
    sr, n = 16000, 8*16000
    loud = {'even': np.ones(n), 'quiet first': np.arange(n) > n/2, 'loud first': np.arange(n) < n/2}[shape]
    data = encoded(noise(n)*loud.astype(np.float32), sr, **vbr)
    whole, x = AudioLoader()(data), AudioLoader()(without_xing(data))
    delay = 1105  # of encoder and decoder, which the frame taken away told of: 576+529 samples
    assert n <= len(x) < n+3*1152
    np.testing.assert_allclose(middle(x.a[delay:delay+n]), middle(whole.a), atol=1e-3)


def as_chunks(data, *ats):
    "Overwrite parts of a header: (offset, bytes)."
    data = bytearray(data)
    for at, new in ats: data[at:at+len(new)] = new
    return bytes(data)


def id3(n):
    "An ID3v2 tag with n bytes in it, such as a picture; its size is written in 4 × 7 bits."
    return b'ID3\x04\0\0'+bytes(n >> shift & 127 for shift in (21, 14, 7, 0))+bytes(n)


@pytest.mark.parametrize('n', [256, 5000, 300_000])
def test_mp3_with_a_tag(n):
    for seconds in (.3, 3):
        data = encoded(noise(round(seconds*16000)), 16000, **vbr)
        for mp3 in (data, without_xing(data)):
            x = AudioLoader()(mp3)
            for tagged in (id3(n)+mp3, mp3+b'TAG'+bytes(125)):
                assert len(AudioLoader()(tagged)) == len(x) >= seconds*16000
            np.testing.assert_allclose(AudioLoader()(id3(n)+mp3).a, x.a, atol=1e-6)


def test_wav_of_unknown_length():
    "What ffmpeg writes to a pipe: 2**32-1 for a length."
    data = encoded(noise(9000), 16000)
    at = data.index(b'data')+4
    assert same(AudioLoader()(as_chunks(data, (4, b'\xff'*4), (at, b'\xff'*4))), AudioLoader()(data))


def streamed(flac):
    "As encoders write FLAC to a pipe: with no number of samples (RFC 9639: 36 bits, 13 bytes into STREAMINFO)."
    return as_chunks(flac, (8+13, bytes([flac[8+13] & 0xf0])+bytes(4)))


@pytest.mark.parametrize('n', [1, 4095, 4096, 4097, 81920])
def test_flac_of_unknown_length(n, tmp_path):
    data = encoded(noise(n), 16000, 'FLAC')
    x = AudioLoader()(data)
    for way in (streamed(data), put(tmp_path/'a.flac', streamed(data))):
        for truncated in ('raise', 'keep'): assert same(AudioLoader(truncated=truncated)(way), x)


@pytest.mark.parametrize('share', [.3, .5, .9, .999])
def test_flac_of_unknown_length_that_breaks_off(share):
    data = streamed(whole('FLAC', 'PCM_16'))
    cut = data[:int(share*len(data))]
    with pytest.raises(AudioDecodeError, match='truncated'): AudioLoader()(cut)
    kept = AudioLoader(truncated='keep')(cut)
    assert (share-.3)*80000 < len(kept) < 80000
    np.testing.assert_array_equal(kept.a, AudioLoader()(whole('FLAC', 'PCM_16')).a[:len(kept)])


def test_what_stands_around_the_sound():
    wav = encoded(noise(9000), 16000)
    riff = as_chunks(wav, (4, (len(wav)-8+16).to_bytes(4, 'little')))+b'LIST\x08\0\0\0INFOabcd'
    assert same(AudioLoader()(riff), AudioLoader()(wav)) and same(AudioLoader()(wav+b'garbage'*9), AudioLoader()(wav))
    ogg = encoded(noise(9000), 16000, 'OGG')
    assert same(AudioLoader()(ogg+bytes(100)), AudioLoader()(ogg))


@pytest.mark.parametrize('subtype', ['VORBIS', 'OPUS'])
def test_no_part_of_a_chained_ogg_is_lost_silently(subtype):
    "RFC 3533 allows one stream after the other; libsndfile reads the first."
    parts = [encoded(noise(16000, seed=s), 16000, 'OGG', subtype) for s in range(2)]
    try: assert len(AudioLoader()(b''.join(parts))) == 32000
    except AuditusError: pass


def test_project_sounds(sounds):
    for path in sorted(p for p in sounds.iterdir() if p.suffix in ('.wav', '.flac', '.ogg', '.mp3')):
        by_hand, sr = sf.read(path, dtype='float32', always_2d=True)
        x = AudioLoader(mono=False)(path)
        assert x.sr == sr and len(x) == len(by_hand)
        np.testing.assert_allclose(np.atleast_2d(x.a), by_hand.T, atol=1e-6)


# --- links

ogg = cache(lambda: encoded(noise(16000), 16000, 'OGG'))
cut_mp3 = cache(lambda: without_xing(encoded(noise(32000), 16000, **vbr))[:4000])


bodies = {'/a.ogg': ogg, '/a%20b.ogg': ogg, '/words.ogg': lambda: b'words '*99, '/empty.ogg': bytes,
          '/cut.mp3': cut_mp3}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = bodies.get(self.path)
        if self.path == '/moved.ogg':
            self.send_response(302)
            self.send_header('Location', '/a.ogg')
            self.end_headers()
        elif body is None: self.send_error(404)
        else:
            self.send_response(200)
            promised = len(body())*(2 if 'cut' in self.path else 1)
            self.send_header('Content-Length', str(promised))
            self.end_headers()
            self.wfile.write(body())
    def log_message(self, *_): pass


@pytest.fixture(scope='module')
def site():
    "A web server on this machine."
    with pytest.MonkeyPatch.context() as m, ThreadingHTTPServer(('127.0.0.1', 0), Answer) as server:
        m.setenv('no_proxy', '*')
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_links(site):
    x = AudioLoader()(ogg())
    for link in ('/a.ogg', '/a%20b.ogg', '/moved.ogg'): assert same(AudioLoader()(site+link), x)
    assert same(AudioLoader()('HTTP'+site[4:]+'/a.ogg'), x) and same(AudioLoader()({'path': site+'/a.ogg'}), x)
    assert same(AudioLoader(sr=8000)([site+'/a.ogg'])[0], Resampling(8000)(x))
    assert same(AudioLoader(max_download_mb=len(ogg())/1e6)(site+'/a.ogg'), x)


@pytest.mark.parametrize('link,kind,part', [
    ('/gone.ogg', AudioNotFoundError, '404'), ('/words.ogg', AudioDecodeError, 'words.ogg'),
    ('/empty.ogg', AudioDecodeError, 'empty'),
    ('/a b.ogg', AudioNotFoundError, 'could not fetch'), ('/ünï.ogg', AudioNotFoundError, 'could not fetch')])
def test_links_refused(site, link, kind, part):
    with pytest.raises(kind, match=part): AudioLoader()(site+link)


def test_link_to_something_large(site):
    loader = AudioLoader(max_download_mb=(len(ogg())-1)/1e6)
    with pytest.raises(AudioInputError, match='larger than.*max_download_mb'): loader(site+'/a.ogg')


def test_download_that_breaks_off(site):
    with pytest.raises(AuditusError): AudioLoader()(site+'/cut.mp3')


def test_link_to_nobody(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with pytest.raises(AudioNotFoundError, match='could not fetch.*refused'):
        AudioLoader()(f'http://127.0.0.1:{port}/a.wav')


# --- bad files

@cache
def whole(format, subtype): return encoded(noise(80000), 16000, format, subtype)


cuttable = (*((f, 'PCM_16') for f in ('WAV', 'RF64', 'AIFF', 'FLAC')), ('OGG', 'VORBIS'), ('OGG', 'OPUS'),
            ('MP3', 'MPEG_LAYER_III'))


@pytest.mark.parametrize('share', [.3, .5, .9, .999])
@pytest.mark.parametrize('format,subtype', cuttable)
def test_truncated(format, subtype, share, tmp_path):
    data = whole(format, subtype)
    all_of_it, cut = AudioLoader()(data), data[:int(share*len(data))]
    for way in (cut, put(tmp_path/'cut', cut), Stream(cut), {'bytes': cut, 'path': None}):
        with pytest.raises(AudioDecodeError, match="truncated.*truncated='keep'"): AudioLoader()(way)
    for way in (cut, tmp_path/'cut'):
        kept = AudioLoader(truncated='keep')(way)
        assert (share-.3)*len(all_of_it) < len(kept) < len(all_of_it)
        np.testing.assert_allclose(kept.a, all_of_it.a[:len(kept)], rtol=0, atol=1e-6 if format == 'MP3' else 0)
        assert same(AudioLoader(sr=8000, truncated='keep')(way), Resampling(8000)(kept))
    np.testing.assert_allclose(AudioLoader(truncated='keep')(data).a, all_of_it.a, rtol=0,
                               atol=1e-6 if format == 'MP3' else 0)


@pytest.mark.parametrize('subtype', ['VORBIS', 'OPUS'])
def test_ogg_cut_between_two_pages(subtype):
    "Every page that is there is whole, so only the missing mark of the last one tells."
    data = whole('OGG', subtype)
    for _ in range(data.count(b'OggS')-1, 2, -1):  # two or three pages are headers
        data = data[:data.rindex(b'OggS')]
        with pytest.raises(AudioDecodeError, match='truncated'): AudioLoader()(data)
        assert 0 < len(AudioLoader(truncated='keep')(data)) < 80000


@pytest.mark.parametrize('format,subtype', cuttable)
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_cut_within_the_header(format, subtype):
    for n in (1, 4, 12, 30):
        for truncated in ('raise', 'keep'):
            with pytest.raises(AudioDecodeError): AudioLoader(truncated=truncated)(whole(format, subtype)[:n])


def test_truncated_among_many(tmp_path):
    data = whole('OGG', 'VORBIS')
    paths = [put(tmp_path/f'{i}.ogg', data[:len(data)//2] if i == 2 else data) for i in range(4)]
    with pytest.raises(AudioDecodeError, match='item 2.*2.ogg.*truncated'): AudioLoader()(paths)
    lengths = [len(x) for x in AudioLoader(truncated='keep')(paths)]
    assert lengths[:2]+lengths[3:] == [80000]*3 and 0 < lengths[2] < 80000


def with_nan(a, i):
    a = a.copy()
    a[i] = np.nan
    return a


def closed():
    f = io.BytesIO(encoded(noise(90), 8000))
    f.close()
    return f


def words_in_a_temporary_file(d):
    f = tempfile.NamedTemporaryFile('w+', dir=d)
    f.write('words '*99)
    f.flush()
    return f


faults = {  # name: (what is given, made in an empty folder; class; part of the message)
    'no such file': (lambda d: d/'gone.wav', AudioNotFoundError, 'gone.wav'),
    'no such file, as str': (lambda d: str(d/'gone.wav'), AudioNotFoundError, 'there is no file'),
    'no such folder': (lambda d: d/'gone'/'gone.wav', AudioNotFoundError, 'looked in'),
    'NUL in a path': (lambda d: 'a\0b.wav', AudioNotFoundError, 'null'),
    'a name too long': (lambda d: 'a'*5000+'.wav', AudioNotFoundError, 'too long'),
    'another kind of link': (lambda d: 'ftp://nobody/a.wav', AudioNotFoundError, 'ftp:'),
    'a folder': (lambda d: d, AudioInputError, 'is a folder'),
    'a folder, as str': (lambda d: str(d), AudioInputError, 'glob'),
    'a device': (lambda d: '/dev/null', AudioInputError, 'neither a file nor a folder'),
    'an empty path': (lambda d: '', AudioInputError, 'must name a file'),
    'an empty file': (lambda d: put(d/'a.wav', b''), AudioDecodeError, 'empty'),
    'no bytes': (lambda d: b'', AudioDecodeError, 'empty'),
    'an empty open file': (lambda d: io.BytesIO(), AudioDecodeError, 'empty'),
    'an empty stream': (lambda d: Stream(b''), AudioDecodeError, 'empty'),
    'a dict with no bytes': (lambda d: {'bytes': b''}, AudioDecodeError, 'empty'),
    'text named .wav': (lambda d: put(d/'words.wav', b'no sound '*99), AudioDecodeError, "can't decode"),
    'random bytes': (lambda d: np.random.default_rng(0).bytes(5000), AudioDecodeError, '5000 bytes'),
    'a picture': (lambda d: b'\x89PNG\r\n\x1a\n'+bytes(500), AudioDecodeError, "can't decode"),
    'mp4': (lambda d: b'\0\0\0\x20ftypM4A \0\0\0\0'+bytes(500), AudioDecodeError, 'ffmpeg'),
    'raw samples': (lambda d: put(d/'a.raw', bytes(500)), AudioDecodeError, "can't decode"),
    'wav of no frames': (lambda d: encoded(noise(0), 16000), AudioDecodeError, 'no samples'),
    'ogg of no frames': (lambda d: encoded(noise(0), 16000, 'OGG'), AudioDecodeError, 'no samples'),
    'NaN in a wav': (lambda d: encoded(with_nan(noise(900), 7), 8000, 'WAV', 'FLOAT'), AudioInputError,
                     '1 of 900 samples are NaN'),
    'NaN in a path': (lambda d: put(d/'nan.wav', encoded(with_nan(noise(9), 7), 8000, 'WAV', 'FLOAT')),
                      AudioInputError, 'nan.wav'),
    'NaN in an array': (lambda d: (with_nan(noise(900), 7), 8000), AudioInputError, 'NaN'),
    'None': (lambda d: None, AudioInputError, 'NoneType'),
    'an int': (lambda d: 3, AudioInputError, 'int'),
    'a float': (lambda d: 3., AudioInputError, 'float'),
    'a table': (lambda d: pd.DataFrame({'path': ['a.wav'], 'label': ['b']}), AudioInputError, "table['path']"),
    'a table of polars': (lambda d: pl.DataFrame({'path': ['a.wav'], 'label': ['b']}), AudioInputError, 'columns'),
    'rate 0': (lambda d: (noise(900), 0), AudioInputError, 'got 0'),
    'rate -1': (lambda d: {'array': noise(900), 'sampling_rate': -1}, AudioInputError, 'got -1'),
    'rate None': (lambda d: (noise(900), None), AudioInputError, 'got None'),
    'rate missing': (lambda d: {'array': noise(900), 'path': 'a.wav'}, AudioInputError, 'sampling_rate'),
    'rate None in a dict': (lambda d: {'array': noise(900), 'sampling_rate': None}, AudioInputError, 'sampling_rate'),
    'rate first': (lambda d: (8000, noise(900)), AudioInputError, '(array, sr)'),
    'a tuple of paths': (lambda d: ('a.wav', 'b.wav'), AudioInputError, 'give a list'),
    'a tuple of arrays': (lambda d: (noise(900), noise(900)), AudioInputError, '(array, sr)'),
    'an empty tuple': (lambda d: (), AudioInputError, '(array, sr)'),
    'an empty dict': (lambda d: {}, AudioInputError, "'array' and 'sampling_rate'"),
    'a dict of None': (lambda d: {'bytes': None, 'path': None}, AudioInputError, "'bytes', or 'path'"),
    'another dict': (lambda d: {'audio': 'a.wav'}, AudioInputError, "['audio']"),
    'a dict whose bytes are a number': (lambda d: {'bytes': 5}, AudioInputError, 'bytes'),
    'a dict whose path is a number': (lambda d: {'path': 5}, AudioInputError, 'int'),
    'words for an array': (lambda d: {'array': 'abc', 'sampling_rate': 8000}, AudioInputError, 'floats'),
    'transposed array': (lambda d: (noise(900, 2), 8000), AudioInputError, 'transpose'),
    'StringIO': (lambda d: io.StringIO('words'), AudioInputError, "'rb'"),
    'file open as text': (lambda d: open(put(d/'a.wav', b'words')), AudioInputError, "'rb'"),
    'temporary file open as text': (lambda d: words_in_a_temporary_file(d), AudioInputError, "'rb'"),
    'codecs file open as text': (lambda d: codecs.open(put(d/'a.wav', b'words'), 'r', 'utf8'), AudioInputError, "'rb'"),
    'file open for writing': (lambda d: open(put(d/'a.wav', ogg()), 'ab'), AuditusError, 'a.wav'),
    'a closed file': (lambda d: closed(), AudioInputError, 'closed')}


@pytest.mark.parametrize('name', faults)
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning', 'ignore::ResourceWarning')
def test_faults(name, tmp_path):
    make, kind, part = faults[name]
    for truncated in ('raise', 'keep'):
        given = make(tmp_path)
        with pytest.raises(kind, match=re.escape(part)) as e: AudioLoader(truncated=truncated)(given)
        assert e.value.index is None
        if hasattr(given, 'close'): given.close()


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='this user may read everything')
def test_file_that_may_not_be_read(tmp_path):
    path = put(tmp_path/'a.wav', encoded(noise(90), 8000))
    path.chmod(0)
    with pytest.raises(AudioNotFoundError, match='may not be read'): AudioLoader()(path)


def test_what_another_library_said_is_chained(tmp_path):
    with pytest.raises(AudioDecodeError) as e: AudioLoader()(b'no sound '*99)
    assert isinstance(e.value.__cause__, sf.LibsndfileError)
    with pytest.raises(AudioNotFoundError) as e: AudioLoader()(tmp_path/'gone.wav')
    assert isinstance(e.value.__cause__, FileNotFoundError)


# --- showing

@pytest.fixture
def no_figures_left():
    plt.close('all')
    yield
    plt.close('all')


shown = {'mono': lambda: AudioArray(chord(16000, 8000, 1), 16000),
         'stereo': lambda: AudioArray(chord(44100, 22050, 2), 44100),
         'eight channels': lambda: AudioArray(chord(48000, 4800, 8), 48000),
         'silence': lambda: AudioArray(np.zeros(900), 8000),
         'one sample': lambda: AudioArray([.5], 8000), 'bats': lambda: AudioArray(noise(38400), 384000),
         'a row': lambda: AudioArray(noise(1, 900), 8000)}


def in_page(html, kind):
    "What a data link of a page holds."
    return base64.b64decode(re.search(f'src="data:{kind};base64,([^"]+)"', html)[1])


@pytest.mark.parametrize('name', shown)
def test_flac_round_trip(name):
    x = shown[name]()
    for data in (as_flac(x), in_page(player_html(x), 'audio/flac')):
        a, sr = sf.read(io.BytesIO(data), dtype='float32', always_2d=True)
        assert sr == x.sr and a.T.shape == np.atleast_2d(x.a).shape
        np.testing.assert_allclose(a.T, np.atleast_2d(x.a), rtol=0, atol=2/2**15)
        assert AudioLoader(mono=False)(data).channels == x.channels


def test_loud_sounds_are_turned_down_not_clipped():
    a, _ = sf.read(io.BytesIO(as_flac(AudioArray(3*tone(440, 8000, 8000, 1.), 8000))))
    np.testing.assert_allclose(a, tone(440, 8000, 8000, 1.), atol=2/2**15)


@pytest.mark.parametrize('name', shown)
def test_page_holds_player_and_picture(name, no_figures_left):
    x = shown[name]()
    html = x._repr_html_()
    assert '<audio controls' in html and repr(x) in html
    assert len(sf.read(io.BytesIO(in_page(html, 'audio/flac')))[0]) == len(x)
    picture = plt.imread(io.BytesIO(in_page(html, 'image/webp')), format='webp')
    assert picture.ndim == 3 and min(picture.shape[:2]) > 100 and np.ptp(picture) > 0
    assert not plt.get_fignums()  # nothing is left open behind it
    assert '<audio' in x.audio().data


@pytest.mark.parametrize('x', [AudioArray(noise(9, 900), 8000), AudioArray(noise(900), 100_001),
                               AudioArray(noise(9000), 10**6)], ids=repr)
def test_page_of_what_flac_cannot_hold(x, no_figures_left):
    "FLAC ends at eight channels and 655,350 Hz; a notebook still shows such a sound."
    assert '<img' in x._repr_html_()


def test_flac_of_too_many_channels_is_refused_in_our_words():
    with pytest.raises(AuditusError): as_flac(AudioArray(noise(9, 900), 8000))


@pytest.mark.parametrize('name', shown)
def test_plots(name, no_figures_left):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    x = shown[name]()
    for plot in (plot_waveform, plot_spectrogram):
        _, ax = plt.subplots()
        assert plot(x, ax) is ax and plot(x, ax=ax) is ax
        new = plot(x)
        assert isinstance(new, Axes) and new is not ax
        np.testing.assert_allclose(new.get_xlim(), (0, x.duration))
        new.figure.draw_without_rendering()
    drawn = plot_waveform(x)
    assert len(drawn.lines)+len(drawn.collections) == x.channels
    for fig in (plot_sound(x), x.plot()): assert isinstance(fig, Figure) and len(fig.axes) == 2


def test_envelope_touches_every_sample():
    for n, dots in ((10, 10), (1000, 7), (4801, 1500)):
        a, edges = noise(n), np.linspace(0, n, dots+1).astype(int)
        lo, hi = envelope(a, dots)
        pieces = np.split(a, edges[1:-1])
        assert lo.tolist() == [p.min() for p in pieces] and hi.tolist() == [p.max() for p in pieces]


def slaney_mel(hz): return hz*3/200 if hz < 1000 else 15+27*np.log(hz/1000)/np.log(6.4)


@pytest.mark.parametrize('sr', [8000, 16000, 48000, 192000])
def test_mel_spectrogram_by_formula(sr):
    "A tone lights the row that Slaney's scale (Auditory Toolbox, 1998) gives its pitch."
    for hz in (600, 1500, 3000):
        m = mel_db(AudioArray(tone(hz, sr, sr), sr))
        row = slaney_mel(hz)/slaney_mel(sr/2)*(len(m)+1)-1
        assert abs(m.mean(1).argmax()-row) <= 1
        assert abs(m.max()) < 1e-4 and m.min() >= -80-1e-4
    quiet = mel_db(AudioArray(np.zeros(sr), sr))
    assert np.isfinite(quiet).all() and (quiet == -80).all()
    np.testing.assert_allclose(mel_db(AudioArray(.01*noise(sr), sr)), mel_db(AudioArray(noise(sr), sr)), atol=1e-2)
