"What is written as a whole: stopped at any step, by several at once, beside what others laid there, and under names of any kind."
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from kit import command

from auditus import AudioDecodeError, AudioPipeline, ModelNotFoundError, SettingError, SoundIndex
from auditus.cache import cache_entries, clear_cache
from auditus.finetune import Probe
from auditus.sound import locks, sums, whole
from auditus.sound.files import recover, sums_file, write_checksums, write_whole
from auditus.sound.locks import hold_lock, lock_file
from auditus.sound.sums import damaged_files
from auditus.sound.whole import Room, rooms_of

posix = pytest.mark.skipif(os.name == 'nt', reason='asks for links or rights that POSIX has')


def save(folder, text, ours=('a.txt',)):
    "A folder of two files that say the same, with checksums."
    with write_whole(folder, ours=ours) as new:
        new.mkdir()
        for name in ('a.txt', 'in/b.txt'):
            (new/name).parent.mkdir(exist_ok=True)
            (new/name).write_text(text)
        write_checksums(new)


def said(folder):
    "What a folder of `save` says, where it is whole."
    assert not damaged_files(folder)
    a, b = (folder/name for name in ('a.txt', 'in/b.txt'))
    assert a.read_text() == b.read_text()
    return a.read_text()


def names(folder): return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope='module')
def kept(checkpoint, tmp_path_factory):
    "Of each kind of folder what saves it, what opens it, and what saves another one."
    at = tmp_path_factory.mktemp('kept')
    rng = np.random.default_rng(0)
    for i in range(8):
        (at/'sounds'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        sf.write(at/'sounds'/'ab'[i % 2]/f'{i}.wav', rng.normal(0, .1 if i % 2 else .01, 6000), 16000)
    pipes = [AudioPipeline(checkpoint('hubert-layer'), pooling=p) for p in ('mean', 'max')]
    indexes = [SoundIndex.build(at/'sounds', p, cache=at/'cache') for p in pipes]
    probes = [Probe(p, cache=at/'cache').fit(at/'sounds') for p in pipes]
    return {name: (one.save, opened, other.save) for name, (one, other), opened in
            (('index', indexes, SoundIndex.open), ('probe', probes, Probe.load),
             ('pipeline', pipes, AudioPipeline.load))}


kinds = pytest.mark.parametrize('kind', ['index', 'probe', 'pipeline'])


# Stopped

class Stopper:
    "Stops the work as Ctrl-C does, before or after one of its steps."
    def __init__(self, monkeypatch, step, after):
        self.step, self.after, self.steps = step, after, 0
        for owner, name in ((Path, 'rename'), (Path, 'replace'), (Path, 'mkdir'), (Path, 'unlink'),
                            (os, 'fsync'), (os, 'link'), (shutil, 'rmtree'),
                            (locks, 'lock_file'), (whole, 'lock_file')):
            monkeypatch.setattr(owner, name, self.stopping(getattr(owner, name)))

    def stopping(self, real):
        def wrapper(*args, **kwargs):
            self.steps += 1
            stop = self.steps == self.step
            if stop and not self.after: raise KeyboardInterrupt
            found = real(*args, **kwargs)
            if stop: raise KeyboardInterrupt
            return found
        return wrapper


@pytest.mark.parametrize('after', [False, True], ids=['before', 'after'])
def test_ctrl_c_at_any_step_leaves_the_old_one_or_the_new_one(after, tmp_path):
    for step in range(1, 100):
        at = tmp_path/str(step)
        at.mkdir()
        save(at/'saved', 'old')
        (at/'saved'/'notes.md').write_text('mine')
        with pytest.MonkeyPatch.context() as patch:
            stopper = Stopper(patch, step, after)
            try: save(at/'saved', 'new')
            except KeyboardInterrupt: pass
        recover(at/'saved')
        assert said(at/'saved') in ('old', 'new') and (at/'saved'/'notes.md').read_text() == 'mine', step
        save(at/'saved', 'newest')
        assert said(at/'saved') == 'newest' and names(at) == ['saved'], step
        if stopper.steps < step: break
    assert 15 < step < 99


def test_a_room_is_not_removed_where_the_old_one_has_no_successor(tmp_path, monkeypatch):
    save(tmp_path/'saved', 'old')
    real = Path.rename
    def rename(self, target):
        if Path(target) == tmp_path/'saved': raise PermissionError('held open')  # forward and back
        return real(self, target)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', rename)
        with pytest.raises(PermissionError): save(tmp_path/'saved', 'new')
    recover(tmp_path/'saved')
    assert said(tmp_path/'saved') == 'old' and names(tmp_path) == ['saved']


def test_a_swap_that_fails_puts_the_old_one_back_at_once(tmp_path):
    save(tmp_path/'saved', 'old')
    room = Room(tmp_path/'.saved.new-abcdefgh', tmp_path/'saved')
    room.at.mkdir()
    with pytest.raises(FileNotFoundError): room.swap()  # there is nothing new
    assert said(tmp_path/'saved') == 'old' and not room.old.exists()


# Beside others

@posix
def test_links_are_kept_as_links(tmp_path):
    (tmp_path/'far').mkdir()
    (tmp_path/'far'/'large').write_text('x')
    save(tmp_path/'saved', 'old')
    there = {'folder': tmp_path/'far', 'file': tmp_path/'far'/'large', 'dangling': Path('nowhere'),
             'deep/folder': tmp_path/'far', 'deep/dangling': Path('nowhere')}
    (tmp_path/'saved'/'deep'/'empty').mkdir(parents=True)
    for name, to in there.items(): (tmp_path/'saved'/name).symlink_to(to)
    for text in ('new', 'newest'):
        save(tmp_path/'saved', text)
        assert {n: Path(os.readlink(tmp_path/'saved'/n)) for n in there} == there
        assert (tmp_path/'saved'/'deep'/'empty').is_dir()
    assert said(tmp_path/'saved') == 'newest' and (tmp_path/'far'/'large').read_text() == 'x'


def test_what_others_laid_into_folders_of_ours_is_kept(tmp_path):
    save(tmp_path/'saved', 'old', ours=('a.txt', 'in'))
    (tmp_path/'saved'/'in'/'mine.txt').write_text('mine')
    before = os.stat(tmp_path/'saved'/'in'/'mine.txt').st_ino
    with write_whole(tmp_path/'saved', ours=('a.txt', 'in')) as new:  # has no such folder
        new.mkdir()
        (new/'a.txt').write_text('new')
    assert names(tmp_path/'saved') == ['a.txt', 'in'] and names(tmp_path/'saved'/'in') == ['mine.txt']
    assert os.stat(tmp_path/'saved'/'in'/'mine.txt').st_ino == before  # the very file, not a copy
    save(tmp_path/'other', 'old')
    with write_whole(tmp_path/'other', ours=('a.txt',)) as new: new.mkdir()
    assert names(tmp_path/'other') == []  # of folders of ours nothing is left where nobody laid something there


def test_a_note_in_the_pipeline_of_an_index_that_has_none_any_more(kept, tmp_path):
    saved, opened, _ = kept['index']
    saved(tmp_path/'at')
    (tmp_path/'at'/'pipeline'/'mine.txt').write_text('mine')
    index = opened(tmp_path/'at')
    SoundIndex(np.asarray(index.X), index.table).save(tmp_path/'at')
    assert opened(tmp_path/'at').pipeline is None and names(tmp_path/'at'/'pipeline') == ['mine.txt']


def test_a_disk_without_links_gets_copies(tmp_path, monkeypatch):
    def no_link(*args, **kwargs): raise OSError(errno.EPERM, 'Operation not permitted')
    monkeypatch.setattr(os, 'link', no_link)
    save(tmp_path/'saved', 'old')
    (tmp_path/'saved'/'notes').write_text('mine')
    if os.name != 'nt': (tmp_path/'saved'/'dangling').symlink_to('nowhere')
    save(tmp_path/'saved', 'new')
    assert said(tmp_path/'saved') == 'new' and (tmp_path/'saved'/'notes').read_text() == 'mine'
    assert os.name == 'nt' or os.readlink(tmp_path/'saved'/'dangling') == 'nowhere'


@posix
def test_what_others_laid_there_is_opened_by_nobody(tmp_path, monkeypatch):
    save(tmp_path/'saved', 'old')
    (tmp_path/'saved'/'locked').write_text('mine')
    (tmp_path/'saved'/'locked').chmod(0o400)
    opened, real = [], open
    def noting(file, mode='r', *args, **kwargs):
        opened.append((Path(file).name, mode))
        return real(file, mode, *args, **kwargs)
    monkeypatch.setattr('builtins.open', noting)
    save(tmp_path/'saved', 'new')
    assert 'locked' not in dict(opened) and ('a.txt', 'rb') in opened and 'rb+' not in dict(opened).values()
    assert (tmp_path/'saved'/'locked').read_text() == 'mine'


# Several at once

def test_savers_wait_for_each_other(tmp_path, monkeypatch):
    save(tmp_path/'saved', 'old')
    other, waited = hold_lock(tmp_path/'.saved.new-lock', tmp_path/'saved'), []
    other.__enter__()
    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3: other.__exit__(None, None, None)
    monkeypatch.setattr(locks.time, 'sleep', sleep)
    save(tmp_path/'saved', 'new')
    assert said(tmp_path/'saved') == 'new' and len(waited) == 3 and names(tmp_path) == ['saved']


def test_nothing_takes_its_place_while_another_one_does(tmp_path, monkeypatch):
    save(tmp_path/'saved', 'old')
    other, waited = hold_lock(tmp_path/'.saved.new-lock', tmp_path/'saved'), []
    def sleep(seconds):
        waited.append(said(tmp_path/'saved'))
        other.__exit__(None, None, None)
    monkeypatch.setattr(locks.time, 'sleep', sleep)
    with write_whole(tmp_path/'saved') as new:
        new.mkdir()
        other.__enter__()  # comes when the new one is written already
    assert waited == ['old'] and names(tmp_path/'saved') == [] and names(tmp_path) == ['saved']


def test_who_waits_in_vain_says_for_whom(tmp_path, monkeypatch):
    save(tmp_path/'saved', 'old')
    monkeypatch.setattr(locks.time, 'sleep', lambda seconds: None)
    (tmp_path/'.saved.new-lock').write_bytes(b'999\xff')  # a kill left it
    with hold_lock(tmp_path/'.saved.new-lock', tmp_path/'saved'):
        with pytest.raises(SettingError, match=rf"saved' is being saved to by another process \({os.getpid()}\): wait for it"): save(tmp_path/'saved', 'new')
    assert said(tmp_path/'saved') == 'old' and names(tmp_path) == ['saved']


def test_who_waited_for_a_lock_that_is_gone_makes_a_new_one(tmp_path, monkeypatch):
    "The lock file is removed in the end: who had opened it before holds a file that nobody else will find."
    first, real, turns = hold_lock(tmp_path/'lock', tmp_path), locks.lock_file, []
    first.__enter__()
    def lock_late(f):
        turns.append(f)
        if len(turns) == 1: first.__exit__(None, None, None)  # between the opening and the lock
        return real(f)
    monkeypatch.setattr(locks, 'lock_file', lock_late)
    monkeypatch.setattr(locks.time, 'sleep', lambda seconds: None)
    with hold_lock(tmp_path/'lock', tmp_path):
        with open(tmp_path/'lock', 'a+') as f: assert real(f) is False
    assert not (tmp_path/'lock').exists() and (os.name == 'nt' or len(turns) == 2)


@posix
def test_a_disk_without_locks_is_saved_to(tmp_path, monkeypatch):
    import fcntl
    def no_locks(*args): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'flock', no_locks)
    for text in ('old', 'new'): save(tmp_path/'saved', text)
    assert said(tmp_path/'saved') == 'new' and names(tmp_path) == ['saved']
    (tmp_path/'.saved.new-abcdefgh').mkdir()
    recover(tmp_path/'saved')  # nobody knows whether somebody is at work in it
    assert (tmp_path/'.saved.new-abcdefgh').exists()


