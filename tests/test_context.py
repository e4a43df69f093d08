"A shorter context is the library's own network with the positions beyond it left away; and it is never confused with the full one."
import pickle
import shutil

import numpy as np
import pytest
import torch
import transformers as tf
from graphs import cut_short
from kit import command, installed, noise

import auditus.models.onnx as engine
from auditus import AudioArray, AudioClassifier, AudioEmbedding, AudioPipeline, SettingError, Windows, load_model
from auditus.extract import extract, load
from auditus.models.sessions import is_installed
from auditus.pipeline.embedding import TruncationWarning

backends = [pytest.param(b, marks=pytest.mark.skipif(not is_installed(b), reason=f'{b} is not installed'))
            for b in ('onnx', 'openvino')]
bands, columns = 12, 101  # of AST's patches
context = 5.


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, 'cache_folder', lambda: tmp_path/'cache')
    return tmp_path/'cache'


def smaller(model, config, name, kept):
    "A network of the library of another size, with the same weights but for the rows of one, which are picked by their numbers."
    small, state = type(model)(config).eval(), dict(model.state_dict())
    state[name] = state[name][..., kept, :].clone()
    small.load_state_dict(state)
    return small


def ast_by_hand(model, extractor, rows=500):
    left = (rows-16)//10+1
    kept = [0, 1, *(2+band*columns+column for band in range(bands) for column in range(left))]
    name = next(k for k in model.state_dict() if k.endswith('position_embeddings'))
    net = smaller(model, tf.ASTConfig(**{**model.config.to_dict(), 'max_length': rows}), name, kept)
    return net, tf.ASTFeatureExtractor(**{**extractor.to_dict(), 'max_length': rows})


def frames_of_ast(net, extractor, wave):
    with torch.inference_mode():
        out = net(**extractor(wave, sampling_rate=16000, return_tensors='pt'), output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], getattr(out, 'pooler_output', None), getattr(out, 'logits', None)


def test_ast_is_the_librarys_with_its_first_columns(made, rng):
    folder, model, extractor = made('ast')
    net, features = ast_by_hand(model, extractor)
    embed, summary, hidden = (AudioEmbedding(folder, context=context, **k)
                              for k in ({}, {'output': 'pooled'}, {'layer': 1}))
    assert embed.model.context == context
    for seconds in (5., 1., 3.37):  # what is shorter is filled up to the shorter context, and no further
        wave = noise(rng, seconds, 16000)
        layers, pooled, _ = frames_of_ast(net, features, wave)
        x = AudioArray(wave, 16000)
        assert embed(x).shape == (2+bands*49, 32)
        assert np.abs(embed(x)-net(**features(wave, sampling_rate=16000, return_tensors='pt')).last_hidden_state[0].detach().numpy()).max() < 1e-5
        assert np.abs(hidden(x)-layers[1]).max() < 1e-5 and np.abs(summary(x)-pooled[0].numpy()).max() < 1e-5


def test_a_classifier_hears_less_too(made, rng):
    folder, model, extractor = made('head-ast')
    wave = noise(rng, 4., 16000)
    _, _, logits = frames_of_ast(*ast_by_hand(model, extractor), wave)
    found = AudioClassifier(folder, context=context)((wave, 16000))
    wanted = dict(zip(model.config.id2label.values(), torch.softmax(logits[0], 0).tolist()))
    assert {o['label']: o['score'] for o in found} == pytest.approx(wanted, abs=1e-5)


def test_whisper_is_the_librarys_with_its_first_positions(made, rng):
    folder, model, extractor = made('whisper')
    encoder = model.model.encoder
    config = tf.WhisperConfig(**{**model.config.to_dict(), 'max_source_positions': 250})
    net = smaller(encoder, config, 'embed_positions.weight', range(250))
    features, embed = tf.WhisperFeatureExtractor(chunk_length=5), AudioEmbedding(folder, context=5)
    assert embed.model.context == 5
    for seconds, tokens in ((5., 250), (1., 50), (3.37, 169)):
        wave = noise(rng, seconds, 16000)
        with torch.inference_mode():
            reference = net(features(wave, sampling_rate=16000, return_tensors='pt')['input_features']).last_hidden_state[0, :tokens].numpy()
        frames = embed(AudioArray(wave, 16000))
        assert frames.shape == reference.shape and np.abs(frames-reference).max() < 1e-5


@pytest.mark.parametrize('name', ['ast', 'whisper'])
def test_alone_in_company_and_in_any_order(name, checkpoint, rng):
    embed = AudioEmbedding(checkpoint(name), context=5, batch_size=3)
    xs = [AudioArray(noise(rng, s, 16000), 16000) for s in (5., 1., 2.3, 5., .4)]
    alone = [embed(x) for x in xs]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        for i, frames in zip(order, embed([xs[i] for i in order])): assert np.abs(frames-alone[i]).max() < 1e-5


