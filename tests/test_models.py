"Every architecture against its own library, alone and in company; and folders that are no models."
import copy
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
import transformers as tf
from kit import Loudness, command, noise
from tiny_models import architectures, headed, make_folder, small, three

from auditus import AudioArray, AudioClassifier, AudioEmbedding, AudioInputError, AudioPipeline, ModelNotFoundError, SettingError, Windows, load_model
from auditus.models import arithmetic, device as on_device, hf
from auditus.models.base import ModelFrames

pytestmark = pytest.mark.arithmetic  # what comes out depends on the processor

seven_seconds = 1., .5, 2.3, 1., 3.1, .5, 1.7
names = list(architectures)


def by_hand(name, model, extractor, wave):
    "Frames and summary as a user of `transformers` would get them for one wave."
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors='pt')
    with torch.inference_mode():
        if name.startswith('clap'):
            inputs['is_longer'] = torch.zeros(1, 1, dtype=torch.bool)
            out = model.get_audio_features(**inputs)
            return out.last_hidden_state.flatten(2).transpose(1, 2)[0], out.pooler_output[0]
        if name == 'whisper':
            out = model.model.encoder(inputs['input_features'])
            return out.last_hidden_state[0, :int(np.ceil(len(wave)/320))], None
        if name == 'speech-to-text': return model.get_encoder()(**inputs).last_hidden_state[0], None
        out = model(**inputs)
        frames = out.last_hidden_state[0]
        if name == 'wav2vec2-bert': frames = frames[inputs['attention_mask'][0].bool()]
        return frames, getattr(out, 'pooler_output', [None])[0]


@pytest.mark.parametrize('name', names)
def test_frames_are_the_librarys(name, made, rng):
    folder, model, extractor = made(name)
    embed = AudioEmbedding(folder)
    for seconds in (1., 2.35):
        wave = noise(rng, seconds, embed.sr)
        frames, pooled = by_hand(name, model, extractor, wave)
        got = embed(AudioArray(wave, embed.sr))
        assert got.shape == frames.shape == (len(frames), embed.dim)
        assert np.abs(got-frames.numpy()).max() < 1e-5
        if embed.model.pooled_dim is None: continue
        summary = AudioEmbedding(folder, output='pooled')(AudioArray(wave, embed.sr))
        assert summary.shape == (embed.model.pooled_dim,)
        assert np.abs(summary-pooled.numpy()).max() < 1e-5


@pytest.mark.parametrize('name', names)
def test_alone_in_a_batch_and_in_another_order(name, checkpoint, rng):
    embed = AudioEmbedding(checkpoint(name), batch_size=4)
    sounds = [AudioArray(noise(rng, s, embed.sr), embed.sr) for s in seven_seconds]
    alone, together = [embed(s) for s in sounds], embed(sounds)
    order = rng.permutation(len(sounds))
    shuffled = embed([sounds[i] for i in order])
    for i in range(len(sounds)):
        assert alone[i].shape == together[i].shape
        assert np.abs(alone[i]-together[i]).max() < 1e-5
        assert np.abs(alone[i]-shuffled[list(order).index(i)]).max() < 1e-5


@pytest.mark.parametrize('name', names)
def test_forward_takes_mixed_lengths_and_masks_its_padding(name, checkpoint, rng):
    model = load_model(checkpoint(name))
    waves = [noise(rng, s, model.sr) for s in (1.2, .6, 1.2)]
    out = model.forward(waves)
    assert isinstance(out, ModelFrames) and out.frames.shape[2] == model.frame_dim
    assert out.frames.shape[:2] == out.mask.shape
    for w, frames, mask in zip(waves, out.frames, out.mask):
        alone = model.forward([w])
        assert (frames[mask]-alone.frames[0][alone.mask[0]]).abs().max() < 1e-5


@pytest.mark.parametrize('name', [n for n in names if n != 'speech-to-text'])
def test_short_and_silent_sounds_give_finite_frames(name, checkpoint):
    embed = AudioEmbedding(checkpoint(name))
    for samples in (1, 25, 399, embed.sr):
        frames = embed(AudioArray(np.zeros(samples), embed.sr))
        assert len(frames) >= 1 and np.isfinite(frames).all()


def test_an_extractor_that_makes_nan_of_silence_is_an_error(checkpoint):
    embed = AudioEmbedding(checkpoint('speech-to-text'))
    with pytest.warns(RuntimeWarning), pytest.raises(AudioInputError, match='not finite'):
        embed(AudioArray(np.zeros(16000), 16000))


@pytest.mark.parametrize('name,context', [('ast', 10.24), ('whisper', 30.), ('clap-fusion', 10.),
                                          ('clap-rand_trunc', 10.), ('hubert-group', None), ('sew', None)])
def test_context_and_rate(name, context, made):
    folder, _, extractor = made(name)
    model = load_model(folder)
    assert (model.context, model.sr) == (context, extractor.sampling_rate)


@pytest.mark.parametrize('name', ['clap-fusion', 'clap-rand_trunc'])
def test_clap_draws_no_lots(name, checkpoint, rng):
    embed = AudioEmbedding(checkpoint(name), output='pooled')
    long = AudioArray(noise(rng, 14, 48000), 48000)
    with pytest.warns(UserWarning, match='hears 10 s at once'): first = embed(long)
    assert np.array_equal(first, embed(long))
    assert np.array_equal(first, embed(AudioArray(long[:480000], 48000)))


