"Searching embeddings: the same rows as by hand, from a sound, from words, and opened from a file."
import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from tiny_models import architectures, make_folder
from typer.testing import CliRunner

from auditus import AudioArray, AudioDecodeError, AudioInputError, AudioNotFoundError, AudioPipeline, SettingError, SoundIndex
from auditus.cli import app
from auditus.extract import extract
from auditus.index.vectors import largest
from auditus.search import nearest
from auditus.session.choice import ranked

sr = 16000
needs_usearch = pytest.mark.skipif(not find_spec('usearch'), reason='needs the extra search')


@pytest.fixture(scope='module')
def model(checkpoint): return checkpoint('hubert-layer')


@pytest.fixture
def pipe(model): return AudioPipeline(model)


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path/'sounds').mkdir()
    for i in range(12):
        sf.write(tmp_path/'sounds'/f'{i:02}.wav',
                 .3*np.sin(2*np.pi*200*1.2**i*np.arange(sr)/sr)+.01*i*rng.standard_normal(sr), sr)
    return tmp_path/'sounds'


def table_of(n): return pa.table({'file': [f'{i}.wav' for i in range(n)], 'start': [0.]*n, 'end': [1.]*n})


def clustered(n, dim, centres, rng):
    c = rng.normal(0, 1, (centres, dim))
    return (c[rng.integers(0, centres, n)]+.1*rng.normal(0, 1, (n, dim))).astype(np.float32)


