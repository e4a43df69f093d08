"""Long recordings in which calls are planted: a synthetic night, and real sounds mixed into noise.

Each gives `(file, start, end)` of the calls that are sought; all else that sounds is there to mislead.
"""
from pathlib import Path

import numpy as np
import soundfile as sf

sr, minutes = 32000, 5


def pink(n, rng, low=150.):
    "Noise whose power falls with frequency, of mean power 1, its level moving slowly by some dB."
    f = np.fft.rfftfreq(n, 1/sr)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(n))/np.sqrt(np.maximum(f, low)), n)
    knots = rng.normal(0, 2, n//(20*sr)+2)
    level = 10**(np.interp(np.arange(n), np.linspace(0, n, len(knots)), knots)/20)
    return wave/wave.std()*level


def tone(hz, seconds, harmonics=(1., .3, .1), rise=.02):
    "A tone that glides through frequencies, with overtones."
    n = round(seconds*sr)
    phase = 2*np.pi*np.cumsum(np.interp(np.arange(n), np.linspace(0, n, len(hz)), hz))/sr
    envelope = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1])/(rise*sr))
    return envelope*sum(a*np.sin((k+1)*phase) for k, a in enumerate(harmonics))


def silence(seconds): return np.zeros(round(seconds*sr))


def target(rng):
    "The call that is sought: two whistles, the second rising."
    f = rng.normal(2400, 120)
    return np.concatenate([tone([f, f*1.02], rng.uniform(.18, .28)), silence(rng.uniform(.06, .12)),
                           tone([f*1.1, f*1.1, f*rng.uniform(1.45, 1.65)], rng.uniform(.25, .4))])


def alike(rng):
    "Much like it: the second whistle falls."
    f = rng.normal(2400, 120)
    return np.concatenate([tone([f, f*1.02], rng.uniform(.18, .28)), silence(rng.uniform(.06, .12)),
                           tone([f*1.1, f*rng.uniform(.7, .85)], rng.uniform(.25, .4))])


def trill(rng):
    f, n = rng.uniform(3500, 5500), rng.integers(8, 20)
    return np.concatenate([o for _ in range(n) for o in (tone([f, f*.8], .03, rise=.005), silence(.02))])


def sweep(rng):
    f = rng.uniform(5000, 7000)
    return tone([f, f*.35], rng.uniform(.3, .8), (1., .2))


def croak(rng):
    f, n = rng.uniform(300, 600), rng.integers(3, 8)
    return np.concatenate([o for _ in range(n)
                           for o in (tone([f, f*.9], .06, (1., .8, .6, .5, .3), .005), silence(.07))])


def hoot(rng):
    f = rng.uniform(380, 700)
    return np.concatenate([tone([f, f*1.05, f], .35, (1., .2)), silence(.25), tone([f, f*.92], .6, (1., .2))])


def burst(rng):
    n = round(rng.uniform(.1, .6)*sr)
    return rng.standard_normal(n)*np.exp(-np.arange(n)/(.3*n))


def cricket(rng):
    f, n = rng.uniform(4200, 6000), rng.integers(10, 60)
    return np.concatenate([o for _ in range(n) for o in (tone([f], .02, (1.,), .004), silence(.045))])


others = [alike, trill, sweep, croak, hoot, burst, cricket]


def places(n, seconds, apart, rng):
    "Starts of calls, no two closer than `apart` seconds."
    gaps = rng.exponential(1, n+1)
    return np.cumsum(gaps/gaps.sum()*(seconds-n*apart))[:-1]+apart*np.arange(n)


