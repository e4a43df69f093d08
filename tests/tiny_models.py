"Real architectures with small configs and seeded weights: they stand for checkpoints that no package has."
import torch
import transformers as tf

small = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48)
# a seventh of the usual width: the first layers take most of the time
convolving = dict(small, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, conv_dim=(64,)*7)
group = dict(feat_extract_norm='group', do_stable_layer_norm=False)
layer = dict(feat_extract_norm='layer', do_stable_layer_norm=True, conv_bias=True)


def speech_extractor(norm): return tf.Wav2Vec2FeatureExtractor(return_attention_mask=norm is layer)


def speech(config, model, norm=None, **kwargs):
    "A model of the wav2vec2 kind."
    def make(**depth): return model(config(**{**convolving, **(norm or {}), **kwargs, **depth})), speech_extractor(norm)
    return make


def ast(model=tf.ASTModel, **kwargs):
    def make(**depth): return model(tf.ASTConfig(**{**small, **kwargs, **depth})), tf.ASTFeatureExtractor()
    return make


def wav2vec2_bert(**depth):
    config = tf.Wav2Vec2BertConfig(**{**small, **depth}, conv_depthwise_kernel_size=7)
    return tf.Wav2Vec2BertModel(config), tf.SeamlessM4TFeatureExtractor()


def whisper(model=tf.WhisperForConditionalGeneration, **kwargs):
    def make(num_hidden_layers=3):
        sizes = dict(d_model=32, encoder_layers=num_hidden_layers, decoder_layers=1,
                     encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48)
        config = tf.WhisperConfig(**sizes, vocab_size=100, pad_token_id=1, bos_token_id=1, eos_token_id=1,
                                  decoder_start_token_id=1, suppress_tokens=None,
                                  begin_suppress_tokens=None, **kwargs)
        return model(config), tf.WhisperFeatureExtractor()
    return make


def clap(truncation):
    def make(**depth):  # each of its stages has one layer as it is
        audio = dict(patch_embeds_hidden_size=16, depths=[1, 1, 1, 1], num_attention_heads=[2, 2, 2, 2],
                     hidden_size=128, projection_dim=24,
                     enable_fusion=truncation=='fusion')
        text = dict(small, vocab_size=100, projection_dim=24, max_position_embeddings=66)
        config = tf.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
        return tf.ClapModel(config), tf.ClapFeatureExtractor(truncation=truncation)
    return make


def speech_to_text(num_hidden_layers=2):
    config = tf.Speech2TextConfig(d_model=32, encoder_layers=num_hidden_layers, decoder_layers=1,
                                  encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
                                  decoder_ffn_dim=48, vocab_size=100, conv_channels=32)
    return tf.Speech2TextModel(config), tf.Speech2TextFeatureExtractor()


architectures = {
    'ast': ast(),
    'wav2vec2-group': speech(tf.Wav2Vec2Config, tf.Wav2Vec2Model, group),
    'wav2vec2-layer': speech(tf.Wav2Vec2Config, tf.Wav2Vec2Model, layer),
    'hubert-group': speech(tf.HubertConfig, tf.HubertModel, group),
    'hubert-layer': speech(tf.HubertConfig, tf.HubertModel, layer),
    'distilhubert': speech(tf.HubertConfig, tf.HubertModel, group, num_hidden_layers=2, feat_proj_layer_norm=False),
    'wavlm-group': speech(tf.WavLMConfig, tf.WavLMModel, group, num_buckets=16),
    'wavlm-layer': speech(tf.WavLMConfig, tf.WavLMModel, layer, num_buckets=16),
    'data2vec-audio': speech(tf.Data2VecAudioConfig, tf.Data2VecAudioModel, conv_pos_kernel_size=7,
                             num_conv_pos_embeddings=2),
    'unispeech-sat-group': speech(tf.UniSpeechSatConfig, tf.UniSpeechSatModel, group),
    'unispeech-sat-layer': speech(tf.UniSpeechSatConfig, tf.UniSpeechSatModel, layer),
    'sew': speech(tf.SEWConfig, tf.SEWModel, squeeze_factor=2, feat_extract_norm='group', conv_dim=(64,)*13),
    'wav2vec2-bert': wav2vec2_bert,
    'whisper': whisper(),
    'clap-fusion': clap('fusion'),
    'clap-rand_trunc': clap('rand_trunc'),
    # not on the promised list: served by what `AutoModel` and `AutoFeatureExtractor` say of themselves
    'unispeech': speech(tf.UniSpeechConfig, tf.UniSpeechModel, group),
    'wav2vec2-conformer': speech(tf.Wav2Vec2ConformerConfig, tf.Wav2Vec2ConformerModel, layer),
    'wav2vec2-adapter': speech(tf.Wav2Vec2Config, tf.Wav2Vec2Model, layer, add_adapter=True),
    'speech-to-text': speech_to_text,
}

three = dict(num_labels=3, id2label={0: 'yes', 1: 'no', 2: 'stop'}, label2id={'yes': 0, 'no': 1, 'stop': 2})
headed = {
    'ast': ast(tf.ASTForAudioClassification, **three),
    'wav2vec2': speech(tf.Wav2Vec2Config, tf.Wav2Vec2ForSequenceClassification, group,
                       classifier_proj_size=16, **three),
    'hubert': speech(tf.HubertConfig, tf.HubertForSequenceClassification, layer, classifier_proj_size=16, **three),
    'wavlm': speech(tf.WavLMConfig, tf.WavLMForSequenceClassification, layer, num_buckets=16,
                    classifier_proj_size=16, **three),
    'whisper': whisper(tf.WhisperForAudioClassification, classifier_proj_size=16, **three),
}


def maker(name): return headed[name[5:]] if name.startswith('head-') else architectures[name]


# SampleCNN: channels in and out, stride, padding, and whether a maximum follows, of each layer
sample_cnn = [(1, 128, 3, 0, False), (128, 128, 1, 1, True), (128, 128, 1, 1, True), (128, 256, 1, 1, True),
              (256, 256, 1, 1, True), (256, 256, 1, 1, True), (256, 256, 1, 1, True),
              (256, 256, 1, 1, True), (256, 256, 1, 1, True), (256, 512, 1, 1, True), (512, 512, 1, 1, False)]


def seeded_encoder(seed=0):
    "Weights for the layers of the table, under the names that checkpoints use."
    g, state = torch.Generator().manual_seed(seed), {}
    for i, (into, out, *_) in enumerate(sample_cnn):
        state[f'sequential.{i}.0.weight'] = torch.randn(out, into, 3, generator=g)*(2/(3*into))**.5
        state[f'sequential.{i}.0.bias'] = torch.randn(out, generator=g)*.05
        state[f'sequential.{i}.1.weight'] = 1+.1*torch.randn(out, generator=g)
        state[f'sequential.{i}.1.bias'] = .1*torch.randn(out, generator=g)
        state[f'sequential.{i}.1.running_mean'] = .1*torch.randn(out, generator=g)
        state[f'sequential.{i}.1.running_var'] = 1+.5*torch.rand(out, generator=g)
        state[f'sequential.{i}.1.num_batches_tracked'] = torch.tensor(7)
    return state


def make_folder(make, folder, seed=0, **depth):
    "Save one of them as a checkpoint, with `num_hidden_layers` if given; gives the model and its extractor too."
    torch.manual_seed(seed)
    model, extractor = make(**depth)
    # fresh layer norms do nothing and fresh biases are zero, which would hide mistakes
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1: p.add_(.1*torch.randn_like(p))
    tf.utils.logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor
