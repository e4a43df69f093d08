"The page for judging: what may be asked of it, and what it does in a real browser, by keys only."
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import Loudness, root

from auditus import AudioLoader, AudioPipeline
from auditus.app import serve_review
from auditus.core import Clip
from auditus.extract import extract
from auditus.page.cards import CardMaker
from auditus.page.files import process_folder
from auditus.page.gate import allowed_hosts
from auditus.page.review import make_review
from auditus.page.reviewer import Reviewer
from auditus.review import Session
from auditus.sound.errors import AudioNotFoundError, SettingError

if not find_spec('gradio') or not find_spec('sklearn'): pytest.skip('needs gradio and scikit-learn', allow_module_level=True)

n_rows = 120


@pytest.fixture(scope='module')
def night(tmp_path_factory):
    "Two minutes in seconds, every tenth of which has a whistle; the vectors know it."
    folder, rng = tmp_path_factory.mktemp('night'), np.random.default_rng(0)
    has = np.arange(n_rows) % 10 == 3
    for name, part in (('a.wav', has[:60]), ('b.wav', has[60:])):
        wave = rng.normal(0, .02, (60, 8000))
        wave[part] += .3*np.sin(2*np.pi*1000*np.arange(8000)/8000)
        sf.write(folder/name, wave.ravel(), 8000)
    X = rng.normal(0, 1, (n_rows, 8)).astype(np.float32)
    X[has] += 3
    (folder.parent/'secret.wav').write_bytes((folder/'a.wav').read_bytes())
    start = np.arange(n_rows) % 60*1.
    np.save(folder.parent/'X.npy', X)
    pq.write_table(pa.table({'file': ['a.wav']*60+['b.wav']*60, 'start': start, 'end': start+1}), folder.parent/'rows.parquet')
    return folder, has


def open_session(night, folder, who='ada'):
    at = night[0].parent
    return Session((np.load(at/'X.npy'), pq.read_table(at/'rows.parquet')), night[0], folder, who=who)


@pytest.fixture
def reviewer(night, tmp_path):
    made = Reviewer(open_session(night, tmp_path/'whistles'), ['whistle'])
    yield made
    made.close()


@pytest.fixture
def client(reviewer):
    from starlette.testclient import TestClient
    made = TestClient(make_review(reviewer, allowed_hosts('127.0.0.1', ['birds.example.org'])), 'http://127.0.0.1',
                      headers={'X-Auditus-Review': '1'}, raise_server_exceptions=False)
    made.key = reviewer.key
    return made


def judge(client, row, value, **more): return client.post('/judge', json={'key': client.key, 'row': row, 'label': 'whistle', 'value': value, **more})


def records(folder): return [json.loads(line) for line in (folder/'judgements.jsonl').read_text().splitlines()]


# what is asked

def test_a_clip_is_seen_and_heard(client, night):
    cards = client.post('/cards', json={'label': 'whistle', 'by': 'random', 'n': 5}).json()['cards']
    assert len({c['row'] for c in cards}) == 5
    c = cards[0]
    told = client.get(f'/card/{c["row"]}').json()
    assert told['picture'].startswith('data:image/webp;base64,') and told['error'] is None and told['hz'][0][0] == 500
    heard, sr = sf.read(io.BytesIO(client.get(f'/sound/{c["row"]}').content))
    clip = AudioLoader()(Clip(night[0]/c['file'], c['start'], c['end'])).a
    assert sr == 8000 and np.abs(heard-clip*(.7/np.abs(clip).max())).max() < 2**-14


def test_clips_that_are_held_do_not_come_again(client):
    held = []
    for _ in range(6):
        got = [c['row'] for c in client.post('/cards', json={'label': 'whistle', 'by': 'diverse', 'n': 6, 'held': held}).json()['cards']]
        assert len(got) == 6 and not {*got} & {*held}
        held += got


def test_the_next_clips_are_made_before_they_are_asked_for(client, reviewer):
    rows = [c['row'] for c in client.post('/cards', json={'label': 'whistle', 'by': 'random', 'n': 4}).json()['cards']]
    for made in reviewer.cards_ahead.prepare(rows): made.result()
    reviewer.cards_ahead.make = None  # nothing is left to make
    assert all(client.get(f'/sound/{row}').status_code == 200 for row in rows)