def test_a_room_that_is_just_being_made_is_left_alone(tmp_path, monkeypatch):
    "Between the making of a room and its lock, another process looks for what a kill left."
    real, tries = whole.tempfile.mkdtemp, []
    def mkdtemp(**kwargs):
        room = real(**kwargs)
        with monkeypatch.context() as patch:
            patch.setattr(locks.time, 'sleep', tries.append)
            recover(tmp_path/'saved')
        assert Path(room).is_dir()
        return room
    monkeypatch.setattr(whole.tempfile, 'mkdtemp', mkdtemp)
    save(tmp_path/'saved', 'new')
    assert said(tmp_path/'saved') == 'new' and tries and names(tmp_path) == ['saved']


@kinds
def test_who_opens_while_another_saves_gets_the_new_one(kind, kept, tmp_path, monkeypatch):
    saved, opened, other = kept[kind]
    saved(tmp_path/'kept')
    real, times = sums.digests, []
    def exchanged(paths):
        if paths[0].is_relative_to(tmp_path/'kept'):
            times.append(1)
            if len(times) == 1: other(tmp_path/'kept')  # the list is the old one's, the files are the new one's
        return real(paths)
    monkeypatch.setattr(sums, 'digests', exchanged)
    found = opened(tmp_path/'kept')
    pipe = found if kind == 'pipeline' else found.pipeline
    assert pipe.pooling == 'max' and len(times) >= 2


