"What several test files share: where the sounds are, and a noise to be sure of."
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no test may depend on a network
root = Path(__file__).resolve().parents[1]


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
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token='<pad>', unk_token='<unk>', model_max_length=64).save_pretrained(folder)
    return folder
