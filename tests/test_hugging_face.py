"Columns of Hugging Face datasets, and the pipelines of transformers beside ours."
import inspect

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import transformers as tf
from kit import noise, skip_where_problems_are_alike
from tiny_models import make_folder, speech, three
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset
from transformers.pipelines.pt_utils import KeyDataset

from auditus import (AudioArray, AudioClassifier, AudioDecodeError, AudioInputError, AudioLoader,
                     AudioNotFoundError, AudioPipeline, Clip, Probe, SettingError,
                     SoundIndex, ZeroShotClassifier)
from auditus.collect import collect
from auditus.extract import extract
from auditus.sound.columns import iter_items
from auditus.sound.errors import UnknownSettingError

datasets = pytest.importorskip('datasets')
names = ['chirp.ogg', 'stereo.flac', 'speech_like.wav']


# Columns of sounds

@pytest.fixture
def undecoding(monkeypatch):
    "A `datasets` that can't decode, as it is without torchcodec."
    def refuse(*args, **kwargs): raise ImportError("To support decoding audio data, please install 'torchcodec'.")
    monkeypatch.setattr(datasets.Audio, 'decode_example', refuse)


@pytest.fixture
def files(sounds): return [str(sounds/n) for n in names]


def dataset_of(files, **asked):
    made = datasets.Dataset.from_dict({'audio': files, 'label': [i % 2 for i in range(len(files))]})
    return made.cast_column('audio', datasets.Audio(**asked))


kept = {  # how a dataset of three files may be kept, and the column of sounds that comes of it
    'paths': lambda fs: dataset_of(fs)['audio'],
    'contents': lambda fs: datasets.Dataset.from_dict({'audio': [open(f, 'rb').read() for f in fs]}).cast_column('audio', datasets.Audio())['audio'],
    'undecoded': lambda fs: dataset_of(fs, decode=False)['audio'],
    'as numpy': lambda fs: dataset_of(fs).with_format('numpy')['audio'],
    'as torch': lambda fs: dataset_of(fs).with_format('torch')['audio'],
    'picked': lambda fs: dataset_of([fs[2], fs[0], fs[1]]).select([1, 2, 0])['audio'],
    'a stream': lambda fs: dataset_of(fs).to_iterable_dataset()['audio'],
    'a stream in shards': lambda fs: dataset_of(fs).to_iterable_dataset(num_shards=3)['audio'],
    'a stream decoded in threads': lambda fs: dataset_of(fs).to_iterable_dataset().decode(num_threads=2)['audio'],
    'a stream undecoded': lambda fs: dataset_of(fs).to_iterable_dataset().decode(False)['audio'],
    'KeyDataset': lambda fs: KeyDataset(dataset_of(fs), 'audio'),
}


since_4_4 = 'num_channels' in inspect.signature(datasets.Audio).parameters  # of datasets
can_undo_threads = 'decoding_pool' in inspect.getsource(datasets.IterableDataset.decode)


@pytest.mark.parametrize('kind', kept)
def test_a_column_of_sounds_goes_in_wherever_sounds_do(kind, files, checkpoint, undecoding):
    if kind == 'a stream decoded in threads' and not can_undo_threads: pytest.skip(f'datasets {datasets.__version__} decodes in threads, whatever is said later')
    pipe, column = AudioPipeline(checkpoint('hubert-group')), lambda: kept[kind](files)
    vectors = pipe(files)
    np.testing.assert_array_equal(pipe(column()), vectors)
    np.testing.assert_array_equal(pipe.encode(column()), vectors)
    np.testing.assert_array_equal([r.vector for r in pipe.stream(column())], vectors)
    np.testing.assert_array_equal(pipe.transform(column()), vectors)
    for ours, theirs in zip(AudioLoader()(column()), AudioLoader()(files)):
        np.testing.assert_array_equal(ours.a, theirs.a)
    assert (AudioLoader() >> len)(column()) == [len(AudioLoader()(f)) for f in files]
    classify = AudioClassifier(checkpoint('head-wav2vec2'))
    assert classify(column()) == classify(files)
    np.testing.assert_array_equal(classify.predict_proba(column()), classify.predict_proba(files))