def test_who_opens_while_another_saves_mixes_nothing(kept, tmp_path, monkeypatch):
    "The exchange comes after the checksums were compared."
    saved, opened, other = kept['index']
    saved(tmp_path/'kept')
    real, times = np.load, []
    def exchanged(*args, **kwargs):
        found = real(*args, **kwargs)
        times.append(1)
        if len(times) == 1: other(tmp_path/'kept')
        return found
    monkeypatch.setattr(np, 'load', exchanged)
    found = opened(tmp_path/'kept')
    monkeypatch.undo()
    assert found.pipeline.pooling == 'max' and np.array_equal(found.X, np.load(tmp_path/'kept'/'vectors.npy'))


def test_damage_is_still_damage_where_nobody_saves(kept, tmp_path):
    saved, opened, _ = kept['index']
    saved(tmp_path/'kept')
    (tmp_path/'kept'/'vectors.npy').write_bytes(bytes(100))
    with pytest.raises(AudioDecodeError, match='vectors.npy is not what was written'): opened(tmp_path/'kept')


@kinds
def test_who_opens_between_two_renames_waits(kind, kept, tmp_path, monkeypatch):
    saved, opened, _ = kept[kind]
    saved(tmp_path/'kept')
    (tmp_path/'.kept.new-abcdefgh').mkdir()
    other = hold_lock(tmp_path/'.kept.new-lock', tmp_path/'kept')
    other.__enter__()
    (tmp_path/'kept').rename(tmp_path/'.kept.new-abcdefgh'/'old')
    def sleep(seconds):
        if (tmp_path/'kept').exists(): return
        (tmp_path/'.kept.new-abcdefgh'/'old').rename(tmp_path/'kept')
        other.__exit__(None, None, None)
    monkeypatch.setattr(locks.time, 'sleep', sleep)
    opened(tmp_path/'kept')
    assert names(tmp_path) == ['kept']