@pytest.mark.parametrize('name', ['ast', 'whisper'])
def test_without_it_nothing_is_touched(name, made, rng):
    folder, model, _ = made(name)
    whole, short = load_model(folder), load_model(folder, context=5)
    kept = model.state_dict() if name == 'ast' else model.model.encoder.state_dict()
    # also after the shorter one was made
    assert all(torch.equal(v, kept[k]) for k, v in whole.net.state_dict().items())
    wave = noise(rng, 2., 16000)
    full = load_model(folder, context=whole.context)
    assert full is not whole and torch.equal(full.forward([wave]).frames, whole.forward([wave]).frames)
    assert whole.context > short.context == 5 and short.config is not whole.config
    assert 'context' not in repr(AudioPipeline(folder)) and AudioPipeline(folder).context is None


def test_windows_of_other_lengths(checkpoint, rng):
    folder = checkpoint('ast')
    pipe = AudioPipeline(folder, window=5, context=5)
    wave = noise(rng, 12., 16000)
    five, three = wave[:80_000], wave[:48_000]
    by_window = pipe((wave, 16000))
    embed = AudioEmbedding(folder, context=5)
    assert len(by_window) == 3 and np.abs(by_window[0]-embed(AudioArray(five, 16000)).mean(0)).max() < 1e-5
    # filled up, as AST does
    assert np.abs(pipe((three, 16000))[0]-embed(AudioArray(three, 16000)).mean(0)).max() < 1e-5
    # a longer window is heard in pieces of the context, each weighted by its sound, and 'auto' covers a
    # recording in them
    seven = AudioPipeline(folder, window=7, context=5)((wave[:112_000], 16000))[0]
    pieces = embed(Windows([five, wave[80_000:112_000]], 16000, [0, 5], [5, 7]))
    assert np.abs(seven-(5*pieces[0].mean(0)+2*pieces[1].mean(0))/7).max() < 1e-5
    assert np.abs(AudioPipeline(folder, context=5)((wave[:112_000], 16000))-seven).max() < 1e-5
    with pytest.warns(TruncationWarning, match='hears 5 s at once, and of 12.00 s only the start'):
        AudioEmbedding(folder, context=5)(AudioArray(wave, 16000))


def test_what_has_no_shorter_context_says_why(checkpoint, clap_folder, made):
    ast = checkpoint('ast')
    def refuses(text, name, **settings):
        with pytest.raises(SettingError, match=text): load_model(name, **settings)
    refuses(r'may be 0.16 to 10.24 s, got 12: longer sounds are cut into windows', ast, context=12)
    refuses(r'may be 0.16 to 10.24 s, got 0.1: shorter sounds are filled up', ast, context=.1)
    for odd in (-1, 0, True, '5', float('nan'), float('inf')):
        refuses('`context` must be positive seconds, got', ast, context=odd)
    refuses('must be whole seconds, got 2.5: use 3', checkpoint('whisper'), context=2.5)
    refuses('may be 1 to 30 s, got 31', checkpoint('whisper'), context=31)
    refuses('can not be chosen for .*, a hubert: .* most others hear any length, and pay for no more. Leave it out', checkpoint('hubert-layer'), context=5)
    refuses('a clap: its network takes a picture of one size', clap_folder, context=5)
    refuses("the model 'clmr' has no setting `context`", 'clmr', context=5)
    with pytest.raises(SettingError, match='is loaded already: `context` has to be given when it is'):
        load_model(load_model(ast), context=5)
    with pytest.raises(SettingError, match='loaded already'): AudioPipeline(load_model(ast), context=5).model


def test_a_window_that_is_no_whole_number_of_rows_is_heard_whole(checkpoint):
    assert load_model(checkpoint('ast'), context=2.005).context == pytest.approx(2.01)


# what is kept: files, tables, probes, converted networks

def test_saved_pickled_and_copied(checkpoint, rng, tmp_path):
    pipe = AudioPipeline(checkpoint('ast'), window=5, context=5)
    x = (noise(rng, 6., 16000), 16000)
    pipe.save(tmp_path/'kept')
    for again in (AudioPipeline.load(tmp_path/'kept'), pickle.loads(pickle.dumps(pipe)),
                  AudioPipeline(**pipe.get_params())):
        assert again.context == 5 and again.model.context == 5 and np.array_equal(again(x), pipe(x))
    assert not np.allclose(AudioPipeline.load(tmp_path/'kept', context=None)(x), pipe(x), atol=1e-4)


def test_tables_do_not_mix_contexts(checkpoint, sounds, tmp_path):
    folder, files = checkpoint('ast'), [sounds/'chirp.ogg']
    whole, short = AudioPipeline(folder, window=2), AudioPipeline(folder, window=2, context=2)
    extract(files, tmp_path/'whole', whole)
    with pytest.raises(SettingError, match='context'): extract(files, tmp_path/'whole', short)
    with pytest.raises(SettingError, match='context'): extract(files, tmp_path/'whole', whole, context=2)
    extract(files, tmp_path/'short', whole, context=2)
    assert extract(files, tmp_path/'short', short).parts_done == 0
    a, b = (load(tmp_path/k)[0] for k in ('whole', 'short'))
    assert a.shape == b.shape and not np.allclose(a, b, atol=1e-4)
    assert np.abs(b[0]-short(files[0])[0]).max() < 1e-6


