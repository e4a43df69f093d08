"A labelling session: judgements that no kill loses, what is chosen, what is learnt, what is promised, two people."
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import noise

from auditus import AudioArray, AudioLoader, AudioPipeline, Clip, SettingError
from auditus.collection.annotations import read_annotations, write_annotations
from auditus.core import AudioInputError, AudioNotFoundError
from auditus.extract import extract
from auditus.review import Session
from auditus.session.heads import draw_background, fit_linear, linear_logits, mean_cosines, usual
from auditus.session.log import Log
from auditus.session.measures import call_density
from auditus.thresholds import draw_review

pytest.importorskip('sklearn')
n, per_file = 2000, 100


@pytest.fixture(scope='module')
def truth():
    has_call = np.zeros(n, bool)
    has_call[np.random.default_rng(1).choice(n, 40, replace=False)] = True
    return has_call


@pytest.fixture(scope='module')
def table(truth):
    X = np.random.default_rng(2).normal(0, 1, (n, 24)).astype(np.float32)
    X[truth, :4] += 2.5
    start = np.arange(n) % per_file*3.
    return X, pa.table({'file': [f'{i//per_file:02}.wav' for i in range(n)], 'start': start, 'end': start+3})


@pytest.fixture
def session(table, truth, tmp_path):
    s = Session(table, folder=tmp_path/'s', who='ada')
    return s.add('owl', [*table[0][np.flatnonzero(truth)[:3]]])


def judge(s, truth, k, by='similar', label='owl'):
    for clip in s.next(k, label, by): s.judge(clip, label, bool(truth[s.rows.locate(clip)]))
    return s


def test_a_table_that_keeps_channels_apart(tmp_path):
    "A call is in the right channel alone: it is played, found and written as that, and the session opens again."
    rng, sr = np.random.default_rng(0), 8000
    wave = rng.normal(0, .05, (60*sr, 2)).astype(np.float32)
    calls = np.arange(2, 60, 6)
    for at in calls: wave[at*sr:(at+1)*sr, 1] += .5*np.sin(2*np.pi*1000*np.arange(sr)/sr)
    sf.write(tmp_path/'night.wav', wave, sr, 'FLOAT')

    def spectrum(waves): return np.abs(np.fft.rfft(waves))[:, :4096].reshape(len(waves), 32, -1).mean(-1)
    pipe = AudioPipeline(spectrum, target_sr=sr, name='spectrum', window=1, mono=False)
    extract(tmp_path/'night.wav', tmp_path/'t.parquet', pipe)
    X, rows = np.stack([*map(np.asarray, pq.read_table(tmp_path/'t.parquet')['embedding'].to_pylist())]), pq.read_table(tmp_path/'t.parquet').drop_columns('embedding')
    s = Session((X, rows), tmp_path, tmp_path/'s')
    name = rows['file'][0].as_py()
    s.add('beep', Clip(str(tmp_path/name), 2., 3., channel=1))
    clips = s.next(9, 'beep')
    assert {c.channel for c in clips} == {1} and {c.start for c in clips} == {*calls[1:].astype(float)}
    heard = AudioLoader()(clips[0])
    assert np.array_equal(heard.a, wave[int(clips[0].start)*sr:int(clips[0].end)*sr, 1])
    for c in clips: s.judge(c, 'beep')
    s.judge(Clip(str(tmp_path/name), 2., 3., channel=0), 'beep', False)
    again = Session((X, rows), tmp_path, tmp_path/'s')
    assert repr(again).splitlines()[1] == 'beep: 10 yes, 1 no, 0 unsure'
    with pytest.raises(AudioInputError, match='rows for each channel'): again.judge(Clip(str(tmp_path/name), 2., 3.))
    again.export(tmp_path/'found.csv', 'csv')
    found = pa.csv.read_csv(tmp_path/'found.csv')
    assert found['channel'].to_pylist() == [1]*10 and found['start'].to_pylist() == calls.tolist()
    assert len(again.export(tmp_path/'clips', 'clips').files) == 10
    # the table of scores goes on to be reviewed, and tells channels apart as well
    again.learn()
    drawn = draw_review(again.score('beep'), 200)
    assert len(drawn) == 120-11 and {r['channel'] for r in drawn} == {0, 1}


# The log

