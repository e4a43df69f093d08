"Settings take effect: what repr says is what runs, however a setting was changed."
import copy

import numpy as np
import pytest
import soundfile as sf
import torch
from kit import Loudness, noise
from sklearn.base import clone
from sklearn.utils import estimator_checks

from auditus import (AudioClassifier, AudioEmbedding, AudioLoader, AudioPipeline, Normalize, Pooling,
                     Resampling, SettingError, Windowing, ZeroShotClassifier)
from auditus.models.base import AudioModel, ModelFrames


class Layered(AudioModel):
    "A model with a head and two hidden layers: each layer is another multiple of the loudness."
    name, sr, context, frame_dim, n_layers, labels, activation = 'layered', 1000, 1., 1, 2, ['loud', 'soft'], 'none'
    def forward(self, waves, layer=-1):
        scale = {-1: 1., 'mean': 5.}.get(layer, 10.+layer if isinstance(layer, int) else 0)
        loud = np.stack([np.abs(w[:len(w)//100*100].reshape(-1, 100)).mean(1).astype(np.float32)[:1].repeat(2)
                         for w in waves])*scale
        loud[:, 1] *= 3
        return ModelFrames(loud[:, :, None], np.ones(loud.shape, bool), None, loud)


@pytest.fixture
def path(tmp_path, rng):
    sf.write(tmp_path/'a.wav', noise(rng, 3.4, 2000), 2000)
    return tmp_path/'a.wav'


def same(a, b):
    a, b = (y if hasattr(y, 'shape') else [dict(s) for s in y] for y in (a, b))
    return type(a) is type(b) and (np.array_equal(a, b) if hasattr(a, 'shape') else a == b)


@pytest.mark.parametrize('kind, setting, value', [
    (AudioPipeline, 'pooling', 'max'), (AudioPipeline, 'pooling', 'meanstd'),
    (AudioPipeline, 'pooling', None), (AudioPipeline, 'layer', 1), (AudioPipeline, 'return_tensors', 'pt'),
    (AudioPipeline, 'window', .7),
    (AudioPipeline, 'normalize', True), (AudioPipeline, 'mono', False), (AudioEmbedding, 'layer', 'mean'),
    (AudioEmbedding, 'return_tensors', 'pt'),
    (AudioClassifier, 'window', .5), (AudioClassifier, 'top_k', 1), (AudioClassifier, 'pooling', 'max'),
    (AudioClassifier, 'function_to_apply', 'softmax')])
def test_a_setting_that_is_assigned_is_what_runs(kind, setting, value, path):
    x = AudioLoader(sr=1000)(path)
    x = x[:1000] if kind is AudioEmbedding else x.a
    x = type(AudioLoader(sr=1000)(path))(x, 1000)
    model = Layered()
    before, reference = kind(model), kind(model, **{setting: value})
    first = before(x)
    setattr(before, setting, value)
    assert repr(before) == repr(reference) and same(before(x), reference(x)) and not same(first, reference(x))
    again = copy.copy(before)
    setattr(again, setting, kind.defaults()[setting])
    assert same(again(x), first) and same(before(x), reference(x))  # a copy is a thing of its own


def test_settings_of_the_other_steps(path):
    loader = AudioLoader()
    x = loader(path)
    loader.sr = 1000
    assert loader(x).sr == 1000 and loader(path).sr == 1000
    assert np.array_equal(loader(path).a, AudioLoader(sr=1000)(path).a)
    loader.sr = None
    assert loader(x).sr == 2000
    cut, pool, rate = Windowing(1.), Pooling(), Resampling(500)
    cut.window, pool.pooling, rate.target_sr = .5, 'max', 250
    assert len(cut(x)) == 7 and pool(np.array([[1.], [3.]])) == [3.] and rate(x).sr == 250


@pytest.mark.parametrize('made, setting, value, said', [
    (lambda: AudioPipeline(Layered()), 'pooling', 'median', 'must be one of'),
    (lambda: AudioPipeline(Layered()), 'window', -1, 'positive'),
    (lambda: AudioPipeline(Layered(), pooling=None), 'normalize', True, 'goes with a vector'),
    (lambda: AudioClassifier(Layered()), 'top_k', 0, 'positive'),
    (lambda: AudioLoader(), 'sr', 'fast', '`target_sr`'),
    (lambda: Windowing(1.), 'pad', 'mirror', 'must be one of')])
def test_a_setting_that_is_refused_changes_nothing(made, setting, value, said):
    step = made()
    before = repr(step)
    with pytest.raises(SettingError, match=said): setattr(step, setting, value)
    assert repr(step) == before == repr(made())


class Louder(Windowing):
    def __init__(self, window=1., gain=2.):
        super().__init__(window)
        self.gain = gain
    def one(self, x): return super().one(type(x)(x.a*self.gain, x.sr))


def test_subclasses_take_settings_too(path):
    step, x = Louder(), AudioLoader()(path)
    step.gain = 3.
    step.window = .5
    assert repr(step) == 'Louder(window=0.5, gain=3.0)' and len(step(x)) == 7
    assert np.allclose(step(x).waves[0], 3*Windowing(.5)(x).waves[0])
    step.seen = 5  # no setting
    assert step.seen == 5 and clone(step).get_params() == step.get_params()


def test_setters_and_clones_of_scikit_learn(path):
    for step in (AudioPipeline(Layered(), pooling='max'), AudioClassifier(Layered()),
                 AudioEmbedding(Layered()), AudioLoader(), Windowing(1.), Pooling(), Resampling(8000),
                 Normalize(), ZeroShotClassifier(['a', 'b'])):
        estimator_checks.check_no_attributes_set_in_init(type(step).__name__, step)
        assert clone(step).get_params() == step.get_params()


class OfNumbers(AudioPipeline):
    "A pipeline that takes the numbers of scikit-learn's checks for sounds."
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        return tags
    def fit(self, X, y=None):
        return super().fit([(np.full(1000, v, np.float32), 1000) for v in np.reshape(X, (len(X), -1))[:, 0]])


def test_fitting_overwrites_nothing():
    estimator_checks.check_dont_overwrite_parameters("AudioPipeline", OfNumbers(Layered()))
    estimator_checks.check_estimators_overwrite_params("AudioPipeline", OfNumbers(Layered()))


def test_return_tensors_is_what_comes_out(path):
    pipe = AudioPipeline(Loudness())
    pipe.return_tensors = 'pt'
    assert isinstance(pipe(path), torch.Tensor)
