"Every audio type of the installed transformers: it opens and is found to be sound, or it is refused with the reason; and some of each kind against their own library."
import inspect
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from audio_types import all_types, class_name, make_config, make_extractor, save_type
from fastcore.nbio import Notebook
from kit import noise
from packaging.version import Version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from auditus import AudioArray, AudioEmbedding, AudioPipeline, ModelNotFoundError, SettingError, ZeroShotClassifier, load_model
from auditus.models.passport import examine
from auditus.models.weights import check_numbers

sys.path.append(str(Path(__file__).parents[1]/'tools'))
import models_page

rows = models_page.read_record()
listed_with = '5.24'  # the version of transformers that the list was measured with; what others do is not known beforehand
is_older = Version(tf.__version__) < Version(listed_with)
changed = pytest.mark.skipif(is_older, reason=f'transformers {tf.__version__} does it in another way than {listed_with}, which the list was measured with')
unknown_type = (f'transformers {tf.__version__} has audio types that tests/architectures.csv does not know: {{}}. `python tools/models_page.py --measure {{}}` opens a small one of each, '
                'writes what was measured into the list, or why it was refused, and makes the page of models: look at both, and give each a `group`')


def there_are(kinds, otherwise=()):
    "Types, those marked to be skipped that the installed transformers doesn't have, or of those `otherwise`, has in another way."
    def missing(kind): return pytest.mark.skipif(kind not in CONFIG_MAPPING, reason=f'transformers {tf.__version__} has no {kind}')
    return [pytest.param(kind, marks=[missing(kind), *([changed] if kind in otherwise else [])]) for kind in kinds]


