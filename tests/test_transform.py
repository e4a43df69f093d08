"The chain as its users hold it: one and many, settings, scikit-learn, bad input."
import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers as tf
from kit import Loudness

import auditus
from auditus import (AudioArray, AudioDecodeError, AudioEmbedding, AudioInputError, AudioLoader,
                     AudioNotFoundError, AudioPipeline, ModelNotFoundError, Normalize,
                     Pooling, Resampling, SettingError, Windowing)


@pytest.fixture(scope='session')
def hubert(checkpoint):
    "A model of any length."
    return checkpoint('hubert-group')


@pytest.fixture(scope='session')
def ast(checkpoint):
    "A model that hears 10.24 s."
    return checkpoint('ast')


@pytest.fixture(scope='session')
def files(sounds): return sorted(f for f in sounds.iterdir() if f.suffix in ('.ogg', '.wav', '.flac', '.mp3'))


@pytest.fixture
def noise(rng): return AudioArray(rng.normal(0, .1, 19*16000), 16000)


# from a path to a vector

def test_the_promised_signature():
    import inspect
    parameters = inspect.signature(AudioPipeline).parameters
    assert [*parameters][:4] == ['model_name', 'return_tensors', 'target_sr', 'pooling']
    defaults = {k: p.default for k, p in parameters.items()}
    assert (defaults['model_name'], defaults['return_tensors'], defaults['target_sr'], defaults['pooling'], defaults['window']) == \
           ('MIT/ast-finetuned-audioset-10-10-0.4593', 'np', None, 'mean', 'auto')
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters.values())


def test_the_pipeline_is_its_steps(hubert, files):
    by_hand = AudioLoader() >> Resampling(16000) >> AudioEmbedding(hubert) >> Pooling() >> Normalize()
    whole = AudioPipeline(hubert, normalize=True)
    for f in files: assert np.abs(by_hand(f)-whole(f)).max() < 1e-6


def test_every_kind_of_input_gives_the_same_vector(hubert, sounds):
    pipe, path = AudioPipeline(hubert), sounds/'speech_like.wav'
    reference, audio = pipe(path), AudioLoader()(path)
    with open(path, 'rb') as f: opened = pipe(f)
    for got in (opened, pipe(str(path)), pipe(path.read_bytes()), pipe(audio), pipe((audio.a, audio.sr)),
                pipe({'array': audio.a, 'sampling_rate': audio.sr})):
        assert np.array_equal(got, reference)


def test_a_hundred_paths(hubert, files, capsys):
    many = [files[i % len(files)] for i in range(100)]
    pipe = AudioPipeline(hubert, progress=True, batch_size=8)
    vectors = pipe(many)
    assert vectors.shape == (100, pipe.dim) and vectors.dtype == np.float32
    assert '100/100' in capsys.readouterr().err
    for i in (0, 17, 99): assert np.abs(vectors[i]-pipe(many[i])).max() < 1e-5
    quiet = AudioPipeline(hubert)
    quiet(many[:3])
    assert capsys.readouterr().err == ''


def test_many_come_as_generators_series_and_columns(hubert, files):
    import datasets
    import pandas as pd
    pipe, paths = AudioPipeline(hubert), [str(f) for f in files]
    reference = pipe(paths)
    table = datasets.Dataset.from_dict({'path': paths})
    for many in ((p for p in paths), pd.Series(paths), np.array(paths), np.array(paths, dtype=object),
                 table['path'], iter(files)):
        assert np.abs(pipe(many)-reference).max() < 1e-6


def test_datasets_map_and_undecoded_audio(hubert, files):
    import datasets
    pipe = AudioPipeline(hubert)
    table = datasets.Dataset.from_dict({'audio': [str(f) for f in files]}).cast_column('audio', datasets.Audio(decode=False))
    mapped = table.map(lambda row: {'embedding': pipe(row['audio'])})
    assert np.abs(np.array(mapped['embedding'])-pipe(files)).max() < 1e-5


