"""Management: dr_reload, dr_reload_status, dr_gw_status, dr_carrier_status, dr_number_routing, dr_enable_probing."""

from __future__ import annotations

import time
from typing import Any

from ipc.prefixes import prefix
from opensips_py.mi.dispatcher import INVALID_PARAMS, Later
from opensips_py.modules.drouting import declared, partitions, probes, states
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.loading import Reload
from opensips_py.modules.drouting.partitions import Partition
from opensips_py.modules.drouting.routing import first_rule
from opensips_py.modules.drouting.tables import ACTIVE, DISABLED, Gateway
from opensips_py.script.declarations import MIError
from opensips_py.server.process import this

_RELOADING = prefix(b"mdrouting_reloading", "which process reads the tables of module drouting again", __name__)
_NO_PARTITIONS = "'partition_name' supported only when 'use_partitions' is set"


def _chosen(name: str | None) -> list[Partition]:
    """The partition that is named, or all of them."""
    if name is None:
        return list(partitions.partitions.values())
    if not declared.use_partitions.value:
        raise MIError(400, "Invalid parameter: 'partition_name'", _NO_PARTITIONS)
    found = partitions.partitions.get(name)
    if found is None:
        raise MIError(404, "Partition not found")
    return [found]


def _one(name: str | None) -> Partition:
    """The partition that is meant: with ``use_partitions`` it must be named."""
    if name is None and declared.use_partitions.value:
        raise MIError(400, "Missing parameter: 'partition_name'", "'partition_name' is mandatory when 'use_partitions' is set")
    return _chosen(name)[0]


# --- reading again --------------------------------------------------------------------------------------------------


@module.mi("dr_reload", (), ("partition_name",))
def dr_reload(partition_name: str | None = None) -> Later:
    """Read the tables of one partition, or of all, again. What cannot be read stays as it is."""
    chosen = _chosen(partition_name)
    later = Later()
    if declared.no_concurrent_reload.value and not _begin():
        raise MIError(400, "ongoing reload, try again later")

    def ended(failure: str | None) -> None:
        if declared.no_concurrent_reload.value:
            this.store.delete(_RELOADING)
        if failure is None:
            later.done("OK")
        else:
            later.failed(MIError(500, "Failed to reload", failure))

    Reload(chosen, ended)
    return later


def _begin() -> bool:
    """Whether no process that lives reads the tables already; now this one does."""
    mine = f"{this.slot}:{this.incarnation}".encode()
    with this.store.batch() as batch:
        value = batch.get(_RELOADING)
        if value is not None:
            slot, _, incarnation = value.decode().partition(":")
            if this.counters.status(int(slot)).incarnation == int(incarnation):
                return False
        batch.put(_RELOADING, mine)
    return True


@module.mi("dr_reload_status", (), ("partition_name",))
def dr_reload_status(partition_name: str | None = None) -> dict[str, Any]:
    """When the tables were read."""
    if not declared.use_partitions.value:
        return {"Date": _date(_chosen(partition_name)[0])}
    shown = [{"Partition": one.name, "Date": _date(one)} for one in _chosen(partition_name)]
    return {"Partitions": shown}


def _date(partition: Partition) -> str:
    return time.ctime(partition.tables.read_at)


# --- states ---------------------------------------------------------------------------------------------------------

_FORMS = ("gw_id",), ("gw_id", "status"), ("partition_name", "gw_id"), ("partition_name", "gw_id", "status")


@module.mi("dr_gw_status", (), ("partition_name",), *_FORMS)
def dr_gw_status(partition_name: str | None = None, gw_id: str | None = None, status: int | None = None) -> dict[str, Any] | str:
    """The states of all gateways, or that of one; with ``status`` 0 or 1 disable or enable it."""
    partition = _one(partition_name)
    tables = partition.tables
    if gw_id is None:
        return {"Gateways": [_shown(partition, gateway) for gateway in tables.gateways.values()]}
    gateway = tables.gateways.get(gw_id)
    if gateway is None:
        raise MIError(404, "GW ID not found")
    if status is None:
        shown = _shown(partition, gateway)
        return {name: shown[name] for name in ("ATTRS", "State") if name in shown}
    wanted = _state(status)
    states.change_gateway(partition, gateway, lambda state: wanted, "management")
    return "OK"


def _shown(partition: Partition, gateway: Gateway) -> dict[str, str]:
    shown = {"ID": gateway.id, "IP": gateway.address}
    if gateway.attrs:
        shown["ATTRS"] = gateway.attrs
    shown["State"] = states.shown_status(gateway, states.current(partition).gateways.get(gateway.id, ACTIVE))
    return shown


def _state(status: int) -> int:
    if status not in (0, 1):
        raise MIError(INVALID_PARAMS, "Invalid params", "status is 0 (disabled) or 1 (enabled)")
    return ACTIVE if status else DISABLED


_CARRIER_FORMS = tuple(tuple("carrier_id" if name == "gw_id" else name for name in form) for form in _FORMS)


@module.mi("dr_carrier_status", (), ("partition_name",), *_CARRIER_FORMS)
def dr_carrier_status(
    partition_name: str | None = None, carrier_id: str | None = None, status: int | None = None
) -> dict[str, Any] | str:
    """The states of all carriers, or that of one; with ``status`` 0 or 1 disable or enable it."""
    partition = _one(partition_name)
    down = states.current(partition).carriers
    if carrier_id is None:
        return {"Carriers": [{"ID": name, "Enabled": _enabled(name in down)} for name in partition.tables.carriers]}
    if carrier_id not in partition.tables.carriers:
        raise MIError(404, "Carrier ID not found")
    if status is None:
        return {"Enabled": _enabled(carrier_id in down)}
    states.change_carrier(partition, carrier_id, _state(status))
    return "OK"


def _enabled(down: bool) -> str:
    return "no" if down else "yes"


@module.mi("dr_enable_probing", (), ("status",))
def dr_enable_probing(status: int | None = None) -> dict[str, int] | str:
    """Switch probes on (1) or off (0), or tell whether they are on."""
    if status is None:
        return {"Status": int(probes.enabled())}
    if not declared.probing_interval.value:
        raise MIError(400, "Probing disabled from the configuration (probing_interval)")
    if status:
        this.store.delete(probes.OFF)
    else:
        this.store.put(probes.OFF, b"")
    return "OK"


# --- rules ----------------------------------------------------------------------------------------------------------


@module.mi(
    "dr_number_routing",
    ("number",),
    ("group_id", "number"),
    ("partition_name", "number"),
    ("partition_name", "group_id", "number"),
)
def dr_number_routing(number: str, group_id: int | None = None, partition_name: str | None = None) -> dict[str, Any] | str:
    """By which rule a number would be routed at this time, and to which gateways and carriers."""
    group = declared.default_group.value if group_id is None else group_id
    matched = first_rule(_one(partition_name).tables, group, number, False)
    if matched is None:
        return "No match"
    rule = matched.rule
    shown: dict[str, Any] = {"Matched Prefix": rule.prefix}
    shown["GW List"] = [{"CARRIER" if one.is_carrier else "GATEWAY": one.id} for one in rule.listed]
    if rule.attrs:
        shown["ATTRS"] = rule.attrs
    return shown
