"""Sound files as people have them: streamed, joined, tagged, cut, damaged, by phones and cameras. What is whole is read, and what isn't is said.

Every file is made here, by soundfile, by PyAV or by hand.
"""
import io
import os
import re
import struct
import warnings
from functools import cache

import av
import numpy as np
import pytest
import soundfile as sf

from auditus import AudioArray, AudioDecodeError, AudioInputError, AudioLoader, AuditusError, Clip, Resampling, SettingError
from auditus.sound.readers import block_samples

n, sr = 32000, 16000  # samples and rate of most sounds here


def sound(n=n, seed=0):
    "A tone that rises, with a little noise: no two moments of it are alike."
    t = np.arange(n)/sr
    return (.3*np.sin(2*np.pi*(300*t+400*t**2))+.02*np.random.default_rng(seed).normal(size=n)).astype(np.float32)


@cache
def written(format='WAV', subtype=None, n=n, seed=0, rate=sr, channels=1, **how):
    "A sound file by libsndfile, written a second at a time."
    a, out = sound(n, seed), io.BytesIO()
    a = np.stack([a, .5*a[::-1]], 1) if channels == 2 else a
    with sf.SoundFile(out, 'w', rate, channels, subtype, format=format, **how) as f:
        for i in range(0, n, rate): f.write(a[i:i+rate])
    return out.getvalue()