def test_windows_give_rows_with_their_times(hubert, sounds):
    pipe = AudioPipeline(hubert, window=5)
    rows = pipe(sounds/'long.ogg')
    cut = pipe.windows(sounds/'long.ogg')
    assert rows.shape == (3, pipe.dim) and (cut.starts, cut.ends) == ([0., 5., 10.], [5., 10., 12.])
    by_hand = AudioPipeline(hubert, window=None)
    for row, wave in zip(rows, cut.waves): assert np.abs(by_hand((wave, pipe.sr))-row).max() < 1e-5
    overlapping = AudioPipeline(hubert, window=5, hop=2.5)
    assert overlapping.windows(sounds/'long.ogg').starts == [0., 2.5, 5., 7.5]
    assert overlapping(sounds/'long.ogg').shape == (4, pipe.dim)


def test_stream_comes_in_order_one_file_at_a_time(hubert, sounds, files):
    taken = []
    def watched():
        for f in files*20:
            taken.append(f)
            yield f
    stream = AudioPipeline(Loudness(), window=2, batch_size=1).stream(watched())
    first = next(stream)
    assert first.file == files[0] and (first.start, first.end) == (0., 2.) and len(taken) < len(files)*20
    rest = list(stream)
    assert [r.file for r in rest[:2]] == files[:2] and len(taken) == len(files)*20
    whole = list(AudioPipeline(hubert).stream(sounds/'long.ogg'))
    assert [(r.start, r.end) for r in whole] == [(0., 12.)]
    assert np.array_equal(whole[0].vector, AudioPipeline(hubert)(sounds/'long.ogg'))
    with pytest.raises(SettingError, match='stream gives vectors'):
        next(AudioPipeline(hubert, pooling=None).stream(files))


@pytest.mark.parametrize('pooling', ['mean', 'max', None])
def test_a_window_longer_than_the_model_hears_is_heard_in_pieces(pooling, ast, noise):
    pipe, single = AudioPipeline(ast, window=15, pooling=pooling), AudioPipeline(ast, window=None, pooling=pooling)
    assert [(s, e) for s, e in zip(pipe.windows(noise).starts, pipe.windows(noise).ends)] == [(0., 15.), (15., 19.)]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        first, second = pipe(noise)
    a, b = (single((noise[i*16000:j*16000] if j else noise[i:163840], 16000)) for i, j in ((0, 0), (15, 19)))
    rest = single((noise[163840:15*16000], 16000))
    joined = {'mean': lambda: np.average([a, rest], axis=0, weights=[163840, 15*16000-163840]),
              'max': lambda: np.maximum(a, rest), None: lambda: np.concatenate([a, rest])}[pooling]()
    assert np.abs(first-joined).max() < 1e-5 and np.abs(second-b).max() < 1e-5
    rows = [] if pooling is None else list(pipe.stream([noise, noise]))
    assert [(r.start, r.end) for r in rows] == ([] if pooling is None else [(0., 15.), (15., 19.)]*2)


def test_a_long_window_of_the_whole_is_what_auto_makes(ast, noise):
    assert np.abs(AudioPipeline(ast, window=19)(noise)[0]-AudioPipeline(ast)(noise)).max() < 1e-6
    two = AudioArray(np.stack([noise.a, noise.a[::-1]]), 16000)
    apart = AudioPipeline(ast, window=15, mono=False)(two)
    for channel, a in zip(apart, two.a): assert np.abs(channel-AudioPipeline(ast, window=15)((a, 16000))).max() < 1e-5


def test_auto_weighs_windows_by_real_seconds(ast, noise):
    pipe = AudioPipeline(ast)
    cut = pipe.windows(noise)
    assert [len(w) for w in cut.waves] == [163840, 19*16000-163840]
    single = AudioPipeline(ast, window=None)
    parts = np.stack([single((w, 16000)) for w in cut.waves])
    reference = np.average(parts, axis=0, weights=[len(w) for w in cut.waves])
    assert np.abs(pipe(noise)-reference).max() < 1e-5
    loudest = np.maximum(*[AudioPipeline(ast, window=None, pooling='max')((w, 16000)) for w in cut.waves])
    assert np.abs(AudioPipeline(ast, pooling='max')(noise)-loudest).max() < 1e-5
    assert AudioPipeline(ast, pooling=None)(noise).shape == (2*1214, pipe.dim)