@pytest.mark.parametrize('name', ['clap-fusion', 'clap-rand_trunc'])
def test_clap_reads_words(name, made, rng):
    folder, model, _ = made(name)
    with pytest.raises(ModelNotFoundError, match='holds no tokenizer'): load_model(folder).embed_text(['a dog'])
    words = {w: i for i, w in enumerate(['<s>', '<pad>', '</s>', '<unk>', '<mask>', 'a', 'dog', 'barks', 'rain'])}
    from tokenizers import Tokenizer, models, pre_tokenizers
    core = Tokenizer(models.WordLevel(words, unk_token='<unk>'))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    read = tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token='<pad>', unk_token='<unk>',
                                      bos_token='<s>', eos_token='</s>', model_max_length=64)
    whole = folder.parent/f'{name}-words'
    shutil.copytree(folder, whole)
    read.save_pretrained(whole)
    clap = load_model(whole)
    texts = ['a dog barks', 'rain']
    with torch.inference_mode():
        inputs = read(texts, padding=True, return_tensors='pt')
        reference = model.get_text_features(input_ids=inputs['input_ids'],
                                            attention_mask=inputs['attention_mask']).pooler_output
    got = clap.embed_text(texts)
    assert got.shape == (2, clap.pooled_dim)
    assert (got-reference).abs().max() < 1e-5
    assert (got.norm(dim=1)-1).abs().max() < 1e-5
    assert clap.logit_scale == pytest.approx(model.logit_scale_a.exp().item())


def test_only_clap_reads_words(checkpoint): assert load_model(checkpoint('ast')).embed_text is None


@pytest.mark.parametrize('name', list(headed))
def test_heads_give_the_librarys_logits_and_the_same_frames(name, made, rng):
    folder, model, extractor = made(f'head-{name}')
    found = load_model(folder)
    assert (found.labels, found.activation) == (['yes', 'no', 'stop'], 'softmax')
    for seconds in (1., 2.5):
        wave = noise(rng, seconds, found.sr)
        inputs = extractor(wave, sampling_rate=found.sr, return_tensors='pt')
        out = found.forward([wave])
        with torch.inference_mode():
            assert (out.logits[0]-model(**inputs).logits[0]).abs().max() < 1e-5
            base = model.encoder if name == 'whisper' else model.base_model
            frames = base(**({'input_features': inputs['input_features']} if name == 'whisper'
                             else inputs)).last_hidden_state
        assert (out.frames[0][out.mask[0]]-frames[0, :int(out.mask.sum())]).abs().max() < 1e-5


@pytest.mark.parametrize('config, made', [(tf.Wav2Vec2Config, tf.Wav2Vec2ForXVector),
                                          (tf.WavLMConfig, tf.WavLMForXVector)])
def test_the_vector_of_a_speaker_is_the_models_summary(config, made, tmp_path, rng):
    from tiny_models import speech
    model, extractor = make_folder(speech(config, made, tdnn_dim=(16, 16, 16, 16, 24), xvector_output_dim=12), tmp_path)
    pipe = AudioPipeline(tmp_path, pooling='model')
    assert pipe.dim == 12
    for seconds in (.05, 1., 2.3):
        wave = noise(rng, seconds, 16000)
        heard = np.pad(wave, (0, max(0, pipe.model.min_samples-len(wave))))
        with torch.inference_mode():
            reference = model(**extractor(heard, sampling_rate=16000, return_tensors='pt')).embeddings[0].numpy()
        assert np.isfinite(reference).all() and np.abs(pipe((wave, 16000))-reference).max() < 1e-5
    assert np.abs(AudioPipeline(tmp_path)((wave, 16000))-model.base_model(**extractor(wave, sampling_rate=16000, return_tensors='pt')).last_hidden_state[0].mean(0).detach().numpy()).max() < 1e-5


def embeds_as_before(name, ids, made, to, rng):
    "A copy with other labels embeds a wave, which is returned, as the folder does."
    folder, *_ = made(name)
    shutil.copytree(folder, to)
    config = json.loads((folder/'config.json').read_text())
    (to/'config.json').write_text(json.dumps({**config, 'id2label': ids, 'label2id': {v: k for k, v in ids.items()}}))
    wave = noise(rng, 1., 16000)
    assert np.array_equal(AudioPipeline(to)((wave, 16000)), AudioPipeline(folder)((wave, 16000)))
    return wave


@pytest.mark.parametrize('ids', [{1: 'a', 2: 'b', 3: 'c'}, {0: 'a', 2: 'b', 3: 'c'}])
def test_embeddings_need_no_labels_and_scores_do(ids, made, tmp_path, rng):
    wave = embeds_as_before('head-hubert', ids, made, tmp_path/'m', rng)
    with pytest.raises(ModelNotFoundError, match=f'id2label in its config.json has the numbers {min(ids)} to 3, and 3 classes are numbered 0 to 2'):
        AudioClassifier(tmp_path/'m')((wave, 16000))


