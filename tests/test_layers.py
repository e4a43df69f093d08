"Several layers of a model from one pass: each is what it is when it is asked for by itself."
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import command, noise

from auditus import AudioArray, AudioEmbedding, AudioPipeline, SettingError, SoundIndex
from auditus.collection.store import state_folder
from auditus.extract import extract, load


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
        assert all(np.abs(a-b).max() < 1e-6 for a, b in zip(of(together, i), wanted))
        assert len(of(together, i)) == len(wanted)
    assert all(np.abs(a-b).max() < 1e-6 for a, b in zip(of(some, 0), alone[3]))


def test_shapes_and_passes(folder, rng):
    x = AudioArray(noise(rng, 2., 16000), 16000)
    pipe = AudioPipeline(folder, layer=[1, -1], return_tensors='pt', normalize=True)
    assert pipe([x, x, x]).shape == (3, 2, 32) and pipe.embedding.layers == [1, -1] and pipe.dim == 32
    assert AudioEmbedding(folder, layer='all')(x).shape == (4, 99, 32)
    assert AudioEmbedding(folder, layer='all').layers == [0, 1, 2, 3]
    assert [r.vector.shape for r in AudioPipeline(folder, layer='all', window=1.).stream(x)] == [(4, 32)]*2
    for several in (range(1, 4, 2), np.array([1, 3]), (1, 3)):
        pipe = AudioPipeline(folder, layer=several)
        assert pipe.embedding.layers == [1, 3] and pipe(x).shape == (2, 32)
        assert AudioEmbedding(folder, layer=several).layers == [1, 3]
    assert AudioPipeline(folder, layer=np.int64(2)).layer == 2
    passes, pipe = [], AudioPipeline(folder, layer='all')
    hook = pipe.model.net.register_forward_hook(lambda *a: passes.append(1))
    try: pipe(x)
    finally: hook.remove()
    assert len(passes) == 1


def test_what_has_no_place_for_several(folder, sounds, tmp_path):
    pipe = AudioPipeline(folder, layer=[0, 1])
    with pytest.raises(SettingError, match='gives a row for each layer'): pipe.fit([sounds/'chirp.ogg'])
    with pytest.raises(SettingError, match='one vector for each row'): SoundIndex.build([sounds/'chirp.ogg'], pipe)
    for bad in ([], [True], ['1'], 'last', [[1]]):
        with pytest.raises(SettingError, match='`layer` must be a whole number'): AudioPipeline(folder, layer=bad)
    with pytest.raises(SettingError, match='has the hidden states -4 to 3'):
        AudioPipeline(folder, layer=[0, 4])(sounds/'chirp.ogg')
    with pytest.raises(SettingError, match='gives its last layer only'):
        AudioPipeline('birdnet', layer='all')(sounds/'chirp.ogg')


# in tables

@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    "Twelve of 0.7 to 3.4 s."
    folder, rng = tmp_path_factory.mktemp('recordings'), np.random.default_rng(3)
    for i in range(12): sf.write(folder/f'{i:02}.wav', noise(rng, .7+i/4, 16000), 16000)
    return folder


@pytest.fixture(scope='module')
def alone(folder, recordings, tmp_path_factory):
    "A table of each layer, embedded by itself."
    out = tmp_path_factory.mktemp('alone')
    def made(layer):
        extract(recordings, out/f'{layer}.parquet', AudioPipeline(folder, layer=layer, window=1.))
        return load(out/f'{layer}.parquet')[0]
    return {i: made(i) for i in range(4)}


