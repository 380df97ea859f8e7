"""`python -m fed_backend.enrolment.list_nodes`: the SuperLink's nodes with name and public key, as a JSON list. A process of its own.

`flwr supernode list` prints neither name nor key, and without the key nobody can tell which node is whose. This asks the same interface
with the client of that command; FLWR_HOME names the connection, as for every `flwr` command.
"""

import json
import sys

from flwr.cli.flower_config import read_superlink_connection
from flwr.cli.utils import init_http_client_from_connection
from flwr.proto.control_pb2 import ListNodesRequest

from fed_backend.launch import CONNECTION


def main() -> None:
    """Print the list."""
    client = init_http_client_from_connection(read_superlink_connection(CONNECTION))
    try:
        nodes = client.ListNodes(ListNodesRequest()).nodes_info
    finally:
        client.close()
    rows = [
        {"id": str(node.node_id), "name": node.name, "public_key": node.public_key.decode("ascii", "replace"), "status": node.status}
        for node in nodes
    ]
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
