"Interfaces of other libraries: HEAR, sentence-transformers, Hugging Face datasets, torch's DataLoader."
import pickle

import numpy as np
import pytest
import torch
from tiny_models import architectures, make_folder

from auditus import AudioArray, AudioDecodeError, AudioInputError, AudioLoader, AudioPipeline, Normalize, SettingError
from auditus.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
from auditus.labels import SoundDataset
from auditus.models import base

timed = [k for k in architectures if not k.startswith(('ast', 'clap', 'speech-to-text')) and 'adapter' not in k]


@pytest.fixture(scope='module')
def audio(): return torch.rand(3, 32000, generator=torch.manual_seed(0))*2-1


# HEAR

@pytest.mark.parametrize('name', timed)
def test_tokens_lie_within_the_sound(name, checkpoint, rng):
    "As many as there are, at their distance, fill a clip from the first to the last."
    model = base.load_model(checkpoint(name))
    first, step = model.token_times
    for seconds in (.5, 1.237, 3.):
        n = round(seconds*model.sr)
        frames = model.forward([rng.normal(0, .1, n).astype(np.float32)])
        last = first+step*(int(frames.mask.sum())-1)
        assert last <= seconds and seconds-last <= 2*step+first


@pytest.mark.parametrize('name', ['wav2vec2-layer', 'hubert-group', 'wav2vec2-bert', 'whisper'])
def test_a_click_is_where_it_is(name, checkpoint, rng):
    "Before the layers attend to everything, a click changes most the token that it lies in."
    model = base.load_model(checkpoint(name))
    first, step = model.token_times
    wave = rng.normal(0, .05, 2*model.sr).astype(np.float32)
    for at in (.5, 1.1, 1.6):
        clicked = wave.copy()
        clicked[round(at*model.sr):][:32] += .9
        change = [f.frames[0] for f in (model.forward([w], layer=0) for w in (wave, clicked))]
        most = (change[1]-change[0]).abs().sum(1)[:int(2/step)].argmax().item()
        assert abs(first+step*most-at) <= 1.5*step


def test_models_whose_tokens_are_no_moments_say_so(checkpoint):
    for name in ('ast', 'clap-rand_trunc'): assert base.load_model(checkpoint(name if name in architectures else 'ast')).token_times is None


@pytest.mark.parametrize('name', ['wav2vec2-layer', 'whisper', 'ast'])
def test_what_hear_asks_of_a_model(name, checkpoint, audio):
    "The promises of its common interface, one by one."
    model = load_model(str(checkpoint(name)))
    assert isinstance(model, torch.nn.Module) and model.sample_rate in (16000, 22050, 44100, 48000)
    assert type(model.scene_embedding_size) is int and type(model.timestamp_embedding_size) is int
    scenes = get_scene_embeddings(audio, model)
    assert scenes.shape == (3, model.scene_embedding_size) and scenes.dtype == torch.float32
    embeddings, times = get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (*times.shape, model.timestamp_embedding_size) and len(embeddings) == 3
    apart = times.diff()
    assert apart.mean() <= 50.001 and (apart-apart.mean()).abs().max() < 1e-3
    assert times.min() >= 0 and times.max() < 2000


def test_scenes_are_the_pipelines_vectors(checkpoint, audio):
    model = load_model(str(checkpoint('ast')))
    reference = model.pipeline([AudioArray(a.numpy(), 16000) for a in audio])
    assert np.abs(get_scene_embeddings(audio, model).numpy()-reference).max() < 1e-6
    assert torch.equal(model(audio), get_scene_embeddings(audio, model))
    assert np.abs(get_scene_embeddings(audio.flip(0), model).flip(0).numpy()-reference).max() < 1e-5


def test_tokens_are_the_librarys_own_frames(checkpoint, audio):
    import transformers as tf
    folder = checkpoint('wav2vec2-layer')
    inputs = tf.AutoFeatureExtractor.from_pretrained(folder)([a.numpy() for a in audio], sampling_rate=16000,
                                                             return_tensors='pt')
    with torch.inference_mode(): frames = tf.AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    embeddings, times = get_timestamp_embeddings(audio, load_model(str(folder)))
    assert (embeddings-frames).abs().max() < 1e-5
    assert times[0, :3].tolist() == pytest.approx([12.5, 32.5, 52.5])  # 400 samples are heard, every 320