def write(folder, name, n_files, calls, rng, noise=.02):
    "Write recordings with calls `(start, samples, dB above the noise, is it sought?)`, and return where those are that are."
    folder.mkdir(parents=True, exist_ok=True)
    n, found = minutes*60*sr, []
    for i in range(n_files):
        wave, file = noise*pink(n, rng), f'{name}_{i:02}.wav'
        for at, call, db, sought in calls:
            k = round((at-i*minutes*60)*sr)
            if not 0 <= k < n-len(call): continue
            wave[k:k+len(call)] += call/np.sqrt((call**2).mean())*noise*10**(db/20)
            if sought: found.append((file, k/sr, (k+len(call))/sr))
        sf.write(folder/file, np.clip(wave, -1, 1).astype(np.float32), sr, 'PCM_16')
    return found


def night(folder, seed, hours=2, n=60, n_others=240):
    "A synthetic night: 60 calls of one kind among others, from 4 dB below the noise up to 14 above."
    rng, seconds = np.random.default_rng(seed), hours*3600
    calls = [(at, target(rng), rng.uniform(-4, 14), True) for at in places(n, seconds, 4, rng)]
    kinds = rng.integers(0, len(others), n_others)
    calls += [(at, others[k](rng), rng.uniform(-4, 14), False)
              for at, k in zip(places(n_others, seconds, 4, rng), kinds)]
    return write(Path(folder), 'night', round(seconds/60/minutes), calls, rng)


def examples(folder, seed, n=5):
    "Five calls of the kind, recorded somewhere else: three seconds each."
    rng, folder = np.random.default_rng(1000+seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        wave, call = .02*pink(3*sr, rng), target(rng)
        at = round(rng.uniform(.3, 1.5)*sr)
        wave[at:at+len(call)] += call/np.sqrt((call**2).mean())*.02*10**(rng.uniform(6, 14)/20)
        sf.write(folder/f'example_{i}.wav', wave.astype(np.float32), sr)
    return folder


def real_sounds(sonic='/usr/share/sonic-pi/samples', tux='/usr/share/tuxpaint/stamps/animals'):
    "Sounds of packages, and the class of each: a sample's type, an animal's group."
    found = [(p, p.name.split('_')[0]) for p in sorted(Path(sonic).glob('*.flac'))]
    return found+[(p, p.relative_to(tux).parts[0]) for p in sorted(Path(tux).rglob('*.ogg')) if '_desc' not in p.name]


def mixed(folder, kind, seed, hours=1, each=60, n_others=200, least=6):
    "Real sounds in noise: a class is sought, all others mislead. Examples are other samples of the class."
    rng, seconds, folder = np.random.default_rng(seed), hours*3600, Path(folder)
    def loaded(path):
        wave, rate = sf.read(path, always_2d=True)
        wave = wave.mean(1)[:2*rate]
        wave = np.interp(np.arange(0, len(wave), rate/sr), np.arange(len(wave)), wave) if rate != sr else wave
        return wave if (wave**2).mean() > 1e-8 else None
    sounds = [(w, k) for p, k in real_sounds() if (w := loaded(p)) is not None]
    ours, rest = [w for w, k in sounds if k == kind], [w for w, k in sounds if k != kind
                                                       and k not in ('loop', 'mehackit')]
    order = rng.permutation(len(ours))
    shown, hidden = [ours[i] for i in order[:5]], [ours[i] for i in order[5:]]
    (folder/'examples').mkdir(parents=True, exist_ok=True)
    for i, w in enumerate(shown):
        wave = .02*pink(3*sr, rng)
        wave[:min(len(w), len(wave))] += (w/np.sqrt((w**2).mean())*.02*10**.5)[:len(wave)]
        sf.write(folder/'examples'/f'{i}.wav', np.clip(wave, -1, 1).astype(np.float32), sr)
    calls = [(at, hidden[rng.integers(len(hidden))], rng.uniform(0, 14), True) for at in places(each, seconds, 4, rng)]
    calls += [(at, rest[rng.integers(len(rest))], rng.uniform(0, 14), False)
              for at in places(n_others, seconds, 4, rng)]
    return write(folder/'sounds', kind, round(seconds/60/minutes), calls, rng)
