"What people try first: it works, or the error says what to do."
import copy
import pickle
import warnings

import numpy as np
import pyarrow as pa
import pytest

from auditus import (
    AudioArray, AudioClassifier, AudioEmbedding, AudioInputError, AudioLoader, AudioPipeline, ClipIterator, ModelOutput,
    Pipeline, Probe, load_model,
    SettingError, SoundIndex, ZeroShotClassifier, describe_graph)
from auditus.collect import collect
from auditus.compare import compare
from auditus.core import Clip
from auditus.extract import extract
from auditus.finetune import finetune
from auditus.map import write_map
from auditus.models.names import read_labels
from auditus.report import report
from auditus.search import find_index
from auditus.segments import segments
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
    # before they look for what is not there
    (lambda: Probe.load('nowhere', devise='cpu'), 'load has no setting `devise`; .* Did you mean `device`'),
    (lambda: AudioPipeline.load('nowhere', poling='max'), 'load has no setting `poling`; .* Did you mean `pooling`'),
    (lambda: SoundIndex.build('nowhere', pipelin=1), 'build has no setting `pipelin`; .* Did you mean `pipeline`'),
    (lambda: SoundIndex.open('nowhere', verfy=False), 'open has no setting `verfy`; .* Did you mean `verify`'),
    (lambda: find_index('nowhere', devise='cpu'), 'has no setting `devise`; .* Did you mean `device`'),
    (lambda: write_map('nowhere', 'map.html', metod='pca'), 'write_map has no setting `metod`; .* Did you mean `method`'),
    (lambda: compare('nowhere', modles=['birdnet']), 'compare has no setting `modles`; .* Did you mean `models`'),
    (lambda: ClipIterator.from_directory('nowhere', 8000, 800, batchsize=2), 'has no setting `batchsize`; .* Did you mean `batch_size`'),
    (lambda: segments('nowhere', 'out', bst=3), 'segments has no setting `bst`; .* Did you mean `best`'),
    (lambda: report('nowhere', 'out.html', min_scor=.5), 'report has no setting `min_scor`; .* Did you mean `min_score`'),
    (lambda: describe_graph('nowhere.onnx', poled='x'), 'describe_graph has no setting `poled`; .* Did you mean `pooled`'),
])
def test_functions_say_which_argument_may_be_meant(call, told):
    with pytest.raises(SettingError, match=told): call()


def test_a_change_that_would_not_be_made_is_refused(checkpoint, sounds, tmp_path):
    pipe = AudioPipeline(checkpoint('wav2vec2-layer'), window=1)
    index = SoundIndex.build(sounds, pipe, window=1, device=None)  # as it is
    index.save(tmp_path/'index')
    for call in (lambda: SoundIndex.build(sounds, pipe, window=2), lambda: SoundIndex.open(tmp_path/'index', pipe, window=2),
                 lambda: find_index(sounds, pipe, window=2), lambda: write_map(index, tmp_path/'map.html', window=2),
                 lambda: compare([i.at for i in collect(sounds)], list('ababab'), [pipe], folds=3, window=2)):
        with pytest.raises(SettingError, match='`window`'): call()
    assert {*SoundIndex.open(tmp_path/'index', window=1).table['end'].to_pylist()} == {*index.table['end'].to_pylist()}


def test_pcm_that_was_not_scaled_is_told_of(checkpoint, files):
    pipe, x = AudioPipeline(checkpoint('wav2vec2-layer')), AudioLoader()(files[0])
    loud = x.a*2**15
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for good in ((x.a, x.sr), (x.a*3, x.sr), (loud.astype('int16'), x.sr)): pipe(good)
    for wrong in ((loud, x.sr), AudioArray(loud, x.sr), {'array': loud, 'sampling_rate': x.sr}):
        with pytest.warns(UserWarning, match=r"go far beyond, as PCM does: .*a\.astype\('int16'\) of 16 bits") as seen: pipe([wrong]*3)
        assert len({str(w.message) for w in seen}) == 1 and {w.filename for w in seen} == {__file__}


def test_sounds_in_a_row_are_sent_to_a_list(checkpoint, files):
    pipe = AudioPipeline(checkpoint('wav2vec2-layer'))
    for call in (lambda: pipe(*files), lambda: AudioLoader()(*files), lambda: ZeroShotClassifier(model_name='nowhere')(files[0], ['dog', 'cat'])):
        with pytest.raises(AudioInputError, match='takes one sound, or many in a list, and settings by their names; got 2 arguments'): call()
    with pytest.raises(AudioInputError, match='The rate comes second'): pipe((16000, np.zeros(8000)))
    with pytest.raises(AudioInputError, match='item 1 .*a path must name a file'): pipe([files[0], ''])


def test_what_is_nearly_a_sound(checkpoint, files):
    import soundfile as sf
    pipe = AudioPipeline(checkpoint('wav2vec2-layer'))
    wave, sr = sf.read(files[0], dtype='float32')
    for given, told in ((sf.SoundFile(files[0]), r"give its path, .* or \(f\.read\(\)\.T, f\.samplerate\)"),
                        ([files], 'item 0 .*a list is many sounds, and here one was to come'),
                        ([[wave, sr]], r'one sound is a tuple, \(array, sr\)'),
                        ([(wave, sr, 'dog', 1)], r'\(\(x\[0\], x\[1\]\) for x in dataset\)'),
                        ('*.wav', r"list\(Path\('\.'\)\.glob\('\*\.wav'\)\)")):
        with pytest.raises((AudioInputError, FileNotFoundError), match=told): pipe(given)
    assert np.abs(pipe([x[:2] for x in [(wave, sr, 'dog', 1)]])[0]-pipe(files[0])).max() < 1e-5


def test_what_has_no_order_is_refused(checkpoint, sounds):
    files = [i.at for i in collect(sounds)]
    labels, pipe = list('ababab'), AudioPipeline(checkpoint('wav2vec2-layer'))
    probe = Probe(pipe, folds=None)
    for call in (lambda: pipe({*files}), lambda: pipe.transform({*files}), lambda: probe.fit({*files}, labels),
                 lambda: compare({*files}, labels, [pipe], folds=3), lambda: AudioClassifier(checkpoint('head-hubert')).score({*files}, ['yes', 'no', 'stop']*2)):
        with pytest.raises(AudioInputError, match='a set has no order'): call()
    for wrong in (dict(zip(files, labels)), dict.fromkeys(files)):
        with pytest.raises(AudioInputError, match=r'labels are a list, one for each sound and in their order; got a dict'): probe.fit(files, wrong)
    with pytest.raises(AudioInputError, match='groups are a list'): probe.fit(files, labels, groups=dict(zip(files, labels)))
    assert probe.fit({f: None for f in files}.keys(), labels).classes_.tolist() == ['a', 'b']  # these have one
    assert len(SoundIndex.build({*files}, pipe)) == 6  # its rows have names
