"""Adds one torrent to a Deluge daemon and prints its figures: deluge-client.py <port> <.torrent or magnet>"""
import base64
import json
import socket
import ssl
import struct
import sys
import time
import zlib

import rencode

port, what = int(sys.argv[1]), sys.argv[2]
deadline = time.monotonic() + 30


def connect():
    while True:
        try:
            return socket.create_connection(('127.0.0.1', port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


# The daemon has made its own certificate.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
connection = context.wrap_socket(connect())
calls = 0


def receive(size):
    data = b''
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            sys.exit('the daemon hung up')
        data += chunk
    return data


def call(method, *args, **kwargs):
    """A message is version 1, its length, and a compressed list; an answer is [1, id, value], [2, …] an error, [3, …] an event."""
    global calls
    calls += 1
    body = zlib.compress(rencode.dumps([[calls, method, list(args), kwargs]]))
    connection.sendall(struct.pack('!BI', 1, len(body)) + body)
    while True:
        _, size = struct.unpack('!BI', receive(5))
        answer = rencode.loads(zlib.decompress(receive(size)), decode_utf8=True)
        if answer[0] == 2:
            sys.exit(f'{method}: {answer}')
        if answer[0] == 1 and answer[1] == calls:
            return answer[2]


call('daemon.login', 'localclient', 'interoperation', client_version='2.0.3')
if what.startswith('magnet:'):
    torrent = call('core.add_torrent_magnet', what, {})
else:
    with open(what, 'rb') as file:
        torrent = call('core.add_torrent_file', 'it.torrent', base64.b64encode(file.read()).decode(), {})
while True:
    keys = ['is_finished', 'is_seed', 'all_time_download', 'total_uploaded', 'state', 'message']
    status = call('core.get_torrent_status', torrent, keys)
    if status['state'] == 'Error':
        sys.exit(status['message'])
    print(json.dumps({
        'done': status['is_seed'],
        'downloadedBytes': status['all_time_download'],
        'uploadedBytes': status['total_uploaded'],
    }), flush=True)
    time.sleep(0.05)