def test_timestamps_of_a_long_sound_are_regular(checkpoint, rng):
    "It is heard in windows, between which a token is missing."
    model = load_model(str(checkpoint('wav2vec2-layer')))
    long = torch.from_numpy(rng.normal(0, .1, (1, 70*16000)).astype(np.float32))
    embeddings, times = get_timestamp_embeddings(long, model)
    apart = times.diff()
    assert (apart-apart.mean()).abs().max() < 1e-2 and 69.9e3 < times.max() < 70e3  # float32 holds 70,000 ms to 0.008
    alone = get_timestamp_embeddings(long[:, 30*16000:60*16000], model)[0][0]
    assert (embeddings[0, 1500:1500+len(alone)]-alone).abs().max() < 1e-5


def test_windows_that_overlap_give_tokens_in_order(checkpoint, rng):
    model = load_model(pipeline=AudioPipeline(checkpoint('wav2vec2-layer'), max_seconds=4, hop=1.013))
    audio = torch.from_numpy(rng.normal(0, .1, (1, 10*16000)).astype(np.float32))
    heard = next(model.frames.embed_sounds([AudioArray(audio[0].numpy(), 16000)]))
    times = np.concatenate([s.start+.0125+.02*np.arange(len(v)) for s, v in zip(heard.spans, heard.vectors)])
    tokens = np.concatenate([*heard.vectors])
    embeddings, at = get_timestamp_embeddings(audio, model)
    for row, t in zip(embeddings[0, ::37], at[0, ::37]):
        off = np.abs(times-t.item()/1000)
        nearest = np.flatnonzero(off < off.min()+1e-6)
        assert min(np.abs(tokens[i]-row.numpy()).max() for i in nearest) < 1e-5


def test_windows_around_a_moment(checkpoint, audio):
    model = load_model(str(checkpoint('ast')), hop_ms=250, window_seconds=.5)
    embeddings, times = get_timestamp_embeddings(audio[:1], model)
    assert times[0].tolist() == [0, 250, 500, 750, 1000, 1250, 1500, 1750]
    wave = audio[0].numpy()
    for place, (a, b) in {0: (0, .25), 4: (.75, 1.25), 7: (1.5, 2.)}.items():
        assert np.abs(embeddings[0, place].numpy()-model.pipeline((wave[round(a*16000):round(b*16000)],
                                                                   16000))).max() < 1e-5


def test_a_model_of_another_rate_is_given_the_next(tmp_path, rng):
    import transformers as tf
    make_folder(architectures['wav2vec2-layer'], tmp_path)
    tf.Wav2Vec2FeatureExtractor(sampling_rate=32000, return_attention_mask=True).save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert model.sample_rate == 44100
    audio = torch.from_numpy(rng.normal(0, .1, (1, 44100)).astype(np.float32))
    assert np.abs(get_scene_embeddings(audio, model)[0].numpy()-model.pipeline((audio[0].numpy(), 44100))).max() < 1e-5
    assert get_timestamp_embeddings(audio, model)[1].max() < 1000


def test_a_saved_pipeline_and_a_pickle(checkpoint, audio, tmp_path):
    model = load_model(pipeline=AudioPipeline(checkpoint('wav2vec2-layer'), layer=1, pooling='max'))
    model.pipeline.save(tmp_path/'saved')
    for same in (load_model(str(tmp_path/'saved')), pickle.loads(pickle.dumps(model)), model.to('cpu'),
                 model.to(torch.device('cpu')).eval()):
        assert torch.equal(get_scene_embeddings(audio, same), get_scene_embeddings(audio, model))


