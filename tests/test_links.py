"Links: how long, how large and where to they may lead, and that nobody reads their passwords."
import io
import os
import shutil
import ssl
import subprocess
import threading
import traceback
import tracemalloc
from base64 import b64encode
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from fsspec.implementations.memory import MemoryFileSystem
from kit import Loudness

from auditus import AudioInputError, AudioLoader, AudioNotFoundError, AudioPipeline, AuditusError, SettingError
from auditus.collect import collect
from auditus.sound.wording import brief, secrets_of, without_secrets
from auditus.extract import extract
from auditus.load import fetch
from auditus.sound.links import most_redirects, origin, redirected

password, token = 'pa55word', '9f2c77aab1'


def wav(seconds=1.):
    f = io.BytesIO()
    sf.write(f, np.random.default_rng(0).normal(0, .1, int(8000*seconds)), 8000, format='wav')
    return f.getvalue()


class Answer(BaseHTTPRequestHandler):
    "Serves what the tests ask for by path, and keeps what it was told."
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.asked.append((self.path, self.headers['Authorization']))
        path = self.path.partition('?')[0]
        with suppress(BrokenPipeError, ConnectionResetError): self.answers.get(path, Answer.sound)(self)
        self.close_connection = True

    def head(self, status, **headers):
        self.send_response(status)
        for k, v in headers.items(): self.send_header(k.replace('_', '-'), v)
        self.end_headers()

    def sound(self):
        self.head(200, Content_Length=str(len(wav())))
        self.wfile.write(wav())

    def login(self):
        right = f'Basic {b64encode(f"ann:{password}".encode()).decode()}'
        if self.headers['Authorization'] == right: self.sound()
        else: self.head(401, Content_Length='0')

    def endless(self):
        self.head(200, Transfer_Encoding='chunked')
        while True: self.wfile.write(b'1000\r\n' + bytes(4096) + b'\r\n')

    def drip(self):
        self.head(200, Content_Length=str(10**8))
        while True: self.wfile.write(b'x')

    def drip_head(self):
        "An answer is about to come, and never does (RFC 9110, 15.2.1)."
        while True: self.wfile.write(b'HTTP/1.1 100 Continue\r\n\r\n')

    def silent(self):
        self.server.hold.wait()

    def lying(self):
        self.head(200, Content_Length=str(10**15))
        while True: self.wfile.write(bytes(4096))

    def away(self):
        "To where the query says, with a body that never ends."
        self.head(302, Location=self.path.partition('?')[2], Transfer_Encoding='chunked')
        while True: self.wfile.write(b'1000\r\n' + bytes(4096) + b'\r\n')

    def step(self):
        "One of a number of steps."
        n = int(self.path.partition('?')[2])
        self.head(301, Location=f'/step?{n-1}' if n > 1 else '/a.wav', Content_Length='0')

    def gone(self): self.send_error(404)
    def log_message(self, *_): pass
    answers = {'/login.wav': login, '/endless.wav': endless, '/drip.wav': drip, '/drip_head.wav': drip_head,
               '/silent.wav': silent,
               '/lying.wav': lying, '/away.wav': away, '/step': step, '/gone.wav': gone}


@contextmanager
def serving(certificate=None):
    "A server of this machine, with `asked`: the paths and logins that came."
    with ThreadingHTTPServer(('127.0.0.1', 0), Answer) as server:
        server.daemon_threads, server.asked, server.hold = True, [], threading.Event()
        server.handle_error = lambda *_: None  # who asked may have gone
        scheme = 'http'
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket, scheme = context.wrap_socket(server.socket, server_side=True), 'https'
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        server.at = f'{scheme}://127.0.0.1:{server.server_port}'
        try: yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch): monkeypatch.setenv('no_proxy', '*')


@pytest.fixture
def site():
    with serving() as server: yield server


@pytest.fixture
def other():
    "Another host: another port is one."
    with serving() as server: yield server


@pytest.fixture(scope='session')
def certificate(tmp_path_factory):
    "A certificate and its key, signed by themselves."
    if not shutil.which('openssl'): pytest.skip('needs the command openssl')
    cert, key = (tmp_path_factory.mktemp('tls')/name for name in ('cert.pem', 'key.pem'))
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
                    '-days', '2', '-addext',
                    'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert], check=True,
                   capture_output=True)
    return cert, key


