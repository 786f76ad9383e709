"""What a worker claims of an attempt, and whether it holds; a claim that does not is counted and audited."""

from __future__ import annotations

from typing import Protocol

from penstock.identity import Keyring, WorkerClaims
from penstock.ledger import Ledger
from penstock.ledger.commands import Audit
from penstock.model.ids import valid_run_id

__all__ = ["Claim", "Proof"]


class Claim(Protocol):
    """What a worker says of an attempt, and the token that proves it."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def epoch(self) -> int:
        """The attempt's number."""
        ...

    @property
    def token(self) -> str:
        """The proof that it was handed to a worker."""
        ...


class Proof:
    """Gives dispatch tokens and checks them."""

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self.forged = 0  # tokens that were not handed to the worker that showed them
        self.stale = 0  # claims to attempts that were no longer the current one

    def give(self, worker: WorkerClaims, run_id: str, epoch: int) -> str:
        """Give the token of an attempt that is handed to this worker."""
        return self._keyring.dispatch_token(run_id, epoch, worker.uid)

    async def holds(self, worker: WorkerClaims, action: str, claim: Claim) -> bool:
        """Tell whether the attempt was handed to this worker."""
        if self._keyring.check_dispatch(claim.token, claim.run_id, claim.epoch, worker.uid):
            return True
        self.forged += 1
        await self._audit(worker, action, claim, "forged")
        return False

    async def was_stale(self, worker: WorkerClaims, action: str, claim: Claim) -> None:
        """Note that a claim was to an attempt that is no longer the current one."""
        self.stale += 1
        await self._audit(worker, action, claim, "stale")

    async def _audit(self, worker: WorkerClaims, action: str, claim: Claim, result: str) -> None:
        run = await self._ledger.run(claim.run_id) if valid_run_id(claim.run_id) else None
        await self._ledger.audit(
            Audit(
                tenant=run.tenant if run else "",
                subject=worker.uid,
                action=action,
                object=f"runs/{run.id}" if run else "runs",
                result=result,
                reason=f"epoch {claim.epoch}",
            )
        )
