"Trust: nothing that a file says is run unasked, nothing rots unnoticed, nothing is lost by a kill."
import ast
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import transformers as tf
from kit import Counting, Loudness, command, installed, root

from auditus import (AudioArray, AudioClassifier, AudioDecodeError, AudioNotFoundError, AudioPipeline,
                     AuditusError, ModelNotFoundError, SettingError, SoundIndex,
                     ZeroShotClassifier, load_model)
from auditus.collect import collect, part_key
from auditus.collection.budget import Clock
from auditus.collection.run import find_jobs
from auditus.extract import extract, load
from auditus.finetune import Probe, evaluate, finetune, open_classifier, sounds_fingerprint
from auditus.hear import load_model as hear_model
from auditus.labels import labelled
from auditus.models.base import AudioModel, ModelFrames
from auditus.models.registry import shareable, users_own
from auditus.search import find_index
from auditus.sound.files import read_json, recover, sums_file, write_whole
from auditus.sound.sums import seal_key
from auditus.collection.store import Store

needs_sigkill = pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL')


# A file must not decide what is run

@pytest.fixture
def planted(checkpoint, tmp_path, unmarked):
    "A model whose folder brings code along, and the file that this code would leave."
    folder, mark = tmp_path/'planted', tmp_path/'it-ran'
    shutil.copytree(checkpoint('hubert-layer'), folder)
    config = json.loads((folder/'config.json').read_text())
    config |= {'model_type': 'evil', 'auto_map': {'AutoConfig': 'evil.EvilConfig', 'AutoModel': 'evil.EvilModel'}}
    (folder/'config.json').write_text(json.dumps(config))
    (folder/'evil.py').write_text(f"""
from pathlib import Path
Path({str(mark)!r}).touch()
from transformers import HubertConfig as EvilConfig, HubertModel as EvilModel
""")
    return folder, mark


@pytest.fixture
def unmarked():
    "transformers marks each class that code of a folder names, and would look for that code whenever one is saved again."
    yield
    def all_of(c): return [c, *(d for s in c.__subclasses__() for d in all_of(s))]
    bases = tf.PreTrainedModel, tf.PreTrainedConfig, tf.FeatureExtractionMixin, tf.PreTrainedTokenizerBase, tf.ProcessorMixin
    for c in [c for base in bases for c in all_of(base)]:
        if vars(c).get('_auto_class'): c._auto_class = None


trusting = dict(trust_remote_code=True, allow_pickle=True, device='cuda:7', token='secret',
                local_files_only=False, progress=True)