judging = """
import numpy as np, pyarrow as pa, sys
from auditus.review import Session
t = pa.table({'file': ['a.wav']*3000, 'start': np.arange(3000.), 'end': np.arange(3000.)+1})
s = Session((np.eye(4, dtype=np.float32)[np.arange(3000) % 4], t), folder=sys.argv[1])
done = len(s.states['owl'].judged) if 'owl' in s.states else 0
for i in range(done, 3000):
    s.judge(i, 'owl', i % 3 == 0)
    print(i, flush=True)
"""


@pytest.mark.parametrize('times', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_kill_loses_no_judgement(times, tmp_path):
    "It is killed after a number of judgements that chance picks, and within the next one."
    rng, told = np.random.default_rng(times), []
    for _ in range(times):
        child = subprocess.Popen([sys.executable, '-c', judging, tmp_path/'s'], stdout=subprocess.PIPE, text=True)
        for _ in range(int(rng.integers(1, 25))): told.append(int(child.stdout.readline()))
        time.sleep(float(rng.uniform(0, .01)))
        child.send_signal(signal.SIGTERM if os.name == 'nt' else signal.SIGKILL)
        told += map(int, child.stdout.read().splitlines())  # what it acknowledged meanwhile
        child.wait()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        records = [r for r in Log(tmp_path/'s/judgements.jsonl').records if r['kind'] == 'judgement']
    kept = {int(r['start']): r['value'] for r in records}
    assert {*told} <= {*kept} and all(v == (i % 3 == 0) for i, v in kept.items())
    assert len(kept) == len(records) <= len(told)+times  # none twice, and at most one each that nobody was told of


def test_half_a_line_at_the_end_is_left_out(session, truth, table):
    judge(session, truth, 5)
    path = session.folder/'judgements.jsonl'
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 10, len(lines[-1])-1):
        path.write_bytes(whole[:-cut])
        again = Session(table, folder=session.folder)
        assert len(again.states['owl'].judged) == 4
        again.judge(again.next(1)[0], 'owl', None)
        assert path.read_bytes().startswith(whole[:len(whole)-len(lines[-1])]) and len(Log(path).records) == len(lines)


def test_a_damaged_line_is_told_of(session, truth, table):
    judge(session, truth, 5)
    path = session.folder/'judgements.jsonl'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines[:-2], lines[-2][:30], lines[-1]])+'\n')
    with pytest.warns(UserWarning, match='since damaged: 1 line'): again = Session(table, folder=session.folder)
    assert len(again.states['owl'].judged) == 4


def test_two_processes_in_one_folder_add_to_one_log(session, truth, table):
    other = Session(table, folder=session.folder)
    for i in range(6): (session, other)[i % 2].judge(i, 'owl', False)
    assert len(Session(table, folder=session.folder).states['owl'].judged) == 6 == len(session.next(1) and other.states['owl'].judged)


def test_undo_takes_back_one_after_the_other(session, truth):
    clips = session.next(3)
    for c in clips: session.judge(c, value=True)
    assert [session.rows.locate(session.undo()) for _ in range(3)] == [session.rows.locate(c) for c in clips[::-1]]
    assert not session.states['owl'].judged and session.next(3) == clips
    for _ in range(3): assert session.undo()['kind'] == 'example'
    assert session.undo() is None and not session.states


# What is chosen

def test_before_anything_was_fitted_the_most_alike_come_first(session, truth, table):
    (_, B, mean, scale), X = session.background, table[0]
    def unit(a): return a/np.linalg.norm(a, axis=-1, keepdims=True)
    by_hand = (unit((X-mean)/scale)@unit((X[np.flatnonzero(truth)[:3]]-mean)/scale).T).mean(1)
    wanted = np.argsort(-by_hand)[:10]
    assert [session.rows.locate(c) for c in session.next(10)] == wanted.tolist()


def test_next_gives_the_same_until_it_is_judged_or_skipped(session):
    a, b = session.next(2)
    assert session.next(2) == [a, b]
    session.skip(a)
    assert a not in session.next(50) and session.next(1) == [b]
    session.judge(b, value=None)  # unsure counts as heard
    assert b not in session.next(50) and session.states['owl'].rows(None) == [session.rows.locate(b)]


