"""Finds peers by the DHT alone, and downloads: libtorrent-dht-get.py <magnet> <directory> <own address> <node host:port>"""
import sys
import time

import libtorrent as lt

magnet, directory, address, node = sys.argv[1:5]
session = lt.session({
    'listen_interfaces': address + ':0',
    'enable_dht': True,
    'dht_bootstrap_nodes': node,
    # All nodes of a test have one address, and none that the ids of BEP 42 could follow from.
    'dht_restrict_routing_ips': False,
    'dht_restrict_search_ips': False,
    'dht_prefer_verified_node_ids': False,
    'dht_enforce_node_id': False,
    'dht_ignore_dark_internet': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'allow_multiple_connections_per_ip': True,
    'alert_mask': lt.alert.category_t.all_categories if '-v' in sys.argv else lt.alert.category_t.error_notification,
})
params = lt.parse_magnet_uri(magnet)
params.save_path = directory
handle = session.add_torrent(params)
deadline = time.monotonic() + 90
asked = time.monotonic()
while time.monotonic() < deadline:
    status = handle.status()
    for alert in session.pop_alerts():
        print(alert, flush=True)
    if status.is_seeding:
        session.remove_torrent(handle)
        sys.exit(0)
    # Its own timer is one of 15 minutes: whoever asks before the first nodes are known asks in vain.
    if status.num_peers == 0 and time.monotonic() - asked > 2:
        asked = time.monotonic()
        handle.force_dht_announce()
    session.wait_for_alert(50)
print('not finished:', status.state, status.progress, status.num_peers, 'nodes', session.status().dht_nodes)
sys.exit(1)