def plant_table(path, settings):
    "A table as `extract` writes it, with settings of somebody else."
    flat = pa.array(np.random.default_rng(0).normal(size=64).astype(np.float32))
    table = pa.table({'file': ['a.wav', 'b.wav'], 'start': [0., 0.], 'end': [1., 1.],
                      'embedding': pa.FixedSizeListArray.from_arrays(flat, 32)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({'auditus': json.dumps(settings)}), path)
    return path


def plant_bundle(folder, settings):
    folder.mkdir(parents=True)
    (folder/'auditus.json').write_text(json.dumps({'auditus': '0.1.0', 'settings': settings}))
    return folder


def plant_index(folder, settings):
    plant_bundle(folder/'pipeline', settings)
    np.save(folder/'vectors.npy', np.eye(2, 32, dtype=np.float32))
    table = pa.table({'file': ['a.wav', 'b.wav'], 'start': [0., 0.], 'end': [1., 1.]})
    with pa.OSFile(str(folder/'rows.arrow'), 'wb') as f, pa.ipc.new_file(f, table.schema) as w: w.write_table(table)
    (folder/'index.json').write_text(json.dumps({'exact_up_to': 1000, 'made_by': settings}))
    return folder


def plant_probe(folder, settings):
    plant_bundle(folder/'pipeline', settings)
    np.savez(folder/'probe.npz', mean=np.zeros(32), scale=np.ones(32), weight=np.zeros((2, 32)), bias=np.zeros(2))
    known = dict(head='logistic', C=1., k=5, folds=5, seed=1, classes=['a', 'b'], multi=False,
                 arrays='probe.npz', made_by=settings)
    (folder/'probe.json').write_text(json.dumps(known))
    return folder


def open_page(source):
    pytest.importorskip('gradio')
    from auditus.app import SoundAnalyzer
    return SoundAnalyzer(index=source)


doors = {
    'search a table': lambda at, s: find_index(plant_table(at/'t.parquet', s)).search('x.wav'),
    'search a folder of parts': lambda at, s: SoundIndex.build(plant_table(at/'t'/'part-000000-0123456789abcdef.parquet', s).parent).pipeline.model,
    'the command search': lambda at, s: command('search', plant_table(at/'t.parquet', s),
                                                at/'x.wav').exception and None,
    'the command map': lambda at, s: command('map', plant_table(at/'t.parquet', s), '-o',
                                             at/'m.png').exception and None,
    'the page': lambda at, s: open_page(str(plant_table(at/'t.parquet', s))),
    'an index': lambda at, s: SoundIndex.open(plant_index(at/'i', s)).pipeline.model,
    'the command search of an index': lambda at, s: command('search', plant_index(at/'i', s),
                                                            at/'x.wav').exception and None,
    'a saved pipeline': lambda at, s: AudioPipeline.load(plant_bundle(at/'b', s)).model,
    'HEAR': lambda at, s: hear_model(str(plant_bundle(at/'b', s))),
    'a probe': lambda at, s: Probe.load(plant_probe(at/'p', s)).pipeline.model,
    'evaluate': lambda at, s: evaluate(plant_probe(at/'p', s), [at/'x.wav'], ['a']),
    'the command evaluate': lambda at, s: command('evaluate', plant_probe(at/'p', s), at).exception and None,
    'a classifier': lambda at, s: AudioClassifier(s['model_name']).model,
}


@pytest.mark.parametrize('door', doors)
def test_a_planted_file_runs_nothing(door, planted, tmp_path):
    folder, mark = planted
    sf.write(tmp_path/'x.wav', np.zeros(16000), 16000)
    settings = dict(model_name=str(folder), pooling='mean', window='auto', dim=32, sr=16000, **trusting)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: doors[door](tmp_path/'there', settings)
        except AuditusError as e: assert 'secret' not in str(e)
    assert not mark.exists()


def test_the_planted_code_would_run_if_it_were_asked_for(planted):
    folder, mark = planted
    with pytest.raises(ModelNotFoundError): load_model(folder)
    assert not mark.exists()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: load_model(folder, trust_remote_code=True)
        # whether it can be served is another matter
        except ModelNotFoundError as e: assert 'evil' in str(e) or 'Evil' in str(e) or 'Hubert' in str(e)
    assert mark.exists()


@pytest.fixture
def asking(clap_folder, tmp_path, monkeypatch, unmarked):
    "A CLAP of which transformers knows only a part by itself: of the rest it would ask at the terminal, where all is granted. Gives the folder, and what ran or was asked."
    folder, log = tmp_path/'asking', tmp_path/'log'
    shutil.copytree(clap_folder, folder)
    kinds = {k: f'evil.{k}' for k in ('AutoConfig', 'AutoModel', 'AutoModelForAudioClassification',
                                      'AutoFeatureExtractor', 'AutoProcessor')}
    for name, more in (('config.json', {'auto_map': kinds}), ('preprocessor_config.json', {'auto_map': kinds}),
                       ('tokenizer_config.json',
                        {'tokenizer_class': 'EvilTokenizer',
                         'auto_map': {'AutoTokenizer': ['evil.EvilTokenizer', None]}})):
        (folder/name).write_text(json.dumps(json.loads((folder/name).read_text()) | more))
    (folder/'evil.py').write_text(f"""
with open({str(log)!r}, 'a') as f: f.write('ran')
from transformers import ClapConfig as AutoConfig, ClapModel as AutoModel, ClapFeatureExtractor as AutoFeatureExtractor, ClapProcessor as AutoProcessor
from transformers import HubertForSequenceClassification as AutoModelForAudioClassification, PreTrainedTokenizerFast as EvilTokenizer
""")
    def granted(*_):
        with log.open('a') as f: f.write('asked')
        return 'y'
    monkeypatch.setattr('builtins.input', granted)
    return folder, lambda: log.read_text() if log.exists() else ''


untrusting = {
    'finetune': lambda folder, at: finetune(folder, at/'sounds', out=at/'out', epochs=1, device='cpu'),
    'the command finetune': lambda folder, at: command('finetune', folder, at/'sounds', '-o', at/'out',
                                                       '--epochs', 1).exception and None,
    'a probe': lambda folder, at: Probe(str(folder), cache=at/'cache').fit(at/'sounds'),
    'zero-shot': lambda folder, at: ZeroShotClassifier(str(folder))(at/'sounds'/'a'/'0.wav', ['dog', 'cat']),
    'words': lambda folder, at: load_model(folder).embed_text(['dog']),
    'its export': lambda folder, at: load_model(folder).export(at/'m.onnx'),
}


@pytest.mark.parametrize('way', untrusting)
def test_nobody_is_asked_at_the_terminal(way, asking, tmp_path, rng):
    folder, log = asking
    for i in range(8):
        (tmp_path/'sounds'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path/'sounds'/'ab'[i % 2]/f'{i}.wav', rng.normal(0, .1, 4800), 48000)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: untrusting[way](folder, tmp_path)
        except AuditusError: pass
    assert log() == ''


def test_a_tokenizer_of_its_own_is_run_where_that_was_allowed(asking):
    folder, log = asking
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: load_model(folder, trust_remote_code=True).embed_text(['dog'])
        except AuditusError: pass  # whether it can be served is another matter
    assert 'ran' in log() and 'asked' not in log()


def calls(path, *names):
    "The calls of functions and methods of these names in a module, and what keywords each is given; `None` stands for `**more`."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    name = {ast.Attribute: lambda f: f.attr, ast.Name: lambda f: f.id}
    return [(c, {k.arg: k.value for k in c.keywords}) for c in ast.walk(tree) if isinstance(c, ast.Call)
            and type(c.func) in name and name[type(c.func)](c.func) in names]


modules = sorted((root/'auditus').rglob('*.py'))


def test_every_call_of_transformers_says_whether_code_may_run():
    found = [(p.name, c.lineno, given) for p in modules for c, given in calls(p, 'from_pretrained', 'from_config')]
    assert len(found) >= 5
    for name, line, given in found: assert {'trust_remote_code', None} & {*given}, f'{name}:{line}'


def test_nothing_opens_a_pickle_by_itself():
    for p in modules:
        for c, given in calls(p, 'load'):
            owner = ast.unparse(c.func)
            if owner == 'torch.load': assert ast.unparse(given['weights_only']) == 'True', (p.name, c.lineno)
            if owner == 'np.load':
                assert 'allow_pickle' not in given or ast.unparse(given['allow_pickle']) == 'False', (p.name, c.lineno)
            assert owner.split('.')[0] not in ('joblib', 'dill', 'cloudpickle', 'shelve'), (p.name, c.lineno)
        # what a worker of our own sends is no file of somebody
        if p.name != 'engines.py':
            assert not [c for c, _ in calls(p, 'load', 'loads', 'Unpickler') if ast.unparse(c.func).startswith('pickle.')], p.name


def test_weights_in_pickles_are_not_opened_because_a_table_says_so(checkpoint, tmp_path):
    import torch
    from safetensors.torch import load_file
    folder = tmp_path/'pickled'
    shutil.copytree(checkpoint('hubert-layer'), folder)
    torch.save(load_file(folder/'model.safetensors'), folder/'pytorch_model.bin')
    (folder/'model.safetensors').unlink()
    table = plant_table(tmp_path/'t.parquet', dict(model_name=str(folder), pooling='mean', dim=32, **trusting))
    with pytest.warns(UserWarning, match='by a path of this machine'), pytest.raises(ModelNotFoundError, match='pickles only'):
        SoundIndex.build(table).pipeline.model
    with pytest.warns(UserWarning, match='by a path of this machine'):
        # leave that the user gives counts
        assert SoundIndex.build(table, allow_pickle=True, device='cpu').pipeline.model.frame_dim == 32


def test_what_belongs_to_the_user_is_written_nowhere(checkpoint, tmp_path, sounds):
    pipe = AudioPipeline(checkpoint('hubert-layer'), device='cpu', allow_pickle=True, trust_remote_code=True)
    extract(sounds, tmp_path/'parts', pipe)
    extract(sounds, tmp_path/'one.parquet', pipe)
    pipe.save(tmp_path/'bundle')
    SoundIndex.build(tmp_path/'parts', pipe).save(tmp_path/'index')
    for i in range(4):
        (tmp_path/'labelled'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path/'labelled'/'ab'[i % 2]/f'{i}.wav', np.random.default_rng(i).normal(0, .1, 8000), 16000)
    Probe(pipe, cache=tmp_path/'cache').fit(tmp_path/'labelled').save(tmp_path/'probe')
    pipe.model.export(tmp_path/'model.onnx')
    said = [b for f in tmp_path.rglob('*') if f.is_file() and f.suffix in ('.json', '.parquet', '.onnx')
            for b in [f.read_bytes()]]
    assert len(said) > 8
    for name in users_own: assert not any(f'"{name}"'.encode() in b for b in said), name


def test_settings_are_shareable_or_the_users():
    given = AudioPipeline.defaults() | AudioClassifier.defaults()
    assert {*shareable(given)} | {*given} & {*users_own} == {*given}
    for name in ('trust_remote_code', 'allow_pickle', 'device', 'token'): assert name in users_own


@pytest.mark.parametrize('name,said', [('/somewhere/else', 'a path of this machine'),
                                       ('~/x', 'a path of this machine'), ('https://a.b/c', 'a link'),
                                       ('s3://a/b', 'a link')])
def test_places_that_a_table_names_are_told(name, said, tmp_path):
    table = plant_table(tmp_path/'t.parquet', dict(model_name=name, dim=32))
    with pytest.warns(UserWarning, match=said): index = SoundIndex.build(table)
    with pytest.raises(ModelNotFoundError): index.pipeline.model  # looked for when it is needed, and not before


saved = {
    'a pipeline': (plant_bundle, AudioPipeline.load),
    'HEAR': (plant_bundle, lambda folder, **changes: hear_model(str(folder))),
    'an index': (plant_index, SoundIndex.open),
    'a probe': (plant_probe, Probe.load),
}


@pytest.mark.parametrize('kind', saved)
@pytest.mark.parametrize('settings,said', [
    (dict(model_name='/somewhere/else'), "its model by a path of this machine, '/somewhere/else'"),
    (dict(model_name='~/x'), 'a path of this machine'),
    (dict(model_name='https://ann:pa55word@a.b/c'), r"a link, 'https://\*\*\*@a.b/c'"),
    (dict(model_name='clmr', checkpoint='/a/b.safetensors'), 'its checkpoint by a path'),
    (dict(model_name='clmr', checkpoint=['a', 's3://a/b']), 'its checkpoint by a link')])
def test_places_that_a_saved_folder_names_are_told(kind, settings, said, tmp_path):
    plant, opened = saved[kind]
    folder = plant(tmp_path/'there', dict(dim=32, pooling='mean') | settings if kind == 'a probe' else settings)
    with pytest.warns(UserWarning, match=said):
        try: opened(folder)  # and not before the user is told
        except AuditusError: assert kind in ('HEAR', 'a probe')  # which need the model at once


def test_what_lies_in_a_saved_folder_is_opened_without_a_word(kept, tmp_path):
    at, *_ = kept
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert AudioPipeline.load(at/'index'/'pipeline').model.frame_dim == 32
        assert Probe.load(at/'probe').pipeline.model.frame_dim == SoundIndex.open(at/'index').X.shape[1]
        # the user's own word for it
        assert AudioPipeline.load(plant_bundle(tmp_path/'b', dict(model_name='/somewhere/else')),
                                  model_name=str(at/'index'/'pipeline'/'model')).model.frame_dim == 32


@pytest.mark.parametrize('kind', saved)
@pytest.mark.parametrize('way', ['/..', '/../../model', '/a/../../..', '-beside', r'\..\x', '/\0'])
def test_no_way_leads_out_of_a_saved_folder(kind, way, checkpoint, tmp_path):
    plant, opened = saved[kind]
    shutil.copytree(checkpoint('hubert-layer'), tmp_path/'model')
    folder = plant(tmp_path/'there', dict(model_name='{folder}'+way))
    with pytest.raises(AuditusError, match='leads out of its folder. Save it again, or get it again'): opened(folder)
    for checkpoint_at in ('{folder}'+way, ['x', '{folder}'+way]):
        shutil.rmtree(folder)
        with pytest.raises(AuditusError, match='leads out of its folder'):
            opened(plant(folder, dict(model_name='clmr', checkpoint=checkpoint_at)))


def test_a_table_that_names_no_model(tmp_path):
    for settings in ({}, {'model_name': 3}, {'model_name': ''}):
        with pytest.raises(AudioDecodeError, match='does not say which model'): SoundIndex.build(plant_table(tmp_path/'t.parquet', settings))


# What rots is noticed

def flipped(path, rng):
    "Flip one bit of a file; gives what it was."
    data = bytearray(before := path.read_bytes())
    place = rng.integers(8*len(data))
    data[place//8] ^= 1 << int(place % 8)
    path.write_bytes(data)
    return before


@pytest.fixture
def recordings_of_noise(tmp_path, rng):
    for i in range(12):
        (tmp_path/'sounds').mkdir(exist_ok=True)
        sf.write(tmp_path/'sounds'/f'{i:02}.wav', rng.normal(0, .1, 600+100*i), 1000)
    return tmp_path/'sounds'


def rows(out): return load(out)[1].append_column('vector', pa.array(list(load(out)[0])))


def test_a_flipped_bit_in_a_part_is_named_and_the_part_is_done_again(recordings_of_noise, tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 4)
    pipe = AudioPipeline(Counting(), window=.5)
    done = extract(recordings_of_noise, tmp_path/'out', pipe)
    whole, parts = rows(tmp_path/'out'), sorted((tmp_path/'out').iterdir())
    assert done.parts > 1
    noticed = 0
    for _ in range(300):
        part = parts[rng.integers(len(parts))]
        before = flipped(part, rng)
        try: assert rows(tmp_path/'out').equals(whole)
        except AudioDecodeError as e:
            assert 'run the same `extract` again' in str(e) and 'damaged' in str(e)
            noticed += 1
            with pytest.warns(UserWarning, match='this part is done again'):
                again = extract(recordings_of_noise, tmp_path/'out', pipe)
            assert again.parts_done == 1 and rows(tmp_path/'out').equals(whole)
        part.write_bytes(before)
    assert noticed > 250


def test_a_part_whose_footer_is_damaged_does_not_block_the_run(recordings_of_noise, tmp_path):
    pipe = AudioPipeline(Counting(), window=.5)
    extract(recordings_of_noise, tmp_path/'out', pipe)
    whole, part = rows(tmp_path/'out'), next((tmp_path/'out').iterdir())
    data = bytearray(part.read_bytes())
    n = int.from_bytes(data[-8:-4], 'little')
    for change in (lambda d: d[:-8-n]+bytes(n)+d[-8:], lambda d: d[:-4]+b'XXXX',
                   lambda d: d[:-8]+b'\xff'*4+d[-4:], lambda d: d[:len(d)//2], lambda d: bytes(len(d)),
                   lambda d: b''):
        part.write_bytes(change(bytes(data)))
        with pytest.raises(AudioDecodeError): load(tmp_path/'out')
        with pytest.warns(UserWarning, match='done again'): extract(recordings_of_noise, tmp_path/'out', pipe)
        assert rows(tmp_path/'out').equals(whole)


def test_a_table_that_says_it_is_sealed_and_has_no_seal_is_damaged(recordings_of_noise, tmp_path):
    pipe = AudioPipeline(Loudness())
    for out in ('out', 'one.parquet'):
        extract(recordings_of_noise, tmp_path/out, pipe)
        part = next((tmp_path/'out').glob('*.parquet')) if out == 'out' else tmp_path/out
        whole = part.read_bytes()
        for at in [m.start() for m in re.finditer(seal_key, whole)]:
            whole = whole[:at+3]+bytes([whole[at+3] ^ 1])+whole[at+4:]
        part.write_bytes(whole)
        with pytest.raises(AudioDecodeError, match='is damaged'): load(tmp_path/out)
    with pytest.warns(UserWarning, match='done again'): extract(recordings_of_noise, tmp_path/'out', pipe)
    with pytest.raises(SettingError, match='resume=False'): extract(recordings_of_noise, tmp_path/'one.parquet', pipe)


def test_a_part_under_the_name_of_another_is_done_again(recordings_of_noise, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    pipe = AudioPipeline(Loudness())
    extract(recordings_of_noise, tmp_path/'straight', pipe)
    extract(recordings_of_noise, tmp_path/'out', pipe)
    one, other, *_ = sorted((tmp_path/'out').glob('*.parquet'))
    shutil.copyfile(other, one)
    with pytest.raises(AudioDecodeError, match=f'{one.name}.* is damaged'): load(tmp_path/'out')
    with pytest.warns(UserWarning, match='done again'): extract(recordings_of_noise, tmp_path/'out', pipe)
    assert rows(tmp_path/'out').equals(rows(tmp_path/'straight'))


def test_parts_of_two_runs_are_no_table(recordings_of_noise, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    for out, window in (('out', .5), ('other', .25)):
        extract(recordings_of_noise, tmp_path/out, AudioPipeline(Loudness(), window=window))
    foreign = sorted((tmp_path/'other').glob('*.parquet'))[-1]
    shutil.copy(foreign, tmp_path/'out')
    with pytest.raises(AudioDecodeError, match='more than one run.*Take away'): load(tmp_path/'out')
    extract(recordings_of_noise, tmp_path/'out', AudioPipeline(Loudness(), window=.5))
    assert foreign.name not in {p.name for p in (tmp_path/'out').iterdir()} and len(load(tmp_path/'out')[0])


@pytest.mark.parametrize('odd', [{'files': 'x'}, {'rows': None}, {'seconds': []}, {'errors': 3},
                                 {'errors': [1]}, {'errors': [['a', 'b']]}, {'passing': None}])
def test_a_part_that_says_odd_things_is_done_again(odd, recordings_of_noise, tmp_path):
    pipe = AudioPipeline(Loudness())
    extract(recordings_of_noise, tmp_path/'out', pipe)
    part, = (tmp_path/'out').glob('*.parquet')
    table = pq.read_table(part)
    told = json.loads(table.schema.metadata[b'auditus_part'])
    metadata = {b'auditus': table.schema.metadata[b'auditus'],
                b'auditus_part': json.dumps({k:v for k,v in {**told, **odd}.items() if k != 'sealed'})}
    pq.write_table(table.replace_schema_metadata(metadata), part)
    with pytest.warns(UserWarning, match='done again'): done = extract(recordings_of_noise, tmp_path/'out', pipe)
    assert done.parts_done == 1 and done.files == 12


def test_results_on_another_disk_than_their_state(recordings_of_noise, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    replace = Path.replace
    def other_disk(self, target):
        if ('out.auditus' in self.parts) != ('out.auditus' in Path(target).parts):
            raise OSError(errno.EXDEV, 'Invalid cross-device link')
        return replace(self, target)
    monkeypatch.setattr(Path, 'replace', other_disk)
    monkeypatch.setattr(Store, 'is_near', lambda self, path: path.is_relative_to(self.state))
    pipe = AudioPipeline(Loudness())
    extract(recordings_of_noise, tmp_path/'out', pipe)
    once = rows(tmp_path/'out')
    gone = next(recordings_of_noise.iterdir())
    gone.rename(tmp_path/'gone.wav')
    extract(recordings_of_noise, tmp_path/'out', pipe)  # parts are moved aside, and removed
    (tmp_path/'gone.wav').rename(gone)
    extract(recordings_of_noise, tmp_path/'out', pipe)
    assert rows(tmp_path/'out').equals(once)


def test_a_flipped_bit_in_a_single_file(recordings_of_noise, tmp_path, rng):
    pipe, out = AudioPipeline(Counting(), window=.5), tmp_path/'one.parquet'
    extract(recordings_of_noise, out, pipe)
    whole, noticed = rows(out), 0
    for _ in range(100):
        before = flipped(out, rng)
        try: assert rows(out).equals(whole)
        except AudioDecodeError: noticed += 1
        try: extract(recordings_of_noise, out, pipe)
        except SettingError as e: assert 'resume=False' in str(e)
        else: assert rows(out).equals(whole)
        out.write_bytes(before)
    assert noticed > 80
    # who reads it with pyarrow and writes it anew has a file of his own
    table = pq.read_table(out)
    pq.write_table(table.set_column(0, 'file', pa.array(['mine']*len(table))), out)
    assert {*load(out)[1]['file'].to_pylist()} == {'mine'}


def test_the_mapped_copy_of_a_table_is_made_again_where_it_is_damaged(recordings_of_noise, tmp_path):
    extract(recordings_of_noise, tmp_path/'out', AudioPipeline(Counting(), window=.5))
    reference, state = load(tmp_path/'out')[0], tmp_path/'out.auditus'
    assert np.array_equal(load(tmp_path/'out', mmap=True)[0], reference)
    copy = (state/'embeddings.npy').read_bytes()
    (state/'embeddings.npy').write_bytes(copy[:128]+bytes(len(copy)-128))
    # who trusts the disk is not asked
    assert not np.array_equal(load(tmp_path/'out', mmap=True, verify=False)[0], reference)
    with pytest.warns(UserWarning, match='made again'):
        assert np.array_equal(load(tmp_path/'out', mmap=True)[0], reference)
    (state/'embeddings.npy').write_bytes(b'')
    with pytest.warns(UserWarning, match='made again'):
        assert np.array_equal(load(tmp_path/'out', mmap=True, verify=False)[0], reference)
    for text in ('', '[', '[]', 'null', '{}', '['*10_000):
        (state/'embeddings.json').write_text(text)
        assert np.array_equal(load(tmp_path/'out', mmap=True)[0], reference)


@pytest.fixture(scope='module')
def kept(checkpoint, tmp_path_factory):
    "A saved index and a saved probe on a small model, and what they say."
    at = tmp_path_factory.mktemp('kept')
    rng = np.random.default_rng(0)
    for i in range(8):
        (at/'sounds'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        sf.write(at/'sounds'/'ab'[i % 2]/f'{i}.wav', rng.normal(0, .1 if i % 2 else .01, 6000), 16000)
    pipe = AudioPipeline(checkpoint('hubert-layer'))
    index, probe = SoundIndex.build(at/'sounds', pipe, cache=at/'cache'), Probe(pipe, cache=at/'cache').fit(at/'sounds')
    index.save(at/'index')
    probe.save(at/'probe')
    return at, index, probe


def flip_and_open(folder, times, opened, rng):
    "Flip bits in a folder's files, each as often as another, and open it each time; gives how often that was noticed."
    files, noticed = sorted(p for p in folder.rglob('*') if p.is_file()), 0
    for i in range(times):
        before = flipped(path := files[i % len(files)], rng)
        try: opened()
        except AuditusError as e:
            assert 'damaged' in str(e), e
            noticed += 1
        path.write_bytes(before)
    opened()
    return noticed


@pytest.mark.parametrize('times', [60, pytest.param(300, marks=pytest.mark.slow)])
def test_flipped_bits_in_an_index(kept, rng, tmp_path, times):
    at, index, _ = kept
    shutil.copytree(at/'index', tmp_path/'index')
    query = index.X[3].copy()
    wanted = index.search(query)
    def opened(): assert SoundIndex.open(tmp_path/'index').search(query) == wanted
    assert flip_and_open(tmp_path/'index', times, opened, rng) == times


@pytest.mark.parametrize('times', [60, pytest.param(300, marks=pytest.mark.slow)])
def test_flipped_bits_in_a_probe(kept, rng, tmp_path, times):
    at, index, probe = kept
    shutil.copytree(at/'probe', tmp_path/'probe')
    def opened(): assert np.array_equal(Probe.load(tmp_path/'probe').scores_of(index.X), probe.scores_of(index.X))
    assert flip_and_open(tmp_path/'probe', times, opened, rng) == times


def as_before(folder):
    "Make a saved folder one of version 0.1.0, which had no checksums."
    (folder/sums_file).unlink()
    for p in folder.glob('*.json'):
        p.write_text(json.dumps({k: v for k, v in json.loads(p.read_text()).items() if k != 'sums'}))


def test_zeroed_and_foreign_arrays(kept, tmp_path):
    at, *_ = kept
    for name in ('vectors.npy', 'rows.arrow'):
        shutil.copytree(at/'index', tmp_path/name)
        path = tmp_path/name/name
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(AudioDecodeError, match=f'{name} is not what was written'): SoundIndex.open(tmp_path/name)
        with pytest.raises(AudioDecodeError): SoundIndex.open(tmp_path/name, verify=False)
    shutil.copytree(at/'probe', tmp_path/'probe')
    as_before(tmp_path/'probe')
    for data in (bytes(1000), b'', b'PK\x03\x04'+bytes(60)):
        (tmp_path/'probe'/'probe.npz').write_bytes(data)
        with pytest.raises(ModelNotFoundError, match='damaged'): Probe.load(tmp_path/'probe')


broken_json = ['', '{', '{"exact_up_to": 1', '[]', '[1, 2]', 'null', '3', '"text"', '['*10_000,
               '{"a":'*10_000, '\x00', '{}']


@pytest.mark.parametrize('text', broken_json, ids=range(len(broken_json)))
def test_damaged_json_is_an_error_of_ours(text, kept, tmp_path, sounds):
    at, *_ = kept
    for name, opened in (('index/index.json', SoundIndex.open), ('probe/probe.json', Probe.load),
                         ('index/pipeline/auditus.json', SoundIndex.open), ('probe/pipeline/auditus.json', Probe.load)):
        folder = tmp_path/name.replace('/', '-')
        shutil.copytree(at/name.split('/')[0], folder)
        as_before(folder)
        (folder/name.partition('/')[2]).write_text(text)
        with pytest.raises(AuditusError, match='damaged'): opened(folder)
    shutil.copytree(at/'index'/'pipeline', tmp_path/'bundle')
    (tmp_path/'bundle'/'auditus.json').write_text(text)
    with pytest.raises(ModelNotFoundError, match='damaged'): AudioPipeline.load(tmp_path/'bundle')
    (tmp_path/'trained').mkdir()
    (tmp_path/'trained'/'training.json').write_text(text)


numbers = [None, 'text', [], {}, True, -1, 0, 1e400, float('nan')]
odd_probes = [*(dict(classes=v) for v in ([], None, 'ab', 5, {'a': 0}, [1, '2'], [True, 1], [1, 1],
                                          ['a', 'a'], ['a', None], ['a'], ['a', 'b', 'c'], [['a'], ['b']])),
              *(dict(multi=v) for v in (None, 1, 'no', [])), *(dict(indicator=v) for v in (None, 1, 'no')),
              *(dict(head=v) for v in (None, 'mlp', 5, ['knn'], 'knn', 'prototype', {})),
              *(dict(C=v) for v in numbers), *(dict(k=v) for v in numbers),
              *(dict(folds=v) for v in (*numbers[1:], 1)),
              *(dict(seed=v) for v in (None, 'x', -1, 1.5, [], 2**32)),
              *(dict(arrays=v) for v in (None, 5, [], {}, '', '..', 'none.npz')),
              *(dict(made_by=v) for v in (None, 5, [], 'x')),
              *(dict(report=v) for v in (5, [], 'text', {}, True,
                                         {'names': 5, 'skipped': [], 'folds': 2, 'unchecked': 0}))]


@pytest.mark.parametrize('change', odd_probes, ids=lambda v: repr(v)[:60])
def test_a_probe_that_says_what_none_can(change, kept, tmp_path):
    "Without checksums, as 0.1.0 saved it: an error that says what is wrong and what to do, when it is opened and not when it is asked."
    at, *_ = kept
    shutil.copytree(at/'probe', tmp_path/'probe')
    as_before(tmp_path/'probe')
    file = tmp_path/'probe'/'probe.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelNotFoundError, match='Learn it anew, or get it again from where it came'):
        Probe.load(tmp_path/'probe')


odd_arrays = [dict(weight=lambda a: a[:, :-1]), dict(weight=lambda a: a[:-1]), dict(weight=lambda a: a[0]),
              dict(weight=lambda a: a*np.nan), dict(weight=lambda a: a.astype(str)),
              dict(weight=lambda a: a.astype(complex)), dict(weight=None), dict(bias=lambda a: a[:-1]),
              dict(bias=lambda a: a[:, None]), dict(bias=lambda a: a+np.inf),
              dict(mean=lambda a: a[:-1]), dict(mean=lambda a: a[None]), dict(mean=lambda a: a*np.nan),
              dict(mean=None), dict(scale=lambda a: a*0), dict(scale=lambda a: -a),
              dict(mean=lambda a: a[:0], scale=lambda a: a[:0], weight=lambda a: a[:, :0]),
              dict(mean=lambda a: a[:5], scale=lambda a: a[:5], weight=lambda a: a[:, :5]),
              dict(scale=lambda a: a[0]), dict(more=lambda a: np.zeros(3)), dict(report_truth=None),
              dict(report_scores=lambda a: a[1:]), dict(report_scores=lambda a: a*np.nan),
              dict(report_truth=lambda a: a[:, :1])]


@pytest.mark.parametrize('changes', odd_arrays, ids=range(len(odd_arrays)))
def test_a_probe_whose_arrays_do_not_fit(changes, kept, tmp_path):
    at, *_ = kept
    shutil.copytree(at/'probe', tmp_path/'probe')
    as_before(tmp_path/'probe')
    with np.load(tmp_path/'probe'/'probe.npz') as found: arrays = dict(found)
    for k, change in changes.items():
        if change is None: del arrays[k]
        else: arrays[k] = change(arrays.get(k))
    np.savez(tmp_path/'probe'/'probe.npz', **arrays)
    with pytest.raises(ModelNotFoundError, match='is damaged: .*Learn it anew, or get it again from where it came'):
        Probe.load(tmp_path/'probe')


@pytest.mark.parametrize('head', ['logistic', 'knn', 'prototype'])
def test_whole_probes_without_checksums_are_opened(head, kept, tmp_path):
    at, index, _ = kept
    probe = Probe(AudioPipeline(str(at/'index'/'pipeline'/'model')), head, cache=tmp_path/'cache').fit(at/'sounds')
    probe.save(tmp_path/'probe')
    as_before(tmp_path/'probe')
    again = Probe.load(tmp_path/'probe')
    assert np.array_equal(again.scores_of(index.X), probe.scores_of(index.X))
    assert again.report.metrics == probe.report.metrics
    with np.load(tmp_path/'probe'/'probe.npz') as found: arrays = dict(found)
    if head == 'knn':
        for k in (0, 9, -1, 1.5):
            np.savez(tmp_path/'probe'/'probe.npz', **arrays | {'k': np.array(k)})
            with pytest.raises(ModelNotFoundError, match='is damaged: `k` must be'): Probe.load(tmp_path/'probe')


@pytest.mark.parametrize('text', broken_json[:-1], ids=range(len(broken_json)-1))
def test_damaged_settings_of_a_run(text, recordings_of_noise, tmp_path):
    pipe, settings = AudioPipeline(Counting(), window=.5), tmp_path/'out.auditus'/'settings.json'
    extract(recordings_of_noise, tmp_path/'out', pipe)
    settings.write_text(text)
    with pytest.raises(SettingError, match=r'settings.json.* is damaged: .*\. Delete it, and run the same again'):
        extract(recordings_of_noise, tmp_path/'out', pipe)
    settings.unlink()
    assert extract(recordings_of_noise, tmp_path/'out', pipe).parts_done == 0  # what was done is kept, as was said
    settings.unlink()
    with pytest.raises(SettingError, match='window: 0.5 then, 1.0 now'):
        extract(recordings_of_noise, tmp_path/'out', pipe, window=1.)


# Nothing is lost

def test_a_result_of_other_sounds_is_not_replaced(kept, checkpoint, tmp_path):
    at, *_ = kept
    out, model = tmp_path/'probe', str(checkpoint('hubert-layer'))
    os.environ['HF_HOME'] = str(tmp_path/'home')
    def learn(*more, sounds=at/'sounds'): return command('probe', sounds, '-m', model, '-o', out, '--folds', 2, *more)
    assert learn().exit_code == 0 and learn().exit_code == 0  # the same once more
    before = (out/'probe.json').read_text()
    shutil.copytree(at/'sounds', tmp_path/'more')
    shutil.copy(at/'sounds'/'a'/'0.wav', tmp_path/'more'/'a'/'new.wav')
    for done in (learn('--head', 'knn'), learn(sounds=tmp_path/'more')):
        assert done.exit_code == 1 and 'other sounds or settings' in done.stderr
        assert '--overwrite' in done.stderr and (out/'probe.json').read_text() == before
    assert learn('--head', 'knn', '--overwrite').exit_code == 0
    assert json.loads((out/'probe.json').read_text())['head'] == 'knn'
    (tmp_path/'file').write_text('x')
    done = command('probe', at/'sounds', '-m', model, '-o', tmp_path/'file')
    # said before anything was learnt
    assert done.exit_code == 1 and 'is a file' in done.stderr and 'accuracy' not in done.stdout


def test_a_probe_does_not_replace_another_where_it_is_told_not_to(kept, tmp_path):
    at, _, probe = kept
    shutil.copytree(at/'probe', tmp_path/'probe')
    Probe.load(tmp_path/'probe').save(tmp_path/'probe', overwrite=False)
    probe.check_place(tmp_path/'probe', sounds_fingerprint(labelled(at/'sounds')))
    with pytest.raises(SettingError, match='sounds: '): probe.check_place(tmp_path/'probe', 'others')


def test_what_a_kill_left_is_found_when_it_is_opened(kept, tmp_path):
    at, index, probe = kept
    for name, opened in (('index', SoundIndex.open), ('probe', Probe.load), ('probe', open_classifier),
                         ('index/pipeline', AudioPipeline.load)):
        folder, room = tmp_path/'kept', tmp_path/'.kept.new-abcdefgh'
        shutil.copytree(at/name, folder)
        (room/'new').mkdir(parents=True)
        shutil.copytree(folder, room/'new'/'kept')
        folder.rename(room/'old')  # between the two renames
        opened(folder)
        assert folder.is_dir() and not room.exists()
        shutil.rmtree(folder)


def test_a_room_that_somebody_works_in_is_left_alone(tmp_path):
    with write_whole(tmp_path/'a') as first:
        first.write_text('first')
        with write_whole(tmp_path/'a') as second: second.write_text('second')
        assert (tmp_path/'a').read_text() == 'second' and first.exists()
        recover(tmp_path/'a')
    assert (tmp_path/'a').read_text() == 'first' and [p.name for p in tmp_path.iterdir()] == ['a']


def test_what_others_laid_into_a_folder_is_kept(kept, tmp_path):
    _, index, probe = kept
    for save in (index.save, probe.save, index.pipeline.save):
        save(tmp_path/'kept')
        (tmp_path/'kept'/'notes.txt').write_text('mine')
        (tmp_path/'kept'/'.git'/'deep').mkdir(parents=True)
        (tmp_path/'kept'/'.git'/'deep'/'file').write_text('mine too')
        save(tmp_path/'kept')
        assert (tmp_path/'kept'/'notes.txt').read_text() == 'mine'
        assert (tmp_path/'kept'/'.git'/'deep'/'file').read_text() == 'mine too'
        assert [p.name for p in tmp_path.iterdir()] == ['kept']
        shutil.rmtree(tmp_path/'kept')


def test_a_folder_that_can_not_be_moved_aside(kept, tmp_path, monkeypatch):
    _, index, _ = kept
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match='this process works in it: give a folder inside it'):
        index.pipeline.save('.')
    index.pipeline.save('inside')
    assert AudioPipeline.load('inside').model.frame_dim == 32


def test_a_full_disk_leaves_the_old_one(kept, tmp_path, monkeypatch):
    at, index, probe = kept
    shutil.copytree(at/'index', tmp_path/'index')
    def full(*args, **kwargs): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(np, 'save', full)
    with pytest.raises(SettingError, match='No space left'): index.save(tmp_path/'index')
    monkeypatch.undo()
    assert len(SoundIndex.open(tmp_path/'index')) == len(index) and [p.name for p in tmp_path.iterdir()] == ['index']


# A budget of time, with a clock that the test moves

class Watch:
    "A clock that stands still until the model hears something."
    time = 1e9
    @classmethod
    def now(cls, clock=None): return cls.time


class Timed(AudioModel):
    "A second for each wave; what it says depends on the whole batch's shape, as the last bits of a network do."
    name, sr, context, frame_dim, passes = 'timed', 1000, .5, 3, 0
    def forward(self, waves, layer=-1):
        Watch.time += len(waves)
        Timed.passes += len(waves)
        rows = np.array([[w.mean(), np.abs(w).max(), len(w)+1e-3*len(waves)] for w in waves], np.float32)
        return ModelFrames(rows[:, None], np.ones((len(waves), 1), bool))
    def weights_hash(self): return 'none'


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(Clock, 'now', Watch.now)
    Timed.passes = 0
    return Watch


@pytest.mark.parametrize('out', ['out', 'one.parquet'])
@pytest.mark.parametrize('window', ['auto', .3])
def test_a_file_longer_than_the_budget_gets_done(watch, rng, tmp_path, out, window):
    (tmp_path/'sounds').mkdir()
    for name, n in (('a', 700), ('b', 45_000), ('c', 300)):
        sf.write(tmp_path/'sounds'/f'{name}.wav', rng.normal(0, .1, n), 1000)
    (tmp_path/'sounds'/'broken.wav').write_text('no sound')
    pipe = AudioPipeline(Timed(), window=window)
    extract(tmp_path/'sounds', tmp_path/'straight', pipe, checks=False)
    needed, Timed.passes, runs = Timed.passes, 0, 0
    budget, forecasts, began = needed/3, [], watch.time
    while True:
        started = watch.time
        done = extract(tmp_path/'sounds', tmp_path/out, pipe, time_budget=budget, checks=False)
        runs += 1
        assert watch.time-started <= budget
        if not done.files_left: break
        forecasts.append((done.seconds_left, needed-(watch.time-began)))
        assert f'the time was not enough for {done.files_left} files' in str(done)
        assert not (tmp_path/'one.parquet').exists()
    assert runs <= 4 and Timed.passes == needed  # nothing was embedded twice
    for said, true in forecasts: assert said == pytest.approx(true, rel=.15)
    assert rows(tmp_path/out).equals(rows(tmp_path/'straight'))
    left = [p.name for p in tmp_path.rglob('*') if p.name.startswith('passes-')]
    assert left == [] and done.files == 3 and len(done.errors) == 1


@pytest.mark.parametrize('out', ['out', 'one.parquet'])
def test_a_budget_over_many_parts(watch, recordings_of_noise, tmp_path, monkeypatch, out):
    monkeypatch.setattr('auditus.collect.files_per_part', 2)
    pipe = AudioPipeline(Timed(), window=.5)
    straight = extract(recordings_of_noise, tmp_path/'straight', pipe, checks=False)
    needed, started = Timed.passes, watch.time
    first = extract(recordings_of_noise, tmp_path/out, pipe, time_budget=needed/2, checks=False)
    assert watch.time-started <= needed/2 and 0 < first.parts_done < first.parts and first.files+first.files_left == 12
    rest = extract(recordings_of_noise, tmp_path/out, pipe, checks=False)
    assert rest.files_left == 0 and rest.parts_done == first.parts-first.parts_done and rest.files == 12
    assert rest.rows == straight.rows
    assert rows(tmp_path/out).equals(rows(tmp_path/'straight')) and Timed.passes == 2*needed


def test_passes_that_rotted_are_made_again(watch, rng, tmp_path):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, 20_000), 1000)
    pipe = AudioPipeline(Timed())
    extract(tmp_path/'sounds', tmp_path/'straight', pipe)
    extract(tmp_path/'sounds', tmp_path/'out', pipe, time_budget=20)
    passes, = (tmp_path/'out.auditus').glob('passes-*')
    flipped(passes, rng)
    with pytest.warns(UserWarning, match='made again'): extract(tmp_path/'sounds', tmp_path/'out', pipe)
    assert rows(tmp_path/'out').equals(rows(tmp_path/'straight'))


def test_a_file_that_is_reached_later_moves_no_vector(watch, rng, tmp_path, monkeypatch):
    (tmp_path/'sounds').mkdir()
    for name, n in (('a', 5_000), ('b', 20_000)): sf.write(tmp_path/'sounds'/f'{name}.wav', rng.normal(0, .1, n), 1000)
    pipe, cut = AudioPipeline(Timed()), AudioPipeline.iter_windows
    extract(tmp_path/'sounds', tmp_path/'straight', pipe)
    def breaks(self, x):
        for n, w in enumerate(cut(self, x)):
            if Path(x).name == 'a.wav' and n == 3: raise AudioNotFoundError('the disk is asleep')
            yield w
    monkeypatch.setattr(AudioPipeline, 'iter_windows', breaks)
    assert extract(tmp_path/'sounds', tmp_path/'out', pipe, time_budget=20).files_left
    monkeypatch.setattr(AudioPipeline, 'iter_windows', cut)
    extract(tmp_path/'sounds', tmp_path/'out', pipe)
    assert rows(tmp_path/'out').equals(rows(tmp_path/'straight'))


@pytest.mark.parametrize('times', [30, pytest.param(300, marks=pytest.mark.slow)])
def test_flipped_bits_in_kept_passes(watch, rng, tmp_path, times):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, 20_000), 1000)
    pipe = AudioPipeline(Timed())
    extract(tmp_path/'sounds', tmp_path/'straight', pipe)
    extract(tmp_path/'sounds', tmp_path/'begun', pipe, time_budget=20)
    true = rows(tmp_path/'straight')
    for i in range(times):
        for end in ('', '.auditus'): shutil.copytree(tmp_path/f'begun{end}', tmp_path/f'{i}{end}')
        flipped(next((tmp_path/f'{i}.auditus').glob('passes-*')), rng)
        with pytest.warns(UserWarning, match='made again'): extract(tmp_path/'sounds', tmp_path/str(i), pipe)
        assert rows(tmp_path/str(i)).equals(true)


def test_a_long_way_to_where_the_last_run_ended_is_no_end(watch, rng, tmp_path, monkeypatch):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, 20_000), 1000)
    pipe, cut = AudioPipeline(Timed()), AudioPipeline.iter_windows
    extract(tmp_path/'sounds', tmp_path/'straight', pipe)
    def slow(self, x):
        for w in cut(self, x):
            watch.time += 1  # to decode takes as long as to embed
            yield w
    monkeypatch.setattr(AudioPipeline, 'iter_windows', slow)
    for runs in range(1, 50):
        heard = Timed.passes
        if not extract(tmp_path/'sounds', tmp_path/'out', pipe, time_budget=15).files_left: break
        assert Timed.passes > heard
    assert runs < 40 and rows(tmp_path/'out').equals(rows(tmp_path/'straight'))


