"Modules and functions as models: how they are called is found out, what they do is measured, and tables know them by name."
import copy
import warnings

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from auditus import AudioClassifier, AudioEmbedding, AudioPipeline, AuditusError, Probe, SettingError, SoundIndex, load_model
from auditus.core import ModelNotFoundError
from auditus.extract import extract
from auditus.models.callable import CallableModel
from auditus.models.passport import RefusedModelError, verify


def loud_and_rough(waves):
    return np.stack([np.sqrt((waves**2).mean(1)), (np.diff(np.sign(waves)) != 0).mean(1)], axis=1)


def doubled(waves): return 2*loud_and_rough(waves)


def folder_of(place, n):
    "A few tones and noises as files."
    import soundfile as sf
    place.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        sf.write(place/f'{i}.wav', .1*(i+1)*np.sin(np.arange(16000)*(i+1)*.05)+rng.normal(0, .01, 16000), 16000)
    return place


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv1d(1, 8, 400, 160), torch.nn.BatchNorm1d(8), torch.nn.ReLU(),
                               torch.nn.Dropout(),
                               torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())


@pytest.fixture
def waves(rng): return [rng.normal(0, .1, n).astype(np.float32) for n in (16000, 9000, 16000, 4001)]


# the same thing, as people write it
def tensors_only(waves): return waves.abs().mean(1, keepdim=True)
def with_channel(waves):
    return np.abs(waves[:, 0, :]).mean(1, keepdims=True) if waves.ndim == 3 and waves.shape[1] == 1 else 1/0
def one_by_one(waves): return np.abs(waves).mean(1, keepdims=True) if len(waves) == 1 else 1/0
def as_dict(waves): return {'embedding': np.abs(waves).mean(1, keepdims=True)}
def in_frames(waves): return np.abs(waves).mean(1)[:, None, None]
def in_double(waves): return np.abs(waves.astype(float)).mean(1, keepdims=True)


@pytest.mark.parametrize('call', [tensors_only, with_channel, one_by_one, as_dict, in_frames, in_double],
                         ids=lambda f: f.__name__)
def test_each_way_of_writing_it_is_found_out(call, waves):
    out = load_model(call, sr=16000).forward(waves)
    wanted = [np.abs(w).mean() for w in waves]
    assert np.allclose([np.asarray(f[np.asarray(m)]).mean() for f, m in zip(out.frames, out.mask)], wanted, atol=1e-6)


def test_a_module_is_called_as_it_is_used_and_left_as_it_was(waves):
    net = network().train()
    net[0].eval()
    before = [m.training for m in net.modules()]
    found = AudioPipeline(net, target_sr=16000)([(w, 16000) for w in waves])
    assert [m.training for m in net.modules()] == before and not any(p.grad is not None for p in net.parameters())
    with torch.no_grad(): wanted = [net.eval()(torch.from_numpy(w)[None, None])[0].numpy() for w in waves]
    assert np.abs(found-np.stack(wanted)).max() < 1e-5


def test_modules_of_one_shape_are_not_taken_for_one_another(waves):
    a, b = network(), network()
    with torch.no_grad(): b[0].weight.add_(1)
    one, other = (AudioPipeline(net, target_sr=16000)((waves[0], 16000)) for net in (a, b))
    assert np.abs(one-other).max() > 1e-3
    assert load_model(a, sr=16000).weights_hash() != load_model(b, sr=16000).weights_hash()
    assert load_model(a, sr=16000) is load_model(a, sr=16000)


def test_what_takes_one_length_hears_windows_of_it(rng):
    seen = []

    def three_seconds(waves):
        seen.append(waves.shape[1])
        return waves.reshape(len(waves), 30, 1600).std(-1, keepdims=True)
    sound = rng.normal(0, .1, 16000*7).astype(np.float32)
    pipe = AudioPipeline(three_seconds, target_sr=16000, context=3, pooling=None)
    assert pipe.model.context == 3
    seen.clear()  # lengths were tried when it was opened
    frames = pipe((sound, 16000))
    assert frames.shape == (70, 1) and {*seen} == {48000}  # 30, 30 and 10: none of silence
    assert np.allclose(frames[:, 0], sound.reshape(70, 1600).std(1), atol=1e-6)
    with pytest.raises(ModelNotFoundError, match='context'): load_model(three_seconds, sr=16000)