@pytest.mark.parametrize('columns', [True, False])
@pytest.mark.parametrize('name', ['table.parquet', 'parts'])
def test_a_table_holds_each_layer_as_it_is_alone(columns, name, folder, recordings, alone, tmp_path):
    out, pipe = tmp_path/name, AudioPipeline(folder, layer='all', window=1.)
    passes = []
    hook = pipe.model.net.register_forward_hook(lambda *a: passes.append(1))
    try: done = extract(recordings, out, pipe, layer_columns=columns, checks=False)
    finally: hook.remove()
    X, others = load(out)
    assert X.shape == (done.rows, 4, 32) and others.column_names == ['file', 'start', 'end']
    for i, wanted in alone.items():
        found = load(out, layer=i)[0]
        assert found.shape == wanted.shape and np.abs(found-wanted).max() < 1e-6 and np.array_equal(found, X[:, i])
    assert np.array_equal(load(out, layer=[3, 1])[0], X[:, [3, 1]])
    assert load(out, layer=[2])[0].shape == (done.rows, 1, 32)
    for layer in (-1, 4, 'mean', [0, 9]):
        with pytest.raises(SettingError, match='holds the layers 0, 1, 2, 3, got layer='): load(out, layer=layer)
    assert len(passes) == len([*pipe.embedding.batches([w.wave for f in sorted(recordings.iterdir())
                                                        for w in pipe.iter_windows(f)])])
    schema = pq.read_schema(out if out.is_file() else next(out.glob('*.parquet')))
    vectors = {f.name: f.type.list_size for f in schema if f.name.startswith('embedding')}
    assert vectors == ({f'embedding_{i}': 32 for i in range(4)} if columns else {'embedding': 128})
    assert json.loads(schema.metadata[b'auditus'])['layers'] == [0, 1, 2, 3]
    assert extract(recordings, out, pipe, layer_columns=columns).parts_done == 0
    with pytest.raises(SettingError, match='begun with other settings'):
        extract(recordings, out, pipe, layer_columns=not columns)
    with pytest.raises(SettingError, match='begun with other settings'):
        extract(recordings, out, AudioPipeline(folder, layer=[0, 1], window=1.))


def test_a_data_frame_has_a_column_for_each_layer(folder, recordings, tmp_path):
    polars = pytest.importorskip('polars')
    if not hasattr(polars, 'Float16'): pytest.skip('this polars has no float16')
    extract(recordings, tmp_path/'t.parquet', AudioPipeline(folder, layer=[1, -1], pooling='meanstd'),
            embedding_dtype='float16')
    X = load(tmp_path/'t.parquet')[0]
    assert X.dtype == np.float16 and X.shape == (12, 2, 64)
    frame = polars.read_parquet(tmp_path/'t.parquet')
    assert frame.columns == ['file', 'start', 'end', 'embedding_1', 'embedding_-1']
    assert np.array_equal(frame['embedding_-1'].to_numpy(), X[:, 1])
    assert np.array_equal(load(tmp_path/'t.parquet', layer=-1)[0], X[:, 1])


def test_a_table_of_one_layer_says_which(folder, recordings, tmp_path):
    extract(recordings, tmp_path/'t.parquet', AudioPipeline(folder, layer=2))
    X = load(tmp_path/'t.parquet')[0]
    assert X.shape == (12, 32) and np.array_equal(load(tmp_path/'t.parquet', layer=2)[0], X)
    with pytest.raises(SettingError, match='holds layer 2, got layer=1'): load(tmp_path/'t.parquet', layer=1)


@pytest.mark.parametrize('layer', [None, 1, [3, 0]])
def test_layers_of_a_large_table_are_mapped(layer, folder, recordings, tmp_path, monkeypatch):
    pipe, out = AudioPipeline(folder, layer='all', window=1.), tmp_path/'parts'
    extract(recordings, out, pipe)
    X = load(out, layer=layer)[0]
    monkeypatch.setattr('auditus.collection.layout._batch_bytes', 2000)  # some rows at a time
    assert np.array_equal(load(out, layer=layer)[0], X)
    for _ in range(2):
        mapped = load(out, layer=layer, mmap=True)[0]
        assert isinstance(mapped, np.memmap) and np.array_equal(mapped, X)
    assert any(state_folder(out).glob('embeddings*.npy'))
    extract(recordings, out, pipe, window=2., resume=False)
    assert not any(state_folder(out).glob('embeddings*.npy'))


