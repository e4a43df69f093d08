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
