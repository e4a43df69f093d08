"MTEB's evaluation, its own audio tasks and one of local sounds, run on models of this library."
import io
import os

import numpy as np
import pytest

mteb = pytest.importorskip('mteb')
import datasets  # noqa: E402
import soundfile  # noqa: E402
from kit import Loudness  # noqa: E402
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval  # noqa: E402
from mteb.cache import ResultCache  # noqa: E402
from mteb.mocks import mock_tasks  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402

from auditus import AudioDecodeError, AudioPipeline, SettingError  # noqa: E402
from auditus.mteb import MtebModel, iter_sounds  # noqa: E402


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch): monkeypatch.setenv('MTEB_CACHE', str(tmp_path/'cache'))


def loudness(): return AudioPipeline(Loudness())


def score(model, task):
    return mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False).task_results[0]


metadata = dict(description='of this test', reference=None, dataset={'path': 'local', 'revision': '1'},
                eval_splits=['test'], eval_langs=['eng-Latn'], date=None, domains=None, task_subtypes=None,
                license=None, annotations_creators=None, dialect=None, sample_creation=None,
                bibtex_citation=None, modalities=['audio'])


@pytest.fixture(scope='module')
def tones(tmp_path_factory):
    "Twelve files, whose level says which of two classes they are of."
    folder, rng = tmp_path_factory.mktemp('tones'), np.random.default_rng(0)
    t = np.arange(8000)/8000
    for i in range(12):
        soundfile.write(folder/f'{i:02}.flac', (.1+.4*(i % 2))*np.sin(2*np.pi*(100+30*i)*t)*(1+.5*np.sin(2*np.pi*rng.uniform(1, 4)*t))/1.5+rng.normal(0, .001, 8000), 8000)
    return [str(p) for p in sorted(folder.iterdir())]


def classification(files):
    class Tones(AbsTaskClassification):
        metadata = mteb.TaskMetadata(name='Tones', type='AudioClassification', category='a2c',
                                     main_score='accuracy', **globals()['metadata'])
        input_column_name, n_experiments, samples_per_label = 'audio', 2, 2
        def load_data(self, **kwargs):
            def part(places):
                return datasets.Dataset.from_dict({'audio': [files[i] for i in places], 'label': [i % 2 for i in places]}).cast_column('audio', datasets.Audio())
            self.dataset = datasets.DatasetDict(train=part(range(6)), test=part(range(6, 12)))
            self.data_loaded = True
    return Tones()


def test_a_task_of_local_files(tones, checkpoint, tmp_path):
    "Decoded here, and kept where MTEB looks for results."
    model = MtebModel(loudness())
    assert isinstance(model, EncoderProtocol)
    assert score(model, classification(tones)).main_score == 1.  # each class has its own level
    seen = model.encode(loader(tones), task_metadata=classification(tones).metadata, hf_split='test',
                        hf_subset='default', batch_size=3)
    assert np.abs(seen-loudness()(tones)).max() == 0
    cache, other = ResultCache(tmp_path/'results'), MtebModel(checkpoint('hubert-group'), pooling='max')
    for _ in range(2): found = mteb.evaluate(other, classification(tones), cache=cache, show_progress_bar=False)
    kept = [p for p in (tmp_path/'results').rglob('Tones.json')]
    assert len(kept) == 1 and other.mteb_model_meta.revision in str(kept[0])
    assert 0 <= found.task_results[0].main_score <= 1
    mteb.evaluate(MtebModel(checkpoint('hubert-group'), pooling='mean'), classification(tones), cache=cache,
                  show_progress_bar=False)
    assert len([*(tmp_path/'results').rglob('Tones.json')]) == 2


def loader(files):
    from torch.utils.data import DataLoader
    return DataLoader(datasets.Dataset.from_dict({'audio': files}).cast_column('audio', datasets.Audio()), batch_size=5)


def test_sounds_come_in_order_from_files_and_arrays(tones):
    assert [os.path.basename(s['path']) for s in iter_sounds(loader(tones))] == [os.path.basename(f) for f in tones]
    batches = [{'audio': [{'array': np.zeros(10), 'sampling_rate': n} for n in (1, 2)]},
               {'audio': [{'array': np.zeros(10), 'sampling_rate': 3}]}]
    assert [s['sampling_rate'] for s in iter_sounds(batches)] == [1, 2, 3]