@pytest.fixture
def safe_site(certificate, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', str(certificate[0]))
    with serving(certificate) as server: yield server


def with_login(server, path): return server.at.replace('://', f'://ann:{password}@') + path


def all_text(e):
    "What a traceback shows of an error, with all that it came from."
    return ''.join(traceback.format_exception(e)) + repr(e) + str(e)


# --- how long

@pytest.mark.parametrize('path', ['/drip.wav', '/drip_head.wav', '/endless.wav'])
def test_what_never_ends_is_given_up_at_the_deadline(site, path):
    ticks = count()  # each look at the clock takes a second of it
    with pytest.raises(AudioNotFoundError, match='not done after 20 s: raise `max_download_s`'):
        fetch(site.at+path, 1e6, max_s=20, now=lambda: next(ticks))
    assert next(ticks) < 40


def test_the_deadline_counts_all_steps_of_a_redirect(site):
    ticks = count(step=4)
    with pytest.raises(AudioNotFoundError, match='not done after 20 s'):
        fetch(f'{site.at}/step?9', 1, max_s=20, now=lambda: next(ticks))
    assert len(site.asked) < 9


def test_no_read_waits_beyond_the_deadline(site):
    "A server that says nothing at all: what is left of the time is the longest that the socket waits."
    start, late = iter([0, 299.9]), 299.95
    def now(): return next(start, late)
    with pytest.raises(AudioNotFoundError, match='timed out|not done after'): fetch(site.at+'/silent.wav', 1, now=now)


def test_a_slow_download_that_is_done_in_time_is_had(site):
    ticks = count()
    assert fetch(site.at+'/a.wav', 1, max_s=1000, now=lambda: next(ticks)) == wav()


@pytest.mark.parametrize('seconds', [0, -1, 1e308, 10**400, '5', None])
def test_deadlines_refused(seconds):
    with pytest.raises(SettingError, match='`max_download_s` must be'): AudioLoader(max_download_s=seconds)


# --- how large

@pytest.mark.parametrize('path', ['/endless.wav', '/lying.wav', '/drip.wav'])
def test_what_is_too_large_is_refused_and_not_kept(site, path):
    tracemalloc.start()
    try:
        with pytest.raises(AudioInputError, match='larger than 2 MB: raise `max_download_mb`'):
            AudioLoader(max_download_mb=2)(site.at+path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally: tracemalloc.stop()


# --- where to

def test_a_redirect_is_followed_and_what_comes_with_it_is_not_read(site, other):
    "The body of the redirect never ends."
    assert fetch(f'{site.at}/away.wav?/a.wav', 1) == wav()
    assert fetch(f'{site.at}/away.wav?{other.at}/a.wav', 1) == wav()


@pytest.mark.parametrize('place', ['file:///etc/passwd', 'ftp://127.0.0.1/a.wav',
                                   'data:audio/wav;base64,UklGRg', 'gopher://x', 'FILE:///x'])
def test_no_other_protocol_is_reached(site, place):
    with pytest.raises(AudioNotFoundError, match='only http and https are followed'):
        AudioLoader()(f'{site.at}/away.wav?{place}')
    with pytest.raises(AudioNotFoundError): fetch(place, 1)


def test_redirects_end(site):
    assert fetch(f'{site.at}/step?{most_redirects}', 1) == wav()
    with pytest.raises(AudioNotFoundError, match=f'ever another place .{most_redirects} times'):
        fetch(f'{site.at}/step?{most_redirects+1}', 1)


def test_https_leads_to_https_only(safe_site, site):
    assert fetch(safe_site.at+'/a.wav', 1) == wav()
    assert fetch(f'{site.at}/away.wav?{safe_site.at}/a.wav', 1) == wav()
    with pytest.raises(AudioNotFoundError, match='not encrypted as the link is'):
        fetch(f'{safe_site.at}/away.wav?{site.at}/a.wav', 1)
    ticks = count()
    with pytest.raises(AudioNotFoundError, match='not done after 20 s'):
        fetch(safe_site.at+'/drip.wav', 1e6, max_s=20, now=lambda: next(ticks))


def test_a_certificate_that_nobody_vouches_for(certificate):
    with serving(certificate) as server, pytest.raises(AudioNotFoundError, match='(?i)certificate'): fetch(server.at+'/a.wav', 1)


# --- passwords

def test_a_password_opens_the_link(site):
    assert fetch(with_login(site, '/login.wav'), 1) == wav()
    with pytest.raises(AudioNotFoundError, match='401'): fetch(site.at+'/login.wav', 1)
    odd = f'http://ann%40x:p%2F%C3%BC@{site.at[7:]}/a.wav'
    fetch(odd, 1)
    assert site.asked[-1][1] == f'Basic {b64encode("ann@x:p/ü".encode()).decode()}'


def test_a_password_goes_to_its_host_only(site, other):
    assert fetch(with_login(site, f'/away.wav?{other.at}/a.wav'), 1) == wav()
    assert site.asked[0][1] and other.asked == [('/a.wav', None)]
    assert fetch(with_login(site, '/away.wav?/login.wav'), 1) == wav()  # the same host is still told
    fetch(with_login(site, f'/away.wav?{other.at}/away.wav?{site.at}/a.wav'), 1)
    assert site.asked[-1] == ('/a.wav', None)  # on the way back it is not told again


def test_a_host_that_goes_over_to_https_is_told():
    from auditus.sound.links import may_be_told
    assert may_be_told('http://x.org/a', 'https://x.org/a')
    for new in ('https://y.org/a', 'https://x.org:8443/a', 'http://x.org/b'):
        assert not may_be_told('http://x.org/a', new)
    assert origin('HTTPS://X.org/a') == origin('https://x.org:443/b') != origin('http://x.org/a')


class Telling(MemoryFileSystem):
    "A store whose errors say all that they know."
    protocol = 'telling'
    def _open(self, path, *args, **kwargs):
        raise PermissionError(f'no way into telling://ann:{password}@host/{path}, nor with {password} alone')
    def info(self, path, **kwargs): return {'name': path, 'size': 9, 'type': 'file'}


fsspec.register_implementation('telling', Telling, clobber=True)
nobody = '127.0.0.1:9'


@pytest.mark.parametrize('link', [
    f'http://ann:{password}@{nobody}/a.wav', f'http://{password}@{nobody}/a.wav',
    f'http://ann:{password}@no.such.host.invalid/a.wav',
    f'http://ann:{password}/x@{nobody}/a.wav', f'http://ann:x/{password}@{nobody}/a.wav',
    f'http://ann:{password}@x@{nobody}/a.wav',
    f'http://ann:{password}@{nobody}/a b.wav', f'http://ann:{password}@[::1/a.wav',
    f'http://ann:{password}@{nobody}:x/a.wav',
    f'http://{nobody}/a.wav?token={password}', f'http://{nobody}/a b.wav?X-Amz-Signature={password}&x=1',
    f'http://{nobody}/a.wav?x=1&sig={password}',
    f'simplecache::https://ann:{password}@{nobody}/a.wav', f's3://KEY:{password}@bucket/a.wav',
    f'nosuch://ann:{password}@host/a.wav',
    f'telling://ann:{password}@host/a.wav', f'simplecache::telling://ann:{password}@host/a.wav',
    f'ftp://ann:{password}@{nobody}/a.wav',
    f'file://ann:x@{nobody}/a.wav?password={password}', f'http:/ann:{password}@{nobody}/a.wav',
    Path(f'https://ann:{password}@{nobody}/a.wav')])
def test_no_error_shows_a_secret(link, tmp_path):
    pipe = AudioPipeline(Loudness(), window=.5)
    for give in (AudioLoader(), lambda x: AudioLoader()([x]), lambda x: AudioLoader()([{'path': str(x)}]),
                 pipe, lambda x: list(pipe.stream([x])),
                 lambda x: extract(x, tmp_path/'a', pipe, on_error='raise'),
                 lambda x: extract([x], tmp_path/'b', pipe, on_error='raise')):
        with pytest.raises(AuditusError) as e: give(link)
        assert password not in all_text(e.value), give
    assert password not in brief(link) and password not in without_secrets(f'{link}')


@pytest.mark.parametrize('workers', [1, 2])
def test_no_table_shows_a_secret(site, tmp_path, workers):
    "Links that can be opened, and one that can't: what is written, and what the summary says."
    links = [with_login(site, '/login.wav'), site.at+f'/b.wav?token={token}', with_login(site, '/gone.wav'),
             f'telling://ann:{password}@host/c.wav']
    out = tmp_path/'out'
    done = extract(links, out, AudioPipeline(Loudness(), window=.5), workers=workers)
    assert (done.files, len(done.errors)) == (2, 2)
    names = {name for p in out.glob('*.parquet') for name in pq.read_table(p)['file'].to_pylist()}
    assert names == {links[0].replace(f'ann:{password}', '***'), links[1].replace(token, '***')}
    written = b''.join(p.read_bytes() for p in tmp_path.rglob('*') if p.is_file())
    for secret in (password, token):
        assert secret not in str(done) + str(done.errors) and secret.encode() not in written


def test_a_run_goes_on_with_another_password(site, tmp_path):
    "The recordings are the same, whatever opens them today."
    link, pipe = with_login(site, '/login.wav'), AudioPipeline(Loudness(), window=.5)
    assert extract([link], tmp_path/'out', pipe).parts_done == 1
    again = extract([link.replace(password, 'an0ther')], tmp_path/'out', pipe)
    assert (again.files, again.parts_done) == (1, 0)


def test_links_that_differ_in_their_secret_alone_are_not_one_recording(site):
    with pytest.raises(AudioInputError, match='differ only in what is secret') as e:
        collect([f'{site.at}/a.wav?token={t}' for t in (token, token[::-1])])
    assert token not in all_text(e.value)
    assert len(collect([with_login(site, '/a.wav')]*2)) == 1


@pytest.mark.parametrize('text', [
    'https://birds.org/a.ogg', 's3://birds/take??.ogg', 'is it there? see https://birds.org/why',
    'https://birds.org/C#1', 'http://localhost:8000/a@b.ogg', 'http://[::1]:8000/a@b.ogg',
    'zip://x@2.wav::memory://a.zip',
    'C:/birds/a@b.wav', 'write to ann@birds.org',
    "could not open 'https://birds.org/a.ogg': item 3 ('x@y.wav')", 'a?token=5', '/home/ann@x/a.wav'])
def test_what_is_no_secret_is_shown(text): assert without_secrets(text) == text


@pytest.mark.parametrize('link', [
    f'https://x.org/a.ogg?Policy={token}', f'https://x.org/a.ogg?x=1&k={token}',
    f'https://x.org/a.ogg?{token}', f'https://x.org/a.ogg?{token}==', f'https://x.org/a?x=1;{token}',
    f'https://x.org/a?x=1&{token}', f"https://x.org/a?x=it's{token}",
    f'https://x.org/a?next=http://y.org/?t={token}', f'https://x.org/a#t={token}',
    f'https://x.org/a;t={token}/b.ogg',
    f'memory://a b.ogg?t={token}', f'simplecache::https://x.org/a.ogg?t={token}',
    f's3://a/b.ogg?versionId={token}', f'_https://ann:{token}@x.org', f'1https://ann:{token}@x.org',
    f'http://x.org/a b.ogg?t={token}&x=1'])
def test_every_value_of_a_query_is_hidden(link):
    "Which of them is a secret, its name doesn't tell."
    for text in (link, f'can not open {link!r}: 404', f'({link})', f'[{link!r}, {link!r}]'):
        found = without_secrets(text)
        assert token not in found and '***' in found and without_secrets(found) == found
    assert any(token in s for s in secrets_of(link))
    assert without_secrets(f"can not open '{link}': not found").endswith("': not found")


def test_names_of_parameters_are_shown():
    assert without_secrets('https://x.org/a.ogg?take=2&Policy=abc, and more') == 'https://x.org/a.ogg?take=***&Policy=***, and more'


@pytest.mark.parametrize('part', ['a', 'http://', 'ab://u:x', 'ab://u:1/', 'ab://1:', 'ab://u:x ', 'ann:x@',
                                  'http://a:b@', '?a', '&==', '?a=b', 'http://x?', '-_token', '"\'', '9',
                                  ':/', '?'])
@pytest.mark.parametrize('end', ['', '@', ' http://ann:pa55word@x.org'])
def test_a_megabyte_is_looked_through(part, end):
    "With time that grows as the square of the length, this would not come to its end."
    text = part*(10**6//len(part))+end
    assert password not in without_secrets(text) and password not in without_secrets(f'x://{text}')
    secrets_of(text)


def test_links_that_differ_in_their_queries_have_names_of_their_own(site, tmp_path):
    "The values are shown nowhere; a hash tells them apart, which is the same tomorrow and with another token."
    def links(token): return [f'{site.at}/a.wav?id=recording{i}&token={token}' for i in (1, 2)]
    names = [i.name for i in collect(links(token))]
    assert len({*names}) == 2 and all(n.startswith(f'{site.at}/a.wav?id=***&token=***#') for n in names)
    assert [i.name for i in collect(links('another'))] == names and all(without_secrets(n) == n for n in names)
    pipe = AudioPipeline(Loudness(), window=.5)
    assert extract(links(token), tmp_path/'out', pipe).files == 2
    assert not any(b'recording1' in p.read_bytes() for p in tmp_path.rglob('*') if p.is_file())
    one, = collect(links(token)[:1])
    assert one.name == f'{site.at}/a.wav?id=***&token=***'


def test_errors_survive_pickling_and_copying():
    import copy
    import pickle
    for kind in (AudioNotFoundError, AudioInputError, SettingError):
        e = kind(f'can not open http://ann:{password}@x.org')
        e.index, e.item = 3, f'http://ann:{password}@x.org'
        for f in (copy.copy(e), pickle.loads(pickle.dumps(e))):
            assert str(f) == str(e) == "item 3 ('http://***@x.org'): can not open http://***@x.org"
    assert os.strerror(2) in str(AudioNotFoundError(2, os.strerror(2)))
