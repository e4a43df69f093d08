"""Make README.md out of nbs/index.ipynb: python tools/readme.py [--check]

nbdev's own command for this needs Quarto, which no package registry has. What a reader can't use is left out: hidden
cells, directives, players, progress bars. Pictures become files in nbs/images.
"""
import argparse, base64, difflib, json, posixpath, re, sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
notice = '<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook, then run the script. -->'
hidden = {'hide', 'default_exp', 'export', 'exporti', 'exports'}


def text(lines):
    "Notebook files hold a text whole, or as a list of its lines."
    return lines if isinstance(lines, str) else ''.join(lines)


def fenced(language, body):
    "A code block whose fence is longer than any run of backticks in it."
    fence = '`'*max(3, 1 + max(map(len, re.findall('`+', body)), default=0))
    return f'{fence}{language}\n{body}\n{fence}'


def plain(s):
    "What a terminal would show: no colours, and of a line that was overwritten only the last state."
    s = re.sub(r'\x1b\[[0-9;]*[A-Za-z]', '', s)
    return '\n'.join(line.rstrip('\r').rsplit('\r')[-1].rstrip() for line in s.split('\n')).strip('\n')


def directives(source):
    "The directives at the top of a cell, by name, and the source without them."
    lines, found = source.strip('\n').split('\n'), {}
    while lines and (m := re.match(r'#\s*\|\s*([\w-]+)\s*:?\s*(.*)', lines[0])):
        found[m[1]] = m[2].strip()
        lines.pop(0)
    return found, '\n'.join(lines).strip('\n')


def output(o):
    "One output as Markdown; empty where it has no form in text."
    kind, data = o['output_type'], o.get('data', {})
    if kind == 'stream':  # on stderr are progress bars and other libraries' chatter
        body = plain(text(o['text'])) if o['name'] == 'stdout' else ''
    elif kind == 'error': body = f"{o['ename']}: {plain(o['evalue'])}"
    elif 'text/markdown' in data: return text(data['text/markdown']).strip()
    elif any('widget' in mime for mime in data): body = ''
    else:
        body = plain(text(data.get('text/plain', '')))
        if re.fullmatch(r'<.*>', body, re.DOTALL): body = ''  # `<Figure size 640x480>` only stands for a picture
    return body and fenced('text', body)


def merged(outputs):
    "Outputs, those that follow on the same stream as one: a cell that prints twice may have two."
    whole = []
    for o in outputs:
        if whole and o['output_type'] == whole[-1]['output_type'] == 'stream' and o['name'] == whole[-1]['name']:
            whole[-1] = {**o, 'text': text(whole[-1]['text']) + text(o['text'])}
        else: whole.append(o)
    return whole


def picture(o):
    "A picture's ending and bytes, or None where an output is something else."
    data = o.get('data', {})
    kind = next((k for k in ('png', 'jpeg', 'webp') if f'image/{k}' in data), None)
    return kind and (kind, base64.b64decode(text(data[f'image/{kind}'])))


def code(cell, output=output):
    "A code cell's source, then its outputs, each a block."
    said, source = directives(text(cell['source']))
    if hidden & said.keys() or said.get('include') == 'false': return []
    blocks = [fenced('python', source)] if source and said.get('echo') != 'false' else []
    if said.get('output') == 'false': return blocks
    return blocks + [s for s in map(output, merged(cell['outputs'])) if s]


def relinked(source, moved):
    "Markdown whose links to files lead where `moved(path, anchor)` says, if it says anything."
    link = r'(\]\(|\bsrc=")([^\s()#"?:]+)(#[^\s()"?]*)?([^\s()"]*[)"])'
    return re.sub(link, lambda m: f'{m[1]}{to}{m[4]}' if (to := moved(m[2], m[3] or '')) else m[0], source)


def markdown(cell, folder):
    "A Markdown cell as it is, but for links to files: those start from the notebook's folder, and here from the top."
    def moved(path, anchor):
        path = posixpath.normpath(f'{folder.name}/{path}')
        return (folder.parent/path).exists() and path + anchor
    return relinked(text(cell['source']).strip(), moved)


def frontmatter(cell):
    "A raw cell's title and description as a heading and a quote."
    fields = dict(re.findall(r'^(title|description):\s*["\']?(.*?)["\']?\s*$', text(cell['source']), re.MULTILINE))
    return '\n\n'.join(mark + fields[k] for k, mark in (('title', '# '), ('description', '> ')) if k in fields)


def readme(path):
    "The whole README of the notebook at `path`, and its pictures by their places from there."
    blocks, pictures = [notice], {}
    def shown(o):
        if not (found := picture(o)): return output(o)
        pictures[name := f'images/{path.stem}-{len(pictures)+1}.{found[0]}'] = found[1]
        return f'![{said.get("fig-alt", "").strip(chr(34))}]({path.parent.name}/{name})'
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        said, _ = directives(text(cell['source']))
        if cell['cell_type'] == 'code': blocks += code(cell, shown)
        elif cell['cell_type'] == 'markdown': blocks.append(markdown(cell, path.parent))
        else: blocks.append(frontmatter(cell))
    return '\n\n'.join(b for b in blocks if b) + '\n', pictures


def main():
    parser = argparse.ArgumentParser(description='Make README.md out of nbs/index.ipynb.')
    parser.add_argument('--check', action='store_true', help='write nothing; fail where README.md differs')
    check = parser.parse_args().check
    source, target = root/'nbs'/'index.ipynb', root/'README.md'
    if not source.exists(): sys.exit(f'{source.relative_to(root)} is missing: README.md is made from it')
    new, pictures = readme(source)
    old = target.read_text(encoding='utf-8') if target.exists() else ''
    there = {f'images/{p.name}': p.read_bytes() for p in (source.parent/'images').glob(f'{source.stem}-*')}
    if not check:
        target.write_text(new, encoding='utf-8')
        for name in there.keys()-pictures.keys(): (source.parent/name).unlink()
        for name, made in pictures.items():
            (source.parent/name).parent.mkdir(exist_ok=True)
            (source.parent/name).write_bytes(made)
    elif new != old:
        names = 'README.md', 'nbs/index.ipynb'
        diff = [*difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=1, lineterm='')]
        sys.exit('\n'.join([*diff[:30], 'README.md is not what nbs/index.ipynb says: run `python tools/readme.py`']))
    elif pictures != there: sys.exit(f'the pictures in {source.parent.name}/images are not those of nbs/index.ipynb: run `python tools/readme.py`')


if __name__ == '__main__': main()
