"""Seeds one torrent on loopback and prints its port: libtorrent-seed.py <.torrent> <directory with the file>"""
import sys
import time

import libtorrent as lt

session = lt.session({
    'listen_interfaces': '127.0.0.1:0',
    'enable_dht': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'allow_multiple_connections_per_ip': True,
    'alert_mask': lt.alert.category_t.error_notification,
})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(sys.argv[1])
params.save_path = sys.argv[2]
params.flags |= lt.torrent_flags.seed_mode
params.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
handle = session.add_torrent(params)
# It counts as a seed before its files are checked, and until then it turns every peer away.
deadline = time.monotonic() + 20
while not (handle.status().state == lt.torrent_status.seeding and session.listen_port() > 0) and time.monotonic() < deadline:
    time.sleep(0.01)
print(session.listen_port(), flush=True)
while True:
    time.sleep(3600)
