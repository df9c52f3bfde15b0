"""Module acc: its parameters and events, and what they say about further fields."""

from __future__ import annotations

from opensips_py import db
from opensips_py.modules.acc.fields import Fields
from opensips_py.script import environment
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.server.log import ERROR, FACILITIES, NOTICE, log
from opensips_py.server.process import this

module = Module("acc", doc="Records of transactions in the log, in a database, as events (OpenSIPS module acc)", depends=("tm",))

early_media = module.param("early_media", int, 0, doc="1: a 183 with a body is accounted as well")
report_cancels = module.param("report_cancels", int, 0, doc="1: CANCELs of which the script says so are accounted as well")
detect_direction = module.param(
    "detect_direction", int, 0, doc="1: tags of requests from the callee are swapped, as if the caller had sent them; needs rr"
)
log_level = module.param("log_level", int, NOTICE, doc="level of the lines in the log, as of `xlog`")
log_facility = module.param(
    "log_facility", str, "", doc="facility of these lines in syslog, as LOG_LOCAL0; the server's if not set"
)
module.param("aaa_url", str, "", doc="RADIUS server", not_yet="it needs module aaa_radius, which does not exist yet")
module.param("service_type", int, -1, doc="AAA service type", not_yet="it needs module aaa_radius, which does not exist yet")
_extra_lines: list[str] = []
_leg_lines: list[str] = []
extra_fields = module.param(
    "extra_fields",
    str,
    _extra_lines,
    multiple=True,
    doc='further fields, "log: tag; tag->name", for log, db or evi; the values are `$acc_extra(tag)`',
)
leg_fields = module.param(
    "leg_fields", str, _leg_lines, multiple=True, doc="the same for fields that each leg of a call has, `$acc_leg(tag)`"
)
database = db.DatabaseParameter.declared(module)
table_acc = module.param("db_table_acc", str, "acc", doc="table of transactions that were answered, and of failed ones")
table_missed = module.param("db_table_missed_calls", str, "missed_calls", doc="table of missed calls")
module.param("db_table_avp", str, "", doc="AVP with the name of the table", not_yet="give do_accounting() the table instead")
columns = {
    name: module.param(f"acc_{name}_column", str, column, doc=f"column of the {meaning}")
    for name, column, meaning in (
        ("method", "method", "method"),
        ("from_tag", "from_tag", "tag of From"),
        ("to_tag", "to_tag", "tag of To"),
        ("callid", "callid", "Call-ID"),
        ("sip_code", "sip_code", "status"),
        ("sip_reason", "sip_reason", "reason phrase"),
        ("time", "time", "time of the record"),
    )
}
module.param(
    "acc_created_avp_name", str, "accX_created", doc="AVP for the time of creation", no_effect="it is kept with the transaction"
)

_COMMON = ("method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time")
answered_event = module.event("E_ACC_EVENT", *_COMMON, doc="a transaction was accounted")
missed_event = module.event("E_ACC_MISSED_EVENT", *_COMMON, "setuptime", "created", doc="a call was missed")
ended_event = module.event(
    "E_ACC_CDR", *_COMMON, "duration", "ms_duration", "setuptime", "created", doc="a call has ended; needs dialog"
)

VERSION = 7
"""Of table acc."""

extras, legs = Fields(), Fields()


NO_DATABASE = "there is no database, so nothing is written to one: set db_url, or core parameter db_default_url"
NO_DIALOGS = "dialog module not loaded - cdrs cannot be generated: each transaction is accounted by itself"


class Asked:
    """What literals in the script ask of do_accounting(); noted while it is checked."""

    cdr = False
    db = False


class Has:
    """What the script that is checked has."""

    database = False
    dialogs = False


@module.on_check
def check() -> None:
    """Read the fields, and tell the checker which tags there are."""
    Asked.cdr = Asked.db = False
    extras.read("extra_fields", extra_fields.value)
    legs.read("leg_fields", leg_fields.value)
    if log_facility.value and log_facility.value not in FACILITIES:
        raise ConfigError(f"acc: log_facility [{log_facility.value}] is not one of {', '.join(FACILITIES)}", "log_facility")
    script = environment.checked()
    Has.database = bool(database.url)
    if script is not None:
        Has.dialogs = script.loads_module("dialog")
        for variable, parameter, fields in (("acc_extra", "extra_fields", extras), ("acc_leg", "leg_fields", legs)):
            missing = f'declare it: modparam("acc", "{parameter}", "log: tag")'
            script.registry.kinds[variable].fields = fields.tags or (missing,)
        if detect_direction.value and not script.loads_module("rr"):
            raise ConfigError('acc: detect_direction needs module rr: add loadmodule "rr.so"', "detect_direction")


@module.on_config
def configure() -> None:
    """Look at the database, if it is one for records: db_default_url may be there for others."""
    if database.url:
        if Asked.db or module.params["db_url"].value:
            database.check_version(table_acc.value, VERSION)
    elif Asked.db:
        log(ERROR, "acc", "do_accounting", NO_DATABASE)
    if Asked.cdr and not has_dialogs():
        log(ERROR, "acc", "do_accounting", NO_DIALOGS)


def has_dialogs() -> bool:
    """Whether calls are followed, so that records of whole calls can be made."""
    return "dialog" in this.program.modules
