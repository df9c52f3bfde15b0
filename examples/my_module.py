import time

from opensips_py.module_api import Module, Out

module = Module("my_module", doc="A template: copy it and change it")


@module.blocking(seconds=5)
def greeting(caller: str, text: Out[str]) -> bool:
    """Greet a caller. It may take time, as a database does: it runs on a thread."""
    time.sleep(0.2)
    text.set(f"Hello {caller}")
    return True
