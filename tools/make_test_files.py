"""Make the synthetic sounds of test_files/: python tools/make_test_files.py [folder]

The same seed gives the same samples (to rounding). The bytes of the files are not promised: encoders differ
between libsndfile versions, and an Ogg stream takes a new serial number each time it is written.
"""
import sys
from pathlib import Path

import numpy as np
import soundfile as sf

SEED = 2024
PEAK = 0.5  # half of full scale: room for what lossy encoders and resamplers overshoot
FADE_SECONDS = 0.01  # long enough that no sound clicks, short enough to keep an attack
NOISE_FLOOR = 0.001  # -60 dB: inaudible, but keeps log spectrograms free of digital silence
CHUNK_SECONDS = 1  # libsndfile has crashed on a minute of Ogg given in one call
VORBIS_COMPRESSION = 0.2  # 0 is best, 1 smallest; the default lets peaks overshoot by a third


def times(seconds, rate):
    """Sample times from 0 up to `seconds`."""
    return np.arange(round(seconds * rate)) / rate


def faded(x, rate, seconds=FADE_SECONDS):
    """`x` with a raised-cosine ramp at either end."""
    n = min(round(seconds * rate), len(x) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)
    envelope = np.ones(len(x))
    envelope[:n], envelope[len(x) - n:] = ramp, ramp[::-1]
    return (x.T * envelope).T


def tone(hz, rate, levels=(1,)):
    """Harmonics at `levels` of a fundamental which is `hz` at each sample."""
    phase = 2 * np.pi * np.cumsum(hz) / rate
    # A harmonic past the Nyquist frequency would come back as an alias.
    return sum(level * np.sin(k * phase) * (k * np.max(hz) < rate / 2) for k, level in enumerate(levels, 1))


def steady(hz, seconds, rate, levels=(1,)):
    """A tone of one frequency."""
    return tone(np.full(round(seconds * rate), float(hz)), rate, levels)


def decay(seconds, rate, half_seconds):
    """An envelope that halves every `half_seconds`."""
    return 0.5 ** (times(seconds, rate) / half_seconds)


def noise(rng, seconds, rate, low_hz=0., high_hz=np.inf):
    """Noise of unit power between two frequencies."""
    n = round(seconds * rate)
    hz = np.fft.rfftfreq(n, 1 / rate)
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * ((low_hz <= hz) & (hz <= high_hz)), n)
    return x / x.std()


def mix(rng, seconds, rate, events):
    """The noise floor with each (start in seconds, level, sound) of `events` added, its ends faded."""
    out = NOISE_FLOOR * noise(rng, seconds, rate)
    for start_seconds, level, x in events:
        start = round(start_seconds * rate)
        x = faded(x, rate)[:len(out) - start]
        out[start:start + len(x)] += level * x
    return out


def note_hz(midi):
    """Frequency of a MIDI note number, 69 being the A of 440 Hz."""
    return 440 * 2 ** ((midi - 69) / 12)


def chirp(rng, rate):
    """A bird-like phrase of a rising and a falling note, four times over."""
    def glide(from_hz, to_hz, seconds):
        u = times(seconds, rate) / seconds
        hz = from_hz * (to_hz / from_hz) ** (0.5 - 0.5 * np.cos(np.pi * u))
        return tone(hz, rate, (1, 0.25, 0.08)) * np.sin(np.pi * u) ** 2

    rise, fall = glide(2800, 4300, 0.16), glide(5700, 2300, 0.28)
    starts = 0.15 + 0.72 * np.arange(4) + rng.uniform(-0.02, 0.02, 4)
    levels = rng.uniform(0.7, 1, 4)
    return mix(rng, 3, rate, [event for start, level in zip(starts, levels)
                              for event in ((start, 0.8 * level, rise), (start + 0.19, level, fall))])


def stereo(rng, rate):
    """A plucked string to the left, then a higher bell to the right."""
    seconds, near, far = 2, 0.95, 0.12
    t = times(seconds, rate)
    # The higher harmonics of a string die first; the partials of a bell are not harmonics.
    string = sum(0.7 ** k * np.sin(2 * np.pi * 196 * k * t) * decay(seconds, rate, 0.3 / k)
                 for k in range(1, 13))
    bell = sum(level * np.sin(2 * np.pi * 880 * ratio * t) * decay(seconds, rate, 0.35 / ratio)
               for ratio, level in ((1, 1), (2.76, 0.5), (5.4, 0.25)))
    strings, bells = [(0.05, 0.8, string), (1.05, 0.6, string)], [(0.55, 0.7, bell)]
    left, right = mix(rng, seconds, rate, strings), mix(rng, seconds, rate, bells)
    return np.stack([near * left + far * right, far * left + near * right], 1)


