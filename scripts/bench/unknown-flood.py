"""Handshakes for torrents that nobody has, at a given rate, for a given time:

  unknown-flood.py PORT PER-SECOND SECONDS LOCAL-ADDRESS [ADDRESSES]

From LOCAL-ADDRESS, or from so many that follow it, in turn.

Prints what it did as JSON. In Python, because a connection costs a third of what it costs in Node: the flood should take the seeder's time,
not the machine's. Of what is left, four fifths are the kernel's, for both ends of the connection. At most 500 connections are under way at
a time.
"""

import errno
import hashlib
import ipaddress
import json
import select
import socket
import sys
import time

port, per_second = int(sys.argv[1]), int(sys.argv[2])
seconds, first_address = float(sys.argv[3]), ipaddress.ip_address(sys.argv[4])
addresses = int(sys.argv[5]) if len(sys.argv) > 5 else 1
local_addresses = [str(first_address + index) for index in range(addresses)]
under_way_max = 500
last_wait_s = 15
# Python has no name for it: the port is chosen by connect, which may use one again for another destination.
IP_BIND_ADDRESS_NO_PORT = 24

poll = select.epoll()
under_way = {}
sent = answered = failed = 0
start = time.monotonic()


def open_one(number):
    peer = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    peer.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    peer.bind((local_addresses[number % addresses], 0))
    # Over loopback the connection is there when the call returns, whatever it says, unless the backlog is full; then `send` fails.
    error = peer.connect_ex(("127.0.0.1", port))
    if error not in (0, errno.EINPROGRESS):
        raise OSError(error, "connect")
    info_hash = hashlib.sha1(b"unknown %d" % number).digest()
    peer.send(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-flood-flood-")
    poll.register(peer, select.EPOLLIN)
    under_way[peer.fileno()] = peer


while True:
    now = time.monotonic() - start
    due = int(now * per_second)
    while now < seconds and sent < due and len(under_way) < under_way_max:
        try:
            open_one(sent)
        except OSError:
            failed += 1
        sent += 1
    if now >= seconds and (not under_way or now > seconds + last_wait_s):
        break
    for descriptor, _event in poll.poll(0.001):
        peer = under_way.pop(descriptor)
        try:
            if peer.recv(1):
                answered += 1
        except OSError:
            pass
        peer.close()

print(
    json.dumps(
        {
            "sent": sent,
            "answered": answered,
            "failed": failed,
            "perSecond": sent / seconds,
            "cpuShare": time.process_time() / seconds,
        }
    )
)
