"Settings that are far from any that make sense, and files of settings that are damaged: politely, at once, and in little memory."
import json
import shutil
import tracemalloc

import numpy as np
import pytest
from kit import Loudness
from tiny_models import architectures, make_folder
from typer.testing import CliRunner

from auditus import AudioClassifier, AudioPipeline, ModelNotFoundError, SettingError
from auditus.cli import app
from auditus.sound.errors import least_and_most
from auditus.extract import extract
from auditus.models.hf import huggingface
from auditus.models.weights import check_numbers
from auditus.transform import Windowing

least, most = least_and_most['seconds']
beyond = [1e308, -1e308, 1e-300, most*1.01, least*.99, 10**400, 10**5000, float('inf'), float('nan'),
          np.float64(1e300), np.float32(1e38), np.int64(2**62),
          np.longdouble('1e400'), True, np.bool_(True), np.complex64(1), '5 s', [5]]


# --- seconds

@pytest.mark.parametrize('seconds', beyond, ids=lambda v: repr(type(v).__name__)+repr(v)[:12]
                         if not isinstance(v, int) or v < 10**20 else f'{len(bin(v))} bits')
@pytest.mark.parametrize('name', ['window', 'hop', 'max_seconds'])
def test_seconds_that_no_sound_has(name, seconds, tmp_path):
    makers = [lambda **s: AudioPipeline('nothing', **s), lambda **s: AudioClassifier('nothing', **s)]
    if name != 'max_seconds':
        makers += [lambda **s: Windowing(**{'window': 1., **s}),
                   lambda **s: extract([tmp_path/'a.wav'], tmp_path/'out', AudioPipeline(Loudness(), window=.5), **s)]
    for make in makers:
        with pytest.raises(SettingError, match=f'`{name}` must be') as e: make(**{name: seconds})
        assert len(str(e.value)) < 300
    assert not (tmp_path/'out').exists()


@pytest.mark.parametrize('seconds', [1, 1.5, np.int8(1), np.uint16(1), np.float16(.5), np.float32(.25), np.float64(2)])
def test_numbers_of_numpy_cut_as_those_of_python(seconds, rng):
    x, plain = rng.normal(0, .1, 48000*5).astype(np.float32), float(seconds)
    for hop in (None, seconds):
        got, want = ([(w.start, w.end, len(w.wave)) for w in Windowing(s, h).stream([x], 48000)]
                     for s, h in ((seconds, hop), (plain, hop and plain)))
        assert got == want
    by_pipe = [AudioPipeline(Loudness(), window=s, hop=s)((x, 48000)) for s in (seconds, plain)]
    assert np.array_equal(*by_pipe)


def test_the_limits_themselves_are_taken(rng):
    x = rng.normal(0, .1, 1000).astype(np.float32)
    assert [w.end for w in Windowing(most).stream([x], 1000)] == [1.]
    for pad in ('zero', 'repeat', 'wrap'):
        with pytest.raises(SettingError, match='fills windows up to'): [*Windowing(most, pad=pad).stream([x], 1000)]
    with pytest.raises(SettingError, match='less than one sample'): [*Windowing(least).stream([x], 1000)]


@pytest.mark.parametrize('option', ['--window', '--hop'])
@pytest.mark.parametrize('seconds', ['1e308', '1e400', '1e-300', 'nan', '-5'])
def test_the_command_says_so_in_a_line(option, seconds, sounds, tmp_path):
    args = ['embed', str(sounds), '--model', 'nothing', *(['--window', '5'] if option == '--hop' else []),
            f'{option}={seconds}', '--out', str(tmp_path/'a.parquet')]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 1 and f'error: `{option}` must be' in done.output and 'Traceback' not in done.output


# --- files of settings

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    make_folder(architectures['hubert-layer'], folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path): return shutil.copytree(whole, tmp_path/'model')


def refused(folder):
    "Opening it ends in our error, and what it takes of memory is less than the model's own."
    tracemalloc.start()
    try:
        with pytest.raises(ModelNotFoundError) as e: huggingface(folder, device='cpu')
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally: tracemalloc.stop()
    return str(e.value)


@pytest.mark.parametrize('change', [
    {'num_hidden_layers': 100_000}, {'num_hidden_layers': -3}, {'num_hidden_layers': 'many'},
    {'hidden_size': 10**9}, {'hidden_size': -5}, {'hidden_size': '32'},
    {'hidden_size': None}, {'hidden_size': 32.5}, {'hidden_size': 10**30}, {'intermediate_size': 10**12},
    {'num_attention_heads': 0}, {'num_labels': 10**9},
    {'num_conv_pos_embeddings': 10**9}, {'conv_dim': [64]*10**5, 'conv_kernel': [3]*10**5,
                                         'conv_stride': [2]*10**5, 'num_feat_extract_layers': 10**5},
    {'conv_dim': [64]*10**6}, {'conv_kernel': [10**9]*7}, {'model_type': 5}, {'model_type': None}],
                         ids=lambda v: repr(v)[:40])
def test_settings_that_no_model_has(folder, change):
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps(config | change))
    refused(folder)


deep = '{"a":'*10_000 + '1' + '}'*10_000
deep_list = '{"a":' + '['*10_000 + ']'*10_000 + '}'
fairly_deep = '{"model_type": "hubert", "a":' + '{"a":'*200 + '1' + '}'*201


@pytest.mark.parametrize('file', ['config.json', 'preprocessor_config.json', 'processor_config.json'])
@pytest.mark.parametrize('content', ['', ' ', '{', '[]', 'null', '5', '"a"', '{"model_type": "hub', deep,
                                     deep_list, fairly_deep, b'\xff\xfe\x00', b'\0'*99, '9'*5000,
                                     ' '*10**7 + '{}'], ids=lambda v: f'{v[:9]!r} {len(v)}')
def test_files_of_settings_that_are_damaged(folder, file, content):
    (folder/file).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(folder)
    assert f"{file}' is damaged: " in message or 'is nested more than' in message or 'it is larger than' in message


def test_a_cut_file_is_refused_wherever_it_is_cut(folder):
    text = (folder/'config.json').read_text()
    for n in range(0, len(text)-2, 97):
        (folder/'config.json').write_text(text[:n])
        refused(folder)


@pytest.mark.parametrize('kind', architectures)
def test_settings_of_real_architectures_are_believed(kind, tmp_path):
    make_folder(architectures[kind], tmp_path)
    for file in tmp_path.glob('*config.json'): check_numbers(file.name, json.loads(file.read_text()))


@pytest.mark.parametrize('settings', [
    {'vocab_size': 2_000_000, 'max_position_embeddings': 2**24, 'rope_theta': 10**7, 'pad_token_id': -1, 'eos_token_id': 2**31}, {'attention_chunk_size': -1},
    {'suppress_tokens': [*range(5000)], 'label2id': {str(i): i for i in range(20_000)}},
    {'num_hidden_layers': 126, 'hidden_size': 16384, 'depths': [2, 2, 18, 2]}])
def test_odd_settings_of_real_models_are_believed(settings): check_numbers('config.json', settings)
