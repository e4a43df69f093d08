"Classifiers: the scores of their own library, the semantics of the field, and nothing left out."
import datetime
import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
import torch.nn.functional as F
import transformers as tf
from kit import command, noise, skip_where_problems_are_alike
from tiny_models import headed, make_folder, sample_cnn, seeded_encoder, speech, three

from auditus import (AudioArray, AudioClassifier, AudioDecodeError, AudioEmbedding, AudioInputError, AudioLoader, AudioNotFoundError, AudioPipeline,
                     ClipClassificationModel, ModelNotFoundError, ModelOutput, SettingError, Windowing, ZeroShotClassifier, load_model)
from auditus.classify import Scores
from auditus.models.base import AudioModel, ModelFrames


def theirs(folder, wave, **kwargs):
    "What the pipeline of transformers says."
    pipe = tf.pipeline('audio-classification', model=str(folder), feature_extractor=str(folder), device='cpu')
    return pipe(wave, **kwargs)


def same_scores(ours, reference):
    return [r['label'] for r in ours] == [r['label'] for r in reference] and max(abs(a['score']-b['score']) for a, b in zip(ours, reference)) < 1e-5


# against the pipelines of transformers

@pytest.mark.parametrize('name', headed)
def test_scores_are_those_of_transformers(name, checkpoint, rng):
    folder = checkpoint(f'head-{name}')
    classify = AudioClassifier(folder, top_k=None)
    for seconds in (.7, 3.):
        wave = noise(rng, seconds, 16000)
        assert same_scores(classify(AudioArray(wave, 16000)), theirs(folder, wave, top_k=None))
    assert sum(r['score'] for r in classify(AudioArray(wave, 16000))) == pytest.approx(1, abs=1e-5)
    assert same_scores(AudioClassifier(folder, top_k=2)(AudioArray(wave, 16000)), theirs(folder, wave, top_k=2))
    assert len(AudioClassifier(folder, top_k=50)(AudioArray(wave, 16000))) == 3


@pytest.mark.parametrize('problem', ['multi_label_classification', 'regression', 'single_label_classification'])
def test_the_function_is_that_of_the_problem(problem, tmp_path, rng):
    skip_where_problems_are_alike(problem)
    make = speech(tf.HubertConfig, tf.HubertForSequenceClassification, classifier_proj_size=16, **three, problem_type=problem)
    make_folder(make, tmp_path)
    folder, wave = tmp_path, noise(rng, 1., 16000)
    assert same_scores(AudioClassifier(folder)(AudioArray(wave, 16000)), theirs(folder, wave))
    for function in ('softmax', 'sigmoid', 'none'):
        ours = AudioClassifier(folder, function_to_apply=function)(AudioArray(wave, 16000))
        assert same_scores(ours, theirs(folder, wave, function_to_apply=function))


labels = ['dog', 'vacuum cleaner', 'rain']


def test_zero_shot_scores_are_those_of_transformers(clap_folder, rng):
    wave = noise(rng, 6., 48000)
    pipe = tf.pipeline('zero-shot-audio-classification', model=str(clap_folder), feature_extractor=str(clap_folder), tokenizer=str(clap_folder), device='cpu')
    for template in ('This is a sound of {}.', 'One can hear {}'):
        ours = ZeroShotClassifier(labels, clap_folder, template)(AudioArray(wave, 48000))
        assert same_scores(ours, pipe(wave, candidate_labels=labels, hypothesis_template=template))


def test_zero_shot(clap_folder, sounds, rng):
    sort = ZeroShotClassifier(labels, clap_folder)
    long = AudioArray(noise(rng, 25., 48000), 48000)
    first = sort(long)
    assert first == sort(long) == ZeroShotClassifier(labels, clap_folder)(long) and same_scores(sort([long, sounds/'chirp.ogg'])[0], first)
    # another rate is resampled, and hardly changes what is heard
    resampled = AudioLoader(sr=44100)(sounds/'stereo.flac')
    assert np.abs(sort.predict_proba(sounds/'stereo.flac')-sort.predict_proba(resampled)).max() < 1e-5
    # several templates: the mean of their vectors
    both = ZeroShotClassifier(labels, clap_folder, ['This is a sound of {}.', 'One can hear {}'])
    texts = np.mean([sort.embed_text([t.format(l) for l in labels]) for t in both.template], 0)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    vectors = AudioPipeline(clap_folder, pooling='model', window=10)(long)
    logits = vectors@texts.T*sort.model.logit_scale
    probs = np.exp(logits)/np.exp(logits).sum(1, keepdims=True)
    assert np.abs(both.outputs(long).class_probs-probs).max() < 1e-5
    assert np.abs(both.predict_proba(long)-np.average(probs, axis=0, weights=[10, 10, 5])).max() < 1e-5
    assert np.allclose(np.linalg.norm(sort.embed_text(['a dog', 'a dog']), axis=1), 1, atol=1e-5)


