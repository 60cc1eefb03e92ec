"""A node of the DHT, until its input ends: libtorrent-dht-node.py <own address>. Prints its port."""
import sys

import libtorrent as lt

session = lt.session({
    'listen_interfaces': sys.argv[1] + ':0',
    'enable_dht': True,
    'dht_bootstrap_nodes': '',
    # All nodes of a test have one address, and none that the ids of BEP 42 could follow from.
    'dht_restrict_routing_ips': False,
    'dht_restrict_search_ips': False,
    'dht_prefer_verified_node_ids': False,
    'dht_enforce_node_id': False,
    'dht_ignore_dark_internet': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
})
print(session.listen_port(), flush=True)
sys.stdin.read()