@pytest.mark.parametrize('name', ['head-ast', 'head-hubert', 'head-whisper'])
@pytest.mark.parametrize('ids', [{0: 'a', 1: 'b'}, {0: 'a', 1: 'b', 2: 'c', 3: 'd'}])
def test_embeddings_need_no_labels_where_their_number_is_wrong(ids, name, made, tmp_path, rng):
    wave = embeds_as_before(name, ids, made, tmp_path/'m', rng)
    assert load_model(tmp_path/'m').forward([wave]).logits.shape == (1, 3)
    with pytest.raises(ModelNotFoundError, match='id2label in its config.json does not have a name for each of 3 classes'):
        AudioClassifier(tmp_path/'m')((wave, 16000))


def test_classes_that_nobody_named_are_numbered_as_in_transformers(made, tmp_path, rng):
    folder, model, extractor = made('head-wav2vec2')
    shutil.copytree(folder, tmp_path/'m')
    config = json.loads((folder/'config.json').read_text())
    (tmp_path/'m'/'config.json').write_text(json.dumps({k: v for k, v in config.items() if k not in ('id2label', 'label2id')}))
    assert load_model(tmp_path/'m').labels == ['LABEL_0', 'LABEL_1', 'LABEL_2']


@pytest.mark.parametrize('name, file, change, said', [
    ('clap-fusion', 'preprocessor_config.json', {'feature_size': 128},
     '`num_mel_bins` 64 and its feature extractor `feature_size` 128'),
    ('whisper', 'preprocessor_config.json', {'chunk_length': 10},
     '`max_source_positions` 1500, half the rows of a spectrogram, and its feature extractor `chunk_length` 10, 1000 rows'),
    ('clap-fusion', 'preprocessor_config.json', {'truncation': 'rand_trunc'},
     "`enable_fusion` True and its feature extractor `truncation` 'rand_trunc'"),
    ('ast', 'preprocessor_config.json', {'max_length': 512},
     '`max_length` 1024 and its feature extractor `max_length` 512'),
    ('whisper', 'preprocessor_config.json', {'feature_size': 128},
     '`num_mel_bins` 80 and its feature extractor `feature_size` 128')])
def test_a_network_and_features_that_do_not_fit_are_told_when_it_is_opened(name, file, change, said, checkpoint, tmp_path):
    shutil.copytree(checkpoint(name), tmp_path/'m')
    (tmp_path/'m'/file).write_text(json.dumps({**json.loads((tmp_path/'m'/file).read_text()), **change}))
    with pytest.raises(ModelNotFoundError, match=said): load_model(tmp_path/'m')


@pytest.mark.parametrize('value', ['no_such_package.models:Gone', 'auditus.models.base:Gone'])
def test_a_model_whose_package_is_gone(value, monkeypatch):
    monkeypatch.setattr('auditus.models.registry.registered',
                        lambda: {'gone': EntryPoint('gone', value, 'auditus.models')})
    with pytest.raises(ModelNotFoundError, match=f"'gone' is registered as {value}, which can not be imported"):
        load_model('gone')


def test_a_checkpoint_that_names_no_architecture(checkpoint, made, tmp_path, rng):
    for name in ('hubert-group', 'whisper', 'speech-to-text'):
        shutil.copytree(checkpoint(name), tmp_path/name)
        config = json.loads((tmp_path/name/'config.json').read_text())
        (tmp_path/name/'config.json').write_text(json.dumps({k: v for k, v in config.items() if k != 'architectures'}))
        wave = [noise(rng, 1., 16000)]
        assert torch.equal(load_model(tmp_path/name).forward(wave).frames,
                           load_model(checkpoint(name)).forward(wave).frames)


def test_problem_type_decides_the_activation(tmp_path):
    make_folder(lambda: (tf.ASTForAudioClassification(tf.ASTConfig(**small, **three, problem_type='multi_label_classification')), tf.ASTFeatureExtractor()), tmp_path)
    assert load_model(tmp_path).activation == 'sigmoid'


@pytest.mark.parametrize('name', ['ast', 'wav2vec2-layer', 'hubert-group', 'wav2vec2-bert', 'whisper'])
def test_hidden_layers_are_the_librarys(name, made, rng):
    folder, model, extractor = made(name)
    wave = noise(rng, 1.3, extractor.sampling_rate)
    sound, inputs = AudioArray(wave, extractor.sampling_rate), extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors='pt')
    with torch.inference_mode():
        run = model.model.encoder if name == 'whisper' else model
        inputs = {'input_features': inputs['input_features']} if name == 'whisper' else inputs
        states = run(**inputs, output_hidden_states=True).hidden_states
    for layer in (0, 1, 3, -2):
        got = AudioEmbedding(folder, layer=layer)(sound)
        assert np.abs(got-states[layer][0, :len(got)].numpy()).max() < 1e-5
    mean = AudioEmbedding(folder, layer='mean')(sound)
    assert np.abs(mean-torch.stack(states).mean(0)[0, :len(mean)].numpy()).max() < 1e-5
    with pytest.raises(SettingError, match='hidden states -4 to 3'): AudioEmbedding(folder, layer=9)(sound)