def test_cards_that_failed_or_are_many():
    made = []
    def make(row):
        made.append(row)
        return row
    maker = CardMaker(make, kept=3, threads=1)
    for row in (1, 2, 3, 1, 4, 1): assert maker.get(row) == row
    assert made == [1, 2, 3, 4]  # 1 was used again, so 2 made room
    assert [f.result() for f in maker.prepare(range(10, 20))] == [*range(10, 20)]  # also more than are kept
    maker.close()


def test_a_judgement_is_on_the_disk_when_it_is_answered(client, tmp_path):
    for row, value in ((3, True), (4, False), (5, None)): assert judge(client, row, value).status_code == 200
    kept = [r for r in records(tmp_path/'whistles') if r['kind'] == 'judgement']
    assert [(r['start'], r['value']) for r in kept] == [(3., True), (4., False), (5., None)]
    counts = client.get('/state').json()['labels'][0]
    assert (counts['yes'], counts['no'], counts['unsure']) == (1, 1, 1)


def test_what_is_sent_twice_counts_once(client, tmp_path):
    judge(client, 3, True)
    judge(client, 3, True, again=True)
    assert sum(r['kind'] == 'judgement' for r in records(tmp_path/'whistles')) == 1
    judge(client, 4, False, again=True)  # the first never came
    undone = {'key': client.key, 'row': 4, 'label': 'whistle'}
    assert client.post('/undo', json=undone).json()['undone']['row'] == 4
    assert client.post('/undo', json={**undone, 'again': True}).json()['undone'] is None
    assert client.post('/undo', json=undone).status_code == 400
    counts = client.get('/state').json()['labels'][0]
    assert (counts['yes'], counts['no']) == (1, 0)
    assert client.post('/undo', json={'key': client.key}).json()['undone']['row'] == 3
    assert client.post('/undo', json={'key': client.key}).json()['undone'] is None


def test_judgements_for_another_session_are_not_taken(client, reviewer, night, tmp_path):
    answer = client.post('/judge', json={'key': 'another', 'row': 3, 'label': 'whistle', 'value': True})
    assert answer.status_code == 409 and not (tmp_path/'whistles').exists()
    keys = {Reviewer(open_session(night, tmp_path/name)).key for name in ('whistles', 'whistles', 'others')}
    assert len(keys) == 2 and reviewer.key in keys


@pytest.mark.parametrize('path, body', [
    ('judge', {'row': '../secret.wav', 'value': True}), ('judge', {'row': {'file': 'a.wav', 'start': 0, 'end': 1}, 'value': True}),
    ('judge', {'row': -1, 'value': True}), ('judge', {'row': n_rows, 'value': True}), ('judge', {'row': True, 'value': True}),
    ('judge', {'row': 1, 'value': 1}), ('judge', {'row': 1, 'value': 'yes'}), ('judge', {'row': 1, 'value': True, 'label': 'other'}),
    ('judge', {'row': 1, 'value': True, 'label': None}), ('judge', {'row': 1, 'value': True, 'folder': '/tmp'}), ('judge', []), ('cards', {}),
    ('cards', {'label': 'whistle', 'by': 'none', 'n': 1}), ('cards', {'label': 'whistle', 'by': 'random', 'n': 10**6}),
    ('cards', {'label': 'whistle', 'by': 'random', 'n': 1, 'held': ['x']}), ('cards', {'label': 'whistle', 'by': 'similar', 'n': 1}),
    ('label', {'name': ''}), ('label', {'name': 'a\nb'}), ('label', {'name': 'x'*81}), ('label', {'name': ['a']})])
def test_questions_that_are_none(client, tmp_path, path, body):
    if isinstance(body, dict) and path == 'judge': body = {'key': client.key, 'label': 'whistle'} | body
    answer = client.post(f'/{path}', json=body)
    assert answer.status_code == 400 and answer.text and not (tmp_path/'whistles').exists()


def test_a_full_disk_is_no_fault_of_the_question(client, reviewer, monkeypatch):
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(reviewer.session, 'judge', full)
    answer = judge(client, 3, True)
    assert answer.status_code == 503 and 'No space left' in answer.text  # the browser keeps it, and asks again


# learning, running over everything, taking along