def test_bad_input_to_hear(checkpoint, audio):
    model = load_model(str(checkpoint('ast')))
    with pytest.raises(AudioInputError, match=r'tensor \(n_sounds, n_samples\), got torch.Size\(\[32000\]\)'):
        get_scene_embeddings(audio[0], model)
    with pytest.raises(AudioInputError, match='not a single sound'): get_timestamp_embeddings(audio[:0], model)
    assert get_scene_embeddings(audio[:0], model).shape == (0, model.scene_embedding_size)
    broken = audio.clone()
    broken[1, 7] = torch.nan
    with pytest.raises(AudioInputError): get_scene_embeddings(broken, model)
    with pytest.raises(SettingError, match='goes to a device'): model.to(torch.float16)
    with pytest.raises(SettingError, match='the type of their numbers is chosen there'): model.half()
    with pytest.raises(AudioInputError, match='torch.as_tensor'): get_scene_embeddings(audio.numpy(), model)
    by_hand = load_model(pipeline=AudioPipeline(base.load_model(checkpoint('ast'))))
    assert by_hand.to('cpu') is by_hand and by_hand.cpu().eval().float() is by_hand
    with pytest.raises(SettingError, match='HEAR needs one row'):
        load_model(pipeline=AudioPipeline(checkpoint('ast'), pooling=None))
    with pytest.raises(SettingError, match='not both'): load_model('birdnet', AudioPipeline(checkpoint('ast')))
    for wrong in (dict(hop_ms=0), dict(window_seconds=-1)):
        with pytest.raises(SettingError): load_model(str(checkpoint('ast')), **wrong)


# sentence-transformers

@pytest.fixture(scope='module')
def files(sounds): return [sounds/'chirp.ogg', sounds/'speech_like.wav', sounds/'music_like.wav']


def test_encode_is_that_of_sentence_transformers(checkpoint, files):
    st = pytest.importorskip('sentence_transformers')
    theirs, ours = st.SentenceTransformer(str(checkpoint('ast')), device='cpu'), AudioPipeline(checkpoint('ast'))
    waves = [ours.windows(f).waves[0] for f in files]
    items = [{'array': w, 'sampling_rate': 16000} for w in waves]
    assert [f.shape[1] for f in ours.encode(items, output_value='token_embeddings')] == [32]*3
    for settings in ({}, dict(normalize_embeddings=True), dict(truncate_dim=8),
                     dict(truncate_dim=8, normalize_embeddings=True), dict(precision='binary'),
                     dict(convert_to_tensor=True), dict(convert_to_numpy=False)):
        a, b = (m.encode(items, show_progress_bar=False, **settings) for m in (theirs, ours))
        assert type(a) is type(b) and len(a) == len(b) == len(items)
        for x, y in zip(a, b): assert type(x) is type(y) and x.dtype == y.dtype and x.shape == y.shape
        if 'precision' not in settings:
            assert max(float(np.abs(np.asarray(x)-np.asarray(y)).max()) for x, y in zip(a, b)) < 1e-5
    assert np.abs(theirs.encode(items[0])-ours.encode(items[0])).max() < 1e-5


def test_encode_serves_its_search(checkpoint, files):
    util = pytest.importorskip('sentence_transformers.util')
    pipe = AudioPipeline(checkpoint('hubert-group'))
    vectors = pipe.encode(files, convert_to_tensor=True, normalize_embeddings=True)
    found = util.semantic_search(vectors, vectors, top_k=1)
    assert [hits[0]['corpus_id'] for hits in found] == [0, 1, 2]
    assert np.allclose(vectors.numpy(), Normalize()(pipe(files)), atol=1e-6)


def test_what_encode_refuses(checkpoint, files):
    pipe = AudioPipeline(checkpoint('ast'))
    with pytest.raises(SettingError, match='more than one'): pipe.encode(files[0], precision='int8')
    for wrong in (dict(prompt='a'), dict(prompt_name='a'), dict(output_value='words'), dict(precision='int4'),
                  dict(truncate_dim=0)):
        with pytest.raises(SettingError): pipe.encode(files, **wrong)
    with pytest.raises(SettingError, match='encode needs one row'):
        AudioPipeline(checkpoint('ast'), window=1).encode(files)
    assert pipe.encode([]).shape == (0, 32) and pipe.encode([], precision='binary').shape == (0, 4)


# Hugging Face datasets