def test_auto_hears_all_of_a_long_sound(hubert, noise):
    short, long = AudioPipeline(hubert), AudioPipeline(hubert, max_seconds=8)
    assert len(short.windows(noise)) == 1 and [round(s, 6) for s in long.windows(noise).seconds] == [8, 8, 3]
    changed = AudioArray(np.concatenate([noise[:-16000], np.zeros(16000)]), 16000)
    for pipe in (short, long): assert np.abs(pipe(changed)-pipe(noise)).max() > 1e-3


def test_one_pass_says_what_it_did_not_hear(ast, noise):
    with pytest.warns(auditus.transform.TruncationWarning,
                      match='hears 10.24 s at once, and of 19.00 s only the start'):
        AudioPipeline(ast, window=None)(noise)
    embed = AudioEmbedding(ast)
    with pytest.warns(auditus.transform.TruncationWarning): assert embed(noise).shape == (1214, embed.dim)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        embed(noise)  # once is enough
        AudioPipeline(ast)(noise)  # and where all is heard there is nothing to say


def test_the_models_own_summary(ast, noise):
    pipe = AudioPipeline(ast, pooling='model')
    model = tf.ASTModel.from_pretrained(ast, dtype=torch.float32).eval()
    wave = noise[:80000]
    with torch.inference_mode():
        reference = model(**tf.ASTFeatureExtractor()(wave, sampling_rate=16000,
                                                     return_tensors='pt')).pooler_output[0].numpy()
    assert np.abs(pipe((wave, 16000))-reference).max() < 1e-5 and pipe.dim == len(reference)


def test_torch_comes_out_and_can_be_trained_on(hubert, noise):
    vector = AudioPipeline(hubert, return_tensors='pt', normalize=True)([noise, noise])
    assert isinstance(vector, torch.Tensor) and vector.shape == (2, 32)
    assert torch.allclose(vector.norm(dim=1), torch.ones(2))
    frames = AudioEmbedding(hubert, return_tensors='pt')(noise)
    weight = torch.ones(32, 1, requires_grad=True)
    Pooling()(frames@weight).sum().backward()
    assert weight.grad.abs().sum() > 0
    assert np.abs(frames.numpy()-AudioEmbedding(hubert)(noise)).max() < 1e-6


def test_frames_of_windows(hubert, noise):
    embed = AudioEmbedding(hubert)
    equal, unequal = Windowing(1.)(noise), Windowing(2.)(noise)
    assert embed(equal).shape == (19, 49, 32)
    ragged = embed(unequal)
    assert isinstance(ragged, list) and len(ragged) == 10 and ragged[-1].shape == (49, 32)
    assert Pooling()(ragged).shape == (10, 32)
    for w, frames in zip(unequal.waves, ragged): assert np.abs(embed(AudioArray(w, 16000))-frames).max() < 1e-5


def test_nothing_comes_of_nothing(hubert):
    pipe = AudioPipeline(hubert)
    assert pipe([]).shape == (0, pipe.dim) and list(pipe.stream([])) == []


# settings

def test_copies_share_a_model_and_pickles_are_small(hubert, noise):
    from sklearn.base import clone
    pipe = AudioPipeline(hubert, window=4, feature_kwargs={'do_normalize': False})
    reference = pipe(noise)
    for again in (copy.copy(pipe), copy.deepcopy(pipe), clone(pipe), pickle.loads(pickle.dumps(pipe))):
        assert again.model is pipe.model and again.get_params() == pipe.get_params()
        assert np.array_equal(again(noise), reference)
    assert len(pickle.dumps(pipe)) < 3000
    for step in (AudioLoader(sr=8000), Resampling(16000), Windowing(2., pad='zero'), AudioEmbedding(hubert),
                 Pooling('max'), Normalize(), pipe):
        assert repr(clone(step)) == repr(step) and clone(step).get_params() == step.get_params()