@pytest.mark.parametrize('batched', [True, False])
@pytest.mark.parametrize('settings', [{}, {'num_proc': 2}, {'remove_columns': ['audio']}])
def test_map_over_a_column_of_sounds(batched, settings, files, checkpoint, undecoding):
    pipe, data = AudioPipeline(checkpoint('hubert-group')), dataset_of(files)
    mapped = data.map(pipe.on('audio'), batched=batched, **settings)
    np.testing.assert_allclose(np.array(mapped['embedding']), pipe(files), atol=1e-6)
    if 'remove_columns' not in settings:
        assert mapped.features['audio'] == datasets.Audio()
        np.testing.assert_array_equal(pipe(mapped['audio']), pipe(files))
    classify = AudioClassifier(checkpoint('head-wav2vec2'), top_k=2)
    assert data.map(classify.on('audio', to='scores'), batched=batched)['scores'][:] == [list(s) for s in classify(files)]


def test_map_over_rows_that_something_was_put_into(files, checkpoint, undecoding):
    "A function before ours may have exchanged the sound: then that one is heard."
    pipe = AudioPipeline(checkpoint('hubert-group'))
    def halved(row):
        row['audio'] = {'path': files[2], 'bytes': None}
        return pipe.on('audio')(row)
    mapped = dataset_of(files[:1]).map(halved)
    np.testing.assert_allclose(np.array(mapped['embedding'][0]), pipe(files[2]), atol=1e-6)


@pytest.mark.parametrize('batched', [True, False])
def test_map_over_a_stream(batched, files, checkpoint, undecoding):
    "A stream decodes before it calls anybody, unless it is told not to."
    pipe, stream = AudioPipeline(checkpoint('hubert-group')), dataset_of(files).to_iterable_dataset()
    mapped = stream.decode(False).map(pipe.on('audio'), batched=batched)
    np.testing.assert_allclose(np.array([r['embedding'] for r in mapped]), pipe(files), atol=1e-6)


@pytest.mark.parametrize('streamed', [True, False])
def test_what_a_column_asks_for_is_heard(streamed, files, checkpoint, undecoding):
    "The rate and the one channel of `cast_column`, before the sound is resampled for the model."
    def column(**asked):
        data = dataset_of(files, **asked)
        return data.to_iterable_dataset()['audio'] if streamed else data['audio']
    for ours, file in zip(AudioLoader(mono=False)(column(sampling_rate=8000)), files):
        theirs = AudioLoader(8000, mono=False)(file)
        assert ours.sr == 8000
        np.testing.assert_array_equal(ours.a, theirs.a)
    assert [x.channels for x in AudioLoader(mono=False)(column())] == [1, 2, 1]
    if since_4_4:
        assert [x.channels for x in AudioLoader(mono=False)(column(num_channels=1))] == [1, 1, 1]
    pipe = AudioPipeline(checkpoint('hubert-group'))
    low = pipe(AudioLoader(8000, mono=False)(files))
    np.testing.assert_array_equal(pipe(column(sampling_rate=8000)), low)
    assert np.abs(low-pipe(files)).max() > 1e-3
    if not streamed:
        mapped = dataset_of(files, sampling_rate=8000).map(pipe.on('audio'))
        np.testing.assert_allclose(np.array(mapped['embedding']), low, atol=1e-6)