# Folders of another kind

@pytest.mark.parametrize('there', ['index', 'probe', 'pipeline', 'model', 'sounds', 'file'])
@kinds
def test_a_folder_that_holds_something_else_is_refused(kind, there, kept, tmp_path):
    saved, *_ = kept[kind]
    at = tmp_path/'at'
    if there in kept: kept[there][0](at)
    elif there == 'file': at.write_text('mine')
    else:
        (at/there).mkdir(parents=True)
        (at/there/'a.wav').write_text('mine')
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    if kind == there: return saved(at)
    with pytest.raises(SettingError, match='is a file: an? ' if there == 'file'
                       else r'holds something else than an? .* \(.*\): choose another folder'):
        saved(at)
    assert {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()} == before


@kinds
def test_notes_stand_in_nobodys_way(kind, kept, tmp_path):
    saved, opened, _ = kept[kind]
    (tmp_path/'at'/'.git').mkdir(parents=True)
    for name in ('.git/HEAD', 'README.md', 'LICENSE', '.DS_Store'): (tmp_path/'at'/name).write_text('mine')
    for _ in range(2):
        saved(tmp_path/'at')
        opened(tmp_path/'at')
        for name in ('probe-notes.json', 'probes.npz', 'model-notes', 'in model'):
            (tmp_path/'at'/name).write_text('mine')
        (tmp_path/'at'/('model' if kind == 'pipeline' else 'pipeline')/'mine.txt').write_text('mine')
    saved(tmp_path/'at')
    opened(tmp_path/'at')
    mine = {p.name for p in (tmp_path/'at').rglob('*') if p.is_file() and p.read_bytes() == b'mine'}
    assert mine == {'HEAD', 'README.md', 'LICENSE', '.DS_Store', 'probe-notes.json', 'probes.npz',
                    'model-notes', 'in model', 'mine.txt'}