@pytest.mark.parametrize('name', ['ast', 'wav2vec2-layer', 'wav2vec2-bert', 'whisper', 'speech-to-text'])
def test_several_layers_come_of_one_pass(name, checkpoint, rng, monkeypatch):
    model = load_model(checkpoint(name))
    waves = [noise(rng, s, model.sr) for s in (1.2, .6, 1.2)]
    alone = {layer: model.forward(waves, layer).frames for layer in range(-2, model.n_layers+1)}
    calls, real = [], model.call
    monkeypatch.setattr(model, 'call', lambda *args: calls.append(1) or real(*args), raising=False)
    one = model.forward(waves)
    passes = len(calls)
    calls.clear()
    both, whole = model.forward(waves, [1, -1]), model.forward(waves, 'all')
    assert len(calls) == 2*passes
    assert both.frames.shape == (3, 2, *one.frames.shape[1:])
    assert whole.frames.shape == (3, model.n_layers+1, *one.frames.shape[1:])
    assert torch.equal(both.mask, one.mask) and torch.equal(whole.mask, one.mask)
    assert torch.equal(both.frames[:, 0], alone[1]) and torch.equal(both.frames[:, 1], one.frames)
    assert all(torch.equal(whole.frames[:, i], alone[i]) for i in range(model.n_layers+1))
    with pytest.raises(SettingError, match='must lie between'): model.forward(waves, [1, 99])


def test_layers_and_summaries_that_a_model_lacks(checkpoint, rng):
    sound = AudioArray(noise(rng, 1., 16000), 16000)
    with pytest.raises(SettingError, match='no summary of its own'):
        AudioEmbedding(checkpoint('hubert-group'), output='pooled')(sound)
    with pytest.raises(SettingError, match='last layer only'):
        AudioEmbedding(checkpoint('clap-fusion'), layer=1)(AudioArray(sound.a, 48000))
    with pytest.raises(SettingError, match='layer=-1'): AudioEmbedding(layer=2, output='pooled')


def test_default_ast_hears_a_recording_as_transformers_does(tmp_path, sounds):
    import soundfile as sf
    import soxr
    # of the usual width; its twelve layers would do no more than two
    model, extractor = make_folder(lambda: (tf.ASTModel(tf.ASTConfig(num_hidden_layers=2)),
                                            tf.ASTFeatureExtractor()), tmp_path)
    samples, sr = sf.read(sounds/'chirp.ogg', dtype='float32')
    samples = np.tile(samples, 7)[:round(19.8*sr)]
    at_16k = soxr.resample(samples, sr, 16000, quality='HQ')
    with torch.inference_mode():
        reference = model(**extractor(at_16k, sampling_rate=16000, return_tensors='pt')).last_hidden_state[0].numpy()
    from auditus import Resampling
    sound = AudioArray(samples, sr)
    with pytest.warns(UserWarning, match='hears 10.24 s at once'):
        got = AudioEmbedding(tmp_path)(Resampling(16000)(sound))
    assert got.shape == (1214, 768)
    assert np.abs(got-reference).max() < 1e-5
    pipe = AudioPipeline(tmp_path)
    vector = pipe(sound)
    assert vector.shape == (768,) == (pipe.dim,)
    changed = samples.copy()
    changed[-sr:] = 0
    assert np.abs(pipe(AudioArray(changed, sr))-vector).max() > 1e-3


def test_bfloat16_is_the_librarys_and_comes_out_as_float32(made, rng, monkeypatch):
    monkeypatch.setattr(hf, 'packing_pays', lambda dtype: False)  # packed layers are nearer to float32
    folder, _, extractor = made('hubert-layer')
    wave = noise(rng, 2., 16000)
    model = tf.HubertModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        reference = model(extractor(wave, sampling_rate=16000, return_tensors='pt')['input_values'].bfloat16()).last_hidden_state[0]
    got = AudioEmbedding(folder, dtype='bfloat16')(AudioArray(wave, 16000))
    assert got.dtype == np.float32 and np.abs(got-reference.float().numpy()).max() < 1e-5


def test_feature_kwargs_reach_the_extractor(made, rng):
    folder, model, extractor = made('wav2vec2-group')
    wave = noise(rng, 1., 16000)+.5
    raw = tf.Wav2Vec2FeatureExtractor(do_normalize=False)(wave, sampling_rate=16000, return_tensors='pt')
    with torch.inference_mode(): reference = model(**raw).last_hidden_state[0].numpy()
    assert np.abs(AudioEmbedding(folder, feature_kwargs={'do_normalize': False})(AudioArray(wave, 16000))-reference).max() < 1e-5
    with pytest.raises(SettingError, match='has no setting `loudness`; it has .*do_normalize'):
        load_model(folder, feature_kwargs={'loudness': 1})


# loading: once, quietly, whole

def test_models_are_shared_and_follow_their_files(checkpoint, tmp_path):
    folder = tmp_path/'m'
    shutil.copytree(checkpoint('hubert-group'), folder)
    first = load_model(folder)
    assert load_model(str(folder)) is first is copy.deepcopy(first) is pickle.loads(pickle.dumps(first))
    assert load_model(folder, dtype='bfloat16') is not first
    # weights are mapped from their file, so it is replaced, not written over
    (make_and_get(tmp_path/'other', seed=1)/'model.safetensors').replace(folder/'model.safetensors')
    again = load_model(folder)
    assert again is not first
    wave = [np.ones(800, np.float32)]
    assert not torch.equal(again.forward(wave).frames, first.forward(wave).frames)


