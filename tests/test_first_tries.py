"What people try first: it works, or the error says what to do."
import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest

from auditus import (
    AudioArray, AudioClassifier, AudioEmbedding, AudioInputError, AudioLoader, AudioPipeline, ClipIterator, ModelOutput,
    Pipeline, Probe, load_model,
    SettingError, SoundIndex, ZeroShotClassifier)
from auditus.core import Clip
from auditus.extract import extract
from auditus.finetune import finetune
from auditus.models.names import read_labels
from auditus.signal import Window


@pytest.fixture
def files(sounds): return [str(sounds/name) for name in ('chirp.ogg', 'speech_like.wav')]


def test_steps_are_read_from_the_pipeline_itself(checkpoint, files):
    pipe = AudioPipeline(checkpoint('wav2vec2-layer'), window=1)
    assert pipe[0] is pipe.steps[0] is pipe['loader'] and pipe[-1] is pipe.steps['pooling']
    assert [*pipe] == [*pipe.steps.values()]
    assert isinstance(pipe[:3], Pipeline) and np.abs(pipe[3:](pipe[:3](files[0]))-pipe(files[0])).max() < 1e-5
    with pytest.raises(IndexError): pipe[5]
    with pytest.raises(KeyError): pipe['loading']
    # to numpy a pipeline is one thing, as scikit-learn's searches need
    assert pipe and np.array([pipe, pipe]).shape == (2,)


def test_lines_of_the_first_readme(checkpoint, files):
    pipe = AudioPipeline(model_name=str(checkpoint('wav2vec2-layer')), return_tensors='pt', target_sr=16000,
                         pooling='mean')
    output = pipe(files[0]).squeeze(0)
    assert output.shape == (pipe.dim,) and output.equal(pipe(files[0]))
    assert pipe(files[:1]).squeeze(0).equal(output)


@pytest.mark.parametrize('a, hint', [
    (np.arange(9), r"int64, whose full scale is unknown\. Of 16-bit samples make int16, a\.astype\('int16'\)"),
    (np.zeros((44100, 2), np.int16), r'\(44100, 2\): transpose the array, a\.T'),
    (np.zeros((44100, 2)), r'transpose the array, a\.T')])
def test_arrays_that_are_no_samples_yet(a, hint):
    with pytest.raises(AudioInputError, match=hint): AudioArray(a, 16000)
    assert len(AudioArray(a.astype('int16').T, 16000)) == len(a)  # as the error says


def test_columns_of_pyarrow_are_many_sounds(checkpoint, files, tmp_path):
    pipe = AudioPipeline(checkpoint('wav2vec2-layer'))
    wanted = pipe(files)
    for column in (pa.array(files), pa.chunked_array([files[:1], files[1:]]), pa.table({'path': files})['path']):
        assert np.array_equal(pipe(column), wanted) and np.array_equal(pipe.encode(column), wanted)
        assert [r.file for r in pipe.stream(column)] == files
        assert [len(x) for x in AudioLoader()(column)] == [len(AudioLoader()(f)) for f in files]
        assert Probe(pipe).fit(column, pa.array(['bird', 'voice'])).predict(column).tolist() == ['bird', 'voice']
        assert len(SoundIndex.build(column, pipe)) == 2
    assert extract(column, tmp_path/'t.parquet', pipe).rows == 2
    assert np.abs(pipe(column[0])-wanted[0]).max() < 1e-5 and len(AudioLoader()(Clip(column[0], 0, 1))) == 32000
    whole = pa.array([{'bytes': open(f, 'rb').read(), 'path': None} for f in files])  # as datasets keep sounds
    assert np.array_equal(pipe(whole), wanted)
    assert np.array_equal(pipe(pa.table({'path': files})), wanted)
    with pytest.raises(AudioInputError, match='give one of its columns'):
        pipe(pa.table({'path': files, 'label': ['bird', 'voice']}))