def test_repr_shows_what_was_changed(hubert):
    assert repr(AudioPipeline()) == 'AudioPipeline()'
    assert repr(AudioPipeline('birdnet', window=3)) == "AudioPipeline(model_name='birdnet', window=3)"


def test_set_params_takes_effect(hubert, noise):
    pipe = AudioPipeline(hubert)
    mean = pipe(noise)
    assert pipe.set_params(pooling='max') is pipe and not np.array_equal(pipe(noise), mean)
    with pytest.raises(SettingError, match='has no setting `poolin`; it has model_name'): pipe.set_params(poolin='max')


@pytest.mark.parametrize('settings,message', [
    (dict(return_tensors='tf'), "`return_tensors` must be one of 'np', 'pt'"),
    (dict(pooling='median'), '`pooling` must be one of'), (dict(window='all'), '`window` must be'),
    (dict(window=-1), '`window` must be positive seconds'), (dict(window=0), '`window` must be'),
    (dict(window=True), '`window` must be'), (dict(window=float('nan')), '`window` must be'),
    (dict(window=5, hop=0), '`hop` must be positive'), (dict(window=None, hop=1), '`hop` goes with windows'),
    (dict(layer='last'), '`layer` must be'), (dict(layer=1.5), '`layer` must be'),
    (dict(batch_size=0), '`batch_size` must be a positive whole number'),
    (dict(batch_size=2.5), '`batch_size` must be'), (dict(max_seconds=-30), '`max_seconds` must be'),
    (dict(target_sr=0), '`target_sr`'), (dict(target_sr=-1), '`target_sr`'),
    (dict(normalize=1), '`normalize` must be'), (dict(normalize=True, pooling=None), 'goes with a vector'),
    (dict(pad='mirror'), '`pad` must be one of'), (dict(progress='yes'), '`progress` must be'),
    (dict(pooling='model', layer=2), 'goes with layer=-1'),
])
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(SettingError, match=message) as e: AudioPipeline(**settings)
    assert isinstance(e.value, ValueError)


def test_settings_that_the_model_can_not_serve(hubert, ast, noise):
    with pytest.raises(SettingError, match='was made for 16000 Hz and would hear 32000 Hz at the wrong pitch'):
        AudioPipeline(hubert, target_sr=32000)(noise)
    assert AudioPipeline(hubert, target_sr=16000).sr == 16000
    with pytest.raises(SettingError, match='no summary of its own'): AudioPipeline(hubert, pooling='model').dim
    with pytest.raises(ModelNotFoundError, match='Three ways on'):
        AudioPipeline('no/such-model', local_files_only=True)(noise)
    with pytest.raises(TypeError): AudioPipeline(hubert, windows=5)


# bad input, through the whole chain

def test_one_bad_item_among_fifty_is_named(hubert, files, tmp_path):
    pipe, many = AudioPipeline(hubert, batch_size=4), [files[i % len(files)] for i in range(50)]
    bad = tmp_path/'bad.wav'
    bad.write_text('this is no sound')
    with pytest.raises(AudioDecodeError, match=r"item 31 \('.*bad\.wav'\): can't decode") as e:
        pipe([*many[:31], bad, *many[31:]])
    assert (e.value.index, e.value.item) == (31, bad)
    silent_nan = (np.array([0., np.nan]), 16000)
    with pytest.raises(AudioInputError, match=r'item 7 \(\(ndarray, int\)\): .*NaN'): pipe([*many[:7], silent_nan])
    chain = AudioLoader() >> Resampling(16000) >> AudioEmbedding(hubert) >> Pooling()
    with pytest.raises(AudioNotFoundError, match=r"item 49 \('gone.ogg'\)"): chain([*many[:49], 'gone.ogg'])


