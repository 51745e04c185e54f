"""One file per feature. Each may have three pure generators of flows:

* `static()`: the same on every node, whatever the model says;
* `network(view, network)`: for each network that the node has ports on, routes to, or goes out by;
* `port(view, network, port)`: for each port bound to the node.

What depends on more than that has a segment of its own in flows/compile.py.
"""
