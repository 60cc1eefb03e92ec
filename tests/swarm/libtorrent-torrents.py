"""Makes torrents with libtorrent from the vectors' description alone.

Reads a list of {length, name, pieceLength, content} as JSON, writes a list of {infoHash, infoDictionary} (base64, when
short) in the same order. Shares nothing with the project's own code but the JSON.
"""

import array
import base64
import hashlib
import json
import os
import sys
import tempfile

import libtorrent as lt


def words(length):
    count = (length + 3) // 4
    data = array.array("I", ((k * 2654435761) & 0xFFFFFFFF for k in range(count)))
    if sys.byteorder == "big":
        data.byteswap()
    return memoryview(data).cast("B")[:length]


def make(vector, cache):
    files = lt.file_storage()
    files.add_file(vector["name"], vector["length"])
    torrent = lt.create_torrent(files, vector["pieceLength"], lt.create_torrent.v1_only)
    assert torrent.piece_length() == vector["pieceLength"], torrent.piece_length()
    if vector["content"] == "words":
        if len(cache.get("bytes", b"")) < vector["length"]:
            cache["bytes"] = words(vector["length"])
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, vector["name"]), "wb") as file:
                file.write(cache["bytes"][: vector["length"]])
            lt.set_piece_hashes(torrent, directory)
    else:
        for index in range(torrent.num_pieces()):
            torrent.set_hash(index, hashlib.sha1(str(index).encode()).digest())
    info = lt.bencode(torrent.generate()[b"info"])
    result = {"infoHash": hashlib.sha1(info).hexdigest()}
    if len(info) < 1000:
        result["infoDictionary"] = base64.b64encode(info).decode()
    return result


cache = {}
vectors = json.load(sys.stdin)
order = sorted(range(len(vectors)), key=lambda i: (vectors[i]["content"], -vectors[i]["length"]))
results = [None] * len(vectors)
for i in order:
    results[i] = make(vectors[i], cache)
json.dump(results, sys.stdout)
