"The contract of models: held by all that are registered, and each way of breaking it is found out."
import numpy as np
import pytest
from contract import BatchCounted, FirstCallCounted, OrderCounted, PaddingCounted, SilenceIsNaN, check_saved, checks
from graphs import spectrogram_tflite
from kit import Loudness
from tiny_models import seeded_encoder

from auditus import load_model
from auditus.models.base import ModelFrames, registered
from auditus.models.graph import describe_graph
from auditus.models.learnt import learnt_file, open_trainable


@pytest.fixture(scope='module')
def clmr(tmp_path_factory):
    "SampleCNN with seeded weights."
    import torch
    path = tmp_path_factory.mktemp('clmr')/'clmr.pt'
    torch.save({f'encoder.{k}': v for k, v in seeded_encoder().items()}, path)
    return path


@pytest.fixture(scope='module')
def exported(checkpoint, tmp_path_factory):
    pytest.importorskip('onnxruntime')
    path = tmp_path_factory.mktemp('exported')/'model.onnx'
    load_model(checkpoint('hubert-layer')).export(path)
    return path


@pytest.fixture(scope='module')
def tflite(tmp_path_factory):
    "A graph of somebody else's, described by a file beside it."
    pytest.importorskip('ai_edge_litert')
    path = tmp_path_factory.mktemp('tflite')/'model.tflite'
    spectrogram_tflite(path, np.random.default_rng(0), move=True, magnitude=False, labels=list('abcde'))
    describe_graph(path, sr=16000, pooled='embedding', logits='classes', activation='softmax')
    return path


@pytest.fixture(scope='module')
def learnt(checkpoint, tmp_path_factory):
    "What a model learnt on top of another."
    import torch
    folder, model = tmp_path_factory.mktemp('learnt'), open_trainable({'name': str(checkpoint('hubert-layer'))})
    with torch.no_grad():
        for p in model.net.parameters(): p.mul_(1.01)
    model.save(folder)
    return folder/learnt_file


def filters():
    "A network of somebody's own, with seeded weights."
    import torch
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv1d(1, 8, 400, 160), torch.nn.ReLU(),
                               torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())


def model_of(entry, request):
    "A small model of each kind that is registered."
    named = {'birdnet': lambda: ('birdnet', {}),
             'huggingface': lambda: (request.getfixturevalue('checkpoint')('hubert-layer'), {}),
             'clmr': lambda: ('clmr', {'checkpoint': request.getfixturevalue('clmr')}),
             'onnx': lambda: (request.getfixturevalue('exported'), {}),
             'tflite': lambda: (request.getfixturevalue('tflite'), {}),
             'safetensors': lambda: (request.getfixturevalue('learnt'), {}),
             'callable': lambda: (filters(), {'sr': 16000})}
    assert entry in named, f'tests/test_contract.py does not know how to open a small model of the kind {entry!r}: add it to `model_of`'
    name, settings = named[entry]()
    return load_model(name, **settings)


@pytest.mark.parametrize('entry', registered())
@pytest.mark.parametrize('check', checks)
def test_all_that_are_registered_hold_it(check, entry, request, rng): check(model_of(entry, request), rng)


@pytest.mark.parametrize('entry', registered())
def test_all_that_are_registered_are_saved_whole(entry, request, rng, tmp_path):
    check_saved(model_of(entry, request), rng, tmp_path/'saved')


class Sound(Loudness):
    "Holds the contract."
    pooled_dim, labels, calls = 1, ['loud', 'soft'], 0
    def forward(self, waves, layer=-1):
        frames, mask, *_ = super().forward(waves, layer)
        self.calls += 1
        pooled = np.stack([f[m].mean(0) for f, m in zip(frames, mask)])
        return ModelFrames(frames, mask, pooled, np.concatenate([pooled, -pooled], axis=1))


class PaddingCounts(PaddingCounted, Sound): pass


class BatchDependent(BatchCounted, Sound): pass


class OrderDependent(OrderCounted, Sound): pass


class FirstCallDiffers(FirstCallCounted, Sound): pass


class NaNOfSilence(SilenceIsNaN, Sound): pass


class LabelsShort(Sound): labels = ['loud']


class WrongSize(Sound): frame_dim = 2


class NoSummary(Sound):
    def forward(self, waves, layer=-1): return super().forward(waves, layer)._replace(pooled=None)


class ScalesItsInput(Sound):
    def prepare(self, waves):
        for w in waves: w *= .5
        return waves


class AheadDiffers(Sound):
    def prepare(self, waves): return [w*2 for w in waves]


class Deaf(Sound):
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=np.zeros_like(out.frames), pooled=0*out.pooled, logits=0*out.logits)


def broken(model, rng):
    "The checks that a model fails."
    found = set()
    for check in checks:
        made = model()
        try: check(made, np.random.default_rng(0))
        except AssertionError as e: found.add(str(e).splitlines()[0])
    return found


@pytest.mark.parametrize('model, said', [
    (Sound, set()), (PaddingCounts, {'alone as in a batch'}), (BatchDependent, {'alone as in a batch'}),
    (OrderDependent, {'alone as in a batch', 'in any order'}),
    (FirstCallDiffers, {'the same each time'}), (NaNOfSilence, {'finite on silence'}),
    (LabelsShort, {'labels'}), (WrongSize, {'frame_dim'}), (NoSummary, {'pooled_dim'}),
    (ScalesItsInput, {'waves are left as they are'}),
    (AheadDiffers, {'run(prepare(waves)) is forward(waves)'}), (Deaf, {'another sound, another result'})])
def test_each_way_of_breaking_it_is_found_out(model, said, rng):
    assert said <= broken(model, rng) and (said or not broken(model, rng))
