"Small seeded checkpoints of all audio types that the installed transformers has: each type's own config made narrow and shallow, and of its network the part that hears."
import inspect

import torch
import transformers as tf
from safetensors.torch import save_file
from tiny_models import clap
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES as listed

from auditus.models.towers import choose_tower, cut_class

# encoders that are a type of their own, and the type whose feature extractor their checkpoints come with
encoders = {
    'audioflamingo3_encoder': 'audioflamingo3', 'clap_audio_model': 'clap', 'gemma3n_audio': 'gemma3n',
    'gemma4_audio': 'gemma4', 'glmasr_encoder': 'glmasr',
    'mimi_encoder': 'mimi', 'moonshine_streaming': 'moonshine',
    'moss_transcribe_diarize_audio': 'moss_transcribe_diarize', 'muse_spark_audio': 'muse_spark',
    'musicflamingo': 'audioflamingo3', 'nemotron3_5_transcribe_audio': 'nemo_speechlm',
    'nemotron3_diarization_audio': 'nemotron3_diarization', 'omniasr_audio': 'omniasr',
    'pe_audio_encoder': 'pe_audio', 'pocket_tts_audio_tokenizer_encoder': 'pocket_tts_audio_tokenizer',
    'qwen2_audio_encoder': 'qwen2_audio', 'qwen3_asr_encoder': 'qwen3_asr',
    'vibevoice_acoustic_tokenizer_encoder': 'vibevoice_acoustic_tokenizer', 'voxtral_encoder': 'voxtral',
    'voxtral_realtime_encoder': 'voxtral_realtime',
    'wavtokenizer_encoder': 'wavtokenizer'}


def first(name): return name if isinstance(name, str) else name[0]


def all_types():
    "Every type that comes with a feature extractor that has a sampling rate, and the encoders that are types of their own."
    return [*listed, *(t for t in encoders if t not in listed and t in CONFIG_MAPPING)]


def extractor_name(kind):
    if kind == 'wav2vec2-bert': return 'SeamlessM4TFeatureExtractor'  # what its checkpoints come with
    return first(listed[encoders.get(kind, kind)])


# what checkpoints are saved from, where the tables don't say it first
classes = {'clap_audio_model': 'ClapAudioModelWithProjection', 'moshi': 'MoshiForConditionalGeneration',
           'kyutai_speech_to_text': 'KyutaiSpeechToTextForConditionalGeneration',
           'musicgen_melody': 'MusicgenMelodyForConditionalGeneration', 'speecht5': 'SpeechT5ForSpeechToText'}


def class_name(kind):
    for table in ('MULTIMODAL_LM', 'SPEECH_SEQ_2_SEQ', 'TEXT_TO_WAVEFORM'):
        if kind not in classes and (found := getattr(modeling_auto, f'MODEL_FOR_{table}_MAPPING_NAMES').get(kind)): return first(found)
    return classes.get(kind) or first(modeling_auto.MODEL_MAPPING_NAMES[kind])


# of the parts of a config: those that are built without weights and thrown away, whatever their size
thrown_away = ('Text', 'Vision', 'Talker', 'Code2', 'Token2', 'Llama', 'Qwen2Config', 'Qwen3Config',
               'ModernBert', 'Timm')
depths = ('num_hidden_layers', 'encoder_layers', 'decoder_layers', 'num_layers', 'n_layers',
          'num_adapter_layers', 'speech_encoder_layers', 'num_blocks',
          'conf_num_hidden_layers')
heads = ('num_attention_heads', 'encoder_attention_heads', 'decoder_attention_heads', 'num_key_value_heads',
         'conf_num_attention_heads')
widths = {'intermediate_size': 128, 'encoder_ffn_dim': 128, 'decoder_ffn_dim': 128,
          'subsampling_conv_channels': 32, 'conv_channels': 32, 'num_filters': 8,
          'downsample_hidden_size': 16, 'num_conv_pos_embeddings': 16, 'num_conv_pos_embedding_groups': 4,
          'hidden_dim': 64}
# what holds together by more than its names say
narrowed = {'conv_dim': lambda v: [32]*len(v), 'depths': lambda v: [1]*len(v)}
whole = {'nemo_speechlm', 'nemotron3_5_transcribe_audio', 'nemotron3_diarization', 'phi4_multimodal',
         'dots3_note', 'fun_asr_nano', 'pocket_tts_audio_tokenizer'}


def parts_of(config): return [v for v in vars(config).values() if isinstance(v, tf.PretrainedConfig)]


def is_number(config, name):
    return isinstance(getattr(config, name, None), int) and not isinstance(getattr(config, name), bool)


