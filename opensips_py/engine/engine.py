"""The async engine: plain waiting, ``async()``, ``launch()``, and going on with another process' operations.

The life of a suspended script:

1. ``suspend`` makes the transaction if there is none (a retransmission ends here), starts the operation, *parks* it:
   the whole suspended state goes to the shared store under a token, the descriptor into the reactor.
2. The descriptor becomes ready: ``advance``. Until it is done, bytes read are journaled in the store.
3. Done: *claim* the token. Only the process that wins the claim runs the route.

The process that parked an operation still has everything in memory and decodes nothing. Any other process gets token
and descriptors from the attendant (:meth:`Engine.take_over`) when the owner has died or is stuck, thaws both and goes
on. An owner that was stuck finds that its epoch has moved and lets go (:meth:`Engine.check_epoch`). Who may take what
from whom is the law at the head of :mod:`opensips_py.engine.take_over`.

What happens before and after the route (:mod:`opensips_py.engine.resume_route`) depends on the kind of route that was
suspended: :mod:`opensips_py.engine.continuation`.
"""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.engine import continuation as continuations
from opensips_py.engine import parked as parking
from opensips_py.engine import statistics as counted
from opensips_py.engine.blocking_wait import drive, expire, limit_of
from opensips_py.engine.continuation import Continuation, Interrupted
from opensips_py.engine.lost_operation import LostOperation, close_all
from opensips_py.engine.operation import CANCELLED, LOST, READ, WRITE, Done, Operation, earliest
from opensips_py.engine.parked import Parked, ParkedHead
from opensips_py.engine.resume_route import apply, give_up, report, resume, run_inline
from opensips_py.engine.running import Running
from opensips_py.engine.take_over import Status, Tenure, may_take, thawed
from opensips_py.engine.unsettled import unsettled
from opensips_py.script.context import Context
from opensips_py.server.guard import report_error
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import Unwound, this

TIMEOUT = "E_ASYNC_TIMEOUT"
TAKEOVER = "E_ASYNC_TAKEOVER"
Observer = Callable[[str, bytes, ParkedHead, float], None]
observers: list[Observer] = []
"""Called with TIMEOUT or TAKEOVER, token and record of the operation, and the seconds since its start."""


def _observed(what: str, token: bytes, record: ParkedHead, seconds: float) -> None:
    for observer in observers:
        observer(what, token, record, seconds)