def test_a_model_that_understands_words_is_sent_to_the_class_for_them(clap_folder, checkpoint, files):
    with pytest.raises(SettingError, match='has no head, but it understands words: choose among your own with ZeroShotClassifier'):
        AudioClassifier(clap_folder)(files[0])
    assert ZeroShotClassifier(['dog', 'vacuum cleaner'], clap_folder)(files[0])[0]['label'] in ('dog', 'vacuum cleaner')
    with pytest.raises(SettingError, match='has no head: it makes frames'):
        AudioClassifier(checkpoint('wav2vec2-layer'))(files[0])


def test_a_changed_output_keeps_what_still_fits(files):
    spans = [Window(0, 1, None), Window(1, 2, None)]
    out = ModelOutput.of(np.eye(2), np.zeros((2, 3)), ['a', 'b'], spans, files[0])
    changed = out._replace(class_probs=np.ones((2, 2)))
    assert isinstance(changed, ModelOutput)
    assert (changed.labels, changed.spans, changed.item) == (['a', 'b'], spans, files[0])
    assert changed.features is out.features and changed.class_probs.all()
    fewer = out._replace(class_probs=np.ones((1, 2)), features=np.zeros((1, 3)))
    assert fewer.labels == ['a', 'b'] and fewer.spans is None and len(fewer.scores(1)) == 1
    others = out._replace(class_probs=np.ones((2, 5)))
    assert others.labels is None and others.spans == spans and others.scores(1)[0]['label'] == 'class 0'
    for same in (copy.copy(out), pickle.loads(pickle.dumps(out))): assert same.labels == ['a', 'b']
    with pytest.raises((TypeError, ValueError), match='scores'): out._replace(scores=1)


@pytest.mark.parametrize('text, wanted', [
    ('Speech\nMale speech, man speaking\nDog\n', ['Speech', 'Male speech, man speaking', 'Dog']),
    ('Male speech, man speaking\nDog\n"Bark, howl"\n', ['Male speech, man speaking', 'Dog', 'Bark, howl']),
    ('label\nMale speech, man speaking\nDog\n', ['Male speech, man speaking', 'Dog']),
    ('Turdus merula,Eurasian Blackbird\nStrix aluco,Tawny Owl\n', ['Turdus merula', 'Strix aluco'])])
def test_bare_lists_of_labels_with_commas(text, wanted, tmp_path):
    (tmp_path/'labels.csv').write_text(text)
    assert read_labels(tmp_path/'labels.csv', len(wanted)) == wanted


def test_a_table_whose_labels_are_torn_by_commas_is_refused(tmp_path):
    (tmp_path/'labels.csv').write_text('index,mid,display_name\n0,/m/1,Dog\n1,/m/2,Male speech, man speaking\n')
    with pytest.raises(SettingError, match='a line has 4 columns, and the first has 3: put labels that hold commas between quotes'):
        read_labels(tmp_path/'labels.csv', 2)


def test_the_network_is_under_net(checkpoint, files):
    embed = AudioEmbedding(checkpoint('wav2vec2-layer'))
    heard = []
    hook = embed.model.net.register_forward_hook(lambda module, args, kwargs, out: heard.append(out.last_hidden_state), with_kwargs=True)
    frames = embed(AudioLoader(sr=16000)(files[0]))
    hook.remove()
    assert np.array_equal(heard[-1][0].numpy(), frames)
    assert 'net' in type(embed).model.__doc__


@pytest.mark.parametrize('call, told', [
    (lambda: AudioArray(np.zeros(9), sampling_rate=8000), 'AudioArray has no setting `sampling_rate`; it has a, sr'),
    (lambda: Clip('a.wav', stat=1), 'Clip has no setting `stat`; .* Did you mean `start`'),
    (lambda: ClipIterator([], 8000, 800, batchsize=2), 'ClipIterator has no setting `batchsize`; .* Did you mean `batch_size`'),
    (lambda: Probe('birdnet').fit([], [], grups=[]), 'fit has no setting `grups`; .* Did you mean `groups`'),
    (lambda: finetune('model', 'sounds', 'out', epoch=2), 'finetune has no setting `epoch`; .* Did you mean `epochs`'),
    (lambda: load_model('birdnet', devic='cpu'), 'has no setting `devic`; .* Did you mean `device`'),
])
def test_functions_say_which_argument_may_be_meant(call, told):
    with pytest.raises(SettingError, match=told): call()
