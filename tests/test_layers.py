"Several layers of a model from one pass: each is what it is when it is asked for by itself."
import numpy as np
import pytest
from kit import noise

from auditus import AudioArray, AudioEmbedding, AudioPipeline, SettingError
from auditus.extract import extract


@pytest.fixture(scope='module')
def folder(checkpoint): return checkpoint('wav2vec2-layer')  # three layers, and the input of the first


@pytest.mark.parametrize('pooling', ['mean', 'max', 'std', 'meanstd', 'meanmax', None])
@pytest.mark.parametrize('settings', [{}, {'max_seconds': 3.}, {'window': 2.}, {'window': 2., 'hop': .7}])
def test_each_is_what_it_is_alone(pooling, settings, folder, rng):
    x = AudioArray(noise(rng, 7.3, 16000), 16000)
    def pipe(layer): return AudioPipeline(folder, layer=layer, pooling=pooling, **settings)
    together, some = pipe('all')(x), pipe([3, 0])(x)
    alone = [pipe(i)(x) for i in range(4)]
    def of(y, i): return [w[i] for w in y] if isinstance(y, list) else y[:, i] if 'window' in settings else y[i]
    for i, wanted in enumerate(alone):
        assert all(np.abs(a-b).max() < 1e-6 for a, b in zip(of(together, i), wanted)) and len(of(together, i)) == len(wanted)
    assert all(np.abs(a-b).max() < 1e-6 for a, b in zip(of(some, 0), alone[3]))


def test_shapes_and_passes(folder, rng):
    x = AudioArray(noise(rng, 2., 16000), 16000)
    pipe = AudioPipeline(folder, layer=[1, -1], return_tensors='pt', normalize=True)
    assert pipe([x, x, x]).shape == (3, 2, 32) and pipe.embedding.layers == [1, -1] and pipe.dim == 32
    assert AudioEmbedding(folder, layer='all')(x).shape == (4, 99, 32) and AudioEmbedding(folder, layer='all').layers == [0, 1, 2, 3]
    assert [r.vector.shape for r in AudioPipeline(folder, layer='all', window=1.).stream(x)] == [(4, 32)]*2
    passes, pipe = [], AudioPipeline(folder, layer='all')
    hook = pipe.model.net.register_forward_hook(lambda *a: passes.append(1))
    try: pipe(x)
    finally: hook.remove()
    assert len(passes) == 1


def test_what_has_no_place_for_several(folder, sounds, tmp_path):
    pipe = AudioPipeline(folder, layer=[0, 1])
    with pytest.raises(SettingError, match='gives a row for each layer'): pipe.fit([sounds/'chirp.ogg'])
    with pytest.raises(SettingError, match='one vector for each row'): extract([sounds/'chirp.ogg'], tmp_path/'t.parquet', pipe)
    for bad in ([], [True], ['1'], 'last', [[1]]):
        with pytest.raises(SettingError, match='`layer` must be a whole number'): AudioPipeline(folder, layer=bad)
    with pytest.raises(SettingError, match='has the hidden states -4 to 3'): AudioPipeline(folder, layer=[0, 4])(sounds/'chirp.ogg')
    with pytest.raises(SettingError, match='gives its last layer only'): AudioPipeline('birdnet', layer='all')(sounds/'chirp.ogg')