def test_strategies(session, truth):
    with pytest.raises(SettingError, match='call fit'): session.next(1, by='threshold')
    judge(session, truth, 20).fit()
    score = session.score()['score'].to_numpy()
    of = {by: np.array([session.rows.locate(c) for c in session.next(20, by=by)]) for by in ('top', 'uncertain', 'diverse', 'random')}
    judged = [*session.states['owl'].judged]
    left = np.setdiff1d(np.arange(n), judged)
    assert of['top'].tolist() == left[np.argsort(-score[left], kind='stable')][:20].tolist()
    assert np.abs(score[of['uncertain']]-.5).max() <= np.sort(np.abs(score[left]-.5))[19]+1e-9
    assert score[of['diverse']].mean() > score[left].mean() and not np.isin(np.concatenate([*of.values()]), judged).any()
    plan = session.next(100, by='threshold')
    assert len(plan) == 60 == len({*map(str, plan)})


def test_nothing_to_go_on(table, tmp_path):
    s = Session(table, folder=tmp_path)
    with pytest.raises(SettingError, match="by='diverse' or by='random'"): s.next(1, 'owl')
    assert len(s.next(5, 'owl', 'diverse')) == len(s.next(5, 'owl', 'random')) == 5
    with pytest.raises(SettingError, match='there is nothing to learn from'): s.fit()
    with pytest.raises(SettingError, match='`label` must name what'): s.next(1)
    s.judge(0, 'owl', False)
    with pytest.raises(SettingError, match='nothing was judged yes'): s.fit()


def test_windows_that_overlap_are_heard_once(tmp_path):
    X = np.random.default_rng(0).normal(0, 1, (300, 8)).astype(np.float32)
    X[100:103] += 5
    s = Session((X, pa.table({'file': ['a.wav']*300, 'start': np.arange(300.), 'end': np.arange(300.)+3})), folder=tmp_path)
    s.add('owl', X[101]+.1)
    assert len({100, 101, 102} & {s.rows.locate(c) for c in s.next(10)}) == 1


def test_the_whole_table_can_be_judged(truth, tmp_path):
    X, t = np.random.default_rng(0).normal(0, 1, (30, 4)), pa.table({'file': [f'{i}.wav' for i in range(30)]})
    s = Session((X, t), folder=tmp_path).add('owl', X[0])
    for by in ('similar', 'random'):
        while clips := s.next(7, by=by): [s.judge(c, value=False) for c in clips]
    assert len(s.states['owl'].judged) == 30 and s.next(3) == []


# What is learnt

def test_learning_beats_the_examples_and_needs_one_class_only(session, truth):
    from sklearn.metrics import average_precision_score as precision
    only_yes = precision(truth, (session.fit(), session.score())[1]['score'])
    for by in ('similar', 'uncertain', 'top'): judge(session, truth, 15, by).fit()
    assert only_yes > .5 and precision(truth, session.score()['score']) > max(.95, only_yes)


def test_scores_are_those_of_the_head_by_hand(session, truth, table):
    judge(session, truth, 20).fit()
    head, X = session._head(['owl']), table[0]
    logits = (X-head['mean'])/head['scale']@head['weight'][0]+head['bias'][0]
    assert np.abs(session.score()['score'].to_numpy()-1/(1+np.exp(-logits))).max() < 1e-5


def test_a_mapped_matrix_in_any_blocks_gives_the_same(table, truth, tmp_path, monkeypatch):
    X = table[0]
    np.save(tmp_path/'X.npy', X.astype(np.float16))
    mapped = np.load(tmp_path/'X.npy', mmap_mode='r')
    mean, scale = usual(draw_background(mapped, 0)[1])
    weight, bias = fit_linear(X[truth][:5], X[:5], X[50:500], mean, scale, .1)
    head = dict(weight=weight[None], bias=np.array([bias]), mean=mean, scale=scale)
    before = linear_logits(mapped, head), mean_cosines(mapped, X[:3], mean, scale)
    monkeypatch.setattr('auditus.session.heads.block_rows', 77)
    after = linear_logits(mapped, head), mean_cosines(mapped, X[:3], mean, scale)
    assert all(np.abs(a-b).max() < 1e-4 for a, b in zip(before, after))


def test_the_sample_is_not_learnt_from(session, truth):
    judge(session, truth, 20).fit()
    before = session.score()['score'].to_numpy()
    judge(session, truth, 40, 'threshold').fit()
    assert (session.score()['score'].to_numpy() == before).mean() < 1  # fewer rows stand for no
    assert np.abs(session.score()['score'].to_numpy()-before).max() < .05
    assert not {*session.states['owl'].rows(True, 'threshold')} & {*session.states['owl'].learnt_from(True)}


