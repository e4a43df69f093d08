"The chain that is shown is the chain that runs: steps are read, exchanged, shown and told of."
import pickle

import numpy as np
import pytest
import soundfile as sf
from kit import Loudness, noise
from sklearn.base import clone

from auditus import AudioArray, AudioEmbedding, AudioInputError, AudioLoader, AudioPipeline, Pooling, Resampling, SettingError, Windowing
from auditus.extract import extract
from auditus.pipeline.pooling import MaxPooling
from auditus.search import SoundIndex


class Half(Resampling):
    "Resamples, and takes half of every sample."
    def one(self, x): return AudioArray(super().one(x).a/2, self.target_sr)
    def stream(self, blocks): return ((sr, a/2) for sr, a in super().stream(blocks))


@pytest.fixture
def path(tmp_path, rng):
    sf.write(tmp_path/'a.wav', noise(rng, 3.3, 8000), 8000)
    return tmp_path/'a.wav'


@pytest.mark.parametrize('settings', [dict(window=.5), dict(window=1., hop=.3, pad='repeat'), dict(),
                                      dict(window=None), dict(pooling='max', window=.7, pad='zero')])
def test_steps_by_hand_are_the_pipeline(settings, path):
    pipe = AudioPipeline(Loudness(), **settings)
    assert [*pipe.steps] == ['loader', 'resampling', 'windowing', 'embedding', 'pooling']
    assert len(pipe.steps) == 5 and pipe.steps[0] is pipe.steps['loader']
    y = path
    for step in pipe.steps.values(): y = step(y)
    whole = pipe.windowed
    assert np.abs((y if whole else y[0] if len(y) == 1 else y)-pipe(path)).max() < 1e-6


def test_streamed_and_whole_are_the_same(path):
    class Whole(AudioLoader):
        stream = None
    def plain(x): return AudioLoader()(x)
    reference = AudioPipeline(Loudness(), window=.5)(path)
    assert np.array_equal(AudioPipeline(Loudness(), window=.5).with_step('loader', plain)(path), reference)
    assert np.array_equal(AudioPipeline(Loudness(), window=.5).with_step('resampling', lambda x: Resampling(1000)(x))(path), reference)
    assert np.array_equal(AudioPipeline(Loudness(), window=.5).with_step('windowing', lambda x: Windowing(.5)(x))(path), reference)


def test_an_exchanged_step_is_heard_and_shown(path):
    pipe = AudioPipeline(Loudness(), window=.5)
    half = pipe.with_step('resampling', Half(1000))
    assert half.steps['resampling'].__class__ is Half and 'Half(' in repr(half.steps)
    assert 'custom_steps' in repr(half) and 'custom_steps' not in repr(pipe)
    assert np.abs(2*half(path)-pipe(path)).max() < 1e-6
    for again in (clone(half), pickle.loads(pickle.dumps(half)), AudioPipeline(**half.get_params())):
        assert np.array_equal(again(path), half(path))
    both = half.with_step('pooling', MaxPooling())
    assert {*both.custom_steps} == {'resampling', 'pooling'}
    assert np.abs(2*both(path)-AudioPipeline(Loudness(), window=.5, pooling='max')(path)).max() < 1e-6
    assert both.dim == 1 and AudioPipeline(Loudness()).with_step('pooling', Pooling('meanmax')).dim == 2


def test_a_pooling_takes_the_place_of_the_models_summary(path):
    pipe = AudioPipeline('birdnet', pooling='model').with_step('pooling', Pooling('meanmax'))
    assert pipe(path).shape == (pipe.dim,) == (2*1024,)
    assert np.array_equal(pipe(path), AudioPipeline('birdnet', pooling='meanmax')(path))


def test_steps_that_do_not_fit(path):
    pipe = AudioPipeline(Loudness(), window=.5)
    for name, step, said in [('model', print, "no step 'model'.*loader, resampling, windowing, pooling"),
                             ('embedding', AudioEmbedding(Loudness()), 'no step'),
                             ('pooling', np.median, 'how windows are joined'), ('loader', 5, 'must be callable')]:
        with pytest.raises(SettingError, match=said): pipe.with_step(name, step)
    with pytest.raises(SettingError, match='must be a dict'): AudioPipeline(Loudness(), custom_steps=[Half(1000)])
    for name, step, said in [('resampling', Resampling(500), 'made for 1000 Hz, and the steps before it give 500 Hz'), ('windowing', lambda x: x, 'must give Windows, got AudioArray'),
                             ('loader', lambda x: 3, 'takes an AudioArray, got int')]:
        with pytest.raises(AudioInputError, match=said): pipe.with_step(name, step)(path)


def test_a_run_tells_an_exchanged_step(path, tmp_path):
    pipe = AudioPipeline(Loudness(), window=.5)
    out, half = tmp_path/'out', pipe.with_step('resampling', Half(1000))
    extract([path], out, half)
    assert extract([path], out, half).parts_done == 0
    with pytest.raises(SettingError, match='custom_steps.*Half.* then, None now'): extract([path], out, pipe)
    with pytest.raises(SettingError, match='custom_steps'):
        extract([path], out, pipe.with_step('resampling', Resampling(1000)))
    with pytest.raises(SettingError, match="'windowing' is a function, which nothing tells from another"):
        extract([path], tmp_path/'o', pipe.with_step('windowing', lambda x: Windowing(.5)(x)))
    assert not (tmp_path/'o').exists() and not (tmp_path/'o.auditus').exists()


def test_what_cannot_be_told_is_not_saved(checkpoint, path, tmp_path, rng):
    pipe = AudioPipeline(checkpoint('hubert-layer'), window=1).with_step('resampling', Half(16000))
    with pytest.raises(SettingError, match='can not bring along a step of your own .resampling.'):
        pipe.save(tmp_path/'saved')
    assert not (tmp_path/'saved').exists()
    extract([path], tmp_path/'out', pipe)
    with pytest.raises(Exception, match="steps of somebody's own .resampling.*give a `pipeline`"):
        SoundIndex.build(tmp_path/'out').search((noise(rng, 1, 16000), 16000))
    assert len(SoundIndex.build(tmp_path/'out', pipe).search((noise(rng, 1, 16000), 16000)))
