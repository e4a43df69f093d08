"""Make the tables of nbs/guide_models.ipynb out of tests/architectures.csv: python tools/models_page.py [--measure TYPE ...]

With `--measure`, small checkpoints of these types (of all, where none is named) are opened first, and the list is written anew. What a person
says of a type stays: its `group` on the page, and a package that it `needs`; one that isn't installed leaves the type as it was.
"""
import argparse, csv, inspect, re, sys, tempfile, warnings
from importlib.util import find_spec
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root), str(root/'tests')]  # the library beside this file, not another that is installed
record, page = root/'tests/architectures.csv', root/'nbs/guide_models.ipynb'

# what is known of a type: what a person says, what the small checkpoint was measured to do, what the library's own config says
said = ['kind', 'group', 'needs']
measured = ['refused', 'sr', 'hears', 'least', 'frames', 'padding', 'level', 'summary', 'words']
of_config = ['checkpoint', 'dim', 'layers', 'million']
columns = [*said, *measured, *of_config]


def read_record():
    "The list: a dict for each type, by its name."
    with open(record, newline='', encoding='utf-8') as f: return {row['kind']: row for row in csv.DictReader(f)}


def write_record(rows):
    with open(record, 'w', newline='', encoding='utf-8') as f:
        table = csv.DictWriter(f, columns, lineterminator='\n')
        table.writeheader()
        table.writerows(rows[k] for k in sorted(rows))


# Measuring

def measure(kind, folder):
    "What a small checkpoint of a type does."
    from audio_types import save_type
    from auditus import load_model
    from auditus.models.passport import examine
    model = load_model(save_type(kind, folder))
    marks = (model.passport or examine(model)).marks
    return model, {'refused': '', 'sr': str(model.sr), 'hears': marks['hears'], 'least': marks['least'], 'frames': marks['frames a second'],
                   'padding': marks['padding'], 'level': marks['level'], 'summary': 'yes'*(model.pooled_dim is not None),
                   'words': 'yes'*(model.embed_text is not None and hasattr(model.config, 'text_config'))}


# where the library's documentation names a checkpoint of another type
misnamed = {'sew': 'asapp/sew-tiny-100k', 'sew-d': 'asapp/sew-d-tiny-100k'}


def documented(kind):
    "The checkpoint that the library's documentation of a type names."
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    named = re.search(r'auto_docstring\([^)]*checkpoint="([^"]+)"', inspect.getsource(CONFIG_MAPPING[kind]))
    return misnamed.get(kind) or (named[1] if named else '')


def same_place(small, usual, value, names):
    "What the usual config has where the small one has a value, by the names of what it can be; '' where that isn't clear."
    found = {getattr(usual, k) for k in names if getattr(small, k, None) == value and getattr(usual, k, None) is not None}
    return str(found.pop()) if len(found) == 1 else ''


def usual_sizes(kind, model, folder):
    "What the part that hears is by the defaults of its library's config, and the checkpoint that its documentation names."
    import torch
    from audio_types import encoders, usual_config
    from auditus.models.towers import choose_tower, cut_class, submodule
    config = usual_config(kind)
    cls, path = choose_tower(config, kind)
    with torch.device('meta'): net = submodule(cut_class(cls, path)(config), path)
    small, usual = getattr(model.encoder, 'config', model.config), getattr(net, 'config', config)
    depths = ('encoder_layers', 'encoder_num_hidden_layers', 'num_hidden_layers', 'num_layers', 'n_layers', 'num_blocks', 'speech_encoder_layers', 'conf_num_hidden_layers')
    layers = model.n_layers and next((d for k in depths if (d := same_place(small, usual, model.n_layers, [k]))), '?')
    widths = ('hidden_size', 'd_model', 'output_dim', 'projection_dim', 'encoder_hidden_dim', 'codebook_dim')
    return {'checkpoint': documented(kind) or documented(encoders.get(kind, kind)), 'dim': same_place(small, usual, model.frame_dim, widths) or width_of(kind, folder),
            'layers': str(layers or ''), 'million': f'{sum(p.numel() for p in net.parameters())/1e6:.3g}'}


def width_of(kind, folder):
    "The size of a frame, of a checkpoint that is no narrower than usual."
    from unittest.mock import patch
    import audio_types
    from auditus import load_model
    with patch.object(audio_types, 'whole', {kind}), patch('auditus.models.hf.check_opened', lambda model: model):
        return str(load_model(audio_types.save_type(kind, folder)).frame_dim)