def resonator(x, hz, bandwidth_hz, rate):
    """`x` through a two-pole resonator whose frequency is `hz` at each sample."""
    radius = np.exp(-np.pi * bandwidth_hz / rate)
    feedback = 2 * radius * np.cos(2 * np.pi * hz / rate)
    driven = (1 - feedback + radius ** 2) * x  # unit gain at 0 Hz, as in a cascade of formants
    out, last, before = np.empty(len(x)), 0., 0.
    for i, (a, d) in enumerate(zip(feedback.tolist(), driven.tolist())):
        last, before = d + a * last - radius ** 2 * before, last
        out[i] = last
    return out


def speech_like(rng, rate):
    """Syllables of a gliding voice: glottal pulses through three formants, some begun by a hiss."""
    seconds, open_part, formant_bandwidths_hz = 3, 0.6, (80, 100, 140)
    vowels_hz = dict(a=(730, 1090, 2440), e=(530, 1840, 2480), i=(270, 2290, 3010),
                     o=(570, 840, 2410), u=(300, 870, 2240))
    # Start and length in seconds, vowel.
    syllables = ((0.15, 0.22, 'a'), (0.43, 0.26, 'i'), (0.76, 0.20, 'o'), (1.02, 0.36, 'e'),
                 (1.65, 0.22, 'u'), (1.93, 0.26, 'a'), (2.27, 0.20, 'e'), (2.50, 0.38, 'i'))
    t = times(seconds, rate)
    # Either half falls in pitch and the second ends lower, as in a statement; the sine is a slight waver.
    pitch_hz = np.interp(t, (0.1, 0.4, 1.4, 1.6, 1.9, 3), (125, 155, 110, 115, 140, 90))
    phase = np.cumsum(pitch_hz + 3 * np.sin(2 * np.pi * 5 * t)) / rate % 1
    glottis = np.where(phase < open_part, 0.5 - 0.5 * np.cos(2 * np.pi * phase / open_part), 0)
    breath = 0.02 * noise(rng, seconds, rate)
    voice = np.diff(glottis + breath, prepend=0)  # lips radiate the change of the flow
    middles = [start + length / 2 for start, length, _ in syllables]
    for formant, bandwidth_hz in enumerate(formant_bandwidths_hz):
        hz = np.interp(t, middles, [vowels_hz[vowel][formant] for *_, vowel in syllables])
        voice = resonator(voice, hz, bandwidth_hz, rate)
    envelope = np.zeros(len(t))
    for start, length, _ in syllables:
        envelope += np.sin(np.pi * np.clip((t - start) / length, 0, 1)) ** 0.7
    hiss = faded(noise(rng, 0.09, rate, 3500, 7000), rate, 0.04)
    hisses = [(start - 0.07, 0.04, hiss) for start, *_ in syllables[::3]]
    voice *= envelope
    return mix(rng, seconds, rate, [(0, 1 / np.abs(voice).max(), voice), *hisses])


def music_like(rng, rate):
    """Two bars at 120 beats a minute: a melody, four chords and a soft drum."""
    beat_seconds, bar_beats = 0.5, 4
    # Melody: beat, beats it lasts, MIDI note. Chords (C, A minor, F, G), of two beats: beat, notes.
    melody = ((0, 1, 76), (1, 0.5, 79), (1.5, 0.5, 76), (2, 1, 72), (3, 0.5, 74), (3.5, 0.5, 76),
              (4, 1, 77), (5, 0.5, 81), (5.5, 0.5, 77), (6, 0.5, 74), (6.5, 0.5, 71), (7, 1, 72))
    chords = ((0, (48, 60, 64, 67)), (2, (45, 57, 60, 64)), (4, (41, 57, 60, 65)), (6, (43, 55, 59, 62)))

    def played(midi, beats, half_seconds, levels):
        seconds = beats * beat_seconds
        return steady(note_hz(midi), seconds, rate, levels) * decay(seconds, rate, half_seconds)

    events = [(beat * beat_seconds, 0.3, played(midi, beats, 0.2, (1, 0.5, 0.25, 0.12, 0.06)))
              for beat, beats, midi in melody]
    events += [(beat * beat_seconds, 0.09, played(midi, 2, 0.6, (1, 0.4, 0.2)))
               for beat, chord in chords for midi in chord]
    # A drum skin slackens as it rings, so its pitch falls.
    drum = tone(55 + 60 * decay(0.2, rate, 0.02), rate) * decay(0.2, rate, 0.05)
    brush = noise(rng, 0.08, rate, 5000, 10000) * decay(0.08, rate, 0.015)
    for beat in range(2 * bar_beats):
        events += [(beat * beat_seconds, 0.25 if beat % 2 else 0.5, drum),
                   ((beat + 0.5) * beat_seconds, 0.06, brush)]
    return mix(rng, 2 * bar_beats * beat_seconds, rate, events)


