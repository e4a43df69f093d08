"Maps of vectors: what is drawn is what the vectors say."
import subprocess
import sys
from importlib.util import find_spec

import matplotlib
import numpy as np
import pytest

from auditus import AudioInputError, SettingError
from auditus.show import plot_confusion, plot_embeddings, plot_frames, principal_components

matplotlib.use('agg')


def test_principal_components_are_those_of_scikit_learn(rng):
    from sklearn.decomposition import PCA
    X = rng.normal(3, 1, (50, 12))*np.arange(1, 13)
    ours, share = principal_components(X)
    theirs = PCA(2).fit(X)
    assert np.allclose(np.abs(ours), np.abs(theirs.transform(X)))
    assert np.allclose(share, theirs.explained_variance_ratio_)


@pytest.mark.parametrize('X', [np.ones((1, 5)), np.ones((4, 1)), np.zeros((3, 3)), np.eye(2)])
def test_few_or_equal_vectors_are_drawn_too(X):
    points, share = principal_components(X)
    assert points.shape == (len(X), 2) and np.isfinite(points).all() and share.sum() <= 1+1e-9
    plot_embeddings(X)


def test_each_label_has_points_of_its_own(rng):
    X, labels = rng.normal(0, 1, (60, 6)), [f'${i % 12}_$' for i in range(60)]
    ax = plot_embeddings(X, labels)
    assert [c.get_label() for c in ax.collections] == list(dict.fromkeys(labels))
    assert all(len(c.get_offsets()) == 5 for c in ax.collections)
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections}
    assert len(looks) == 12 and 'of the spread' in ax.get_xlabel()
    ax.figure.canvas.draw()
    assert np.allclose(np.concatenate([c.get_offsets() for c in ax.collections[:1]]), principal_components(X)[0][::12])


@pytest.mark.parametrize('X, labels, error, said', [
    (np.ones(5), None, AudioInputError, 'vectors'), (np.ones((0, 5)), None, AudioInputError, 'vectors'),
    (np.full((2, 2), np.nan), None, AudioInputError, 'not finite'),
    (np.ones((2, 2)), ['a'], AudioInputError, '2 vectors, but 1 label'),
])
def test_what_is_no_map_is_refused(X, labels, error, said):
    with pytest.raises(error, match=said): plot_embeddings(X, labels)


def test_umap_is_asked_for_by_name(rng):
    with pytest.raises(SettingError, match='`method`'): plot_embeddings(rng.normal(0, 1, (5, 3)), method='tsne')
    if find_spec('umap'): assert plot_embeddings(rng.normal(0, 1, (40, 8)), method='umap').get_xlabel() == 'UMAP 1'
    else:
        with pytest.raises(SettingError, match='umap-learn'): plot_embeddings(rng.normal(0, 1, (5, 3)), method='umap')


def test_a_confusion_matrix_shows_its_numbers():
    ax = plot_confusion(np.array([[3, 1], [0, 2]]), ['$_$', 'b'])
    ax.figure.canvas.draw()
    assert sorted(t.get_text() for t in ax.texts) == ['1', '2', '3']
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('taken for', 'is')


# Frames

@pytest.mark.parametrize('kind', ['np', 'pt', 'vector'])
def test_frames_are_columns(kind):
    y = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = dict(np=y, pt=pytest.importorskip('torch').tensor(y, requires_grad=True), vector=y[0])[kind]
    ax = plot_frames(given, seconds=2.)
    [image] = ax.get_images()
    np.testing.assert_array_equal(image.get_array(), y[:1].T if kind == 'vector' else y.T)
    assert image.get_extent() == [0, 2., 0, 3] and ax.get_xlabel() == 'seconds'


@pytest.mark.parametrize('y, why', [(np.zeros((2, 3, 4)), r'frames \(tokens, dim\), got \(2, 3, 4\)'),
                                    (np.zeros((0, 3)), 'got'),
                                    (np.array([[0., np.nan]]), 'not finite')])
def test_what_is_no_frames_is_refused(y, why):
    with pytest.raises(AudioInputError, match=why): plot_frames(y)


def test_a_question_mark_explains_arguments(tmp_path):
    "As in a notebook: `AudioPipeline?` and, of an object, what it takes and gives; nothing of it is made before it is asked for."
    (tmp_path/'ask.py').write_text("""
import sys
import auditus
from auditus import AudioPipeline, Probe, SoundIndex, load_model
from auditus.sound import explained
assert not len(explained._texts) and 'Parameters' not in load_model.__doc__
from IPython.core.interactiveshell import InteractiveShell
pipe = AudioPipeline('birdnet')
look = InteractiveShell.instance().inspector.info
about = look(AudioPipeline, oname='AudioPipeline')['docstring']
assert about.startswith('A path to a vector') and 'hop : float | None, default None' in about, about
assert "seconds from one window's start to the next" in about and 'batch_size : ' in about and 'trust_remote_code : bool, default False' in about
called = look(pipe, oname='pipe')
assert called['docstring'] == about and 'Many give `(n, dim)`' in called['call_docstring']
for made, name in ((Probe, 'head'), (SoundIndex, 'exact_up_to'), (auditus.AudioArray, 'sr'), (auditus.AudioClassifier, 'top_k')):
    assert f'\\n{name} : ' in look(made, oname='x')['docstring'], made
class Mine(auditus.Transform):
    "A step of one's own."
    def __init__(self, db=0.): self.db = db
assert Mine.__doc__ == "A step of one's own."
""")
    done = subprocess.run([sys.executable, tmp_path/'ask.py'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