def check_layers(model, rng):
    "Each hidden layer is of one shape, says something of its own, and is the same alone as in a batch."
    unit, n = model.token_samples or 1, max(model.min_samples, model.sr)
    waves = [noise(rng, m//unit*unit/model.sr, model.sr) for m in (n, n*5//3, n)]
    out = model.forward(waves, layer='all')
    assert out.frames.shape[1] == model.n_layers+1 and out.frames.shape[-1] == model.layer_dim
    assert out.frames.shape[-2] == out.mask.shape[1]
    assert all((out.frames[0, i]-out.frames[0, i+1]).abs().max() > 1e-3 for i in range(model.n_layers))
    for i, w in enumerate(waves):
        alone = model.forward([w], layer='all')
        x, y = out.frames[i][:, out.mask[i].bool()], alone.frames[0][:, alone.mask[0].bool()]
        assert x.shape == y.shape and (x-y).abs().max() < 1e-5*max(1, y.abs().max())
    both = model.forward(waves, layer=[1, 0]).frames
    assert torch.equal(both[:, 0], model.forward(waves, layer=1).frames) and torch.equal(both[:, 1], out.frames[:, 0])


def whole_model(kind, folder):
    "Save a small composite, its language model with it; gives the library's own model and extractor."
    config = make_config(kind)
    text = config.text_config
    for k, v in dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                     num_key_value_heads=4, head_dim=16, vocab_size=300).items():
        if hasattr(text, k): setattr(text, k, v)
    if getattr(text, 'layer_types', None): text.layer_types = text.layer_types[:1]
    for c in (config, text):
        for k, v in [*vars(c).items()]:
            if k.endswith('token_id') and isinstance(v, int): setattr(c, k, 1)
    config.audio_token_id = 2
    torch.manual_seed(0)
    model = getattr(tf, class_name(kind))(config).eval()
    extractor = make_extractor(kind, config)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor


def masked(extractor, wave):
    return extractor([wave], sampling_rate=extractor.sampling_rate, return_tensors='pt', return_attention_mask=True)


def qwen2_audio(model, extractor, wave):
    "What the audio tower gives while the whole model reads a text that is nothing but the sound."
    made, seen = masked(extractor, wave), []
    tower = getattr(model, 'model', model).audio_tower
    n = int(tower._get_feat_extract_output_lengths(made['attention_mask'].sum(-1))[1])
    hook = tower.register_forward_hook(lambda module, args, out: seen.append(out.last_hidden_state))
    model(input_ids=torch.full((1, n), model.config.audio_token_id),
          attention_mask=torch.ones(1, n, dtype=torch.long), input_features=made['input_features'],
          feature_attention_mask=made['attention_mask'])
    hook.remove()
    return seen[0][0, :n]


def audio_features(model, extractor, wave, counted):
    made = masked(extractor, wave)
    mask = made.get('attention_mask', made.get('input_features_mask'))
    composite = getattr(model, 'model', model)
    takes = inspect.signature(composite.get_audio_features).parameters
    out = composite.get_audio_features(made['input_features'], **({'input_features_mask': mask}
                                                                  if 'input_features_mask' in takes else {}))
    return out.last_hidden_state[0, :counted(int(mask.sum()))] if out.last_hidden_state.ndim == 3 else out.last_hidden_state


def halved(n): return (n-1)//2+1  # by a convolution with a stride of two


by_hand = {
    'qwen2_audio': qwen2_audio,
    'voxtral': lambda *args: audio_features(*args, halved),
    'glmasr': lambda *args: audio_features(*args, halved),
    'audioflamingo3': lambda *args: audio_features(*args, lambda n: (halved(n)-2)//2+1),
    'qwen3_asr': lambda *args: audio_features(*args, None)}


@pytest.mark.parametrize('kind', there_are(by_hand))
def test_an_audio_tower_hears_what_it_hears_in_its_language_model(kind, tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    model, extractor = whole_model(kind, tmp_path/'m')
    embed = AudioEmbedding(tmp_path/'m')
    assert embed.model.context == 30
    assert sum(p.numel() for p in embed.model.net.parameters()) < sum(p.numel() for p in model.parameters())
    for seconds in (.7, 1., 2.35):
        wave = noise(rng, seconds, 16000)
        with torch.inference_mode(): frames = by_hand[kind](model, extractor, wave).numpy()
        got = embed(AudioArray(wave, 16000))
        assert got.shape == frames.shape and np.abs(got-frames).max() < 1e-5
    pipe = AudioPipeline(tmp_path/'m')
    long = noise(rng, 35., 16000)
    changed = long.copy()
    changed[31*16000:] *= 10
    assert not np.array_equal(pipe((long, 16000)), pipe((changed, 16000))), 'the end is heard'
    assert np.abs(pipe((long[:16000], 16000))-pipe([(long[:16000], 16000), (long, 16000)])[0]).max() < 1e-5


codecs = {
    'dac': (lambda net, made: net.encoder(made['input_values'])[0].T),
    'encodec': (lambda net, made: net.encoder(made['input_values'])[0].T),
    'mimi': (lambda net, made: getattr(out := net.encoder(made['input_values']), 'latents', out)[0].T),
    'wavtokenizer': (lambda net, made: net.encoder_model.encoder(made['input_values'])[0].T)}


@pytest.mark.parametrize('kind', there_are(codecs))
def test_a_codec_gives_what_it_has_before_it_makes_codes(kind, tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    save_type(kind, tmp_path/'m')
    embed, config = AudioEmbedding(tmp_path/'m'), make_config(kind)
    net = getattr(tf, class_name(kind)).from_pretrained(tmp_path/'m').eval()  # without its decoder, which is made up
    extractor = make_extractor(kind, config)
    for seconds in (.5, 1.37):
        wave = noise(rng, seconds, embed.sr)
        with torch.inference_mode():
            frames = codecs[kind](net, extractor(wave, sampling_rate=embed.sr, return_tensors='pt')).numpy()
        got = embed(AudioArray(wave, embed.sr))
        assert got.shape == frames.shape and np.abs(got-frames).max() < 1e-5*max(1, np.abs(frames).max())


@changed
def test_words_on_the_other_side_of_pe_audio(tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    from tokenizers import Tokenizer, models, pre_tokenizers
    config = make_config('pe_audio')
    for k, v in dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                     vocab_size=20, pad_token_id=1, layer_types=['full_attention']*2).items():
        setattr(config.text_config, k, v)
    torch.manual_seed(0)
    model = tf.PeAudioModel(config).eval()
    with torch.no_grad():
        model.text_audio_logit_scale.fill_(7.)
        model.text_audio_logit_bias.fill_(-2.)
        model.text_audio_head.proj.weight.mul_(5)  # so that lengths count
    extractor = make_extractor('pe_audio', config)
    model.save_pretrained(tmp_path/'m')
    extractor.save_pretrained(tmp_path/'m')
    heard = load_model(tmp_path/'m')
    with pytest.raises(ModelNotFoundError, match='holds no tokenizer'): heard.embed_text(['a dog'])
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(['<s>', '<pad>', '</s>', '<unk>', 'a',
                                                                   'dog', 'barks', 'rain'])}, unk_token='<unk>'))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    read = tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token='<pad>', unk_token='<unk>', model_max_length=64)
    read.save_pretrained(tmp_path/'m')
    pipe, texts, wave = AudioPipeline(tmp_path/'m', pooling='model'), ['a dog barks', 'rain'], noise(rng, 1., 48000)
    with torch.inference_mode():
        out = model(**read(texts, padding=True, return_tensors='pt'),
                    **extractor(wave, sampling_rate=48000, return_tensors='pt'))
    assert np.abs(pipe((wave, 48000))-out.audio_embeds[0].numpy()).max() < 1e-5
    words = pipe.model.embed_text(texts)
    assert (words-out.text_audio_embeds).abs().max() < 1e-5 and words.norm(dim=1).max() > 2
    assert pipe.model.logit_scale == 7
    clf = ZeroShotClassifier(texts, tmp_path/'m', template='{}')
    scores, wanted = {row['label']: row['score'] for row in clf((wave, 48000))}, out.logits_audio_text[0].softmax(-1)
    assert np.allclose([scores[t] for t in texts], wanted.numpy(), atol=1e-5) and abs(wanted[0]-wanted[1]) > .05
    assert np.allclose(np.linalg.norm(clf.embed_text(texts), axis=1), 1, atol=1e-5)


