"""Downloads one torrent from one peer: libtorrent-get.py <.torrent or magnet> <directory> <host> <port>"""
import sys
import time

import libtorrent as lt

what, directory, host, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
session = lt.session({
    'listen_interfaces': '127.0.0.1:0',
    'enable_dht': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'allow_multiple_connections_per_ip': True,
    'alert_mask': lt.alert.category_t.all_categories if '-v' in sys.argv else lt.alert.category_t.error_notification,
})
if what.startswith('magnet:'):
    params = lt.parse_magnet_uri(what)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(what)
params.save_path = directory
handle = session.add_torrent(params)
handle.connect_peer((host, port))
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    status = handle.status()
    for alert in session.pop_alerts():
        print(alert, flush=True)
    if status.is_seeding:
        session.remove_torrent(handle)
        sys.exit(0)
    session.wait_for_alert(20)
print('not finished:', status.state, status.progress, status.num_peers)
sys.exit(1)