@pytest.mark.parametrize('batched', [True, False])
def test_map_of_datasets(batched, checkpoint, files):
    import datasets
    pipe = AudioPipeline(checkpoint('hubert-group'))
    data = datasets.Dataset.from_dict({'audio': [str(f) for f in files], 'label': [0, 1, 1]}).cast_column('audio', datasets.Audio(decode=False))
    mapped = data.map(pipe.on('audio'), batched=batched, batch_size=2)
    assert mapped.column_names == ['audio', 'label', 'embedding']
    assert np.abs(np.array(mapped['embedding'])-pipe(files)).max() < 1e-5
    windows = data.map(AudioPipeline(checkpoint('hubert-group'), window=2).on('audio', to='windows'), batched=batched)
    assert np.array(windows[0]['windows']).shape == (2, pipe.dim)
    with pytest.raises(AudioInputError, match="no column 'sound': got 'audio', 'label'"): data.map(pipe.on('sound'))


def test_map_in_several_processes(checkpoint, files):
    import datasets
    pipe = AudioPipeline(checkpoint('hubert-group'))
    data = datasets.Dataset.from_dict({'path': [str(f) for f in files]})
    mapped = data.map(pipe.on('path'), batched=True, num_proc=2)
    assert np.abs(np.array(mapped['embedding'])-pipe(files)).max() < 1e-5


# torch's DataLoader

@pytest.fixture
def labelled(files):
    import pandas as pd
    return pd.DataFrame({'path': [str(f) for f in files], 'label': ['rise', 'voice', 'music']})


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_of_a_data_loader(workers, labelled):
    data = SoundDataset(labelled, sr=16000)
    batch, = torch.utils.data.DataLoader(data, batch_size=3, num_workers=workers, collate_fn=SoundDataset.collate)
    assert data.classes == ['music', 'rise', 'voice'] and batch['labels'].tolist() == [1, 0, 2]
    assert batch['waves'].shape == (3, batch['lengths'].max()) and batch['waves'].dtype == torch.float32
    for row, n, path in zip(batch['waves'], batch['lengths'], sorted(labelled.path)):
        assert np.array_equal(row[:n].numpy(), AudioLoader(sr=16000)(path).a) and not row[n:].any()


def test_cuts_of_one_length(labelled):
    data = SoundDataset(labelled, sr=8000, seconds=2.5)
    waves, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=3)))
    assert waves.shape == (3, 20000) and labels.tolist() == [1, 0, 2]
    again = SoundDataset(labelled, sr=8000, seconds=2.5)
    assert torch.equal(data[0][0], again[0][0]) and torch.equal(data[-1][0], data[2][0])
    again.epoch = 1
    assert not torch.equal(data[0][0], again[0][0])
    short = SoundDataset(labelled, sr=8000, seconds=60)[0][0]
    assert len(short) == 480000 and short[:24000].any() and not short[24000:].any()


def test_a_dataset_of_vectors(labelled, checkpoint):
    pipe = AudioPipeline(checkpoint('hubert-group'), return_tensors='pt')
    vectors, _ = next(iter(torch.utils.data.DataLoader(SoundDataset(labelled, sr=16000, transform=pipe), batch_size=3)))
    assert (vectors-pipe(sorted(labelled.path))).abs().max() < 1e-5
    numpy = SoundDataset(labelled, sr=16000, transform=AudioPipeline(checkpoint('hubert-group')))
    assert (SoundDataset.collate([numpy[0], numpy[1]])['waves']-vectors[:2]).abs().max() < 1e-6


def test_several_labels_and_broken_sounds(labelled, tmp_path):
    labelled['label'] = [['rise', 'music'], [], ['voice']]
    data = SoundDataset(labelled, sr=8000)
    assert [data[i][1].tolist() for i in range(3)] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert SoundDataset.collate([data[0], data[1]])['labels'].shape == (2, 3)
    (tmp_path/'bad.wav').write_bytes(b'RIFF nothing')
    labelled.loc[0, 'path'] = str(tmp_path/'bad.wav')
    broken = SoundDataset(labelled, sr=8000)
    with pytest.raises(AudioDecodeError, match='bad.wav'):
        broken[[n.endswith('bad.wav') for n in broken.names].index(True)]
    with pytest.raises(IndexError): broken[3]
    for wrong in (dict(seconds=0), dict(transform=3), dict(sr=-1), dict(seed=-1), dict(seed=1.5)):
        with pytest.raises(SettingError): SoundDataset(labelled, **{'sr': 8000, **wrong})