def test_clips_of_sounds_in_a_column(files, undecoding):
    for asked in ({}, {'sampling_rate': 8000}):
        column = dataset_of(files, **asked)['audio']
        cell, sound = AudioLoader()(column)[0], next(iter_items(column))
        np.testing.assert_allclose(AudioLoader()(Clip(sound, .5, 1.)).a, cell.a[cell.sr//2:cell.sr], atol=1e-6)


def test_damaged_sounds_in_a_column_are_named(files, tmp_path, undecoding):
    (tmp_path/'words.wav').write_bytes(b'no sound at all '*20)
    for bad, error in ((str(tmp_path/'words.wav'), AudioDecodeError), (str(tmp_path/'gone.wav'), AudioNotFoundError)):
        for asked in ({}, {'sampling_rate': 8000}):
            data = dataset_of([files[0], bad], **asked)
            for column in (data['audio'], data.to_iterable_dataset()['audio'], KeyDataset(data, 'audio')):
                with pytest.raises(error, match=f'item 1 .*{bad[-9:]}') as e: AudioLoader()(column)
                assert e.value.index == 1 and e.value.item['path'] == bad


def test_damaged_sounds_may_be_kept(sounds, tmp_path, undecoding):
    whole = (sounds/'speech_like.wav').read_bytes()
    (tmp_path/'cut.wav').write_bytes(whole[:len(whole)//2])
    column = dataset_of([str(tmp_path/'cut.wav')], sampling_rate=8000)['audio']
    with pytest.raises(AudioDecodeError, match='cut.wav'): AudioLoader()(column)
    assert AudioLoader(truncated='keep')(column)[0].duration == pytest.approx(AudioLoader()(whole).duration/2, abs=.01)


def test_rows_and_other_columns_are_no_sounds(files, checkpoint, undecoding):
    data = dataset_of(files)
    for rows in (data, data.to_iterable_dataset()):
        with pytest.raises(AudioInputError, match=r"rows of a dataset are no sounds: .*dataset\['audio'\]"): AudioPipeline(checkpoint('hubert-group'))(rows)
    with pytest.raises(AudioInputError, match=r"these are several datasets: .*dataset\['train'\]\['audio'\]"):
        AudioLoader()(datasets.DatasetDict(train=data))
    with pytest.raises(AudioInputError, match='item 1 .*no sound can be made of NoneType'):
        AudioLoader()(dataset_of([files[0], None])['audio'])
    with pytest.raises(AudioInputError, match='item 0 .*no sound can be made of int'): AudioLoader()(data['label'])
    if not since_4_4: return  # it was given no rows before
    # a transform of one's own gives what it makes
    loud = data.with_transform(lambda batch: {'audio': [(np.ones(9, np.float32), 9)]*len(next(iter(batch.values())))}, columns=['label'])
    assert [x.sr for x in AudioLoader()(loud['audio'])] == [9, 9, 9]


def test_collections_probes_and_searches_of_a_column(sounds, tmp_path, checkpoint, undecoding):
    files = [str(sounds/n) for n in ('chirp.ogg', 'music_like.wav', 'speech_like.wav', 'stereo.flac')]
    pipe = AudioPipeline(checkpoint('hubert-group'))
    for asked, vectors in (({}, pipe(files)), ({'sampling_rate': 8000}, pipe(AudioLoader(8000, mono=False)(files)))):
        data = dataset_of(files, **asked)
        for i, source in enumerate((data, data['audio'])):
            extract(source, tmp_path/f'{i}{len(asked)}.parquet', pipe)
            table = pq.read_table(tmp_path/f'{i}{len(asked)}.parquet').to_pylist()
            assert [r['file'] for r in table] == ['chirp.ogg', 'music_like.wav', 'speech_like.wav', 'stereo.flac']
            np.testing.assert_allclose([r['embedding'] for r in table], vectors, atol=1e-6)
    data = dataset_of(files)
    assert [i.name for i in collect(dataset_of(files, decode=False)['audio'])] == [i.name for i in collect(data['audio'])]
    with pytest.raises(AudioInputError, match='streaming=False'): collect(data.to_iterable_dataset()['audio'])
    probe = Probe(pipe).fit(data['audio'], data['label'])
    by_path = Probe(pipe).fit(files, [0, 1, 0, 1])
    np.testing.assert_allclose(probe.predict_proba(data['audio']), by_path.predict_proba(files), atol=1e-6)
    assert probe.score(data['audio'], data['label']) == by_path.score(files, [0, 1, 0, 1])
    seen = []
    Probe(pipe).fit(data['audio'], data['label'], groups=lambda name: seen.append(name) or name)
    assert sorted(seen) == [i.name for i in collect(data['audio'])]
    extract(data, tmp_path/'index.parquet', pipe)
    index = SoundIndex.build(tmp_path/'index.parquet')
    assert index.search(data['audio']) == index.search(files)


# Map-style datasets

class Held(Dataset):
    "Sounds by their places, for any place: it never says that it is at its end."
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i % len(self.items)]


class Duck:
    "What PyTorch's DataLoader takes for a dataset, without being one."
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i % len(self.items)]


class Streamed(IterableDataset):
    def __init__(self, items): self.items = items
    def __iter__(self): return iter(self.items)


@pytest.mark.parametrize('kind', [Held, Duck, Streamed, lambda fs: Subset(Held(fs[::-1]), [2, 1, 0]),
                                  lambda fs: ConcatDataset([Held(fs[:1]), Held(fs[1:])]),
                                  lambda fs: KeyDataset([{'file': f} for f in fs], 'file')])
def test_map_style_datasets_are_many_items(kind, files, checkpoint):
    pipe = AudioPipeline(checkpoint('hubert-group'))
    np.testing.assert_array_equal(pipe(kind(files)), pipe(files))
    np.testing.assert_array_equal(pipe.encode(kind(files)), pipe(files))
    classify = AudioClassifier(checkpoint('head-wav2vec2'))
    assert classify(kind(files)) == classify(files)
    with pytest.raises(AudioNotFoundError, match='item 1 .*gone'): pipe(kind([files[0], 'gone.wav', files[1]]))


def test_one_sound_stays_one(files):
    x = AudioLoader()(files[0])
    for one in (x, Clip(x, 0, 1), (x.a, x.sr), {'raw': x.a, 'sampling_rate': x.sr}):
        assert isinstance(AudioLoader()(one), AudioArray)
    with pytest.raises(AudioInputError, match='without a rate is no sound'): AudioLoader()(torch.zeros(9))


# The pipelines of transformers

def their_pipeline(task, folder, **kwargs):
    return tf.pipeline(task, model=str(folder), feature_extractor=str(folder), device='cpu', **kwargs)


def same(ours, theirs):
    "Whether scores are the same: of one sound, or of many."
    if not theirs or isinstance(theirs[0], dict):
        return [r['label'] for r in ours] == [r['label'] for r in theirs] and max(abs(a['score']-b['score']) for a, b in zip(ours, theirs)) < 1e-5
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


@pytest.fixture
def waves(rng): return [noise(rng, s, 16000) for s in (1., 1.5, .7)]


def as_dicts(waves, key='raw'): return [{key: w, 'sampling_rate': 16000} for w in waves]


@pytest.mark.parametrize('problem', ['multi_label_classification', 'regression', 'single_label_classification'])
@pytest.mark.parametrize('settings', [
    {'top_k': 1}, {'top_k': 2}, {'top_k': 50}, {'top_k': None},
    {'top_k': None, 'function_to_apply': 'softmax'}, {'top_k': None, 'function_to_apply': 'sigmoid'},
    {'top_k': 3, 'function_to_apply': 'none'}, {'top_k': 2, 'batch_size': 1}])
def test_arguments_of_a_call_are_theirs(settings, problem, tmp_path, waves):
    skip_where_problems_are_alike(problem)
    make_folder(speech(tf.HubertConfig, tf.HubertForSequenceClassification, classifier_proj_size=16, **three,
                       problem_type=problem), tmp_path)
    theirs, ours = their_pipeline('audio-classification', tmp_path), AudioClassifier(tmp_path)
    for key in ('raw', 'array'):
        assert same(ours(as_dicts(waves, key)[0], **settings), theirs(as_dicts(waves, key)[0], **settings))
        assert same(ours(as_dicts(waves, key), **settings), theirs(as_dicts(waves, key), **settings))
    assert same(ours((w for w in as_dicts(waves)), **settings), [*theirs((w for w in as_dicts(waves)), **settings)])
    for kind in (Held, lambda items: KeyDataset([{'sound': w} for w in items], 'sound')):
        assert same(ours(kind(as_dicts(waves)), **settings), [*theirs(kind(as_dicts(waves)), **settings)])
    # what was set at the start is as it was
    assert ours.get_params() == AudioClassifier(tmp_path).get_params() and len(ours(as_dicts(waves)[0])) == 3


def test_batches_of_any_size_say_the_same(checkpoint, waves):
    "Theirs pads a batch, and changes what a model without a mask hears; ours says what it says of each alone."
    folder = checkpoint('head-wav2vec2')
    theirs, ours = their_pipeline('audio-classification', folder), AudioClassifier(folder)
    alone = [theirs(w, top_k=None) for w in as_dicts(waves)]
    for batch_size in (1, 2, 8): assert same(ours(as_dicts(waves), top_k=None, batch_size=batch_size), alone)


def test_two_classes_of_one_name(tmp_path, waves):
    make = speech(tf.HubertConfig, tf.HubertForSequenceClassification, classifier_proj_size=16,
                  id2label={0: 'bird', 1: 'rain', 2: 'bird'}, label2id={'bird': 0, 'rain': 1})
    make_folder(make, tmp_path)
    theirs, ours = their_pipeline('audio-classification', tmp_path), AudioClassifier(tmp_path)
    said = ours(as_dicts(waves)[0], top_k=None)
    assert same(said, theirs(as_dicts(waves)[0], top_k=None))
    assert sorted(r['label'] for r in said) == ['bird', 'bird', 'rain']
    assert ours.predict_proba(as_dicts(waves)).shape == (3, 3)


@pytest.mark.parametrize('kind', [list, tuple, np.array, lambda ls: np.array(ls, dtype=object), pd.Series,
                                  lambda ls: pd.Series(ls, dtype='category'),
                                  lambda ls: datasets.Dataset.from_dict({'l': ls})['l']])
@pytest.mark.parametrize('labels', [['dog', 'rain'], ['dog'], ['dog', 'vacuum cleaner', 'dog', ' rain ']])
def test_zero_shot_as_theirs(labels, kind, clap_folder, rng):
    theirs = their_pipeline('zero-shot-audio-classification', clap_folder, tokenizer=str(clap_folder))
    ours, wave = ZeroShotClassifier(model_name=clap_folder), noise(rng, 3., 48000)
    for template in ({}, {'hypothesis_template': 'One can hear {}'}, {'hypothesis_template': '{}'}):
        reference = theirs(wave, candidate_labels=labels, **template)
        said = ours((wave, 48000), candidate_labels=kind(labels), **template)
        # those of one name have one score, and come next to each other
        assert same(said, reference)
    by_setting = ZeroShotClassifier(kind(labels), clap_folder)
    assert by_setting((wave, 48000)) == ours((wave, 48000), candidate_labels=labels) and by_setting.labels == labels
    assert by_setting.get_params()['labels'] is ZeroShotClassifier(**by_setting.get_params()).get_params()['labels']
    assert by_setting([(wave, 48000)]*2, top_k=1) == [by_setting((wave, 48000))[:1]]*2


def test_words_of_a_call_are_embedded_once(clap_folder, rng, monkeypatch):
    ours, sound, asked = ZeroShotClassifier(['dog', 'rain'], clap_folder), (noise(rng, 1., 48000), 48000), []
    real = ours.model.embed_text
    monkeypatch.setattr(ours.model, 'embed_text', lambda texts: asked.append(texts) or real(texts), raising=False)
    for k in (1, 2, 1): ours(sound, top_k=k)
    assert len(asked) == 1
    ours([sound]*3, candidate_labels=['dog'])
    assert asked[1:] == [['This is a sound of dog.']]


def test_a_call_loads_no_weights_again(checkpoint, waves, monkeypatch):
    from auditus.models import encoder
    loads, real = [], encoder.HFModel.__init__
    monkeypatch.setattr(encoder.HFModel, '__init__', lambda self, *a, **k: loads.append(1) or real(self, *a, **k))
    ours, pipe = AudioClassifier(checkpoint('head-whisper')), AudioPipeline(checkpoint('hubert-group'))
    for k in (1, 2, 3): ours(as_dicts(waves)[0], top_k=k)
    for pooling in ('mean', 'max', 'std'): pipe(as_dicts(waves)[0], pooling=pooling)
    assert len(loads) <= 2


def test_wrong_names_are_told_with_the_right_ones(checkpoint, clap_folder, waves):
    sound, folder = as_dicts(waves)[0], checkpoint('head-wav2vec2')
    with pytest.raises(UnknownSettingError, match='AudioClassifier has no setting `topk`; it has model_name, top_k, function_to_apply, .*batch_size.*Did you mean `top_k`') as e:
        AudioClassifier(folder)(sound, topk=3)
    assert isinstance(e.value, SettingError) and isinstance(e.value, TypeError)
    with pytest.raises(UnknownSettingError, match='ZeroShotClassifier has no setting `candidates`; it has labels, .*template'):
        ZeroShotClassifier(model_name=clap_folder)(sound, candidates=['dog'])
    with pytest.raises(UnknownSettingError, match='AudioPipeline has no setting `poolin`.*Did you mean `pooling`'):
        AudioPipeline(folder)(sound, poolin='max')
    with pytest.raises(UnknownSettingError, match='AudioLoader has no setting `rate`; it has sr'):
        AudioLoader()(sound, rate=8000)
    with pytest.raises(SettingError, match='`function_to_apply` must be one of'):
        AudioClassifier(folder)(sound, function_to_apply='relu')
    with pytest.raises(SettingError, match='`top_k` must be'): AudioClassifier(folder)(sound, top_k=0)
    with pytest.raises(SettingError, match='`labels` is given twice'):
        ZeroShotClassifier(['dog'], candidate_labels=['rain'])
    with pytest.raises(SettingError, match='`candidate_labels` is `labels`: give one of them'):
        ZeroShotClassifier(labels=['dog'], candidate_labels=['rain'])
    with pytest.raises(SettingError, match='there are no `labels` to choose from') as e:
        ZeroShotClassifier(model_name=clap_folder)([sound])
    assert e.value.index is None


def test_any_setting_may_come_with_a_call(checkpoint, files):
    pipe = AudioPipeline(checkpoint('hubert-group'))
    np.testing.assert_array_equal(pipe(files, pooling='max', window=1, progress=False)[0],
                                  AudioPipeline(checkpoint('hubert-group'), pooling='max', window=1)(files)[0])
    assert AudioLoader()(files[0], sr=8000).sr == 8000 and repr(pipe) == repr(AudioPipeline(checkpoint('hubert-group')))