def test_from_judgements_to_files(client, reviewer, night, tmp_path):
    has = night[1]
    for row in (3, 13, 23, *range(30, 37)): last = judge(client, row, bool(has[row])).json()
    reviewer.learner.wait()
    state = client.get('/state').json()
    assert state['fits'] == 1 and 'top' in state['labels'][0]['ways'] and state['labels'][0]['advice'] and not state['busy']
    rows = [c['row'] for c in client.post('/cards', json={'label': 'whistle', 'by': 'top', 'n': 5}).json()['cards']]
    assert has[rows].all()
    assert client.get('/export/scores').status_code == 400
    client.post('/score', json={})
    reviewer.learner.wait()
    assert 'judged yes' in client.get('/state').json()['found']
    scores = pq.read_table(io.BytesIO(client.get('/export/scores').content))
    assert scores.num_rows == n_rows and scores['score'].to_numpy()[has].min() > scores['score'].to_numpy()[~has].max()
    csv = client.get('/export/csv')
    assert csv.text.count('whistle') == 4 and 'whistles-csv.csv' in csv.headers['content-disposition']
    raven = client.get('/export/raven')
    names = zipfile.ZipFile(io.BytesIO(raven.content)).namelist() if raven.content[:2] == b'PK' else ['one']
    assert raven.status_code == 200 and names
    assert len(zipfile.ZipFile(io.BytesIO(client.get('/export/clips').content)).namelist()) >= 4
    assert not [p for p in process_folder().iterdir() if p.is_dir() and [*p.rglob('*whistles*')]]  # nothing stays behind


def test_it_goes_on_where_it_was_left(client, reviewer, night, tmp_path):
    for row in (3, 13, 4): judge(client, row, bool(night[1][row]))
    again = Reviewer(open_session(night, tmp_path/'whistles'))
    again.learner.wait()
    told = again.state()['labels'][0]
    assert (told['name'], told['yes'], told['no'], again.learner.fits) == ('whistle', 2, 1, 1)
    assert not {3, 13, 4} & {c['row'] for c in again.cards('whistle', 'random', 50)['cards']}
    again.close()


def test_what_two_people_disagree_on_comes_again(client, reviewer, night, tmp_path):
    judge(client, 3, True)
    judge(client, 4, False)
    open_session(night, tmp_path/'hers', who='eva').judge(3, 'whistle', False).judge(4, 'whistle', False)
    both = Reviewer(open_session(night, tmp_path/'whistles').merge(tmp_path/'hers'))
    assert 'disputed' in both.state()['labels'][0]['ways'] and 'disputed' not in reviewer.state()['labels'][0]['ways']
    assert [c['row'] for c in both.cards('whistle', 'disputed', 6)['cards']] == [3]
    both.judge(both.key, 3, 'whistle', True)
    assert both.cards('whistle', 'disputed', 6)['cards'] == [] and both.state()['labels'][0]['yes'] == 1
    both.close()


def test_what_was_measured_is_told(client, reviewer, night):
    has = night[1]
    for row in range(1, n_rows, 2): judge(client, row, bool(has[row]))
    reviewer.learner.wait()
    rows = [c['row'] for c in client.post('/cards', json={'label': 'whistle', 'by': 'threshold', 'n': 40}).json()['cards']]
    for row in rows: told = judge(client, row, bool(has[row])).json()
    found = int(has[rows].sum())
    assert told['labels'][0]['numbers'][0] == f'judged by chance, for a threshold: 40 of some 60, {found} of them yes'  # at once
    client.post('/fit', json={})
    reviewer.learner.wait()
    said = ' '.join(client.get('/state').json()['labels'][0]['numbers'])
    assert '100 % of 10' in said and 'how common: about 12 ' in said