def test_text_is_embedded_once(clap_folder, rng, monkeypatch):
    sort, calls = ZeroShotClassifier(labels, clap_folder), []
    real = sort.model.embed_text
    monkeypatch.setattr(sort.model, 'embed_text', lambda texts: calls.append(texts) or real(texts), raising=False)
    for _ in range(3): sort(AudioArray(noise(rng, 1., 48000), 48000))
    assert calls == [[f'This is a sound of {l}.' for l in labels]]


@pytest.mark.parametrize('bad,message', [
    (dict(labels=[]), 'must be a list of words'), (dict(labels='dog'), 'must be a list of words'), (dict(labels=['dog', '']), 'must be words'), (dict(labels=['dog', 3]), 'must be words'),
    (dict(labels={'dog', 'rain'}), 'must be a list of words'), (dict(template='a sound'), 'must hold {} once'), (dict(template=[]), 'must be a list'), (dict(template='{} and {}'), 'must hold {} once'),
    (dict(top_k=0), '`top_k`'), (dict(pooling='median'), '`pooling`'), (dict(window=-1), '`window`'),
])
def test_zero_shot_settings(bad, message, clap_folder):
    with pytest.raises(SettingError, match=message): ZeroShotClassifier(**{'labels': labels, 'model_name': clap_folder, **bad})


# what may come in, and how it is covered

def test_every_kind_of_input_gives_the_same(checkpoint, sounds):
    classify, path = AudioClassifier(checkpoint('head-wav2vec2'), top_k=None), sounds/'speech_like.wav'
    reference = classify(path)
    audio = AudioLoader()(path)
    kinds = [str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), audio, (audio.a, audio.sr), {'array': audio.a, 'sampling_rate': audio.sr}]
    for x in kinds: assert classify(x) == reference
    assert classify([path, *kinds[:2]]) == [reference]*3 and [s for s in classify(p for p in [path])] == [reference]
    with pytest.raises(AudioNotFoundError, match=r"item 1 \('gone.wav'\)"): classify([path, 'gone.wav'])
    for bad, error in (('gone.wav', AudioNotFoundError), (b'', AudioDecodeError), (b'no sound', AudioDecodeError), (np.zeros(9), AudioInputError), (None, AudioInputError)):
        with pytest.raises(error): classify(bad)
        with pytest.raises(error): classify.predict_proba(bad)
        with pytest.raises(error): classify.outputs(bad)


def test_alone_in_a_batch_and_in_another_order(checkpoint, rng):
    classify = AudioClassifier(checkpoint('head-wav2vec2'), batch_size=4)
    xs = [AudioArray(noise(rng, s, 16000), 16000) for s in (1., .5, 2.3, 1., .7)]
    together, shuffled = classify.predict_proba(xs), classify.predict_proba(xs[::-1])
    alone = np.stack([classify.predict_proba(x) for x in xs])
    assert np.abs(together-alone).max() < 1e-5 and np.abs(shuffled[::-1]-alone).max() < 1e-5 and together.shape == (5, 3)