def test_a_single_bad_item_has_no_number(hubert):
    for call in (AudioPipeline(hubert), lambda x: list(AudioPipeline(hubert).stream(x))):
        with pytest.raises(FileNotFoundError) as e: call('gone.ogg')
        assert not str(e.value).startswith('item')


@pytest.mark.parametrize('bad,error,message', [
    ('gone.wav', AudioNotFoundError, 'there is no file'), ('.', AudioInputError, 'is a folder'),
    (b'', AudioDecodeError, 'empty'), (b'no sound', AudioDecodeError, 'Is it a sound'),
    ((np.zeros(0), 16000), AudioInputError, 'at least one sample'),
    ((np.array([np.inf]), 16000), AudioInputError, 'NaN or infinite'),
    (np.zeros(100), AudioInputError, 'without a rate'),
    (torch.zeros(100), AudioInputError, 'without a rate'), ((np.zeros(100), 0), AudioInputError, 'got 0'),
    ((np.zeros(100), -1), AudioInputError, 'got -1'), (None, AudioInputError, 'NoneType'),
    (3, AudioInputError, 'int'), ({'array': np.zeros(9)}, AudioInputError, "needs 'array' and 'sampling_rate'"),
])
def test_bad_input(hubert, bad, error, message):
    with pytest.raises(error, match=message): AudioPipeline(hubert)(bad)


def test_steps_refuse_what_is_not_theirs(hubert, noise):
    embed = AudioEmbedding(hubert)
    with pytest.raises(AudioInputError, match='AudioEmbedding takes an AudioArray, got str: put an AudioLoader'):
        embed('a.wav')
    with pytest.raises(AudioInputError, match=r'was made for 16000 Hz, got 8000 Hz: put a Resampling\(16000\)'):
        embed(AudioArray(noise.a, 8000))
    with pytest.raises(AudioInputError, match='takes a mono sound, got 2 channels'):
        embed(AudioArray(np.zeros((2, 999)), 16000))
    with pytest.raises(AudioInputError, match='Pooling takes frames'): Pooling()(noise)
    with pytest.raises(AudioInputError, match='no token'): Pooling()(np.zeros((0, 4)))


# in scikit-learn

def test_a_sound_classifier(hubert, files):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    X, y = [str(f) for f in files]*4, [int('ogg' in f.name) for f in files]*4
    chain = make_pipeline(AudioPipeline(hubert), LogisticRegression(max_iter=1000))
    assert chain.fit(X, y).score(X, y) == 1.
    search = GridSearchCV(chain, {'audiopipeline__pooling': ['mean', 'max']}, cv=2, error_score='raise').fit(X, y)
    assert search.best_params_['audiopipeline__pooling'] in ('mean', 'max')
    chain._repr_html_()


def test_what_scikit_learn_asks_of_a_transformer(hubert, files):
    import pandas as pd
    import polars as pl
    import sklearn
    from sklearn.compose import ColumnTransformer
    from sklearn.utils import get_tags
    pipe = AudioPipeline(hubert)
    reference, names = pipe(files), list(pipe.get_feature_names_out())
    assert np.abs(pipe.fit_transform(files)-reference).max() < 1e-6
    assert names == [f'audiopipeline{i}' for i in range(32)]
    tags = get_tags(pipe)
    assert tags.estimator_type == 'transformer' and tags.input_tags.string and not tags.requires_fit
    series = pd.Series([str(f) for f in files], index=[f.stem for f in files])
    table = pipe.set_output(transform='pandas').transform(series)
    assert list(table.columns) == names and list(table.index) == list(series.index)
    assert np.abs(table.to_numpy()-reference).max() < 1e-6
    assert sklearn.base.clone(pipe).transform(series).equals(table)
    assert isinstance(pipe.set_output(transform='polars').transform(series), pl.DataFrame)
    with sklearn.config_context(transform_output='pandas'):
        assert isinstance(AudioPipeline(hubert).transform(series), pd.DataFrame)
    assert isinstance(pipe.set_output(transform='default').transform(series), np.ndarray)
    columns = ColumnTransformer([('sound', AudioPipeline(hubert), 'path')]).fit_transform(pd.DataFrame({'path': series}))
    assert np.abs(columns-reference).max() < 1e-6
    with pytest.raises(SettingError, match='`transform` must be one of'): pipe.set_output(transform='arrow')