def make_shallow(config):
    "Two layers, and as many entries in the lists that have one for each."
    for k in filter(lambda k: is_number(config, k) and getattr(config, k) > 2, depths):
        for name, v in [*vars(config).items()]:
            if isinstance(v, (list, tuple)) and len(v) == getattr(config, k): setattr(config, name, type(v)(v[:2]))
        setattr(config, k, 2)


def make_narrow(config):
    "Layers of 64, in four heads."
    codec = 'upsampling_ratios' in vars(config) or 'downsampling_ratios' in vars(config)
    if codec:
        if is_number(config, 'encoder_hidden_size'):
            config.encoder_hidden_size, config.hidden_size = 8, 8*2**len(config.downsampling_ratios)
    for k in ('hidden_size', 'd_model'):
        if not codec and is_number(config, k) and any(is_number(config, h) for h in heads):
            setattr(config, k, 64)
            for h in filter(lambda h: is_number(config, h), heads): setattr(config, h, 4)
            if is_number(config, 'head_dim'): config.head_dim = 16
    for k, most in widths.items():
        if is_number(config, k): setattr(config, k, min(most, getattr(config, k)))
    for k, make in narrowed.items():
        if isinstance(getattr(config, k, None), (list, tuple)): setattr(config, k, make(getattr(config, k)))


def shrink(config, narrow):
    for part in parts_of(config):
        if not any(t in type(part).__name__ for t in thrown_away): shrink(part, narrow)
    make_shallow(config)
    if narrow: make_narrow(config)


def usual_config(kind):
    "The config of a type as its library fills it in."
    given = {'gemma4': dict(audio_config={'model_type': 'gemma4_audio'}),
             'embedding_gemma2': dict(audio_config={'model_type': 'gemma4_audio'}),
             'moshi': dict(audio_encoder_config={'model_type': 'mimi'}),
             'qwen3_omni_moe': dict(enable_audio_output=False),
             # 25 frames a second, as its speech side has
             'higgs_audio_v2_tokenizer': dict(acoustic_model_config={'model_type': 'dac', 'downsampling_ratios': [8, 5, 4, 2, 3]})}
    config = CONFIG_MAPPING[kind](**given.get(kind, {}))
    if kind == 'moonshine_streaming': config.num_key_value_heads = config.num_attention_heads  # its defaults lack it
    config.architectures = [class_name(kind)]
    return config


def make_config(kind):
    config = usual_config(kind)
    shrink(config, kind not in whole)
    return config


def make_extractor(kind, config):
    "Its own extractor, with the rate and the bands that its config names."
    made = getattr(tf, extractor_name(kind))
    takes, given = inspect.signature(made.__init__).parameters, {}
    known = [config, *parts_of(config), *(p for part in parts_of(config) for p in parts_of(part))]
    bins = [b for c in known for k in ('num_mel_bins', 'n_mels') if isinstance(b := getattr(c, k, None), int)]
    hears_waves = ('Encodec', 'Kyutai', 'Dac', 'Wav2Vec2', 'PeAudio', 'SpeechT5')
    if bins and 'feature_size' in takes and not made.__name__.startswith(hears_waves): given['feature_size'] = bins[0]
    rate = getattr(config, 'sampling_rate', None) or getattr(config, 'sample_rate', None)
    if isinstance(rate, int) and 'sampling_rate' in takes: given['sampling_rate'] = rate
    return made(**given)


def seeded(name, tensor, generator):
    "Weights that neither vanish nor explode."
    if not tensor.is_floating_point(): return torch.zeros(tensor.shape, dtype=tensor.dtype)
    x = torch.randn(tensor.shape, generator=generator)
    if 'running_var' in name or 'original0' in name: return .5+.1*x.abs()
    if tensor.ndim < 2: return 1+.1*x if name.endswith('weight') else .1*x
    return x/max(1, tensor[0].numel())**.5


def save_clap(kind, folder):
    "Its stages are of many sizes, which hold together."
    model, extractor = clap('rand_trunc')()
    if kind == 'clap_audio_model': model = tf.ClapAudioModelWithProjection(model.config.audio_config)
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def save_type(kind, folder):
    "Save a small checkpoint of a type. Raises what the library raises where a type can't be built, or has nothing that hears."
    if kind.startswith('clap'): return save_clap(kind, folder)
    config = make_config(kind)
    made, path = choose_tower(config, kind)
    with torch.device('meta'): net = (made if kind == 'whisper' else cut_class(made, path, ('audio_head',)))(config)
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: seeded(k, t, generator) for k, t in net.state_dict().items()}, folder/'model.safetensors',
              metadata={'format': 'pt'})
    config.save_pretrained(folder)
    make_extractor(kind, config).save_pretrained(folder)
    return folder