def test_a_mask_of_ones_own_says_which_frames_are_real(waves):
    def padded(waves):
        n = waves.shape[1]//1000
        frames = np.concatenate([waves[:, :n*1000].reshape(len(waves), n, 1000)[..., :1],
                                 np.full((len(waves), 5, 1), 9.)], axis=1)
        return {'frames': frames, 'mask': np.broadcast_to(np.arange(n+5) < n, frames.shape[:2])}
    for w, frames in zip(waves, AudioPipeline(padded, target_sr=16000, pooling=None)([(w, 16000) for w in waves])):
        assert frames.shape == (len(w)//1000, 1) and frames.max() < 9


def beside_others(waves): return loud_and_rough(waves/np.abs(waves).max())
def small_beside_others(waves): return 1e-3*beside_others(waves)
def by_place(waves): return loud_and_rough(waves)*(1+np.arange(len(waves)))[:, None]
def first_second(waves): return loud_and_rough(waves[:, :16000])
def never_the_same(waves): return loud_and_rough(waves)+np.random.rand()
def deaf(waves): return np.ones((len(waves), 4))


@pytest.mark.parametrize('call, said', [(beside_others, 'batch'), (small_beside_others, 'batch'), (by_place, 'order|batch'),
                                        (first_second, 'end is not heard'),
                                        (never_the_same, 'second time'), (deaf, 'same vector')],
                         ids=lambda o: getattr(o, '__name__', ''))
def test_what_can_not_be_trusted_is_refused_with_the_measurement(call, said):
    with pytest.raises(RefusedModelError, match=said) as e: AudioPipeline(call, target_sr=16000).model
    assert f'verify({call.__name__}, sr=16000)' in str(e.value)


def test_a_callable_is_verified_by_its_settings():
    assert not verify(loud_and_rough, sr=16000, name='loud').defects


def test_ways_of_calling_that_fail_warn_of_nothing():
    def warns(waves):
        if isinstance(waves, torch.Tensor): return np.maximum(waves.numpy()[:, :160], 0)
        warnings.warn('not so'); raise ValueError
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = CallableModel(warns, 16000)
    assert model.way.tensors


@pytest.mark.parametrize('call, said', [(lambda w: w.mean(), 'n, dim'), (lambda w: {'x': w}, 'frames'),
                                        (lambda w: None, 'n, dim'), (lambda: 0, 'TypeError'),
                                        (lambda w: 'text', 'n, dim'),
                                        (lambda w: np.zeros((len(w)+1, 2)), 'as `pooled`'),
                                        (lambda w: np.abs(w[:, ::160]), 'last axis')])
def test_what_is_no_model_is_told_with_what_was_tried(call, said):
    with pytest.raises(ModelNotFoundError, match=said): load_model(call, sr=16000)


@pytest.mark.parametrize('settings, said', [({}, 'which rate'), (dict(sr=0), 'positive'),
                                            (dict(sr=16000, labels=['a']), 'scores no classes'),
                                            (dict(sr=16000, activation='softmax'), 'scores no classes'),
                                            (dict(sr=16000, dtype='bfloat16'), 'no setting `dtype`'),
                                            (dict(sr=16000, device='cpu'), 'leave `device` out'),
                                            (dict(sr=16000, context=-1), 'positive'),
                                            (dict(sr=16000, backend='onnx'), 'no file can hold'),
                                            (dict(sr=16000, graph={'name': 3}), 'text'),
                                            (dict(sr=16000, peak=1.), 'no setting `peak`')])
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(AuditusError, match=said): load_model(loud_and_rough, **settings)


def test_the_rate_is_the_one_that_was_named():
    pipe = AudioPipeline(loud_and_rough, target_sr=8000)
    assert pipe.sr == 8000 and AudioEmbedding(loud_and_rough, sr=22050).sr == 22050
    with pytest.raises(SettingError, match='no setting `name`'): AudioPipeline('birdnet', name='a').model


@pytest.mark.parametrize('call', [lambda waves: loud_and_rough(waves).tolist(), lambda waves: list(loud_and_rough(waves)), lambda waves: (loud_and_rough(waves),),
                                  lambda waves: loud_and_rough(waves).astype(np.float64),
                                  lambda wave: loud_and_rough(wave[None])[0] if wave.ndim == 1 else 1/0, lambda wave: [*loud_and_rough(wave[None])[0]] if wave.ndim == 1 else None])
def test_what_a_function_gives_may_be_a_list_and_what_it_takes_one_wave(call, waves):
    model = load_model(call, sr=16000)
    assert np.abs(model.forward(waves).pooled-np.stack([loud_and_rough(w[None])[0] for w in waves])).max() < 1e-6


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_a_module_is_given_the_number_format_of_its_weights(dtype, tolerance, waves):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 6, 400, 160), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    wanted = load_model(net, sr=16000).forward(waves).pooled
    other = load_model(copy.deepcopy(net).to(dtype), sr=16000)
    assert (other.forward(waves).pooled-wanted).abs().max() < tolerance*wanted.abs().max()
    assert other.precision == {torch.float64: 'float32'}.get(dtype, str(dtype)[6:])