def test_long_recordings_are_covered(checkpoint, rng, tmp_path):
    folder, x = checkpoint('head-ast'), AudioArray(noise(rng, 25., 16000), 16000)
    table = AudioClassifier(folder, window=5, hop=2.5, top_k=2)(x)
    assert [(r['start'], r['end']) for r in table[::2]] == [(2.5*i, 2.5*i+5) for i in range(9)] and len(table) == 18
    out = AudioClassifier(folder).outputs(x)
    assert out.class_probs.shape == (3, 3) and [s.end for s in out.spans] == [10.24, 20.48, 25]
    probs = np.stack([AudioClassifier(folder).predict_proba(AudioArray(x[round(a*16000):round(b*16000)], 16000)) for a, b in ((0, 10.24), (10.24, 20.48), (20.48, 25))])
    assert np.abs(AudioClassifier(folder).predict_proba(x)-np.average(probs, axis=0, weights=[10.24, 10.24, 4.52])).max() < 1e-5
    assert np.abs(AudioClassifier(folder, pooling='max').predict_proba(x)-probs.max(0)).max() < 1e-5
    assert len(AudioClassifier(folder, window=None).outputs(AudioArray(x[:160000], 16000)).class_probs) == 1
    # a window that is longer than the model hears is heard in pieces
    long = AudioClassifier(folder, window=20, pooling='max').outputs(x)
    pieces = np.stack([AudioClassifier(folder).predict_proba(AudioArray(x[round(a*16000):round(b*16000)], 16000)) for a, b in ((0, 10.24), (10.24, 20))])
    sf.write(tmp_path/'long.wav', x.a, 16000, subtype='FLOAT')
    by_file = AudioClassifier(folder, window=20, pooling='max').process_file(tmp_path/'long.wav', fmt='dataset')
    assert np.abs(by_file.probabilities.values-long.class_probs).max() < 1e-5
    assert [(s.start, s.end) for s in long.spans] == [(0, 20), (20, 25)] and np.abs(long.class_probs[0]-pieces.max(0)).max() < 1e-5
    with pytest.raises(SettingError, match='predict_proba gives a row for each sound'): AudioClassifier(folder, window=5).predict_proba([x])


def test_scikit_learn_words(checkpoint, rng):
    from sklearn.base import clone
    classify = AudioClassifier(checkpoint('head-wav2vec2'), top_k=2)
    xs = [AudioArray(noise(rng, 1., 16000), 16000) for _ in range(3)]
    assert list(classify.classes_) == ['yes', 'no', 'stop'] and classify.predict(xs[0]) == classify(xs[0])[0]['label']
    assert list(classify.predict(xs)) == [classify(x)[0]['label'] for x in xs] and classify.predict_proba([]).shape == (0, 3)
    again = clone(classify)
    assert again.get_params() == classify.get_params() and again.model is classify.model
    assert pickle.loads(pickle.dumps(classify))(xs[0]) == classify(xs[0])
    assert classify.set_params(top_k=1)(xs[0]) == again(xs[0])[:1]


@pytest.mark.parametrize('bad,message', [
    (dict(top_k=0), '`top_k` must be'), (dict(top_k=1.5), '`top_k` must be'), (dict(function_to_apply='tanh'), '`function_to_apply` must be one of'), (dict(pooling=None), '`pooling` must be'),
    (dict(window='all'), '`window` must be'), (dict(confidence_threshold=2), '`confidence_threshold` must lie'), (dict(batch_size=0), '`batch_size`'), (dict(max_seconds=0), '`max_seconds`'),
])
def test_settings(bad, message, checkpoint):
    with pytest.raises(SettingError, match=message): AudioClassifier(checkpoint('head-ast'), **bad)


def test_a_bare_encoder_says_what_it_lacks(tmp_path, sounds):
    make_folder(speech(tf.HubertConfig, tf.HubertModel), tmp_path)
    for use in (lambda c: c(sounds/'chirp.ogg'), lambda c: c.labels, lambda c: c.process_file(sounds/'chirp.ogg'), lambda c: c.predict_proba([])):
        with pytest.raises(SettingError, match='has no head'): use(AudioClassifier(tmp_path))
    with pytest.raises(ModelNotFoundError, match='Three ways on'): AudioClassifier('./no/such')(sounds/'chirp.ogg')
    with pytest.raises(SettingError, match='hears and does not read'): ZeroShotClassifier(labels, tmp_path)(sounds/'chirp.ogg')


# to look at

