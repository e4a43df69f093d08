"""Recordings that a script makes: noise with a moving tone in it."""
import numpy as np
import soundfile as sf

sr = 32000


def write_sound(path, seconds, rng):
    "Write a recording as ogg, in pieces."
    t = np.arange(round(seconds*sr))/sr
    wave = (.05*rng.standard_normal(len(t))+.2*np.sin(2*np.pi*(1000*t+200*np.sin(3*t)))).astype(np.float32)
    with sf.SoundFile(path, 'w', sr, 1) as f:
        for at in range(0, len(wave), sr): f.write(wave[at:at+sr])


def write_sounds(folder, lengths, rng):
    "Write a recording for each length in seconds, and return their paths."
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder/f'{i:04}.ogg') for i in range(len(lengths))]
    for path, seconds in zip(paths, lengths): write_sound(path, seconds, rng)
    return paths