def test_probes_and_indices_ask_for_the_context_of_their_vectors(checkpoint, sounds, tmp_path):
    from auditus.collection.run import run_settings
    from auditus.learn.saved import check_same_vectors
    from auditus.search import SoundIndex
    folder = checkpoint('ast')
    whole, short = AudioPipeline(folder, window=2), AudioPipeline(folder, window=2, context=2)
    check_same_vectors(run_settings(short), short)
    check_same_vectors({k: v for k, v in run_settings(whole).items() if k != 'context'}, whole)  # of an earlier version
    with pytest.raises(SettingError, match='context: None there, 2.0 here'):
        check_same_vectors(run_settings(whole), short)
    extract([sounds/'chirp.ogg'], tmp_path/'t.parquet', short)
    assert SoundIndex.build(tmp_path/'t.parquet').pipeline.model.context == 2
    with pytest.raises(SettingError, match='context'): SoundIndex.build(tmp_path/'t.parquet', whole)


@pytest.mark.parametrize('backend', backends)
@pytest.mark.parametrize('name', ['ast', 'whisper'])
def test_other_engines_get_a_network_of_their_own(name, backend, shallow, rng, cache):
    folder, x = shallow(name), (noise(rng, 5., 16000), 16000)
    whole, short = AudioPipeline(folder, backend=backend), AudioPipeline(folder, backend=backend, context=5)
    a, b = whole(x), short(x)
    assert len([*cache.iterdir()]) == 2 and not np.allclose(a, b, atol=1e-4)
    assert np.abs(b-AudioPipeline(folder, context=5)(x)).max() < 1e-4 and short.model.context == 5
    assert short.model.backend == backend


@pytest.mark.skipif(not (installed('onnxruntime') and installed('onnx')),
                    reason='the extra auditus[onnx] is not installed')
def test_an_exported_file_hears_what_was_exported(shallow, rng, tmp_path):
    load_model(shallow('ast'), context=5).export(tmp_path/'short.onnx')
    x = (noise(rng, 7., 16000), 16000)
    pipe = AudioPipeline(tmp_path/'short.onnx', backend='onnx')
    assert pipe.model.context == 5 and np.abs(pipe(x)-AudioPipeline(shallow('ast'), context=5)(x)).max() < 1e-4
    with pytest.raises(SettingError, match='`context` can not be given'): load_model(tmp_path/'short.onnx', context=3)


@pytest.mark.skipif(not (installed('onnxruntime') and installed('onnx')),
                    reason='the extra auditus[onnx] is not installed')
def test_a_graph_that_was_told_its_context_is_saved_with_it(rng, tmp_path):
    known = dict(sr=8000, pooled='pooled', frames='given')
    pipe = AudioPipeline(cut_short(tmp_path/'a.onnx', samples=None), context=1., window=1., **known)
    pipe.save(tmp_path/'kept')
    again, x = AudioPipeline.load(tmp_path/'kept'), (noise(rng, 2.5, 8000), 8000)
    assert again.model.context == 1 and np.array_equal(again(x), pipe(x))


def test_the_weights_of_one_context_are_not_those_of_another(checkpoint, rng, tmp_path):
    "A network that is trained further, with the shorter context, opens again."
    from auditus.models.learnt import open_trainable
    model = open_trainable({'name': str(checkpoint('ast')), 'context': 5})
    with torch.no_grad(): model.net.embeddings.position_embeddings.mul_(2)
    (tmp_path/'kept').mkdir()
    again = load_model(**{k: v.replace('{folder}', str(tmp_path/'kept'))
                          for k, v in model.save(tmp_path/'kept').items()})
    wave = noise(rng, 4., 16000)
    assert again.context == 5 and torch.equal(again.forward([wave]).frames, model.forward([wave]).frames)


def test_a_folder_of_a_shorter_model_is_left_as_it_was(made, tmp_path, rng):
    folder, model, extractor = made('ast')
    shutil.copytree(folder, tmp_path/'ast')
    before = {p.name: p.read_bytes() for p in (tmp_path/'ast').iterdir()}
    load_model(tmp_path/'ast', context=5).forward([noise(rng, 1., 16000)])
    assert {p.name: p.read_bytes() for p in (tmp_path/'ast').iterdir()} == before


def test_the_command(checkpoint, sounds, tmp_path):
    assert command('embed', sounds/'chirp.ogg', '--model', checkpoint('ast'), '--window', '2', '--context',
                   '2', '--out', tmp_path/'t.parquet').exit_code == 0
    assert np.abs(load(tmp_path/'t.parquet')[0][0]-AudioPipeline(checkpoint('ast'), window=2, context=2)(sounds/'chirp.ogg')[0]).max() < 1e-6
    refused = command('embed', sounds/'chirp.ogg', '--model', checkpoint('ast'), '--context', '12', '--out',
                      tmp_path/'u.parquet')
    assert refused.exit_code == 1 and '`--context`' in refused.output