def test_results_show_themselves(checkpoint, sounds):
    import matplotlib
    matplotlib.use('agg')
    folder = checkpoint('head-ast')
    whole, table, out = AudioClassifier(folder)(sounds/'long.ogg'), AudioClassifier(folder, window=4)(sounds/'long.ogg'), AudioClassifier(folder).outputs(sounds/'long.ogg')
    assert repr(whole).splitlines()[0].split() == ['score', 'label'] and len(repr(whole).splitlines()) == 4
    assert repr(table).splitlines()[0].split() == ['start', 'end', 'score', 'label'] and repr(table).splitlines()[1].split()[:2] == ['0.00', '4.00']
    assert '<th>label</th>' in whole._repr_html_() and '<th>start</th>' in table._repr_html_() and 'frames' in repr(out) and '<table>' in out._repr_html_()
    for shown in (whole, table, out):
        figure = shown.plot()
        top, beneath = figure.axes
        assert {line.get_label() for line in beneath.lines} == {'yes', 'no', 'stop'} and top.images and beneath.get_xlabel() == 'seconds'
    assert len(table.plot(top_k=1).axes[1].lines) == 1
    first = max(table, key=lambda r: r['score'])
    line = table.plot(top_k=1).axes[1].lines[0]
    assert line.get_label() == first['label'] and max(line.get_ydata()) == pytest.approx(first['score'], abs=1e-6)
    assert len(repr(Scores({'label': f'<{i}>', 'score': 0.} for i in range(99))).splitlines()) == 32 and '&lt;1&gt;' in Scores([{'label': '<1>', 'score': 0.}])._repr_html_()
    with pytest.raises(AudioInputError, match='nothing to plot'): Scores([]).plot()
    assert repr(ModelOutput(np.zeros((2, 3)), np.zeros((2, 4)))) == 'ModelOutput(2 frames: class_probs (2, 3), features (2, 4))'
    probs, features = out
    assert probs is out.class_probs and features is out.features and isinstance(out, tuple) and out._fields == ('class_probs', 'features')


# the language of soundevent, and of audioclass

audioclass = pytest.importorskip('audioclass') if __import__('importlib').util.find_spec('audioclass') else None
needs_audioclass = pytest.mark.skipif(audioclass is None, reason='audioclass is not installed')


def energy_model(base, output, samplerate=8000, input_samples=4000):
    "A classifier of the third kind: its scores are the energy of a frame, and what is left of it."
    from soundevent import data
    class Energy(base):
        def __init__(self):
            self.name, self.samplerate, self.input_samples, self.num_classes, self.confidence_threshold, self.batch_size = 'energy', samplerate, input_samples, 2, .25, 3
            self.tags = [data.Tag(term=data.term_from_key('label'), value=v) for v in ('loud', 'quiet')]
        def process_array(self, array):
            assert array.ndim == 2 and array.shape[1] == self.input_samples and len(array) <= self.batch_size
            loud = np.clip((array**2).mean(1, keepdims=True)*10, 0, 1)
            return output(np.concatenate([loud, 1-loud], 1), np.stack([array.max(1), array.min(1), array.std(1)], 1))
    return Energy()


@pytest.fixture
def clip_file(tmp_path, rng):
    "2.7 s at 8 kHz with a level that grows."
    sf.write(tmp_path/'clip.wav', rng.uniform(-1, 1, 21600)*np.linspace(0, 1, 21600), 8000, 'FLOAT')
    return tmp_path/'clip.wav'


def plain(predictions):
    return [(p.clip.recording.path, p.clip.start_time, p.clip.end_time, [(t.tag.value, t.score) for t in p.tags], [(f.name, f.value) for f in p.features]) for p in predictions]


def close(a, b):
    "Whether predictions agree, floats up to rounding."
    flat = lambda ps: [(str(p[0]), [t[0] for t in p[3]], [f[0] for f in p[4]]) for p in ps]
    numbers = lambda ps: np.array([v for p in ps for v in (p[1], p[2], *(t[1] for t in p[3]), *(f[1] for f in p[4]))])
    return flat(a) == flat(b) and np.allclose(numbers(a), numbers(b), atol=1e-6)


@needs_audioclass
def test_a_model_of_another_make_says_the_same_under_both_bases(clip_file):
    from audioclass.models.base import ClipClassificationModel as Theirs
    from audioclass.models.base import ModelOutput as TheirOutput
    from soundevent import data
    ours, reference = energy_model(ClipClassificationModel, ModelOutput), energy_model(Theirs, TheirOutput)
    recording = data.Recording.from_file(clip_file, latitude=47.4, longitude=8.5, date=datetime.date(2026, 5, 1), time=datetime.time(4, 30))
    for use in (lambda m: m.process_file(clip_file), lambda m: m.process_recording(recording),
                lambda m: m.process_clip(data.Clip(recording=recording, start_time=.5, end_time=2.)), lambda m: m.process_clip(data.Clip(recording=recording, start_time=1., end_time=1.5))):
        assert close(plain(use(ours)), plain(use(reference)))
    assert len(ours.process_file(clip_file)) == 6 and ours.process_file(clip_file)[5].clip.end_time == 3.
    a, b = ours.process_recording(recording, fmt='dataset'), reference.process_recording(recording, fmt='dataset')
    assert a.sizes == b.sizes and set(a.coords) == set(b.coords) and list(a.label.values) == list(b.label.values)
    for name in ('features', 'probabilities', 'time', 'latitude', 'longitude'): assert np.allclose(a[name], b[name], atol=1e-6) and a[name].dims == b[name].dims
    assert a.recorded_on.values == b.recorded_on.values and a.time.attrs['units'] == 's'