def long(rng, rate):
    """Slow low events for 10.5 s, then 1.5 s of bright trill that a 10.24 s window does not reach."""
    def swell(x): return x * np.sin(np.pi * np.arange(len(x)) / len(x))

    trill_seconds = 1.5
    t = times(trill_seconds, rate)
    trill = tone(4000 + 700 * np.sin(2 * np.pi * 14 * t), rate)
    trill += 0.15 * noise(rng, trill_seconds, rate, 3000, 7500)
    knock = steady(330, 0.25, rate, (1, 0.5, 0.3)) * decay(0.25, rate, 0.04)
    rise = tone(np.geomspace(200, 1200, round(2.4 * rate)), rate, (1, 0.3))
    wind = noise(rng, 2.2, rate, 150, 900)
    hum = steady(110, 2.8, rate, (1, 0.6, 0.4, 0.2))
    knocks = [(start, 0.5, knock) for start in np.arange(2.9, 5.2, 0.4)]
    return mix(rng, 12, rate, [(0, 0.5, swell(hum)), *knocks, (5.4, 0.4, swell(rise)),
                               (8.0, 0.2, swell(wind)), (10.5, 0.8, trill)])


def telephone(rng, rate):
    """Dial tone, four keyed digits and a ring over the hiss of a telephone line."""
    seconds = 2
    def pair(low_hz, high_hz, length): return steady(low_hz, length, rate) + steady(high_hz, length, rate)

    keys_hz = ((697, 1209), (770, 1336), (852, 1477), (941, 1336))  # 1, 5, 9 and 0
    keys = [(0.6 + 0.16 * i, 0.4, pair(*key_hz, 0.1)) for i, key_hz in enumerate(keys_hz)]
    line = noise(rng, seconds, rate, 300, 3400)
    return mix(rng, seconds, rate, [(0, 0.02, line), (0.05, 0.3, pair(350, 440, 0.45)), *keys,
                                    (1.3, 0.35, pair(440, 480, 0.65))])


SOUNDS = {  # file: maker, rate in Hz, encoding (the container follows from the name)
    'chirp.ogg': (chirp, 32000, 'VORBIS'),
    'stereo.flac': (stereo, 44100, 'PCM_16'),
    'speech_like.wav': (speech_like, 16000, 'PCM_16'),
    'music_like.wav': (music_like, 22050, 'PCM_16'),
    'long.ogg': (long, 16000, 'VORBIS'),
    'telephone.mp3': (telephone, 8000, 'MPEG_LAYER_III'),
}


def samples(name):
    """The samples of one file, as (frames,) or (frames, channels), and their rate."""
    maker, rate, _ = SOUNDS[name]
    # Seeded by name too, so that a new sound leaves the others as they are.
    x = faded(maker(np.random.default_rng([SEED, *name.encode()]), rate), rate)
    return PEAK * x / np.abs(x).max(), rate


def write(path, x, rate, encoding):
    """Write `x` in chunks."""
    channels = 1 if x.ndim == 1 else x.shape[1]
    compression = VORBIS_COMPRESSION if encoding == 'VORBIS' else None
    with sf.SoundFile(path, 'w', rate, channels, encoding, compression_level=compression) as f:
        for start in range(0, len(x), CHUNK_SECONDS * rate): f.write(x[start:start + CHUNK_SECONDS * rate])


def main(folder=Path(__file__).parents[1] / 'test_files'):
    """Write every sound into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (*_, encoding) in SOUNDS.items():
        write(folder / name, *samples(name), encoding)
        info = sf.info(folder / name)
        print(f'{name:16} {info.duration:6.2f} s {info.samplerate:6} Hz {info.channels} ch '
              f'{(folder / name).stat().st_size:7} bytes')


if __name__ == '__main__': main(*sys.argv[1:2])
