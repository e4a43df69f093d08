"A sound that is embedded while it is heard: the rows of the file, however it was cut into blocks."
import numpy as np
import pytest
import soundfile as sf
from kit import Loudness

from auditus import AudioInputError, AudioPipeline, SettingError
from auditus.models.base import ModelFrames


class Levels(Loudness):
    "The mean, the level and the first sample of a wave: whatever is moved by a sample shows."
    frame_dim, min_samples = 3, 1
    def forward(self, waves, layer=-1):
        made = np.float32([[[w.mean(), np.sqrt((w**2).mean()), w[0]]] for w in waves])
        return ModelFrames(made, np.ones(made.shape[:2], bool))


def told(rows): return [(r.start, r.end, r.channel, r.vector.tobytes()) for r in rows]


def blocks_of(rng, a, most):
    "Blocks of random sizes, some of them empty."
    cuts = np.sort(rng.integers(0, a.shape[-1]+1, rng.integers(0, most)))
    return np.split(a, cuts, axis=-1)


def test_ten_thousand_cuts_make_no_difference(rng, tmp_path):
    made = [(dict(window=.25), 1000, 1), (dict(window=.3, hop=.1, pad='wrap'), 1000, 1),
            (dict(window=.2, pad='drop'), 1600, 1),
            (dict(window=.25, mono=False), 1000, 2), (dict(window=.11, channel=1, pad='zero'), 800, 2),
            (dict(window=.5), 44100, 2)]
    for settings, sr, channels in made:
        pipe, a = AudioPipeline(Levels(), **settings), rng.normal(0, .1, (channels, round(1.13*sr))).astype(np.float32)
        a = a[0] if channels == 1 else a
        sf.write(tmp_path/'x.wav', a.T, sr, subtype='FLOAT')
        wanted = told(pipe.stream(tmp_path/'x.wav'))
        assert len(wanted) > 1
        for _ in range(10_000//len(made)):
            assert told(pipe.live(sr).rows(blocks_of(rng, a, 12))) == wanted


def test_rows_come_when_their_windows_end(rng):
    live = AudioPipeline(Levels(), window=1.).live(1000, name='porch')
    came = [live.push(rng.normal(0, .1, n)) for n in (999, 1, 1500, 0, 500)]
    assert [[(r.file, r.start, r.end) for r in rows] for rows in came] == [[], [('porch', 0., 1.)], [('porch', 1., 2.)], [], [('porch', 2., 3.)]]
    assert live.close() == []
    with pytest.raises(AudioInputError, match="'porch' was closed"): live.push(np.zeros(5))


@pytest.mark.parametrize('window', [3, 5])
def test_birdnet_hears_the_same(window, sounds, rng):
    pipe, x = AudioPipeline('birdnet', window=window, hop=2.5), sf.read(sounds/'long.ogg', dtype='float32')
    wanted = told(pipe.stream(str(sounds/'long.ogg')))
    for _ in range(3): assert told(pipe.live(x[1]).rows(blocks_of(rng, x[0], 9))) == wanted


def test_what_can_not_be_heard_live():
    for window in ('auto', None):
        with pytest.raises(SettingError, match='no end to wait for: give the windows in seconds'): AudioPipeline(Levels(), window=window).live(1000)
    pipe = AudioPipeline(Levels(), window=1.)
    with pytest.raises(SettingError, match='leave out your own .loader'):
        pipe.with_step('loader', lambda x: x).live(1000)
    with pytest.raises(AudioInputError): pipe.live(0)
    with pytest.raises(AudioInputError, match='too short: not a sample'): pipe.live(1000).close()
    with pytest.raises(AudioInputError, match='NaN'): pipe.live(1000).push(np.full(5, np.nan))
    with pytest.raises(AudioInputError, match='too short to resample'):
        list(pipe.live(48000).rows([np.zeros(1, np.float32)]))