def test_a_forecast_counts_channels(watch, rng, tmp_path):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, (40_000, 4)), 1000)
    done = extract(tmp_path/'sounds', tmp_path/'out', AudioPipeline(Timed(), mono=False), time_budget=160)
    assert done.files_left == 1 and done.seconds_left == pytest.approx(160, rel=.15)


def test_parts_of_the_first_version_keep_their_keys(sounds):
    items, settings = collect(sounds), {'window': 1.}
    for trusted in (True, False):
        before = settings | {'allow_pickle': trusted, 'trust_remote_code': False}
        assert [*find_jobs(items, settings, before)] == [part_key(items, before)]
    assert [*find_jobs(items, settings)] == [part_key(items, before)]


def test_where_nothing_was_measured_nothing_is_foreseen(rng, tmp_path, monkeypatch):
    sf.write(tmp_path/'a.wav', rng.normal(0, .1, 1000), 1000)
    monkeypatch.setattr(Clock, 'allows_pass', lambda self: False)
    done = extract([tmp_path/'a.wav'], tmp_path/'out', AudioPipeline(Timed()), time_budget=1)
    assert done.files_left == 1 and done.seconds_left is None
    assert str(done).endswith('the time was not enough for 1 file')


def test_a_budget_of_less_than_a_pass_still_goes_on(watch, rng, tmp_path):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, 3_000), 1000)
    pipe = AudioPipeline(Timed())
    for runs in range(1, 10):
        if not extract(tmp_path/'sounds', tmp_path/'out', pipe, time_budget=.5).files_left: break
    assert runs == 3  # six windows in batches of two


