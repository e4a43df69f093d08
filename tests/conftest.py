"Fixtures that several test files share: sounds, and small checkpoints."
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from kit import other_processor, root

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no test may depend on a network
# what tests compare with runs on the CPU; test_gpu.py is for the GPU, and takes the suite's place where it is asked for
if not os.environ.get('AUDITUS_TEST_GPU'): os.environ['CUDA_VISIBLE_DEVICES'] = ''


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items):
    "The whole site takes a minute to build, and a browser seconds to open."
    for item in items:
        if {'site', 'browser'} & {*item.fixturenames}: item.add_marker('slow')


@pytest.fixture(scope='session', autouse=True)
def processor():
    "The processor that AUDITUS_TEST_PROCESSOR names, or this one."
    with other_processor(): yield


@pytest.fixture(scope='session')
def sounds():
    "The folder of synthetic sounds that comes with the project."
    return root/'test_files'


@pytest.fixture(scope='session')
def recordings():
    "The folder of real recordings, which are not ours to ship."
    folder = os.environ.get('AUDITUS_TEST_DATA')
    if not folder: pytest.skip('AUDITUS_TEST_DATA names no folder of recordings')
    return Path(folder)


@pytest.fixture
def rng(): return np.random.default_rng(0)


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    """`made(name)` gives folder, model and extractor of a small checkpoint, which is made when first asked for.

    Whoever changes its files copies them first."""
    from tiny_models import make_folder, maker
    found = {}
    def get(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            found[name] = folder, *make_folder(maker(name), folder)
        return found[name]
    return get


@pytest.fixture(scope='session')
def shallow(tmp_path_factory):
    "`shallow(name)` gives the folder of a checkpoint with one layer, which is the least that is still the architecture."
    from tiny_models import make_folder, maker
    found = {}
    def get(name):
        if name not in found:
            found[name] = tmp_path_factory.mktemp(f'shallow-{name}')
            make_folder(maker(name), found[name], num_hidden_layers=1)
        return found[name]
    return get


@pytest.fixture(scope='session')
def checkpoint(made):
    "`checkpoint(name)` gives the folder of a small checkpoint."
    return lambda name: made(name)[0]


@pytest.fixture(scope='session')
def clap_folder(tmp_path_factory):
    "A small CLAP with a tokenizer."
    import transformers as tf
    from tiny_models import clap, make_folder
    from tokenizers import Tokenizer, models, pre_tokenizers
    folder = tmp_path_factory.mktemp('clap')
    make_folder(clap('rand_trunc'), folder)
    words = ['<s>', '<pad>', '</s>', '<unk>', *'This is a sound of . One can hear dog cat rain vacuum cleaner'.split()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token='<pad>', unk_token='<unk>',
                               model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def browser():
    "A Chromium that is on this machine."
    api = pytest.importorskip('playwright.sync_api')
    found = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not found: pytest.skip('no Chromium is installed')
    api.expect.set_options(timeout=60_000)
    with api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=found, args=['--no-sandbox'])
        yield opened
        opened.close()