def test_scikit_learn_gets_one_row_a_file(hubert, files):
    for settings in (dict(window=2), dict(pooling=None)):
        for method in ('fit', 'transform', 'fit_transform'):
            with pytest.raises(SettingError, match='one row for each file'): getattr(AudioPipeline(hubert, **settings), method)(files)
    with pytest.raises(AudioInputError, match='takes many sounds'): AudioPipeline(hubert).fit('a.wav')


@pytest.mark.parametrize('step, takes', [(Pooling(), 'Pooling takes frames'),
                                         (Normalize(), 'Normalize takes a vector')])
@pytest.mark.parametrize('x', ['a.wav', AudioArray(np.ones((2, 100)), 16000), np.float32(3),
                               np.array([['a', 'b']]), torch.tensor(1.)], ids=repr)
def test_what_is_no_frames_and_no_vector_is_refused(step, takes, x):
    with pytest.raises(AudioInputError, match=takes): step(x)


def test_pooling_is_over_time():
    frames = np.arange(12.).reshape(4, 3)
    assert np.array_equal(Pooling()(frames), frames.mean(0)) and np.array_equal(Pooling('max')(frames), frames.max(0))
    assert Pooling()(np.stack([frames, frames])).shape == (2, 3)
    assert Pooling(None)(frames) is frames
    assert torch.equal(Pooling('max')(torch.tensor(frames)), torch.tensor(frames).amax(0))


def test_a_setting_refused_once_is_refused_again(hubert, noise):
    pipe = AudioPipeline(hubert, pooling='model')
    for _ in range(2):
        with pytest.raises(SettingError, match='no summary of its own'): pipe(noise)


# what a second pair of eyes found

def test_a_saved_folder_decides_nothing_about_what_is_run(hubert, tmp_path):
    import json
    AudioPipeline(hubert, allow_pickle=True).save(tmp_path/'s')
    saved = json.loads((tmp_path/'s'/'auditus.json').read_text())
    assert not {'trust_remote_code', 'allow_pickle', 'device'} & saved['settings'].keys()
    saved['settings'] |= {'trust_remote_code': True, 'allow_pickle': True}
    (tmp_path/'s'/'auditus.json').write_text(json.dumps(saved))
    with pytest.raises(ModelNotFoundError, match='auditus.json is not what was written'):
        AudioPipeline.load(tmp_path/'s')
    (tmp_path/'s'/'auditus.json').write_text(json.dumps({**saved, 'sums': False}))  # as the message says
    opened = AudioPipeline.load(tmp_path/'s')
    assert (opened.trust_remote_code, opened.allow_pickle) == (False, False)
    assert AudioPipeline.load(tmp_path/'s', allow_pickle=True).allow_pickle


def test_saving_over_a_model_in_use_leaves_it_alone(hubert, ast, noise, tmp_path):
    AudioPipeline(hubert, window=np.float32(4), batch_size=np.int64(2)).save(tmp_path/'s')
    live = AudioPipeline.load(tmp_path/'s')
    before = live(noise)
    AudioPipeline(ast).save(tmp_path/'s')
    assert np.array_equal(live(noise), before)
    again = AudioPipeline.load(tmp_path/'s')
    assert again.model.context == 10.24
    again.save(tmp_path/'s')
    assert np.array_equal(AudioPipeline.load(tmp_path/'s')(noise), again(noise))


def test_pandas_output_of_a_list(hubert, files):
    table = AudioPipeline(hubert).set_output(transform='pandas').transform([str(f) for f in files])
    assert table.shape == (len(files), 32) and list(table.index) == list(range(len(files)))


