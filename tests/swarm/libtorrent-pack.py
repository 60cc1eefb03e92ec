"""Makes the torrents of packs with libtorrent from their files alone, and reads what we made.

Reads a list of {name, pieceLength, files: [{path, bytes (base64)}], torrentFile (base64)} as JSON, writes a list of {infoHash,
infoDictionary (base64), read: {infoHash, files: [[path, size]]}}.
"""

import base64
import hashlib
import json
import sys

import libtorrent as lt


def make(pack):
    storage = lt.file_storage()
    contents = b""
    for file in pack["files"]:
        content = base64.b64decode(file["bytes"])
        storage.add_file(pack["name"] + "/" + file["path"], len(content))
        contents += content
    torrent = lt.create_torrent(storage, pack["pieceLength"], lt.create_torrent.v1_only)
    length = torrent.piece_length()
    assert length == pack["pieceLength"], length
    for index in range(torrent.num_pieces()):
        torrent.set_hash(index, hashlib.sha1(contents[index * length : (index + 1) * length]).digest())
    info = lt.bencode(torrent.generate()[b"info"])
    read = lt.torrent_info(lt.bdecode(base64.b64decode(pack["torrentFile"])))
    files = read.files()
    return {
        "infoHash": hashlib.sha1(info).hexdigest(),
        "infoDictionary": base64.b64encode(info).decode(),
        "read": {
            "infoHash": str(read.info_hash()),
            "files": [[files.file_path(i), files.file_size(i)] for i in range(files.num_files())],
        },
    }


json.dump([make(pack) for pack in json.load(sys.stdin)], sys.stdout)