def test_what_version_0_1_0_saved_is_replaced_whole(kept, tmp_path):
    saved, opened, _ = kept['probe']
    saved(tmp_path/'probe')
    at = tmp_path/'probe'
    (at/sums_file).unlink()
    (at/'probe.npz').rename(at/'probe-0123abcd.npz')
    known = json.loads((at/'probe.json').read_text())
    (at/'probe.json').write_text(json.dumps({**{k: v for k, v in known.items() if k != 'sums'},
                                             'arrays': 'probe-0123abcd.npz'}))
    opened(at)
    saved(at)
    assert names(at) == ['SHA256SUMS', 'pipeline', 'probe.json', 'probe.npz']


# Checksums

@kinds
def test_a_list_of_checksums_that_is_damaged_or_gone(kind, kept, tmp_path):
    saved, opened, _ = kept[kind]
    saved(tmp_path/'at')
    whole = (tmp_path/'at'/sums_file).read_text()
    marker = {'index': 'index.json', 'probe': 'probe.json', 'pipeline': 'auditus.json'}[kind]
    lines = whole.splitlines(keepends=True)
    cuts = ['', '\n', whole[:-3], whole[:30], *(''.join(lines[:n]) for n in range(1, len(lines)))]
    for text in cuts:
        (tmp_path/'at'/sums_file).write_text(text)
        with pytest.raises((ModelNotFoundError, AudioDecodeError), match='is damaged: '): opened(tmp_path/'at')
    (tmp_path/'at'/sums_file).unlink()
    with pytest.raises((ModelNotFoundError, AudioDecodeError), match=f'is damaged: its {sums_file} is gone'):
        opened(tmp_path/'at')
    known = json.loads((tmp_path/'at'/marker).read_text())
    assert known['sums'] is True
    for sums in ({}, {'sums': False}):  # as 0.1.0 wrote it, and as somebody says who changed it himself
        (tmp_path/'at'/marker).write_text(json.dumps({**{k: v for k, v in known.items() if k != 'sums'}, **sums}))
        opened(tmp_path/'at')


def test_an_empty_list_is_damage_of_any_folder(tmp_path):
    save(tmp_path/'saved', 'old')
    for text in ('', '\n', 'no list', '0'*64+'  ', '\xff'):
        (tmp_path/'saved'/sums_file).write_text(text, encoding='latin-1')
        assert damaged_files(tmp_path/'saved') == [sums_file]


def test_a_file_of_ours_that_is_not_listed_is_damage(kept, tmp_path):
    saved, opened, _ = kept['index']
    saved(tmp_path/'at')
    (tmp_path/'at'/'graph.txt').write_text('mine')
    opened(tmp_path/'at')
    (tmp_path/'at'/'graph.usearch').write_bytes(bytes(100))
    with pytest.raises(AudioDecodeError, match='graph.usearch is not what was written'): opened(tmp_path/'at')


# Names, links and rights

