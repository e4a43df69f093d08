"The commands, as a person types them."
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from kit import command

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
    (['no/such.wav'], 'there is no file or folder'), (['{tmp}'], 'no sounds in'), (['{wav}', '--window', 'five'], '`--window` must be'), (['{wav}', '--window', '-1'], '`window` must be'),
    (['{wav}', '--pooling', 'median'], '`pooling` must be'), (['{wav}', '-m', './no/such'], 'Three ways on'), 
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


def test_the_installed_command_starts_without_torch():
    code = 'import sys; sys.argv=["auditus", "--help"]\nfrom auditus.cli import app\ntry: app()\nexcept SystemExit: pass\nassert not {"torch", "transformers", "pyarrow", "librosa"} & set(sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'embed' in done.stdout and 'info' in done.stdout and 'models' in done.stdout