def make_and_get(folder, name='hubert-group', seed=0):
    make_folder(architectures[name], folder, seed)
    return folder


def test_loading_is_quiet(checkpoint, tmp_path, capfd):
    make_and_get(tmp_path)
    capfd.readouterr()
    load_model(tmp_path)
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ('', '')


def test_saved_pipelines_open_anywhere(checkpoint, tmp_path, rng):
    for name in ('ast', 'whisper', 'clap-fusion', 'wav2vec2-layer'):
        folder = checkpoint(name)
        pipe = AudioPipeline(folder, window=.8, pooling='max', dtype=torch.float32)
        sound = AudioArray(noise(rng, 2., pipe.sr), pipe.sr)
        reference = pipe(sound)
        pipe.save(tmp_path/name)
        moved = (tmp_path/name).rename(tmp_path/f'{name}-moved')
        again = AudioPipeline.load(moved)
        assert str(moved) in str(again.model_name) and np.array_equal(again(sound), reference)
    with pytest.raises(ModelNotFoundError, match='holds no saved pipeline'): AudioPipeline.load(tmp_path/'nothing')
    with pytest.raises(SettingError, match='has no setting `colour`'): AudioPipeline.load(moved, colour='red')
    (moved/'auditus.json').write_text('{')
    with pytest.raises(ModelNotFoundError, match='damaged'): AudioPipeline.load(moved)


def test_names_that_lead_nowhere(tmp_path):
    for name in ('no/such-model', 'nosuchmodel', './no/such', '/no/such', 'a/b/c/d'):
        with pytest.raises(ModelNotFoundError, match='Three ways on') as e: load_model(name, local_files_only=True)
        assert isinstance(e.value, OSError) and 'birdnet' in str(e.value) and 'hf download' in str(e.value)
    with pytest.raises(SettingError, match='empty'): load_model('')
    with pytest.raises(SettingError, match='named by a str or a Path'): load_model(3)
    (tmp_path/'model.bin').write_text('x')
    with pytest.raises(ModelNotFoundError, match='is a file'): load_model(tmp_path/'model.bin')


def test_folders_that_are_no_whole_model(tmp_path):
    def folder(name): return make_and_get(tmp_path/name)
    empty = tmp_path/'empty'
    empty.mkdir()
    with pytest.raises(ModelNotFoundError, match='holds no config.json'): load_model(empty)
    (f := folder('deaf')/'preprocessor_config.json').unlink()
    with pytest.raises(ModelNotFoundError, match='holds no preprocessor_config.json'): load_model(f.parent)
    (f := folder('weightless')/'model.safetensors').unlink()
    with pytest.raises(ModelNotFoundError, match='holds no weights'): load_model(f.parent)
    (f := folder('cut')/'model.safetensors').write_bytes(f.read_bytes()[:1000])
    with pytest.raises(ModelNotFoundError, match='can not be opened'): load_model(f.parent)
    (f := folder('garbled')/'config.json').write_text('{')
    with pytest.raises(ModelNotFoundError, match='is damaged'): load_model(f.parent)
    (f := folder('stranger')/'config.json').write_text('{"model_type": "nobody-knows-it"}')
    with pytest.raises(ModelNotFoundError, match='can not be read'): load_model(f.parent)


def test_missing_weights_are_no_random_weights(tmp_path):
    from safetensors.torch import load_file, save_file
    make_and_get(tmp_path)
    weights = load_file(tmp_path/'model.safetensors')
    gone = next(k for k in weights if 'layers.1' in k)
    del weights[gone]
    save_file(weights, tmp_path/'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(ModelNotFoundError, match='1 tensors are missing'): load_model(tmp_path)
    make_and_get(tmp_path)
    settings = json.loads((tmp_path/'config.json').read_text())
    (tmp_path/'config.json').write_text(json.dumps(settings | {'intermediate_size': 64}))
    with pytest.raises(ModelNotFoundError): load_model(tmp_path)


def test_pickles_are_opened_only_when_asked_and_never_run(tmp_path, rng):
    model = make_folder(architectures['hubert-group'], tmp_path)[0]
    (tmp_path/'model.safetensors').unlink()
    torch.save(model.state_dict(), tmp_path/'pytorch_model.bin')
    with pytest.raises(ModelNotFoundError, match='as pickles only'): load_model(tmp_path)
    wave = noise(rng, 1., 16000)
    allowed = load_model(tmp_path, allow_pickle=True)
    with torch.inference_mode():
        reference = model(**tf.Wav2Vec2FeatureExtractor()(wave, sampling_rate=16000,
                                                          return_tensors='pt')).last_hidden_state
    assert (allowed.forward([wave]).frames-reference).abs().max() < 1e-5

    class Harm:
        def __reduce__(self): return (tmp_path/'harm').touch, ()
    torch.save({'weight': Harm()}, tmp_path/'pytorch_model.bin')
    with pytest.raises(ModelNotFoundError, match='can not be opened'): load_model(tmp_path, allow_pickle=True)
    assert not (tmp_path/'harm').exists()


def test_a_model_that_hears_nothing(tmp_path):
    vision = tf.ViTModel(tf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                      intermediate_size=16, image_size=32, patch_size=16))
    vision.save_pretrained(tmp_path)
    (tmp_path/'preprocessor_config.json').write_text(json.dumps({'image_processor_type': 'ViTImageProcessor',
                                                                 'size': 32}))
    with pytest.raises(ModelNotFoundError): load_model(tmp_path)


