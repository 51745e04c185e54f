"""cloud-init's own datasources, run as a program by Debian's Python: what one finds is printed as JSON.

    python3 cloud_init.py DATASOURCE SETTINGS DIRECTORY

It is cloud-init's library alone, from where the caller's PYTHONPATH says. Nothing of the machine is configured: what a
datasource writes down goes into DIRECTORY.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from typing import Any

CLASSES = {"OpenStack": "DataSourceOpenStack", "Ec2": "DataSourceEc2", "NoCloud": "DataSourceNoCloudNet"}
MODULES = {"NoCloud": "DataSourceNoCloud"}


class Complaints(logging.Handler):
    """What a user would find in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main(name: str, settings: dict[str, Any], directory: str) -> None:
    from cloudinit import distros, helpers  # type: ignore[import-not-found]
    from cloudinit import settings as builtin

    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
    distro = distros.fetch("debian")("debian", {}, paths)
    config = {**builtin.CFG_BUILTIN, "datasource_list": [name], "datasource": {name: settings}}
    module = importlib.import_module(f"cloudinit.sources.{MODULES.get(name, CLASSES[name])}")
    source = module.__dict__[CLASSES[name]](config, distro, paths)
    found = source.get_data()
    data: bytes | str = source.get_userdata_raw() or b""
    answer = {
        "found": found,
        "complaints": complaints.lines,
        "instance_id": found and source.get_instance_id(),
        "hostname": found and source.get_hostname(fqdn=True).hostname,
        "keys": found and source.get_public_ssh_keys(),
        "zone": found and source.availability_zone,
        "user_data": (data.encode() if isinstance(data, str) else data).hex(),
        "vendor_data": found and source.get_vendordata_raw(),
        "network": found and source.network_config if name != "Ec2" else None,
    }
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
