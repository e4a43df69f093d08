"What 'auto' stands for: by kind of processor, by what was measured here, and never another thing in the middle of a run."
import json

import numpy as np
import pytest
import soundfile as sf
from kit import command, installed, noise

from auditus import AudioPipeline, ModelNotFoundError, SettingError, load_model
from auditus.extract import extract, load
from auditus.models import base, tuned
from auditus.tune import tune

needs_onnx = pytest.mark.skipif(not installed('onnxruntime'), reason='needs the extra onnx')


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    "Readings and converted networks are kept in a folder of the test's own, and models loaded anew."
    monkeypatch.setattr('huggingface_hub.constants.HF_HOME', str(tmp_path/'home'))
    base._loaded.clear()
    return tmp_path/'home'


@pytest.fixture
def sounds(tmp_path, rng):
    (tmp_path/'sounds').mkdir()
    for i in range(3): sf.write(tmp_path/'sounds'/f'{i}.wav', noise(rng, 1., 16000), 16000)
    return tmp_path/'sounds'


def keep(name, *readings): return tuned.keep_tuning([dict(backend=b, dtype=d, ms=ms) for b, d, ms in readings], name)


@needs_onnx
def test_what_was_measured_is_taken_and_what_was_named_stays(shallow):
    folder = shallow('hubert-group')
    keep(folder, ('torch', 'float32', 3.), ('onnx', 'float32', 2.), ('torch', 'bfloat16', 1.))
    assert load_model(folder, backend='auto').backend == 'onnx'
    both = load_model(folder, backend='auto', dtype='auto')
    assert (both.backend, both.precision) == ('torch', 'bfloat16')
    assert load_model(folder, dtype='auto', backend='torch').precision == 'bfloat16'
    assert load_model(folder).backend == 'torch' and load_model(folder).precision == 'float32'


@pytest.mark.parametrize('change', [dict(processor='Intel, AVX2'), dict(cores=77), dict(versions={'torch': '0.1'})])
def test_readings_of_another_machine_count_for_nothing(shallow, change):
    folder = shallow('hubert-group')
    path = keep(folder, ('torch', 'bfloat16', 1.))
    assert tuned.read_tuning(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert tuned.read_tuning(folder) == [] and load_model(folder, backend='torch', dtype=None).precision == 'float32'


def test_damaged_readings_are_named_with_the_way_on(shallow):
    folder = shallow('hubert-group')
    keep(folder, ('torch', 'float32', 1.)).write_text('{"readings": [')
    with pytest.raises(SettingError, match='Remove it, or tune again'): load_model(folder, backend='auto')
    assert load_model(folder).backend == 'torch'  # who leaves nothing to 'auto' doesn't need them


@needs_onnx
def test_a_run_goes_on_as_it_was_begun(shallow, sounds, tmp_path, rng):
    folder, out = shallow('hubert-group'), tmp_path/'out'
    keep(folder, ('onnx', 'float32', 1.), ('torch', 'float32', 2.))
    extract(sounds, out, AudioPipeline(folder, backend='auto'), progress=False)
    before, _ = load(out)
    keep(folder, ('onnx', 'float32', 2.), ('torch', 'float32', 1.))
    base._loaded.clear()
    assert load_model(folder, backend='auto').backend == 'torch'
    sf.write(sounds/'3.wav', noise(rng, 1., 16000), 16000)
    assert extract(sounds, out, AudioPipeline(folder, backend='auto'), progress=False).files == 4
    after, _ = load(out)
    assert np.array_equal(before, after[:3])
    with pytest.raises(SettingError, match=r"was begun with other settings \(backend: 'onnx' then, 'torch' now\)"):
        extract(sounds, out, AudioPipeline(folder, backend='torch'), progress=False)


@needs_onnx
def test_a_run_whose_engine_is_gone_names_it(shallow, sounds, tmp_path, monkeypatch, rng):
    import auditus.models.sessions as engine
    folder, out = shallow('hubert-group'), tmp_path/'out'
    keep(folder, ('onnx', 'float32', 1.))
    extract(sounds, out, AudioPipeline(folder, backend='auto'), progress=False)
    sf.write(sounds/'3.wav', noise(rng, 1., 16000), 16000)
    base._loaded.clear()
    monkeypatch.setattr(engine, 'find_spec', lambda p: None)
    with pytest.raises(SettingError, match="backend='onnx' needs the package onnxruntime, which is not installed"):
        extract(sounds, out, AudioPipeline(folder, backend='auto'), progress=False)


def test_tune_measures_each_way_and_keeps_what_it_found(shallow):
    folder, told = shallow('hubert-group'), []
    tune(folder, window=.5, seconds=.01, keep=False)
    assert tuned.read_tuning(folder) == []
    found = tune(folder, window=.5, seconds=.01, told=told.append)
    assert found.readings[0].backend == 'torch' and found.readings[0].cosine > .999999 and found.readings[0].ms > 0
    assert {r['backend'] for r in tuned.read_tuning(folder)} >= {'torch'}
    assert told[0] == found.readings[0]._replace(ms=told[0].ms)
    assert load_model(folder, backend='auto').backend == found.best('float32').backend
    assert f"backend='auto' takes {found.best('float32').backend}" in repr(found)
    for r in found.readings: assert r.ms or r.trouble
    done = command('tune', folder, '--window', .5, '--seconds', .01)
    assert done.exit_code == 0 and "backend='auto' takes" in done.output and 'torch float32' in done.output


@pytest.mark.parametrize('settings,error,said', [
    (dict(seconds=0), SettingError, '`seconds`'), (dict(window=-1), SettingError, '`window`'),
    (dict(dtype='float32'), SettingError, '`dtype` is what tune finds out')])
def test_wrong_settings_are_named(shallow, settings, error, said):
    with pytest.raises(error, match=said): tune(shallow('hubert-group'), **settings)


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelNotFoundError, match='there is no file'): tune(tmp_path/'none.onnx')
    done = command('tune', tmp_path/'none.onnx')
    assert done.exit_code == 1 and 'there is no file' in done.output