def test_settings_that_mean_nothing(checkpoint):
    folder = checkpoint('ast')
    with pytest.raises(SettingError, match='`dtype` must be one of'): load_model(folder, dtype='float31')
    with pytest.raises(SettingError, match='`device`'): load_model(folder, device='abacus')
    with pytest.raises(SettingError, match='`backend` must be one of'): load_model(folder, backend='abacus')
    with pytest.raises(SettingError, match='has no setting `checkpoint`'): load_model(folder, checkpoint='x')
    if not torch.cuda.is_available():
        with pytest.raises(SettingError, match='no CUDA GPU'): load_model(folder, device='cuda')


# the contract, with a model that is not ours

def test_the_contract_is_all_that_a_model_needs(rng, tmp_path):
    pipe = AudioPipeline(Loudness(), window=.5)
    sound = AudioArray(noise(rng, 2.2, 1000), 1000)
    reference = [np.sqrt((sound[s:s+500].reshape(-1, 100)**2).mean(1)).mean() for s in (0, 500, 1000, 1500)]
    got = pipe(sound)
    assert got.shape == (5, 1) and np.abs(got[:4, 0]-reference).max() < 1e-6
    assert len(AudioEmbedding(Loudness())(Windows([sound[:150]], 1000, [0.], [.15]))) == 1
    with pytest.raises(SettingError, match='can not be saved'): pipe.save(tmp_path)