def test_labels_do_not_mix(session, truth, table):
    judge(session, truth, 10)
    session.add('fox', table[0][7])
    with pytest.raises(SettingError, match='fox, owl'): session.next(1)
    assert session.states['fox'].judged == {} and len(session.states['owl'].judged) == 10
    session.fit()
    assert session.score('fox')['label'].to_pylist() == ['fox']*n and session._head(session.labels)['weight'].shape == (2, 24)


# What is promised

def test_thresholds_and_density_hold(table, tmp_path):
    "Many calls, hard to tell: what is promised at .9 is kept, and the interval holds the number of rows."
    rng = np.random.default_rng(5)
    truth = rng.random(n) < .2
    X = table[0].copy()
    X[truth, :3] += 1.8
    s = Session((X, table[1]), folder=tmp_path)
    s.add('owl', X[np.flatnonzero(truth)[:5]][0])
    for by in ('similar', 'uncertain', 'top'): judge(s, truth, 20, by).fit()
    for _ in range(3): judge(s, truth, 60, 'threshold')
    found, report = s.thresholds(.8), s.report(.8)
    above = (s.score()['score'].to_numpy() >= found.threshold) & (s.score()['judged'].to_numpy(zero_copy_only=False) == None)  # noqa: E711
    assert above.sum() > 5 and truth[above].mean() >= .8
    d = report['owl']['density']
    assert d.low <= truth.sum() <= d.high and d.drawn == 180 and d.high-d.low < n/2
    assert report['owl']['sample'] == 180 and 'how common: about' in repr(report)


def test_density_is_right_on_average_in_whatever_order():
    "Rows found by their scores in between draws are neither lost nor counted twice."
    rng, n_rows, estimates = np.random.default_rng(0), 400, []
    has = np.arange(n_rows) < 60
    for _ in range(400):
        left, yes, value, of, known = [*rng.permutation(n_rows)], 0, [], [], []
        for step in range(60):
            if step % 3: row = min(left) if step % 2 else max(left)  # somebody looks where calls are, or aren't
            else:
                row = left[rng.integers(len(left))]
                of.append(len(left)), known.append(yes), value.append(has[row])
            left.remove(row)
            yes += has[row]
        estimates.append(call_density(np.array(value), *[np.array(of, float)]*3, np.array(known, float), 0, n_rows, 0).rows)
    assert abs(np.mean(estimates)-60) < 4


def one_by_one(s, truth, k, by):
    "As on the page: one clip after the other, and it learns after every ten."
    for i in range(k):
        judge(s, truth, 1, by)
        if i % 10 == 9: s.learn()


def test_how_common_it_is_is_said_of_all_rows(table, tmp_path, monkeypatch):
    "What was judged and learnt from is known, and belongs into the count; the interval holds in any order."
    monkeypatch.setattr('auditus.session.log.os.fsync', lambda f: None)  # hundreds of judgements, and no kill
    rng, inside, shares = np.random.default_rng(7), [], []
    for i in range(6):
        truth = rng.random(n) < .03
        X = np.random.default_rng(i).normal(0, 1, (n, 12)).astype(np.float32)
        X[truth, :3] += 2.
        s = Session((X, table[1]), folder=tmp_path/str(i), seed=i)
        s.add('owl', X[np.flatnonzero(truth)[:3]].mean(0))
        for by, k in (('similar', 12), ('threshold', 30), ('top', 6), ('threshold', 25), *[('random', 30)]*(i % 2)): one_by_one(s, truth, k, by)
        row, density = s.thresholds().rows[0], s.report()['owl']['density']
        assert [round(row[k]*n) for k in ('prevalence', 'low', 'high')] == [round(density.rows), round(density.low), round(density.high)]
        assert row['low']*n >= len(s.states['owl'].rows(True))-1e-6  # never fewer than are known
        inside.append(density.low <= truth.sum() <= density.high)
        shares.append(density.rows/truth.sum())
    assert sum(inside) >= 5 and .8 < np.mean(shares) < 1.25