class Engine:
    """Drives operations for one process."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._running: dict[bytes, Running] = {}
        self._by_transaction: dict[bytes, bytes] = {}
        """The operation that the script of a transaction waits for."""
        self._tokens = parking.Tokens(this.node, this.slot, this.incarnation)
        self.tenure = Tenure(status)
        self._journaled = 0
        """Bytes of all journals of this process' operations."""

    def __len__(self) -> int:
        return len(self._running)

    # --- plain call ---------------------------------------------------------------------------------------------

    def wait(self, ctx: Context, op: Operation | int) -> int:
        """Plain call: wait here until the operation is done, set its outputs, return its code."""
        if isinstance(op, int):
            return op
        counted.waited.add()
        continuations.of(ctx).flush(ctx)
        op.mode = "plain"
        return apply(ctx, drive(op))

    @staticmethod
    def wait_without_context(op: Operation) -> int:
        """Wait for an operation without outputs, on behalf of what has no context at hand."""
        op.mode = "plain"
        return drive(op).rc

    # --- async() ------------------------------------------------------------------------------------------------

    def suspend(self, ctx: Context, op: Operation | int, route: str, seconds: float | None, where: str) -> int:
        """``async(f(...), route[, seconds])``. Always ends the run of the script (returns 0)."""
        continuation = continuations.of(ctx)
        prepared = continuation.prepare(ctx)
        if prepared <= 0:
            if not isinstance(op, int):
                op.close()
            # 0, a retransmission, absorbed: the first copy is already being served
            return 0 if prepared == 0 else run_inline(ctx, Done(prepared), route)
        if isinstance(op, int):
            return run_inline(ctx, Done(op), route)
        if continuation.in_line:
            return run_inline(ctx, self.wait_cooperatively(ctx, op, route=route, seconds=seconds, where=where), route)
        op.mode = "async"
        if not this.reactor.running:  # startup_route: the server starts when it is through
            counted.waited.add()
            counted.sync_fallbacks.add()
            return run_inline(ctx, drive(op, limit_of(op, seconds, where)), route)
        done = op.start()
        if done is not None:
            return run_inline(ctx, done, route)
        ctx.suspended = True
        running = self._running_of(ctx, op, "async", route, limit_of(op, seconds, where), None, where, continuation)
        if continuation.park(ctx, running.entry):
            self._parked(running)
        else:  # another worker has just made it from a retransmission
            if running.record.has_fds:
                this.fd_keeper.drop(parking.fd_key(running.token))
            op.close()
        unsettled.clear()
        return 0

    # --- waiting in line ----------------------------------------------------------------------------------------

    def wait_cooperatively(
        self,
        ctx: Context,
        op: Operation,
        *,
        route: str | None = None,
        seconds: float | None = None,
        where: str = "",
        continuation: Continuation | None = None,
    ) -> Done:
        """Wait here until ``op`` is done, while this process serves others. Not with ``op.start()`` called before.

        The caller's frames stand still meanwhile; whatever it has read of the process' state before may have changed, and
        the transaction of ``ctx`` has been stored, its lock released. Afterwards it is held as often as before, and its
        record is the same object with the present content; ``tx.record`` is None when it is gone.

        When this process dies meanwhile, or is stuck, ``continuation`` (else ``ctx.continuation``) goes on in another
        process if it is ``in_line``, running ``route`` if there is one; without such a continuation the script's rest is lost
        and the request answered 500. Here the frames end silently then (Unwound): only their ``finally`` clauses run.
        """
        if continuation is None:
            continuation = continuations.of(ctx)
        if continuation.holds_up or not this.reactor.running:
            counted.waited.add()
            return drive(op, limit_of(op, seconds, where))
        op.mode = "async"
        done = op.start()
        if done is not None:
            return done
        if not continuation.in_line:
            continuation = Interrupted(continuation)
        pause = continuations.Pause(ctx, continuation)
        if not pause.begin():
            op.close()
            unsettled.clear()
            raise Unwound
        limit = limit_of(op, seconds, where)
        running = self._park(ctx, op, "wait", route, limit, None, where, continuation, pause.freeze_outers())
        running.place = this.reactor.here()
        unsettled.clear()  # whoever finds the operation in the store will look after the transactions
        this.reactor.pause()
        pause.end()
        assert running.done is not None
        return running.done

    def wait_here(self, ctx: Context, op: Operation | int, seconds: float | None, where: str) -> int:
        """``await(f(...)[, seconds])``: wait until it is done, while this process serves others, and give its code.

        0, the end of the script, when the request turns out to be a retransmission.
        """
        continuation = continuations.of(ctx)
        prepared = continuation.prepare(ctx)
        if prepared <= 0:
            if not isinstance(op, int):
                op.close()
            return prepared
        if isinstance(op, int):
            return op
        if not continuation.holds_up:
            continuation = Interrupted(continuation)
        done = self.wait_cooperatively(ctx, op, seconds=seconds, where=where, continuation=continuation)
        return apply(ctx, done)

    # --- launch() -----------------------------------------------------------------------------------------------

    def launch(
        self, ctx: Context, op: Operation | int, route: str | None, text: str | None, seconds: float | None, where: str
    ) -> int:
        """``launch(f(...)[, route[, text[, seconds]]])``: returns at once, 1 when the operation is under way."""
        if not isinstance(op, int):
            op.mode = "launch"
            done = op.start()
            if done is None:
                self._park(None, op, "launch", route, limit_of(op, seconds, where), text, where, None)
                return 1
        else:
            done = Done(op)
        counted.inline.add()
        report(done, route, text, ctx)
        return 1

    # --- parking ------------------------------------------------------------------------------------------------

    def _park(
        self,
        ctx: Context | None,
        op: Operation,
        mode: str,
        route: str | None,
        limit: float | None,
        text: str | None,
        where: str,
        continuation: Continuation | None,
        outers: list[tuple[bytes, bytes]] | None = None,
    ) -> Running:
        running = self._running_of(ctx, op, mode, route, limit, text, where, continuation)
        running.record.outers = outers or []
        this.store.put(*running.entry())
        self._parked(running)
        return running

    def _running_of(
        self,
        ctx: Context | None,
        op: Operation,
        mode: str,
        route: str | None,
        limit: float | None,
        text: str | None,
        where: str,
        continuation: Continuation | None,
    ) -> Running:
        """An operation that is about to be parked; to be stored (:meth:`Running.entry`), then :meth:`_parked`."""
        self.check_epoch()  # so that what was taken away is not counted beside what comes
        epoch = self._status.epoch
        record = Parked(
            function=op.name,
            route=route,
            mode=mode,
            started=this.clock.now(),
            deadline=earliest(op.deadline, limit),
            owner=this.slot,
            incarnation=this.incarnation,
            fd_key=op.fd_key,
            has_fds=False,
            operation=op.freeze(),
            epoch=epoch,
            text=text,
            where=where,
            limit=limit,
            transaction=b"" if ctx is None else ctx.tx_key or b"",
            bound=op.bound,
            node=this.node,
        )
        running = Running(self._tokens.next(), op, record, ctx, epoch)
        running.continuation = continuation
        fds = op.fds() if op.fd_key is None else []
        if fds:  # before the entry: who finds that must find the descriptors too
            record.has_fds = True
            this.fd_keeper.keep(parking.fd_key(running.token), fds)
        return running

    def _parked(self, running: Running) -> None:
        """It has been stored: watch it."""
        if running.ctx is not None:
            running.record.context = b""  # the store has it, and here is what it was made from
        counted.began(running.record.function)
        self._watch(running)
        if self._status.epoch != running.epoch:
            self._renew(running)

    def _renew(self, running: Running) -> None:
        """This process was taken to be stuck while it parked the operation."""
        if self.tenure.renew(running.token, running.record):
            running.epoch = running.record.epoch

    def _watch(self, running: Running) -> None:
        self._running[running.token] = running
        if running.record.transaction:
            self._by_transaction[running.record.transaction] = running.token
        self._status.parked = len(self._running)
        op = running.op
        op.changed = lambda: this.reactor.call_soon(lambda: self._ready(running, READ | WRITE))
        op.journal = lambda data: self._journal(running, data)
        self._follow(running)

    def _follow(self, running: Running) -> None:
        """Bring reactor and timer in line with what the operation waits for now."""
        op = running.op
        fd, wants, serial = op.fileno(), op.wants, op.serial
        if fd != running.fd or serial != running.serial:
            if running.fd >= 0 and running.callback is not None:
                this.reactor.remove(running.fd, running.callback)
            if fd >= 0:
                running.callback = lambda events: self._ready(running, events)
                this.reactor.add(fd, wants, running.callback)
            running.fd, running.wants, running.serial = fd, wants, serial
        elif fd >= 0 and wants != running.wants:
            this.reactor.modify(fd, wants)
            running.wants = wants
        deadline = earliest(op.deadline, running.record.limit)
        if deadline != running.deadline:
            if running.timer is not None:
                this.reactor.cancel(running.timer)
            running.timer = None if deadline is None else this.reactor.call_at(deadline, lambda: self._expired(running))
            running.deadline = deadline

    def _journal(self, running: Running, data: bytes) -> None:
        record = running.record
        if record.lost:
            return
        if self._journaled + len(data) > parking.MOST_JOURNALED:
            record.lost = True
            self._write_again(running)
            return
        running.journaled_bytes += len(data)
        self._journaled += len(data)
        key = parking.JOURNAL + running.token + running.journaled.to_bytes(4, "big")
        running.journaled += 1
        this.store.put(key, data)

    # --- progress -----------------------------------------------------------------------------------------------

    def _ready(self, running: Running, events: int) -> None:
        if not self.drives(running.token):
            return
        op = running.op
        try:
            done = op.advance()
        except Exception as error:  # a fault of the module: the script gets -1, the descriptor must not spin
            report_error(error, running.record.where)
            done = Done(-1)
        if done is None:
            self._follow(running)
            if op.fd_key != running.record.fd_key or op.refreeze:
                self._write_again(running)
            return
        self._finish(running, done, counted.ended)

    def _expired(self, running: Running) -> None:
        if not self.drives(running.token):
            return
        running.timer = None
        running.deadline = None
        late = running.op.counts_as_timeout
        self._unwatch(running)
        self._finish(running, expire(running.op, running.record.limit), counted.ended_late if late else counted.ended)

    def cancel_waiting(self, transaction: bytes) -> None:
        """The request has been answered, because it was cancelled (cancel_parked): end what its script waits for, in whichever
        process, and run its route with CANCELLED, so that the script can clean up."""
        if transaction in self._by_transaction:
            self.cancel(self._by_transaction[transaction])
        else:
            this.control.send_all("async_cancelled", {"transaction": transaction})

    def cancel_waiting_here(self, transaction: bytes) -> None:
        """The same, if it is this process that drives the operation."""
        token = self._by_transaction.get(transaction)
        if token is not None:
            self.cancel(token)

    def drives(self, token: bytes) -> bool:
        """Whether this process drives the operation."""
        if not self.tenure.holds():
            self.check_epoch()
        return token in self._running

    def cancel(self, token: bytes) -> None:
        """Drop an operation of this process and run its route with CANCELLED."""
        this.reactor.call_soon(lambda: self._cancel(token))

    def _cancel(self, token: bytes) -> None:
        if self.drives(token):
            self._finish(self._running[token], Done(CANCELLED), counted.ended_early)

    def _write_again(self, running: Running) -> None:
        """The operation got a connection or reached a state that another process could not rebuild from the journal."""
        op, record = running.op, running.record
        op.refreeze = False
        record.fd_key = op.fd_key
        if not record.lost:  # else what it began with must do, should it be begun again
            record.operation = op.freeze()
        fds = op.fds() if op.fd_key is None else []
        if fds:
            this.fd_keeper.keep(parking.fd_key(running.token), fds)
        record.has_fds = record.has_fds or bool(fds)
        with this.store.batch() as batch:
            if batch.get(parking.PREFIX + running.token) is not None:
                batch.put(*running.entry())
                for n in range(running.journaled):
                    batch.delete(parking.JOURNAL + running.token + n.to_bytes(4, "big"))
        self._no_journal(running)
        if running.ctx is not None:
            record.context = b""

    def _no_journal(self, running: Running) -> None:
        self._journaled -= running.journaled_bytes
        running.journaled = running.journaled_bytes = 0

    def _unwatch(self, running: Running) -> None:
        if self._running.pop(running.token, None) is None:
            return
        self._journaled -= running.journaled_bytes
        running.journaled_bytes = 0
        self._status.parked = len(self._running)
        if self._by_transaction:
            self._by_transaction.pop(running.record.transaction, None)
        if running.fd >= 0:
            this.reactor.remove(running.fd, running.callback)
            running.fd = -1
        if running.timer is not None:
            this.reactor.cancel(running.timer)
            running.timer = None
        running.op.changed = running.op.journal = None

    def _finish(self, running: Running, done: Done, count: Callable[[str, int, float], None]) -> None:
        self._unwatch(running)
        record = running.record
        token = running.token
        if record.transaction:
            unsettled.set(record.transaction)  # from the claim on nobody else would end it
        if running.journaled:
            with this.store.batch() as batch:
                mine = batch.delete(parking.PREFIX + token)
                for n in range(running.journaled):
                    batch.delete(parking.JOURNAL + token + n.to_bytes(4, "big"))
        else:
            mine = this.store.claim(parking.PREFIX + token)
        if record.has_fds:
            this.fd_keeper.drop(parking.fd_key(token))
        if not mine:
            unsettled.clear()
            running.op.forget()
            if running.place is not None:
                this.reactor.unwind(running.place)
            return
        running.op.close()
        took = this.clock.now() - record.started
        count(record.function, done.rc, took)
        if count is counted.ended_late:
            _observed(TIMEOUT, token, record, took)
        if 0 < this.program.settings.async_slow_threshold <= took * 1000:
            counted.slow.add()
            log(WARNING, "core", "async", f"{record.where}: {record.function}() took {took * 1000:.0f} ms, $rc {done.rc}")
        if running.place is not None:
            running.done = done
            this.reactor.resume(running.place)
        elif record.mode == "launch":
            report(done, record.route, record.text)
        else:
            resume(running, done)

    # --- going on with what another process began ---------------------------------------------------------------

    def take_over(self, token: bytes, owner: bytes, fds: list[int]) -> None:
        """Continue the operation ``token``, whose process has died or is stuck, with its descriptors.

        ``owner`` (packed) is that process. When the operation is another's by now, this process has been slow to hear of it.
        """
        self.check_epoch()  # it may be one that was taken from here, and comes back
        store = this.store
        entry = store.get(parking.PREFIX + token)
        if entry is None or not may_take(entry, owner):
            close_all(fds)
            return
        record = parking.decode(entry)
        rows = store.scan(parking.JOURNAL + token)
        op = thawed(record, fds, b"".join(data for _, data in rows))
        op.mode = "launch" if record.mode == "launch" else "async"
        counted.continued(record.function)
        record.fd_key = op.fd_key if not isinstance(op, LostOperation) else None
        record.has_fds = bool(fds)  # also those of a pooled connection lie under the token since the hand-over
        if not self.tenure.take(token, owner, record):
            op.forget()
            return
        _observed(TAKEOVER, token, record, this.clock.now() - record.started)
        running = Running(token, op, record, None, record.epoch)
        running.journaled = len(rows)
        # the script that waited in await() died with its process: its request is answered at once
        done = Done(LOST) if parking.interrupted(record) else op.start()
        if done is None:
            running.journaled_bytes = sum(len(data) for _, data in rows)
            self._journaled += running.journaled_bytes
            self._watch(running)
            return
        self._finish(running, done, counted.ended_lost if done.rc == LOST else counted.ended)

    def check_epoch(self) -> bool:
        """Let go of what was taken over while this process was stuck. True when nothing was taken."""
        epoch = self.tenure.ended()
        if epoch is None:
            return True
        for running in list(self._running.values()):
            if running.op.bound:
                running.epoch = epoch
            elif running.epoch < epoch:
                op = running.op
                self._unwatch(running)
                op.forget()
                self._unwind_soon(running)
        self._status.parked = len(self._running)  # the attendant takes a process that is stuck to have none
        return False

    @staticmethod
    def _unwind_soon(running: Running) -> None:
        """End the script that waits in line for an operation that is no longer here."""
        place = running.place
        if place is not None:
            this.reactor.call_soon(lambda: this.reactor.unwind(place))

    # --- shutdown -----------------------------------------------------------------------------------------------

    def answer_parked(self, code: int, reason: str) -> None:
        """Give up what is still parked: suspended requests get ``code``, operations are ended."""
        for running in list(self._running.values()):
            self._unwatch(running)
            record = running.record
            mine = this.store.claim(parking.PREFIX + running.token)
            if mine:
                counted.ended_early(record.function, 0, 0.0)
            if mine and record.mode != "launch":
                # a context of its own: frames that wait in line still have theirs, and are unwound
                inner = record.context if running.ctx is None else running.ctx.freeze()
                for frozen, state in ((inner, record.continuation), *record.outers):
                    give_up(continuations.thaw(frozen, continuations.unpack(state)), code, reason)
            running.op.close()
            self._unwind_soon(running)