@cache
def by_ffmpeg(container, codec, rate=sr, n=n, channels=1, picture=False, bit_rate=None, sounds=True):
    "A sound file by FFmpeg, with a picture beside it where one is asked for."
    try: av.Codec(codec, 'w')
    except av.codec.codec.UnknownCodecError: pytest.skip(f'this FFmpeg does not write {codec}')
    layout, out = {1: 'mono', 2: 'stereo'}[channels], io.BytesIO()
    with av.open(out, 'w', format=container) as f:
        film = f.add_stream('mpeg4', rate=10) if picture else None
        if film: film.width = film.height = 64
        stream = f.add_stream(codec, rate=rate, layout=layout) if sounds else None
        if bit_rate: stream.bit_rate = bit_rate
        if film:
            for _ in range(10):
                f.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
            f.mux(film.encode(None))
        if sounds:
            a = sound(n)
            frame = av.AudioFrame.from_ndarray(np.stack([a, .5*a[::-1]][:channels]), format='fltp', layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            for part in (frame, None): f.mux(stream.encode(part))
    return out.getvalue()


def put(data, *ats):
    "Overwrite parts: (offset, bytes)."
    data = bytearray(data)
    for at, new in ats: data[at:at+len(new)] = new
    return bytes(data)


def load(data, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return AudioLoader(**settings)(data)


def u32(n): return struct.pack('<I', n % 2**32)


id3v1 = b'TAG'+b'title'.ljust(125, b'\0')
# header, an item, and a footer that counts both
ape = b''.join((b'APETAGEX'+struct.pack('<IIII8x', 2000, 64, 1, 1 << 31 | 1 << 29), b'item'*8,
                b'APETAGEX'+struct.pack('<IIII8x', 2000, 64, 1, 1 << 31)))


def id3v2(n, footer=False):
    size = bytes(n >> shift & 127 for shift in (21, 14, 7, 0))
    return b'ID3\x04\0'+(b'\x10' if footer else b'\0')+size+bytes(i % 251+1 for i in range(n))+(b'3DI\x04\0\x10'+size if footer else b'')


# --- WAV

def sizes(wav, riff, data):
    "Write other sizes into a header; `None` leaves one as it is."
    at = wav.index(b'data')+4
    return put(wav, *([(4, u32(riff))] if riff is not None else []), *([(at, u32(data))] if data is not None else []))


def chunk(name, data): return name+u32(len(data))+data+bytes(len(data) % 2)


def with_chunk(wav, name, data, after=False):
    "Put a chunk before or after the samples, and mend the size of the whole."
    at = len(wav) if after else wav.index(b'data')
    wav = wav[:at]+chunk(name, data)+wav[at:]
    return put(wav, (4, u32(len(wav)-8)))


def bw64(wav, told=True):
    "As broadcasters write long files (ITU-R BS.2088): the sizes are in a chunk `ds64`, or 0 for not known."
    at = wav.index(b'data')
    size = len(wav)-at-8
    ds64 = chunk(b'ds64', struct.pack('<QQQI', len(wav)+28 if told else 0, size if told else 0, 0, 0))
    return b'BW64'+b'\xff'*4+b'WAVE'+ds64+wav[12:at]+b'data'+b'\xff'*4+wav[at+8:]


def wavs():
    for name, riff, data in [('0 and 0', 0, 0), ('data 0', None, 0), ('ffffffff and 0', -1, 0), ('ffffffff', -1, -1),
                             ('sox', 0x7ffff024, 0x7ffff000), ('arecord', 0x80000024, 0x80000000),
                             ('2 GiB less a byte', 2**31-1, 2**31-1-36), ('FFmpeg of old', -1, -1-36),
                             ('riff 0', 0, None), ('riff ffffffff', -1, None), ('riff 8 too large', n*2+44, None)]:
        yield f'WAV of sizes {name}', sizes(written(), riff, data), written()
    for subtype in ('PCM_U8', 'PCM_24', 'FLOAT', 'DOUBLE', 'ULAW', 'IMA_ADPCM'):
        for size in (0, -1): yield f'WAV {subtype} of size {size}', sizes(written('WAV', subtype), 0, size), written('WAV', subtype)
    yield 'WAV stereo of size 0', sizes(written(channels=2), 0, 0), written(channels=2)
    yield 'WAVEX of size 0', sizes(written('WAVEX'), 0, 0), written('WAVEX')
    yield 'WAV with LIST before, size 0', sizes(with_chunk(written(), b'LIST', b'INFOISFT\x04\0\0\0abc\0'),
                                                -1, 0), written()
    yield 'WAV with LIST behind', with_chunk(written(), b'LIST', b'INFOISFT\x04\0\0\0abc\0', after=True), written()
    yield 'WAV with an odd chunk', with_chunk(written(), b'junk', b'abc'), written()
    yield 'WAV with a tag behind', written()+id3v1, written()
    yield 'WAV with a tag in front', id3v2(500)+written(), written()
    yield 'WAV with zeros in front', bytes(4096)+written(), written()
    yield 'WAV twice', written()+written(seed=1), joined(written(), written(seed=1))
    yield 'WAV twice, with LIST and zeros between', with_chunk(written(), b'LIST', b'INFO', after=True)+bytes(600)+written(), joined(written(), written())
    yield 'RF64', written('RF64'), written()
    yield 'BW64', bw64(written()), written()
    yield 'BW64 of a stream', bw64(written(), told=False), written()
    yield 'RF64 of a stream', put(bw64(written(), told=False), (0, b'RF64')), written()
    yield 'RIFX', written('WAV', endian='BIG'), written()


def others():
    "Other headers of streams."
    a = written('AIFF')
    for name, form, data, frames in (('0', 0, 0, 0), ('ffffffff', 2**32-1, 2**32-1, 2**32-1),
                                     ('sox', 0x7ffffff0, 0x7fffff00, 0x3fffff80)):
        yield f'AIFF of size {name}', put(a, (4, struct.pack('>I', form)),
                                          (a.index(b'COMM')+10, struct.pack('>I', frames)),
                                          (a.index(b'SSND')+4, struct.pack('>I', data))), a
    for size in (0, 2**32-1):
        yield f'AU of size {size}', put(written('AU'), (8, struct.pack('>I', size))), written('AU')
    a = written('CAF')
    yield 'CAF of size -1', put(a, (a.index(b'data')+4, b'\xff'*8)), a
    a = written('W64')
    for size in (0, 2**64-1):
        yield f'W64 of size {size}', put(a, (16, struct.pack('<Q', size)), (a.index(b'data')+16, struct.pack('<Q', size))), a


# --- Ogg

def crc(page):
    "The checksum of an Ogg page (RFC 3533) by long division, bit for bit, unlike the library's."
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8): value = (value << 1 ^ 0x04c11db7 if value & 2**31 else value << 1) & 2**32-1
    return value


def pages(ogg):
    at = 0
    while at < len(ogg):
        assert ogg[at:at+4] == b'OggS'
        segments = ogg[at+26]
        end = at+27+segments+sum(ogg[at+27:at+27+segments])
        yield ogg[at:end]
        at = end


def sealed(page, *ats):
    "A page with other bytes in it, and the checksum of these."
    page = put(page, *ats, (22, bytes(4)))
    return put(page, (22, u32(crc(page))))


def without_mark(ogg):
    *before, last = pages(ogg)
    return b''.join(before)+sealed(last, (5, bytes([last[5] & ~4])))


def as_stream(ogg, number): return b''.join(sealed(p, (14, u32(number))) for p in pages(ogg))


def late(ogg, granules):
    "As a recording of a radio station: samples are counted from long before."
    def shifted(p):
        granule, = struct.unpack_from('<q', p, 6)
        return sealed(p, (6, struct.pack('<q', granule+granules))) if granule > 0 else p
    return b''.join(map(shifted, pages(ogg)))


def changed(ogg, how):
    "Lose, repeat, exchange or flip a bit of a page in the midst."
    ps = [*pages(ogg)]
    i = len(ps)//2
    if how == 'lost': del ps[i]
    if how == 'twice': ps.insert(i, ps[i])
    if how == 'out of order': ps[i], ps[i+1] = ps[i+1], ps[i]
    if how == 'flipped': ps[i] = put(ps[i], (len(ps[i])//2, bytes([ps[i][len(ps[i])//2] ^ 4])))
    if how == 'flipped number': ps[i] = put(ps[i], (18, bytes([ps[i][18] ^ 1])))
    if how == 'flipped mark': ps[i] = put(ps[i], (0, b'OgwS'))
    if how == 'flipped length': ps[i] = put(ps[i], (27, bytes([ps[i][27] ^ 8])))
    if how == 'last page lost': del ps[-1]
    if how == 'last page cut': ps[-1] = ps[-1][:len(ps[-1])*2//3]
    if how == 'zeros': ps[i] = bytes(len(ps[i]))
    return b''.join(ps)


oggs = 'VORBIS', 'OPUS'
page_faults = ['lost', 'twice', 'out of order', 'flipped', 'flipped number', 'flipped mark', 'flipped length',
               'last page lost',
               'last page cut', 'zeros']


def longer(subtype, seed=0): return written('OGG', subtype, 5*n, seed)


def joined(*parts):
    a = np.concatenate([load(p).a for p in parts])
    return AudioArray(a, load(parts[0]).sr)


def ogg_files():
    for s in oggs:
        a, b = longer(s), written('OGG', s, seed=1)
        yield f'{s} without an end mark', without_mark(a), a
        yield f'{s} short, without an end mark', without_mark(written('OGG', s, 9000)), written('OGG', s, 9000)
        yield f'{s} twice', a+a, joined(a, a)
        yield f'{s} of three parts', as_stream(a, 1)+as_stream(b, 2)+as_stream(a, 3), joined(a, b, a)
        yield f'{s} of two parts, the first without an end mark', without_mark(as_stream(a, 1))+as_stream(b, 2), joined(a, b)
        yield f'{s} of two parts, with zeros between', as_stream(a, 1)+bytes(5000)+as_stream(b, 2), joined(a, b)
        yield f'{s} with a tag in front', id3v2(700)+a, a
        yield f'{s} with zeros in front', bytes(70_000)+a, a
        yield f'{s} with zeros behind', a+bytes(70_000), a
        yield f'{s} with a tag behind', a+id3v1, a
        yield f'{s} without an end mark, with zeros behind', without_mark(a)+bytes(999), a


# --- FLAC and MP3

def streamed(flac): return put(flac, (21, bytes([flac[21] & 0xf0])+bytes(4)))


def flacs():
    a = written('FLAC', n=3*n)
    tails = {'ID3v1': id3v1, 'APE': ape, 'a newline': b'\n', 'zeros': bytes(9000), 'words': b'downloaded from\r\n'*9}
    for k, tail in tails.items(): yield f'FLAC with {k} behind', a+tail, a
    yield 'FLAC with a tag in front', id3v2(300)+a, a
    yield 'FLAC with a large tag in front', id3v2(70_000)+a, a
    yield 'FLAC with zeros in front', bytes(513)+a, a
    yield 'FLAC of a stream', streamed(a), a
    yield 'FLAC of a stream with zeros in front', bytes(99)+streamed(a), a
    for k in ('ID3v1', 'a newline', 'zeros'): yield f'FLAC of a stream with {k} behind', streamed(a)+tails[k], a


cbr, vbr = (dict(bitrate_mode=m, compression_level=.4) for m in ('CONSTANT', 'VARIABLE'))


def frame_bytes(mp3):
    "How long its first frame is: the next one starts with the same three bytes, but for the padding and the bit rate."
    return next(i for i in range(24, len(mp3)) if mp3[i:i+2] == mp3[:2] and (mp3[i+2] ^ mp3[2]) & 0x0c == 0
                and mp3[i+3] >> 6 == mp3[3] >> 6)


def mp3s():
    a, b = written('MP3', n=3*n, **cbr), written('MP3', seed=1, **cbr)
    v = written('MP3', n=3*n, **vbr)
    for k, m in (('', a), (' of variable rate', v)):
        yield f'MP3{k} with ID3v2', id3v2(3000)+m, m
        yield f'MP3{k} with ID3v2 and a footer', id3v2(3000, footer=True)+m, m
        yield f'MP3{k} with two tags in front', id3v2(300)+id3v2(400)+m, m
        yield f'MP3{k} with zeros behind ID3v2', id3v2(500)+bytes(2100)+m, m
        yield f'MP3{k} with 64 kB of zeros behind ID3v2', id3v2(500)+bytes(2**16+7)+m, m
        yield f'MP3{k} with zeros in front', bytes(1000)+m, m
        yield f'MP3{k} with the rest of a frame in front', m[100:frame_bytes(m)]+m, m
        yield f'MP3{k} with ID3v1 behind', m+id3v1, m
        yield f'MP3{k} with APE and ID3v1 behind', m+ape+id3v1, m
        yield f'MP3{k} with zeros behind', m+bytes(5000), m
    yield 'MP3s joined', a+b, joined(a, b)
    yield 'MP3s joined, with tags', id3v2(200)+a+id3v1+id3v2(99)+b+id3v1, joined(a, b)
    yield 'three MP3s joined', v+b+v, joined(v, b, v)


def cases():
    for make in (wavs, others, ogg_files, flacs, mp3s): yield from make()


whole = {name: (data, like) for name, data, like in cases()}
rounds_steps = av.library_versions['libavcodec'] < (62, 28)  # FFmpeg before 8.1 reads IMA ADPCM a little otherwise than libsndfile


@pytest.mark.parametrize('name', whole)
def test_what_is_whole_is_read_to_a_sample(name, tmp_path):
    data, like = whole[name]
    like = like if isinstance(like, AudioArray) else load(like)
    (tmp_path/'a').write_bytes(data)
    for way in (data, tmp_path/'a'):
        for truncated in ('raise', 'keep'):
            x = load(way, truncated=truncated)
            assert x.sr == like.sr and x.shape == like.shape
            np.testing.assert_allclose(x.a, like.a, rtol=0, atol=2e-3 if 'IMA_ADPCM' in name and rounds_steps else 1e-6)


@pytest.mark.parametrize('name', whole)
def test_a_clip_is_a_slice(name, tmp_path):
    data, _ = whole[name]
    x = load(data, mono=False)
    (tmp_path/'a').write_bytes(data)
    for start, end in ((0, .1), (.31, .53), (x.duration-.2, None), (x.duration/2, x.duration)):
        y = load(Clip(tmp_path/'a', start, end), mono=False)
        np.testing.assert_allclose(y.a, x.cut(start, end).a, rtol=0, atol=2**-22)
        blocks = [*AudioLoader(mono=False).stream(Clip(data, start, end))]
        np.testing.assert_array_equal(np.concatenate([a for _, a in blocks], -1), y.a)


def test_mp3_without_a_count():
    for how in (cbr, vbr):
        data = written('MP3', n=3*n, **how)
        bare = data[frame_bytes(data):]
        x, whole = load(bare), load(data)
        delay = 1105  # of encoder and decoder (528+1+576), which the frame taken away told of
        np.testing.assert_allclose(x.a[delay:delay+len(whole)], whole.a, atol=2e-3)
        for around in (id3v2(300)+bytes(77)+bare, bare+id3v1, bytes(99)+bare+ape):
            np.testing.assert_allclose(load(around).a, x.a, atol=1e-6)
        assert len(load(bare+bare)) == 2*len(x)
        y = load(Clip(bare, 1.5, 2.25))
        np.testing.assert_array_equal(y.a, x.cut(1.5, 2.25).a)


def test_mp3_whose_count_is_too_small():
    data = written('MP3', n=3*n, **vbr)
    at = data.index(b'Xing')+8
    frames, = struct.unpack_from('>I', data, at)
    for count in (0, 1, frames//2):
        x = load(put(data, (at, struct.pack('>I', count))))
        np.testing.assert_allclose(x.a[1105:1105+len(load(data))], load(data).a, atol=2e-3)


@pytest.mark.parametrize('counted', [True, False])
def test_mp3_in_wav(counted):
    mp3 = written('MP3', n=3*n, **cbr)
    mp3 = mp3 if counted else mp3[frame_bytes(mp3):]
    fmt = struct.pack('<HHIIHHHHIHHH', 0x55, 1, sr, 8000, 1, 0, 12, 1, 2, 576, 1, 1393)
    wav = b'WAVE'+chunk(b'fmt ', fmt)+chunk(b'fact', u32(3*n+9999))+chunk(b'data', mp3)
    np.testing.assert_allclose(load(b'RIFF'+u32(len(wav))+wav).a, load(mp3).a, atol=1e-6)


# --- by phones and cameras

by_others = {  # container, codec, rate (Hz): samples that the codec leaves at the ends
    ('ipod', 'aac', 44100): 0, ('mp4', 'aac', 44100): 0, ('mov', 'alac', 44100): 0,
             ('mov', 'pcm_s16le', 44100): 0, ('3gp', 'aac', 44100): 0,
    ('3gp', 'libopencore_amrnb', 8000): 0, ('amr', 'libopencore_amrnb', 8000): 160,
             ('adts', 'aac', 44100): 2048, ('webm', 'libopus', 48000): 0,
    ('matroska', 'aac', 44100): 1024 if av.library_versions['libavformat'] >= (62, 12) else 2048,  # FFmpeg before 8.1 keeps more
     ('matroska', 'pcm_s16le', 44100): 0, ('asf', 'wmav2', 44100): 4096,
             ('asf', 'wmav1', 44100): 4096,
    ('mpegts', 'aac', 44100): 2048, ('avi', 'libmp3lame', 44100): 2304, ('flv', 'aac', 44100): 2048,
             ('mp2', 'mp2', 44100): 1152,
    ('caf', 'alac', 44100): 4096, ('ogg', 'libopus', 48000): 0, ('wav', 'adpcm_ms', 44100): 2036,
    ('w64', 'pcm_s16le', 44100): 0, ('au', 'pcm_s16be', 44100): 0}


@pytest.mark.parametrize('container,codec,rate', by_others)
@pytest.mark.parametrize('channels', [1, 2])
def test_what_phones_and_cameras_write(container, codec, rate, channels, tmp_path):
    if 'amr' in codec and channels == 2: pytest.skip('AMR is mono')
    bit_rate = 96000 if 'wma' in codec else None
    data = by_ffmpeg(container, codec, rate, 2*rate, channels, bit_rate=bit_rate)
    (tmp_path/'a').write_bytes(data)
    x = load(data, mono=False)
    assert x.sr == rate and x.channels == channels and abs(len(x)-2*rate) <= by_others[container, codec, rate]
    np.testing.assert_array_equal(load(tmp_path/'a', mono=False).a, x.a)
    # with the delay of the codec, of which not every container tells, it is the sound that went in
    sent, heard = sound(2*rate)[rate//2:rate], np.atleast_2d(x.a)[0]
    lags = [np.corrcoef(sent, heard[rate//2+lag:rate+lag])[0, 1]
            for lag in range(-2048, by_others[container, codec, rate]+1)]
    assert max(lags) > .95
    for start, end in ((0, .25), (.731, 1.234), (1.9, None)):
        y = load(Clip(tmp_path/'a', start, end), mono=False)
        np.testing.assert_allclose(y.a, x.cut(start, end).a, rtol=0, atol=1e-7)


def test_tags_that_are_no_text():
    data = by_ffmpeg('mp4', 'aac', 44100)
    odd = data.replace(b'SoundHandler', b'S\xf6undHandler').replace(b'Lavf', b'L\xe4vf')
    assert odd.count(b'\xf6') > data.count(b'\xf6') and odd.count(b'\xe4') > data.count(b'\xe4')
    np.testing.assert_array_equal(load(odd).a, load(data).a)


def test_film_with_and_without_sound():
    data = by_ffmpeg('mp4', 'aac', 44100, 44100, picture=True)
    assert len(load(data)) == 44100
    with pytest.raises(AudioDecodeError, match='no sound in it'):
        load(by_ffmpeg('mp4', 'aac', 44100, picture=True, sounds=False))


@pytest.mark.parametrize('container,codec,rate', [k for k in by_others if k[0] in
                                                  ('ipod', 'mp4', 'mov', '3gp', 'adts', 'webm', 'asf', 'avi',
                                                   'caf', 'w64', 'au')])
def test_what_phones_and_cameras_write_is_not_cut_silently(container, codec, rate):
    data = by_ffmpeg(container, codec, rate, 4*rate, bit_rate=96000 if 'wma' in codec else None)
    x = load(data)
    for share in (.4, .7, .95):
        cut = data[:int(share*len(data))-1]
        with pytest.raises(AudioDecodeError, match='truncated'): load(cut)
        try: kept = load(cut, truncated='keep')
        except AudioDecodeError: continue  # what tells how to read it stands at its end
        np.testing.assert_array_equal(kept.a[:-4096], x.a[:max(0, len(kept)-4096)])


# --- damage

@pytest.mark.parametrize('how', page_faults)
@pytest.mark.parametrize('subtype', oggs)
def test_damaged_pages(subtype, how):
    good, data = load(longer(subtype)), changed(longer(subtype), how)
    with pytest.raises(AudioDecodeError, match=r"(damaged|truncated).*truncated='keep'"): load(data)
    kept = load(data, truncated='keep')
    assert 0 < len(kept) < len(good)
    np.testing.assert_array_equal(kept.a, good.a[:len(kept)])
    clip = load(Clip(data, .25, .75))  # what is right can be had without a word
    np.testing.assert_array_equal(clip.a, good.cut(.25, .75).a)
    with pytest.raises(AudioDecodeError, match='damaged|truncated'): load(Clip(data, .25, 9.9))
    if 'last' in how: return
    with pytest.raises(AudioDecodeError, match='damaged|truncated'): load(Clip(data, 9, 9.9), truncated='keep')


@pytest.mark.parametrize('subtype', oggs)
def test_damage_in_the_second_part(subtype):
    a = longer(subtype)
    with pytest.raises(AudioDecodeError, match='damaged'): load(a+changed(a, 'flipped'))
    kept = load(a+changed(a, 'flipped'), truncated='keep')
    assert len(kept) > len(load(a))
    np.testing.assert_array_equal(kept.a, joined(a, a).a[:len(kept)])


@pytest.mark.parametrize('subtype', oggs)
def test_flipped_bits_of_ogg(subtype, flips=12): check_flips(longer(subtype), flips)


def test_flipped_bits_of_flac(flips=12): check_flips(written('FLAC', n=3*n), flips)


def check_flips(data, flips):
    "A bit that is flipped anywhere is an error, or changes nothing; and before it all is right."
    good = load(data)
    for bit in np.random.default_rng(0).integers(0, 8*len(data), flips):
        flipped = put(data, (bit//8, bytes([data[bit//8] ^ 1 << bit % 8])))
        try: x = load(flipped)
        except AudioDecodeError: pass
        else: assert x.sr == good.sr and np.array_equal(x.a, good.a), f'bit {bit} changes the sound silently'
        try: kept = load(flipped, truncated='keep')
        except AudioDecodeError: continue
        np.testing.assert_array_equal(kept.a, good.a[:len(kept)])


@pytest.mark.parametrize('what,at,mask', [('rate', 18, 1), ('rate', 19, 16), ('length', 24, 16), ('length', 25, 128)])
def test_flac_header_that_its_frames_belie(what, at, mask):
    data = written('FLAC', n=3*n)
    with pytest.raises(AudioDecodeError, match='damaged|truncated'): load(put(data, (at, bytes([data[at] ^ mask]))))


@pytest.mark.parametrize('counted', [True, False])
@pytest.mark.parametrize('how', ['zeros', 'lost bytes', 'noise'])
def test_mp3_that_loses_frames(how, counted):
    data = written('MP3', n=5*n, **cbr)
    data = data if counted else data[frame_bytes(data):]
    good, at = load(data), len(data)//2
    hole = {'zeros': bytes(3000), 'lost bytes': b'',
            'noise': np.random.default_rng(0).integers(0, 255, 3000, np.uint8).tobytes()}[how]
    broken = data[:at]+hole+data[at+3001:]  # not so that other frames fit exactly: nothing could tell that
    with pytest.raises(AudioDecodeError, match='damaged|truncated'): load(broken)
    kept = load(broken, truncated='keep')
    assert len(good)//3 < len(kept) <= len(good)*2//3
    np.testing.assert_allclose(kept.a[:-2304], good.a[:len(kept)-2304], atol=1e-6)


def test_parts_of_other_rates_or_channels():
    for s in oggs:
        with pytest.raises(AuditusError, match='rate'): load(written('OGG', s)+written('OGG', s, rate=8000, n=8000, seed=2) if s == 'VORBIS'
                                                             else written('OGG', s)+written('OGG', 'VORBIS'))
    with pytest.raises(AuditusError, match='channels'):
        load(written('OGG', 'VORBIS')+written('OGG', 'VORBIS', channels=2))


def test_what_follows_on_its_samples_is_not_lost_silently():
    with pytest.raises(AudioDecodeError, match='damaged: behind its samples are 48,000 bytes'):
        load(sizes(written(), None, 16000))
    for second in (written('FLAC'), written('FLAC', n=9000), written('FLAC', n=5*n)):
        with pytest.raises(AudioDecodeError, match='damaged|truncated'): load(written('FLAC')+second)


@pytest.mark.parametrize('data', [sizes(written(), None, 0)[:44],
                                  with_chunk(sizes(written(), None, 0)[:44], b'LIST', b'INFO', after=True)])
def test_wav_that_really_is_empty(data):
    with pytest.raises(AudioDecodeError, match='no samples'): load(data)


@pytest.mark.parametrize('subtype', oggs)
def test_recording_of_a_radio_station(subtype):
    "Its samples are counted from long before it starts."
    a = longer(subtype)
    x = load(late(a, 48000*3600))
    assert abs(x.duration-load(a).duration) < .2


def test_wav_of_more_than_4_gib(tmp_path):
    "A size of 32 bits starts again from 0 beyond 4 GiB. Most of this file is a hole that takes no room on the disk."
    path, first = tmp_path/'long.wav', 4*2**30+1000*8
    a = sound(8000)
    with open(path, 'wb') as f:
        fmt = struct.pack('<HHIIHH', 3, 2, 48000, 48000*8, 8, 32)
        size = first+8*len(a)
        f.write(b'RIFF'+u32(size+36)+b'WAVEfmt '+u32(16)+fmt+b'data'+u32(size))
        f.seek(44+first)
        f.write(np.stack([a, -2*a], 1).astype('<f4').tobytes())
    start = first/8/48000
    x = load(Clip(path, start, None), mono=False)
    np.testing.assert_array_equal(x.a, np.stack([a, -2*a]))
    with pytest.raises(AudioInputError, match='there is no clip'): load(Clip(path, start+1, None))


# --- clips and blocks

def test_clips_beyond_their_sound():
    data = written('FLAC')
    for start, end in ((2, 3), (1.5, 2.5), (99, None)):
        with pytest.raises(AudioInputError, match='lasts 2 s: there is no clip'): load(Clip(data, start, end))
    assert len(load(Clip(data, 1.5, 2.005))) == 8000  # tables round
    with pytest.raises(AudioInputError, match='less than one sample'): load(Clip(data, 1, 1.00001))
    for source in (AudioArray(sound(), sr), (sound(), sr), {'array': sound(), 'sampling_rate': sr}):
        np.testing.assert_array_equal(load(Clip(source, .5, 1)).a, sound()[8000:16000])
        with pytest.raises(AudioInputError, match='there is no clip'): load(Clip(source, 1, 3))


@pytest.mark.parametrize('start,end', [(-1, 2), (2, 1), (1, 1), (np.nan, 1), (0, np.inf), ('0', 1), (None, 1),
                                       (True, 2)])
def test_clips_that_mean_nothing(start, end):
    with pytest.raises(AudioInputError, match='Clip'): Clip('a.wav', start, end)


def test_clip_is_a_value():
    import copy
    import pickle
    c = Clip('a.wav', np.float32(1), 2)
    for other in (Clip('a.wav', 1., 2.), copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        assert other == c and hash(other) == hash(c)
    with pytest.raises(AttributeError): c.start = 3
    assert str(c) == "'a.wav' from 1 s to 2 s"


def test_clips_among_many():
    data = written('FLAC')
    with pytest.raises(AudioInputError, match='item 1.*from 1 s to 9 s'):
        AudioLoader()([Clip(data, 0, 1), Clip(data, 1, 9)])
    low = AudioLoader(sr=8000)(Clip(data, .5, 1.5))
    np.testing.assert_array_equal(low.a, Resampling(8000)(load(data).cut(.5, 1.5)).a)


class Watching(io.BytesIO):
    "Counts the bytes that are read of it."
    read_bytes = 0
    def read(self, n=-1):
        data = super().read(n)
        self.read_bytes += len(data)
        return data
    def readinto(self, b):
        n = super().readinto(b)
        self.read_bytes += n
        return n


@pytest.mark.parametrize('format', ['WAV', 'FLAC'])
def test_a_clip_is_sought_not_read_up_to(format):
    f = Watching(written(format, n=60*n))
    assert len(load(Clip(f, 100, 100.5))) == sr//2
    assert f.read_bytes < len(f.getvalue())/(20 if format == 'WAV' else 3)


@pytest.mark.parametrize('container,codec', [('ipod', 'aac'), ('webm', 'libopus')])
def test_blocks_by_ffmpeg(container, codec):
    data = by_ffmpeg(container, codec, 48000, 2*block_samples)
    blocks = [a for _, a in AudioLoader().stream(data)]
    assert len(blocks) > 1 and max(map(len, blocks)) < 1.1*block_samples
    np.testing.assert_array_equal(np.concatenate(blocks), load(data).a)


# --- channels

def stereo(*channels, format='WAV'):
    out = io.BytesIO()
    sf.write(out, np.stack(channels, 1), sr, format=format, subtype='FLOAT' if format == 'WAV' else None)
    return out.getvalue()


@pytest.mark.parametrize('given', [lambda a, b: stereo(a, b), lambda a, b: (np.stack([a, b]), sr),
                                   lambda a, b: stereo(a, b, format='FLAC')],
                         ids=['wav', 'array', 'flac'])
def test_channels_of_opposite_phase(given):
    a = sound(3*block_samples//2)
    with pytest.warns(UserWarning, match=r'opposite phase.*channel=0.*mono=False'): AudioLoader()(given(a, -a))
    with pytest.warns(UserWarning, match='opposite phase'): AudioLoader(sr=8000)(given(a, -.9995*a))
    for x in (given(a, a), given(a, -.99*a), given(a, 0*a), given(0*a, 0*a)): load(x)
    late = np.where(np.arange(len(a)) < len(a)-100, -a, a)  # not all of it
    load(given(a, late))
    np.testing.assert_allclose(load(given(a, -a), channel=0).a, a, atol=1e-4)
    np.testing.assert_allclose(load(given(a, -a), channel=1).a, -a, atol=1e-4)
    assert load(given(a, -a), mono=False).channels == 2


def test_channels_that_are_not_there():
    data = written(channels=2)
    with pytest.raises(SettingError, match='`channel` is 2, but .* has 2 channels'): load(data, channel=2)
    with pytest.raises(SettingError, match='`channel` is 1, but .* has 1 channel'): load((sound(), sr), channel=1)
    for bad in (-1, 1.5, True, 'left'):
        with pytest.raises(SettingError, match='`channel`'): AudioLoader(channel=bad)
    assert re.search('channel=1', repr(AudioLoader(channel=1)))


def test_clips_of_a_long_mp3_are_read_by_a_decoder_that_stays_open(tmp_path, rng):
    from concurrent.futures import ThreadPoolExecutor

    from auditus.sound.decode import _kept
    path, sr = tmp_path/'long.mp3', 16000
    sf.write(path, rng.normal(0, .1, 70*sr), sr, format='MP3')
    whole, load = AudioLoader()(path).a, AudioLoader()
    assert np.abs(whole-sf.read(path, dtype='float32')[0]).max() < 1e-6
    starts = [60.5, 3.25, 41, 0, 69, 12.125, 3.25]
    def off(a, s): return np.abs(a-whole[round(s*sr):round((s+1)*sr)]).max()
    clips = [load(Clip(path, s, s+1)).a for s in starts]
    assert max(map(off, clips, starts)) < 1e-6 and (os.name == 'nt' or len(_kept.kept) == 1)
    with ThreadPoolExecutor(8) as pool:
        assert max(map(off, pool.map(lambda s: load(Clip(path, s, s+1)).a, starts*4), starts*4)) < 1e-6
    assert len(_kept.kept) <= 4 and np.array_equal(load(path).a, whole)  # a whole file is decoded anew
    sf.write(path, rng.normal(0, .1, 65*sr), sr, format='MP3')  # another sound under the same name
    other = load(path).a
    assert np.abs(load(Clip(path, 60, 61)).a-other[60*sr:61*sr]).max() < 1e-6
    with pytest.raises(AudioInputError, match='lasts 65 s'): load(Clip(path, 66, 67))