def test_a_wide_interval_says_what_narrows_it(session, truth):
    judge(session, truth, 20).fit()
    judge(session, truth, 60, 'threshold')
    row = session.report()['owl']
    more, then = row['narrower']
    assert then.high-then.low <= (row['density'].high-row['density'].low)/2
    assert f"{more} more by='random' may make it" in repr(session.report())
    judge(session, truth, more, 'random')
    now = session.report()['owl']['density']
    assert now.high-now.low < row['density'].high-row['density'].low and now.low <= truth.sum() <= now.high


def test_no_more_clips_are_asked_for_than_there_are(session, truth):
    "A few likely clips are left that nobody judged: those are asked for, and then no more."
    judge(session, truth, 40).fit()
    judge(session, truth, 60, 'threshold')
    judge(session, truth, 10, 'uncertain')
    [row] = session.thresholds(.95).rows
    assert row['threshold'] is None and row['used_up'] and 0 < row['left'] < 10
    advice = session.report(.95)['owl']['advice']
    assert advice.startswith('go on') and "nobody judged: judge them too (by='top'), then what was judged yes is the result" in advice
    judge(session, truth, row['left'], 'top')
    [row] = session.thresholds(.95).rows
    assert row['used_up'] and row['left'] == 0 and 'nobody judged: what was judged yes is the result' in row['missing']
    assert session.report(.95)['owl']['advice'] == f"stop: {row['missing']}" and row['missing'] in repr(session.thresholds(.95))


def test_a_session_that_is_opened_again_learns_by_itself(session, truth, table):
    judge(session, truth, 20).fit()
    judge(session, truth, 60, 'threshold').fit()
    again = Session(table, folder=session.folder)
    assert again.thresholds(.5).rows == session.thresholds(.5).rows
    assert again.score() == session.score() and len(Session(table, folder=session.folder).found(threshold=.5)) == len(session.found(threshold=.5))


# Examples

@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    "Four of twelve seconds, with a tone in the middle of two of them; and a table of their windows."
    folder, rng = tmp_path_factory.mktemp('recordings'), np.random.default_rng(3)
    for i in range(4):
        wave = noise(rng, 12, 1000)
        if i < 2: wave[5000:6000] += np.sin(np.arange(1000))
        (folder/'sounds').mkdir(exist_ok=True)
        sf.write(folder/'sounds'/f'{i}.wav', wave/4, 1000)
    extract(folder/'sounds', folder/'table.parquet', pipeline())
    return folder