def test_how_much_can_be_believed_is_told_and_chosen(client, reviewer, night):
    "It doesn't ask for clips by chance where some were judged."
    has = night[1]
    for row in range(1, n_rows//2, 2): judge(client, row, bool(has[row]))
    reviewer.learner.wait()
    client.post('/score', json={})
    reviewer.learner.wait()
    assert 'not known yet: judge some by chance' in client.get('/state').json()['found']
    cards = client.post('/cards', json={'label': 'whistle', 'by': 'threshold', 'n': 30}).json()['cards']
    for c in cards: judge(client, c['row'], bool(has[c['row']]))
    reviewer.learner.wait()
    client.post('/score', json={})
    reviewer.learner.wait()
    state = client.get('/state').json()
    right = sum(has[c['row']] for c in cards)
    assert f'{right} of 30 heard by chance were right' in state['found'] and 'at a precision of 90 %' in state['found']
    assert state['precision'] == .9 and state['precisions'] == [.7, .8, .9, .95]
    asked = client.post('/precision', json={'value': .7}).json()
    assert asked['precision'] == .7 and 'at a precision of 70 %' in asked['found']
    for wrong in (0, 2, 'x', None): assert client.post('/precision', json={'value': wrong}).status_code == 400


def test_what_is_missing_is_told_before_anything_is_embedded(night, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from auditus.commands.options import make_app
    from auditus.commands.search import open_page
    def embed(*args): raise AssertionError('examples were embedded')
    monkeypatch.setattr(Session, 'add', embed)
    monkeypatch.setitem(sys.modules, 'starlette', None)
    at = night[0].parent
    done = CliRunner().invoke(make_app({'app': open_page, 'other': open_page}), [
        'app', str(at/'rows.parquet'), '--review', str(tmp_path/'s'), '--label', 'owl', '--examples', str(night[0]/'a.wav')])
    assert done.exit_code == 1 and "pip install 'auditus[app]'" in done.output


def test_the_command_takes_in_examples_and_what_others_judged(night, tmp_path, capsys):
    "Each example once, those that came later too; a clip that two judged differently is told of."
    from auditus.commands.search import _open_session
    extract(night[0], tmp_path/'table', AudioPipeline(Loudness(), window=1), progress=False)
    (tmp_path/'calls.csv').write_text('file,start,end,label\na.wav,3.1,3.8,owl\n')
    def opened(who, examples=None, merge=None):
        return _open_session(str(tmp_path/'table'), str(night[0]), tmp_path/who, 'owl', examples, merge)
    calls, later = str(tmp_path/'calls.csv'), str(tmp_path/'later.csv')
    (tmp_path/'later.csv').write_text('file,start,end,label\nb.wav,10.1,10.8,owl\n')
    opened('ada').judge(5, 'owl', False)
    for given in ([calls], [calls], [calls, later], [calls, later]): ada = opened('ada', given)
    kinds = [r['kind'] for r in records(tmp_path/'ada')]
    assert kinds == ['log', 'judgement', 'example', 'example'] and ada.states['owl'].rows(True, 'example') == [3, 70]
    opened('eva').judge(5, 'owl', True).judge(6, 'owl', True)
    capsys.readouterr()
    for _ in range(2): ada = opened('ada', merge=[tmp_path/'eva'])
    assert ada.rows.locate(ada.disagreements()[0]['clip']) == 5 and ada.states['owl'].rows(True) == [3, 70, 6]
    assert capsys.readouterr().err.count('1 clip was judged differently') == 2


def test_a_label_that_may_be_a_slip(night, tmp_path):
    session = open_session(night, tmp_path/'s').judge(3, 'saltator', True)
    with pytest.warns(UserWarning, match="'saltatr' is a new class beside 'saltator'"): serve_review(session, labels=['saltatr']).close()


def test_what_went_wrong_in_the_background_is_told(client, reviewer):
    for path in ('fit', 'score'):
        client.post(f'/{path}', json={})
        reviewer.learner.wait()
        state = client.get('/state').json()
        assert not state['busy'] and 'judge a clip yes first' in state['trouble'] and state['scoring'] is None


# who may ask, and for what

@pytest.mark.parametrize('headers, status', [
    ({'Host': 'evil.example'}, 421), ({'Host': '127.0.0.1.evil.example'}, 421), ({'Origin': 'https://evil.example'}, 403), ({'Origin': 'null'}, 403),
    ({'X-Auditus-Review': None}, 403), ({'Host': 'birds.example.org', 'Origin': 'https://birds.example.org'}, 200), ({'Origin': 'http://localhost:1'}, 200)])
def test_other_pages_judge_nothing(client, tmp_path, headers, status):
    for name, value in headers.items():
        if value is None: del client.headers[name]
        else: client.headers[name] = value
    assert judge(client, 3, True).status_code == status
    assert (tmp_path/'whistles').exists() == (status == 200)


def test_other_pages_show_no_clip(client):
    assert client.get('/sound/3', headers={'Sec-Fetch-Site': 'cross-site'}).status_code == 403
    for path in ('/', '/sound/3', '/state', '/none'):
        got = client.get(path).headers
        assert got['cross-origin-resource-policy'] == 'same-origin' and "frame-ancestors 'none'" in got['content-security-policy']
    assert client.get('/state', headers={'Host': 'evil.example'}).status_code == 421
    assert client.put('/judge', content=b'{}').status_code == 403
    assert client.post('/judge', content=b' '*2**17).status_code == 413
    assert client.post('/judge', content=iter([b'{}'])).status_code == 411


def test_nothing_else_is_served(client):
    for path in ('/../secret.wav', '/%2e%2e/secret.wav', '/sound/..%2fsecret.wav', '/sound/a.wav', '/sound/-1', '/card/x', '/review.html', '/etc/passwd',
                 '/export/..%2f..%2fetc%2fpasswd', '/static/x', '/judgements.jsonl'):
        assert client.get(path).status_code in (400, 404)
    assert client.get(f'/sound/{n_rows}').status_code == 400


def test_rows_that_lead_out_of_the_collection(night, tmp_path):
    "A table is a file that somebody sent."
    table = pa.table({'file': ['a.wav', '../secret.wav', str(night[0].parent/'secret.wav'), 'http://127.0.0.1:9/a.wav', 'none.wav'],
                      'start': [0.]*5, 'end': [1.]*5})
    reviewer = Reviewer(Session((np.eye(5), table), night[0], tmp_path/'s'))
    cards = [reviewer.card(row) for row in range(5)]
    reviewer.close()
    assert cards[0].wave and not any(c.wave or c.picture for c in cards[1:]) and all(c.error for c in cards[1:])
    assert all('outside' in c.error for c in cards[1:3]) and 'not fetched' in cards[3].error


def test_words_from_a_table_are_words(night, tmp_path):
    from starlette.testclient import TestClient
    reviewer = Reviewer(open_session(night, tmp_path/'<b>&', who='<script>'))
    page = TestClient(make_review(reviewer, allowed_hosts('127.0.0.1')), 'http://127.0.0.1').get('/').text
    reviewer.close()
    assert '&lt;b&gt;&amp;' in page and '&lt;script&gt;' in page and '<b>&' not in page


def test_serving(night, tmp_path):
    from urllib.request import urlopen
    page = serve_review(open_session(night, tmp_path/'s'))
    try:
        assert page.local_url.startswith('http://127.0.0.1:') and 'judged by ada' in urlopen(page.local_url).read().decode()
        with pytest.raises(SettingError, match='Choose another --port'): serve_review(open_session(night, tmp_path/'s'), port=page.server_port)
    finally: page.close()
    with pytest.raises(AudioNotFoundError, match='say with `sounds` in which folder'):
        serve_review(Session((np.eye(1), pa.table({'file': ['a.wav'], 'start': [0.], 'end': [1.]})), tmp_path, tmp_path/'s'))
    with pytest.raises(SettingError): serve_review(open_session(night, tmp_path/'s'), allow_hosts=['http://x'])
    some = pa.table({'file': ['a.wav', 'lost.wav', '../secret.wav', 'b.wav'], 'start': [0.]*4, 'end': [1.]*4})
    with pytest.warns(UserWarning, match="2 of 4 sounds of the table that were looked for are not in .*'lost.wav' first"):
        serve_review(Session((np.eye(4), some), night[0], tmp_path/'s')).close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signals')
def test_the_command(night, tmp_path):
    from urllib.request import Request, urlopen
    extract(night[0], tmp_path/'table', AudioPipeline(Loudness(), window=1), progress=False)
    args = ['app', tmp_path/'table', '--review', tmp_path/'owls', '--sounds', night[0], '--label', 'owl', '--examples', tmp_path/'calls.csv']
    (tmp_path/'calls.csv').write_text('file,start,end,label\na.wav,3.1,3.8,owl\n')
    made = subprocess.Popen([sys.executable, '-m', 'auditus', *map(str, args)], stderr=subprocess.PIPE, text=True)
    try:
        for line in made.stderr:
            if line.startswith('http'): break
        at = line.split()[0]
        state = json.loads(urlopen(f'{at}state').read())
        assert [(label['name'], label['examples']) for label in state['labels']] == [('owl', 1)]
        body = json.dumps({'key': state['key'], 'row': 5, 'label': 'owl', 'value': False}).encode()
        urlopen(Request(f'{at}judge', body, {'X-Auditus-Review': '1'}))
        made.send_signal(signal.SIGTERM)
        assert made.wait() == 128+signal.SIGTERM
    finally: made.kill()
    assert [r['kind'] for r in records(tmp_path/'owls')] == ['log', 'example', 'judgement']


# in the browser, by keys only

program = """
import sys, numpy as np, pyarrow.parquet as pq
from auditus.app import serve_review
from auditus.review import Session
at, sounds, folder, port = sys.argv[1:]
session = Session((np.load(f'{at}/X.npy'), pq.read_table(f'{at}/rows.parquet')), sounds, folder, who='ada')
page = serve_review(session, port=int(port) or None, labels=['whistle', 'hum'])
print(page.server_port, flush=True)
page.block_thread()
"""


class Server:
    "The page in a process of its own, which can be killed and comes again at the same address."
    def __init__(self, night, folder): self.args, self.port = [night[0].parent, night[0], folder], 0

    def start(self):
        self.process = subprocess.Popen([sys.executable, '-c', program, *map(str, self.args), str(self.port)], stdout=subprocess.PIPE, text=True, cwd=root)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.send_signal(signal.SIGKILL if os.name != 'nt' else signal.SIGTERM)
        self.process.wait()


@pytest.fixture
def server(night, tmp_path):
    made = Server(night, tmp_path/'whistles')
    made.start()
    yield made
    made.kill()


@pytest.fixture
def tab(browser, server):
    opened = browser.new_page(viewport={'width': 1200, 'height': 800})
    opened.asked, opened.errors = [], []
    opened.on('request', lambda r: opened.asked.append(r.url))
    opened.on('pageerror', lambda e: opened.errors.append(str(e)))
    opened.set_default_timeout(60_000)
    opened.goto(f'http://127.0.0.1:{server.port}/')
    yield opened
    opened.close()


def shown(tab, after=None):
    "The row of the clip that is shown, once it is another one."
    is_next = f"() => {{ const r = document.body.dataset.row; return r && r !== '{'' if after is None else after}' ? r : null }}"
    return int(tab.wait_for_function(is_next).json_value())


def judge_by_keys(tab, has, n, said):
    row = shown(tab)
    for _ in range(n):
        said.append((row, bool(has[row])))
        tab.keyboard.press('y' if has[row] else 'n')
        row = shown(tab, row)


def test_judging_by_keys(tab, night, tmp_path):
    from playwright.sync_api import expect
    said = []
    judge_by_keys(tab, night[1], 12, said)
    assert len({row for row, _ in said}) == 12  # none came twice
    expect(tab.locator('#saved')).to_have_text('All saved.')
    assert [(r['start']+60*(r['file'] == 'b.wav'), r['value']) for r in records(tmp_path/'whistles') if r['kind'] == 'judgement'] == said
    row = shown(tab)
    tab.keyboard.press('z')  # the last one is back
    assert shown(tab, row) == said[-1][0]
    expect(tab.locator('#facts')).to_contain_text('was no' if not said[-1][1] else 'was yes')
    tab.keyboard.press('u')
    assert shown(tab, said[-1][0]) == row
    tab.keyboard.press('ArrowRight')
    shown(tab, row)
    expect(tab.locator('#counts')).to_contain_text('12 of 120')
    expect(tab.locator('#counts')).to_contain_text('1 unsure')
    tab.keyboard.press('2')  # another class
    expect(tab.locator('#label')).to_have_value('hum')
    expect(tab.locator('#counts')).to_contain_text('0 of 120')
    shown(tab)
    tab.keyboard.press('n')
    expect(tab.locator('#counts')).to_contain_text('1 no')
    tab.keyboard.press('z')
    expect(tab.locator('#counts')).to_contain_text('0 no')
    expect(tab.locator('#saved')).to_have_text('All saved.')
    assert not tab.errors and all(url.startswith(('data:', 'blob:', f'http://{tab.url.split("/")[2]}/')) for url in tab.asked)


def test_the_space_bar_plays_and_letters_can_be_typed(tab):
    from playwright.sync_api import expect
    shown(tab)
    tab.keyboard.press('Space')
    expect(tab.locator('#at')).to_be_visible()  # where it plays
    expect(tab.locator('#at')).to_be_hidden()  # after a second
    tab.locator('#name').focus()
    tab.keyboard.type('a yny hum')
    tab.keyboard.press('Enter')
    expect(tab.locator('#label')).to_have_value('a yny hum')
    expect(tab.locator('#counts')).to_contain_text('0 of 120')
    shown(tab)
    tab.locator('#no').click()
    expect(tab.locator('#counts')).to_contain_text('1 no')
    tab.keyboard.press('Space')  # plays, and does not judge again
    expect(tab.locator('#at')).to_be_visible()
    expect(tab.locator('#counts')).to_contain_text('1 of 120')


def test_a_killed_server_loses_no_judgement(tab, server, night, tmp_path):
    from playwright.sync_api import expect
    said = []
    judge_by_keys(tab, night[1], 4, said)
    for _ in range(2):
        row = shown(tab)
        server.kill()
        for _ in range(3):  # what was ready can be judged
            said.append((row, bool(night[1][row])))
            tab.keyboard.press('y' if night[1][row] else 'n')
            row = tab.wait_for_function(f"() => document.body.dataset.row !== '{row}' && document.body.dataset").json_value()['row']
            if not row: break
            row = int(row)
        expect(tab.locator('#trouble')).to_contain_text('does not answer')
        expect(tab.locator('#saved')).to_contain_text('not saved yet')
        server.start()
        expect(tab.locator('#saved')).to_have_text('All saved.')
        judge_by_keys(tab, night[1], 3, said)
    expect(tab.locator('#saved')).to_have_text('All saved.')
    kept = open_session(night, tmp_path/'whistles').states['whistle'].judged
    assert {row: r['value'] for row, r in kept.items()} == dict(said) and len(said) >= 12
    assert sum(r['kind'] == 'judgement' for r in records(tmp_path/'whistles')) == len(said)


def test_a_clip_that_is_not_there_yet(tab):
    from playwright.sync_api import expect
    shown(tab)
    held = []
    tab.route('**/card/*', lambda route: held.append(route))
    tab.locator('#by').select_option('random')
    expect(tab.locator('#picture')).to_have_text('Loading…')
    for route in held: route.continue_()
    tab.unroute('**/card/*')
    shown(tab)
    expect(tab.locator('#picture img')).to_be_visible()


def test_what_can_not_be_heard_is_not_judged(tab):
    from playwright.sync_api import expect
    shown(tab)
    broken = json.dumps({'picture': '', 'hz': [], 'cut': None, 'error': 'there is no file'})
    tab.route('**/card/*', lambda route: route.fulfill(body=broken, content_type='application/json'))
    tab.locator('#by').select_option('random')
    expect(tab.locator('#picture')).to_have_text('there is no file')
    for key in 'yn':
        tab.keyboard.press(key)
        expect(tab.locator('#facts')).to_contain_text('can not be heard')
    expect(tab.locator('#counts')).to_contain_text('0 of 120')
    tab.keyboard.press('u')
    expect(tab.locator('#counts')).to_contain_text('1 unsure')


def test_learning_and_everything_on_a_phone(tab, night, server, tmp_path):
    from playwright.sync_api import expect
    tab.set_viewport_size({'width': 390, 'height': 844})
    judge_by_keys(tab, night[1], 25, [])
    tab.keyboard.press('l')
    expect(tab.locator('#advice')).to_contain_text('go on')
    expect(tab.locator('#by option[value=threshold]')).to_be_enabled()
    tab.locator('#by').select_option('top')
    assert night[1][shown(tab)]
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390
    for name in ('yes', 'no', 'unsure', 'play', 'skip', 'undo'):
        box = tab.locator(f'#{name}').bounding_box()
        assert box['x'] >= 0 and box['x']+box['width'] <= 390 and box['y']+box['height'] <= 844
    tab.get_by_role('link', name='all scores').click()
    expect(tab.locator('#trouble')).to_contain_text('run over everything first')
    tab.locator('#score').click()
    expect(tab.locator('#found')).to_contain_text('judged yes')
    with tab.expect_download() as taken: tab.get_by_role('link', name='all scores').click()
    assert pq.read_table(taken.value.path()).num_rows == n_rows and taken.value.suggested_filename == 'whistles-scores.parquet'
    assert not tab.errors
