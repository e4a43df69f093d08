"Thresholds hold what they promise, whatever the scores are like, and how common a class is lies in its interval."
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from auditus.core import AudioInputError, SettingError
from auditus.learn.bounds import count_p_value, weighed_p_value
from auditus.thresholds import Thresholds, draw_clips


def simulated(rng):
    "Scores of a class and the truth: normal, heavy-tailed, skew or of unequal spread; rare or common; well told apart or not at all; some rounded."
    n, prevalence = int(rng.integers(2000, 20_000)), 10**rng.uniform(-2.3, -.2)
    y, apart = rng.random(n) < prevalence, rng.uniform(0, 5)
    x = {0: lambda: rng.normal(0, 1, n)+apart*y, 1: lambda: rng.standard_t(3, n)+apart*y, 2: lambda: rng.gamma(1, 1, n)+apart*y*rng.gamma(2, .5, n),
         3: lambda: rng.normal(0, 1, n)*(1+y*rng.uniform(0, 1.5))+apart*y}[int(rng.integers(4))]()
    s = 1/(1+np.exp(-(x-rng.uniform(0, 4))))
    return (np.round(s, 2) if rng.random() < .2 else s), y


def area_under_curve(s, y):
    from scipy.stats import rankdata
    n = y.sum()
    return (rankdata(s)[y].sum()-n*(n+1)/2)/(n*(len(y)-n)) if 0 < n < len(y) else .5


def by_score(s, n, rng):
    chance = (s+.05)/(s+.05).sum()
    i = rng.choice(len(s), n, p=chance)
    return i, 1/chance[i]


draws = {'ours': lambda s, n, rng: draw_clips(s, n, seed=int(rng.integers(2**31))), 'alike': lambda s, n, rng: (rng.choice(len(s), n, replace=False), np.ones(n)), 'by score': by_score}


def served(how, knows_all, n):
    "Of `n` classes: how many got a threshold, where it held, where the prevalence was in its interval; of those well told apart, how many got one."
    rng = np.random.default_rng(0)
    promised = held = inside = good = served = 0
    for _ in range(n):
        s, y = simulated(rng)
        places, weights = draws[how](s, 60, rng)
        found = Thresholds.fit(s[places], y[places], precision=.9, confidence=.95, weights=weights, population=s if knows_all else None)
        row, t = found.rows[0], found.threshold
        inside += row['low'] <= y.mean() <= row['high']
        well = area_under_curve(s, y) > .9 and y.mean() > .05
        good, served = good+well, served+(well and t is not None)
        if t is None: assert row['missing']
        else: promised, held = promised+1, held+(y[s >= t].mean() >= .9)
    return promised, held, inside, good, served


@pytest.mark.parametrize('how', draws)
def test_precision_and_prevalence_hold(how):
    promised, held, inside, good, got = served(how, True, 60)
    assert inside >= 57 and held >= .95*promised
    if how == 'ours': assert got >= .6*good > 0


@pytest.mark.slow
def test_precision_and_prevalence_hold_for_950_of_1000_classes():
    promised, held, inside, good, got = served('ours', True, 1000)
    assert inside >= 950 and held >= .95*promised > 0 and got >= .6*good > 0


def test_three_in_a_hundred_wrong_are_not_promised_to_be_one():
    assert not Thresholds.fit(np.arange(60.), np.r_[np.ones(58), 0, 0][::-1], precision=.99).threshold


def test_p_values_know_the_extremes(rng):
    assert count_p_value(60, 0, .9, 60) < 1e-12 and count_p_value(0, 60, .9) == 1
    assert weighed_p_value(np.zeros(30), np.ones(30), .9) == 1
    assert weighed_p_value(np.ones(60), np.ones(60), .9) < .05 < weighed_p_value(np.ones(20), np.ones(20), .9)


@pytest.mark.parametrize('n', [1, 2, 3, 10, 60])
def test_a_draw_stands_for_all_however_few_it_has(n, rng):
    places, weights = draw_clips(rng.random(1000), n)
    assert len({*places}) == n and weights.sum() == pytest.approx(1000)


@pytest.mark.parametrize('wrong', [dict(n=0), dict(n=-1), dict(n=2.5), dict(top=0), dict(of_top=1.)])
def test_a_draw_of_nothing_is_refused(wrong, rng):
    with pytest.raises(SettingError, match=f'`{[*wrong][0]}` must be'): draw_clips(rng.random(100), **wrong)


def test_scaling_weights_or_order_changes_nothing(rng):
    s, y = simulated(rng)
    places, w = draw_clips(s)
    a = Thresholds.fit(s[places], y[places], weights=w, population=s)
    order = rng.permutation(len(places))
    b = Thresholds.fit(s[places][order], y[places][order], weights=7*w[order], population=rng.permutation(s))
    assert a.threshold == b.threshold and np.allclose([a.rows[0][k] for k in ('low', 'high')], [b.rows[0][k] for k in ('low', 'high')])


