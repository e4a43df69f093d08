"What test files share: where things are, small models of our own, and ways to run commands."
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from auditus.cli import app
from auditus.models.base import AudioModel, ModelFrames

root = Path(__file__).resolve().parents[1]
watchdog_s = 180  # ends a hang, and says nothing about how long something takes
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


# Sounds, and models that are not ours

def noise(rng, seconds, sr): return rng.normal(0, .1, round(seconds*sr)).astype(np.float32)


class Loudness(AudioModel):
    "One number a tenth of a second."
    name, sr, min_samples, frame_dim = 'loudness', 1000, 100, 1
    def forward(self, waves, layer=-1):
        tenths = [w[:len(w)//100*100].reshape(-1, 100) for w in waves]
        return ModelFrames.padded([np.sqrt((t**2).mean(1, keepdims=True)).astype(np.float32) for t in tenths])


class Counting(Loudness):
    "Counts what it is given, and may be stopped as by Ctrl-C."
    heard = 0
    left = None  # waves that it hears before it is stopped
    def forward(self, waves, layer=-1):
        type(self).heard += len(waves)
        if self.left is not None:
            self.left -= len(waves)
            if self.left < 0: raise KeyboardInterrupt
        return super().forward(waves, layer)
    def weights_hash(self): return 'none'


class Slow(Counting):
    "Takes its time for each wave."
    pause = .01  # seconds
    def forward(self, waves, layer=-1):
        time.sleep(self.pause*len(waves))
        return super().forward(waves, layer)


# Programs and pages

def skip_where_problems_are_alike(problem):
    "Skip what compares with a pipeline of transformers that makes shares of all scores, whatever the problem is."
    import inspect
    import transformers as tf
    if problem == 'single_label_classification' or 'problem_type' in inspect.getsource(tf.AudioClassificationPipeline): return
    pytest.skip(f'the pipeline of transformers {tf.__version__} takes no notice of the problem')


def wait_until(f, what):
    "Ask again and again until something is so."
    end = time.monotonic()+watchdog_s
    while not f():
        assert time.monotonic() < end, f'{what}: not even after {watchdog_s} s'
        time.sleep(.1)


# The processor

def named_processor():
    "Maker and abilities that AUDITUS_TEST_PROCESSOR names, as in 'AuthenticAMD avx2 fma'; none where it is not set."
    return os.environ.get('AUDITUS_TEST_PROCESSOR', '').split()


@contextmanager
def other_processor():
    "Another processor than this one, where the environment names one: the library reads of it what Linux would say."
    maker, *flags = named_processor() or ['']
    real = Path.read_text
    def read_text(self, *args, **kwargs):
        if str(self) != '/proc/cpuinfo': return real(self, *args, **kwargs)
        return f'vendor_id\t: {maker}\nflags\t\t: {" ".join(flags)}\n'
    with pytest.MonkeyPatch.context() as patch:
        if maker: patch.setattr(Path, 'read_text', read_text)
        yield


# Packages, commands and processes

def installed(package):
    try: return distribution(package) is not None
    except PackageNotFoundError: return False


def command(*args):
    "The result of `auditus` with these arguments, run in this process."
    return CliRunner().invoke(app, [str(a) for a in args])


def run(*args, cwd, **env):
    "Run a command to its end and give what it prints; its errors are the failure's message."
    done = subprocess.run([str(a) for a in args], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert not done.returncode, f'{args} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-8000:]}'
    return done.stdout


def tool(name):
    "A console script of the environment that runs the tests."
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]))
    assert found, f'{name} is not installed'
    return found


# The project's files

def read(path): return path.read_text(encoding='utf-8')


def cells(path, *kinds):
    "Sources of a notebook's cells."
    return [''.join(c['source']) for c in json.loads(read(path))['cells'] if c['cell_type'] in kinds]


def project_files():
    "Paths from the top of all that is committed or would be."
    if not (root/'.git').exists(): pytest.skip('not a git checkout')
    listed = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=root).split('\0')
    return [Path(p) for p in sorted({*listed} - {''}) if (root/p).is_file()]  # not those just deleted


def copy_tree(folder, wanted=lambda path: True):
    "A copy of the tree to build and export in, or of those of its files that are `wanted`."
    for p in filter(wanted, project_files()):
        (folder/p).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/p, folder/p)
    return folder


@cache
def module_number():
    "Each exported module's number, and 0 of none: the package itself is beneath all."
    numbers = {}
    for p in notebooks:
        names = [m[1] for s in cells(p, 'code') if (m := re.match(r'#\s*\|\s*default_exp\s+(\S+)', s))]
        for name in names: numbers[f'auditus.{name}'] = int(re.match(r'\d+', p.name)[0])
    return numbers