def test_a_kill_in_the_midst_of_a_long_file_costs_a_minute(watch, rng, tmp_path, monkeypatch):
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'a.wav', rng.normal(0, .1, 200_000), 1000)
    class Killed(Exception): pass
    forward = Timed.forward
    def dies(self, waves, layer=-1):
        if Timed.passes >= 300: raise Killed  # nothing catches it, and nothing is written then
        return forward(self, waves, layer)
    monkeypatch.setattr(Timed, 'forward', dies)
    with pytest.raises(Killed): extract(tmp_path/'sounds', tmp_path/'out', AudioPipeline(Timed()))
    monkeypatch.setattr(Timed, 'forward', forward)
    Timed.passes = 0
    extract(tmp_path/'sounds', tmp_path/'out', AudioPipeline(Timed()))
    assert 400-300 <= Timed.passes <= 400-300+62


class WatchOnDisk(Loudness):
    "As `Timed`, for several processes: the time is the length of a file."
    name = 'on disk'
    def __init__(self, path): self.path = str(path)
    def forward(self, waves, layer=-1):
        with open(self.path, 'ab') as f: f.write(b'.'*len(waves))
        return super().forward(waves, layer)
    def weights_hash(self): return 'none'


class ClockOnDisk(Clock):
    path = None
    def __init__(self, budget=None):
        self.path = type(self).path
        super().__init__(budget)
    def now(self): return float(os.path.getsize(self.path))


