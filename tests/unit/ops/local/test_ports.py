from pathlib import Path

from alignstream.ops.local.ports import free_port, is_port_free, is_port_open


def test_free_ports_differ_are_free_and_lie_below_those_of_outgoing_connections() -> None:
    ports = [free_port() for _ in range(20)]
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == len(ports)
    assert all(is_port_free(port) and not is_port_open(port) for port in ports)
    assert lowest < 16_000 or all(port < lowest for port in ports)
