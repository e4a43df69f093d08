"""Audio embeddings as a chain of small transforms: a path goes in, a vector comes out.

    from auditus import AudioPipeline
    AudioPipeline('birdnet')('bird.ogg')

Names are loaded when they are first used, so that `import auditus` costs next to nothing.
"""
__version__ = "0.1.0"

_homes = {
    'core': ['AudioArray', 'Clip', 'Windows', 'Transform', 'Pipeline', 'AuditusError', 'AudioNotFoundError',
             'AudioDecodeError', 'AudioInputError', 'ModelNotFoundError', 'SettingError'],
    'models.base': ['AudioModel', 'ModelFrames', 'load_model'],
    'models.graph': ['describe_graph'],
    'transform': ['AudioLoader', 'Resampling', 'Windowing', 'AudioEmbedding', 'Pooling', 'Normalize', 'AudioPipeline'],
    'classify': ['ModelOutput', 'ClipClassificationModel', 'AudioClassifier'],
    'zeroshot': ['ZeroShotClassifier'],
    'finetune': ['Probe'],
    'collection.batches': ['ClipIterator'],
    'search': ['SoundIndex'],
}
_home = {name: module for module, names in _homes.items() for name in names}
__all__ = list(_home)


def __getattr__(name):
    if name not in _home: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    import sys
    from importlib import import_module
    value = globals()[name] = getattr(import_module(f'.{_home[name]}', __name__), name)
    # a docstring of a class is made when it is asked for; of a function at once, where somebody may ask
    explain = import_module('.sound.explained', __name__).explain
    return explain(value) if isinstance(value, type) or 'IPython' in sys.modules else value


def __dir__(): return sorted({*globals(), *__all__})