@needs_audioclass
def test_batch_iterators_of_audioclass_are_taken(clip_file):
    from audioclass.batch import SimpleIterator
    from audioclass.models.base import ClipClassificationModel as Theirs
    ours, reference = energy_model(ClipClassificationModel, ModelOutput), energy_model(Theirs, ModelOutput)
    def batches(**kwargs): return SimpleIterator.from_directory(clip_file.parent, **{**dict(samplerate=8000, input_samples=4000, batch_size=2), **kwargs})
    assert close(plain(ours.process_iterable(batches())), plain(reference.process_iterable(batches()))) and len(ours.process_iterable(batches())) == 6
    with pytest.raises(SettingError, match='gives frames of samplerate 16000'): ours.process_iterable(batches(samplerate=16000))
    with pytest.raises(SettingError, match='gives frames of input_samples 2000'): ours.process_iterable(batches(input_samples=2000))


def test_the_axis_of_time_fits_any_hop(tmp_path, rng):
    pytest.importorskip('soundevent')
    sf.write(tmp_path/'a.wav', rng.uniform(-1, 1, round(.96*9*8000)), 8000)
    model = energy_model(ClipClassificationModel, ModelOutput, input_samples=round(.96*8000))
    found = model.process_file(tmp_path/'a.wav', fmt='dataset')
    assert found.sizes == {'time': 9, 'feature': 3, 'label': 2} and np.allclose(found.time, .96*np.arange(9))


def test_all_channels_are_heard_unless_one_is_asked_for(tmp_path):
    pytest.importorskip('soundevent')
    level = np.array([[.9], [.1]])*np.ones(8000)
    sf.write(tmp_path/'two.wav', level.T, 8000, 'FLOAT')
    model = energy_model(ClipClassificationModel, ModelOutput)
    def maxima(): return model.process_file(tmp_path/'two.wav', fmt='dataset').features[:, 0].values
    assert np.allclose(maxima(), .5)
    model.channel = 1
    assert np.allclose(maxima(), .1)
    model.channel = 2
    with pytest.raises(SettingError, match='`channel` is 2, but .* has 2 channels'): maxima()


def test_a_recording_that_was_slowed_down_is_heard_at_its_true_rate(tmp_path):
    data = pytest.importorskip('soundevent.data')
    sf.write(tmp_path/'bat.wav', np.sin(2*np.pi*400*np.arange(8000)/8000), 8000)  # 40 kHz in truth
    model = energy_model(ClipClassificationModel, ModelOutput, samplerate=80000, input_samples=80000)
    seen = []
    model.process_array = lambda array: seen.append(array) or ModelOutput(np.zeros((len(array), 2)), np.zeros((len(array), 1)))
    model.process_recording(data.Recording.from_file(tmp_path/'bat.wav', time_expansion=10))
    assert [len(a) for a in seen] == [1]
    spectrum = np.abs(np.fft.rfft(seen[0][0, :8000]))  # a tenth of a second is real, the rest of the frame was filled up
    assert spectrum.argmax()*10 == 4000 and np.all(seen[0][0, 8100:] == 0)


def test_bad_clips(clip_file, tmp_path):
    pytest.importorskip('soundevent')
    from soundevent import data
    model = energy_model(ClipClassificationModel, ModelOutput)
    with pytest.raises(SettingError, match='`fmt` must be one of'): model.process_file(clip_file, fmt='csv')
    with pytest.raises(AudioNotFoundError): model.process_file(tmp_path/'gone.wav')
    (tmp_path/'text.wav').write_text('no sound')
    with pytest.raises(AudioDecodeError): model.process_file(tmp_path/'text.wav')
    model.tags = model.tags[:1]
    with pytest.raises(SettingError, match='has 1 tags, but 2 scores'): model.process_file(clip_file)
    recording = data.Recording.from_file(clip_file)
    gone = recording.model_copy(update={'path': Path('gone.wav')})
    with pytest.raises(AudioNotFoundError): model.process_recording(gone)
    with pytest.raises(TypeError, match='abstract'): ClipClassificationModel()