def test_several_processes_keep_a_time_budget(rng, tmp_path, monkeypatch):
    (tmp_path/'sounds').mkdir()
    for i in range(40): sf.write(tmp_path/'sounds'/f'{i:02}.wav', rng.normal(0, .1, 1000), 1000)
    (tmp_path/'clock').touch()
    monkeypatch.setattr('auditus.collect.files_per_part', 4)
    monkeypatch.setattr('auditus.extract.Clock', ClockOnDisk)
    monkeypatch.setattr(ClockOnDisk, 'path', str(tmp_path/'clock'))
    pipe = AudioPipeline(WatchOnDisk(tmp_path/'clock'), window=.5)
    first = extract(tmp_path/'sounds', tmp_path/'out', pipe, time_budget=20, workers=2, checks=False)
    # each process may be in the midst of a pass when the other one's ends
    assert os.path.getsize(tmp_path/'clock') <= 20+2*2 and first.files_left > 0
    second = extract(tmp_path/'sounds', tmp_path/'out', pipe, workers=2, checks=False)
    assert second.files == 40 and os.path.getsize(tmp_path/'clock') == 80
    extract(tmp_path/'sounds', tmp_path/'straight', AudioPipeline(WatchOnDisk(tmp_path/'other'), window=.5))
    assert rows(tmp_path/'out').equals(rows(tmp_path/'straight'))