def test_outputs_of_transformers_are_known_with_all_their_layers(waves):
    net = network().eval()
    def call(given): return BaseModelOutput(last_hidden_state=net(given)[:, None].repeat(1, 2, 1), hidden_states=(given, given))
    assert load_model(call, sr=16000).forward(waves).frames.shape[1] == 2


def test_files_of_torch_are_opened_by_torch(tmp_path):
    torch.save(network().state_dict(), tmp_path/'weights.pt')
    with pytest.raises(ModelNotFoundError, match=r"weights.pt' is a file.*Open it by torch .* and give the module: AudioPipeline\(module, target_sr=16000\)"): AudioPipeline(tmp_path/'weights.pt', target_sr=16000).dim


def test_time_along_the_last_axis_is_no_frame(rng):
    def turned(waves):
        if waves.shape[1] != 8000: raise ValueError('a second is wanted')
        return np.abs(waves.reshape(-1, 10, 8, 100)).mean(-1).transpose(0, 2, 1)
    with pytest.raises(ModelNotFoundError, match='the last axis of its `frames` runs along time'): load_model(turned, sr=8000, context=1.)
    def right(waves): return turned(waves).transpose(0, 2, 1)
    assert load_model(right, sr=8000, context=1.).frame_dim == 8


def test_a_name_of_ones_own_goes_with_the_callable():
    named = load_model(loud_and_rough, name='mine', sr=16000)
    assert named.name == 'mine' and load_model(loud_and_rough, sr=16000).name == 'loud_and_rough'
    assert load_model(name=loud_and_rough, graph=dict(sr=16000, name='mine')) is named
    for name in ('birdnet', 'any.onnx'):
        with pytest.raises(SettingError, match='has no setting `name`; it has'): load_model(name, name='mine')


def test_classes_have_names_and_scores(waves):
    def scored(waves): return {'embedding': loud_and_rough(waves), 'logits': 100*loud_and_rough(waves)-1}
    clf = AudioClassifier(scored, sr=16000, labels=['loud', 'rough'], activation='softmax')
    found = {o['label']: o['score'] for o in clf((waves[0], 16000))}
    wanted = np.exp(100*loud_and_rough(waves[0][None])[0])
    assert np.allclose([found['loud'], found['rough']], wanted/wanted.sum(), atol=1e-5)
    with pytest.raises(SettingError, match='labels'):
        AudioClassifier(scored, sr=16000, labels=['a'], activation='softmax').model
    with pytest.raises(SettingError, match='activation'): load_model(scored, sr=16000)


