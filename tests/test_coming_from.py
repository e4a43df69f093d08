"What the page for those who come from other libraries says is equal; its notebook runs more of it."
import numpy as np
import pytest

from auditus import AudioLoader, AudioPipeline, SoundIndex


@pytest.mark.parametrize('sr', [16000, 22050, None])
@pytest.mark.parametrize('name', ['chirp.ogg', 'stereo.flac', 'telephone.mp3', 'music_like.wav'])
def test_samples_are_those_of_librosa(name, sr, sounds):
    import librosa
    theirs, rate = librosa.load(sounds/name, sr=sr)
    ours = AudioLoader(sr=sr)(sounds/name)
    assert ours.sr == rate and len(ours) == len(theirs) and np.abs(ours.a-theirs).max() < 1e-6


def test_similarities_are_those_of_sentence_transformers(checkpoint, sounds):
    util = pytest.importorskip('sentence_transformers.util')
    pipe, files = AudioPipeline(checkpoint('wav2vec2-layer')), [str(sounds/n) for n in ('chirp.ogg', 'stereo.flac', 'speech_like.wav')]
    unit = pipe.encode(files, normalize_embeddings=True)
    wanted = util.cos_sim(pipe.encode(files), pipe.encode(files)).numpy()
    assert np.abs(unit@unit.T-wanted).max() < 1e-5
    hits = SoundIndex.build(files, pipe).search(files[0], 3)
    assert [h['file'] for h in hits] == [files[i] for i in np.argsort(-wanted[0])]
    assert np.allclose([h['score'] for h in hits], -np.sort(-wanted[0]), atol=1e-5)