def test_audio_classifier_speaks_soundevent(checkpoint, sounds):
    pytest.importorskip('soundevent')
    classify = AudioClassifier(checkpoint('head-wav2vec2'), window=2, confidence_threshold=.3)
    assert (classify.samplerate, classify.input_samples, classify.num_classes) == (16000, 32000, 3) and [t.value for t in classify.tags] == ['yes', 'no', 'stop']
    predictions, out = classify.process_file(sounds/'speech_like.wav'), classify.outputs(sounds/'speech_like.wav')
    assert [p.clip.start_time for p in predictions] == [s.start for s in out.spans]
    for p, probs, features in zip(predictions, *out):
        assert {t.tag.value: pytest.approx(t.score, abs=1e-5) for t in p.tags} == {l: s for l, s in zip(classify.labels, probs) if s > .3}
        assert np.allclose([f.value for f in p.features], features, atol=1e-5) and p.features[3].name == f'{classify.name}_3'
    waves = np.stack([w for w in classify.pipe.windows(sounds/'long.ogg').waves if len(w) == 32000])
    direct = classify.process_array(waves)
    assert isinstance(direct, ModelOutput) and np.abs(direct.class_probs-classify.outputs(sounds/'long.ogg').class_probs[:len(waves)]).max() < 1e-5
    for bad in (np.zeros(32000), np.zeros((1, 5)), np.zeros((0, 32000)), np.full((1, 32000), np.nan)):
        with pytest.raises(AudioInputError): classify.process_array(bad)
    logits = AudioClassifier(checkpoint('head-wav2vec2'), function_to_apply='none', confidence_threshold=0)
    with pytest.raises(SettingError, match='soundevent keeps probabilities'):
        logits.scores_of = lambda out, row: np.array([3., 0, 0], np.float32)
        logits.process_file(sounds/'chirp.ogg')


# CLMR

def by_hand(state, wave):
    "SampleCNN in plain calls."
    x = torch.from_numpy(wave)[None, None]
    for i, (_, _, stride, padding, pool) in enumerate(sample_cnn):
        get = lambda k: state[f'sequential.{i}.{k}']
        x = F.conv1d(x, get('0.weight'), get('0.bias'), stride=stride, padding=padding)
        x = F.relu(F.batch_norm(x, get('1.running_mean'), get('1.running_var'), get('1.weight'), get('1.bias')))
        if pool: x = F.max_pool1d(x, 3, 3)
    return x[0, :, 0].numpy()


@pytest.fixture
def clmr(tmp_path):
    "One encoder in every layout, and a head."
    state = seeded_encoder()
    torch.save({**{f'encoder.{k}': v for k, v in state.items()}, 'projector.0.weight': torch.zeros(3, 3)}, tmp_path/'plain.pt')
    import argparse
    torch.save({'pytorch-lightning_version': '1.1.2', 'epoch': 3, 'hyper_parameters': argparse.Namespace(lr=.1), 'state_dict': {f'model.encoder.{k}': v for k, v in state.items()}}, tmp_path/'lightning.ckpt')
    torch.save(state, tmp_path/'bare.pt')
    g = torch.Generator().manual_seed(1)
    head = {'model.0.weight': torch.randn(50, 512, generator=g)*.05, 'model.0.bias': torch.randn(50, generator=g)*.1}
    torch.save({'pytorch-lightning_version': '1.1.2', 'state_dict': head}, tmp_path/'head.ckpt')
    return tmp_path, state, head


def test_sample_cnn_is_that_of_the_paper(clmr, rng):
    folder, state, _ = clmr
    x = AudioArray(noise(rng, 10., 22050), 22050)
    reference = np.stack([by_hand(state, x[i*59049:(i+1)*59049]) for i in range(3)])
    assert np.abs(reference).max() > .1
    for file in ('plain.pt', 'lightning.ckpt', 'bare.pt'):
        with pytest.warns(UserWarning, match='not the last 1.97'): frames = AudioEmbedding('clmr', checkpoint=folder/file)(x)
        assert frames.shape == (3, 512) and frames.dtype == np.float32 and np.abs(frames-reference).max() < 1e-5
    # three full clips are three tokens: the last isn't lost
    assert AudioEmbedding('clmr', checkpoint=folder/'plain.pt')(AudioArray(x[:3*59049], 22050)).shape == (3, 512)


