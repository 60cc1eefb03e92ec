"""libtorrent's side of the benchmark, with its default settings but for what would reach beyond this machine:

libtorrent-peer.py seed DIR
libtorrent-peer.py get DIR PORT JOBS OUT
"""
import glob
import json
import sys
import time

import libtorrent as lt

role, directory = sys.argv[1], sys.argv[2]
session = lt.session({
    'listen_interfaces': '127.0.0.1:0',
    'enable_dht': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'allow_multiple_connections_per_ip': True,
    'alert_mask': lt.alert.category_t.error_notification | lt.alert.category_t.status_notification,
})


def add(path, save_path, seeds):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(path)
    params.save_path = save_path
    params.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    if seeds:
        params.flags |= lt.torrent_flags.seed_mode
    return session.add_torrent(params)


paths = sorted(glob.glob(directory + '/*.torrent'))
if role == 'seed':
    handles = [add(path, directory, True) for path in paths]
    while not all(handle.status().state == lt.torrent_status.seeding for handle in handles) or session.listen_port() == 0:
        time.sleep(0.01)
    print(json.dumps({'port': session.listen_port()}), flush=True)
else:
    port, jobs, out = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    print('{}', flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    waiting, running = list(paths), []
    while waiting or running:
        while waiting and len(running) < jobs:
            handle = add(waiting.pop(0), out, False)
            handle.connect_peer(('127.0.0.1', port))
            running.append(handle)
        session.wait_for_alert(5)
        session.pop_alerts()
        for handle in [handle for handle in running if handle.status().is_seeding]:
            running.remove(handle)
            session.remove_torrent(handle)
    print(json.dumps({'seconds': time.monotonic() - started}), flush=True)
sys.stdin.read()