def measured_row(kind, before):
    "The row of a type, measured anew; what a person says of it stays."
    row = dict.fromkeys(columns, '') | {k: before.get(k, '') for k in said} | {'kind': kind}
    if row['needs'] and not find_spec(row['needs']): return dict.fromkeys(columns, '') | before
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: model, found = measure(kind, Path(folder)/'m')
        except (OSError, ImportError) as e: return row | {'refused': str(e).replace(f'{folder}/m', kind)}
        return row | found | usual_sizes(kind, model, Path(folder)/'wide')


def measure_all(kinds):
    from audio_types import all_types
    rows = read_record() if record.exists() else {}
    for kind in kinds or all_types():
        rows[kind] = measured_row(kind, rows.get(kind, {}))
        print(*rows[kind].values(), sep=' | ', flush=True)
        write_record(rows)


# The page

groups = {
    'sound': ('Sound of every kind', 'Learnt from recordings of everything that makes a sound. Where it says **words**, a `ZeroShotClassifier` and a search take descriptions, too.'),
    'speech': ('Speech, learnt from sound alone', 'A layer in the middle is often the one to take.'),
    'recognition': ('Speech recognition and translation', 'The part that hears, without the one that writes.'),
    'language': ('Language models that hear', 'Only the tower that hears is read from the disk, however large the rest is.'),
    'codec': ('Codecs, and models that speak or play', 'What a codec knows of the sound before it makes codes of it.')}
head = ('| type, and a checkpoint | kHz | hears | frames/s | least | numbers | layers | weights | besides |', '|---|--:|--:|--:|--:|--:|--:|--:|---|')
begin, end = '<!-- made by tools/models_page.py: begin -->', '<!-- made by tools/models_page.py: end -->'


def seconds(text):
    "A least length, as a person reads it."
    s = float(text.split()[0])
    return 'any' if s < .001 else f'{round(s*1000)} ms'


def per_second(row):
    "Frames a second; of a model that gives as many whatever the sound is, how many these are."
    return row['frames'].replace(' whatever its length', ' in all')


def size(row):
    n = float(row['million'])
    return f'{n/1000:.2g} B' if n >= 999.5 else f'{n:.3g} M'


def besides(row):
    found = ['**words**']*bool(row['words'])+['summary']*bool(row['summary'])+['counts padding']*(row['padding'] == 'counted')
    found += ['ignores loudness']*(row['level'] == 'makes no difference')+[f'needs {row["needs"]}']*bool(row['needs'])
    return '; '.join(found)


def facts(row):
    if not row['hears']: return ['']*7+[f'{besides(row)}; not measured']
    hears = row['hears'].replace('any length', 'any')
    return [f"{int(row['sr'])/1000:g}", hears, per_second(row), seconds(row['least']), row['dim'], row['layers'] or '', size(row), besides(row)]


def table(rows):
    "The rows of a group; types of one checkpoint of which all is the same share a line."
    lines = {}
    for row in rows: lines.setdefault((row['checkpoint'], *facts(row)), []).append(f"`{row['kind']}`")
    return [*head, *(f"| {', '.join(kinds)}{of and f'<br>{of}'} | {' | '.join(rest)} |" for (of, *rest), kinds in lines.items())]


def reason(row):
    "Why a type is refused, in as few words as say it."
    why = re.sub(r'^\S+ (can not be served: )?', '', row['refused']).split('. CONTRIBUTING')[0]
    inner = re.search(r'\(ModelNotFoundError: (.*)\)', why)
    return inner[1] if inner else re.split(r' \(\w+Error: ', why)[0]


def made_cells():
    "The text of the page's tables."
    rows = [*read_record().values()]
    opened = [r for r in rows if not r['refused']]
    unmeasured = sum(not r['hears'] for r in opened)
    parts = [f'Of the {len(rows)} types of `transformers` that have to do with sound {len(opened)-unmeasured} open. {len(rows)-len(opened)} are refused, and '
             f'{unmeasured} need a package that was not there when this was measured.']
    for key, (title, about) in groups.items():
        parts += [f'### {title}', about, '\n'.join(table([r for r in opened if r['group'] == key]))]
    refused = [r for r in rows if r['refused']]
    parts += ['### What does not open', 'These read text or codes, or give nothing that frames could be taken from, and are refused with the reason:',
              '\n'.join(['| type | why |', '|---|---|', *(f"| `{r['kind']}` | {reason(r)} |" for r in refused)])]
    return '\n\n'.join([begin, *parts, end])


def write_page():
    from fastcore.nbio import Notebook
    nb = Notebook.open(page)
    cell, = (c for c in nb.cells if c.source.startswith(begin))
    cell.set_source(made_cells())
    nb.save(page)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--measure', nargs='*', metavar='TYPE', help='open these types first, or all of them')
    wanted = parser.parse_args().measure
    if wanted is not None: measure_all(wanted)
    write_page()
