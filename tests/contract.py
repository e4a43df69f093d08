"What every model owes the library, as checks of a model at hand. Each raises an AssertionError that names what is broken."
import numpy as np

from auditus import AudioPipeline
from auditus.models.base import AudioModel

tolerance = 1e-5  # of float32, beside the largest number


def waves_for(model, rng):
    "Sounds of several lengths that the model takes whole: noise, a tone, and one as short as it takes."
    longest = model.context or 1.2
    if model.token_samples: longest = max(longest, 2*model.token_samples/model.sr)
    n = [round(s*longest*model.sr) for s in (1, .5, .8)]
    made = [rng.normal(0, .1, n[0]), .5*np.sin(np.arange(n[1])*.1), rng.normal(0, .1, n[2]),
            rng.normal(0, .1, max(model.min_samples, model.token_samples or 1))]
    return [w.astype(np.float32)[:round(longest*model.sr) if model.context else None] for w in made]


def parts(out, row):
    "All that a model said of a wave, as numpy arrays by name; frames of padding left out."
    def plain(a): return np.asarray(a.detach().cpu() if hasattr(a, 'detach') else a)
    found = {'frames': plain(out.frames[row])[plain(out.mask[row]).astype(bool)]}
    return found | {k: plain(v[row]) for k, v in (('pooled', out.pooled), ('logits', out.logits)) if v is not None}


def same(a, b):
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and np.abs(a[k]-b[k]).max(initial=0) <= tolerance*max(1, np.abs(b[k]).max(initial=0)) for k in a)


def check_sizes(model, rng):
    waves = waves_for(model, rng)
    out = model.forward(waves)
    assert out.frames.shape[0] == len(waves) and out.frames.shape[:2] == out.mask.shape, 'frames and mask'
    for row in range(len(waves)):
        found = parts(out, row)
        assert found['frames'].ndim == 2 and found['frames'].shape[0] and found['frames'].shape[1] == model.frame_dim, 'frame_dim'
        assert ('pooled' in found) == (model.pooled_dim is not None) and ('pooled' not in found or found['pooled'].shape == (model.pooled_dim,)), 'pooled_dim'
        assert model.labels is None or found['logits'].shape == (len(model.labels),), 'labels'
        assert all(np.isfinite(v).all() for v in found.values()), 'finite'


def check_alone(model, rng):
    waves = waves_for(model, rng)
    out = model.forward(waves)
    for row, w in enumerate(waves): assert same(parts(out, row), parts(model.forward([w]), 0)), 'alone as in a batch'


def check_order(model, rng):
    waves = waves_for(model, rng)
    out, back = model.forward(waves), model.forward(waves[::-1])
    for row in range(len(waves)): assert same(parts(out, row), parts(back, len(waves)-1-row)), 'in any order'


def check_twice(model, rng):
    w = waves_for(model, rng)[:1]
    first = parts(model.forward(w), 0)
    assert all(same(parts(model.forward(w), 0), first) for _ in range(2)), 'the same each time'


def check_ahead(model, rng):
    waves = waves_for(model, rng)
    given = [w.copy() for w in waves]
    out, ahead = model.forward(waves), model.run(model.prepare(waves))
    assert all(np.array_equal(a, b) for a, b in zip(waves, given)), 'waves are left as they are'
    for row in range(len(waves)):
        assert same(parts(out, row), parts(ahead, row)), 'run(prepare(waves)) is forward(waves)'


def check_silence(model, rng):
    for n in (model.min_samples, len(waves_for(model, rng)[0])):
        found = parts(model.forward([np.zeros(max(n, model.token_samples or 1), np.float32)]), 0)
        assert all(np.isfinite(v).all() for v in found.values()), 'finite on silence'


def check_hears(model, rng):
    waves = waves_for(model, rng)
    assert not same(parts(model.forward(waves[:1]), 0), parts(model.forward([waves[0][::-1].copy()]), 0)), 'another sound, another result'


def check_saved(model, rng, folder):
    "Of models that can be saved: a saved pipeline opens, and says the same."
    w = (waves_for(model, rng)[0], model.sr)
    pipe = AudioPipeline(model)
    if type(model).save is AudioModel.save: return
    pipe.save(folder)
    again = AudioPipeline.load(folder)
    assert np.abs(again(w)-pipe(w)).max() <= tolerance and again.model.weights_hash() and model.weights_hash(), 'saved and opened'


checks = [check_sizes, check_alone, check_order, check_twice, check_ahead, check_silence, check_hears]


# Defects, as bases that stand before a model's own: what it makes is right but for that

class PaddingCounted:
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(mask=np.ones_like(out.mask))


class BatchCounted:
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames/out.frames.max())


class OrderCounted:
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames*(1+np.arange(len(waves)))[:, None, None])


class FirstCallCounted:
    "Of a model that counts its `calls`."
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        return out._replace(frames=out.frames+.01*(self.calls == 1))


class SilenceIsNaN:
    def forward(self, waves, layer=-1):
        out = super().forward(waves, layer)
        with np.errstate(invalid='ignore', divide='ignore'): return out._replace(pooled=out.pooled/out.pooled)
