"""Run notebooks: python run_notebooks.py AT_ONCE FOLDER PATH...

Each runs in a fork of this process, which has imported what most of them need: imports are paid for once, and no
notebook sees what another has done. What one prints goes to FOLDER/NAME.log, and a line here says how it ended.
"""
import gc
import os
import sys
from pathlib import Path

from kit import other_processor, root


def import_much():
    "What takes seconds to import, and starts no threads that a fork would lack."
    import datasets
    import IPython
    import librosa
    import matplotlib.backends.backend_agg
    import matplotlib.pyplot
    import matplotlib_inline.backend_inline
    import nbdev.test
    import pandas
    import pyarrow.parquet
    import scipy.signal
    import sklearn.linear_model
    import sklearn.model_selection
    import torch
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, Trainer
    librosa.feature.melspectrogram  # each part of librosa is imported when it is first named


def test(path, log):
    "Run a notebook in this process, and end it."
    from nbdev.test import test_nb
    for stream in (1, 2): os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.exit(not test_nb(path, do_print=False, basepath=root)[0])


def main(at_once, folder, *paths):
    import_much()
    gc.freeze()  # or the first collection in a child would copy every page
    waiting, running = list(paths), {}
    while waiting or running:
        while waiting and len(running) < int(at_once):
            path = Path(waiting.pop(0))
            if not (pid := os.fork()): test(path, Path(folder)/f'{path.stem}.log')
            running[pid] = path
        pid, status = os.wait()
        if pid in running: print(os.waitstatus_to_exitcode(status), running.pop(pid), flush=True)


if __name__ == '__main__':
    with other_processor(): main(*sys.argv[1:])