def test_a_room_of_another_target_is_not_ours(tmp_path):
    for name in ('a', 'a.new-x', 'a.new-abcdefgh', 'a[b]'): save(tmp_path/name, 'old')
    with write_whole(tmp_path/'a.new-x') as other:
        assert not rooms_of(tmp_path/'a', tmp_path) and len(rooms_of(tmp_path/'a.new-x', tmp_path)) == 1
        other.mkdir()
    (tmp_path/'.a.new-x.new-abcdefgh'/'new').mkdir(parents=True)
    save(tmp_path/'a', 'new')
    recover(tmp_path/'a')
    assert (tmp_path/'.a.new-x.new-abcdefgh'/'new').exists()
    recover(tmp_path/'a.new-x')
    assert not (tmp_path/'.a.new-x.new-abcdefgh').exists()


@posix
def test_recovered_through_a_link(tmp_path):
    (tmp_path/'far').mkdir()
    save(tmp_path/'far'/'saved', 'old')
    (tmp_path/'near').symlink_to(tmp_path/'far'/'saved')
    (tmp_path/'far'/'.saved.new-abcdefgh').mkdir()
    (tmp_path/'far'/'saved').rename(tmp_path/'far'/'.saved.new-abcdefgh'/'old')
    recover(tmp_path/'near')
    assert said(tmp_path/'near') == 'old' and names(tmp_path/'far') == ['saved']
    (tmp_path/'loop').symlink_to(tmp_path/'loop')
    recover(tmp_path/'loop')


@kinds
def test_who_may_only_read_can_open(kind, kept, tmp_path, monkeypatch):
    saved, opened, _ = kept[kind]
    saved(tmp_path/'kept')
    (tmp_path/'.kept.new-abcdefgh').mkdir()
    real = open
    def reading(file, mode='r', *args, **kwargs):
        if tmp_path in Path(str(file)).parents and mode.strip('bt') != 'r':
            raise PermissionError(errno.EACCES, 'Permission denied')
        return real(file, mode, *args, **kwargs)
    monkeypatch.setattr('builtins.open', reading)
    recover(tmp_path/'kept')
    opened(tmp_path/'kept')
    recover(tmp_path/'nowhere'/'kept')
    assert names(tmp_path) == ['.kept.new-abcdefgh', 'kept']


@pytest.mark.parametrize('name', ['x'*255, 'ä'*127, 'x'*254+'y'], ids=['ascii', 'umlauts', 'differs at its end'])
def test_names_as_long_as_a_disk_takes(name, tmp_path):
    try: (tmp_path/name).mkdir()
    except OSError: pytest.skip('this disk takes no such names')
    (tmp_path/name).rmdir()
    other = tmp_path/(name[:-1]+'z')
    for folder in (tmp_path/name, other):
        for text in ('old', 'new'): save(folder, text)
    with write_whole(other) as new:
        assert rooms_of(other, tmp_path) and not rooms_of(tmp_path/name, tmp_path)
        new.mkdir()
    assert said(tmp_path/name) == 'new' and names(other) == [] and len(names(tmp_path)) == 2


@posix
def test_the_folder_that_was_worked_in_is_gone(tmp_path, monkeypatch):
    (tmp_path/'gone').mkdir()
    monkeypatch.chdir(tmp_path/'gone')
    (tmp_path/'gone').rmdir()
    for text in ('old', 'new'): save(tmp_path/'saved', text)
    assert said(tmp_path/'saved') == 'new'


# The cache

def test_the_cache_clears_what_a_kill_left(tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HOME', str(tmp_path))
    home = tmp_path/'auditus'
    for room, inside in (('.0123.new-abcdefgh', 'new/0123'), ('.4567.new-abcdefgh', 'old'),
                         ('.89ab.new-abcdefgh', 'new/89ab'), ('.not a room', 'a')):
        (home/room/inside).mkdir(parents=True)
        (home/room/inside/'model.onnx').write_bytes(bytes(1_000_000))
    assert [e.bytes for e in cache_entries() if e.kind == 'unfinished'] == [1_000_000]*3
    with open(home/'.89ab.new-abcdefgh'/'lock', 'a+') as held:
        assert lock_file(held)
        assert '2.0 MB' in command('cache', '--clear').stderr or len(cache_entries()) == 1
        assert names(home) == ['.89ab.new-abcdefgh', '.not a room']
    assert [e.path.name for e in clear_cache()] == ['.89ab.new-abcdefgh'] and names(home) == ['.not a room']
