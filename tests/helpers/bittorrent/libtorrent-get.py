"""Downloads one torrent, goes on seeding it and prints its figures: libtorrent-get.py <.torrent or magnet> <directory> <address>"""
import json
import sys

import libtorrent as lt

what, directory, address = sys.argv[1:]
session = lt.session({
    'listen_interfaces': address + ':0',
    'outgoing_interfaces': address,
    'enable_dht': False,
    'enable_lsd': False,
    'enable_upnp': False,
    'enable_natpmp': False,
    'enable_outgoing_utp': False,
    'enable_incoming_utp': False,
    'alert_mask': lt.alert.category_t.error_notification | lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification,
})
if what.startswith('magnet:'):
    params = lt.parse_magnet_uri(what)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(what)
params.save_path = directory
handle = session.add_torrent(params)
# It counts a piece as there before its blocks are in the file: whoever ends it then finds other bytes.
flushing = flushed = False
while True:
    status = handle.status()
    if status.errc.value() != 0:
        sys.exit(status.errc.message())
    if status.is_seeding and not flushing:
        flushing = True
        handle.flush_cache()
    print(json.dumps({
        'done': flushed,
        'downloadedBytes': status.all_time_download,
        'uploadedBytes': status.all_time_upload,
    }), flush=True)
    session.wait_for_alert(50)
    flushed = any(isinstance(alert, lt.cache_flushed_alert) for alert in session.pop_alerts()) or flushed