@pytest.mark.parametrize('settings', [{'window': .5}, {'window': None}])
def test_a_run_that_was_stopped_goes_on_within_a_part(settings, folder, recordings, tmp_path):
    pipe, heard = AudioPipeline(folder, layer='all', batch_size=2, **settings), []
    def stop(*a):
        heard.append(1)
        if len(heard) == 5: raise KeyboardInterrupt
    hook = pipe.model.net.register_forward_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt): extract(recordings, tmp_path/'out', pipe)
        assert [*state_folder(tmp_path/'out').glob('passes-*.parquet')] and not [*(tmp_path/'out').glob('*.parquet')]
        stopped = len(heard)
        extract(recordings, tmp_path/'out', pipe)
        in_two = len(heard)-1  # the pass that was broken off was made again
        extract(recordings, tmp_path/'clean', pipe)
    finally: hook.remove()
    assert stopped == 5 and len(heard)-1-in_two == in_two
    assert np.array_equal(load(tmp_path/'out')[0], load(tmp_path/'clean')[0])


def test_an_index_of_one_layer_of_a_table(folder, recordings, tmp_path):
    extract(recordings, tmp_path/'t.parquet', AudioPipeline(folder, layer=[1, 3]))
    with pytest.raises(SettingError, match=r'several layers, \[1, 3\], and an index is of one'):
        SoundIndex.build(tmp_path/'t.parquet')
    with pytest.raises(SettingError, match='holds the layers 1, 3, got layer=2'):
        SoundIndex.build(tmp_path/'t.parquet', layer=2)
    query = recordings/'07.wav'
    for index in (SoundIndex.build(tmp_path/'t.parquet', layer=1),
                  SoundIndex.build(tmp_path/'t.parquet', AudioPipeline(folder, layer=1))):
        assert index.pipeline.layer == 1 and index.X.shape == (12, 32)
        best = index.search(query)[0]
        assert best['file'] == '07.wav' and best['score'] == pytest.approx(1, abs=1e-5)
    with pytest.raises(SettingError, match='holds the layers 1, 3'):
        SoundIndex.build(tmp_path/'t.parquet', AudioPipeline(folder))


def test_the_commands(folder, recordings, tmp_path):
    out = tmp_path/'t.parquet'
    done = command('embed', recordings, '-m', folder, '--layer', 'all', '-o', out)
    assert done.exit_code == 0 and pq.read_schema(out).names[3:] == [f'embedding_{i}' for i in range(4)]
    done = command('search', out, recordings/'07.wav', '-k', 1)
    assert done.exit_code and 'choose it with `--layer`' in done.stderr
    done = command('search', out, recordings/'07.wav', '-k', 1, '--layer', 2)
    assert done.exit_code == 0 and '07.wav' in done.stdout
    assert command('map', out, '--layer', 2, '-o', tmp_path/'map.png').exit_code == 0 and (tmp_path/'map.png').exists()
    SoundIndex.build(out, layer=2).save(tmp_path/'index')
    done = command('search', tmp_path/'index', recordings/'07.wav', '--layer', 1)
    assert done.exit_code and 'a saved index of one' in done.stderr
    for text, names in (('-2', ['embedding']), ('3,1', ['embedding_3', 'embedding_1']), ('mean', ['embedding'])):
        assert command('embed', recordings/'00.wav', '-m', folder, '--layer', text, '-o',
                       tmp_path/f'{text}.parquet').exit_code == 0
        assert pq.read_schema(tmp_path/f'{text}.parquet').names[3:] == names
    done = command('embed', recordings/'00.wav', '-m', folder, '--layer', 'last', '-o', out)
    assert done.exit_code and '`--layer` must be a number' in done.stderr