@changed
def test_an_encoder_that_wants_whole_pieces_gets_silence_behind_the_last(tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    embed = AudioEmbedding(save_type('moonshine_streaming', tmp_path/'m'))
    wave = noise(rng, 1.2, 16000)[:-7]
    made = {k: torch.nn.functional.pad(v, (0, 7)) for k, v in masked(embed.model.extractor, wave).items()}
    with torch.inference_mode(): wanted = embed.model.encoder(**made).last_hidden_state[0].numpy()
    assert embed.model.multiple == 80 and np.abs(embed(AudioArray(wave, 16000))-wanted).max() < 1e-5


# hidden layers: the encoder's own method is run as its library runs it, and what each layer takes and gives
# is looked at from outside
layered = {'qwen2_audio': 'layers', 'audioflamingo3': 'layers', 'gemma4_audio': 'layers',
           'gemma3n_audio': 'conformer', 'phi4_multimodal': 'encoders', 'seamless_m4t': 'encoder.layers',
           'nemotron3_5_transcribe_audio': 'asr_encoder.layers', 'mimi': 'encoder_transformer.layers',
           'pe_audio': 'layers'}


@pytest.mark.parametrize('kind', there_are(layered, {'mimi', 'seamless_m4t', 'gemma3n_audio', 'gemma4_audio', 'phi4_multimodal'}))
def test_a_layer_is_what_the_next_one_takes(kind, tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    embed = AudioEmbedding(save_type(kind, tmp_path/'m'), layer='all')
    layers, taken = embed.model.encoder.get_submodule(layered[kind]), []
    wave = noise(rng, 1.3, embed.sr)
    for i, module in enumerate(layers):
        forward = module.forward
        def watched(*args, forward=forward, **named):
            out = forward(*args, **named)
            taken.append(((args or [*named.values()])[0], out[0] if isinstance(out, tuple) else out))
            return out
        monkeypatch.setattr(module, 'forward', watched)
    got = embed(AudioArray(wave, embed.sr))
    wanted = torch.stack([taken[0][0], *(out for _, out in taken)])[:, 0].numpy()
    extra = 1 if kind == 'pe_audio' else 0  # what stands for the whole goes before the others
    assert embed.model.n_layers == len(layers) == len(got)-1 and len(taken) == len(layers)
    assert np.abs(got-wanted[:, extra:][:, :got.shape[1]]).max() < 1e-6
    # of thirty seconds
    assert got.shape[1] == wanted.shape[1]-extra if not embed.model.fixed else got.shape[1] == -(-1.3*wanted.shape[1]//30)
    assert embed.dim == got.shape[-1] == AudioPipeline(tmp_path/'m', layer=1)((wave, embed.sr)).shape[0]


@changed
def test_layers_of_codecs_and_what_can_not_stand_beside_the_output(tmp_path, rng, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    wave = (noise(rng, 1., 24000), 24000)
    with pytest.raises(SettingError, match='gives its last layer only .none of its lists of layers'):
        AudioPipeline(save_type('encodec', tmp_path/'e'), layer=1)(wave)
    with pytest.raises(SettingError, match='an output of another shape than its hidden layers: leave -1 out'):
        AudioPipeline(save_type('mimi', tmp_path/'m'), layer=[1, -1])(wave)
    with pytest.raises(SettingError, match='has the hidden states -3 to 2'): AudioPipeline(tmp_path/'m', layer=3)(wave)


# the walk through all of them

def check_one_of_an_older_version(kind, folder):
    "It is refused with a reason, or it is sound: what else it does is listed for one version only."
    try: save_type(kind, folder)
    except Exception as e: pytest.skip(f'no small one can be made with transformers {tf.__version__}: {e}')
    try: model = load_model(folder)
    except (ModelNotFoundError, ImportError): return
    assert (model.passport or examine(model)).refused == {}
    if model.n_layers: check_layers(model, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize('kind', all_types())
def test_each_type_opens_and_is_sound_or_is_refused_with_the_reason(kind, tmp_path, monkeypatch):
    monkeypatch.setattr('auditus.models.passport.cache_folder', lambda: tmp_path/'cache')
    if is_older: return check_one_of_an_older_version(kind, tmp_path/kind)
    assert kind in rows, unknown_type.format(kind, kind)
    row = rows[kind]
    lacks = row['needs'] and not find_spec(row['needs'])
    if row['refused'] or lacks:
        why = '|'.join([row['needs']]*bool(lacks)+[re.escape(models_page.reason(row))]*bool(row['refused']))
        with pytest.raises((ModelNotFoundError, ImportError), match=why): models_page.measure(kind, tmp_path/kind)
        return
    model, found = models_page.measure(kind, tmp_path/kind)
    # all of it, where the package that it needs was there
    known = [k for k in models_page.measured if row[k] or row['least']]
    assert {k: found[k] for k in known} == {k: row[k] for k in known}
    passport = model.passport or examine(model)
    assert passport.refused == {} and passport.passes <= 8
    assert (model.n_layers is None) == bool(model.layers_trouble)
    if row['least']: assert (model.n_layers is None) == (not row['layers'])
    if model.n_layers: check_layers(model, np.random.default_rng(0))


@changed
def test_no_type_of_the_installed_transformers_is_unknown():
    unknown = sorted({*all_types()}-{*rows})
    assert not unknown, unknown_type.format(', '.join(unknown), ' '.join(unknown))
    assert all(row['group'] in models_page.groups for row in rows.values())


def test_the_page_of_models_is_made_of_the_list():
    cells = [c.source for c in Notebook.open(models_page.page).cells if c.source.startswith(models_page.begin)]
    assert cells == [models_page.made_cells()], 'run python tools/models_page.py'
    assert all(f'`{kind}`' in cells[0] for kind in rows)


@pytest.mark.parametrize('kind', all_types())
def test_the_usual_sizes_of_each_type_are_believed(kind):
    try: config = CONFIG_MAPPING[kind]()
    except Exception as e:  # some of older versions have no defaults
        if is_older: pytest.skip(f'transformers {tf.__version__} makes no config of its own defaults: {e}')
        raise
    check_numbers('config.json', json.loads(config.to_json_string(use_diff=False)))