def test_retrieval_finds_the_same_sound(tones):
    "Each query is a document too, so the first that is found is right."
    class Same(AbsTaskRetrieval):
        metadata = mteb.TaskMetadata(name='Same', type='Any2AnyRetrieval', category='a2a',
                                     main_score='ndcg_at_10', **globals()['metadata'])
        def load_data(self, **kwargs):
            from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
            def rows(kind, files):
                return datasets.Dataset.from_dict({'id': [f'{kind}{i}' for i in range(len(files))], 'audio': files}).cast_column('audio', datasets.Audio())
            self.dataset = {'default': {'test': RetrievalSplitData(corpus=rows('d', tones), queries=rows('q', tones[:4]), relevant_docs={f'q{i}': {f'd{i}': 1} for i in range(4)}, top_ranked=None)}}
            self.data_loaded = True
    class Waves(Loudness):
        "Levels of tenths, as one vector."
        frame_dim = 10
        def forward(self, waves, layer=-1):
            out = super().forward([np.pad(w, (0, max(0, 1000-len(w))))[:1000] for w in waves], layer)
            return out._replace(frames=out.frames.transpose(0, 2, 1)-out.frames.mean(1, keepdims=True),
                                mask=out.mask[:, :1])
    found = score(MtebModel(AudioPipeline(Waves())), Same())
    assert found.scores['test'][0]['recall_at_1'] == 1.


@pytest.fixture
def no_torchcodec(monkeypatch):
    "Arrays become files of a dataset without torchcodec."
    def encode(self, value):
        if not isinstance(value, dict) or 'array' not in value: return as_it_is(self, value)
        file = io.BytesIO()
        soundfile.write(file, np.asarray(value['array']), value['sampling_rate'], format='WAV', subtype='FLOAT')
        return {'bytes': file.getvalue(), 'path': None}
    as_it_is = datasets.Audio.encode_example
    monkeypatch.setattr(datasets.Audio, 'encode_example', encode)


@pytest.mark.parametrize('name', [n for n in dir(mock_tasks) if n.startswith('MockAudio')])
def test_its_own_tasks_run(name, clap_folder, no_torchcodec):
    "Those that try out models: classification, clustering, pairs, reranking, zero-shot with words."
    task = getattr(mock_tasks, name)()
    found = score(MtebModel(clap_folder, pooling='model'), task)
    assert np.isfinite(found.main_score)


def test_words_need_the_space_of_both(clap_folder, checkpoint, no_torchcodec):
    task = mock_tasks.MockAudioZeroshotClassificationTask()
    assert MtebModel(clap_folder, pooling='model').mteb_model_meta.modalities == ['audio', 'text']
    for model in (MtebModel(clap_folder), MtebModel(checkpoint('hubert-group'))):
        assert model.mteb_model_meta.modalities == ['audio']
        with pytest.raises(ValueError, match='modalities'): score(model, task)


def test_what_is_wrong_is_said(tones, checkpoint):
    with pytest.raises(SettingError, match='MTEB needs one row'): MtebModel(checkpoint('hubert-group'), pooling=None)
    with open(tones[7], 'rb') as f: whole = f.read()
    broken = tones[:7]+[tones[7].replace('07', 'broken')]
    with open(broken[-1], 'wb') as f: f.write(whole[:len(whole)//2])
    with pytest.raises(AudioDecodeError) as e:
        MtebModel(loudness()).encode(loader(broken), task_metadata=classification(tones).metadata,
                                     hf_split='test', hf_subset='default')
    assert e.value.index == 7
    class Mixed:
        name = 'Mixed'
        def get_modalities(self, prompt_type=None): return ['audio', 'text']
    with pytest.raises(SettingError, match='audio with text'):
        MtebModel(loudness()).encode([{'audio': [1], 'text': ['a']}], task_metadata=Mixed(), hf_split='test',
                                     hf_subset='default')