# A reader's rights are enough

as_reader = '''
import os, sys, tempfile
import pyarrow.compute  # it imports what this user could not read later
sys.path.insert(0, sys.argv[1])
from kit import Counting
from auditus import AudioPipeline, SoundIndex
from auditus.extract import extract, load
pipe = AudioPipeline(Counting(), window=.5)
for name in ('a', 'a.parquet'): extract(sys.argv[2], tempfile.mkdtemp()+'/'+name, pipe)  # whatever is imported on the way
if os.getuid() == 0: os.setuid(65534)
for out in sys.argv[3:]:
    done = extract(sys.argv[2], out, pipe)
    print(done.files, done.rows, len(done.errors), done.parts_done, load(out)[0].shape[0])
try: extract(sys.argv[2], sys.argv[3], pipe, window=1.)
except Exception as e: print(type(e).__name__, e)
'''


@pytest.mark.skipif(os.name == 'nt', reason='rights are kept otherwise there')
def test_a_finished_table_is_told_of_to_a_reader(recordings_of_noise, tmp_path):
    (recordings_of_noise/'broken.wav').write_text('no sound')
    pipe, outs = AudioPipeline(Counting(), window=.5), [tmp_path/'out', tmp_path/'one.parquet']
    there = [extract(recordings_of_noise, out, pipe) for out in outs]
    for p in sorted([tmp_path, *tmp_path.rglob('*')], reverse=True): p.chmod(0o555 if p.is_dir() else 0o444)
    for p in tmp_path.parents:
        if p != Path('/') and p.stat().st_uid == os.getuid() and str(p).startswith('/tmp/'): p.chmod(p.stat().st_mode | 0o055)
    try:
        args = [sys.executable, '-c', as_reader, str(root/'tests'), str(recordings_of_noise), *map(str, outs)]
        done = subprocess.run(args, capture_output=True, text=True, cwd=root,
                              env={**os.environ, 'HF_HOME': str(tmp_path/'home')})
    finally:
        for p in [tmp_path, *tmp_path.rglob('*')]: p.chmod(0o755)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f'12 {there[0].rows} 1 0 {there[0].rows}']*2, done.stderr[-2000:]
    assert lines[2].startswith('SettingError') and ('window: 0.5 then, 1.0 now' in lines[2])


