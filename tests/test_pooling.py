"Pooling: each kind over tokens, over windows together, through tables and saved pipelines; and a kind of somebody's own."
import numpy as np
import pytest
import soundfile as sf
import torch
from kit import noise as noisy

from auditus import AudioPipeline, Pooling, SettingError
from auditus.extract import extract, load
from auditus.pipeline import pooling as rooms
from auditus.pipeline.pooling import PoolingKind, largest, poolings

# by hand, of all frames (tokens, dim)
by_hand = {'mean': lambda x: x.mean(0), 'max': lambda x: x.max(0), 'std': lambda x: x.std(0),
           'meanstd': lambda x: np.concatenate([x.mean(0), x.std(0)]),
           'meanmax': lambda x: np.concatenate([x.mean(0), x.max(0)])}


@pytest.fixture(scope='module')
def hubert(checkpoint): return checkpoint('hubert-layer')


def test_each_kind_is_tried(): assert {*by_hand} == {*poolings}


@pytest.mark.parametrize('kind', by_hand)
@pytest.mark.parametrize('shape', [(1, 3), (7, 3), (2, 7, 3)])
def test_over_tokens(kind, shape, rng):
    x = rng.normal(3, 2, shape).astype(np.float32)
    reference = np.stack([by_hand[kind](o) for o in x]) if len(shape) == 3 else by_hand[kind](x)
    for y in (Pooling(kind)(x), Pooling(kind)(torch.tensor(x)).numpy()):
        assert y.dtype == np.float32 and y.shape == reference.shape and np.abs(y-reference).max() < 1e-5


@pytest.mark.parametrize('kind', by_hand)
@pytest.mark.parametrize('return_tensors', ['np', 'pt'])
def test_over_all_frames_of_a_long_recording(kind, return_tensors, hubert, rng):
    "Windows of equal length have equal numbers of frames: pooled together they are all frames pooled at once."
    settings = dict(max_seconds=1., return_tensors=return_tensors)
    x = noisy(rng, 4, 16000)*np.repeat([.1, 1, 3, .3], 16000).astype(np.float32)
    frames = np.asarray(AudioPipeline(hubert, pooling=None, **settings)((x, 16000)))
    pipe = AudioPipeline(hubert, pooling=kind, **settings)
    assert len(pipe.windows((x, 16000))) == 4
    y = np.asarray(pipe((x, 16000)))
    assert y.shape == (pipe.dim,) and np.abs(y-by_hand[kind](frames)).max() < 1e-5
    # which is another number
    if kind == 'std': assert np.abs(y-np.mean([o.std(0) for o in np.split(frames, 4)], axis=0)).max() > 1e-3


@pytest.mark.parametrize('kind', by_hand)
def test_windows_alone_and_in_batches(kind, hubert, rng):
    pipe, frames = AudioPipeline(hubert, pooling=kind, window=1), AudioPipeline(hubert, pooling=None, window=1)
    sounds = [(noisy(rng, s, 16000), 16000) for s in (1, 2.5, 4)]
    for sound, together in zip(sounds, pipe(sounds)):
        assert together.shape[1] == pipe.dim and np.abs(together-pipe(sound)).max() < 1e-5
        reference = np.stack([by_hand[kind](np.asarray(f)) for f in frames(sound)])
        assert np.abs(together-reference).max() < 1e-5


class MinPooling(PoolingKind):
    "The minimum of all frames, which nobody here has thought of."
    def pool(self, x): return -largest(-x, -2)
    def join(self, stats, weights): return -largest(-stats, 0)


@pytest.mark.parametrize('kind', [*by_hand, 'min'])
def test_through_tables_and_saved_pipelines(kind, hubert, rng, tmp_path, monkeypatch):
    monkeypatch.setitem(rooms.poolings, 'min', MinPooling())
    (tmp_path/'sounds').mkdir()
    for i, s in enumerate((.5, 3.2)): sf.write(tmp_path/'sounds'/f'{i}.wav', noisy(rng, s, 16000), 16000)
    pipe = AudioPipeline(hubert, pooling=kind, max_seconds=1.)
    reference = pipe(sorted((tmp_path/'sounds').iterdir()))
    extract(tmp_path/'sounds', tmp_path/'out', pipe)
    assert reference.shape == (2, pipe.dim) and np.array_equal(load(tmp_path/'out')[0], reference)
    pipe.save(tmp_path/'saved')
    again = AudioPipeline.load(tmp_path/'saved')
    assert again.pooling == kind and np.array_equal(again(sorted((tmp_path/'sounds').iterdir())), reference)
    with pytest.raises(SettingError, match='pooling'):
        extract(tmp_path/'sounds', tmp_path/'out',
                AudioPipeline(hubert, pooling='model' if kind == 'mean' else 'mean', max_seconds=1.))


def test_a_kind_that_there_is_not(hubert):
    for made in (lambda: Pooling('median'), lambda: AudioPipeline(hubert, pooling='median')):
        with pytest.raises(SettingError, match="`pooling` must be one of 'mean', 'max', 'std', 'meanstd', 'meanmax'.*got 'median'"): made()
    with pytest.raises(SettingError, match='choose one, such as'): AudioPipeline(hubert, pooling=None, normalize=True)
