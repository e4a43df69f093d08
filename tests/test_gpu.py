"""What is said of a CPU holds on a GPU. Run by hand where there is one, for nothing here runs elsewhere:

    AUDITUS_TEST_GPU=1 pytest tests/test_gpu.py
"""
import multiprocessing

import numpy as np
import pytest
import torch
from kit import noise
from tiny_models import architectures, headed

from auditus import AudioArray, AudioClassifier, AudioEmbedding, AudioPipeline, SettingError
from auditus.extract import extract, load
from auditus.finetune import Probe, finetune
from auditus.models.base import load_model
from auditus.models.samplecnn import sample_cnn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU, and AUDITUS_TEST_GPU=1')
every = [*architectures, *(f'head-{name}' for name in headed)]
seconds = 1., 2.3, .5, 2.3, 6.1


def cosine(a, b): return float((a*b).sum()/np.linalg.norm(a)/np.linalg.norm(b))


def given(model, rng): return [AudioArray(noise(rng, s, model.sr), model.sr) for s in seconds]


@pytest.mark.parametrize('name', every)
def test_a_gpu_says_what_a_cpu_says(name, shallow, rng):
    on_gpu, on_cpu = (AudioEmbedding(shallow(name), device=d, batch_size=3) for d in ('cuda', 'cpu'))
    xs = given(on_cpu, rng)
    for x, there, here in zip(xs, on_gpu(xs), on_cpu(xs)):
        scale = max(1, np.abs(here).max())
        assert there.shape == here.shape and np.abs(there-here).max() < 3e-5*scale
        assert np.abs(there-on_gpu(x)).max() < 1e-5*scale  # alone as among others


def seeded_cnn(folder):
    torch.manual_seed(0)
    torch.save({f'encoder.sequential.{k}': v for k, v in sample_cnn().state_dict().items()}, folder/'clmr.pt')
    return {'model_name': 'clmr', 'checkpoint': folder/'clmr.pt'}


def convolving(folder):
    torch.manual_seed(0)
    layers = torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 256, 400, 160), torch.nn.ReLU(), torch.nn.Conv1d(256, 64, 3)
    return {'model_name': torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten()),
            'graph': {'sr': 16000}}


@pytest.mark.parametrize('make', [seeded_cnn, convolving])
def test_convolutions_are_not_rounded(make, tmp_path, rng):
    "To the ten bits of TF32, as cuDNN does by itself: 5e-4 here, and another vector alone than among others."
    on_gpu, on_cpu = (AudioEmbedding(**make(tmp_path), device=d) for d in ('cuda', 'cpu'))
    xs = [AudioArray(noise(rng, 6., on_cpu.sr), on_cpu.sr) for _ in range(5)]
    for x, there, here in zip(xs, on_gpu(xs), on_cpu(xs)):
        scale = max(1, np.abs(here).max())
        assert np.abs(there-here).max() < 3e-5*scale and np.abs(there-on_gpu(x)).max() < 1e-5*scale


@pytest.mark.parametrize('settings', [{'backend': 'onnx'}, {'backend': 'openvino'}, {'dtype': 'int8'}])
def test_what_runs_on_the_cpu_alone_runs_there(settings, shallow):
    if 'backend' in settings: pytest.importorskip({'onnx': 'onnxruntime'}.get(settings['backend'], settings['backend']))
    assert load_model(shallow('ast'), **settings).device.type == 'cpu'
    with pytest.raises(SettingError, match='on the CPU'): load_model(shallow('ast'), device='cuda', **settings)


def test_a_model_is_exported_from_there(shallow, rng, tmp_path):
    pytest.importorskip('onnxruntime')
    pipe = AudioPipeline(shallow('hubert-layer'), device='cuda')
    pipe.model.export(tmp_path/'m.onnx')
    x = AudioArray(noise(rng, 2., 16000), 16000)
    assert np.abs(AudioPipeline(tmp_path/'m.onnx')(x)-pipe(x)).max() < 1e-4


def _in_a_fork(pipe, x):
    try: return pipe(x)
    except SettingError as e: return str(e)


def test_a_forked_process_says_that_it_can_not(shallow, rng):
    pipe, x = AudioPipeline(shallow('hubert-layer')), AudioArray(noise(rng, 1., 16000), 16000)
    pipe(x)
    with multiprocessing.get_context('fork').Pool(1) as pool:
        assert "leave `num_proc` out, start processes by 'spawn'" in pool.apply(_in_a_fork, (pipe, x))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'auto'])