def test_entry_points_bring_in_models_of_others(tmp_path, monkeypatch):
    (tmp_path/'other-1.0.dist-info').mkdir()
    (tmp_path/'other-1.0.dist-info'/'METADATA').write_text('Metadata-Version: 2.1\nName: other\nVersion: 1.0\n')
    (tmp_path/'other-1.0.dist-info'/'entry_points.txt').write_text('[auditus.models]\nloud = other_models:Loud\nlvl = other_models:Loud\n')
    (tmp_path/'other_models.py').write_text('from kit import Loudness\nclass Loud(Loudness):\n    def __init__(self, name, checkpoint=None): self.name = str(name)\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert load_model('loud').name == 'loud'
    assert load_model('some/file.lvl').name == 'some/file.lvl'
    with pytest.raises(SettingError, match='has no setting `dtype`; it has checkpoint'):
        load_model('loud', dtype='bfloat16')


def test_a_model_that_can_not_be_served_says_so_when_it_is_loaded(tmp_path):
    def vocoder():
        return tf.UnivNetModel(tf.UnivNetConfig(model_hidden_channels=8, kernel_predictor_hidden_channels=8)), tf.UnivNetFeatureExtractor()
    make_folder(vocoder, tmp_path)
    with pytest.raises(ModelNotFoundError, match='can not be served: its UnivNetModel does not make frames'):
        load_model(tmp_path)


# features in torch, and arithmetic

def kinds_of_sound(rng, seconds, sr):
    "Noise, silence, clicks and tones."
    n = round(seconds*sr)
    t, clicks = np.arange(n)/sr, np.zeros(n)
    clicks[::max(1, n//7)] = 1
    return [w.astype(np.float32) for w in (rng.normal(0, .1, n), np.zeros(n), clicks, np.sin(2*np.pi*440*t),
                                           .5*np.sin(2*np.pi*3000*t)+1e-3*rng.normal(0, 1, n))]


@pytest.mark.parametrize('name', ['ast', 'clap-fusion', 'clap-rand_trunc', 'whisper'])
def test_features_in_torch_are_the_librarys(name, made, rng):
    folder, _, extractor = made(name)
    model = load_model(folder)
    for seconds in (.3, 2.7, model.context):
        waves = kinds_of_sound(rng, seconds, model.sr)
        ours, theirs = model.inputs(waves), extractor(waves, sampling_rate=model.sr, return_tensors='pt')
        for k in ours:
            if k == 'is_longer': continue
            scale = 2*extractor.std if name == 'ast' else 1  # on the log-mel before it is scaled
            off = (ours[k].float()-theirs[k].float()).abs()*scale
            assert ours[k].shape == theirs[k].shape and off.max() < 1e-3
    assert name == 'whisper' or model.in_torch


def test_features_of_other_settings_are_the_librarys_own(checkpoint, rng):
    wave = noise(rng, 2., 16000)
    for settings in (dict(mean=0., std=1.), dict(do_normalize=False), dict(padding_value=1.)):
        model = load_model(checkpoint('ast'), feature_kwargs=settings)
        assert (model.inputs([wave])['input_values']-model.inputs_of_library([wave])['input_values']).abs().max() < 1e-3
    model = load_model(checkpoint('ast'))
    model.__dict__.pop('in_torch', None)
    # as if a setting meant something else
    model.inputs_in_torch = lambda waves: {'input_values': torch.zeros(1, 1024, 128)}
    try:
        assert not model.in_torch
        assert torch.equal(model.inputs([wave])['input_values'], model.inputs_of_library([wave])['input_values'])
    finally:
        del model.inputs_in_torch
        model.__dict__.pop('in_torch', None)


@pytest.mark.parametrize('name', ['ast', 'wav2vec2-layer', 'wavlm-group', 'whisper', 'clap-fusion', 'wav2vec2-bert'])
def test_packed_layers_change_nothing(name, checkpoint, tmp_path, rng, monkeypatch):
    plain = load_model(checkpoint(name))
    monkeypatch.setattr(hf, 'packing_pays', lambda dtype: True)
    shutil.copytree(checkpoint(name), tmp_path/'copy')
    packed = load_model(tmp_path/'copy')
    assert any(type(m).__name__ == 'PackedLinear' for m in packed.net.modules())
    waves = [noise(rng, 1.2, plain.sr) for _ in range(2)]
    for layer in (-1, 1) if plain.n_layers else (-1,):
        a, b = plain.forward(waves, layer).frames, packed.forward(waves, layer).frames
        assert (a-b).abs().max() < 1e-4*a.abs().max().clamp(min=1)
    alone, together = packed.forward(waves[:1]), packed.forward(waves)
    assert (alone.frames[0]-together.frames[0]).abs().max() < 1e-5*alone.frames.abs().max().clamp(min=1)
    if name == 'ast':
        pytest.importorskip('onnxruntime')
        packed.export(tmp_path/'model.onnx')
        assert (load_model(tmp_path/'model.onnx').forward(waves).frames-plain.forward(waves).frames).abs().max() < 1e-4


@pytest.mark.parametrize('name', ['ast', 'wav2vec2-layer', 'wavlm-group', 'whisper'])
def test_packed_layers_in_bfloat16_stay_close(name, checkpoint, tmp_path, rng, monkeypatch):
    if not arithmetic.can_pack('bfloat16'):  # where it can't be had, it is not chosen, whatever the processor is
        monkeypatch.setattr(on_device, 'processor', lambda: ('AuthenticAMD', {'avx512_bf16'}))
        assert not hf.packing_pays('bfloat16')
        return
    plain = load_model(checkpoint(name))
    monkeypatch.setattr(hf, 'packing_pays', lambda dtype: dtype == 'bfloat16')
    shutil.copytree(checkpoint(name), tmp_path/'copy')
    packed = load_model(tmp_path/'copy', dtype='bfloat16')
    assert any(type(m).__name__ == 'PackedLinear' for m in packed.net.modules())
    assert packed.precision == 'bfloat16' and packed.dtype == torch.float32
    waves = [noise(rng, 1.2, plain.sr) for _ in range(2)]
    a, b = plain.forward(waves).frames.flatten(0, 1), packed.forward(waves).frames.flatten(0, 1)
    assert b.dtype == torch.float32 and 1-torch.cosine_similarity(a, b).min() < 1e-3 and not torch.equal(a, b)
    with pytest.raises(SettingError, match='float32'): packed.export(tmp_path/'model.onnx')


def test_loading_configures_torch(checkpoint, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(hf, 'configure_torch', lambda: called.append(True))
    shutil.copytree(checkpoint('ast'), tmp_path/'copy')
    load_model(tmp_path/'copy')
    assert called


def test_memory_is_kept_for_the_next_pass_unless_somebody_has_chosen():
    # in processes of their own: the setting belongs to the whole of one
    code = ("import resource\n"
            "from auditus.models.hf import configure_torch\n"
            "configure_torch()\n"
            "import torch\n"
            "def faults():\n"
            "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "    for _ in range(20): torch.ones(1 << 22)\n"
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt-before\n"
            "faults()\n"
            "print(faults())")
    counted = []
    for chosen in ({}, {'MALLOC_TRIM_THRESHOLD_': '131072'}):
        env = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_') and k != 'GLIBC_TUNABLES'} | chosen
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        counted.append(int(done.stdout))
    if platform.libc_ver()[0] == 'glibc': assert counted[0] < counted[1]/10


def test_a_gpu_can_not_be_had_in_a_fork(monkeypatch):
    on_device.check_fork('cuda')
    monkeypatch.setattr(torch.cuda, '_is_in_bad_fork', lambda: True)  # torch's word for it; in test_gpu.py it is one
    on_device.check_fork(torch.device('cpu')), on_device.check_fork(None)
    with pytest.raises(SettingError, match="leave `num_proc` out, start processes by 'spawn', or give device='cpu'"):
        on_device.check_fork(torch.device('cuda', 0))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    with pytest.raises(SettingError, match='forked'): on_device.as_device(None)
    assert on_device.as_device(None, on_cpu=True).type == 'cpu'


def test_the_users_precision_is_left_as_it_was(checkpoint, rng, monkeypatch):
    model, wave = load_model(checkpoint('ast')), noise(rng, 1., 16000)
    seen, real = [], model.call
    monkeypatch.setattr(on_device, 'medium_pays', lambda: True)
    monkeypatch.setattr(model, 'call', lambda *a: seen.append(torch.get_float32_matmul_precision())
                        or real(*a), raising=False)
    for given in ('highest', 'high'):
        torch.set_float32_matmul_precision(given)
        try:
            model.forward([wave])
            assert torch.get_float32_matmul_precision() == given
            with pytest.raises(RuntimeError), arithmetic.medium(): raise RuntimeError
            assert torch.get_float32_matmul_precision() == given
        finally: torch.set_float32_matmul_precision('highest')
    assert seen == ['medium', 'medium']


def test_arithmetic_that_is_not_exact_is_not_used():
    linear, x, reference = arithmetic.sample()
    assert arithmetic.is_exact(linear(x), reference)
    assert not arithmetic.is_exact(linear(x.bfloat16().float()), reference)
    for dtype in arithmetic.exact:
        if arithmetic.can_pack(dtype): assert arithmetic.is_exact(arithmetic.packed_linear(linear, dtype)(x),
                                                                  reference, dtype)
    with arithmetic.medium(): assert arithmetic.medium_is_exact() == arithmetic.is_exact(linear(x), reference)
    assert arithmetic.can_pack('float32') and not arithmetic.can_pack('float16') and not arithmetic.can_pack('int8')


@pytest.mark.parametrize('maker, flags, wanted', [
    ('GenuineIntel', {'avx2'}, set()),
    ('GenuineIntel', {'avx512_bf16', 'amx_bf16', 'avx512_fp16'}, {'bfloat16', 'float16'}),
    ('AuthenticAMD', {'avx2'}, {'packed float32', 'medium'}),
    ('AuthenticAMD', {'avx512_bf16'}, {'packed float32', 'medium', 'bfloat16', 'packed bfloat16'}),
    ('AuthenticAMD', {'avx512_bf16', 'amx_bf16'}, {'packed float32', 'medium', 'bfloat16'}),
    ('', set(), set()),
])
def test_each_processor_gets_what_it_is_fast_in(maker, flags, wanted, monkeypatch):
    "As far as it is exact here, where oneDNN has fewer instructions than that processor, or more."
    monkeypatch.setattr(on_device, 'processor', lambda: (maker, flags))
    cpu = torch.device('cpu')
    found = {d for d in ('bfloat16', 'float16') if on_device.has_arithmetic(d, cpu)}
    found |= {f'packed {d}' for d in ('float32', 'bfloat16', 'float16', 'int8') if hf.packing_pays(d)}
    found |= {'medium'} if on_device.medium_pays() else set()
    here = {'medium'} if not arithmetic.medium_is_exact() else set()
    here |= {f'packed {d}' for d in arithmetic.exact if not arithmetic.can_pack(d)}
    assert found == wanted-here
    assert hf.as_precision('auto', cpu) == ('bfloat16' if 'bfloat16' in wanted else 'float32')


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_a_format_that_the_processor_is_slow_in_is_warned_of_once(dtype, checkpoint, monkeypatch, sounds, tmp_path):
    monkeypatch.setattr(on_device, 'processor', lambda: ('AuthenticAMD', {'avx2', 'fma'}))
    on_device.warn_of_slow.cache_clear()
    shutil.copytree(checkpoint('ast'), tmp_path/'ast')
    with pytest.warns(on_device.SlowArithmeticWarning,
                      match=f'has no arithmetic for {dtype}, .* slower .* leave `dtype` out'):
        assert load_model(tmp_path/'ast', dtype=dtype, device='cpu').precision == dtype
    with warnings.catch_warnings():
        warnings.simplefilter('error', on_device.SlowArithmeticWarning)
        load_model(checkpoint('whisper'), dtype=dtype, device='cpu')
        on_device.warn_of_slow.cache_clear()
        for other in ('auto', 'float32', None, 'int8'): load_model(tmp_path/'ast', dtype=other, device='cpu')
        monkeypatch.setattr(on_device, 'processor', lambda: ('', set()))  # of which nothing is known
        load_model(checkpoint('hubert-group'), dtype=dtype, device='cpu')
    monkeypatch.setattr(on_device, 'processor', lambda: ('AuthenticAMD', {'avx2', 'fma'}))
    shutil.copytree(checkpoint('ast'), tmp_path/'another')
    settings = ['-m', tmp_path/'another', '--dtype', dtype, '--device', 'cpu', '-o', tmp_path/'o.parquet']
    done = command('embed', sounds/'chirp.ogg', *settings)
    assert done.exit_code == 0 and done.stderr.count(f'note: this processor has no arithmetic for {dtype}') == 1


def test_a_batch_that_has_no_room_goes_in_two(checkpoint, rng, monkeypatch):
    model, sizes = load_model(checkpoint('wav2vec2-layer')), []
    waves = [noise(rng, 1., 16000) for _ in range(5)]
    reference, real = model.forward(waves), model.call
    def narrow(inputs, layer=-1):
        sizes.append(len(inputs['input_values']))
        if sizes[-1] > room: raise torch.cuda.OutOfMemoryError('out of memory')
        return real(inputs, layer)
    monkeypatch.setattr(model, 'call', narrow, raising=False)
    room = 2
    out = model.forward(waves)
    assert (out.frames-reference.frames).abs().max() < 1e-5 and sizes == [5, 2, 3, 1, 2]
    room = 0
    with pytest.raises(SettingError, match='has no room for 1.0 s of sound'): model.forward(waves)