def test_the_rest_of_a_recording_goes_by_the_policy_of_windows(clmr, rng):
    folder, state, _ = clmr
    x = AudioArray(noise(rng, 10., 22050), 22050)
    rest = x[3*59049:]
    def last(**kwargs): return AudioPipeline('clmr', checkpoint=folder/'plain.pt', pooling=None, **kwargs)(x)
    assert last().shape == (4, 512) and np.abs(last()[3]-by_hand(state, np.pad(rest, (0, 59049-len(rest))))).max() < 1e-5
    assert np.abs(last(pad='repeat')[3]-by_hand(state, np.resize(rest, 59049))).max() < 1e-5 and last(pad='drop').shape == (3, 512)
    pipe = AudioPipeline('clmr', checkpoint=folder/'plain.pt')
    weights = [w.end-w.start for w in pipe.iter_windows(x)]
    assert np.abs(pipe(x)-np.average(last(), axis=0, weights=weights)).max() < 1e-5 and pipe.dim == 512
    embed = AudioEmbedding('clmr', checkpoint=folder/'plain.pt')
    short = AudioArray(x[:5000], 22050)
    assert embed(short).shape == (1, 512) and embed(Windowing(59049/22050)(x)).shape == (4, 1, 512)
    with pytest.raises(AudioInputError, match='shorter than one window'): AudioPipeline('clmr', checkpoint=folder/'plain.pt', pad='drop')(short)


def test_a_linear_head_gives_tags(clmr, rng, tmp_path):
    folder, state, head = clmr
    x = AudioArray(noise(rng, 5.3, 22050), 22050)
    classify = AudioClassifier('clmr', checkpoint=(folder/'lightning.ckpt', folder/'head.ckpt'), top_k=3)
    assert len(classify.labels) == 50 and classify.labels[:3] == ['guitar', 'classical', 'slow'] and classify.labels[-1] == 'choral'
    logits = torch.from_numpy(by_hand(state, x[:59049]))@head['model.0.weight'].T+head['model.0.bias']
    assert np.abs(classify.outputs(x).class_probs[0]-logits.sigmoid().numpy()).max() < 1e-5
    pipe = AudioPipeline('clmr', checkpoint=(folder/'lightning.ckpt', folder/'head.ckpt'))
    pipe.save(tmp_path/'saved')
    again = AudioPipeline.load(tmp_path/'saved')
    assert np.array_equal(again(x), pipe(x)) and again.model.labels == classify.labels
    assert pickle.loads(pickle.dumps(classify))(x) == classify(x)
    # a head with another number of classes, in the file of the encoder
    both = {**{f'encoder.{k}': v for k, v in state.items()}, 'fc.weight': torch.ones(4, 512), 'fc.bias': torch.zeros(4)}
    torch.save(both, tmp_path/'both.pt')
    assert load_model('clmr', checkpoint=tmp_path/'both.pt').labels == [f'class {i}' for i in range(4)]


def test_checkpoints_that_are_none(clmr, tmp_path):
    folder, state, _ = clmr
    with pytest.raises(ModelNotFoundError, match='weights of CLMR are on no hub'): load_model('clmr')
    with pytest.raises(ModelNotFoundError, match='there is no checkpoint'): load_model('clmr', checkpoint='no/such.pt')
    with pytest.raises(ModelNotFoundError, match='the first is sequential.9.0.weight'):
        torch.save({f'encoder.{k}': v for k, v in state.items() if k != 'sequential.9.0.weight'}, tmp_path/'hole.pt')
        load_model('clmr', checkpoint=tmp_path/'hole.pt')
    with pytest.raises(ModelNotFoundError, match=r'sequential.0.0.weight has the shape \(64, 1, 3\)'):
        torch.save({**state, 'sequential.0.0.weight': torch.zeros(64, 1, 3)}, tmp_path/'odd.pt')
        load_model('clmr', checkpoint=tmp_path/'odd.pt')
    (tmp_path/'text.pt').write_text('no weights')
    with pytest.raises(ModelNotFoundError, match='can not be opened'): load_model('clmr', checkpoint=tmp_path/'text.pt')
    class Harm:
        def __reduce__(self): return (tmp_path/'harm').touch, ()
    torch.save({'state_dict': Harm()}, tmp_path/'harmful.pt')
    with pytest.raises(ModelNotFoundError, match='can not be opened'): load_model('clmr', checkpoint=tmp_path/'harmful.pt')
    assert not (tmp_path/'harm').exists()
    with pytest.raises(ModelNotFoundError, match='holds no linear head'): load_model('clmr', checkpoint=(folder/'plain.pt', folder/'plain.pt'))
    with pytest.raises(SettingError, match='`layer` must be -1'): AudioEmbedding('clmr', checkpoint=folder/'plain.pt', layer=2)(AudioArray(np.ones(59049), 22050))