def test_a_recorder_of_which_few_clips_were_drawn_is_not_forgotten():
    "Of one recorder 48 clips were drawn, nearly all right; of another 12 of thousands, and what scores high there is wrong."
    rng, false = np.random.default_rng(0), 0
    for _ in range(60):
        n = int(rng.integers(1000, 6000))
        noisy = rng.random(n) < .05
        s = np.r_[rng.beta(6, 1, 500), np.where(noisy, rng.beta(8, 1, n), rng.beta(1, 6, n))]
        y = np.r_[rng.random(500) < .99, np.zeros(n, bool)]
        drawn = np.r_[rng.choice(500, 48, replace=False), 500+rng.choice(n, 12, replace=False)]
        found = Thresholds.fit(s[drawn], y[drawn], weights=np.r_[np.full(48, 500/48), np.full(12, n/12)], population=s)
        false += found.threshold is not None and y[s >= found.threshold].mean() < .9
        assert found.rows[0]['low'] <= y.mean() <= found.rows[0]['high']
    assert false <= 3


@pytest.mark.parametrize('knows_all', [True, False])
def test_who_judged_the_high_scores_alone_knows_nothing_of_the_rest(knows_all, rng):
    s = rng.random(5000)
    y = rng.random(5000) < s**6
    places, weights = draw_clips(s)
    judged = np.where(weights == weights.min(), y[places], np.nan)
    row = Thresholds.fit(s[places], judged, weights=weights, population=s if knows_all else None).rows[0]
    assert row['prevalence'] is None and row['low'] <= y.mean() <= row['high'] and row['judged'] == 48
    half = np.where((weights == weights.min()) | (np.arange(60) % 2 == 0), y[places], np.nan)
    row = Thresholds.fit(s[places], half, weights=weights, population=s if knows_all else None).rows[0]
    assert row['low'] <= y.mean() <= row['high'] and abs(row['prevalence']-y.mean()) < .2


@pytest.mark.parametrize('kind', [list, tuple, iter, pd.Series, pa.array, lambda a: pa.chunked_array([a])])
def test_numbers_come_in_any_form(kind, rng):
    s, y = rng.random(60), rng.integers(0, 2, 60)
    assert Thresholds.fit(kind(s), kind(y), np.float32(.5), population=kind(s)).rows == Thresholds.fit(s, y, float(np.float32(.5)), population=s).rows


def test_the_columns_of_a_frame_are_classes(rng):
    s = pd.DataFrame(rng.random((60, 2)), columns=['robin', 'wren'])
    y = (s > .2).astype(int)
    for f in (lambda d: d, lambda d: pa.Table.from_pandas(d)):
        assert [r['class'] for r in Thresholds.fit(f(s), f(y)).rows] == ['robin', 'wren']
        with pytest.raises(AudioInputError, match='`labels` must have the columns'): Thresholds.fit(f(s), f(y[['wren', 'robin']]))


def test_what_nobody_judged_of_a_class_says_nothing_of_it(rng):
    s, y = rng.random((80, 2)), np.ones((80, 2))
    y[:, 1] = np.nan
    rows = Thresholds.fit(s, y).rows
    assert rows[0]['threshold'] is not None and rows[1] == {**rows[1], 'threshold': None, 'judged': 0, 'missing': 'nothing was judged'}
    assert Thresholds.fit([.5, .6], [None, 1]).rows[0]['judged'] == 1


def test_saved_and_opened(tmp_path, rng):
    found = Thresholds.fit(rng.random(60), np.ones(60), classes=['wren'])
    found.save(tmp_path/'t.json')
    assert Thresholds.load(tmp_path/'t.json').rows == found.rows and found.table['class'].to_pylist() == ['wren']
    (tmp_path/'t.json').write_text('{"precision": "high", "confidence": 0.95, "classes": []}')
    with pytest.raises(SettingError, match='`precision` must be a number'): Thresholds.load(tmp_path/'t.json')
    assert 'wren: 0.5' in repr(Thresholds([{'class': 'wren', 'threshold': .5, 'missing': None}], .9, .95)) # by hand
    (tmp_path/'t.json').write_text('{}')
    with pytest.raises(SettingError, match='t.json'): Thresholds.load(tmp_path/'t.json')
    with pytest.raises(AudioInputError, match='2 classes'): Thresholds.fit(rng.random((9, 2)), np.ones((9, 2))).accepts(rng.random(3))


def test_few_clips_below_those_that_were_all_heard_do_not_end_the_search(rng):
    "The highest five are judged, each one; then one of two."
    population = np.sort(rng.random(1800))[::-1]
    places = np.r_[:5, 5:105:2]
    weights = np.r_[np.ones(5), np.full(50, 2.)]
    right = (places < 85).astype(float)
    found = Thresholds.fit(population[places], right, precision=.8, weights=weights, population=population).threshold
    assert population[80] >= found >= population[104]
    without = Thresholds.fit(population[places], right, precision=.8, weights=weights).threshold
    assert found <= without, 'who knows how many there are is promised no less'