def spectrum(waves): return np.abs(np.fft.rfft(waves[:, :waves.shape[1]//100*100].reshape(len(waves), -1, 100))).mean(1).astype(np.float32)
def pipeline(): return AudioPipeline(spectrum, target_sr=1000, name='spectrum', window=2., progress=False)


def test_examples_of_every_kind(recordings, tmp_path):
    calls = tmp_path/'calls.txt'
    write_annotations([{'file': str(recordings/'sounds/0.wav'), 'start': 5.1, 'end': 5.9, 'label': 'tone'},
                       {'file': str(recordings/'sounds/2.wav'), 'start': 1., 'end': 2., 'label': 'none'}], calls)
    s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    s.add('tone', calls)
    assert [s.rows.key(r) for r in s.states['tone'].judged] == [{'file': '0.wav', 'start': 4., 'end': 6.}]
    with pytest.raises(AudioInputError, match='which seconds'): s.add('tone', recordings/'sounds/1.wav')
    sf.write(tmp_path/'own.wav', np.sin(np.arange(2000))/4, 1000)
    s.add('tone', [tmp_path/'own.wav', Clip(tmp_path/'own.wav', .5, 1.5)])
    assert [len(e) for e in s.states['tone'].examples] == [1, 1]
    assert s.rows.key(s.rows.locate(s.next(1)[0])) == {'file': '1.wav', 'start': 4., 'end': 6.}
    again = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    assert again.next(3) == s.next(3)
    assert all(os.path.isfile(c.source) for c in s.next(3))


def test_fit_gives_a_probe_that_scores_other_recordings(recordings, tmp_path):
    s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    s.add('tone', Clip(recordings/'sounds/0.wav', 5., 6.))
    probe = s.fit()
    assert probe.classes == ['tone'] and probe.multilabel
    clips = [s.rows.clip(i) for i in range(len(s))]
    scores = np.array([o['tone'] if isinstance(o, dict) else np.ravel(o)[0] for o in probe.predict_proba(clips)])
    assert np.abs(scores-s.score()['score'].to_numpy()).max() < 1e-4


def test_examples_count_once(recordings, tmp_path):
    "A notebook that runs again adds none."
    sf.write(tmp_path/'own.wav', np.sin(np.arange(2000))/4, 1000)
    for _ in range(2):
        s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
        for _ in range(2): s.add('tone', [tmp_path/'own.wav', Clip(recordings/'sounds/0.wav', 5., 6.)])
    assert (len(s.states['tone'].examples), len(s.states['tone'].judged)) == (1, 1)
    s.add('tone', Clip(tmp_path/'own.wav', .5, 1.5))
    assert len(s.states['tone'].examples) == 2


def test_scores_say_what_made_them(recordings, tmp_path):
    from auditus import AudioClassifier
    from auditus.pipeline.origin import deciding_settings, read_origin
    from auditus.report import report
    from auditus.session.thresholds import folder_thresholds
    s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    s.add('tone', Clip(recordings/'sounds/0.wav', 5., 6.)).judge(0, 'tone', False).judge(1, 'tone', None)
    probe = s.fit()
    origin = read_origin(s.score())
    assert origin['learnt_from'] == 'tone: 1 example, 0 judged yes, 1 judged no' and origin['model_name'] == 'spectrum'
    assert origin['head'] == AudioClassifier(probe, window=2.).head_hash()
    for clip in s.next(12, by='threshold'): s.judge(clip, 'tone', s.rows.clip(s.rows.locate(clip)).start == 4. and '1.wav' in clip.source)
    wanted = s.thresholds(.2)
    with pytest.raises(AudioNotFoundError, match='run over everything'): folder_thresholds(s.folder)
    pq.write_table(s.score(), s.folder/'scores.parquet')
    found = folder_thresholds(s.folder, precision=.2)
    assert found.rows == wanted.rows and found.made_with == wanted.made_with == deciding_settings(origin)
    page = report(s.folder/'scores.parquet', thresholds=s.folder)
    assert 'tone: 1 example, 0 judged yes, 1 judged no' in page and 'does not say which model' not in page


def test_slips_are_told_at_once(session, table):
    with pytest.raises(AudioNotFoundError, match="no folder 'nigth'"): Session(table, 'nigth')
    with pytest.warns(UserWarning, match="'0wl song' is a new class beside 'owl song'"):
        session.judge(0, 'owl song', True).judge(1, '0wl song', True)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        session.judge(2, '0wl song', False).judge(3, 'song A', True).judge(4, 'song B', True)
    with pytest.raises(SettingError, match='say which class is meant'): session.score()


def test_another_model_keeps_judgements_and_drops_vectors(recordings, tmp_path):
    s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    s.add('tone', AudioArray(np.sin(np.arange(2000.))/4, 1000)).judge(3, 'tone', False)
    X, t = np.zeros((len(s), 5)), s.rows.table
    with pytest.warns(UserWarning, match='another model'): other = Session((X, t), recordings/'sounds', tmp_path/'s')
    assert other.states['tone'].rows(False) == [3] and not other.states['tone'].examples
    with pytest.warns(UserWarning, match='not among the rows of this table: '): Session((X[:2], t.slice(0, 2)), folder=tmp_path/'s')


# What comes out

@pytest.mark.parametrize('format, out', [('raven', 'out'), ('kaleidoscope', 'out.csv'), ('csv', 'out.csv'), ('parquet', 'out.parquet')])
def test_export_can_be_read_again(format, out, session, truth, tmp_path):
    judge(session, truth, 30).fit()
    files = session.export(tmp_path/out, format, merge=False, threshold=.9)
    found = [r for f in files for r in read_annotations(f).to_pylist()]
    score, judged = (session.score()[c].to_pylist() for c in ('score', 'judged'))
    wanted = sum(j == 'yes' or j is None and v >= .9 for v, j in zip(score, judged))
    assert len(found) == wanted == len(session.found(threshold=.9)) and 20 < wanted < 60
    assert {*zip((os.path.basename(r['file']) for r in found), (r['start'] for r in found))} >= {
        (session.rows.key(r)['file'], session.rows.key(r)['start']) for r in session.states['owl'].rows(True)}


def test_labels_of_audacity(session, truth, tmp_path):
    judge(session, truth, 30)
    files = session.export(tmp_path/'out', 'audacity', merge=False)
    assert sum(len(f.read_text().splitlines()) for f in files) == len(session.states['owl'].rows(True)) > 10


def test_clips_are_written(recordings, tmp_path):
    s = Session(recordings/'table.parquet', recordings/'sounds', tmp_path/'s', pipeline())
    s.judge({'file': '1.wav', 'start': 4., 'end': 6.}, 'tone', True).judge(0, 'tone', False)
    [path] = s.export(tmp_path/'clips', 'clips').files
    assert path.parent.name == 'tone' and sf.info(path).duration == 2.


# Two people

def test_folders_merge_in_any_order_and_as_often_as_one_likes(table, truth, tmp_path):
    ada, eva = (Session(table, folder=tmp_path/who, who=who) for who in ('ada', 'eva'))
    for i in range(20): ada.judge(i, 'owl', bool(truth[i]))
    for i in range(10, 40): eva.judge(i, 'owl', bool(truth[i]) != (i in (12, 15)))
    for _ in range(2):
        ada.merge(eva.folder)
        eva.merge(ada.folder)
    for s in (ada, eva):
        assert {s.rows.locate(d['clip']) for d in s.disagreements()} == {12, 15}
        assert len(s.states['owl'].judged) == 38 and not {12, 15} & {*s.states['owl'].judged}
        assert all({*d['said']} == {'ada', 'eva'} for d in s.disagreements())
    eva.judge(12, 'owl', bool(truth[12]))  # who has seen both decides
    ada.merge(eva.folder)
    assert [ada.rows.locate(d['clip']) for d in ada.disagreements()] == [15] and ada.states['owl'].judged[12]['value'] == truth[12]
    ada.judge(15, 'owl', None)  # unsure, both having been seen
    assert ada.disagreements() == [] and ada.states['owl'].rows(None) == [15]


def test_unsure_contradicts_nobody(table, tmp_path):
    ada, eva = (Session(table, folder=tmp_path/who, who=who) for who in ('ada', 'eva'))
    ada.judge(3, 'owl', None)
    eva.judge(3, 'owl', True)
    assert ada.merge(eva.folder).states['owl'].rows(True) == [3] and not ada.disagreements()


def test_what_was_judged_is_json_that_anybody_reads(session):
    session.judge(session.next(1)[0], value=True)
    [head, *examples, last] = [json.loads(l) for l in (session.folder/'judgements.jsonl').read_text().splitlines()]
    assert head['kind'] == 'log' and len(examples) == 3
    assert {'file', 'start', 'end', 'label', 'value', 'by', 'who', 'at'} <= {*last} and last['value'] is True and last['who'] == 'ada'


@pytest.mark.parametrize('wrong, match', [
    (lambda t, at: Session((t[0], t[1].slice(5)), folder=at), 'one vector for each row'),
    (lambda t, at: Session((t[0], t[1].drop_columns('file')), folder=at), 'column `file`'),
    (lambda t, at: Session((t[0], t[1].append_column('channel', pa.array([0]*n))), folder=at).judge(Clip('00.wav', 0, 3), 'owl'), 'rows for each channel'),
    (lambda t, at: Session(t, folder=at).next(1, 'owl', 'best'), '`by` must be one of'),
    (lambda t, at: Session(t, folder=at).next(0, 'owl'), 'positive whole number'),
    (lambda t, at: Session(t, folder=at).judge(0, 'owl', 'yes'), '`value` must be one of'),
    (lambda t, at: Session(t, folder=at).judge(n, 'owl'), 'rows 0 to 1999'),
    (lambda t, at: Session(t, folder=at).judge(0, ' '), '`label` must name'),
    (lambda t, at: Session(t, folder=at).add('owl', []), 'empty list'),
    (lambda t, at: Session(t, folder=at).add('owl', np.zeros(3)), 'vectors of 24 numbers'),
    (lambda t, at: Session(t, folder=at).add('owl', 'elsewhere.wav'), 'give a `pipeline`'),
    (lambda t, at: Session(t, folder=at).score('owl'), 'call fit'),
    (lambda t, at: Session(t, folder=at).merge(at/'none'), 'holds no judgements'),
])
def test_errors_say_what_to_do(wrong, match, table, tmp_path):
    with pytest.raises((SettingError, AudioInputError), match=match): wrong(table, tmp_path)
