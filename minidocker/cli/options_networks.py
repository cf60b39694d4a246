"""The part of the table in options.py that is about networks."""

from __future__ import annotations

from minidocker.cli.options import EXPLAIN, LIST, Command, Option

NETWORK_LS = Command(
    "network ls",
    "List networks",
    "networks",
    "ls",
    (
        Option("--format FORMAT", "table, json, or a template ('{{.Name}}')", complete=("table", "json")),
        Option("--no-trunc", "Show ids in full"),
        Option("-q, --quiet", "Show ids only"),
    ),
)

NETWORK_INSPECT = Command(
    "network inspect",
    "Show all that is known about networks",
    "networks",
    "inspect",
    (Option("-f, --format FORMAT", "json, or a template ('{{.Name}}')", complete=("json",)),),
    "NETWORK...",
    least=1,
    most=-1,
)

NETWORK_CREATE = Command(
    "network create",
    "Make a network",
    "networks",
    "create",
    (
        Option("--bridge NAME", "The bridge's interface (at most 15 characters)"),
        Option("-d, --driver DRIVER", "bridge, ptp (a cable for two) or macvlan", complete=("bridge", "ptp", "macvlan")),
        Option("--exist-ok", "It may be there already, if it is the same"),
        EXPLAIN,
        Option("--gateway ADDRESS", "The host's address in it", LIST),
        Option("--internal", "No way out of it"),
        Option("--ip-range RANGE", "Take addresses from this part of the subnet"),
        Option("--ipv6", "IPv6 too, by default in fd00::/8"),
        Option("--isolated", "No traffic between its containers"),
        Option("--label KEY[=VALUE]", "Set a label", LIST),
        Option("--mtu BYTES", "Largest packet (default: the uplink's)"),
        Option("-o, --opt KEY=VALUE", "parent=, mode=, mtu= and docker's names", LIST),
        Option("--subnet SUBNET", "10.9.0.0/24 (default: a free one), fd00:9::/64", LIST),
    ),
    "NETWORK",
    least=1,
    most=1,
    examples=(
        ("a network of its own subnet", "minidocker network create --subnet 10.9.0.0/24 lab"),
        ("IPv4 and IPv6, and no way out", "minidocker network create --ipv6 --internal back"),
        ("on the same wire as the host's eth0", "minidocker network create -d macvlan -o parent=eth0 lan"),
    ),
)

NETWORK_CONNECT = Command(
    "network connect",
    "Put a container into a network",
    "networks",
    "connect",
    (
        Option("--alias NAME", "Another name in the network", LIST),
        EXPLAIN,
        Option("--gw-priority N", "The highest gives the default route"),
        Option("--ip ADDRESS", "IPv4 address (10.9.0.9)"),
        Option("--ip6 ADDRESS", "IPv6 address (fd00:9::9)"),
        Option("--mac-address MAC", "Hardware address (02:42:ac:11:00:09)", aliases=("--mac",)),
    ),
    "NETWORK CONTAINER",
    least=2,
    most=2,
)

NETWORK_DISCONNECT = Command(
    "network disconnect",
    "Take a container out of a network",
    "networks",
    "disconnect",
    (EXPLAIN, Option("-f, --force", "Also where the container or its interface is gone")),
    "NETWORK CONTAINER",
    least=2,
    most=2,
)

NETWORK_PRUNE = Command(
    "network prune",
    "Remove the networks that no container uses",
    "networks",
    "prune",
    (Option("-f, --force", "Do not ask"),),
)

NETWORK_DOCTOR = Command(
    "network doctor",
    "Say what is wrong with networks, and what mends it",
    "doctor",
    "networks",
    (Option("--fix", "Mend what is ours to mend"), Option("--format FORMAT", "json", complete=("json",))),
    "[NETWORK]",
    most=1,
)

NETWORK_EXPLAIN = Command(
    "network explain",
    "Print the commands that would make what is there",
    "networks",
    "explain",
    arguments="NETWORK|CONTAINER",
    least=1,
    most=1,
    examples=(("how the container web is joined to the world, as the kernel has it now", "minidocker network explain web"),),
)

NETWORK_RELOAD = Command(
    "network reload",
    "Make the firewall's rules anew, after somebody flushed them",
    "networks",
    "reload",
)

NETWORK_CAPTURE = Command(
    "network capture",
    "Show the packets of a container or a network",
    "capture",
    "capture",
    (
        Option("-c, --count N", "Stop after so many"),
        Option("-i, --interface NAME", "That of the container alone (default: all but lo)"),
        Option("-w, --write FILE", "Write pcapng instead of lines; - is stdout", complete="file"),
    ),
    "CONTAINER|NETWORK [FILTER...]",
    least=1,
    most=-1,
    examples=(
        ("a filter: host, net, port, src, dst, proto, and, or, not, parentheses", "minidocker network capture web host db"),
        ("without DNS; ip ip6 arp tcp udp icmp icmp6 sctp dns are protocols", "minidocker network capture br0 'udp and not port 53'"),
        ("into another program", "minidocker network capture -w - web tcp port 80 | tshark -r -"),
    ),
)

NETWORK_GRAPH = Command(
    "network graph",
    "Draw how containers are joined to each other and to the world",
    "plain_view",
    "graph",
    (
        Option("--format FORMAT", "tree (default), svg, png, dot, mermaid or json",
               complete=("tree", "svg", "png", "dot", "mermaid", "json")),
        Option("--live", "Go on, with packets and bytes a second"),
        Option("-o, --output FILE", "Write to this file", complete="file"),
    ),
    "[NETWORK...]",
    most=-1,
    examples=(("a picture", "minidocker network graph -o networks.svg"),),
)

NETWORK_TRACE = Command(
    "network trace",
    "Send one packet and show its path, and where it dies",
    "plain_view",
    "trace",
    (
        Option("--format FORMAT", "json", complete=("json",)),
        Option("--listen", "Watch real traffic instead"),
        Option("--proto PROTOCOL", "tcp (with a PORT), icmp (without), or udp", complete=("tcp", "udp", "icmp")),
    ),
    "FROM TO[:PORT]",
    least=2,
    most=2,
    examples=(
        ("from a container to a port of another", "minidocker network trace web db:5432"),
        ("out to the world, by ping", "minidocker network trace web outside"),
        ("from outside to a published port", "minidocker network trace outside host:8080"),
    ),
)

NETWORK_RM = Command("network rm", "Remove networks", "networks", "remove", (EXPLAIN,), "NETWORK...", least=1, most=-1)

NETWORK_COMMANDS = (
    NETWORK_LS, NETWORK_INSPECT, NETWORK_CREATE, NETWORK_RM, NETWORK_CONNECT, NETWORK_DISCONNECT, NETWORK_PRUNE, NETWORK_RELOAD,
    NETWORK_DOCTOR, NETWORK_EXPLAIN, NETWORK_CAPTURE, NETWORK_GRAPH, NETWORK_TRACE,
)  # fmt: skip