def test_the_cache_says_how_large_it_is_and_can_be_cleared(kept, checkpoint, tmp_path, monkeypatch):
    at, *_ = kept
    monkeypatch.setattr('huggingface_hub.constants.HF_HOME', str(tmp_path))
    assert command('cache').stderr.startswith('0.0 MB in ')
    SoundIndex.build(at/'sounds', AudioPipeline(checkpoint('hubert-layer')))
    if installed('onnxruntime') and installed('onnx'): load_model(checkpoint('hubert-layer'), backend='onnx')
    said = command('cache')
    assert 'vectors' in said.stdout and '`auditus cache --clear` removes it' in said.stderr
    assert ('network' in said.stdout) == (installed('onnxruntime') and installed('onnx'))
    assert command('cache', '--clear').exit_code == 0
    assert not [p for p in (tmp_path/'auditus').rglob('*') if p.is_file()]
    assert len(SoundIndex.build(at/'sounds', AudioPipeline(checkpoint('hubert-layer')))) == 8


def test_a_converted_network_that_rotted_is_converted_again(checkpoint, tmp_path, rng, monkeypatch):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    import auditus.models.base as base
    monkeypatch.setattr('huggingface_hub.constants.HF_HOME', str(tmp_path))
    base._loaded.clear()
    x = AudioArray(rng.normal(0, .1, 8000), 16000)
    reference = AudioPipeline(checkpoint('hubert-layer'), backend='onnx')(x)
    file, = (tmp_path/'auditus').rglob('model.onnx')
    flipped(file, rng)
    base._loaded.clear()
    with pytest.warns(UserWarning, match='is damaged .model.onnx.: it is converted again'):
        assert np.array_equal(AudioPipeline(checkpoint('hubert-layer'), backend='onnx')(x), reference)


def test_vectors_that_rotted_in_the_cache_are_embedded_again(kept, checkpoint, tmp_path, rng):
    at, index, _ = kept
    pipe = AudioPipeline(checkpoint('hubert-layer'))
    SoundIndex.build(at/'sounds', pipe, cache=tmp_path)
    part, *_ = tmp_path.rglob('part-*.parquet')  # by chance of their names, eight sounds may fill two
    data = bytearray(part.read_bytes())
    data[len(data)//3] ^= 1
    part.write_bytes(data)
    with pytest.warns(UserWarning, match='embedded again'): again = SoundIndex.build(at/'sounds', pipe, cache=tmp_path)
    assert np.allclose(again.X, index.X, atol=1e-6)


def test_read_json_says_where_there_is_nothing(tmp_path):
    with pytest.raises(FileNotFoundError): read_json(tmp_path/'no.json', '')