@pytest.mark.parametrize('n, k', [(10, 3), (3, 10), (70_000, 7), (1, 1)])
def test_nearest_is_what_sorting_all_gives(n, k, rng):
    X = rng.normal(0, 1, (n, 8)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Q = X[:5]
    rows, scores = nearest(Q, X, k)
    S = Q@X.T
    assert np.allclose(scores, -np.sort(-S, axis=1)[:, :k], atol=1e-6) and rows.shape == (len(Q), min(k, n))
    assert np.array_equal(rows[:, 0], np.arange(len(Q)))


def test_of_equals_the_first_comes_first():
    X = np.ones((100, 4), np.float32)/2
    assert nearest(X[:1], X, 5)[0].tolist() == [[0, 1, 2, 3, 4]]
    scores = np.random.default_rng(0).integers(0, 5, (20, 2000))/4
    for k in (1, 3, 400, 1999, 2000):
        wanted = np.argsort(-scores, axis=1, kind='stable')[:, :k]
        assert np.array_equal(largest(scores, k), np.sort(wanted, axis=1))
        assert np.array_equal(ranked(scores[0], k), wanted[0])


def test_search_finds_what_the_pipeline_says(folder, pipe, tmp_path):
    index = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    files = sorted(p.name for p in folder.iterdir())
    V = pipe([folder/f for f in files])
    V = V/np.linalg.norm(V, axis=1, keepdims=True)
    found = index.search(folder/'03.wav', k=5)
    cosines = V@V[3]
    assert [r['file'] for r in found] == [files[i] for i in np.argsort(-cosines, kind='stable')[:5]]
    assert found[0]['file'] == '03.wav'
    assert np.allclose([r['score'] for r in found], np.sort(cosines)[::-1][:5], atol=1e-5)
    assert index.search(V[3], k=5)[0]['file'] == '03.wav'
    assert index.search(AudioArray(sf.read(folder/'03.wav')[0], sr))[0]['file'] == '03.wav'
    assert len(index.search(folder/'03.wav', k=100)) == 12
    assert '03.wav' in repr(found) and '<table>' in found._repr_html_()
    assert str(index) == 'SoundIndex(12 rows of 32 dims, all looked at)'



def test_several_examples_count_by_the_nearest_or_by_their_mean(folder, pipe, tmp_path):
    index = SoundIndex.build(folder, AudioPipeline(pipe.model_name, window=.5), cache=tmp_path/'cache')
    def unit(V): return V/np.linalg.norm(V, axis=-1, keepdims=True)
    (tmp_path/'examples').mkdir()
    names = ['01.wav', '04.wav', '10.wav']
    for n in names: shutil.copy(folder/n, tmp_path/'examples')
    long = np.concatenate([sf.read(folder/'04.wav')[0]]*3)
    sf.write(tmp_path/'examples'/'04.wav', long, sr)  # of six windows: it counts as one example
    files = [tmp_path/'examples'/n for n in names]
    vectors = [unit(index.pipeline(f)) for f in files]
    best = np.concatenate([index.X@v.T for v in vectors], 1).max(1)
    mean = index.X@unit(unit(np.stack([v.mean(0) for v in vectors])).mean(0))
    for query in (files, tmp_path/'examples', str(tmp_path/'examples'), iter(files), [*files[:1], *files[1:]]):
        assert np.allclose([r['score'] for r in index.search(query, k=24)], np.sort(best)[::-1], atol=1e-5)
    found = index.search(files, k=24, combine='mean')
    assert np.allclose([r['score'] for r in found], np.sort(mean)[::-1], atol=1e-5)
    assert not np.allclose(np.sort(best), np.sort(mean), atol=1e-3)
    assert index.search([v[0] for v in vectors], k=3)[0]['score'] == pytest.approx(1, abs=1e-5)
    with pytest.raises(AudioInputError, match='an empty list'): index.search([])
    with pytest.raises(SettingError, match='`combine` must be one of'): index.search(files, combine='max')
    with pytest.raises(AudioNotFoundError) as e: index.search([files[0], tmp_path/'gone.wav'])
    assert e.value.index == 1 and 'gone.wav' in str(e.value)
    index.save(tmp_path/'index')
    done = [CliRunner().invoke(app, ['search', str(tmp_path/'index'), *map(str, query), '-k', '5', '--combine', 'mean'])
            for query in (files, [tmp_path/'examples'])]
    assert done[0].stdout == done[1].stdout
    assert [line.split()[-1] for line in done[0].stdout.splitlines()[1:]] == [r['file'] for r in found[:5]], done[0].output


def test_an_index_of_what_extract_wrote(folder, pipe, tmp_path):
    for out in (tmp_path/'parts', tmp_path/'one.parquet'):
        extract(folder, out, pipe, window=.5)
        index = SoundIndex.build(out)
        assert len(index) == 24 and index.pipeline.window == .5
        best = index.search(folder/'05.wav', k=2)
        assert {(r['file'], r['start']) for r in best} == {('05.wav', 0.), ('05.wav', .5)}
        assert min(r['score'] for r in best) > .9999
    with pytest.raises(SettingError, match="pooling: 'mean' there, 'max' here"):
        SoundIndex.build(tmp_path/'parts', AudioPipeline(pipe.model_name, pooling='max'))
    with pytest.raises(SettingError, match='needs a `pipeline`'): SoundIndex.build(folder)


def test_a_table_of_a_model_that_leaves_no_choice(folder, tmp_path):
    "BirdNET takes neither an engine nor a width of numbers; its table names both."
    extract(folder, tmp_path/'table', AudioPipeline('birdnet'))
    index = SoundIndex.build(tmp_path/'table')
    assert index.search(folder/'05.wav', k=1)[0]['file'] == '05.wav'
    index.save(tmp_path/'index')
    assert SoundIndex.open(tmp_path/'index').search(folder/'06.wav', k=1)[0]['file'] == '06.wav'
    done = CliRunner().invoke(app, ['search', str(tmp_path/'table'), str(folder/'07.wav'), '-k', '1'])
    assert done.exit_code == 0 and done.stdout.splitlines()[1].endswith('07.wav'), done.output


def test_more_sounds_are_added_once(folder, pipe, tmp_path):
    index = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    (tmp_path/'more').mkdir()
    sf.write(tmp_path/'more'/'new.wav', .3*np.sign(np.sin(2*np.pi*321*np.arange(sr)/sr)), sr)
    index.add(tmp_path/'more')
    assert len(index) == 13 and index.search(tmp_path/'more'/'new.wav')[0]['file'] == 'new.wav'
    with pytest.raises(AudioInputError, match='in the index already'): index.add(tmp_path/'more')


def test_near_duplicates_are_found(folder, pipe, tmp_path):
    wave, _ = sf.read(folder/'04.wav')
    sf.write(folder/'copy.wav', .999*wave, sr)
    index = SoundIndex.build(folder, AudioPipeline(pipe.model_name, window=.5), cache=tmp_path/'cache')
    pairs = {tuple(sorted((r['file'], r['file_b']))) for r in index.duplicates(.999999)}
    assert ('04.wav', 'copy.wav') in pairs
    V = index.X
    S = np.triu(V@V.T, 1)
    files = index.table['file'].to_pylist()
    wanted = {(i, j) for i, j in zip(*np.where(S >= .9999)) if files[i] != files[j]}
    assert len(index.duplicates(.9999)) == len(wanted)
    assert len(index.duplicates(.9999, within=True)) >= len(wanted)
    with pytest.raises(SettingError, match='cosine'): index.duplicates(2)


def test_saved_and_opened_elsewhere(folder, pipe, tmp_path):
    index = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    index.save(tmp_path/'index')
    index.save(tmp_path/'index')  # over itself
    shutil.move(tmp_path/'index', tmp_path/'elsewhere')
    opened = SoundIndex.open(tmp_path/'elsewhere')
    assert isinstance(opened.X, np.memmap) and opened.search(folder/'07.wav') == index.search(folder/'07.wav')
    opened.save(tmp_path/'again')
    with pytest.raises(SettingError, match='something else'): index.save(folder)
    with pytest.raises(AudioNotFoundError, match='no saved index'): SoundIndex.open(folder)
    (tmp_path/'again'/'index.json').write_text('{')
    with pytest.raises(AudioDecodeError, match='damaged'): SoundIndex.open(tmp_path/'again')


@needs_usearch
def test_a_graph_of_an_earlier_version_is_searched_in_its_own_numbers(rng, tmp_path):
    usearch = pytest.importorskip('usearch.index')
    X = rng.normal(0, 1, (2000, 16)).astype(np.float32)
    index = SoundIndex.build((X, table_of(2000)), exact_up_to=1000)
    index.graph = usearch.Index(ndim=16, metric='cos', dtype='f16')  # as version 0.1.0 made it
    index.graph.add(np.arange(2000), index.X)
    index.cells = None
    index.save(tmp_path/'index')
    opened = SoundIndex.open(tmp_path/'index')
    assert opened.graph.dtype.name == 'F16' and opened.cells is None
    found = opened.neighbours(index.X[:50], 1)[0][:, 0]
    assert (found == np.arange(50)).mean() >= .8  # a graph is no exact search, and of wrong numbers it finds none


@needs_usearch
def test_heaps_that_lie_apart_are_found_by_cells(rng, tmp_path):
    middles = rng.normal(0, 1, (300, 128)).astype(np.float32)
    def around(n): return middles[rng.integers(0, 300, n)]+.05*rng.normal(0, 1, (n, 128)).astype(np.float32)
    def recall(index):
        queries = around(100)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        a, b = index.neighbours(queries, 10, exact=True)[0], index.neighbours(queries, 10)[0]
        return np.mean([len({*x} & {*y})/10 for x, y in zip(a.tolist(), b.tolist())])
    index = SoundIndex.build((around(8000), table_of(8000)), exact_up_to=1000)
    assert recall(index) > .97
    more = around(4000)
    index.X = np.concatenate([index.X, more/np.linalg.norm(more, axis=1, keepdims=True)])
    index.table = table_of(12000)
    assert len(index.update_graph().cells.rows) == 12000 and recall(index) > .97, 'rows that came later too'
    index.save(tmp_path/'index')
    opened = SoundIndex.open(tmp_path/'index')
    assert recall(opened) > .97 and np.array_equal(opened.cells.rows, index.cells.rows)
    class Lost: # a graph that finds the same rows whatever is asked
        dtype = index.graph.dtype
        def search(self, queries, k): return SimpleNamespace(keys=np.tile(np.arange(k), (len(queries), 1)))
    opened.graph = Lost()
    assert recall(opened) > .97
    opened.cells = None
    assert recall(opened) < .1


def test_a_graph_finds_nearly_what_all_rows_give(rng, tmp_path):
    X = clustered(6000, 64, 60, rng)
    exact, graph = SoundIndex.build((X, table_of(6000))), SoundIndex.build((X, table_of(6000)), exact_up_to=1000)
    assert exact.graph is None and len(graph.graph) == 6000
    queries = clustered(50, 64, 60, np.random.default_rng(0))
    queries = queries/np.linalg.norm(queries, axis=1, keepdims=True)
    a, sa = exact.neighbours(queries, 10)
    b, sb = graph.neighbours(queries, 10)
    assert np.mean([len({*x} & {*y})/10 for x, y in zip(a.tolist(), b.tolist())]) > .95
    rows, scores = graph.neighbours(queries, 10, exact=True)
    assert np.array_equal(rows, a) and np.array_equal(scores, sa)
    assert np.allclose(sb, np.stack([exact.X[r]@q for r, q in zip(b, queries)]), atol=1e-6)
    graph.save(tmp_path/'index')
    opened = SoundIndex.open(tmp_path/'index')
    assert len(opened.graph) == 6000 and np.array_equal(opened.neighbours(queries, 10)[0], b)
    assert opened.search(queries[0], 3) == graph.search(queries[0], 3)


def test_words_are_searched_where_the_model_reads(folder, tmp_path, rng):
    make_folder(architectures['clap-fusion'], tmp_path/'clap')
    pytest.importorskip('tokenizers')
    words = AudioPipeline(tmp_path/'clap', pooling='model')
    model = words.model
    said = rng.normal(0, 1, (1, words.dim)).astype(np.float32)
    said /= np.linalg.norm(said)
    model.embed_text = lambda texts: said if texts == ['a dog'] else None
    index = SoundIndex.build(folder, words, cache=tmp_path/'cache')
    found = index.search('a dog', k=3)
    assert [r['score'] for r in found] == pytest.approx(sorted((index.X@said[0]).tolist(), reverse=True)[:3])
    frames = SoundIndex.build(folder, AudioPipeline(model), cache=tmp_path/'cache')
    with pytest.raises(SettingError, match="pooling='model'"): frames.search('a dog')


def test_an_index_is_not_asked_with_another_models_vectors(folder, model, tmp_path):
    make_folder(architectures['wav2vec2-layer'], tmp_path/'other')
    SoundIndex.build(folder, AudioPipeline(model), cache=tmp_path/'cache').save(tmp_path/'index')
    for pipe in (AudioPipeline(tmp_path/'other'), AudioPipeline(model, pooling='max'), AudioPipeline(model, layer=1)):
        with pytest.raises(SettingError, match='other settings than this pipeline has'): SoundIndex.open(tmp_path/'index', pipe)
    again = SoundIndex.open(tmp_path/'index', AudioPipeline(model, window=.5))
    assert again.pipeline.window == .5 and len(again) == 12


def test_only_what_is_new_is_embedded(folder, model, tmp_path, monkeypatch, rng):
    "By windows, in the order of the collection; what can't be heard is told."
    pipe = AudioPipeline(model, window=.5)
    first = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    sf.write(folder/'00_a.wav', rng.normal(0, .1, sr), sr)
    (folder/'03.wav').write_bytes((folder/'04.wav').read_bytes())
    heard, run = [], AudioPipeline.embed_sounds
    monkeypatch.setattr(AudioPipeline, 'embed_sounds',
                        lambda self, xs, *a, **k: run(self, (heard.append(x) or x for x in xs), *a, **k))
    (folder/'07.wav').write_bytes(b'RIFF')
    with pytest.warns(UserWarning, match='1 sound of 13 could not be embedded, and are not in the index: 07.wav'):
        index = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    assert len(heard) == 3
    names = sorted(p.name for p in folder.iterdir() if p.name != '07.wav')
    assert index.table['file'].to_pylist() == [n for n in names for _ in range(2)]
    assert index.table['start'].to_pylist() == [0., .5]*12
    by_hand = np.concatenate([pipe(folder/n) for n in names])
    assert np.abs(index.X-by_hand/np.linalg.norm(by_hand, axis=1, keepdims=True)).max() < 1e-5
    assert len(first) == 24 and np.array_equal(index.X[:2], first.X[:2])


def test_sounds_without_a_state_are_not_mistaken_for_one_another(model, tmp_path, rng):
    "Sounds in a dataset have numbers for names, and here one size."
    import io
    import datasets
    def made():
        sf.write(sound := io.BytesIO(), rng.normal(0, .1, sr), sr, format='WAV')
        return datasets.Dataset.from_list([{'audio': {'bytes': sound.getvalue(), 'path': None}}]).cast_column('audio', datasets.Audio(decode=False))
    pipe = AudioPipeline(model)
    for data in (made(), made()):
        index, vector = SoundIndex.build(data, pipe, cache=tmp_path/'cache'), pipe(data[0]['audio'])
        assert np.abs(index.X[0]-vector/np.linalg.norm(vector)).max() < 1e-5


def test_words_of_a_clap_find_what_its_library_says(clap_folder, folder, tmp_path):
    import transformers as tf
    index = SoundIndex.build(folder, AudioPipeline(clap_folder, pooling='model'), cache=tmp_path/'cache')
    net, tokenizer = tf.ClapModel.from_pretrained(clap_folder).eval(), tf.AutoTokenizer.from_pretrained(clap_folder)
    for words in ('dog', 'vacuum cleaner'):
        said = net.get_text_features(**tokenizer([words], return_tensors='pt')).pooler_output[0].detach().numpy()
        cosines = index.X@(said/np.linalg.norm(said))
        found = index.search(words, k=12)
        assert [r['score'] for r in found] == pytest.approx(sorted(cosines.tolist(), reverse=True), abs=1e-5)
        assert found[0]['file'] == index.table['file'][int(cosines.argmax())].as_py()


def test_bad_questions_are_answered_in_words(folder, pipe, tmp_path, rng):
    index = SoundIndex.build(folder, pipe, cache=tmp_path/'cache')
    with pytest.raises(AudioNotFoundError, match='no text side'): index.search('a dog')
    with pytest.raises(AudioInputError, match='vectors of 32 numbers, got one of 5'): index.search(np.zeros(5))
    for k in (0, 1.5, True):
        with pytest.raises(SettingError, match='`k`'): index.search(folder/'01.wav', k=k)
    bare = SoundIndex.build((rng.normal(0, 1, (5, 4)), table_of(5)))
    with pytest.raises(SettingError, match='knows no model'): bare.search(folder/'01.wav')
    with pytest.raises(AudioInputError, match='not a single row'): SoundIndex.build((np.zeros((0, 4)), table_of(0)))
    with pytest.raises(AudioInputError, match='a matrix .* and a table of n rows'):
        SoundIndex.build((np.zeros((3, 4)), table_of(2)))
    with pytest.raises(AudioInputError, match='no column `file`'):
        SoundIndex.build((np.ones((1, 4)), pa.table({'x': [1]})))
    (tmp_path/'bad').mkdir()
    (tmp_path/'bad'/'a.wav').write_text('no sound')
    with pytest.raises(AudioDecodeError, match='none of 1 sound'):
        SoundIndex.build(tmp_path/'bad', pipe, cache=tmp_path/'cache')


def test_the_command(folder, model, pipe, tmp_path):
    run = CliRunner().invoke
    extract(folder, tmp_path/'table', pipe)
    SoundIndex.build(tmp_path/'table').save(tmp_path/'index')
    for index in ('table', 'index'):
        done = run(app, ['search', str(tmp_path/index), str(folder/'02.wav'), '-k', '3', '-o',
                         str(tmp_path/'found.csv')])
        assert done.exit_code == 0 and done.stdout.splitlines()[1].endswith('02.wav') and len((tmp_path/'found.csv').read_text().splitlines()) == 4, done.output
    done = run(app, ['search', str(tmp_path/'nothing'), 'x.wav'])
    assert done.exit_code == 1 and 'error:' in done.stderr and 'Traceback' not in done.output