# the commands

def test_classify_from_the_terminal(checkpoint, sounds, tmp_path):
    folder = checkpoint('head-ast')
    done = command('classify', sounds/'chirp.ogg', sounds/'long.ogg', '-m', folder, '--top-k', 2)
    assert done.exit_code == 0 and done.stdout.count('  ') >= 4 and str(sounds/'chirp.ogg') in done.stdout and '2 files, 0 errors' in done.stderr
    reference = AudioClassifier(folder, 2, window=3)(sounds/'long.ogg')
    for name, read in (('o.csv', csv.read_csv), ('new/o.parquet', pq.read_table)):
        (tmp_path/'broken.wav').write_text('no sound')
        done = command('classify', sounds/'long.ogg', tmp_path/'broken.wav', '-m', folder, '-k', 2, '--window', 3, '-o', tmp_path/name)
        assert done.exit_code == 0 and "left out: can't decode" in done.stderr and '1 file, 1 error, ' in done.stderr
        rows = read(tmp_path/name).to_pylist()
        assert [{k: r[k] for k in ('start', 'end', 'label')} for r in rows] == [{k: r[k] for k in ('start', 'end', 'label')} for r in reference]
        assert np.allclose([r['score'] for r in rows], [r['score'] for r in reference], atol=1e-6) and rows[0]['file'] == str(sounds/'long.ogg')


def test_zeroshot_from_the_terminal(clap_folder, sounds, tmp_path):
    done = command('zeroshot', sounds/'chirp.ogg', '--labels', 'dog, vacuum cleaner', '-m', clap_folder, '-o', tmp_path/'o.csv')
    assert done.exit_code == 0, done.stderr
    rows = csv.read_csv(tmp_path/'o.csv').to_pylist()
    assert {r['label'] for r in rows} == {'dog', 'vacuum cleaner'} and sum(r['score'] for r in rows) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('args,message', [
    (['classify', '{wav}', '-m', '{ast}', '-o', 'o.txt'], 'must end in .csv or .parquet'), (['classify', '{tmp}', '-m', '{ast}'], 'no sounds in'), (['classify', 'gone.wav', '-m', '{ast}'], 'there is no file or folder'),
    (['classify', '{wav}', '-m', '{ast}', '--top-k', '0'], '`--top-k` must be'), (['classify', '{wav}', '-m', '{clap}'], 'has no head'), (['zeroshot', '{wav}', '-m', '{clap}', '--labels', ','], 'must be words'),
    (['zeroshot', '{wav}', '-m', '{ast}', '--labels', 'dog'], 'hears and does not read'), (['classify', '{wav}', '-m', '{ast}', '-o', '{wav}/o.csv'], 'can not write'),
])
def test_commands_end_with_one_line_where_nothing_can_be_done(args, message, checkpoint, clap_folder, sounds, tmp_path):
    known = dict(wav=sounds/'chirp.ogg', ast=checkpoint('head-ast'), clap=clap_folder, tmp=tmp_path)
    done = command(*(a.format(**known) for a in args))
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].startswith('error: ') and message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


class Wide(AudioModel):
    "Fast with many windows at once, as on a GPU; counts its passes."
    name, sr, context, frame_dim, pooled_dim, labels, best_batch, passes = 'wide', 1000, .5, 1, 1, ['loud', 'soft'], 32, 0
    def forward(self, waves, layer=-1):
        self.passes += 1
        loud = np.array([[np.abs(w).mean()] for w in waves], np.float32)
        return ModelFrames(loud[:, None], np.ones((len(waves), 1), bool), loud, np.concatenate([loud, -loud], axis=1))


def test_as_many_windows_at_once_as_the_model_is_fast_with(rng):
    model = Wide()
    AudioClassifier(model)((noise(rng, 32, 1000), 1000))
    assert model.passes == 2  # 64 windows
    assert all(c.defaults()['batch_size'] is None for c in (AudioPipeline, AudioEmbedding, AudioClassifier, ZeroShotClassifier))
