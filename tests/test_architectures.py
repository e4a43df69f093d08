"Every audio type of the installed transformers: it opens and is found to be sound, or it is refused with the reason; and some of each kind against their own library."
import numpy as np
import pytest
import torch
import transformers as tf
from audio_types import all_types, encoders, save_type
from kit import noise
from safetensors.torch import load_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from auditus import AudioArray, AudioEmbedding, AudioPipeline, ModelNotFoundError, load_model

# what each type hears at once and how many frames it gives a second
opens = {}

# why a type is refused
refused = {
    'clvp': 'no encoder of sound', 'dia': 'no encoder of sound', 'gemma4_unified': 'no encoder of sound', 'pocket_tts': 'no encoder of sound',
    'pop2piano': 'no encoder of sound|essentia', 'gradium_phonon_tts': 'no encoder of sound', 'inkling_mm_model': 'no encoder of sound',
    'univnet': 'no hidden state that frames could be taken from', 'musicgen_melody': 'torchaudio|does not make frames of what its MusicgenMelodyFeatureExtractor',
}
# what opens with a package that may not be here
packages = {'fun_asr_nano': 'torchaudio', 'granite_speech': 'torchaudio', 'granite_speech5_ctc': 'torchaudio', 'granite_speech5_encoder': 'torchaudio',
            'granite_speech_plus': 'torchaudio', 'higgs_audio_v2_tokenizer': 'torchaudio', 'neucodec': 'torchaudio', 'xcodec2': 'torchaudio', 'gemma3n': 'timm',
            'pe_audio_video': 'timm'}