def test_chains_with_ragged_windows_take_lists(hubert, sounds):
    chain = AudioLoader() >> Resampling(16000) >> Windowing(5) >> AudioEmbedding(hubert) >> Pooling() >> Normalize()
    one, many = chain(sounds/'long.ogg'), chain([sounds/'long.ogg', sounds/'chirp.ogg'])
    assert one.shape == (3, 32) and np.abs(many[0]-one).max() < 1e-5 and many[1].shape == (1, 32)


def test_pad_never_fills_what_is_heard_in_one_pass(hubert, sounds):
    reference = AudioPipeline(hubert)(sounds/'chirp.ogg')
    for pad in ('zero', 'repeat', 'wrap', 'drop'):
        assert np.array_equal(AudioPipeline(hubert, pad=pad)(sounds/'chirp.ogg'), reference)


def test_stream_gives_what_was_finished_before_it_fails(hubert, files):
    seen = []
    with pytest.raises(AudioNotFoundError, match='item 3'):
        for row in AudioPipeline(hubert).stream([*files[:3], 'gone.wav', *files]): seen.append(row.file)
    assert seen == files[:3]


def test_rows_of_one_pass_end_where_the_hearing_does(ast, noise):
    with pytest.warns(auditus.transform.TruncationWarning): row, = AudioPipeline(ast, window=None).stream(noise)
    assert (row.start, row.end) == (0., 10.24)


def test_settings_beside_a_loaded_model_and_rates_by_the_back_door(hubert, ast, noise):
    model = AudioPipeline(hubert).model
    assert AudioPipeline(model)(noise).shape == (32,)
    with pytest.raises(SettingError, match='is loaded already: `dtype`'): AudioPipeline(model, dtype='bfloat16')(noise)
    with pytest.raises(SettingError, match='can not change the rate'):
        AudioPipeline(hubert, feature_kwargs={'sampling_rate': 8000})(noise)
    with pytest.raises(SettingError, match='do not fit'): AudioPipeline(ast, feature_kwargs={'num_mel_bins': 64})(noise)
    for device in ('xpu', 'meta', 0):
        with pytest.raises(SettingError, match='`device` must be'): AudioPipeline(hubert, device=device)(noise)


def test_one_sample_at_a_high_rate_says_it_is_too_short(hubert, tmp_path):
    import soundfile as sf
    sf.write(tmp_path/'a.wav', [.5], 48000)
    with pytest.raises(AudioInputError, match='too short'): AudioPipeline(hubert)(tmp_path/'a.wav')
    for settings in (dict(window=1e-6), dict(window=1, hop=1e-6)):
        with pytest.raises(SettingError, match='less than one sample'): AudioPipeline(hubert, **settings)((np.zeros(999), 16000))


def test_a_search_loads_its_model_once(hubert, files, monkeypatch):
    from auditus.models import base, encoder
    base._last[0] = None
    base._loaded.clear()
    loads, real = [], encoder.read_weights
    monkeypatch.setattr(encoder, 'read_weights', lambda *args, **kwargs: loads.append(args) or real(*args, **kwargs))
    for pooling in ('mean', 'max', 'mean'): AudioPipeline(hubert, pooling=pooling)(files[0])
    assert len(loads) == 1


@pytest.mark.skipif(not hasattr(__import__('os'), 'fork'), reason='no fork on this system')
def test_a_fork_after_first_use_does_not_hang(hubert, sounds, tmp_path):
    import subprocess
    import sys
    code = '''
import multiprocessing, sys, warnings; warnings.simplefilter('ignore')
from auditus import AudioPipeline
pipe = AudioPipeline(sys.argv[1])
first = pipe(sys.argv[2])
with multiprocessing.get_context('fork').Pool(2) as pool: assert all(abs(v-first).max() < 1e-5 for v in pool.map(pipe, [sys.argv[2]]*4))
'''
    subprocess.run([sys.executable, '-c', code, str(hubert), str(sounds/'long.ogg')], check=True, timeout=600)