def test_a_table_needs_a_name_and_no_other_goes_on_with_it(tmp_path):
    folder = folder_of(tmp_path/'sounds', 3)
    with pytest.raises(SettingError, match='give it a name'):
        extract(folder, tmp_path/'t', AudioPipeline(loud_and_rough, target_sr=16000))
    assert not (tmp_path/'t').exists()
    one, other = (AudioPipeline(f, target_sr=16000, name=f.__name__) for f in (loud_and_rough, doubled))
    assert len(extract(folder, tmp_path/'t', one).errors) == 0 and extract(folder, tmp_path/'t', one)
    for call in (other, AudioPipeline(doubled, target_sr=16000)):
        with pytest.raises(SettingError): extract(folder, tmp_path/'t', call)
    index = SoundIndex.build(tmp_path/'t', one)
    assert index.search(sorted(folder.iterdir())[0], k=1)
    for given in (other, None):
        with pytest.raises(AuditusError, match='callable|somebody'): SoundIndex.build(tmp_path/'t', given).search(sorted(folder.iterdir())[0], k=1)


def test_what_is_kept_for_a_moment_needs_no_name(tmp_path):
    folder = folder_of(tmp_path/'sounds', 4)
    files = sorted(folder.iterdir())
    pipe = AudioPipeline(loud_and_rough, target_sr=16000)
    probe = Probe(pipe).fit(files, ['a', 'b', 'a', 'b'])
    assert probe.predict(files[0]) in ('a', 'b') and SoundIndex.build(folder, pipe).search(files[0], k=1)
    with pytest.raises(SettingError, match='give it a name'): probe.save(tmp_path/'probe')
    assert not (tmp_path/'probe').exists() and pipe.model.given_name is None


def test_a_saved_module_opens_without_its_class(tmp_path, waves):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    given = [(w, 16000) for w in waves]
    pipe = AudioPipeline(network(), target_sr=16000)
    pipe.save(tmp_path/'saved')
    opened = AudioPipeline.load(tmp_path/'saved')
    assert np.abs(opened(given)-pipe(given)).max() < 1e-5 and opened.model_name.endswith('.onnx')
    with pytest.raises(SettingError, match='no file can hold'):
        AudioPipeline(loud_and_rough, target_sr=16000).save(tmp_path/'f')


@pytest.mark.parametrize('backend', ['onnx', 'openvino'])
def test_a_module_on_another_engine_says_the_same(backend, waves):
    pytest.importorskip({'onnx': 'onnxruntime', 'openvino': 'openvino'}[backend])
    net = network()
    found, wanted = (CallableModel(net, 16000, backend=b).forward(waves).pooled for b in (backend, 'torch'))
    assert float((found-wanted).abs().max()) < 1e-4



def half_as_loud(waves): return waves/2
def third_as_loud(waves): return waves/3


def test_a_function_among_the_settings_of_a_graph_is_known_by_its_name(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    import onnx
    CallableModel(network(), 16000).export(tmp_path/'net.onnx')
    bare = onnx.load(tmp_path/'net.onnx')
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path/'bare.onnx')
    folder, graph = folder_of(tmp_path/'sounds', 3), dict(sr=16000, pooled='pooled', context=1.)
    def pipe(features): return AudioPipeline(tmp_path/'bare.onnx', features=features, **graph)
    assert extract(folder, tmp_path/'t', pipe(half_as_loud)).files == 3
    with pytest.raises(SettingError, match='begun with other settings'):
        extract(folder, tmp_path/'t', pipe(third_as_loud))
    with pytest.raises(SettingError, match='with `def`'): extract(folder, tmp_path/'t2', pipe(lambda waves: waves/2))