@pytest.mark.parametrize('name', ['ast', 'wav2vec2-group', 'hubert-layer', 'whisper', 'clap-fusion'])
def test_half_precision_points_the_same_way(name, dtype, shallow, rng):
    half, full = (AudioPipeline(shallow(name), device='cuda', dtype=d) for d in (dtype, 'float32'))
    xs = given(full, rng)
    for a, b in zip(half(xs), full(xs)): assert cosine(a, b) > .9995 and a.dtype == np.float32


def test_a_model_goes_to_the_gpu_by_itself(shallow):
    assert load_model(shallow('ast')).net.device.type == 'cuda' and load_model(shallow('ast')).best_batch == 32


def test_a_batch_that_has_no_room_is_halved(shallow, rng):
    "The room that is left is for a few waves, and not for all of them."
    pipe = AudioPipeline(shallow('wav2vec2-layer'), device='cuda', batch_size=64)
    waves = [AudioArray(noise(rng, 10., 16000), 16000) for _ in range(64)]
    wanted, whole = pipe(waves), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    pipe(waves[:8])
    eight = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    passes, infer = [], pipe.model.infer
    def counted(features, layer=-1):
        passes.append(len(features.places))
        return infer(features, layer)
    pipe.model.infer = counted
    torch.cuda.set_per_process_memory_fraction(1.2*eight/whole)
    try: found = pipe(waves)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.)
        del pipe.model.infer
    assert passes[0] == 64 and len(passes) > 2 and np.abs(found-wanted).max() < 1e-4
    torch.cuda.set_per_process_memory_fraction(max(.0002, .05*eight/whole))
    try:
        with pytest.raises(SettingError, match='has no room for 900.0 s of sound'):
            AudioPipeline(shallow('wav2vec2-layer'), device='cuda', window=None)(AudioArray(noise(rng, 900., 16000), 16000))
    finally: torch.cuda.set_per_process_memory_fraction(1.)


def test_features_are_made_there(shallow, rng):
    "Mel energies on the GPU are those of the CPU."
    on_gpu, on_cpu = (AudioEmbedding(shallow('ast'), device=d) for d in ('cuda', 'cpu'))
    x = AudioArray(noise(rng, 4., 16000), 16000)
    there, here = (m.model.inputs([x.a])['input_values'].cpu().float().numpy() for m in (on_gpu, on_cpu))
    assert np.abs(there-here).max() < 1e-3


def test_tensors_stay_where_they_are(shallow, rng):
    pipe = AudioPipeline(shallow('ast'), return_tensors='pt', normalize=True)
    y = pipe([AudioArray(noise(rng, 12., 16000), 16000)]*3)
    assert y.device.type == 'cuda' and torch.allclose(y.norm(dim=-1).cpu(), torch.ones(3), atol=1e-5)
    assert pipe.encode([(noise(rng, 1., 16000), 16000)], convert_to_tensor=True).device.type == 'cuda'


def test_collections_scores_and_training(shallow, sounds, rng, tmp_path):
    import soundfile as sf
    files = sorted(sounds.glob('*.wav'))
    pipe = AudioPipeline(shallow('hubert-group'), device='cuda')
    extract(files, tmp_path/'table', pipe, progress=False)
    X, _ = load(tmp_path/'table')
    assert np.abs(np.asarray(X)-AudioPipeline(shallow('hubert-group'), device='cpu')(files)).max() < 1e-3
    scores = [AudioClassifier(shallow('head-wav2vec2'), device=d).predict_proba(files) for d in ('cuda', 'cpu')]
    assert np.abs(scores[0]-scores[1]).max() < 1e-3
    for label, hz in (('low', 200), ('high', 2000)):
        for i in range(6):
            (tmp_path/'tones'/label).mkdir(parents=True, exist_ok=True)
            wave = .3*np.sin(2*np.pi*hz*(1+.02*i)*np.arange(16000)/16000)+.01*rng.normal(size=16000)
            sf.write(tmp_path/'tones'/label/f'{i}.wav', wave, 16000)
    probe = Probe(pipe).fit(tmp_path/'tones')
    assert set(probe.predict(sorted((tmp_path/'tones').rglob('*.wav')))) == {'high', 'low'}
    tuned = finetune(shallow('hubert-group'), tmp_path/'tones', out=tmp_path/'tuned', epochs=2, batch_size=4,
                     device='cuda')
    assert AudioClassifier(tuned.folder, device='cuda').predict_proba(files[:1]).shape == (1, 2)
