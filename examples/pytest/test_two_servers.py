"""Tests of networked programs in containers, by the fixtures of minidocker's pytest plugin.

    pip install . pytest && pytest examples/pytest        # as root
"""

import time
import urllib.request

SERVER = """if True:
    import http.server, sys

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sys.argv[1].encode())

    http.server.HTTPServer(("", 8081), Handler).serve_forever()
"""


def get(url):
    """What a server answers, once it listens."""
    for _ in range(200):
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(url)


def test_two_servers_on_one_port(minidocker_run):
    servers = {name: minidocker_run(["/usr/bin/python3", "-c", SERVER, name]) for name in ("a", "b")}
    for name, server in servers.items():
        assert get(f"http://{server.ip}:8081/") == name  # from the host, through the network's bridge


def test_they_know_each_other_by_name(minidocker_run, minidocker_network):
    server = minidocker_run(["/usr/bin/python3", "-c", SERVER, "a"], name="server-a")
    assert get(f"http://{server.ip}:8081/") == "a"
    ask = "import urllib.request; print(urllib.request.urlopen('http://server-a:8081').read().decode())"
    client = minidocker_run(["/usr/bin/python3", "-c", ask], detach=False, rm=True)
    assert (client.exit_code, client.stdout) == (0, "a\n")
    assert server.ips == {minidocker_network.name: server.ip}
